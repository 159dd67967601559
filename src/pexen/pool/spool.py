r"""What commands print: one file each, written by the process itself, so that output costs the runner nothing.

**One file an attempt**, opened for appending; standard output and error share it, and so does whatever the task starts.
Nothing is read while the task runs, therefore a task is never blocked, and a grandchild that keeps the file open keeps
nobody waiting.

**Empty files are used again.** Most commands print nothing; making and removing a file costs 50 of the 500 us that
/bin/true takes, taking the last one again 10. It is only done when nobody else can still write to it: the kernel
grants a read lease exactly when no open file description for writing is left, whoever inherited it. A lease lives
for one system call here; should somebody open the file in that moment, the kernel sends us SIGURG, which is ignored
by default, instead of SIGIO, which is not.

**Too much output** is bounded in two steps. While the task runs, `Eye.look` punches a hole between what will be kept
as head and what is the tail so far: the file's size grows, the disk used does not, except by what is written between
two looks. When the task has ended, the tail is moved down behind the head and a line that says how much is missing.
Where the file system cannot punch holes only the second step is taken.

The folder is that of `pexen.pool.files`; a private one lives as long as the pool or an `Output` refers to it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from signal import SIGURG
from typing import TYPE_CHECKING

from pexen.model.result import Output

if TYPE_CHECKING:
    from pexen.pool.files import Files

CAP = 32 << 20
"""Bytes of output kept, half of them from the start and half from the end."""
SLACK = 128
"""More than the line that says what is missing: cutting never makes a file longer."""
PUNCH = 1 << 20
"""Bytes not worth a hole."""
_CHUNK = 1 << 20
_NEVER = 1 << 62


class Eye:
    """Looks at an output file through ``fd``. ``size`` is what was in it at the last look, ``punched`` how far it has a hole."""

    __slots__ = ("fd", "path", "punched", "size")

    def __init__(self, path: str, fd: int = -1) -> None:
        self.path = path
        self.punched = self.size = 0
        self.fd = fd if fd >= 0 else os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def look(self, cap: int) -> bool:
        """Give back the disk space of what will be left out; return whether there was any."""
        self.size = os.fstat(self.fd).st_size
        end = self.size - (cap - cap // 2)
        start = max(self.punched, cap // 2)
        if end - start < min(PUNCH, cap):
            return False
        try:
            _punch(self, start, end)
        except OSError:
            self.punched = _NEVER
            return False
        self.punched = end
        return True

    def tail(self, lines: int) -> str:
        """Return the last lines written so far."""
        return Output(self.path).tail(lines)

    def reopened(self) -> int:
        """Return a descriptor for changing the file wherever its name has gone."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Stop looking."""
        os.close(self.fd)


class Sink(Eye):
    """The output file of one running attempt. ``write`` is for the child."""

    __slots__ = ("write",)

    def __init__(self, path: str) -> None:
        self.write = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(self.write, 0o600)
            self.write = above_streams(self.write)
            super().__init__(path)
        except OSError:
            os.close(self.write)
            os.unlink(path)
            raise
        fcntl.fcntl(self.fd, fcntl.F_SETSIG, SIGURG)

    def reuse(self, path: str) -> None:
        """Take the empty file once more, under another name. Raises `OSError` when that cannot be done."""
        if path != self.path:
            os.rename(self.path, path)
            self.path = path
        self.write = above_streams(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC))
        self.punched = self.size = 0

    def again(self) -> int:
        """Return ``write`` for one more child, wherever the file's name has gone; to be followed by `started`."""
        self.write = above_streams(os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        return self.write

    def started(self) -> None:
        """Close our copy of what the child writes to."""
        os.close(self.write)

    def is_ours_alone(self) -> bool:
        """Whether it is empty and nobody but us can write to it any more."""
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            return False
        try:
            return os.fstat(self.fd).st_size == 0
        finally:
            fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def remove(self) -> None:
        """Forget the file."""
        os.close(self.fd)
        with suppress(OSError):
            os.unlink(self.path)


class Spool:
    """The output files of a run's attempts. To be used from one thread.

    A file of an earlier run in the same folder is replaced when an attempt of the same id prints something.
    """

    def __init__(self, files: Files, cap: int = CAP) -> None:
        self.cap = cap
        self._files = files
        self._blank: list[Sink] = []

    def begin(self, number: int) -> Sink:
        """Return the empty output file of attempt ``number``. Raises `OSError`."""
        path = f"{self._files.base}/{number}.out"
        if self._blank:
            sink = self._blank.pop()
            try:
                sink.reuse(path if self._files.is_given else sink.path)  # in a private folder nobody asks for the name
            except OSError:
                sink.remove()
            else:
                return sink
        try:
            return Sink(path)
        except FileExistsError:
            os.unlink(path)
            return Sink(path)

    def end(self, sink: Sink) -> Output | None:
        """Return what an attempt that has ended has printed, or None for nothing. Never raises."""
        size = os.fstat(sink.fd).st_size
        if not size:
            if sink.is_ours_alone():
                self._blank.append(sink)
            else:
                sink.remove()
            return None
        cut = _cut(sink, size, self.cap)
        os.close(sink.fd)
        return Output(sink.path, size, cut, self._files.keeper)

    def drop(self, sink: Sink) -> None:
        """Take back the file of an attempt that did not start."""
        os.close(sink.write)
        sink.remove()

    def close(self) -> None:
        """Remove what is empty; what was printed stays as long as somebody refers to it."""
        for sink in self._blank:
            sink.remove()
        self._blank.clear()


def shortened(path: str, size: int, cap: int) -> bool:
    """Cut a file that nobody writes to any more to head and tail, if it has more than ``cap`` bytes; return whether."""
    if size <= cap + SLACK:
        return False
    try:
        eye = Eye(path)
    except OSError:
        return False
    try:
        return _cut(eye, size, cap)
    finally:
        eye.close()


def _cut(eye: Eye, size: int, cap: int) -> bool:
    """Move the tail down behind the head and a line that says what is missing between them; return whether."""
    if size <= cap + SLACK:
        return False
    head, tail = cap // 2, cap - cap // 2
    missing = b"\n[... %d bytes left out ...]\n" % (size - cap)
    with suppress(OSError):  # a task may have made its file immutable
        fd = eye.reopened()
        try:
            _move(fd, size - tail, head + os.pwrite(fd, missing, head), tail)
        except OSError:  # no space left to fill the hole: the head is there in any case
            os.ftruncate(fd, head)
        finally:
            os.close(fd)
    return True


def above_streams(fd: int) -> int:
    """Return ``fd`` or a copy of it above 2: a runner started with closed streams gets such numbers for its files."""
    if fd > 2:
        return fd
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return int(copy)


def _move(fd: int, start: int, to: int, length: int) -> None:
    """Move the last ``length`` bytes of a file down to ``to`` and cut it behind them."""
    end = start + length
    while start < end:
        data = os.pread(fd, min(_CHUNK, end - start), start)
        if not data:
            break
        written = os.pwrite(fd, data, to)
        start, to = start + written, to + written
    os.ftruncate(fd, to)


def _punch(eye: Eye, start: int, end: int) -> None:
    import ctypes

    keep_size, punch_hole = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", libc.fallocate)
    fd = eye.reopened()
    try:
        if fallocate(fd, keep_size | punch_hole, ctypes.c_int64(start), ctypes.c_int64(end - start)):
            problem = ctypes.get_errno()
            raise OSError(problem, os.strerror(problem))
    finally:
        os.close(fd)
