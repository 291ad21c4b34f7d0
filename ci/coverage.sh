#!/usr/bin/env bash
# Line coverage of kmesh-orchestration by its own tests, the compiler's and the judges (reference, native code, edge
# corpus, Envoy if it is there):
# prints the lines that nothing runs and the share of those that something runs, and fails below 95 %.
# Lines that nothing runs, and why: the listener hash is the connect program's, its lookup is judged by the root tests;
# the rest answers tables or sizes that the configuration compiler refuses to make, and is there for the verifier and the
# fuzzer.
# The kernel runs the same source, lowered to BPF; `verify decisions` puts the same questions to it, and no counter survives
# the verifier there, so what the kernel ran is taken from the native run of the same questions.
set -euo pipefail
cd "$(dirname "$0")/.."
least=95
target=${CARGO_TARGET_DIR:-$PWD/target}/coverage
llvm=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin
[ -x "$llvm/llvm-cov" ] || llvm=$(find /usr/lib -maxdepth 1 -name 'llvm-*' | sort -V | tail -1)/bin
[ -x "$llvm/llvm-cov" ] || { echo "no llvm-cov: install llvm-22, as ci/setup.sh does" >&2; exit 1; }

profiles=$target/profiles
rm -rf "$profiles"
mkdir -p "$profiles"
export RUSTFLAGS="-C instrument-coverage" CARGO_TARGET_DIR=$target LLVM_PROFILE_FILE=$profiles/%p-%m.profraw
packages=(-p kmesh-orchestration -p kmesh-config -p kmesh-explain -p kmesh-oracle --lib --tests)
# What was built, one executable per line.
mapfile -t objects < <(cargo test --locked "${packages[@]}" --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
cargo test --locked --quiet "${packages[@]}" >&2
"$llvm/llvm-profdata" merge -sparse "$profiles"/*.profraw -o "$profiles/all.profdata"
arguments=()
for object in "${objects[@]}"; do arguments+=(--object "$object"); done
"$llvm/llvm-cov" export --format=lcov --instr-profile="$profiles/all.profdata" "${arguments[@]:1}" \
    --sources "$PWD/datapath/orchestration/src" 2>/dev/null >"$profiles/lines.lcov"
awk -F'[:,]' -v least="$least" '
    /^SF:/ { file = $2; sub(/.*orchestration\//, "", file) }
    /^DA:/ { lines++; if ($3 > 0) run++; else missed[++n] = file ":" $2 }
    END {
        for (i = 1; i <= n; i++) print missed[i] > "/dev/stderr"
        share = lines ? 100 * run / lines : 0
        printf "{\"lines\": %d, \"run\": %d, \"percent\": %.2f, \"least\": %d}\n", lines, run, share, least
        exit share < least
    }' "$profiles/lines.lcov"
