"""InlinePool: tasks run one after the other in the thread that drives the run. For debugging.

Posting an outcome makes the run submit the next attempt before `post` returns, so a plain call from `submit` would
recurse as deep as the graph is long. Therefore `submit` only enqueues, and whoever waits for results runs what is queued.
"""

from __future__ import annotations

import os
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING

from pexen.model.context import CURRENT
from pexen.model.event import Returned
from pexen.model.result import Outcome, Status
from pexen.pool.base import Survivors, execute
from pexen.pool.evidence import gathered, save, stack_of
from pexen.pool.files import Files

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.pool.base import Mailbox


class InlinePool:
    """Runs each attempt in the thread that calls `run_queued`: the one that consumes the run's results.

    ``output`` is the folder for what attempts attach, by default a private one that lives as long as the results.
    """

    executes = False
    workers = 1
    capacity = 1
    driven = True
    """Whoever drives the run has to call `run_queued`."""

    def __init__(self, *, output: str | os.PathLike[str] | None = None) -> None:
        self._files = Files(output)
        self._running: tuple[int, Attempt] | None = None
        self._queue: deque[Attempt] = deque()
        self._mailbox: Mailbox | None = None

    def open(self, mailbox: Mailbox) -> None:
        """Remember where to post."""
        self._mailbox = mailbox

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt."""
        self._queue.append(attempt)

    def has_queued(self) -> bool:
        """Tell whether `run_queued` has something to do."""
        return bool(self._queue)

    def run_queued(self) -> bool:
        """Run one queued attempt here; return whether there was one. A KeyboardInterrupt of the user goes through."""
        if not self._queue or self._mailbox is None:
            return False
        token = CURRENT.set(None)
        attempt = self._queue.popleft()
        self._running = get_ident(), attempt
        try:
            outcome = execute(attempt, self._files)
        finally:
            self._running = None
            CURRENT.reset(token)
        self._mailbox.post(outcome)
        return True

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Take the attempt out if it has not started, else set its cancel token."""
        attempt.cancelled = True
        try:
            self._queue.remove(attempt)
        except (ValueError, IndexError):  # it runs, or is just about to
            return
        if self._mailbox is not None:
            self._mailbox.post(Outcome(attempt, Status.CANCELLED, reason="cancelled before it started"))

    def examine(self, attempt: Attempt) -> None:
        """Note where the attempt's thread is."""
        running = self._running
        if running is not None and running[1] is attempt:
            attempt.files = self._files
            save(attempt, gathered(stacks=stack_of(running[0])))

    def close(self) -> Survivors:
        """Hand back what has not been run."""
        while self._queue and self._mailbox is not None:
            self._mailbox.post(Returned(self._queue.popleft()))
        self._mailbox = None
        self._files.close()
        return Survivors()
