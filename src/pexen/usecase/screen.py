"""Writing progress to standard error, whoever reads it or not."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping


class Screen:
    """Standard error, written to without a buffer. When nobody reads it any more, nothing happens."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._gone = False
        stream = {1: sys.stdout, 2: sys.stderr}.get(fd)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    @property
    def is_terminal(self) -> bool:
        """Whether somebody may be looking."""
        return os.isatty(self._fd)

    def width(self) -> int:
        """Return the number of columns."""
        try:
            return os.get_terminal_size(self._fd).columns or 80
        except OSError:
            return 80

    def write(self, text: str) -> None:
        """Write at once. Waits where the descriptor is in non-blocking mode, which others may have set it to."""
        data = memoryview(text.encode(self._encoding, "backslashreplace"))
        while data and not self._gone:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except OSError:  # closed, or the terminal has gone
                self._gone = True


def last_words(text: str) -> None:
    """Write to standard error on the way out, unless that would have to wait: nobody may be reading any more."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if any(event & select.POLLOUT for _, event in poll.poll(0)):
            os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        return


def is_live(screen: Screen, environ: Mapping[str, str]) -> bool:
    """Tell whether a line that is redrawn makes sense: a terminal that obeys, with a person before it."""
    return screen.is_terminal and environ.get("TERM") not in {None, "", "dumb"} and not environ.get("CI")
