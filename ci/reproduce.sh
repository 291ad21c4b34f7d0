#!/usr/bin/env bash
# Reproduces the article's experiment: sets up the machine, runs the headline scenarios with all arms interleaved,
# prints the claim table and writes a results folder.
#
# usage: ci/reproduce.sh [--quick] [--out DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/place.sh
source ci/place.sh

quick=()
out=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=(--quick) ;;
    --out)
        out=${2:?--out needs a folder}
        shift
        ;;
    *)
        printf 'usage: ci/reproduce.sh [--quick] [--out DIR]\n' >&2
        exit 4
        ;;
    esac
    shift
done

# Everything that can be known before the build: the machine, and whether the result can be written.
[ "$(nproc)" -ge 2 ] || {
    printf 'reproduce: this machine has one CPU: generator and servers need one each\n' >&2
    exit 3
}
if [ -z "$out" ]; then
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
    out=$work/results/$(date -u +%F)-$(uname -r)-$(hostname)-$commit
fi
mkdir -p "$out" || exit 4
rmdir --ignore-fail-on-non-empty "$out"
ci/setup.sh

say() { printf 'reproduce: %s\n' "$*" >&2; }
say "building what the run needs; cargo says how far it is"
begun=$SECONDS
cargo build --locked --release -p kmesh-bench -p kmesh-controller -p kmesh-load -p kmesh-origin --bins
say "built in $((SECONDS - begun)) s"
bench=$CARGO_TARGET_DIR/release/kmesh-bench
"$CARGO_TARGET_DIR/release/kmeshd" check >&2 || {
    say "this kernel does not carry the datapath; the lines above say why"
    exit 3
}

scenarios=(http-lb-long60-max http-lb-long60 header-canary weighted-90-10 http-lb-short tcp-echo)
if [ ${#quick[@]} = 0 ]; then
    scenarios+=(sockmap)
    say "running ${#scenarios[@]} scenarios; the bar says how far each is"
else
    say "running ${#scenarios[@]} scenarios (about 2 minutes)"
fi
status=0
"$bench" run "${scenarios[@]}" "${quick[@]}" --out "$out" || status=$?
# A run that wrote nothing has said why; a report about its folder would only say it again.
compgen -G "$out/*/summary.json" >/dev/null || exit "$status"
if [ ${#quick[@]} = 0 ]; then
    "$bench" breakdown http-lb-long60-max --out "$out" >/dev/null || status=$?
fi
"$bench" report "$out"
exit "$status"
