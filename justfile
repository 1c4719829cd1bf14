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

# So many random worlds, the crate beside a plain retrying client: a table, and the worst ten
worlds count="2000" seed="1":
    WORLDS={{ seed }},{{ count }} cargo test --release --test worlds -- --nocapture

# What a call costs over bare reqwest: instructions (with valgrind), allocations, throughput, memory
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
