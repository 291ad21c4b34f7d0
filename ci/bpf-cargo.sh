#!/usr/bin/env bash
# Runs cargo for the BPF target with the toolchain that has `core` for it: ci/bpf-cargo.sh clippy -p kmesh-runtime
set -euo pipefail
cd "$(dirname "$0")/.."
command=$1
shift
runner=()
if command -v rustup >/dev/null; then
    runner=(rustup run bpf)
fi
exec "${runner[@]}" cargo "$command" --target bpfel-unknown-none --target-dir "${CARGO_TARGET_DIR:-target}/bpf" "$@"
