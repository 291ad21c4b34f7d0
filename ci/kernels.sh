#!/usr/bin/env bash
# Boots kernels from Debian's packages under qemu, with this machine's root file system, and tries the datapath on each.
#
# usage: ci/kernels.sh [--check | --run COMMAND] [--seconds N] [KERNEL...]
#
#   KERNEL          names of KERNELS in ci/versions.env; all of them by default
#   --check         only `kmeshd check`; by default arms, decisions and streams as well (ci/kernels/job.sh)
#   --run COMMAND   runs this command (of bash) in the guest instead
#   --seconds N     gives up on a kernel after that many seconds (600)
#
# The guest sees the root file system of this machine, read-only and below a tmpfs: what it writes is gone when it ends. The
# programs are those in KMESH_BIN_DIR (the release build). TCG and never KVM: a nested machine's KVM may start and not get on.
# Exit codes: 0 all held, 1 something failed on a kernel, 3 a kernel cannot be fetched or booted.
set -euo pipefail

# shellcheck source=ci/place.sh
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"
store=$cache/kernels
# shellcheck source=ci/versions.env
source "$repo/ci/versions.env"
# shellcheck source=ci/kernels/fetch.sh
source "$repo/ci/kernels/fetch.sh"
# shellcheck source=ci/kernels/boot.sh
source "$repo/ci/kernels/boot.sh"

say() { printf 'kernels: %s\n' "$*" >&2; }
die() {
    printf 'kernels: %s\n' "$2" >&2
    exit "$1"
}
usage() { die 4 "usage: ci/kernels.sh [--check | --run COMMAND] [--seconds N] [KERNEL...]"; }

seconds=600
command=(all)
names=()
while [ $# -gt 0 ]; do
    case $1 in
    --check) command=(check) ;;
    --run)
        [ $# -ge 2 ] || usage
        command=(run "$2")
        shift
        ;;
    --seconds)
        [ $# -ge 2 ] || usage
        seconds=$2
        shift
        ;;
    -*) usage ;;
    *) names+=("$1") ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || die 3 "not root: run it again as root (sudo ci/kernels.sh)"
bin=$(readlink -f "${KMESH_BIN_DIR:-$CARGO_TARGET_DIR/release}")
[ -x "$bin/kmeshd" ] || die 3 "no kmeshd in $bin: build it (cargo build --release -p kmesh-controller), or set KMESH_BIN_DIR"
[ ${#names[@]} -gt 0 ] || for line in "${KERNELS[@]}"; do names+=("${line%% *}"); done

mkdir -p "$store"
if ! dpkg-query -W "${KERNEL_PACKAGES[@]}" >/dev/null 2>&1; then
    say "Debian packages: ${KERNEL_PACKAGES[*]}"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends \
        "${KERNEL_PACKAGES[@]}"; } >>"$store/log" 2>&1 ||
        die 3 "apt-get could not install ${KERNEL_PACKAGES[*]}; the reason is at the end of ${store#"$work"/}/log"
fi
status=0
for name in "${names[@]}"; do
    line=
    for known in "${KERNELS[@]}"; do [ "${known%% *}" != "$name" ] || line=$known; done
    [ -n "$line" ] || die 4 "no kernel named $name in ci/versions.env: it has $(printf '%s ' "${KERNELS[@]%% *}")"
    read -r _ suite pinned ceiling <<<"$line"
    version=$(fetch_kernel "$name" "$suite" "$pinned") || {
        say "$name: not fetched; the reason is at the end of ${store#"$work"/}/log"
        status=3
        continue
    }
    say "== $version: ${command[0]}"
    begun=$SECONDS
    outcome=0
    boot_kernel "$store/$version" "$seconds" "$bin" "${command[@]}" || outcome=$?
    took=$((SECONDS - begun))
    case $outcome in
    0) say "$version: held, $took s" ;;
    1)
        say "$version: FAILED, $took s"
        [ "$status" = 3 ] || status=1
        ;;
    *)
        say "$version: did not come to an end within $seconds s"
        status=3
        ;;
    esac
done
exit "$status"
