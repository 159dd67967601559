"""Strays: processes that somebody has left and that cannot be told to belong to an attempt, see `pexen.pool.tree`.

Where a subreaper has no other children than the runner (the guardian of ``pexen run``), all its others are orphans of the
run. One that is older than every attempt that runs belongs to none of them, and is ended; so all of them are as soon as
nothing runs. Looking costs 14 µs while there are none.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pexen.pool import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pexen.model.attempt import Attempt
    from pexen.sched.timers import Timers

OFTEN = 1.0
"""Seconds between two looks."""


class Strays:
    """Ends the strays among the children of ``reaper``, and tells ``notice`` of them. Stops with the timers."""

    def __init__(
        self, reaper: int, flying: Mapping[int, Attempt], timers: Timers, notice: Callable[[str], None]
    ) -> None:
        self._reaper = reaper
        self._flying = flying
        self._timers = timers
        self._notice = notice
        self._ticks = os.sysconf("SC_CLK_TCK")

    def look(self, _late: float = 0.0) -> None:
        """End those that there are now, and look again later."""
        keep = {os.getpid()}
        if tree.has_orphans(self._reaper, keep):
            toll = tree.end(tree.below(self._reaper, keep, before=self._oldest()))
            if toll.killed:
                self._notice(f"ended {toll}, left behind by a task that has ended")
        self._timers.at(time.monotonic() + OFTEN, self.look)

    def _oldest(self) -> float:
        """Return when the oldest attempt in flight has begun, as processes tell it; infinite when there is none."""
        started = min((one.started or 0.0 for one in list(self._flying.values())), default=float("inf"))
        boot = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        return (started + boot) * self._ticks - 1
