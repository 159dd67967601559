"""How many attempts a worker is sent ahead of time: enough to hide the way there and back, which takes 50 to 100 µs.

A worker that waits for its next attempt after each one loses that time, so short tasks want some work waiting: 2 ms of
it, judged by how long attempts have taken so far. Above 1 ms nothing is won by it, and much is lost: what waits behind a
long task could have run elsewhere, or could have been chosen better later.

An exponential moving average, a tenth of the way each time: one odd task does not decide, except that one of minutes
among those of microseconds ends it for a while, as it should. While nothing is known, one.
"""

from __future__ import annotations

WORK = 0.002
"""Seconds of work that wait at a worker, if its tasks are short."""
LONG = 0.001
"""Seconds above which nothing is sent ahead of time."""
MOST = 64
_SHARE = 0.1


class Ahead:
    """Follows how long attempts take. ``count`` is how many to send ahead of time, for each worker."""

    def __init__(self) -> None:
        self.count = 1
        self._typical: float | None = None

    def note(self, duration: float) -> None:
        """Take in how many seconds an attempt has taken."""
        before = self._typical
        self._typical = now = duration if before is None else before + (duration - before) * _SHARE
        if now >= LONG:
            self.count = 0
        else:
            self.count = MOST if now * MOST <= WORK else int(WORK / now)


class Fixed:
    """What somebody wants: ``spare`` attempts ahead of time, for all workers together."""

    def __init__(self, spare: int, workers: int) -> None:
        self.count = -(-spare // workers)

    def note(self, duration: float) -> None:
        """Take no notice."""
