"""How one attempt runs on an event loop: as a single asyncio task in contextvars of its own.

What an attempt starts belongs to it. Asyncio tasks that it has not awaited are cancelled when it ends, and waited for, as
`asyncio.run` does. Functions that it has in threads (`asyncio.to_thread`) cannot be cancelled: while one of them still runs
the attempt's outcome says so, and its locks are held.

A service comes up, waits and is torn down in the same task: cancel scopes and contextvars depend on that.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError
from pexen.model.call import Kind
from pexen.model.context import CURRENT
from pexen.model.event import Freed, Up
from pexen.model.result import Outcome, Status
from pexen.pool.base import called, left_by, outcome_of
from pexen.pool.evidence import stack_of, stack_of_awaits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.pool.files import Files

_SHOWN = 10
"""Asyncio tasks of one attempt whose stacks are evidence."""
_HINT = "what stands before its yield sets up, what stands behind it tears down"
_DEAF = "it did not stop when asked"


class OnLoop:
    """An attempt on the loop; ``at_up`` is called when it is a service that has come up. To be used on the loop.

    ``counts`` says whether it takes one of the pool's places, ``is_up`` that it is a service that has come up, ``forced``
    that it was given up, ``outcome`` how it ended.
    """

    def __init__(self, attempt: Attempt, files: Files, at_up: Callable[[OnLoop], None]) -> None:
        self.attempt = attempt
        self.counts = True
        self.forced = False
        self.is_up = False
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[None]
        self.tasks: set[asyncio.Task[Any]] = set()
        self.futures: set[Future[Any]] = set()
        self._files = files
        self._at_up = at_up
        self._leaving = asyncio.Event()
        self._is_dropped = False
        self._generator: AsyncGenerator[Any, None] | None = None
        self._whole: Any = self._run()  # the types know coroutines by less than they are

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Let it run; return its task."""
        from contextvars import Context

        self.task = loop.create_task(self._whole, context=Context())
        return self.task

    def leave(self) -> None:
        """Have the service torn down."""
        self._leaving.set()

    def cancel(self, *, force: bool) -> None:
        """Cancel it. A service that is up only notes that it was asked to stop, since it is torn down in good order."""
        self.forced = self.forced or force
        if force or not self.is_up or self._leaving.is_set():
            self.task.cancel()

    def wind_up(self) -> None:
        """Have it end, since the pool is closed."""
        if self.is_up:
            self.leave()
        else:
            self.attempt.cancelled = True
            self.task.cancel()

    def drop(self) -> None:
        """End what does not stop when asked; the loop has stopped for good."""
        self._is_dropped = True
        with suppress(BaseException):
            self._whole.close()

    def end(self) -> Outcome:
        """Return how it has ended."""
        outcome, self.outcome = self.outcome, None
        if outcome is None:  # dropped while it waited for its tasks, or cancelled before its first step
            reason = _DEAF if self.attempt.started else "cancelled before it started"
            outcome = Outcome(self.attempt, Status.CANCELLED, reason=reason)
        self.futures = {future for future in list(self.futures) if not future.done()}
        outcome.freed = not self.futures
        return outcome

    def post_freed(self, post: Callable[[Event], None]) -> None:
        """Tell when the threads that it has left behind are through."""
        if self.futures:
            self.futures.pop().add_done_callback(lambda _: self.post_freed(post))
        else:
            post(Freed(self.attempt))

    def stacks(self, thread: int) -> str:
        """Return where it is, and where the tasks are that it has started. From any thread."""
        if self._whole.cr_running:
            return stack_of(thread)
        stacks = [stack_of_awaits(self._generator or self._whole.cr_await)]
        stacks += [f"{task.get_name()}:\n{stack_of_awaits(task.get_coro())}" for task in list(self.tasks)[:_SHOWN]]
        return "".join(stacks)

    async def _run(self) -> None:
        attempt = self.attempt
        CURRENT.set(attempt)
        HELD.set(self)
        attempt.files, attempt.loop = self._files, get_ident()
        attempt.started = started = monotonic()
        try:
            made = called(attempt)
            value = await (self._serve(made) if attempt.call.kind is Kind.GENERATOR else made)
            if attempt.task.expand:
                value = attempt.context().expand(value)
        except BaseException as error:
            outcome = self._ended_by(error)
        else:
            outcome = Outcome(attempt, Status.PASSED, value)
        if self.tasks and not self._is_dropped:
            await self._end_tasks()
        outcome.started, outcome.duration = started, monotonic() - started
        if attempt.made is not None:
            outcome.shared = attempt.made.written
            attempt.made = None
            outcome.left = left_by(attempt, self._files)
        elif attempt.evidence:
            outcome.left = left_by(attempt, self._files)
        self.outcome = outcome

    def _ended_by(self, error: BaseException) -> Outcome:
        if self._is_dropped:
            return Outcome(self.attempt, Status.CANCELLED, reason=_DEAF)
        if isinstance(error, asyncio.CancelledError) and self.attempt.cancelled:
            how = "killed" if self.forced else "cancelled"
            return Outcome(self.attempt, Status.CANCELLED, reason=f"{how} on request")
        return outcome_of(self.attempt, error)

    async def _serve(self, generator: AsyncGenerator[Any, None]) -> None:
        """Be up from the first value on until it is to be torn down."""
        self._generator = generator
        attempt = self.attempt
        try:
            value = await anext(generator)
        except StopAsyncIteration:
            raise DefinitionError("a service that yields nothing", hint=_HINT) from None
        written = None if attempt.made is None else attempt.made.written
        self.is_up = True
        attempt.post(Up(attempt, value, None if written is None else dict(written)))
        self._at_up(self)
        try:
            await self._leaving.wait()
        except asyncio.CancelledError:
            with suppress(BaseException):  # it was not asked how it wants to end
                await generator.aclose()
            raise
        try:
            await anext(generator)
        except StopAsyncIteration:
            return
        await generator.aclose()
        raise DefinitionError("a service yields once", hint=_HINT)

    async def _end_tasks(self) -> None:
        """Cancel the tasks it has left and wait for them, unless it is cancelled itself meanwhile."""
        with suppress(asyncio.CancelledError):
            while self.tasks:  # what is cancelled may start others
                left = list(self.tasks)
                for task in left:
                    task.cancel()
                await asyncio.wait(left)


HELD: ContextVar[OnLoop | None] = ContextVar("pexen_on_loop", default=None)
"""The attempt that whatever is started just now belongs to."""


def make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Make a task that belongs to the attempt in which it is made: the loop's task factory."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    held = HELD.get()
    if held is not None:
        held.tasks.add(task)
        task.add_done_callback(held.tasks.discard)
    return task


class Beside(ThreadPoolExecutor):
    """The loop's default executor: what it runs belongs to the attempt that has asked for it."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="pexen-beside")
        self._running: dict[Future[Any], Attempt] = {}

    def submit(self, what: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function in a thread, as `ThreadPoolExecutor` does."""
        future = super().submit(what, *args, **kwargs)
        held = HELD.get()
        if held is not None:
            self._running[future] = held.attempt
            held.futures.add(future)
            future.add_done_callback(lambda done: self._running.pop(done, None))
            future.add_done_callback(held.futures.discard)
        return future

    def close(self, patience: float) -> list[Attempt]:
        """End the threads; return the attempts of those that are not through after ``patience`` seconds."""
        from concurrent.futures import wait

        self.shutdown(wait=False, cancel_futures=True)
        left = wait(list(self._running), patience).not_done
        if not left:
            self.shutdown()
        return [self._running[future] for future in left if future in self._running]
