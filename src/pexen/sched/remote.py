"""The other end of a stream: what a process that is not the runner reads, and what the two say to each other.

A handle names the runner, a socket in the runner's private folder, and a token. Each reader is a connection of its own, and a
page of memory that it shares with the runner: there it notes, before and after each result, how many it has dealt with and
whether it holds one. That costs no system call, and is true to the last result however the process ends. Frames are those
of `pexen.pool.wire`:

======== ========= ===================================================================================================
hello    to runner marshal: the token, the number of the stream, the path of the task this is inside of, or empty
dealt    to runner ``id`` results are dealt with: more may come
welcome  to reader comes with a descriptor: the page
refused  to reader why, as text
results  to reader pickle: a list of what `Result.__reduce__` makes, with the value's bytes in the place of the value
end      to reader nothing more will come; an error of the run as text, or nothing
======== ========= ===================================================================================================

What the runner sends is trusted, as it is by its workers; values stay pickled until somebody asks for them.
"""

from __future__ import annotations

import marshal
import mmap
import os
import pickle
import select
import socket
from collections import deque
from contextlib import contextmanager, suppress
from struct import Struct
from typing import TYPE_CHECKING, Any, Self

from pexen.errors import PexenError
from pexen.model.result import Pickled, Result, restored
from pexen.model.running import CURRENT
from pexen.pool import tree, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO, DEALT, WELCOME, REFUSED, RESULTS, END = range(1, 7)
PAGE = 8
"""Bytes of the page: one number, twice the results dealt with, and one more while a result is held."""
NAME = "stream"
"""The socket, in the runner's private folder."""
_PEER = Struct("iII")
"""Process, user and group."""


class RemoteStream:
    """The results of a run in another process, each for one consumer. Iterate it, in any number of threads.

    Made by pickling what `Run.stream` returns; may be pickled again, or inherited by a fork.
    """

    def __init__(self, runner: tree.Identity, folder: str, token: bytes, number: int) -> None:
        self._runner = runner
        self._folder = folder
        self._token = token
        self._number = number

    def __iter__(self) -> Iterator[Result]:
        """Return a reader; nothing to read when the stream has come to its end.

        Raises `PexenError` when the runner is gone, and inside a task of the same run, which would wait for itself.
        """
        sock = self._connected()
        if sock is None:
            return iter(())
        reader = RemoteReader(sock)
        with suppress(ConnectionError):
            sock.sendall(wire.frame(HELLO, 0, marshal.dumps((self._token, self._number, _path_here()))))
        return reader if reader.is_welcome() or self._is_there() else iter(())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where it is."""
        return RemoteStream, (self._runner, self._folder, self._token, self._number)

    def _connected(self) -> socket.socket | None:
        """Return a connection to the runner; None when it serves no stream any more, since all are read."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with folder_of(self._folder) as folder:
                sock.connect(f"{folder}/{NAME}")
        except (FileNotFoundError, ConnectionError):
            sock.close()
            self._is_there()
            return None
        except OSError:
            sock.close()
            raise
        return sock

    def _is_there(self) -> bool:
        """Return False; raise `PexenError` when the runner is gone."""
        if not tree.is_alive(self._runner):
            raise gone()
        return False


