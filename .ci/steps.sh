# Sourced by `run` and `nightly`: steps with a name and a time, and the tools they need.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

export CI=true CARGO_TERM_COLOR=never RUST_BACKTRACE=1 NO_COLOR=1
# Nothing is built twice, and of what is built nobody looks at a variable in a debugger.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

scratch=$(mktemp -d)
current=
began=0
summary=

# Begins a step, and with it ends the one before.
step() {
    end_step
    current=$1
    began=$SECONDS
    printf '\n== %s\n' "$current"
}

end_step() {
    if [ -n "$current" ]; then
        summary+=$(printf '%6d s  %s' $((SECONDS - began)) "$current")$'\n'
    fi
    current=
}

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

at_exit() {
    local status=$? last=$current
    rm -rf "$scratch"
    end_step
    printf '\n%s%6d s  in all\n' "$summary" "$SECONDS"
    if [ "$status" -ne 0 ]; then
        printf 'FAILED in: %s\n' "$last" >&2
    fi
}
trap at_exit EXIT

# Installs these subcommands of cargo where they are missing.
need() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || cargo install --locked "$tool"
    done
}

# Installs Debian's packages of these names.
need_debian() {
    local as_root
    as_root=$([ "$(id -u)" -eq 0 ] || echo sudo)
    $as_root apt-get update -q
    $as_root apt-get install -q -y --no-install-recommends "$@"
}

# What builds and tests need of Debian: OpenSSL for the feature `native-tls`, a browser for pages, and Redis, of which tests start
# their own.
need_packages() {
    [ "$(uname)" = Linux ] || return 0
    pkg-config --exists openssl 2>/dev/null || need_debian pkg-config libssl-dev
    command -v chromium >/dev/null || need_debian chromium
    command -v redis-server >/dev/null || need_debian redis-server
}

need_nightly() {
    rustup run nightly rustc --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
}
