#!/usr/bin/env bash
# Shows that ci/setup.sh refuses an unfit machine with one sentence, and that a second run is quick.
#
# Each case fakes one fact about the machine inside a mount or network namespace of its own, so nothing outside changes.
# Needs root and a machine on which ci/setup.sh has already run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$here")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0

if [ "$(id -u)" != 0 ]; then
    [ "${CI:-}" != true ] || { echo "setup_test: needs root, and CI=true forbids skipping" >&2; exit 1; }
    echo "SKIP setup_test: needs root"
    exit 0
fi

# refuses NAME WORDS COMMAND...: COMMAND must fail with exactly one line of its own that contains WORDS.
refuses() {
    local name=$1 words=$2 status=0 last
    shift 2
    "$@" >"$tmp/out" 2>&1 || status=$?
    last=$(tail -n1 "$tmp/out")
    if [ "$status" = 1 ] && [[ $last == "setup: "*"$words"* ]]; then
        echo "ok   $name: ${last#setup: }"
    else
        echo "FAIL $name: exit $status, expected 1 and '$words' in:"
        sed 's/^/     /' "$tmp/out"
        failed=1
    fi
}

# in_mounts COMMAND-STRING: run it in a mount namespace of its own, with $1... as arguments.
in_mounts() { unshare --mount --propagation private bash -c "$@"; }

printf 'ID=ubuntu\nVERSION_ID="24.04"\n' >"$tmp/os-release"
mkdir "$tmp/no-packages" && : >"$tmp/no-packages/status" # a dpkg database in which nothing is installed

refuses "not root" "as root" \
    setpriv --reuid=65534 --regid=65534 --clear-groups bash "$here/setup.sh"
refuses "wrong distribution" "ubuntu 24.04" \
    in_mounts 'mount --bind "$1" "$(readlink -f /etc/os-release)" && bash "$2"' _ "$tmp/os-release" "$here/setup.sh"
refuses "no network" "check the network" \
    in_mounts 'mount -t tmpfs -o size=8g tmpfs "$3/.cache" && DPKG_ADMINDIR="$1" unshare --net bash "$2"' _ "$tmp/no-packages" "$here/setup.sh" "$repo"
refuses "no network for pip" "pip can reach" \
    in_mounts 'mount -t tmpfs -o size=8g tmpfs "$2/.cache" && PIP_FIND_LINKS= unshare --net bash "$1"' _ "$here/setup.sh" "$repo"
refuses "disk full" "free at least 6 GB" \
    in_mounts 'mount -t tmpfs -o size=64m tmpfs "$2/.cache" && bash "$1"' _ "$here/setup.sh" "$repo"
for other in 'release: 1.96.0\nLLVM version: 99.1.0' 'release: 1.85.0\nLLVM version: 19.1.7'; do
    printf '#!/bin/sh\nprintf "%s\\n"\n' "$other" >"$tmp/rustc"
    chmod 755 "$tmp/rustc"
    case $other in *99*) words="LLVM 99" ;; *) words="bookworm-security" ;; esac
    refuses "rustc-web with $words" "$words" \
        in_mounts 'mount --bind "$1" /usr/bin/rustc && bash "$2"' _ "$tmp/rustc" "$here/setup.sh"
done
refuses "no cgroup2" "no cgroup2 file system" \
    in_mounts 'for at in $(awk "\$3 == \"cgroup2\" {print \$2}" /proc/mounts); do umount -l "$at"; done; bash "$1"' _ "$here/setup.sh"
refuses "no BTF" "does not publish its types" \
    in_mounts 'mount -t tmpfs tmpfs /sys/kernel/btf && bash "$1"' _ "$here/setup.sh"
refuses "noexec" "clone to another one" \
    in_mounts 'mount -t tmpfs -o noexec tmpfs "$2/.cache" && bash "$1"' _ "$here/setup.sh" "$repo"
refuses "KMESH_ENVOY is wrong" "no program" env KMESH_ENVOY=/nonexistent bash "$here/setup.sh"

start=$(date +%s%N)
bash "$here/setup.sh" >"$tmp/out" 2>&1 || { cat "$tmp/out"; failed=1; }
took=$((($(date +%s%N) - start) / 1000000))
if [ "$took" -lt 5000 ]; then echo "ok   second run: $took ms"; else echo "FAIL second run: $took ms, at most 5000"; failed=1; fi
exit "$failed"
