# Sourced by the scripts beside it: what a fresh Debian or Ubuntu with Rust lacks, and where things are built.
# Debian's packages that are named in "$@" are installed if they are missing.

cd "$(dirname "$0")/.."

# One profile and one set of features for running and testing: RocksDB's C++ is compiled once.
PERSONA_BUILD="--release --workspace --features lab --locked"
target=${CARGO_TARGET_DIR:-target}

need() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -z "$missing" ] && return
    echo "== Installing:$missing"
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # A list of words.
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing
}

command -v cargo >/dev/null || {
    echo "Rust is missing: install it from https://rustup.rs, then run this again." >&2
    exit 1
}
# RocksDB's bindings are made with libclang; its C++ and AWS-LC's C with a compiler.
need libclang-dev g++ make

if [ ! -e "$target/release/persona" ]; then
    echo "== The first build compiles RocksDB: 15 to 25 minutes on two cores. Later ones take seconds."
fi
