#!/bin/sh
# A real server in the place of a pod's application. Takes the application's options: --listen ADDR --listen ADDR --name NAME.
# Beside this script lie www/ with the files to serve, and which server to be in `kind`.
here=$(dirname "$0")
kind=$(cat "$here/kind")
v4=$2
v6=$4
name=$6
case $kind in
origin) exec "$(cat "$here/origin")" "$@" ;;
tonic) exec "$(cat "$here/peer")" grpc-server "$@" ;;
python) exec python3 "$here/server.py" "$here/www" "$v4" "$v6" ;;
node) exec node "$here/server.js" "$here/www" "$v4" "$v6" ;;
nginx)
    dir=$here/nginx-$name
    mkdir -p "$dir"
    cat >"$dir/conf" <<CONF
daemon off; master_process off; pid $dir/pid; error_log $dir/error.log;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path $dir; proxy_temp_path $dir; fastcgi_temp_path $dir; uwsgi_temp_path $dir;
  scgi_temp_path $dir; server { listen $v4; listen $v6; root $here/www; index index.html; } }
CONF
    echo ready
    exec nginx -e "$dir/error.log" -c "$dir/conf"
    ;;
esac
