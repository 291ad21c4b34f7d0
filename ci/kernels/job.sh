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

check() {
    "$KMESH_BIN_DIR/kmeshd" check >/run/check || { cat /run/check; return 1; }
    cat /run/check
    within "$CEILING" </run/check
}

# within CEILING: fails if a program on standard input (`kmeshd check`) has more verified instructions, or if it names none.
within() {
    awk -v ceiling="$1" '
        match($0, /ok, [0-9]+ of at most/) {
            programs++
            split(substr($0, RSTART), word, " ")
            if (word[2] > ceiling) {
                printf "job: %s: %d verified instructions, at most %d here (ci/versions.env)\n", $1, word[2], ceiling
                bad = 1
            }
        }
        END {
            if (!programs) print "job: no program in what kmeshd check says"
            exit bad || !programs
        }'
}

# A check that cannot fail is none.
printf 'a x ok, 7 of at most 9 instructions verified\n' | within 7 >/dev/null
for wrong in 'a x ok, 8 of at most 9 instructions verified' 'a x ok'; do
    if within 7 <<<"$wrong" >/dev/null; then
        echo "job: 7 allows $wrong"
        exit 1
    fi
done

step check check
[ "$what" = all ] || exit 0
for arm in direct kmesh kmesh-remote kmesh-l4 envoy-client envoy-both; do
    # shellcheck disable=SC2016
    step "arm $arm" "$bench" up http-lb-long60 --arm "$arm" -- sh -c 'curl -fsS --retry 3 --max-time 20 -H "Host: $KMESH_HOST" "$KMESH_URL" >/dev/null'
done
step decisions "$bench" verify decisions --cases "${DECISIONS:-1000}"
step streams "$bench" verify streams --seconds "${STREAMS:-24}" --arm kmesh,kmesh-remote --connections 8
