"""Virtual time: a clock that stands still until it is told to go on, so that a test of an hour takes no time.

Things to be done at a time are *appointments*. They are kept in time order, those of the same instant in the order in
which they were made, so the same calls give the same history always. After trio's ``MockClock``, without the autojump:
whoever drives the clock says so.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Appointment:
    """Something to be done at the virtual time ``when``, unless it is cancelled before."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when = when
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Have nothing done; once it is done there is nothing to cancel, and that is fine."""
        self.action = None


class VirtualClock:
    """Returns virtual monotonic seconds when called: usable wherever ``time.monotonic`` is. Never goes back."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)
        self._count = 0
        self._heap: list[tuple[float, int, Appointment]] = []

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def call_at(self, when: float, action: Callable[[], object]) -> Appointment:
        """Have ``action()`` called when the time has come; for a time that is past, at the next step of the clock."""
        appointment = Appointment(max(when, self._now), action)
        self._count += 1
        heapq.heappush(self._heap, (appointment.when, self._count, appointment))
        return appointment

    def call_later(self, seconds: float, action: Callable[[], object]) -> Appointment:
        """Have ``action()`` called ``seconds`` from now."""
        return self.call_at(self._now + seconds, action)

    def next_at(self) -> float | None:
        """Return the time of the next appointment; None when there is none."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_next(self) -> bool:
        """Go to the next appointment and do what was to be done; False when there is none.

        The time is set before the action runs, which may make, cancel and run appointments itself.
        """
        when = self.next_at()
        if when is None:
            return False
        appointment = heapq.heappop(self._heap)[2]
        self._now = max(self._now, when)
        action, appointment.action = appointment.action, None
        if action is not None:
            action()
        return True

    def run_until_idle(self) -> None:
        """Go from appointment to appointment, also to those made on the way, until none is left."""
        while self.run_next():
            pass

    def jump(self, to: float) -> None:
        """Go to the time ``to``, doing on the way what is to be done up to then."""
        if not to >= self._now:  # so also for nan
            raise ValueError(f"a clock does not go back: from {self._now} to {to}")
        while (when := self.next_at()) is not None and when <= to:
            self.run_next()
        self._now = max(self._now, float(to))

    def advance(self, seconds: float) -> None:
        """Go on by ``seconds``, doing on the way what is to be done."""
        self.jump(self._now + seconds)
