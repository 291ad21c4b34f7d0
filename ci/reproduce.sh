#!/usr/bin/env bash
# Reproduces the article's experiment: sets up the machine, runs the headline scenarios with all arms interleaved,
# prints the claim table and writes a results folder.
#
# usage: ci/reproduce.sh [--quick] [--out DIR]
set -euo pipefail
cd "$(dirname "$0")/.."

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

ci/setup.sh
cargo build --locked --release --workspace --exclude kmesh-runtime --bins
bench=target/release/kmesh-bench

if [ -z "$out" ]; then
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
    out=results/$(date -u +%F)-$(uname -r)-$(hostname)-$commit
fi

scenarios=(http-lb-long60-max http-lb-long60 header-canary weighted-90-10 http-lb-short tcp-echo)
if [ ${#quick[@]} = 0 ]; then
    scenarios+=(sockmap)
fi
status=0
"$bench" run "${scenarios[@]}" "${quick[@]}" --out "$out" || status=$?
if [ ${#quick[@]} = 0 ]; then
    "$bench" breakdown http-lb-long60-max --out "$out" >/dev/null || status=$?
fi
"$bench" report "$out"
exit "$status"
