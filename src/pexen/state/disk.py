"""What the journal does to the disk: each step through one small object, so that tests count, break and stop at them.

Also how its files are opened: for us alone whatever the umask, never through a link, never one of somebody else's, never
with the number of a standard stream (whatever is printed would go into the journal of a runner started with closed
streams), and never inherited by what tasks start.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

_FULL = frozenset({errno.EMFILE, errno.ENFILE})
_FORGETFUL = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_ABOVE = 3
"""How many folders above that of a run may be as new as it is."""


class Steps:
    """The steps that make records durable. A subclass may count them, fail, or end the process at one."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write some of ``data``; return how much."""
        return os.write(fd, data)

    def fdatasync(self, fd: int) -> None:
        """Wait until the contents of a file are on the disk."""
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        """Wait until a folder, or a new file, is on the disk."""
        os.fsync(fd)

    def ftruncate(self, fd: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(fd, size)

    def replace(self, source: str, target: str) -> None:
        """Give a file its name."""
        os.replace(source, target)


STEPS = Steps()


def write_all(steps: Steps, fd: int, data: bytes) -> None:
    """Write all of ``data``. Raises `OSError` at the first write that fails; how much was written before is not told."""
    written = steps.write(fd, data)
    while written < len(data):
        written += steps.write(fd, memoryview(data)[written:])


def private_file(path: str, flags: int) -> int:
    """Open a regular file of ours, made for us alone where there is none. Raises `OSError`."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd, is_new = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600), True
    except FileExistsError:
        fd, is_new = os.open(path, flags), False
    try:
        if is_new:
            os.fchmod(fd, 0o600)
        _check_ours(fd, path)
    except OSError:
        os.close(fd)
        raise
    return above_streams(fd)


def _check_ours(fd: int, path: str) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to somebody else", path)


def above_streams(fd: int) -> int:
    """Return ``fd`` or a copy of it above 2."""
    if fd > 2:
        return fd
    try:
        return int(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
    finally:
        os.close(fd)


def sync_folders(steps: Steps, folder: str) -> None:
    """Make the names of a new run's files and folders durable, as far up as they may be new."""
    for _ in range(1 + _ABOVE):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            return  # nothing that we have made is in there
        try:
            steps.fsync(fd)
        finally:
            os.close(fd)
        folder = os.path.dirname(folder)


def forgets(folder: str) -> str:
    """Return the kind of a file system that will have forgotten everything after a reboot; empty for others."""
    try:
        device = os.stat(folder).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        words = line.split()
        if words[2] == number:
            kind = words[words.index("-") + 1]
            return kind if kind in _FORGETFUL else ""
    return ""


class Reserve:
    """One descriptor kept for when there are none left: `open` gives it up for as long as a file is open."""

    def __init__(self) -> None:
        self._fd = -1
        self.refill()

    def open(self, path: str, flags: int) -> int:
        """Open a file for us alone; to be followed by closing it and `refill`. Raises `OSError`."""
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return above_streams(os.open(path, flags, 0o600))
        except OSError as error:
            if error.errno not in _FULL or self._fd < 0:
                raise
        self.close()
        return above_streams(os.open(path, flags, 0o600))

    def refill(self) -> None:
        """Keep a descriptor again, if there is one."""
        if self._fd < 0:
            with suppress(OSError):
                self._fd = above_streams(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Give it up."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
