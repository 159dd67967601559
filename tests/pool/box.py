"""A pool with a mailbox: submit what a task can be made of, wait for how it ends."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pexen.model.attempt import Attempt
from pexen.model.call import call_of
from pexen.model.event import Event
from pexen.model.result import Outcome
from pexen.model.task import Task, as_task, command
from pexen.pool.base import Pool
from tests.contract.mailbox import Mailbox


class Box(Mailbox):
    """The mailbox of one pool, which the test opens and closes."""

    def __init__(self, pool: Pool, on_event: Callable[[Event], None] | None = None) -> None:
        super().__init__(on_event)
        self.pool = pool
        self._count = 0
        me = weakref.ref(self)  # a cycle would keep the outcomes, and with them files, until it is collected
        self._post_weakly = lambda event: None if (box := me()) is None else box.post(event)

    def attempt(self, item: Any, **about: Any) -> Attempt:
        """Return a new attempt at a task, a callable, a list of words to execute, or a string for the shell."""
        self._count += 1
        task = item if isinstance(item, Task) else command(item) if isinstance(item, list | str) else as_task(item)
        return Attempt(task, self._count, call_of(task), self._post_weakly, **about)

    def submit(self, item: Any, **about: Any) -> Attempt:
        """Submit such an attempt and return it."""
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

    def ended(self) -> dict[Attempt, Outcome]:
        """Return the outcomes so far, each attempt's only one."""
        found = {outcome.attempt: outcome for outcome in self.outcomes}
        assert len(found) == len(self.outcomes), "an attempt with two outcomes"
        return found
