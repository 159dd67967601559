"""What tasks print, in a worker process whose pool wants it in files."""

from __future__ import annotations

import os

from pexen.pool import wire


class Capture:
    """Standard output and error of each attempt in a file of its own, ``<folder>/<attempt>.out``.

    Most attempts print nothing, and an empty file is simply renamed for the next one: 4 µs instead of 30.
    """

    def __init__(self, folder: str, homes: dict[int, int], fd: int) -> None:
        self._folder = folder
        self._homes = homes
        self._outside = (homes[1], homes[2])
        self._file = ""
        self._fd = fd

    def begin(self, id_: int) -> None:
        """Let the standard descriptors lead to the attempt's file; to where they led before if that is impossible."""
        name = f"{self._folder}/{id_}.out"
        try:
            if self._file:
                os.rename(self._file, name)
            else:
                self._open(name)
            self._file = name
        except OSError:
            self._file = ""
            self._homes[1], self._homes[2] = self._outside
        os.dup2(self._homes[1], 1)
        os.dup2(self._homes[2], 2)

    def _open(self, name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self._homes[1] = self._homes[2] = self._fd

    def end(self) -> bytes:
        """Return the part that says how much was printed, if anything was."""
        size = os.lseek(self._fd, 0, os.SEEK_END) if self._file else 0
        if not size:
            return b""
        self._file = ""
        return wire.pack_parts([(wire.OUTPUT, size.to_bytes(8, "little"))])

    def clear(self) -> None:
        """Remove the empty file that waits for the next attempt."""
        if self._file:
            try:  # noqa: SIM105 - contextlib is more than this module may import
                os.unlink(self._file)
            except OSError:
                pass
