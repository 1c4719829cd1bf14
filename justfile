# What a contributor needs. `.ci/run` is all of it, as CI runs it.

export RUSTDOCFLAGS := "-D warnings"

_default:
    @just --list

# The tests, doctests included
test *args:
    cargo test {{ args }}

# Formatting and clippy, with all features and with none
lint:
    cargo fmt --check
    cargo fmt --check --manifest-path fuzz/Cargo.toml
    cargo clippy --all-targets --all-features -- -D warnings
    cargo clippy --lib --no-default-features -- -D warnings

# The official SDKs of other languages against the simulator
peers:
    for peer in tests/peers/*/run; do "$peer" || exit 1; done

# The documentation, warnings denied
docs *args:
    cargo doc --no-deps --all-features {{ args }}

# The load test on its defaults: 150 agents, the naive way and with the crate
load *args:
    cargo run --release --example load -- {{ args }}

# What a call costs over bare reqwest; fails over a budget. Needs valgrind
cost:
    cargo bench --bench cost

# Each fuzz target for that many seconds
fuzz seconds="20":
    .ci/fuzz {{ seconds }}

# Licences, duplicate versions, sources
deny:
    cargo deny check bans licenses sources

# All that CI checks
ci:
    .ci/run
