"""When to try again to start a worker, and when to give up. Pure: the caller knows the time.

A worker that cannot be started is tried again, further apart each time, for what is missing may come back: descriptors,
processes, memory. As long as others work there is no hurry and no end to it. With nobody left to do the work, `TRIES`
failures in a row are enough.
"""

from __future__ import annotations

TRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Hiring:
    """``next_try`` is the time before which nothing is to be tried."""

    def __init__(self) -> None:
        self._failures = 0
        self.next_try = 0.0

    def note_success(self) -> None:
        """Note that a worker has come up."""
        self._failures, self.next_try = 0, 0.0

    def note_failure(self, now: float, *, others_work: bool) -> bool:
        """Note that a worker could not be started; return whether it is time to give up."""
        self._failures += 1
        self.next_try = now + min(FIRST_PAUSE * 2 ** min(self._failures - 1, 30), LONGEST_PAUSE)
        return self._failures >= TRIES and not others_work
