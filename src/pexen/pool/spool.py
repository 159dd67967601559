r"""What commands print: one file each, written by the process itself, so that output costs the runner nothing.

**One file an attempt**, opened for appending; standard output and error share it, and so does whatever the task starts.
Nothing is read while the task runs, therefore a task is never blocked, and a grandchild that keeps the file open keeps
nobody waiting.

**Empty files are used again.** Most commands print nothing; making and removing a file costs 50 of the 500 us that
/bin/true takes, taking the last one again 10. It is only done when nobody else can still write to it: the kernel
grants a read lease exactly when no open file description for writing is left, whoever inherited it. A lease lives
for one system call here; should somebody open the file in that moment, the kernel sends us SIGURG, which is ignored
by default, instead of SIGIO, which is not.

**Too much output** is bounded in two steps. While the task runs, `Spool.look` punches a hole between what will be kept
as head and what is the tail so far: the file's size grows, the disk used does not, except by what is written between
two looks. When the task has ended, the tail is moved down behind the head and a line that says how much is missing.
Where the file system cannot punch holes only the second step is taken.

The private folder is an object: the pool and every `Output` refer to it, and with the last of them it is removed.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from signal import SIGURG

from pexen.model.result import Output

CAP = 32 << 20
"""Bytes of output kept, half of them from the start and half from the end."""
SLACK = 128
"""More than the line that says what is missing: cutting never makes a file longer."""
PUNCH = 1 << 20
"""Bytes not worth a hole."""
_CHUNK = 1 << 20
_NEVER = 1 << 62


class Folder:
    """A private folder, removed with its contents when the last reference to this object is gone, or at exit."""

    __slots__ = ("__weakref__", "path")

    def __init__(self) -> None:
        import tempfile

        self.path = tempfile.mkdtemp(prefix="pexen-output-")
        os.chmod(self.path, 0o700)
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a fork of ours that exits normally is not the one to remove it
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


class Sink:
    """The output file of one running attempt. ``write`` is for the child, ``fd`` to look at what it has written."""

    __slots__ = ("fd", "path", "punched", "write")

    def __init__(self, path: str) -> None:
        self.path = path
        self.punched = 0
        self.write = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(self.write, 0o600)
            self.write = above_streams(self.write)
            self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
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
        self.punched = 0

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

    def reopened(self) -> int:
        """Return a descriptor for changing the file wherever its name has gone."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)


class Spool:
    """The folder with the output files. To be used from one thread.

    ``folder`` is for one run: a file of an earlier one is replaced when an attempt of the same id prints something.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, cap: int = CAP) -> None:
        self.cap = cap
        self.head = cap // 2
        self.tail = cap - self.head
        self._given = None if folder is None else os.fspath(folder)
        self._keeper: Folder | None = None
        self._path = ""
        self._blank: list[Sink] = []

    def begin(self, number: int) -> Sink:
        """Return the empty output file of attempt ``number``. Raises `OSError`."""
        if self._blank:
            sink = self._blank.pop()
            try:
                # In a private folder nobody asks for the name.
                sink.reuse(f"{self._path}/{number}.out" if self._given is not None else sink.path)
            except OSError:
                sink.remove()
            else:
                return sink
        path = f"{self._path or self._make_folder()}/{number}.out"
        try:
            return Sink(path)
        except FileExistsError:
            os.unlink(path)
            return Sink(path)

    def _make_folder(self) -> str:
        if self._given is None:
            self._keeper = Folder()
            self._path = self._keeper.path
        else:
            os.makedirs(self._given, mode=0o700, exist_ok=True)
            self._path = os.path.abspath(self._given)
        return self._path

    def end(self, sink: Sink) -> Output | None:
        """Return what an attempt that has ended has printed, or None for nothing. Never raises."""
        size = os.fstat(sink.fd).st_size
        if not size:
            if sink.is_ours_alone():
                self._blank.append(sink)
            else:
                sink.remove()
            return None
        cut = size > self.cap + SLACK
        if cut:
            self._shorten(sink, size)
        os.close(sink.fd)
        return Output(sink.path, size, cut, self._keeper)

    def drop(self, sink: Sink) -> None:
        """Take back the file of an attempt that did not start."""
        os.close(sink.write)
        sink.remove()

    def look(self, sink: Sink) -> bool:
        """Give back the disk space of what will be left out; return whether there was any."""
        end = os.fstat(sink.fd).st_size - self.tail
        start = max(sink.punched, self.head)
        if end - start < min(PUNCH, self.cap):
            return False
        try:
            _punch(sink, start, end)
        except OSError:
            sink.punched = _NEVER
            return False
        sink.punched = end
        return True

    def _shorten(self, sink: Sink, size: int) -> None:
        missing = b"\n[... %d bytes left out ...]\n" % (size - self.head - self.tail)
        with suppress(OSError):  # a task may have made its file immutable
            fd = sink.reopened()
            try:
                _move(fd, size - self.tail, self.head + os.pwrite(fd, missing, self.head), self.tail)
            except OSError:  # no space left to fill the hole: the head is there in any case
                os.ftruncate(fd, self.head)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Remove what is empty; what was printed stays as long as somebody refers to it."""
        for sink in self._blank:
            sink.remove()
        self._blank.clear()
        self._keeper = None
        self._path = ""


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


def _punch(sink: Sink, start: int, end: int) -> None:
    import ctypes

    keep_size, punch_hole = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", libc.fallocate)
    fd = sink.reopened()
    try:
        if fallocate(fd, keep_size | punch_hole, ctypes.c_int64(start), ctypes.c_int64(end - start)):
            problem = ctypes.get_errno()
            raise OSError(problem, os.strerror(problem))
    finally:
        os.close(fd)
