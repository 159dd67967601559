#!/usr/bin/env python3
# Pieces fetched with Range headers over one connection make up the whole page.
import http.client
import subprocess
import sys

host, port = subprocess.check_output([sys.executable, "../../../lib/httpd.py", "address"], text=True).split()
connection = http.client.HTTPConnection(host, int(port), timeout=10)


def get(**headers: str) -> tuple[int, str, bytes]:
    connection.request("GET", "/numbers", headers=headers)
    response = connection.getresponse()
    return response.status, response.getheader("Content-Range", ""), response.read()


status, _, whole = get()
assert status == 200, status
socket = connection.sock
pieces = []
for first in range(0, len(whole), 9_999):  # a size that cuts the lines of the page
    last = min(first + 9_999, len(whole)) - 1
    status, told, piece = get(Range=f"bytes={first}-{last}")
    assert status == 206, f"{first}-{last}: {status}"
    assert told == f"bytes {first}-{last}/{len(whole)}", f"{first}-{last}: {told}"
    pieces.append(piece)
assert b"".join(pieces) == whole, "the pieces are not the whole"
assert connection.sock is socket, "the server did not keep the connection"
connection.close()
print(f"{len(pieces)} pieces, {len(whole)} bytes, one connection")
