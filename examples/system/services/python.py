#!/usr/bin/env python3
"""A small HTTP server, for net/http where there is no other: it serves one page, `/numbers`, and knows Range and ETag.

It chooses a free port of the loopback interface, and says that it is up, and where, as soon as it listens. SIGTERM ends it.
"""

# /// pexen
# provides = ["httpd"]
# conflicts = ["httpd"]
# service = true
# ready = "control"
# ///
import hashlib
import http.server
import json
import os
import socketserver

BODY = b"".join(b"%07d\n" % number for number in range(12_500))  # 100,000 bytes, every eight of them different
ETAG = '"' + hashlib.sha256(BODY).hexdigest()[:16] + '"'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes, and the second would wait for an acknowledgement

    def do_GET(self) -> None:
        if self.path != "/numbers":
            self.reply(404, b"no such page\n")
        elif self.headers.get("If-None-Match") == ETAG:
            self.reply(304, b"", ETag=ETAG)
        elif wanted := self.headers.get("Range"):
            first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            self.reply(206, BODY[first : last + 1], **{"Content-Range": f"bytes {first}-{last}/{len(BODY)}"})
        else:
            self.reply(200, BODY, ETag=ETAG)

    do_HEAD = do_GET

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # with 5, the sixth of several simultaneous clients tries again after a second

    def server_bind(self) -> None:
        # HTTPServer asks the resolver for its own name here, which may take seconds without a network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


with Server(("127.0.0.1", 0), Handler) as server:
    with open(int(os.environ["PEXEN_CONTROL"]), "w") as control:
        print(json.dumps({"ready": {"value": ["127.0.0.1", server.server_port]}}), file=control)
    server.serve_forever()
