"""``async for result in sched``: a run whose results come to somebody else's event loop.

What has come is popped right here. When there is nothing a thread of the iteration's own waits for more, which also drives
the run, and calls the event loop back. So the event loop never waits for anything, nor does it decide what runs next.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pexen.model.result import Result
    from pexen.sched.run import Run
    from pexen.sched.sched import Sched


async def results_of(sched: Sched) -> AsyncIterator[Result]:
    """Run everything that was added and yield each result as it comes.

    Leaving early (by ``break``, an exception, or since the surrounding asyncio task is cancelled) cancels what has not
    started and ends what runs, in a thread; all results stay readable in `Sched.results`. After a ``break`` that has been
    done when the iterator is closed: see `contextlib.aclosing`. Raises what `Sched.run` raises.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="pexen-aio")
    opening = thread.submit(sched.open)
    try:
        run = await asyncio.shield(asyncio.wrap_future(opening))
        while True:
            while (result := run.pop()) is not None:
                yield result
            if not await loop.run_in_executor(thread, run.wait_for_more):
                break
    finally:
        if opening.done() and opening.exception() is None:
            opening.result().wake()
        closing = loop.run_in_executor(thread, _close, opening)
        thread.shutdown(wait=False)
        await asyncio.shield(closing)
    run.wait()  # raises what has gone wrong since: the last record could not be written


def _close(opening: Future[Run]) -> None:
    """End the run, if there is one."""
    if opening.exception() is None:
        opening.result().close()
