#!/usr/bin/env bash
# Runs in the guest as its process 1: the command, what the kernel complained about, and off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
# shellcheck source=/dev/null
. /run/job.env
ulimit -n 1048576
release=$(uname -r)
# Where there is no overlay, the folder is not there and nothing needs a module.
mkdir -p "/usr/lib/modules/$release" 2>/dev/null && mount --bind "$modules" "/usr/lib/modules/$release"
echo +cpu +memory +pids >/sys/fs/cgroup/cgroup.subtree_control
hostname guest
export KMESH_BIN_DIR=$bin CEILING=$ceiling
cd "$repo" || exit 1
case ${command[0]} in
run) bash -c "${command[1]}" ;;
*) bash ci/kernels/job.sh "${command[0]}" ;;
esac 2>&1
status=$?
if dmesg | grep -E 'BUG|WARNING|Oops|lockup|rcu.*stall|hung_task|Call Trace' | head -n 20 | sed 's/^/guest: kernel: /' | grep .; then
    [ "$status" != 0 ] || status=1
fi
echo "guest: ended with $status"
echo o >/proc/sysrq-trigger
while :; do :; done
