#!/bin/sh
# Builds Persona and starts its main job on this machine: a world of ten sites, with a page to watch and break it.
# Arguments go to `persona world`; try `sh deploy/run.sh --help`, or `sh deploy/run.sh --scenario lose-half`.
set -eu
. "$(dirname "$0")/needs.sh"

# shellcheck disable=SC2086 # A list of words.
cargo build $PERSONA_BUILD
exec "$target/release/persona" world "$@"
