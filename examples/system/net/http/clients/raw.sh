#!/bin/bash
# HTTP by hand: bash opens the connection itself, sends a HEAD request and reads the headers, which no body follows.
#
# /// pexen
# host = "cmd:bash"
# ///
set -eu
. ../../../lib/check.sh

read -r host port <<END
$(python3 -c 'import json, os; print(*json.load(open(os.environ["PEXEN_VALUES"]))["values"]["httpd"])')
END
exec 3<>"/dev/tcp/$host/$port"
printf 'HEAD /numbers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
tr -d '\r' <&3 >answer
same 'status line' 'HTTP/1.1 200 OK' "$(head -n 1 answer)"
same 'length' 'Content-Length: 100000' "$(grep -i '^content-length:' answer)"
same 'last line, which ends the headers' '' "$(tail -n 1 answer)"
