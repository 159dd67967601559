"""A real HTTP server and what it answers: many results of one task, each reported as soon as it is known.

Which server that is depends on the machine: `pexen list examples/system --providers` tells. It is a service: started when
the first of these tasks could run, and stopped after the last one.
"""

import http.client
import json
import tempfile
from pathlib import Path

import pexen

defaults = dict(requires="httpd")

EXPECTED = {
    "the page": ("/numbers", {}, 200, 100_000),
    "no such page": ("/nothing", {}, 404, 13),
    "the first ten bytes": ("/numbers", {"Range": "bytes=0-9"}, 206, 10),
    "another version": ("/numbers", {"If-None-Match": '"other"'}, 200, 100_000),
}


def get(address, path, headers):
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


@pexen.task
def answers(httpd):
    """What the server answers to each request; the headers of all answers are kept."""
    here = pexen.current()
    seen = {}
    for name, (path, headers, status, length) in EXPECTED.items():
        response, body = get(httpd, path, headers)
        seen[name] = dict(response.getheaders())
        good = (response.status, len(body)) == (status, length)
        here.report(name, "pass" if good else "fail", f"{response.status}, {len(body)} bytes")
    tag = seen["the page"]["ETag"]
    response, body = get(httpd, "/numbers", {"If-None-Match": tag})
    here.report("not modified", "pass" if (response.status, body) == (304, b"") else "fail", str(response.status))
    with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
        file = Path(scratch, "headers.json")
        file.write_text(json.dumps(seen, indent=1))
        here.attach(file)


@pexen.task
def modern(httpd):
    """Passes with problems: the server compresses nothing and knows HTTP/1.1 only, which is worth a warning."""
    response, _ = get(httpd, "/numbers", {"Accept-Encoding": "gzip"})
    assert response.status == 200, response.status
    if not response.getheader("Content-Encoding"):
        pexen.current().report("compression", "warn", "gzip was offered and not taken")
