"""Files that reports are written to: old or new, never half.

What is written goes to a temporary file beside the one that is meant, is synced, and takes its name in one step; whoever
reads meanwhile sees the old one. A link stays a link, and what it leads to is replaced. What is no ordinary file (a
pipe, a terminal, ``/dev/stdout``) cannot be replaced and is written to directly.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

_STREAMS = ("/dev/", "/proc/")
"""Where a name leads to something that is already open; replacing that would part it from who has opened it."""
_UNSYNCABLE = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}
"""What fsync says of something that is not on a disk."""


@contextmanager
def replacing(file: str) -> Iterator[IO[bytes]]:
    """Give a new file to write to; it becomes ``file`` when the block ends, and vanishes when the block raises."""
    draft = begun(file)
    try:
        with draft.opened as opened:
            yield opened
            synced(opened)
            draft.publish()
    except BaseException:
        draft.drop()
        raise


class Draft(NamedTuple):
    """A file that is ``opened``, and is to take the name ``file``; so far it has the name ``written``, or they are one."""

    opened: IO[bytes]
    written: str
    file: str

    def publish(self) -> None:
        """Give it its name; raises `OSError`."""
        if self.is_ours:
            os.replace(self.written, self.file)
            folder = os.open(os.path.dirname(self.file), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            except OSError as error:
                if error.errno not in _UNSYNCABLE:
                    raise
            finally:
                os.close(folder)

    @property
    def is_ours(self) -> bool:
        """Whether nobody else writes to it, as one may to a pipe or a terminal."""
        return self.written != self.file

    def drop(self, size: int | None = None) -> None:
        """Take it away, unless it has its name already; then only what is behind ``size``."""
        with suppress(OSError):
            fd = os.dup(self.opened.fileno()) if self.is_ours and size is not None else -1
            with suppress(OSError):
                self.opened.close()  # which tries to write once more what it has not been able to
            if fd >= 0:
                os.ftruncate(fd, size or 0)
                os.close(fd)
        if self.is_ours:
            with suppress(OSError):
                os.unlink(self.written)


def begun(file: str) -> Draft:
    """Return the draft of a file, whose folder is made where it is missing; raises `OSError`."""
    file = os.path.abspath(file)
    try:
        is_ordinary = stat.S_ISREG(os.stat(file).st_mode) and not file.startswith(_STREAMS)
    except FileNotFoundError:
        is_ordinary = True
    if not is_ordinary:
        return Draft(open(file, "ab"), file, file)
    file = os.path.realpath(file)
    folder = os.path.dirname(file)
    os.makedirs(folder, exist_ok=True)
    written, fd = _made(folder)
    return Draft(os.fdopen(fd, "wb"), written, file)


def synced(opened: IO[bytes]) -> None:
    """Bring to disk what has been written; raises `OSError`. A pipe or terminal has no disk to bring it to."""
    opened.flush()
    try:
        os.fsync(opened.fileno())
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise


def _made(folder: str) -> tuple[str, int]:
    """Make a file of a new, short name: the report's own may already be as long as names can be."""
    while True:
        written = f"{folder}/.report-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        with suppress(FileExistsError):  # others are to read a report, so the umask alone decides who may
            return written, os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
