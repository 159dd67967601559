"""What an attempt has reported: all of it as long as that is little, what matters of it when it is much.

Whoever reports a hundred thousand times must not fill the memory. The first `FIRST` reports are kept, and of those behind
them as many again that are worse than ``info``; the others are counted, and one report at the end says how many. The
status always counts all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pexen.model.result import LEVELS, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST = 1000
SIZE = 16 << 20
"""Characters of text kept, all reports of an attempt together; of longer ones only name and status."""
_WORSE = frozenset({"warn", "fail", "error"})


class Tally:
    """The reports of one attempt."""

    def __init__(self) -> None:
        self._kept: list[Report] = []
        self._left_out: dict[str, int] = {}
        self._size = 0
        self.levels: set[str] = set()

    def add(self, report: Report) -> None:
        """Take one more."""
        self.levels.add(report.status)
        most = 2 * FIRST if report.status in _WORSE else FIRST
        if len(self._kept) >= most:
            self._left_out[report.status] = self._left_out.get(report.status, 0) + 1
            return
        self._size += len(report.name) + len(report.message)
        if self._size > SIZE:
            report = Report(report.name[:200], report.status, report.message[:200])
        self._kept.append(report)

    def reports(self) -> Sequence[Report]:
        """Return what was kept, and how much was not."""
        if self._left_out:
            counts = ", ".join(f"{self._left_out[level]} {level}" for level in LEVELS if level in self._left_out)
            told = f"{sum(self._left_out.values())} more reports: {counts}"
            return (*self._kept, Report("reports left out", "info", told))
        return tuple(self._kept)
