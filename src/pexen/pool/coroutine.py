"""AsyncPool: coroutines on one event loop, in the pool's own thread. Plain functions run in threads beside it.

Everything about an attempt on the loop happens in the loop's thread; other threads leave it there (`AsyncPool._call`). One
`call_soon_threadsafe` carries over all attempts that are submitted until the loop gets to it.

**What is asked to stop is cancelled**, the way asyncio does it: `CancelledError` is raised where the coroutine waits. One
that catches that and goes on cannot be ended as long as the loop runs, so it is given up, as a thread is; closing the pool
stops the loop and ends it. A coroutine that does not wait at all stops everybody on the loop: the evidence of each shows
where it is, and closing returns without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from contextvars import Context
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pexen.model.call import Kind, is_asynchronous
from pexen.model.cpus import workers_of
from pexen.model.event import Returned
from pexen.model.result import Outcome, Status
from pexen.pool.base import Survivors
from pexen.pool.evidence import gathered, save
from pexen.pool.files import Files
from pexen.pool.onloop import Beside, OnLoop, make_task
from pexen.pool.thread import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.attempt import Attempt
    from pexen.pool.base import Mailbox

WORKERS = 10_000
"""Coroutines at a time: each takes a few kilobytes, and most of them wait."""
THREADS = 32
"""Plain functions at a time, at most: as many as asyncio itself has in threads."""
GIVE_UP = 1.0
"""Seconds that what was forced to end has for it when the pool is closed."""


class AsyncPool:
    """Runs ``workers`` coroutines (default: 10,000) at a time on one event loop; they are ended by cancellation.

    Plain functions would keep the loop from everybody else; they run in threads, at most 32 at a time. ``output`` is the
    folder for what attempts attach, by default a private one that lives as long as the results. What they print is not
    captured.
    """

    executes = False

    def __init__(self, workers: int | None = None, *, output: str | os.PathLike[str] | None = None) -> None:
        self.workers = self.capacity = workers_of(workers, WORKERS)
        self._threads = ThreadPool(min(self.workers, THREADS), spare=0, output=output)
        self._files = Files(output)
        self._inbox: deque[Attempt] = deque()
        self._rung = False
        self._held: dict[int, OnLoop] = {}
        self._ended: list[tuple[OnLoop, Outcome]] = []
        self._busy = 0
        self._context = Context()
        self._mailbox: Mailbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._beside: Beside | None = None
        self._closing = self._over = False

    def open(self, mailbox: Mailbox) -> None:
        """Start the loop. Raises `OSError` when there is no descriptor left for it."""
        self._mailbox = mailbox
        self._closing = self._over = self._rung = False
        self._held, self._busy = {}, 0
        self._loop = loop = asyncio.new_event_loop()
        loop.set_task_factory(make_task)  # type: ignore[arg-type] # typeshed wants to know every keyword
        self._beside = Beside()
        loop.set_default_executor(self._beside)
        self._threads.open(mailbox)
        self._thread = threading.Thread(target=self._work, args=(loop,), name="pexen-loop", daemon=True)
        self._thread.start()

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt."""
        if not _is_for_the_loop(attempt):
            self._threads.submit(attempt)
            return
        self._inbox.append(attempt)
        self._ring()

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Take the attempt out if it has not started, else cancel it; with ``force`` its place is another's from now on."""
        if not _is_for_the_loop(attempt):
            self._threads.cancel(attempt, force=force)
            return
        attempt.cancelled = True
        self._call(self._cancel, attempt, force)

    def examine(self, attempt: Attempt) -> None:
        """Note where the attempt waits, or its thread is."""
        held = self._held.get(attempt.id)
        if held is None or held.attempt is not attempt:
            self._threads.examine(attempt)
        elif self._thread is not None:
            attempt.files = self._files
            save(attempt, gathered(stacks=held.stacks(self._thread.ident or 0)))

    def tear_down(self, attempt: Attempt) -> None:
        """Have a service resumed after its ``yield``, in the task that it came up in."""
        if _is_for_the_loop(attempt):
            self._call(self._tear_down, attempt)
        else:
            self._threads.tear_down(attempt)

    def close(self) -> Survivors:
        """Hand back what is queued, cancel what runs, and end the loop and the threads."""
        thread, self._thread = self._thread, None
        if thread is None:
            return Survivors()
        self._closing = True
        self._hand_back()
        patience = max([GIVE_UP, *(held.attempt.task.grace for held in list(self._held.values()) if not held.forced)])
        self._call(self._begin_to_end, patience)
        survivors = [*self._threads.close().attempts]
        if thread.ident != get_ident():
            thread.join(patience + 2 * GIVE_UP)
        if thread.is_alive():
            survivors += [held.attempt for held in list(self._held.values())]
        elif self._beside is not None:
            survivors += self._beside.close(GIVE_UP)
        self._hand_back()
        self._mailbox = self._loop = self._beside = None
        self._files.close()
        return Survivors(tuple(survivors))

    def _hand_back(self) -> None:
        while self._inbox and self._mailbox is not None:
            self._mailbox.post(Returned(self._inbox.popleft()))

    # -- from any thread ------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        """Have the loop look into the inbox."""
        if not self._rung:
            self._rung = True
            self._call(self._take)

    def _call(self, what: Callable[..., Any], *args: Any) -> None:
        """Have something called on the loop, never in the contextvars of whoever asks for it."""
        loop, thread = self._loop, self._thread
        if loop is None:
            return
        call = loop.call_soon if thread is not None and thread.ident == get_ident() else loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            call(what, *args, context=self._context)

    # -- on the loop ----------------------------------------------------------------------------------------------

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until the pool is closed."""
        while not self._over:
            # SystemExit in a task that an attempt has started comes out here; whoever awaits the task gets it, too.
            with contextlib.suppress(BaseException):
                loop.run_forever()
        for held in list(self._held.values()):
            held.drop()
            self._end(held)
        self._tell()
        loop.close()

    def _take(self) -> None:
        """Start what there is room for."""
        self._rung = False
        while self._inbox and self._busy < self.workers and not self._closing and self._loop is not None:
            attempt = self._inbox.popleft()
            held = self._held[attempt.id] = OnLoop(attempt, self._files, self._release)
            self._busy += 1
            held.start(self._loop).add_done_callback(partial(self._done, held), context=self._context)

    def _done(self, held: OnLoop, task: asyncio.Task[None]) -> None:
        self._end(held)

    def _end(self, held: OnLoop) -> None:
        """Note how an attempt has ended; many of them are told at once."""
        self._held.pop(held.attempt.id, None)
        self._release(held)
        if not self._ended:
            self._call(self._tell)
        self._ended.append((held, held.end()))

    def _tell(self) -> None:
        """Tell how attempts have ended."""
        ended, self._ended = self._ended, []
        if self._mailbox is None:
            return
        post = self._mailbox.post
        self._mailbox.post_all([outcome for _, outcome in ended])
        for held, outcome in ended:
            if not outcome.freed:
                held.post_freed(post)

    def _release(self, held: OnLoop) -> None:
        """Let another attempt have the place."""
        if held.counts:
            held.counts = False
            self._busy -= 1
            if self._inbox:
                self._ring()

    def _cancel(self, attempt: Attempt, force: bool) -> None:
        held = self._held.get(attempt.id)
        if held is not None:
            held.cancel(force=force)
            if force:
                self._release(held)
            return
        try:
            self._inbox.remove(attempt)
        except ValueError:  # it has ended
            return
        except IndexError:  # another one has just been submitted
            self._call(self._cancel, attempt, force)
            return
        if self._mailbox is not None:
            self._mailbox.post(Outcome(attempt, Status.CANCELLED, reason="cancelled before it started"))

    def _tear_down(self, attempt: Attempt) -> None:
        held = self._held.get(attempt.id)
        if held is not None:
            held.leave()

    def _begin_to_end(self, patience: float) -> None:
        loop = asyncio.get_running_loop()

        def stop(_: object) -> None:
            self._over = True
            loop.stop()

        loop.create_task(self._wind_up(patience)).add_done_callback(stop)

    async def _wind_up(self, patience: float) -> None:
        """Cancel everything, and wait for it as long as there is patience."""
        own = list(self._held.values())
        asked = [held.task for held in own if not held.is_up]
        for held in own:
            held.wind_up()
        if own:
            await asyncio.wait([held.task for held in own], timeout=patience)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # what is still to come is nobody's error
        left = asyncio.all_tasks().difference(asked, {asyncio.current_task()})
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=GIVE_UP)
        await asyncio.wait([loop.create_task(loop.shutdown_asyncgens())], timeout=GIVE_UP)


def _is_for_the_loop(attempt: Attempt) -> bool:
    kind, what = attempt.call.kind, attempt.task.callable
    return kind is Kind.COROUTINE or (kind is Kind.GENERATOR and callable(what) and is_asynchronous(what))
