# Kernels out of Debian's packages, unpacked and not installed; sourced by ci/kernels.sh, which sets $store.
# shellcheck shell=bash disable=SC2154

# apt with lists, state and cache of its own, so that suites of other releases do not come to this machine.
own_apt() {
    local tool=$1 apt=$store/apt
    shift
    "$tool" -o Dir::Etc::sourcelist="$apt/sources" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o Dir::Etc::preferences=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o APT::Sandbox::User=root -o Acquire::Retries=2 -o Acquire::http::Timeout=20 "$@"
}

# Reads the indexes of the suite and of this machine's own ones, from where this machine gets its packages; once an hour.
read_indexes() {
    local suite=$1 apt=$store/apt own archive line
    [ -z "$(find "$apt/read-$suite" -mmin -60 2>/dev/null)" ] || return 0
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    own=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | sort -u | grep -E ' bookworm(-security)?$')
    archive=$(sed -n 's/ bookworm$//p' <<<"$own")
    {
        while read -r line; do echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $line main"; done <<<"$own"
        [ "${suite%%-*}" = bookworm ] ||
            echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main"
    } >"$apt/sources"
    own_apt apt-get -o APT::Update::Error-Mode=any update && touch "$apt/read-$suite"
}

# The packages of a kernel, by its version: newer ones are split in two.
packages_of() {
    local version=$1
    if own_apt apt-cache show "linux-modules-$version-cloud-amd64" >/dev/null 2>&1; then
        echo "linux-binary-$version-cloud-amd64 linux-modules-$version-cloud-amd64"
    elif own_apt apt-cache show "linux-image-$version-cloud-amd64" 2>/dev/null | grep '^Filename' >/dev/null; then
        echo "linux-image-$version-cloud-amd64"
    fi
}

# The newest version of the series that can be fetched, e.g. 6.1.0-56 of 6.1.
newest_of() {
    own_apt apt-cache pkgnames linux-image- | sed -n "s/^linux-image-\($1[.+-].*\)-cloud-amd64\$/\1/p" | sort -V |
        while read -r version; do [ -z "$(packages_of "$version")" ] || echo "$version"; done | tail -n1
}

# fetch_kernel SERIES SUITE VERSION: has that kernel, or, where Debian removed it, the newest of its series, unpacked in
# $store/VERSION/{boot,lib}; prints the version.
fetch_kernel() {
    local series=$1 suite=$2 version=$3 packages debs at
    if [ ! -d "$store/$version" ]; then
        read_indexes "$suite" >>"$store/log" 2>&1 || return 1
        packages=$(packages_of "$version")
        if [ -z "$packages" ]; then
            version=$(newest_of "$series")
            [ -n "$version" ] || return 1
            say "Debian has no $3 any more: $version instead; put it into ci/versions.env"
            packages=$(packages_of "$version")
        fi
    fi
    if [ ! -d "$store/$version" ]; then
        say "fetching $packages"
        debs=$(mktemp -d "$store/debs.XXXXXX")
        # Package names have no spaces.
        # shellcheck disable=SC2086
        (cd "$debs" && own_apt apt-get download $packages) >>"$store/log" 2>&1 || return 1
        at=$debs/unpacked
        mkdir "$at"
        for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$at" || return 1; done
        [ -d "$at/lib" ] || mv "$at/usr/lib" "$at/lib"
        mv "$at" "$store/$version"
        rm -rf "$debs"
    fi >&2
    fetch_busybox >&2 || return 1
    echo "$version"
}

# The guest's first program; its package is unpacked, since installing it would replace the machine's own.
fetch_busybox() {
    local debs
    [ ! -x "$store/busybox" ] || return 0
    read_indexes bookworm >>"$store/log" 2>&1 || return 1
    debs=$(mktemp -d "$store/debs.XXXXXX")
    (cd "$debs" && own_apt apt-get download busybox-static && dpkg-deb -x busybox-static_*.deb .) >>"$store/log" 2>&1 || return 1
    cp "$debs/bin/busybox" "$store/busybox"
    rm -rf "$debs"
}