class RemoteReader:
    """One consumer of a stream in this process, for one thread. `close` acknowledges what it holds; see `RemoteStream`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._owner = os.getpid()
        self._frames = wire.Reader()
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._mark = -1
        self._dealt = 0
        self._holds = False
        self._said = 0
        self._is_over = False
        self._page: memoryview | None = None
        self._runner = -1
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        with suppress(OSError):  # it has ended, or is in a namespace of its own: then the socket alone must tell
            self._runner = os.pidfd_open(peer_of(sock)[0])
            self._poll.register(self._runner, select.POLLIN)

    def __iter__(self) -> Self:
        """Return self."""
        return self

    def __next__(self) -> Result:
        """Acknowledge the last result and return the next one, waiting for it. Raises `PexenError`: the runner is gone."""
        page, waiting = self._page, self._waiting
        if page is None or os.getpid() != self._owner:
            raise StopIteration
        self._dealt = dealt = self._dealt + self._holds
        self._holds = False
        page[0] = dealt << 1
        while not waiting:
            if self._is_over:
                self._let_go()
                raise StopIteration
            self._say()
            try:
                self._hear()
            except BaseException:
                self._let_go()
                raise
        found = waiting.popleft()
        self._holds = True
        page[0] = dealt << 1 | 1
        if len(waiting) == self._mark:
            self._say()
        return _result_of(found)

    def close(self) -> None:
        """Acknowledge what is held, and read no more."""
        if self._page is not None and os.getpid() == self._owner:
            self._page[0] = self._dealt + self._holds << 1
        self._let_go()

    def __del__(self) -> None:
        self._let_go()

    def is_welcome(self) -> bool:
        """Get what comes first; False when nobody answers. Raises `PexenError` for a refusal."""
        try:
            while self._page is None and not self._is_over:
                self._hear()
        except ConnectionError:
            self._let_go()
            return False
        except BaseException:
            self._let_go()
            raise
        return True

    def _say(self) -> None:
        """Tell the runner what is dealt with, so that more comes."""
        self._mark = -1
        if self._said != self._dealt:
            self._said = self._dealt
            with suppress(OSError):  # the end is noticed where it is waited for
                self._sock.sendall(wire.frame(DEALT, self._dealt))

    def _hear(self) -> None:
        """Wait for more. Raises `ConnectionError` when the runner hangs up before the end, `PexenError` when it is gone."""
        found = dict(self._poll.poll())
        if not found.get(self._sock.fileno()):
            raise gone()
        data: bytes = b""
        descriptors: list[int] = []
        with suppress(ConnectionError):
            data, descriptors, _, _ = socket.recv_fds(self._sock, self._frames.wanted, 1)
        if not data:
            if self._page is not None:
                raise gone()
            raise ConnectionError("nobody answers")
        for fd in descriptors:
            with open(fd, "r+b", buffering=0) as page:
                self._page = memoryview(mmap.mmap(page.fileno(), PAGE)).cast("Q")
        for kind, _, payload in self._frames.feed(data):
            self._heard(kind, payload)
        if self._frames.damaged:
            raise PexenError("what the runner says cannot be understood")

    def _heard(self, kind: int, payload: wire.Bytes) -> None:
        if kind == RESULTS:
            self._waiting.extend(pickle.loads(payload))  # noqa: S301 - from our own runner
            self._mark = len(self._waiting) // 2
        elif kind == REFUSED:
            raise inside() if not payload else PexenError(wire.decoded(payload))
        elif kind == END:
            self._is_over = True
            if payload:
                raise PexenError(wire.decoded(payload))

    def _let_go(self) -> None:
        """Close everything; what is held is given back unless it was acknowledged."""
        self._page = None
        self._sock.close()
        if self._runner >= 0:
            runner, self._runner = self._runner, -1
            os.close(runner)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end; of a process in a namespace that is not ours the number is 0."""
    pid, user, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, user


@contextmanager
def folder_of(path: str) -> Iterator[str]:
    """Give a short name for a folder: the path of a socket must not be longer than 107 bytes. Raises `OSError`."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _path_here() -> str:
    """Return the path of the task this code is part of, be it a callable or a program; empty outside of one."""
    held = CURRENT.get()
    return os.environ.get("PEXEN_PATH", "") if held is None else held.context().path


def _result_of(made: tuple[Any, ...]) -> Result:
    path, status, value, start, duration, details = made
    return restored(path, status, None if value is None else Pickled(value), start, duration, details)


def inside() -> PexenError:
    """Return the error for who reads a stream inside a task of the run."""
    return PexenError(
        "a task reads the stream of its own run, and would wait for itself", hint="run.post(function) is for that"
    )


def gone() -> PexenError:
    """Return the error for who reads when the runner is not there any more."""
    return PexenError("the runner is gone")
