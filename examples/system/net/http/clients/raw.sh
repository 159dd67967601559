#!/bin/bash
# HTTP by hand: bash opens the connection itself, sends a HEAD request and reads the headers, which no body follows.
#
# /// pexen
# host = "cmd:bash"
# ///
set -eu
httpd=$(realpath ../../../lib/httpd.py)
. ../../../lib/check.sh

coproc server { exec python3 "$httpd"; }  # it ends with this shell, whose pipe it reads
pid=$server_PID
read -r host port <&"${server[0]}"
exec 3<>"/dev/tcp/$host/$port"
printf 'HEAD /numbers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
tr -d '\r' <&3 >answer
same 'status line' 'HTTP/1.1 200 OK' "$(head -n 1 answer)"
same 'length' 'Content-Length: 100000' "$(grep -i '^content-length:' answer)"
same 'last line, which ends the headers' '' "$(tail -n 1 answer)"
kill "$pid"
wait "$pid" || :
