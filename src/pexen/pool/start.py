"""Starting worker processes, in one of two ways that both never fork this process without exec.

``exec``
    A fresh interpreter each, 15 ms. It has this process's environment, folder and limits as they are at that moment.
``forkserver``
    A fresh interpreter once, which has imported nothing but the worker's module and has one thread; it forks the
    workers, 2 ms each. They have the environment, folder and limits of the moment when the server was started.

Either way a worker leads a session and a process group of its own, and inherits its end of the socket pair, the eventfd
with the tokens, standard error, and a lifeline. Its number 2 is a memory file at first, so that a worker that does not
come up can be quoted. The lifeline is a pipe that nobody writes to: when this process is gone, however it went, the kernel
kills the group of every worker that holds the other end, busy or not (see `pexen.pool.worker`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pexen.pool import forkserver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT = str(Path(__file__).parents[2])
_BOOT = "import sys; sys.path.insert(0, {root!r}); from {module} import main; main({arguments})"
_PATIENCE = 30.0
"""Seconds that the fork server may take to answer, most of all to start."""


class Process(Protocol):
    """A started process, dead or alive, until `reap`."""

    pid: int
    pidfd: int
    """Becomes readable when the process has ended. Belongs to whoever asked for the process."""

    def reap(self) -> int | None:
        """Take note of the process's end, which has come; return its exit status, negative for a signal."""


class Inherited(NamedTuple):
    """The descriptors a worker gets; they stay the caller's."""

    sock: int
    gate: int
    stderr: int
    first_stderr: int


class Starter(Protocol):
    """A way to start workers. To be used from one thread."""

    def start(self, inherited: Inherited) -> Process:
        """Start a worker; raises `OSError`."""

    def close(self) -> None:
        """Give back what the starter itself needed."""


class Lifeline:
    """A pipe whose writing end is open as long as this process wants its workers."""

    def __init__(self) -> None:
        self._ends: tuple[int, ...] = ()

    def end(self) -> int:
        """Return the end for the workers."""
        self._ends = self._ends or os.pipe()
        return self._ends[0]

    def close(self) -> None:
        """Let go."""
        for fd in self._ends:
            os.close(fd)
        self._ends = ()


class ExecStarter:
    """Starts each worker as a fresh interpreter."""

    def __init__(self) -> None:
        self._lifeline = Lifeline()

    def start(self, inherited: Inherited) -> Process:
        """See `Starter`."""
        given = (inherited.sock, inherited.gate, inherited.stderr, self._lifeline.end())
        return Executed(launch("pexen.pool.worker", given, stderr=inherited.first_stderr))

    def close(self) -> None:
        """See `Starter`."""
        self._lifeline.close()


class Executed:
    """A child of ours."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        try:
            self.pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.kill()
            process.wait()
            raise

    def reap(self) -> int | None:
        """See `Process`."""
        return self._process.wait()


class ForkStarter:
    """Asks a fork server for workers; starts the server when the first one is wanted, or after it has died."""

    def __init__(self) -> None:
        self._lifeline = Lifeline()
        self._server: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None

    def start(self, inherited: Inherited) -> Process:
        """See `Starter`."""
        try:
            pid, (pidfd,) = forkserver.ask(self._connection(), forkserver.FORK, 0, inherited)
        except (OSError, ValueError) as error:
            self._end_server()
            raise OSError("the fork server has died") from error
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return Forked(self, pid, pidfd)

    def reap(self, pid: int) -> int | None:
        """Return the exit status of a worker that has ended, or None when nobody can tell any more."""
        if self._sock is None:
            return None
        try:
            return forkserver.ask(self._sock, forkserver.REAP, pid)[0]
        except (OSError, ValueError):
            self._end_server()
            return None

    def close(self) -> None:
        """See `Starter`."""
        self._end_server()
        self._lifeline.close()

    def _end_server(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _connection(self) -> socket.socket:
        if self._sock is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(_PATIENCE)
            with theirs:
                try:
                    self._server = launch("pexen.pool.forkserver", (theirs.fileno(), self._lifeline.end()))
                except OSError:
                    ours.close()
                    raise
            self._sock = ours
        return self._sock


class Forked:
    """A child of the fork server."""

    def __init__(self, server: ForkStarter, pid: int, pidfd: int) -> None:
        self._server = server
        self.pid = pid
        self.pidfd = pidfd

    def reap(self) -> int | None:
        """See `Process`."""
        return self._server.reap(self.pid)


STARTERS: dict[str, type[ExecStarter | ForkStarter]] = {"exec": ExecStarter, "forkserver": ForkStarter}


def launch(module: str, descriptors: Sequence[int], stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start an interpreter like this one, in a session of its own, that runs ``main(*descriptors)`` of a module."""
    if not sys.executable:
        raise OSError("sys.executable does not say where Python is")
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    with ExitStack() as closing:
        streams = [closing.enter_context(standard(number)) for number in (1, 2)]
        given = [closing.enter_context(_above_standard(fd)) for fd in descriptors]
        code = _BOOT.format(root=_ROOT, module=module, arguments=", ".join(map(str, given)))
        # -P: whatever lies about in the current folder is not taken for a module of the standard library.
        with _LAUNCHING:
            return subprocess.Popen(
                [sys.executable, "-P", *flags, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1] if stderr is None else stderr,
                pass_fds=given,
                start_new_session=True,
            )


_LAUNCHING = threading.RLock()
"""No other thread forks meanwhile. Popen waits until nobody holds a pipe of its own any more, and a copy of this process would
hold it for as long as it lives: for ever, if it waits for what the new one is to do."""
os.register_at_fork(
    before=lambda: _LAUNCHING.acquire(),  # noqa: PLW0108 - a test looks at it
    after_in_parent=lambda: _LAUNCHING.release(),  # noqa: PLW0108
    after_in_child=lambda: _LAUNCHING.release(),  # noqa: PLW0108
)


@contextmanager
def standard(number: int) -> Iterator[int]:
    """Give a standard descriptor of ours, or /dev/null where it is closed."""
    if is_standard(number):
        yield number
    else:
        with open(os.devnull, "wb") as null:
            yield null.fileno()


@contextmanager
def _above_standard(fd: int) -> Iterator[int]:
    """Give a descriptor that the new process's standard ones do not take the place of."""
    if fd > 2:
        yield fd
    else:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            yield copy
        finally:
            os.close(copy)


def is_standard(number: int) -> bool:
    """Tell whether a standard descriptor is open, and not something of ours that has got a free number."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def kill_group(leader: Process) -> None:
    """Kill a process and every one in the group it leads, unless it was reaped: its number may be another's by then."""
    with suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(leader.pidfd, signal.SIGKILL)  # it may not lead a group yet
        os.killpg(leader.pid, signal.SIGKILL)


def told(status: int | None) -> str:
    """Return how a process without a result ended, in words."""
    if status is None:
        return "its process has gone"
    if status >= 0:
        return _MEANS.get(status, f"exit code {status} without a result")
    try:
        return f"killed by signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"killed by signal {-status}"


_MEANS = {71: "exit code 71: it closed the descriptors of its worker, or lost the runner"}
