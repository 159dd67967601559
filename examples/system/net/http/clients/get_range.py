#!/usr/bin/env python3
# Pieces fetched with Range headers over one connection make up the whole page.
import http.client
import json
import os
from pathlib import Path


def get(connection: http.client.HTTPConnection, **headers: str) -> tuple[int, str, bytes]:
    connection.request("GET", "/numbers", headers=headers)
    response = connection.getresponse()
    return response.status, response.getheader("Content-Range", ""), response.read()


host, port = json.loads(Path(os.environ["PEXEN_VALUES"]).read_text())["values"]["httpd"]
connection = http.client.HTTPConnection(host, port, timeout=10)
status, _, whole = get(connection)
assert status == 200, status
socket = connection.sock
pieces = []
for first in range(0, len(whole), 9_999):  # a size that cuts the lines of the page
    last = min(first + 9_999, len(whole)) - 1
    status, told, piece = get(connection, Range=f"bytes={first}-{last}")
    assert status == 206, f"{first}-{last}: {status}"
    assert told == f"bytes {first}-{last}/{len(whole)}", f"{first}-{last}: {told}"
    pieces.append(piece)
assert b"".join(pieces) == whole, "the pieces are not the whole"
assert connection.sock is socket, "the server did not keep the connection"
connection.close()
print(f"{len(pieces)} pieces, {len(whole)} bytes, one connection")
