# Where the scripts put what they make; sourced by them. Sets $repo, $work and $cache, exports CARGO_TARGET_DIR and TMPDIR.
# shellcheck shell=bash
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# True if programs can be started from the folder: it is there, can be written to, and is not mounted noexec.
runs_programs() {
    local probe
    probe=$(mktemp "$1/kmesh.XXXXXX" 2>/dev/null) || return 1
    printf '#!/bin/sh\n' >"$probe" && chmod 700 "$probe" && "$probe" 2>/dev/null
    local status=$?
    rm -f "$probe"
    return "$status"
}

# Beside the sources, or, where those cannot be written to, in a folder of this checkout's own.
work=$repo
if ! [ -w "$repo" ] || ! mkdir -p "$repo/.cache" 2>/dev/null; then
    work=/var/tmp/kmesh-$(printf '%s' "$repo" | sha256sum | cut -c1-12)
fi
cache=$work/.cache
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$work/target}
[ "$work" = "$repo" ] || export KMESH_ENVOY=${KMESH_ENVOY:-$cache/envoy/envoy}

# Tests and the compiler of their examples start programs from the folder for temporary files, also as users other than root.
if [ -z "${TMPDIR:-}" ] && ! runs_programs /tmp; then
    for place in /var/tmp /var/lib; do
        if runs_programs "$place"; then
            export TMPDIR=$place
            break
        fi
    done
fi
