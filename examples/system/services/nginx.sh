#!/bin/sh
# nginx as the HTTP server of net/http, where it is installed: then it is chosen, since it is what people really use.
#
# It goes into the background by itself, so this is a set-up, which is up when it has ended well, with a teardown. What both
# share is the folder of the attempt; the log of the server stays there, and is kept.
#
# /// pexen
# provides = ["httpd"]
# conflicts = ["httpd"]
# host = ["cmd:nginx"]
# preference = 1
# teardown = 'kill "$(cat "$PEXEN_DIR/pid")"'
# ///
set -eu
cd "$PEXEN_DIR"
mkdir pages
seq 0 12499 | while read -r number; do printf '%07d\n' "$number"; done >pages/numbers
echo 'no such page' >pages/missing
cat >conf <<END
user $(id -un) $(id -gn);
pid "$PWD/pid";
events {}
http {
    access_log "$PWD/log";
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:@PORT@;
        root "$PWD/pages";
        error_page 404 /missing;
    }
}
END

# nginx cannot choose a port by itself. One that is free now may be taken a moment later, then the next one is.
for attempt in 1 2 3 4 5; do
    port=$(python3 -c 'import socket; probe = socket.create_server(("127.0.0.1", 0)); print(probe.getsockname()[1])')
    sed "s/@PORT@/$port/" conf >nginx.conf
    if nginx -p "$PWD" -e "$PWD/errors" -c "$PWD/nginx.conf"; then
        printf '{"return": ["127.0.0.1", %d]}\n' "$port" >&"$PEXEN_CONTROL"
        exit
    fi
done
exit 1
