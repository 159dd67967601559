"""``async for result in sched``, in somebody else's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Executor

import pytest

import pexen
from pexen import AsyncPool, InlinePool, LocalPool, ProcessPool, Sched, Status, Task, ThreadPool

POOLS = {
    "inline": InlinePool,
    "thread": lambda: ThreadPool(2),
    "process": lambda: ProcessPool(1),
    "local": lambda: LocalPool(2),
    "async": AsyncPool,
}


def nothing() -> None:
    pass


def tasks(count: int) -> list[Task]:
    return [Task(nothing, f"t{number}") for number in range(count)]


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("pool", POOLS)
def test_every_result_comes_and_what_the_body_adds_runs_too(pool) -> None:
    async def main() -> list[str]:
        sched, seen = Sched(tasks(5), pool=POOLS[pool]()), []
        async for result in sched:
            seen.append(result.path)
            if result.path.startswith("t"):
                sched.add([Task(nothing, f"after {result.path}")])
        return seen

    seen = asyncio.run(main())
    assert sorted(seen) == sorted([f"t{number}" for number in range(5)] + [f"after t{number}" for number in range(5)])


def test_the_loop_goes_on_while_results_are_awaited() -> None:
    """The one task ends only when the loop that waits for it does something else."""
    let_go = threading.Event()

    async def main() -> bool:
        asyncio.get_running_loop().call_soon(let_go.set)
        return [result.ok async for result in Sched([Task(let_go.wait, "waits")], pool=ThreadPool(1))] == [True]

    assert asyncio.run(main())


def test_several_at_once_in_one_loop() -> None:
    met = threading.Barrier(20)

    async def one() -> list[str]:
        return [result.path async for result in Sched([Task(met.wait, "meets")], pool=ThreadPool(1))]

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(one() for _ in range(20)))

    assert asyncio.run(main()) == [["meets"]] * 20


def test_nothing_new_starts_while_the_backlog_is_full() -> None:
    started = []

    async def main() -> None:
        sched = Sched([Task(started.append, f"t{number}", args=[number]) for number in range(50)],
                      pool=ThreadPool(1, spare=0), backlog=3)  # fmt: skip
        seen = 0
        async for _ in sched:
            seen += 1
            assert len(started) <= seen + 3 + 1  # those that wait, and one in flight

    asyncio.run(main())
    assert len(started) == 50


def test_breaking_out_ends_the_run_when_the_iterator_is_closed() -> None:
    async def main() -> Sched:
        sched = Sched(
            [Task(nothing, "first"), *(Task(forever, f"f{number}") for number in range(5))], pool=AsyncPool(2)
        )
        async with contextlib.aclosing(aiter(sched)) as results:
            async for _ in results:
                break
        assert {str(result.status) for result in sched.results.values()} == {"passed", "cancelled"}
        assert len(sched.results) == 6
        sched.add([Task(nothing, "later")])
        assert [result.path async for result in sched] == ["later"]
        return sched

    asyncio.run(main())


def test_breaking_out_without_closing_ends_the_run_with_the_loop() -> None:
    async def main() -> Sched:
        sched = Sched([Task(nothing, "first"), Task(forever, "forever")], pool=AsyncPool())
        async for _ in sched:
            break
        return sched

    sched = asyncio.run(main())
    assert sched.results["forever"].status is Status.CANCELLED


def test_an_exception_in_the_body_comes_out_and_ends_the_run() -> None:
    sched = Sched([Task(nothing, "first"), Task(forever, "forever")], pool=AsyncPool())

    async def main() -> None:
        async with contextlib.aclosing(aiter(sched)) as results:
            async for _ in results:
                raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(main())
    assert sched.results["forever"].status is Status.CANCELLED


def test_cancelling_the_task_around_it_ends_the_run_and_the_loop_goes_on_meanwhile() -> None:
    """The coroutine that is ended cleans up only when the loop around has done something else."""
    running, let_go, seen = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_to_end(loop) -> None:
        loop.call_soon_threadsafe(running.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(let_go.wait(), loop))

    async def main() -> Sched:
        slow = Task(slow_to_end, "slow", args=[asyncio.get_running_loop()])
        sched = Sched([Task(nothing, "first"), slow], pool=AsyncPool())

        async def iterate() -> None:
            async for _ in sched:
                seen.set()

        around = asyncio.create_task(iterate())
        await running.wait()
        await seen.wait()  # from now on it waits for more
        around.cancel()
        await asyncio.sleep(0)
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await around
        return sched

    sched = asyncio.run(main())
    assert sched.results["slow"].status is Status.CANCELLED


def test_cancelled_before_it_was_open_it_still_ends_the_run() -> None:
    async def main() -> Sched:
        sched = Sched(tasks(3), pool=ThreadPool(1))
        first = asyncio.create_task(anext(aiter(sched)))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return sched

    sched = asyncio.run(main())
    assert len(sched.wait()) == 3  # it could not, if it were still running


def test_the_error_of_a_run_comes_out() -> None:
    async def main() -> None:
        sched = Sched(tasks(1), pool=pexen.ExecutorPool(Executor(), 1))  # of which nothing is implemented
        async for _ in sched:
            pass

    with pytest.raises(pexen.PoolError, match="cannot work"):
        asyncio.run(main())


def test_a_sched_that_is_already_running_says_so() -> None:
    async def main() -> None:
        sched = Sched([Task(forever, "forever")], pool=AsyncPool())
        run = sched.start()
        with pytest.raises(pexen.PoolError, match="already running"):
            async for _ in sched:
                pass
        await asyncio.to_thread(run.close)

    asyncio.run(main())
