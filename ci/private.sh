#!/usr/bin/env bash
# Tries the programs of this checkout where a clone in root's home would be: below a folder that only root may enter, and with a /tmp
# from which no program can be started. Arms run proxies as another user, who has to reach them all the same.
#
# In a mount namespace of its own: nothing outside changes. Needs root and the release build.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=ci/place.sh
source "$here/place.sh"
bin=${KMESH_BIN_DIR:-$CARGO_TARGET_DIR/release}

if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || {
        printf 'private: not root: run it again as root (sudo ci/private.sh)\n' >&2
        exit 3
    }
    exec unshare --mount --propagation private bash "$here/private.sh" inside
fi

# The same paths, but the folder above is root's alone.
above=$(dirname "$repo")
[ "$above" != / ] || {
    printf 'private: the checkout is directly below /, which cannot be hidden: clone it into a folder\n' >&2
    exit 3
}
stash=$(mktemp -d /run/kmesh-private.XXXXXX)
mount --rbind "$repo" "$stash"
mount -t tmpfs -o mode=0700,size=16m tmpfs "$above"
mkdir "$repo"
mount --rbind "$stash" "$repo"
umount --lazy "$stash"
rmdir "$stash"
mount -t tmpfs -o noexec,nosuid,mode=1777 tmpfs /tmp
# shellcheck source=ci/place.sh
unset TMPDIR && source "$here/place.sh"
cd "$repo"

failed=0
result() {
    if [ "$2" = 0 ]; then
        printf 'ok   %s\n' "$1"
    else
        printf 'FAIL %s\n' "$1"
        failed=1
    fi
}
other() { setpriv --reuid=1337 --regid=1337 --clear-groups "$@"; }
# Without this nothing below would show anything.
other test -x "$bin/kmesh-bench" && hidden=1 || hidden=0
result "another user cannot reach this checkout" "$hidden"
runs_programs /tmp && noexec=1 || noexec=0
result "no program starts from /tmp" "$noexec"
for arm in direct envoy-client haproxy kmesh; do
    status=0
    # shellcheck disable=SC2016
    "$bin/kmesh-bench" up http-lb-long60 --arm "$arm" -- \
        sh -c 'curl -fsS --max-time 20 -H "Host: $KMESH_HOST" "$KMESH_URL" >/dev/null' || status=$?
    result "arm $arm" "$status"
done
exit "$failed"
