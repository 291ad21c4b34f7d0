#!/usr/bin/env bash
# descriptors.sh [--check]: makes datapath/xds/descriptors/envoy.bin from the descriptor set in the crate envoy-types, or
# says whether it is what that crate gives.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.7.7
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Fetched into a package of its own, so that nothing here depends on it.
mkdir "$scratch/src"
echo > "$scratch/src/lib.rs"
cat > "$scratch/Cargo.toml" <<TOML
[package]
name = "scratch"
edition = "2024"
[dependencies]
envoy-types = "=$version"
[workspace]
TOML
manifest=$(cargo metadata --format-version 1 --manifest-path "$scratch/Cargo.toml" |
    grep -o '"manifest_path":"[^"]*/envoy-types-'"$version"'/Cargo.toml"' | head -1 | cut -d'"' -f4)
source=$(dirname "$manifest")/src/generated/types.bin
committed=datapath/xds/descriptors/envoy.bin
cargo run --quiet -p kmesh-xds --example descriptors -- "$source" "$scratch/envoy.bin"
if [ "${1:-}" = --check ]; then
    cmp "$scratch/envoy.bin" "$committed"
    echo "$committed is what envoy-types $version gives"
else
    cp "$scratch/envoy.bin" "$committed"
fi
