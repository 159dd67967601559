"""ThreadPool: callables in threads, in the runner's own process.

One queue for all workers, so an attempt handed out ahead of time is taken by whichever worker is free first. A worker
posts its outcome, and with it (see `pexen.sched.mailbox`) usually decides what runs next; `submit` is then called on that
very thread, which is about to look at the queue anyway. Hence the rule that makes a chain of tasks cheap: a submission
from a worker thread wakes nobody for the first queued attempt.

A service keeps its thread, which is none of the workers any more once it is up, and ends with it.

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

from pexen.model.cpus import workers_of
from pexen.model.event import Returned
from pexen.model.result import Outcome, Status
from pexen.pool.base import Killed, Survivors, execute, up
from pexen.pool.evidence import gathered, save, stack_of
from pexen.pool.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

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
        self.workers = workers_of(workers)
        self.spare = SPARE if spare is None else spare
        self.capacity = self.workers + self.spare
        self._files = Files(output)
        self._queue: deque[Attempt] = deque()
        self._idle: deque[threading.Lock] = deque()
        self._threads: dict[int, threading.Thread] = {}
        self._running: dict[int, Attempt] = {}
        self._given_up: dict[int, Attempt] = {}
        self._apart: dict[int, threading.Thread] = {}
        """Threads of services that have come up; perhaps ended since."""
        self._leaving: set[int] = set()
        """Threads in whose place there is another one: they end with their attempt."""
        self._up: dict[Attempt, Future[None]] = {}
        """What the threads of services wait for that are up."""
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
        if not force or self._let_go(attempt, Killed()):
            return
        with self._starting:
            for ident, running in list(self._running.items()):
                threads = self._threads if ident in self._threads else self._apart
                if running is attempt and threads.pop(ident, None) is not None:
                    self._given_up[ident] = attempt
                    self._leaving.add(ident)
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

    def tear_down(self, attempt: Attempt) -> None:
        """Have the service's thread resume it."""
        self._let_go(attempt)

    def _let_go(self, attempt: Attempt, error: BaseException | None = None) -> bool:
        """End the wait of a service that is up, with an error if there is one; tell whether it has been waiting."""
        waiting = self._up.pop(attempt, None)
        if waiting is None or not waiting.set_running_or_notify_cancel():  # its event loop has been cancelled
            return False
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)
        return True

    def close(self) -> Survivors:
        """Hand back what is queued, let running attempts finish, tear down what is up, and end the threads."""
        self._closing = True
        while self._queue and self._mailbox is not None:
            self._mailbox.post(Returned(self._queue.popleft()))
        me = get_ident()
        while self._idle:
            self._wake()
        with self._starting:
            threads = {**self._threads, **self._apart}
        for attempt in list(self._up):
            self._let_go(attempt)
        for ident, thread in threads.items():
            if ident != me:
                while self._idle:
                    self._wake()
                thread.join()
        self._threads.clear()
        self._apart.clear()
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
            number = len(self._threads) + len(self._given_up) + len(self._apart)
            thread = threading.Thread(target=self._work, name=f"pexen-thread-{number}", daemon=True)
            thread.start()
            self._threads[thread.ident or 0] = thread
            self._apart.pop(thread.ident or 0, None)  # that one has ended, or its number would not be given again

    def _work(self) -> None:
        mailbox = self._mailbox
        assert mailbox is not None  # noqa: S101 - open() comes before submit()
        gate = threading.Lock()
        gate.acquire()
        post, running, files, me, serve = mailbox.post, self._running, self._files, get_ident(), self._serve
        while (attempt := self._take(gate)) is not None:
            running[me] = attempt
            outcome = execute(attempt, files, serve)
            del running[me], attempt
            post(outcome)
            if self._leaving and me in self._leaving:
                self._leaving.discard(me)
                self._given_up.pop(me, None)
                return

    def _serve(self, attempt: Attempt, made: Any) -> None:
        """Run a service's generator, in its thread."""
        from pexen.pool.service import drive

        drive(made, _Stand(self._come_up, attempt))

    def _come_up(self, attempt: Attempt, value: Any) -> Future[None]:
        """Free the thread's place and tell that its service is up; return what it has to wait for."""
        from concurrent.futures import Future

        me, waiting = get_ident(), Future[None]()
        with self._starting:
            thread = self._threads.pop(me, None)
            if thread is None:  # it was given up meanwhile
                raise Killed
            self._apart[me] = thread
            self._leaving.add(me)
        self._up[attempt] = waiting
        if self._queue:
            self._start()
        assert self._mailbox is not None  # noqa: S101 - close() waits for this thread
        self._mailbox.post(up(attempt, value))
        if self._closing:
            self._let_go(attempt)
        return waiting

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


class _Stand:
    """A service in its thread, see `pexen.pool.service`."""

    def __init__(self, come_up: Callable[[Attempt, Any], Future[None]], attempt: Attempt) -> None:
        self._come_up = come_up
        self._attempt = attempt

    def come_up(self, value: Any) -> None:
        self._waiting = self._come_up(self._attempt, value)

    def wait(self) -> None:
        self._waiting.result()

    async def until_torn_down(self) -> None:
        from asyncio import wrap_future

        await wrap_future(self._waiting)
