#!/bin/sh
# Installs what the tests need and runs them all. Arguments go to `cargo test`, to run some of them.
set -eu
. "$(dirname "$0")/needs.sh"
# The mail server that the tests of mail talk to.
need python3-aiosmtpd
# The forward proxy that the tests of outbound requests go through.
need squid
# Squid asks name servers at port 53 only, so the one of the tests listens there.
ports=/proc/sys/net/ipv4/ip_unprivileged_port_start
if [ "$(id -u)" != 0 ] && [ "$(cat $ports)" -gt 53 ]; then
    echo "== Letting users listen at ports from 53 on, until this machine starts anew"
    echo 53 | sudo tee $ports >/dev/null || echo "== That failed: run this as root, or one test of Squid will fail" >&2
fi
# What makes up requests from our description of the API, and looks at the answers: from PyPI, beside what is built.
schemathesis=$target/schemathesis
if [ ! -x "$schemathesis/bin/schemathesis" ]; then
    need python3-venv
    echo "== Installing Schemathesis into $schemathesis"
    rm -rf "$schemathesis"
    /usr/bin/python3 -m venv "$schemathesis"
    "$schemathesis/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5
fi
# The browser that people's stories are told in, and what tells them.
need chromium
{ command -v node && command -v npm; } >/dev/null || need nodejs npm
(
    cd tests/browser
    [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --loglevel=error
)

# What packages have is built without the laboratory, and a test looks for it in there. Its dependencies are those of the tests;
# optimising our own part would show nothing and take minutes.
echo "== Building the service without the laboratory"
quick=
for package in persona gossip crdt; do
    quick="$quick --config profile.release.package.$package.opt-level=0"
done
# shellcheck disable=SC2086 # A list of words.
cargo build --release --workspace --locked $quick --bin persona
PERSONA_WITHOUT_LAB=$target/persona-without-laboratory
case $PERSONA_WITHOUT_LAB in /*) ;; *) PERSONA_WITHOUT_LAB=$PWD/$PERSONA_WITHOUT_LAB ;; esac
cp "$target/release/persona" "$PERSONA_WITHOUT_LAB"
export PERSONA_WITHOUT_LAB
echo "== Building the tests"
# shellcheck disable=SC2086 # A list of words.
cargo test $PERSONA_BUILD --no-run
echo "== Running the tests"
# shellcheck disable=SC2086
cargo test $PERSONA_BUILD "$@"
