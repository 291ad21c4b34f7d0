#!/usr/bin/env bash
# The regression gate: is this checkout as right and as fast as REV?
#
# usage: ci/gate.sh REV [options of kmesh-bench gate]
#
# Builds both, runs them live and interleaved, and writes gate.json and gate.md (for a pull request) to
# $GATE_OUT (.cache/gate/result). Exit codes: 0 passed, 1 regression, 2 wrong decision or byte, 3 the environment
# is unfit for a verdict, 4 wrong usage, 5 output cannot be written. A commit between REV and here accepts that a count grows by a trailer:
#     Gate-Accept: verified-instructions
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
    printf 'usage: ci/gate.sh REV [options of kmesh-bench gate]\n' >&2
    exit 4
fi
base=$1
shift
git rev-parse --verify --quiet "$base^{commit}" >/dev/null || {
    printf 'gate: %s is no commit here: fetch it first (a shallow clone has no history)\n' "$base" >&2
    exit 4
}
[ "$(id -u)" = 0 ] || {
    printf 'gate: not root: labs need it (sudo ci/gate.sh)\n' >&2
    exit 3
}

# What is missing on the machine makes it unfit; it is no regression.
ci/setup.sh || exit 3
if ! command -v valgrind >/dev/null; then
    printf 'gate: installing valgrind\n' >&2
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends valgrind >>.cache/setup.log 2>&1 || exit 3
fi

cargo build --locked --release -p kmesh-bench -p kmesh-controller -p kmesh-load -p kmesh-origin --bins
accept=$(git log "$base..HEAD" --format='%(trailers:key=Gate-Accept,valueonly,separator=%x2C)' | paste -sd, | tr -d ' ')
accept=$(printf '%s' "$accept" | tr -s , | sed 's/^,//; s/,$//')

exec "${CARGO_TARGET_DIR:-target}/release/kmesh-bench" gate --base "$base" ${accept:+--accept "$accept"} \
    --out "${GATE_OUT:-.cache/gate/result}" --format markdown "$@"
