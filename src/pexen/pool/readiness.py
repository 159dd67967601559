"""Whether a service that has been started is up: the checks of `pexen.model.ready`, asked again and again.

None of them ever waits: a connection that takes its time is looked at again next time. What is printed is read once, line
by line, at most `LONGEST` bytes of each. A connection to a free port of one's own machine can, by chance, be answered by
itself (both ends get the same number); that does not count.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pexen.model.ready import Ready

LONGEST = 1 << 16
"""Bytes of a line of output that are looked at, its last ones."""
_CHUNK = 1 << 16
_CHUNKS = 16
"""Chunks of output read at a time, so that whoever prints much keeps nobody waiting for long."""
_GOING = frozenset({errno.EINPROGRESS, errno.EALREADY})
_SOMEBODY = frozenset({0, errno.EAGAIN, errno.EPROTOTYPE})
"""What connecting to a unix socket says when somebody listens: also if too many wait already, or he wants other packets."""


class Check(Protocol):
    """One readiness check of one attempt."""

    def holds(self) -> bool:
        """Tell whether it holds by now."""

    def close(self) -> None:
        """Let go of what was kept for the next time."""


def check_of(ready: Ready, base: int, folder: str, output: int) -> Check | None:
    """Return the check for a task that runs in ``folder`` (below the one open as ``base``); None: there is nothing to ask.

    ``output`` is a descriptor of what it prints.
    """
    match ready.kind:
        case "port":
            return _Port(ready.hosts, ready.port)
        case "socket":
            return _Socket(base, os.path.join(folder, ready.what))
        case "file":
            return _File(base, os.path.join(folder, ready.what))
        case "log":
            return _Log(output, ready.what)
    return None


class _Port:
    def __init__(self, hosts: tuple[str, ...], port: int) -> None:
        self._addresses = [(host, port) for host in hosts]
        self._going: dict[str, socket.socket] = {}

    def holds(self) -> bool:
        return any(self._answers(address) for address in self._addresses)

    def _answers(self, address: tuple[str, int]) -> bool:
        host, _ = address
        try:
            sock = self._going.pop(host, None) or socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError:  # no such family here, or no descriptor at the moment
            return False
        sock.setblocking(False)
        problem = sock.connect_ex(address)
        if problem in _GOING:
            self._going[host] = sock
            return False
        with sock:
            return not problem and not _is_itself(sock)

    def close(self) -> None:
        for sock in self._going.values():
            sock.close()
        self._going.clear()


def _is_itself(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # who was there has hung up already
        return False


class _Socket:
    def __init__(self, base: int, path: str) -> None:
        self._base = base
        self._folder, self._name = os.path.split(path)

    def holds(self) -> bool:
        try:
            with ExitStack() as closing, socket.socket(socket.AF_UNIX) as sock:
                flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
                folder = os.open(self._folder or ".", flags, dir_fd=self._base)
                closing.callback(os.close, folder)
                sock.setblocking(False)
                # Relative to a folder of its own, and short: such a path may have 107 bytes.
                return sock.connect_ex(f"/proc/self/fd/{folder}/{self._name}") in _SOMEBODY
        except OSError:
            return False

    def close(self) -> None:
        """Nothing is kept."""


class _File:
    def __init__(self, base: int, path: str) -> None:
        self._base = base
        self._path = path

    def holds(self) -> bool:
        try:
            os.stat(self._path, dir_fd=self._base)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Nothing is kept."""


class _Log:
    def __init__(self, output: int, expression: str) -> None:
        self._output = output
        self._expression = re.compile(expression)
        self._read = 0
        self._rest = b""

    def holds(self) -> bool:
        for _ in range(_CHUNKS):
            data = os.pread(self._output, _CHUNK, self._read)
            if not data:
                break
            self._read += len(data)
            lines = (self._rest + data).split(b"\n")
            if any(self._matches(line) for line in lines):
                return True
            self._rest = lines[-1][-LONGEST:]  # looked at already, since a prompt has no end of line
        return False

    def _matches(self, line: bytes) -> bool:
        return self._expression.search(line[-LONGEST:].decode(errors="replace").rstrip("\r")) is not None

    def close(self) -> None:
        """Keep the descriptor: it is somebody else's."""
