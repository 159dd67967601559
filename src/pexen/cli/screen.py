"""Writing data to standard output."""

from __future__ import annotations

import os
import sys

from pexen.report.text import is_coloured


def has_colour(choice: str, fd: int) -> bool:
    """Decide about colour on a standard stream."""
    return is_coloured(choice, os.environ, is_terminal=os.isatty(fd))


def write_out(text: str) -> None:
    """Write data to standard output; characters that its encoding lacks are escaped."""
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stdout.write(text)
