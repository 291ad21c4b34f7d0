#!/usr/bin/env bash
# Sets up the machine and runs every test: formatting, lints, unit, property and root tests.
# Root tests that cannot run are failures here, not skips.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/place.sh
source ci/place.sh
export CI=true
ci/setup.sh

step() { printf '\n== %s (after %d min)\n' "$*" "$((SECONDS / 60))" >&2; }

step "formatting"
cargo fmt --all --check

step "lints, user space"
# kmesh-runtime builds only for the BPF target.
cargo clippy --locked --workspace --exclude kmesh-runtime --all-targets -- -D warnings

step "lints, kernel programs"
ci/bpf-cargo.sh clippy --locked -p kmesh-runtime --release -- -D warnings

step "dependencies"
if cargo deny --version >/dev/null 2>&1; then
    # Advisories need the network: ci/README.md, "Dependencies".
    cargo deny --offline --locked --config ci/deny.toml check licenses bans sources
else
    printf 'SKIP: cargo-deny is not installed (cargo install --locked cargo-deny)\n' >&2
fi

step "binaries"
cargo build --locked --release --workspace --exclude kmesh-runtime --bins
export KMESH_BIN_DIR="$CARGO_TARGET_DIR/release"

# All of them, also after one has failed: one run shows everything.
status=0
step "tests"
cargo test --locked --no-fail-fast --workspace --exclude kmesh-runtime || status=$?

step "the lab leaves nothing behind"
"$KMESH_BIN_DIR/netns-lab" doctor || status=$?

exit "$status"
