#!/usr/bin/env bash
# Fuzzes every target: ci/fuzz.sh [RUNS] [TARGET...]. RUNS is per target, 10 million by default. Prints one JSON object with the
# counts last; exit code 1 if a target found something, with the input in fuzz/artifacts/TARGET/.
# Uses the nightly compiler if there is one, else the stable one with its unstable features opened; then without AddressSanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-10000000}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(head split chunks tables config event resource)

if ! command -v cargo-fuzz >/dev/null; then
    cargo install --locked cargo-fuzz
fi
sanitizer=none
toolchain=()
if rustup run nightly rustc --version >/dev/null 2>&1; then
    toolchain=(+nightly)
else
    export RUSTC_BOOTSTRAP=1
fi
seeds=${CARGO_TARGET_DIR:-$PWD/target}/fuzz-seeds
work=${CARGO_TARGET_DIR:-$PWD/target}/fuzz-corpus
cargo run --locked --quiet -p kmesh-oracle --example fuzz_seeds -- "$seeds"

begun=$SECONDS
counts=()
failed=0
for target in "${targets[@]}"; do
    mkdir -p "$work/$target" "fuzz/corpus/$target"
    log=$work/$target.log
    printf '== %s\n' "$target" >&2
    status=0
    cargo "${toolchain[@]}" fuzz run --release --sanitizer "$sanitizer" "$target" \
        "$work/$target" "fuzz/corpus/$target" "$seeds/$target" -- \
        -runs="$runs" -timeout=10 -max_len=16384 -print_final_stats=1 -verbosity=0 >"$log" 2>&1 || status=$?
    done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    if [ "$status" != 0 ]; then
        failed=1
        tail -40 "$log" >&2
    fi
    counts+=("\"$target\": {\"runs\": ${done_runs:-0}, \"failed\": $([ "$status" = 0 ] && echo false || echo true)}")
    printf '   %s runs, exit %s\n' "${done_runs:-0}" "$status" >&2
done
printf '{%s, "seconds": %s}\n' "$(IFS=,; echo "${counts[*]}")" "$((SECONDS - begun))"
exit "$failed"
