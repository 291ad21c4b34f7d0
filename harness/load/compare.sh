#!/bin/sh
# Are our server and our load generator fast enough to measure with?
#
#   kmesh-origin : nginx   requests/s under wrk, same core, same response size    floor 0.80
#   kmesh-load   : wrk     requests/s against kmesh-origin, same core             floor 0.85
#
# 60 connections; load on CPU 0, servers on CPU 1. Rounds are short and alternate (A B B A ...), and
# the figure is the median of the ratios within the rounds, so that whatever else the machine does hits
# both sides. Exit code: 0 both floors held, 1 one did not, 2 could not run.
#
#   harness/load/compare.sh [ROUNDS]       default 15, about 45 s
set -eu
rounds=${1:-15}
here=$(cd "$(dirname "$0")/../.." && pwd)
for tool in nginx wrk taskset curl awk; do
    command -v "$tool" >/dev/null || PATH="$PATH:/usr/sbin"
    command -v "$tool" >/dev/null || { echo "compare.sh: $tool is not installed; ci/setup.sh does it" >&2; exit 2; }
done
(cd "$here" && cargo build --quiet --release -p kmesh-origin -p kmesh-load) || exit 2
bin=${CARGO_TARGET_DIR:-$here/target}/release

dir=$(mktemp -d)
pids=
cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 2' INT TERM

# Port 0 lets the origin pick; nginx cannot, so it takes the port after a probe by the origin.
taskset -c 1 "$bin/kmesh-origin" --listen 127.0.0.1:0 --listen 127.0.0.1:0 --name origin --body-size 128 >"$dir/origin.out" &
origin_pid=$!
pids=$origin_pid
wait_for() { # wait_for COMMAND...: until it succeeds, at most about 5 s
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 500 ] || { echo "compare.sh: gave up on: $*" >&2; exit 2; }
        sleep 0.01
    done
}
wait_for grep -q '^ready' "$dir/origin.out"
origin_port=$(awk -F: '/^listening http/ { print $NF; exit }' "$dir/origin.out")
nginx_port=$((origin_port > 60000 ? origin_port - 1001 : origin_port + 1001))

body=$(curl -s "http://127.0.0.1:$origin_port/" | tr '\n' ' ')
cat >"$dir/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $dir/nginx.pid;
error_log $dir/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    default_type application/octet-stream;
    client_body_temp_path $dir/t1; proxy_temp_path $dir/t2; fastcgi_temp_path $dir/t3; uwsgi_temp_path $dir/t4; scgi_temp_path $dir/t5;
    server { listen 127.0.0.1:$nginx_port backlog=4096; location / { return 200 "$body"; } }
}
CONF
taskset -c 1 nginx -p "$dir" -c "$dir/nginx.conf" 2>"$dir/nginx.err" &
pids="$pids $!"
wait_for curl -sf "http://127.0.0.1:$nginx_port/"

by_wrk() {
    taskset -c 0 wrk -t1 -c60 -d1s "http://127.0.0.1:$1/" | awk '/^Requests\/sec/ { print $2 }'
}
by_load() {
    taskset -c 0 "$bin/kmesh-load" run --quiet --url "http://127.0.0.1:$1/" -c 60 --qps 0 -t 1s |
        awk 'NR == 1 { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^answers/) print $i }'
}

: >"$dir/rows"
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    if [ $((round % 2)) -eq 1 ]; then
        nginx=$(by_wrk "$nginx_port"); origin=$(by_wrk "$origin_port"); load=$(by_load "$origin_port")
    else
        load=$(by_load "$origin_port"); origin=$(by_wrk "$origin_port"); nginx=$(by_wrk "$nginx_port")
    fi
    echo "$nginx $origin $load" >>"$dir/rows"
    printf 'round %2d/%d   nginx %8.0f   origin %8.0f   kmesh-load %8.0f\n' "$round" "$rounds" "$nginx" "$origin" "$load" >&2
done

median() { sort -n | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); print (NR % 2) ? v[m] : (v[m] + v[m + 1]) / 2 }'; }
origin_ratio=$(awk '{ print $2 / $1 }' "$dir/rows" | median)
load_ratio=$(awk '{ print $3 / $2 }' "$dir/rows" | median)
echo "median requests/s: nginx $(awk '{ print $1 }' "$dir/rows" | median), kmesh-origin $(awk '{ print $2 }' "$dir/rows" | median) (both under wrk), kmesh-load $(awk '{ print $3 }' "$dir/rows" | median) (on kmesh-origin)"
echo "kmesh-origin : nginx = $origin_ratio (floor 0.80)"
echo "kmesh-load   : wrk   = $load_ratio (floor 0.85)"
awk -v o="$origin_ratio" -v l="$load_ratio" 'BEGIN { exit !(o >= 0.80 && l >= 0.85) }'
