"""The watchdog: ends attempts that take longer than their ``timeout``.

A timer is set when an attempt is handed to its pool, for the earliest moment at which it could be too late; the limit
itself counts from the attempt's real start, which its pool notes, so a timer that fires too early is set again. When
one strikes, the attempt is asked to stop (its cancel token, or TERM), and after its ``grace`` it is ended by force. What
cannot be ended (a thread) is given up: its result is ``timeout``, its locks stay held, and its place is taken by another.

A timer that fires late is not believed: the runner was stopped, so results may be waiting to be read, and the attempt
gets another `STALL` seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pexen.model.result import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.sched.timers import Timers

STALL = 0.5
"""Seconds of lateness from which on a timer says more about the machine than about a task."""
GIVE_UP = 1.0
"""Seconds for the outcome of a forced end to arrive, before the attempt is given up."""


class Watchdog:
    """Watches the attempts of a run; ``flying`` are those in flight, ``post`` takes outcomes of what is given up."""

    def __init__(
        self, flying: Mapping[int, Attempt], post: Callable[[Event], None], timers: Timers, default: float | None
    ) -> None:
        self._flying = flying
        self._post = post
        self._timers = timers
        self._default = default
        self.clock: Callable[[], float] = time.monotonic

    def watch(self, attempt: Attempt) -> None:
        """Watch an attempt that is about to be submitted."""
        limit = attempt.task.timeout if "timeout" in attempt.task.meta else self._default
        if limit is not None:
            self._timers.at(self.clock() + limit, lambda late: self._look(attempt, limit, late))

    def _is_over(self, attempt: Attempt) -> bool:
        return self._flying.get(attempt.id) is not attempt

    def _look(self, attempt: Attempt, limit: float, late: float) -> None:
        if self._is_over(attempt):
            return
        now = self.clock()
        if late > STALL:
            due = now + STALL
        else:
            due = (attempt.started or now) + limit
        if due > now:
            self._timers.at(due, lambda late: self._look(attempt, limit, late))
            return
        attempt.struck = f"took longer than its timeout of {limit:g} s"
        attempt.lane.pool.cancel(attempt, force=False)
        self._timers.at(now + attempt.task.grace, lambda _late: self._force(attempt))

    def _force(self, attempt: Attempt) -> None:
        if not self._is_over(attempt):
            attempt.lane.pool.cancel(attempt, force=True)
            self._timers.at(self.clock() + GIVE_UP, lambda _late: self._give_up(attempt))

    def _give_up(self, attempt: Attempt) -> None:
        """Report an attempt that cannot be ended; whoever runs it still holds what it took."""
        if not self._is_over(attempt):
            started = attempt.started
            self._post(
                Outcome(
                    attempt, Status.TIMEOUT, None, started, self.clock() - started, freed=False,
                    reason=f"{attempt.struck}; it cannot be ended and still runs",
                )
            )  # fmt: skip
            attempt.lane.pool.cancel(attempt, force=True)
