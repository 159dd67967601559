"""ThreadPool: callables in threads, in the runner's own process.

One queue for all workers, so an attempt handed out ahead of time is taken by whichever worker is free first. A worker
posts its outcome, and with it (see `pexen.sched.mailbox`) usually decides what runs next; `submit` is then called on that
very thread, which is about to look at the queue anyway. Hence the rule that makes a chain of tasks cheap: a submission
from a worker thread wakes nobody for the first queued attempt.

A thread waits by acquiring its own locked lock. It announces itself in ``_idle`` *before* it looks at the queue for the
last time, and `submit` enqueues *before* it looks at ``_idle``: whichever comes second sees the other.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING

from pexen.model.cpus import usable_cpus
from pexen.model.event import Returned
from pexen.model.result import Outcome, Status
from pexen.pool.base import Survivors, execute
from pexen.pool.evidence import gathered, save, stack_of
from pexen.pool.files import Files

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.pool.base import Mailbox

SPARE = 16
"""Attempts queued beyond the workers: enough that a worker never finds the queue empty between two short tasks."""


class ThreadPool:
    """Runs callables in ``workers`` threads (default: the usable CPUs). A running callable cannot be killed.

    ``output`` is the folder for what attempts attach, by default a private one that lives as long as the results. What
    they print is not captured: all threads share the standard streams.
    """

    executes = False

    def __init__(
        self,
        workers: int | None = None,
        *,
        spare: int | None = None,
        output: str | os.PathLike[str] | None = None,
    ) -> None:
        self.workers = workers or usable_cpus()
        self.spare = SPARE if spare is None else spare
        self.capacity = self.workers + self.spare
        self._files = Files(output)
        self._queue: deque[Attempt] = deque()
        self._idle: deque[threading.Lock] = deque()
        self._threads: dict[int, threading.Thread] = {}
        self._running: dict[int, Attempt] = {}
        self._given_up: dict[int, Attempt] = {}
        self._mailbox: Mailbox | None = None
        self._starting = threading.Lock()
        self._closing = False

    def open(self, mailbox: Mailbox) -> None:
        """Remember where to post; threads start with the first attempts."""
        self._mailbox = mailbox
        self._closing = False

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt and wake or start a worker if nobody is about to look at the queue."""
        queue = self._queue
        queue.append(attempt)
        me = get_ident()
        if len(queue) <= (me in self._threads and me not in self._running):
            return
        if self._idle:
            self._wake()
        elif len(self._threads) < self.workers:
            self._start()

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Take the attempt out if it has not started, else set its cancel token; with ``force`` give its thread up.

        A thread cannot be killed; another one takes its place.
        """
        attempt.cancelled = True
        if self._mailbox is not None and self._is_taken_out(attempt):
            self._mailbox.post(Outcome(attempt, Status.CANCELLED, reason="cancelled before it started"))
            return
        if not force:
            return
        with self._starting:
            for ident, running in list(self._running.items()):
                thread = self._threads.pop(ident, None) if running is attempt else None
                if thread is not None:
                    self._given_up[ident] = attempt
        if self._queue:
            self._start()

    def _is_taken_out(self, attempt: Attempt) -> bool:
        """Take an attempt out of the queue; tell whether it was there."""
        while True:
            try:
                self._queue.remove(attempt)
            except ValueError:
                return False
            except IndexError:  # a worker has taken one meanwhile
                continue
            return True

    def examine(self, attempt: Attempt) -> None:
        """Note where the attempt's thread is."""
        for ident, running in list(self._running.items()):
            if running is attempt:
                attempt.files = self._files
                save(attempt, gathered(stacks=stack_of(ident)))

    def close(self) -> Survivors:
        """Hand back what is queued, let running attempts finish, and end the threads."""
        self._closing = True
        while self._queue and self._mailbox is not None:
            self._mailbox.post(Returned(self._queue.popleft()))
        me = get_ident()
        while self._idle:
            self._wake()
        for ident, thread in list(self._threads.items()):
            if ident != me:
                while self._idle:
                    self._wake()
                thread.join()
        self._threads.clear()
        self._mailbox = None
        self._files.close()
        return Survivors(tuple(self._given_up.values()))

    def _wake(self) -> None:
        with contextlib.suppress(IndexError):
            self._idle.popleft().release()

    def _start(self) -> None:
        """Start one more worker, unless another thread has just done it."""
        with self._starting:
            if len(self._threads) >= self.workers or self._closing:
                return
            number = len(self._threads) + len(self._given_up)
            thread = threading.Thread(target=self._work, name=f"pexen-thread-{number}", daemon=True)
            thread.start()
            self._threads[thread.ident or 0] = thread

    def _work(self) -> None:
        mailbox = self._mailbox
        assert mailbox is not None  # noqa: S101 - open() comes before submit()
        gate = threading.Lock()
        gate.acquire()
        post, running, files, me = mailbox.post, self._running, self._files, get_ident()
        while (attempt := self._take(gate)) is not None:
            running[me] = attempt
            outcome = execute(attempt, files)
            del running[me], attempt
            post(outcome)
            if self._given_up and self._given_up.pop(me, None) is not None:
                return  # another thread has this one's place

    def _take(self, gate: threading.Lock) -> Attempt | None:
        """Return the next attempt, waiting for one; None when the pool closes."""
        queue, idle = self._queue, self._idle
        while True:
            try:
                return queue.popleft()
            except IndexError:
                pass
            if self._closing:
                return None
            idle.append(gate)
            if queue or self._closing:
                try:
                    idle.remove(gate)
                except ValueError:
                    gate.acquire()  # somebody has just woken this thread
                continue
            gate.acquire()
