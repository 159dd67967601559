"""A mailbox for tests of pools: remembers what is posted, and can be waited for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pexen.model.attempt import Attempt
from pexen.model.call import call_of
from pexen.model.event import Returned
from pexen.model.result import Outcome
from pexen.model.task import Task, as_task, command

if TYPE_CHECKING:
    from pexen.model.event import Event
    from pexen.pool.base import Pool

BOUND = 30.0
"""Seconds after which something that should have happened has not."""


class Box:
    """Takes events; ``then`` is called with each, on the pool's thread, as a run would decide there."""

    def __init__(self, pool: Pool, then: Callable[[Event], None] | None = None) -> None:
        self.pool = pool
        self.events: list[Event] = []
        self.then = then
        self._changed = threading.Condition()
        self._count = 0
        me = weakref.ref(self)  # a cycle would keep the outcomes, and with them files, until it is collected
        self._post_weakly = lambda event: None if (box := me()) is None else box.post(event)

    def post(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        if self.then:
            self.then(event)

    def post_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.post(event)

    def attempt(self, item: Any, **about: Any) -> Attempt:
        """Return a new attempt at a task, callable, or list of words to execute."""
        self._count += 1
        task = item if isinstance(item, Task) else command(item) if isinstance(item, list | str) else as_task(item)
        return Attempt(task, self._count, call_of(task), self._post_weakly, **about)

    def submit(self, item: Any, **about: Any) -> Attempt:
        attempt = self.attempt(item, **about)
        self.pool.submit(attempt)
        return attempt

    def wait_for(self, attempt: Attempt) -> Outcome:
        """Return the attempt's outcome."""
        self.wait_until(lambda: attempt in self.ended())
        return self.ended()[attempt]

    def run(self, item: Any, **about: Any) -> Outcome:
        """Submit, and return the outcome."""
        return self.wait_for(self.submit(item, **about))

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that an event makes true."""
        with self._changed:
            assert self._changed.wait_for(is_true, BOUND), f"not within {BOUND} s; events: {self.events}"

    def ended(self) -> dict[Attempt, Outcome]:
        """Return the outcomes so far, each attempt's only one."""
        outcomes = [event for event in self.events if isinstance(event, Outcome)]
        found = {outcome.attempt: outcome for outcome in outcomes}
        assert len(found) == len(outcomes), "an attempt with two outcomes"
        return found

    def returned(self) -> list[Attempt]:
        """Return the attempts that came back unstarted."""
        return [event.attempt for event in self.events if isinstance(event, Returned)]
