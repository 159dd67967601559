"""The end of a journal's file, where one thread at a time adds groups of lines: with one write, and one sync or none.

Its descriptors are opened once and kept, one in reserve for values beside the journal: a run that has used up all others
still has its record.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from pexen.errors import StateError
from pexen.state.disk import Reserve, forgets, private_file, sync_folders, write_all
from pexen.state.lines import Scanner, sealed
from pexen.state.lock import Lock

if TYPE_CHECKING:
    from collections import deque

    from pexen.state.disk import Steps

FILE = "journal.jsonl"
VALUES = "values"
"""The folder beside the journal for values that are too large for a line."""
_LINES, _BYTES = 1024, 1 << 20
"""After so many no more are written at once."""
_GLANCE = 1.0
"""Seconds after which it is looked whether the file is still in its place."""


class Appender:
    """The journal in ``folder``, open and locked; made where there is none, else without a torn line at its end.

    ``last`` is the number of the last line, ``cut`` how many bytes were torn, ``forgets`` the kind of a file system that
    keeps nothing over a reboot. Raises `StateError` when somebody else is writing it, for damage (unless ``damaged_ok``),
    and when it cannot be opened. `close` or `forget` it.
    """

    def __init__(self, folder: str, *, sync: bool, damaged_ok: bool, steps: Steps) -> None:
        self.path = f"{folder}/{FILE}"
        self._folder = folder
        self._sync = sync
        self._steps = steps
        self._fd = -1
        self._has_folder = False
        self._lock: Lock | None = None
        self._reserve = Reserve()
        try:
            self._fd = private_file(self.path, os.O_RDWR | os.O_APPEND)
            self._lock = Lock(folder, self._fd, steps)
            self._find_end(damaged_ok=damaged_ok)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise cannot("opened", error, self.path) from error
            raise

    @property
    def last(self) -> int:
        """The number of the last line."""
        return self._seq

    def _find_end(self, *, damaged_ok: bool) -> None:
        scanner = Scanner(damaged_ok=damaged_ok)
        for _ in scanner.records(self._fd, self.path):
            pass
        self._seq, self._crc, self._size, self.cut = scanner.seq, scanner.crc, scanner.end, scanner.torn
        if scanner.torn:
            self._steps.ftruncate(self._fd, self._size)
        if scanner.damage and os.pread(self._fd, 1, self._size - 1) != b"\n":
            write_all(self._steps, self._fd, b"\n")
            self._size += 1
        if self._sync:
            self._steps.fdatasync(self._fd)
            sync_folders(self._steps, self._folder)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        self._seen = monotonic()
        self.forgets = forgets(self._folder)

    def write(self, queue: deque[tuple[bytes, bytes]]) -> None:
        """Take a group of records, each with what is to be stored beside it, and make it durable. Raises `OSError`.

        Then nothing of the group counts as written, and the file ends with a whole line if that can be had. A
        KeyboardInterrupt (of a user's main thread) changes nothing: the group is in the queue again.
        """
        taken: list[tuple[bytes, bytes]] = []
        try:
            self._write_group(queue, taken)
        except KeyboardInterrupt:
            queue.extendleft(reversed(taken))
            self._steps.ftruncate(self._fd, self._size)
            raise
        except OSError:
            with suppress(OSError):
                self._cut_off()
            raise
        if monotonic() - self._seen >= _GLANCE:
            self.look()

    def _write_group(self, queue: deque[tuple[bytes, bytes]], taken: list[tuple[bytes, bytes]]) -> None:
        seq, crc, size = self._seq, self._crc, 0
        lines: list[bytes] = []
        while queue and len(lines) < _LINES and size < _BYTES:
            taken.append(queue.popleft())
            body, beside = taken[-1]
            seq += 1
            if beside:
                self._put_beside(seq, beside)
            line, crc = sealed(body, seq, crc)
            lines.append(line)
            size += len(line)
        write_all(self._steps, self._fd, b"".join(lines))
        if self._sync:
            self._steps.fdatasync(self._fd)
        self._size, self._seq, self._crc = self._size + size, seq, crc

    def _cut_off(self) -> None:
        """Take away what was written of a line that could not be finished."""
        written = os.pread(self._fd, os.fstat(self._fd).st_size - self._size, self._size)
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            self._steps.ftruncate(self._fd, self._size + whole)

    def _put_beside(self, seq: int, data: bytes) -> None:
        """Write what belongs to a line into a file of its own, which is complete when it has its name."""
        folder, steps = f"{self._folder}/{VALUES}", self._steps
        if not self._has_folder:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                os.chmod(folder, 0o700)
            if self._sync:
                self._sync_names(self._folder)  # also if it was there: whoever made it may have died before this
            self._has_folder = True
        path = f"{folder}/{seq}.json"
        with suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        fd = self._reserve.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.fchmod(fd, 0o600)
            write_all(steps, fd, data)
            if self._sync:
                steps.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.unlink(f"{path}.new")  # half a value: nobody will read it, and it may be what fills the disk
            raise
        finally:
            os.close(fd)
        steps.replace(f"{path}.new", path)
        if self._sync:
            self._sync_names(folder)
        self._reserve.refill()

    def _sync_names(self, folder: str) -> None:
        """Make the names in a folder durable, what they stand for being so already."""
        fd = self._reserve.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._steps.fsync(fd)
        finally:
            os.close(fd)

    def look(self) -> None:
        """See whether the file is in its place: what is written to one that was removed is lost. Raises `StateError`."""
        self._seen = monotonic()
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            found = None
        else:
            found = (status.st_dev, status.st_ino)
        if found != self._identity:
            raise StateError(
                "the journal was removed or replaced while it was being written", facts=[("journal", self.path)]
            )

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()
        self.forget()

    def forget(self) -> None:
        """Close the descriptors and nothing else: what a forked child does."""
        if self._lock is not None:
            self._lock.forget()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._reserve.close()


def cannot(verb: str, error: OSError, path: str) -> StateError:
    """Return the error that the journal cannot be opened or written."""
    facts = [("journal", path)]
    if error.filename not in {None, path}:
        facts.append(("at", str(error.filename)))
    hint = "" if verb == "opened" else "what was told before is safe; resume the run when the cause is removed"
    return StateError(f"the journal cannot be {verb}: {error.strerror or error}", facts=facts, hint=hint)
