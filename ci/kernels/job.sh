#!/usr/bin/env bash
# What is tried on a kernel: ci/kernels/job.sh check|all, in the guest. Ends with 1 after the first thing that fails.
set -euo pipefail
what=$1
bench=$KMESH_BIN_DIR/kmesh-bench
# The verifier alone takes half a minute on the newest kernels here.
export KMESH_PATIENCE=240

step() {
    local begun=$SECONDS name=$1 status=0
    shift
    "$@" || status=$?
    printf 'job: %s: exit code %s, %s s\n' "$name" "$status" "$((SECONDS - begun))"
    [ "$status" = 0 ] || exit 1
}

step check "$KMESH_BIN_DIR/kmeshd" check
[ "$what" = all ] || exit 0
for arm in direct kmesh kmesh-remote kmesh-l4 envoy-client envoy-both; do
    # shellcheck disable=SC2016
    step "arm $arm" "$bench" up http-lb-long60 --arm "$arm" -- sh -c 'curl -fsS --retry 3 --max-time 20 -H "Host: $KMESH_HOST" "$KMESH_URL" >/dev/null'
done
step decisions "$bench" verify decisions --cases "${DECISIONS:-1000}"
step streams "$bench" verify streams --seconds "${STREAMS:-24}" --arm kmesh,kmesh-remote --connections 8
