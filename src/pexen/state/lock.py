"""Who writes a journal: one process at a time, and everybody else is told who.

The writer holds a flock on the file ``lock`` beside the journal, and the file says who that is. A lock goes with its
process, however that ends: the kernel sees to it. Only a child that was forked without exec by somebody's C code would
keep it: what Python forks lets go of it (see `pexen.state.journal`), and what is executed never had it. Therefore a lock that
is held counts only as long as the process named in it is there, known by number *and* start time; where that cannot be
told, since it is on another machine or in another container, it counts.

The file is put into place already locked and complete, by renaming it. That is done under a guard (a flock on the journal
itself, held for microseconds), so that of two that find the same lock abandoned one gets it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pexen.errors import StateError
from pexen.state import codec
from pexen.state.disk import above_streams, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pexen.state.disk import Steps

_NAME = "lock"
_TRIES, _PAUSE = 400, 0.005
_NOBODY = frozenset("ZX")
"""States of processes that have ended and are still listed."""


class Holder(NamedTuple):
    """A process for good: ``start`` is in clock ticks since the boot ``boot``, ``space`` the space that its number is of."""

    pid: int
    start: int
    boot: str
    space: str
    host: str
    since: float

    @classmethod
    def here(cls) -> Holder:
        """Return this process."""
        pid = os.getpid()
        return cls(pid, _started(pid), _boot(), _space(), os.uname().nodename, time.time())

    def is_gone(self) -> bool:
        """Tell whether it has certainly ended; False where nobody here can tell."""
        same = self.boot == _boot() and self.space == _space()
        return bool(self.boot) and same and bool(_started(os.getpid())) and _started(self.pid) != self.start

    def __str__(self) -> str:
        """Return ``process 4242 on this-host, since 2026-11-23 10:15:00``."""
        try:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        except (OverflowError, ValueError, OSError):
            since = str(self.since)
        return f"process {self.pid} on {self.host}, since {since}"


class Lock:
    """The right to write the journal in ``folder``. Raises `StateError` naming who has it, `OSError` when it cannot be had.

    ``guard`` is the open journal.
    """

    def __init__(self, folder: str, guard: int, steps: Steps) -> None:
        self._path = f"{folder}/{_NAME}"
        with _guarded(guard):
            self._refuse_a_second()
            self._fd = self._put(f"{self._path}.new", steps)

    def _refuse_a_second(self) -> None:
        fd = _opened(self._path)
        if fd < 0:
            return
        try:
            held = _is_held(fd)
            found = _read(fd)
        finally:
            os.close(fd)
        if held is False or (found is not None and found.is_gone()):
            return
        if held is None and (found is None or (found.host == os.uname().nodename and found.boot != _boot())):
            return  # there are no locks on this file system, and whoever wrote that cannot be there any more
        raise StateError(
            "another process is writing this journal",
            facts=[("journal", os.path.dirname(self._path)), ("writer", str(found or "unknown"))],
            hint="wait until it has ended, or end it; `pexen status` shows what it does",
        )

    def _put(self, path: str, steps: Steps) -> int:
        with suppress(FileNotFoundError):
            os.unlink(path)
        fd = above_streams(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        try:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(fd, 0o600)
            write_all(steps, fd, codec.fastest().encode(Holder.here()._asdict()) + b"\n")
            steps.replace(path, self._path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def release(self) -> None:
        """Let others write."""
        with suppress(OSError):
            mine, there = os.fstat(self._fd), os.stat(self._path)
            if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
                os.unlink(self._path)
        self.forget()

    def forget(self) -> None:
        """Close the descriptor and nothing else: what a forked child does."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def holder(folder: str) -> Holder | None:
    """Return who writes the journal in ``folder`` at this moment, or None for nobody. Any process may ask, at any time."""
    fd = _opened(f"{folder}/{_NAME}")
    if fd < 0:
        return None
    try:
        held = _is_held(fd)
        found = _read(fd)
    finally:
        os.close(fd)
    return None if held is False or found is None or found.is_gone() else found


@contextmanager
def _guarded(fd: int) -> Iterator[None]:
    """Let one process at a time look for a lock and take it. Bounded, since a stopped one may have the guard."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:
            break  # no locks here
        else:
            break
    else:
        raise StateError("another process is just opening this journal", hint="try again")
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return -1
        raise


def _is_held(fd: int) -> bool | None:
    """Tell whether somebody else has the lock; None where there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _read(fd: int) -> Holder | None:
    try:
        said: Any = codec.fastest().decode(os.pread(fd, 4096, 0))
        return Holder(
            int(said["pid"]), int(said["start"]), str(said["boot"]), str(said["space"]), str(said["host"]),
            float(said["since"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _started(pid: int) -> int:
    """Return when the process with that number was started; 0 when there is none, or it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if not words or words[0].decode() in _NOBODY else int(words[19])


def _boot() -> str:
    """Return what no other boot is called: the kernel's id, and when process 1 was started.

    A soft reboot and a container keep the kernel's id. ``PEXEN_BOOT_ID_FILE`` names a file to read instead of the
    kernel's: to try out what happens over a restart without one.
    """
    file = os.environ.get("PEXEN_BOOT_ID_FILE", "")
    return _boot_in(file) if file else _this_boot()


@cache
def _this_boot() -> str:
    return _boot_in("/proc/sys/kernel/random/boot_id")


def _boot_in(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return f"{file.read().strip()}.{_started(1)}"
    except OSError:
        return ""


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
