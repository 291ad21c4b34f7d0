#!/usr/bin/env bash
# Tries the README's commands as somebody who has nothing would: in a bare Debian 12 root, from a clone in a home that only root may
# enter.
#
# usage: ci/fresh.sh [COMMAND...]    by default: ci/reproduce.sh --quick and ci/test.sh, each of which sets up what it needs
#
# The root is made by debootstrap, in a mount namespace of its own, and is gone afterwards; kernel, network and CPUs are this
# machine's. Takes an hour on two cores. Says how long each command took; exit code of the first that failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=ci/place.sh
source "$here/place.sh"
say() { printf 'fresh: %s\n' "$*" >&2; }
die() {
    say "$1"
    exit 3
}

if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || die "not root: run it again as root (sudo ci/fresh.sh)"
    command -v debootstrap >/dev/null || die "debootstrap is not installed: apt-get install debootstrap"
    [ -z "$(git -C "$repo" status --porcelain --untracked-files=no)" ] ||
        die "the checkout has changes that a clone would not have: commit them first"
    exec unshare --mount --propagation private bash "$here/fresh.sh" inside "$@"
fi
shift

root=$(mktemp -d /var/tmp/kmesh-fresh.XXXXXX)
trap 'for at in proc dev sys run; do umount --recursive --lazy "$root/$at" 2>/dev/null || true; done; rm -rf --one-file-system "$root"' EXIT
# Where this machine gets its packages from: archive and security.
own=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | sort -u | grep -E ' bookworm(-security)?$')
[ "$(wc -l <<<"$own")" = 2 ] || die "bookworm and bookworm-security must be among the sources in /etc/apt"
say "making a bare root"
debootstrap --variant=minbase bookworm "$root" "$(sed -n 's/ bookworm$//p' <<<"$own")" >"$root.log" 2>&1 ||
    die "debootstrap failed: $(tail -n1 "$root.log")"
rm -f "$root.log"
while read -r line; do echo "deb $line main"; done <<<"$own" >"$root/etc/apt/sources.list"
# The network is this machine's, and so is the way to it.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
for file in /etc/apt/apt.conf.d/*proxy* /etc/pip.conf "${CARGO_HOME:-$HOME/.cargo}"/config.toml; do
    [ -f "$file" ] || continue
    to=$root$file
    [ "${file##*/}" != config.toml ] || to=$root/root/.cargo/config.toml
    install -D -m 644 "$file" "$to"
done
[ ! -d /usr/local/share/ca-certificates ] || cp -r /usr/local/share/ca-certificates "$root/usr/local/share/"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
# As a machine has it on which nobody mounted tracefs.
mount -t sysfs sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
cgroup=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
mount --rbind "$cgroup" "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
chmod 0700 "$root/root"

# What a README may ask for before the clone.
chroot "$root" sh -c 'apt-get -q update && apt-get -q install --yes --no-install-recommends git ca-certificates' >"$root/var/log/fresh" 2>&1 ||
    die "git cannot be installed: $(tail -n1 "$root/var/log/fresh")"
git clone --quiet "file://$repo" "$root/root/kmesh"
inside() {
    chroot "$root" env -i HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        bash -c 'cd /root/kmesh && '"$1"
}
[ $# -gt 0 ] || set -- 'ci/reproduce.sh --quick' ci/test.sh
status=0
for command in "$@"; do
    begun=$SECONDS
    code=0
    inside "$command" || code=$?
    say "$command: exit code $code, $(((SECONDS - begun) / 60)) min $(((SECONDS - begun) % 60)) s"
    [ "$status" != 0 ] || status=$code
done
exit "$status"
