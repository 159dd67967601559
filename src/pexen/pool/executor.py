"""ExecutorPool: callables in whatever `concurrent.futures.Executor` somebody has.

An executor may pickle, spawn processes or block in its ``submit``, and calls back from any thread. So one thread of the
pool's own does all that concerns it, one thing after the other, and posts what comes of it; everybody else leaves it there
as something to call.

An executor can do three things: run, take back what has not begun, and break. When it is broken nobody knows which attempt
has done that: with several in flight all of them are ``lost``, and the run ends with a `PoolError`.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from pexen.errors import PoolError
from pexen.model.call import Kind
from pexen.model.cpus import workers_of
from pexen.model.event import Broken, Returned
from pexen.model.result import Outcome, Status
from pexen.pool.base import Survivors, failure_of
from pexen.pool.elsewhere import Work
from pexen.pool.evidence import gathered, save, stack_of
from pexen.pool.files import Files
from pexen.pool.ship import CannotShip

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.pool.base import Mailbox


@dataclass(slots=True)
class _Flight:
    attempt: Attempt
    work: Work
    future: Future[Any] = field(default_factory=Future)


class ExecutorPool:
    """Runs callables in ``executor``, ``workers`` at a time: by default as many as it says it has, else the usable CPUs.

    The executor stays the caller's, who also shuts it down. What runs in it cannot be ended, and services cannot be kept
    there. In other processes `pexen.current` tells about the attempt, but nothing can be reported or attached from there,
    and limits count from when it is handed over. ``output`` is the folder for what attempts attach.
    """

    executes = False

    def __init__(
        self, executor: Executor, workers: int | None = None, *, output: str | os.PathLike[str] | None = None
    ) -> None:
        if not callable(getattr(executor, "submit", None)) or isinstance(executor, type):
            raise PoolError(f"this is no executor: {executor!r}", hint="ExecutorPool(ProcessPoolExecutor(4))")
        told = getattr(executor, "_max_workers", None)
        self.workers = self.capacity = workers_of(workers, told if isinstance(told, int) and told > 0 else None)
        self._executor = executor
        self._files = Files(output)
        self._todo: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._flying: dict[int, _Flight] = {}
        self._given_up: set[int] = set()
        self._mailbox: Mailbox | None = None
        self._thread: threading.Thread | None = None
        self._broken = ""
        self._lost = Status.LOST
        self._closing = False

    def open(self, mailbox: Mailbox) -> None:
        """Start the thread that deals with the executor."""
        self._mailbox = mailbox
        self._todo = SimpleQueue()  # what is given up may still call back, to nobody
        self._flying, self._given_up = {}, set()
        self._broken, self._closing = "", False
        self._thread = threading.Thread(target=self._work, args=(self._todo,), name="pexen-executor", daemon=True)
        self._thread.start()

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt."""
        self._todo.put(partial(self._begin, attempt))

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Take the attempt out if it has not started, else set its cancel token; with ``force`` give it up."""
        attempt.cancelled = True
        self._todo.put(partial(self._cancel, attempt, force))

    def examine(self, attempt: Attempt) -> None:
        """Note where the attempt's thread is, if it has one in this process."""
        flight = self._flying.get(attempt.id)
        if flight is not None and flight.work.thread:
            attempt.files = self._files
            save(attempt, gathered(stacks=stack_of(flight.work.thread)))

    def tear_down(self, attempt: Attempt) -> None:
        """Raise `PoolError`: no service ever comes up here."""
        raise PoolError(_NO_SERVICE)

    def close(self) -> Survivors:
        """Take back what has not started, wait for what runs and was not given up, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return Survivors()
        self._todo.put(self._begin_to_close)
        if thread.ident != get_ident():
            thread.join()
        survivors = tuple(flight.attempt for flight in list(self._flying.values()))
        self._mailbox = None
        self._files.close()
        return Survivors(survivors)

    # -- in the pool's own thread ---------------------------------------------------------------------------------

    def _work(self, todo: SimpleQueue[Callable[[], None]]) -> None:
        while not (self._closing and self._given_up.issuperset(self._flying)):
            todo.get()()
        while not todo.empty():
            todo.get()()

    def _post(self, *events: Event) -> None:
        if self._mailbox is not None:
            self._mailbox.post_all(events)

    def _begin(self, attempt: Attempt) -> None:
        if self._closing or self._broken:
            self._post(Returned(attempt))
            return
        if attempt.call.kind is Kind.GENERATOR:
            self._post(Outcome(attempt, Status.ERROR, reason=_NO_SERVICE))
            return
        flight = self._flying[attempt.id] = _Flight(attempt, Work(attempt, self._files))
        try:
            flight.future = self._executor.submit(flight.work)
        except BaseException as error:
            del self._flying[attempt.id]
            self._post(*self._break(error), Returned(attempt))
            return
        todo = self._todo
        flight.future.add_done_callback(lambda _: todo.put(partial(self._ended, attempt.id)))

    def _ended(self, id: int) -> None:  # noqa: A002 - the attempt's
        events = self._verdict(self._flying[id])
        del self._flying[id]
        self._post(*events)

    def _verdict(self, flight: _Flight) -> list[Event]:
        """Return what has become of an attempt that the executor is through with."""
        attempt = flight.attempt
        try:
            told = flight.future.result()
        except CancelledError as error:
            if attempt.cancelled and not self._closing:
                return [Outcome(attempt, Status.CANCELLED, reason="cancelled before it started")]
            broken = [] if self._closing else self._break(error)  # its owner has shut it down
            return [*broken, Returned(attempt)]
        except BrokenExecutor as error:
            broken = self._break(error)
            return [*broken, self._failed(attempt, self._lost, reason=f"the executor is broken: {self._broken}")]
        except BaseException as error:
            failure = error.failure() if isinstance(error, CannotShip) else failure_of(error)
            return [self._failed(attempt, Status.ERROR, failure=failure)]
        return [told if isinstance(told, Outcome) else self._answered(attempt, told)]

    def _break(self, error: BaseException) -> list[Event]:
        """Note that no more can be done; return what is to be told of it, once."""
        if self._broken:
            return []
        self._broken = f"{type(error).__name__}: {error}"
        self._lost = Status.CRASHED if len(self._flying) == 1 else Status.LOST
        return [Broken("executor", self._broken)]

    def _failed(self, attempt: Attempt, status: Status, **rest: Any) -> Outcome:
        started = attempt.started
        return Outcome(attempt, status, None, started, monotonic() - started if started else 0.0, **rest)

    def _answered(self, attempt: Attempt, answer: Any) -> Outcome:
        """Return what has come from another process; its clock may be that of another machine."""
        from pexen.pool.answer import ending

        started = attempt.started
        outcome, _ = ending(attempt, answer, None, 0)
        attempt.started = outcome.started = started
        return outcome

    def _cancel(self, attempt: Attempt, force: bool) -> None:
        flight = self._flying.get(attempt.id)
        if flight is not None and not flight.future.cancel() and force:
            self._given_up.add(attempt.id)

    def _begin_to_close(self) -> None:
        self._closing = True
        for flight in list(self._flying.values()):
            flight.future.cancel()


_NO_SERVICE = "an executor cannot keep a service up; give it the pool= of another one"
