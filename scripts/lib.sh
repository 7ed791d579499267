# shellcheck shell=bash
# What the scripts share: how they talk, and how they get packages and tools. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$ROOT/tools
RUST_NEEDED=1.95

# Data goes to standard output, talk to standard error; colour only for a person who has not refused it.
if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' PLAIN=''
fi
step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2
    exit 1
}

# Prints the comment at the top of the script that asks, and leaves, when its first argument wants help.
help_if_asked() {
    case ${1:-} in
        -h | --help)
            sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
            exit 0
            ;;
    esac
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this needs root and there is no sudo: run it as root: $*"
    fi
}

# Installs the Debian packages among its arguments that are missing; silent when none is.
# A package's own service is not started: a lab wants nginx the program, not a web server on this machine's port 80.
debian_packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (names of Debian packages; this machine has no apt-get)"
    step "installing from Debian: ${missing[*]}"
    as_root "$ROOT/scripts/apt-quietly" "${missing[@]}"
}

# Fails, saying how to get one, unless a Rust toolchain that is new enough is there.
need_rust() {
    if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    local have=none
    if command -v cargo >/dev/null; then
        have=$(cargo --version | awk '{ print $2 }')
        if printf '%s\n' "$RUST_NEEDED" "$have" | sort -C -V; then
            return 0
        fi
    fi
    die "needs Rust $RUST_NEEDED or newer, found: $have

    Debian 12's own is older. Get one from https://rustup.rs:
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
        . \"\$HOME/.cargo/env\"
    or, with rustup there already:
        rustup update stable"
}

# Puts the programs of one line of scripts/tools.txt into tools/, unless that very wheel's are there.
#   tool NAME DISTRIBUTION PROGRAM…
tool() {
    local name=$1 distribution=$2 pin wheels
    shift 2
    pin=$(grep "^$distribution==" "$ROOT/scripts/tools.txt") || die "scripts/tools.txt does not pin $distribution"
    if [[ $(cat "$TOOLS/.$name" 2>/dev/null) == "$pin" ]]; then
        return 0
    fi
    debian_packages python3 python3-pip
    step "fetching $name into tools/"
    wheels=$(mktemp -d)
    # --require-hashes: what arrives is what was looked at, or nothing.
    if ! /usr/bin/python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
        --dest "$wheels" --requirement <(printf '%s\n' "$pin"); then
        rm -rf "$wheels"
        die "could not fetch $distribution (no network, or no build for this processor: $(uname -m))"
    fi
    mkdir -p "$TOOLS"
    if ! /usr/bin/python3 "$ROOT/scripts/unpack-wheel" "$wheels"/*.whl "$TOOLS" "$@"; then
        rm -rf "$wheels"
        die "could not unpack $distribution"
    fi
    rm -rf "$wheels"
    printf '%s\n' "$pin" >"$TOOLS/.$name"
}
