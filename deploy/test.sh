#!/bin/sh
# Installs what the tests need and runs them all. Arguments go to `cargo test`, to run some of them.
set -eu
. "$(dirname "$0")/needs.sh"
# The mail server that the tests of mail talk to.
need python3-aiosmtpd
# The forward proxy that the tests of outbound requests go through.
need squid

echo "== Building the tests"
# shellcheck disable=SC2086 # A list of words.
cargo test $PERSONA_BUILD --no-run
echo "== Running the tests"
# shellcheck disable=SC2086
cargo test $PERSONA_BUILD "$@"
