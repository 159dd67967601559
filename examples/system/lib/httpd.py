#!/usr/bin/env python3
"""The HTTP server of net/http: `start`, `address`, `stop`.

`start` returns when the server answers and prints what is known about it as JSON. The same facts lie in a file, since
executables receive names, not values. That file has one place per user (below TMPDIR), so that a second run of the
suite waits until the server of the first is gone; who holds the lock may write there. A server whose run was killed
ends itself after half a minute without a request.
"""

import fcntl
import hashlib
import http.client
import http.server
import json
import os
import select
import shutil
import signal
import socketserver
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STATE = Path(tempfile.gettempdir()) / f"pexen-system-{os.getuid()}"
FACTS = STATE / "httpd.json"
BODY = b"".join(b"%07d\n" % number for number in range(12_500))  # 100,000 bytes, every eight of them different
ETAG = '"' + hashlib.sha256(BODY).hexdigest()[:16] + '"'
IDLE = 30.0
ANSWER_WITHIN = 10.0
LOCK_WITHIN = IDLE + 15


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes, and the second would wait for an acknowledgement

    def do_GET(self) -> None:
        self.server.last_request = time.monotonic()
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
    last_request = 0.0
    request_queue_size = 128  # with 5, the sixth of several simultaneous clients tries again after a second

    def server_bind(self) -> None:
        # HTTPServer asks the resolver for its own name here, which may take seconds without a network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def serve() -> None:
    """Be the daemon. The lock is an inherited descriptor: it is free when this process is gone, however it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(("127.0.0.1", 0), Handler) as server:
        server.last_request = time.monotonic()
        facts = {"host": "127.0.0.1", "port": server.server_port, "pid": os.getpid(), "born": born(os.getpid())}
        try:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            write_facts(facts)
            while time.monotonic() - server.last_request < IDLE:
                time.sleep(1)
        finally:
            shutil.rmtree(STATE, ignore_errors=True)


def write_facts(facts: dict[str, object]) -> None:
    draft = FACTS.with_suffix(".new")
    draft.write_text(json.dumps(facts))
    draft.replace(FACTS)  # whoever sees the file sees all of it


def born(pid: int) -> str:
    """Start time of a process: with the pid it names the process for good."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def own_state() -> None:
    STATE.mkdir(mode=0o700, exist_ok=True)
    status = STATE.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        sys.exit(f"{STATE} is not a private folder of this user, not touching it")


def take_lock() -> int:
    deadline = time.monotonic() + LOCK_WITHIN
    while time.monotonic() < deadline:
        own_state()
        try:
            lock = os.open(STATE / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may have removed the folder: then this is the lock on a file nobody else can see.
            if os.fstat(lock).st_ino == (STATE / "lock").stat().st_ino:
                return lock
            os.close(lock)
        except BlockingIOError:
            os.close(lock)
            time.sleep(0.1)
        except FileNotFoundError:  # removed while we looked
            pass
    sys.exit(f"another run of this suite still uses {STATE}")


def start() -> None:
    lock = take_lock()
    FACTS.unlink(missing_ok=True)
    # What belongs to the task must not reach the daemon, which is meant to outlive it.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PEXEN_")}
    with (STATE / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, Path(__file__).resolve(), "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environ,
            pass_fds=[lock],
            start_new_session=True,
        )
    deadline = time.monotonic() + ANSWER_WITHIN
    while time.monotonic() < deadline and daemon.poll() is None:
        if FACTS.exists() and answers(facts := json.loads(FACTS.read_text())):
            print(json.dumps(facts))
            return
        time.sleep(0.02)
    daemon.kill()
    log_text = (STATE / "log").read_text() if STATE.exists() else ""
    shutil.rmtree(STATE, ignore_errors=True)
    sys.exit(f"the server did not answer within {ANSWER_WITHIN} s\n{log_text}")


def answers(facts: dict[str, object]) -> bool:
    connection = http.client.HTTPConnection(facts["host"], facts["port"], timeout=1)
    try:
        connection.request("HEAD", "/numbers")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def stop(pid: int, birth: str) -> None:
    try:
        handle = os.pidfd_open(pid)
        same = born(pid) == birth
    except (ProcessLookupError, FileNotFoundError):
        sys.exit(f"the server {pid} had already ended")
    if not same:
        sys.exit(f"the process {pid} is not the server that was started")
    signal.pidfd_send_signal(handle, signal.SIGTERM)
    if not select.select([handle], [], [], 5)[0]:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        shutil.rmtree(STATE, ignore_errors=True)
        sys.exit(f"the server {pid} ignored SIGTERM for 5 s and was killed")
    if STATE.exists() and FACTS.exists() and json.loads(FACTS.read_text())["pid"] == pid:
        sys.exit(f"the server {pid} left {STATE} behind")


def main() -> None:
    match sys.argv[1:]:
        case ["start"]:
            start()
        case ["serve"]:
            serve()
        case ["address"]:
            facts = json.loads(FACTS.read_text())
            print(facts["host"], facts["port"])
        case ["stop", pid, birth]:
            stop(int(pid), birth)
        case _:
            sys.exit("usage: httpd.py start | address | stop PID BIRTH")


main()
