# Booting one kernel; sourced by ci/kernels.sh, which sets $store, $repo and $ceiling.
# shellcheck shell=bash disable=SC2154

# make_initrd KERNEL OUT BIN COMMAND...: busybox, the modules that the shared root needs, and what to do.
make_initrd() {
    local kernel=$1 out=$2 at modules release
    at=$(mktemp -d)
    modules=$(echo "$kernel"/lib/modules/*)
    release=${modules##*/}
    mkdir -p "$at"/{bin,proc,sys,dev,ro,rw,new,modules}
    cp "$store/busybox" "$at/bin/busybox"
    cp "$repo/ci/kernels/init" "$at/init"
    : >"$at/modules/order"
    if [ -d "$modules/kernel" ]; then
        [ -f "$modules/modules.dep" ] || depmod -b "$kernel" "$release"
        for module in virtio_pci virtiofs overlay; do add_module "$modules" "$module" "$at/modules"; done
    fi
    # The repository has to be at its own path in the guest, whatever that is: its programs know it.
    printf 'repo=%q\nmodules=%q\nceiling=%q\nbin=%q\ncommand=(%s)\n' "$repo" "$modules" "$ceiling" "$3" "$(printf '%q ' "${@:4}")" >"$at/job.env"
    (cd "$at" && find . | "$store/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$out"
    rm -rf "$at"
}

# add_module MODULES NAME TO: that module after those that it depends on, by modules.dep; nothing if it is built in.
add_module() {
    local modules=$1 name=$2 to=$3 line file dependency base
    line=$(grep -E "/$name\.ko(\.xz|\.zst|\.gz)?:" "$modules/modules.dep") || return 0
    file=${line%%:*}
    for dependency in ${line#*:}; do
        dependency=${dependency##*/}
        add_module "$modules" "${dependency%%.ko*}" "$to"
    done
    base=${file##*/}
    base=${base%%.ko*}.ko
    ! grep -qx "$base" "$to/order" || return 0
    case $file in
    *.xz) xz -dc "$modules/$file" ;;
    *.zst) zstd -qdc "$modules/$file" ;;
    *.gz) gzip -dc "$modules/$file" ;;
    *) cat "$modules/$file" ;;
    esac >"$to/$base"
    echo "$base" >>"$to/order"
}

# boot_kernel KERNEL SECONDS BIN COMMAND...: 0 the command ended with 0, 1 with something else, 2 it did not end.
boot_kernel() {
    local kernel=$1 limit=$2 at server image outcome
    at=$(mktemp -d)
    image=$(find "$kernel" -name 'vmlinuz*' -type f | head -n1)
    make_initrd "$kernel" "$at/initrd" "${@:3}"
    /usr/lib/qemu/virtiofsd --socket-path="$at/root" -o source=/ -o cache=always -o sandbox=chroot -o no_posix_lock \
        -o no_flock -o xattr >"$at/virtiofsd.log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        [ ! -S "$at/root" ] || break
        sleep .1
    done
    timeout -k 5 "$limit" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=1024 -cpu max -smp 2 -m 6144 -M q35 \
        -object memory-backend-memfd,id=memory,size=6144M,share=on -numa node,memdev=memory \
        -chardev socket,id=root,path="$at/root" -device vhost-user-fs-pci,chardev=root,tag=root,queue-size=1024 \
        -device virtio-rng-pci -nic none -display none -monitor none -serial stdio -no-reboot \
        -kernel "$image" -initrd "$at/initrd" \
        -append "console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off random.trust_cpu=on tsc=reliable nokaslr" \
        </dev/null 2>"$at/qemu.log" | tr -d '\r' | tee "$at/console" || true
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    outcome=$(sed -n 's/^guest: ended with //p' "$at/console" | tail -n1)
    case $outcome in
    0) outcome=0 ;;
    '')
        tail -n3 "$at/qemu.log" "$at/virtiofsd.log" >&2
        outcome=2
        ;;
    *) outcome=1 ;;
    esac
    rm -rf "$at"
    return "$outcome"
}
