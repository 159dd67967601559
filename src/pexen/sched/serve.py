"""Serving a run's streams to other processes: one thread, for all of them.

Each consumer is sent results ahead of time, as many as it deals with in `SPAN` judged by how fast it was, so that it need not
wait for each, and does not sit on many that others could have. What it was sent is kept until it has dealt with it; when it
goes, the page that is shared with it says what it has done (see `pexen.sched.remote`), what it held is redelivered, and what
it has not looked at goes to others as if it had never been sent. That it goes is told by its pidfd, and by its socket: each can
be the only one, since a fork of the consumer may hold the socket, and a process from elsewhere has no number here.

Results are pickled here, where a value that refuses, or takes long, keeps nobody but other processes waiting.

The thread stays until everything is read and the run is over, or the streams are closed. It is a daemon: who ends the program
without having read everything has chosen that.
"""

from __future__ import annotations

import hmac
import marshal
import mmap
import os
import pickle
import selectors
import socket
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from pexen.errors import PexenError
from pexen.pool import tree, wire
from pexen.pool.bell import Bell
from pexen.pool.files import Private, ours
from pexen.sched.remote import (
    DEALT,
    END,
    HELLO,
    NAME,
    PAGE,
    REFUSED,
    RESULTS,
    WELCOME,
    RemoteStream,
    folder_of,
    peer_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pexen.model.result import Result
    from pexen.sched.stream import Stream

SPAN = 0.02
"""Seconds of work that a consumer is given ahead of time."""
MOST = 512
"""Results that a consumer has at most, dealt with or not."""
GROWTH = 4
"""How many times more it is given than the time before."""
SIZE = 1 << 18
"""Bytes after which a message is not made any longer."""
_SOON = 1.0
"""Seconds after which somebody is let in again who could not be for lack of descriptors."""


class Server:
    """Serves the streams of a run. ``is_inside`` tells whether a task of that path is in flight. Raises `OSError`."""

    def __init__(self, is_inside: Callable[[str], bool]) -> None:
        self.streams: dict[int, Stream] = {}
        self.is_inside = is_inside
        self.token = os.urandom(16)
        self._count = 0
        self._lock = threading.Lock()
        self._is_over = False
        self._readers: set[_Consumer] = set()
        me = tree.look(os.getpid())
        if me is None:
            raise OSError("/proc does not show this process")
        self._me = me.identity
        self._private = Private()
        self._bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._listener = self._listening()
        self._thread = threading.Thread(target=self._serve, name="pexen-streams", daemon=True)
        self._thread.start()

    def add(self, stream: Stream) -> RemoteStream | None:
        """Serve a stream; return it as other processes read it, or None when this server has come to its end."""
        with self._lock:
            if self._is_over:
                return None
            self._count += 1
            self.streams[self._count] = stream
            stream.ring = self._bell.ring
            return RemoteStream(self._me, self._private.path, self.token, self._count)

    def leave(self) -> None:
        """Return when the thread has ended, if nothing keeps it."""
        self._bell.ring()
        with self._lock:
            if not all(stream.is_settled for stream in self.streams.values()):
                return
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def consumers_of(self, stream: Stream) -> int:
        """Return how many there are."""
        return sum(reader.stream is stream for reader in self._readers)

    # -- the thread -----------------------------------------------------------------------------------------------

    def _listening(self) -> socket.socket:
        ours(self._private.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with folder_of(self._private.path) as folder:
            listener.bind(f"{folder}/{NAME}")
        listener.listen(128)
        self._selector.register(listener, selectors.EVENT_READ, self._let_in)
        self._selector.register(self._bell.fd, selectors.EVENT_READ, self._rung)
        return listener

    def _serve(self) -> None:
        try:
            while not self._is_finished():
                found = self._selector.select(None if self._listener in self._selector.get_map() else _SOON)
                for key, events in found:
                    key.data(events)
                if not found:
                    self._selector.register(self._listener, selectors.EVENT_READ, self._let_in)
        finally:
            self._close()

    def _is_finished(self) -> bool:
        with self._lock:
            is_finished = bool(self.streams) and all(stream.is_settled for stream in self.streams.values())
            self._is_over = is_finished and not any(reader.is_owed for reader in self._readers)
            return self._is_over

    def _close(self) -> None:
        with self._lock:
            self._is_over = True
        for reader in list(self._readers):
            self.lose(reader)
        self._listener.close()
        self._selector.close()
        for stream in self.streams.values():
            stream.ring = None
        del self._private

    def _let_in(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptors: look again when others may have been closed
            self._selector.unregister(self._listener)
            return
        pid, user = peer_of(sock)
        if user != os.geteuid():
            sock.close()
            return
        sock.setblocking(False)
        reader = _Consumer(self, sock)
        self._readers.add(reader)
        self._selector.register(sock, selectors.EVENT_READ, reader.happened)
        with suppress(OSError):
            reader.pidfd = os.pidfd_open(pid)
            self._selector.register(reader.pidfd, selectors.EVENT_READ, lambda _: self.lose(reader))

    def _rung(self, events: int) -> None:
        self._bell.hush(events)
        for reader in list(self._readers):
            reader.feed()

    def watch(self, reader: _Consumer, events: int) -> None:
        """Have a reader called when its socket is ready for that."""
        self._selector.modify(reader.sock, events, reader.happened)

    def lose(self, reader: _Consumer) -> None:
        """Let go of a consumer that is gone, or has come to the end."""
        if reader in self._readers:
            self._readers.discard(reader)
            self._selector.unregister(reader.sock)
            if reader.pidfd >= 0:
                self._selector.unregister(reader.pidfd)
            reader.close()


class _Consumer:
    """A process that reads a stream, as it is seen from the thread that serves it."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.sock = sock
        self.pidfd = -1
        self.stream: Stream | None = None
        self._server = server
        self._frames = wire.Reader()
        self._page: memoryview | None = None
        self._has: deque[Result] = deque()
        self._dealt = 0
        self._window = 1
        self._since = 0.0
        self._out = b""
        self._is_at_end = False

    @property
    def is_owed(self) -> bool:
        """Whether it has still to be told of the end."""
        return self.stream is not None and not self._is_at_end

    def happened(self, events: int) -> None:
        """Read and write what can be."""
        if self.sock.fileno() < 0:
            return  # it was lost to its pidfd, just before
        if events & selectors.EVENT_WRITE:
            self._send(b"")
        if events & selectors.EVENT_READ:
            self._listen()

    def _listen(self) -> None:
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        frames = self._frames.feed(data) if data else []
        for kind, number, payload in frames:
            if kind == HELLO and self.stream is None:
                self._hello(payload)
            elif kind == DEALT and self.stream is not None:
                self._note(number)
        if not data or self._frames.damaged:
            self._server.lose(self)
        elif frames:
            self.feed()

    def _hello(self, payload: wire.Bytes) -> None:
        stream = None
        with suppress(ValueError, TypeError, EOFError):
            token, number, path = marshal.loads(payload)  # noqa: S302 - from our own user, who can do worse
            if hmac.compare_digest(token, self._server.token):
                stream = self._server.streams.get(number)
        if stream is None:
            self._send(wire.frame(REFUSED, 0, b"this is not a reader of the run"))
        elif path and self._server.is_inside(path):
            self._send(wire.frame(REFUSED, 0))
        else:
            try:
                self._welcome(stream)
            except OSError as error:
                self._send(wire.frame(REFUSED, 0, wire.encoded(f"the runner cannot serve another reader: {error}")))

    def _welcome(self, stream: Stream) -> None:
        fd = os.memfd_create("pexen-stream", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, PAGE)
            self._page = memoryview(mmap.mmap(fd, PAGE)).cast("Q")
            socket.send_fds(self.sock, [wire.frame(WELCOME, 0)], [fd])
        finally:
            os.close(fd)
        self.stream = stream

    def _note(self, dealt: int) -> None:
        """Note that it has dealt with so many, and how fast that was."""
        count = min(max(0, dealt - self._dealt), len(self._has))
        if not count or self.stream is None:
            return
        now = monotonic()
        each = max((now - self._since) / count, 1e-9)
        self._window = max(1, min(MOST, self._window * GROWTH, int(SPAN / each)))
        self._since = now
        self._drop(count)
        self.stream.acknowledge(count)

    def _drop(self, count: int) -> None:
        self._dealt += count
        for _ in range(count):
            self._has.popleft()

    def feed(self) -> None:
        """Send more results if it has few, or tell it of the end."""
        stream = self.stream
        if stream is None or self._is_at_end:
            return
        if stream.is_settled:
            self._is_at_end = True
            self._send(wire.frame(END, 0, wire.encoded(_told(stream.error))))
            return
        if self._out or len(self._has) > self._window // 2:
            return
        most = stream.share(self._window - len(self._has), self._server.consumers_of(stream))
        found = stream.take_some(most)
        if found:
            self._deliver(stream, found)

    def _deliver(self, stream: Stream, results: list[Result]) -> None:
        payload, count = _packed(results)
        if count < len(results):
            stream.give_back(results[count:])
        if not self._has:
            self._since = monotonic()
        self._has.extend(results[:count])
        self._send(wire.frame(RESULTS, 0, payload))

    def _send(self, data: bytes) -> None:
        """Send this after what is still to be sent, and the rest later."""
        was_waiting = bool(self._out)
        self._out += data
        try:
            sent = self.sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone, which reading will tell
            sent = len(self._out)
        self._out = self._out[sent:]
        if self._out and not was_waiting:
            self._server.watch(self, selectors.EVENT_READ | selectors.EVENT_WRITE)
        elif was_waiting and not self._out:
            self._server.watch(self, selectors.EVENT_READ)
            self.feed()

    def close(self) -> None:
        """Close everything. What it has not dealt with goes to others."""
        self.sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        page, stream, self.stream = self._page, self.stream, None
        if page is None or stream is None:
            return
        dealt = min(max(0, (page[0] >> 1) - self._dealt), len(self._has))
        holds = page[0] & 1
        self._page = None
        self._drop(dealt)
        left = list(self._has)
        if left and holds:
            left[0] = left[0].but(redelivered=True)
        self._has.clear()
        if left:
            stream.give_back(left)
        if dealt:
            stream.acknowledge(dealt)


def _packed(results: Iterable[Result]) -> tuple[bytes, int]:
    """Return results as one message that is not too long, and how many it has."""
    made: list[Any] = []
    size = 0
    for result in results:
        path, status, value, start, duration, details = result.__reduce__()[1]
        data = None if value is None else value.data
        made.append((path, status, data, start, duration, details))
        size += len(path) + (0 if data is None else len(data))
        if size > SIZE:
            break
    return pickle.dumps(made, 5), len(made)


def _told(error: BaseException | None) -> str:
    """Return an error of the run for who reads elsewhere."""
    if error is None:
        return ""
    return str(error) if isinstance(error, PexenError) else f"the run has ended with {type(error).__name__}: {error}"
