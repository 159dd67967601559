"""InlinePool: tasks run one after the other in the thread that drives the run. For debugging.

Posting an outcome makes the run submit the next attempt before `post` returns, so a plain call from `submit` would
recurse as deep as the graph is long. Therefore `submit` only enqueues, and whoever waits for results runs what is queued.

A service that is up is a generator at its yield, and its teardown is queued like an attempt. An asynchronous one keeps its
event loop, which stands still in between: its background tasks do not run while other attempts do.
"""

from __future__ import annotations

import os
from collections import deque
from contextvars import copy_context
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from pexen.model.call import Kind
from pexen.model.context import CURRENT
from pexen.model.event import Returned, Up
from pexen.model.result import Outcome, Status
from pexen.pool.base import Killed, Survivors, called, complete, execute, outcome_of, up
from pexen.pool.evidence import gathered, save, stack_of
from pexen.pool.files import Files
from pexen.pool.service import begin, close, driven, end, is_asynchronous

if TYPE_CHECKING:
    from contextvars import Context as Surroundings

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
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
        self._services: dict[Attempt, _Service] = {}
        """Those that are up."""
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
        event: Event
        try:
            if attempt.call.kind is Kind.GENERATOR:
                event = self._serve(attempt)
            else:
                event = execute(attempt, self._files)
        finally:
            self._running = None
            CURRENT.reset(token)
        self._mailbox.post(event)
        return True

    def _serve(self, attempt: Attempt) -> Event:
        """Have a service come up, or end if it is up."""
        service = self._services.pop(attempt, None)
        if service is None:
            service = _Service(attempt)
            attempt.files = self._files
            event = service.set_up()
            if isinstance(event, Up):
                self._services[attempt] = service
                return event
        else:
            event = service.end()
        complete(event, self._files)
        return event

    def tear_down(self, attempt: Attempt) -> None:
        """Queue the teardown of a service that is up."""
        if attempt in self._services and attempt not in self._queue:
            self._queue.append(attempt)

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Take the attempt out if it has not started, else set its cancel token; with ``force`` close a service that is up."""
        attempt.cancelled = True
        service = self._services.get(attempt)
        if service is not None:
            service.is_killed = service.is_killed or force
            if force and attempt not in self._queue:
                self._queue.append(attempt)
            return
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
        """Hand back what has not been run, and tear down what is up."""
        while self._queue and self._mailbox is not None:
            attempt = self._queue.popleft()
            if attempt not in self._services:
                self._mailbox.post(Returned(attempt))
        while self._services and self._mailbox is not None:
            self._mailbox.post(self._serve(next(reversed(self._services))))
        self._mailbox = None
        self._files.close()
        return Survivors()


class _Service:
    """A service that is driven by halves, both in the same contextvars."""

    is_killed = False

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._surroundings: Surroundings = copy_context()
        self._loop: _Loop | None = None

    def set_up(self) -> Up | Outcome:
        """Run it to its yield; return that it is up, or how it has ended."""
        self._attempt.started = monotonic()
        try:
            return up(self._attempt, self._surroundings.run(self._begin))
        except BaseException as error:
            return self._ended(error)

    def end(self) -> Outcome:
        """Resume it, or close it if it is killed; return how it has ended."""
        try:
            self._surroundings.run(self._end)
        except BaseException as error:
            return self._ended(error)
        return self._ended(None)

    def _begin(self) -> Any:
        CURRENT.set(self._attempt)
        self._made = called(self._attempt)
        if is_asynchronous(self._made):
            self._loop = _Loop(self._made)
            return self._loop.begin()
        return begin(self._made)

    def _end(self) -> None:
        if self._loop is not None:
            self._loop.end(Killed() if self.is_killed else None)
        elif self.is_killed:
            close(self._made)
            raise Killed
        else:
            end(self._made)

    def _ended(self, error: BaseException | None) -> Outcome:
        attempt = self._attempt
        outcome = Outcome(attempt, Status.PASSED) if error is None else outcome_of(attempt, error)
        outcome.started, outcome.duration = attempt.started, monotonic() - attempt.started
        return outcome


class _Loop:
    """The event loop of an asynchronous service, which runs only while it is set up and while it is torn down.

    One task does both: timeouts and cancel scopes are entered and left in the same one.
    """

    def __init__(self, made: Any) -> None:
        import asyncio

        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._torn_down: asyncio.Future[None] = self._loop.create_future()
        self._error: BaseException | None = None
        self._task = self._loop.create_task(self._drive(made))

    async def _drive(self, made: Any) -> None:
        try:
            await driven(made, self)
        except BaseException as error:
            self._error = error
        self._loop.stop()

    def begin(self) -> Any:
        """Return the value when it is up."""
        self._go_on()
        return self._value

    def end(self, error: BaseException | None) -> None:
        """Have it torn down, or closed by an error."""
        if self._torn_down.done():  # somebody has cancelled its task
            pass
        elif error is None:
            self._torn_down.set_result(None)
        else:
            self._torn_down.set_exception(error)
        self._go_on()

    def _go_on(self) -> None:
        stays = False
        try:
            self._loop.run_forever()
            stays = not self._task.done()
        finally:
            if not stays:
                self._runner.close()
        if self._error is not None:
            raise self._error

    # -- see `pexen.pool.service` -----------------------------------------------------------------------------------

    def come_up(self, value: Any) -> None:
        """Have `begin` return the value."""
        self._value = value
        self._loop.stop()

    async def until_torn_down(self) -> None:
        """Wait for `end`."""
        await self._torn_down

    def wait(self) -> None:
        """Not for this one."""
