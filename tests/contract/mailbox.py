"""A mailbox that remembers, for tests of pools without a run."""

import threading
from collections.abc import Callable, Iterable
from time import monotonic

from pexen.model.attempt import Attempt
from pexen.model.event import Event, Reported, Returned
from pexen.model.result import Outcome, Report

BOUND = 30.0
"""Seconds that anything waited for may take, on a busy machine too."""


class Mailbox:
    """Records every event in order. ``on_event`` is called with each one, on the thread that posts it."""

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        self.events: list[Event] = []
        self.on_event = on_event
        self._changed = threading.Condition()

    def post(self, event: Event) -> None:
        self.post_all([event])

    def post_all(self, events: Iterable[Event]) -> None:
        fresh = list(events)
        with self._changed:
            self.events += fresh
            self._changed.notify_all()
        if self.on_event is not None:  # not under the lock: it may submit
            for event in fresh:
                self.on_event(event)

    def wait_until(self, true: Callable[[], bool], bound: float = BOUND) -> None:
        """Wait until the events make ``true`` so; fail with what there is when that takes too long."""
        with self._changed:
            assert self._changed.wait_for(true, bound), f"after {bound} s there is only {self.events}"

    def wait_for_ends(self, count: int, bound: float = BOUND) -> None:
        """Wait for the ends (outcomes or returns) of ``count`` attempts."""
        self.wait_until(lambda: len(self.ends) >= count, bound)

    @property
    def ends(self) -> list[Outcome | Returned]:
        return [event for event in self.events if isinstance(event, Outcome | Returned)]

    @property
    def outcomes(self) -> list[Outcome]:
        return [event for event in self.events if isinstance(event, Outcome)]

    @property
    def returned(self) -> list[Attempt]:
        return [event.attempt for event in self.events if isinstance(event, Returned)]

    def reports(self, attempt: Attempt | None = None) -> list[Report]:
        """Return the reports of one attempt, or of all."""
        reported = [event for event in self.events if isinstance(event, Reported)]
        return [event.report for event in reported if attempt is None or event.attempt is attempt]


class Stopwatch:
    """Fails when its block has taken longer than a bound in seconds."""

    def __init__(self, bound: float) -> None:
        self._bound = bound

    def __enter__(self) -> None:
        self._start = monotonic()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            took = monotonic() - self._start
            assert took < self._bound, f"took {took:.1f} s"
