# What a contributor needs. `.ci/run` is what CI runs for each change, `.ci/nightly` what takes long.

export RUSTDOCFLAGS := "-D warnings"

_default:
    @just --list

# The tests, doctests included
test *args:
    cargo test {{ args }}

# Formatting, and clippy with each choice of features
lint:
    .ci/lint

# The crate as it is published, unpacked elsewhere: its tests, and builds with each choice of features
package:
    .ci/package

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

# What a call costs over bare reqwest; fails over a budget. Needs valgrind
cost:
    cargo bench --bench cost

# Each fuzz target for that many seconds
fuzz seconds="10":
    .ci/fuzz {{ seconds }}

# For that many minutes agents and clients come and go before a simulator with random faults
soak minutes="30":
    .ci/soak {{ minutes }}

# What no test notices: a share of the core's spots changed, one at a time (needs cargo-mutants)
mutants *share:
    .ci/mutants {{ share }}

# Every set of features (needs cargo-hack)
features *args:
    .ci/features {{ args }}

# The oldest dependencies that Cargo.toml allows
minimal-versions:
    .ci/minimal-versions

# The API against that of the baseline (needs cargo-semver-checks); `just semver renew` makes the present one the baseline
semver *args:
    .ci/semver {{ args }}

# Licences, duplicate versions, sources, and what users compile (needs cargo-deny)
deny:
    .ci/dependencies

# All that CI checks of each change
ci:
    .ci/run

# What CI does each night
nightly:
    .ci/nightly
