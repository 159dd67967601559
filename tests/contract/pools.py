"""Every pool that has to keep the contract in `test_pools.py`. A new one is one line in `POOLS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pexen.pool.base import Pool


@dataclass(frozen=True)
class Kind:
    """A pool and what the contract may ask of it.

    ``make`` takes the number of workers. ``runs_callables``: Python callables, not only commands. ``is_inline``: runs
    in the thread that waits for results. ``can_kill``: a running attempt can be ended. ``copies``: values travel between
    processes. ``executes``: runs commands, see `test_commands.py`. ``hears``: what a running attempt says arrives, and it
    hears that it is to stop. ``serves``: it can keep services up. ``in_coroutines``: what is called is made a coroutine
    function first.
    """

    make: Callable[[int], Pool]
    runs_callables: bool = True
    is_inline: bool = False
    can_kill: bool = False
    copies: bool = False
    executes: bool = False
    hears: bool = True
    serves: bool = True
    in_coroutines: bool = False


def _made(module: str, name: str, **options: Any) -> Callable[[int], Pool]:
    """Return what makes a pool with so many workers; its module is imported when the first one is wanted."""

    def make(workers: int) -> Pool:
        from importlib import import_module

        return getattr(import_module(module), name)(workers, **options)

    return make


def _inline(workers: int) -> Pool:
    from pexen.pool.inline import InlinePool

    return InlinePool()


def _local_inline(workers: int) -> Pool:
    from pexen.pool.local import LocalPool

    return LocalPool(workers, callables=_inline(1), capture=True)


def _local_async(workers: int) -> Pool:
    from pexen.pool.coroutine import AsyncPool
    from pexen.pool.local import LocalPool

    return LocalPool(workers, callables=AsyncPool(), capture=True)


def _coroutines(workers: int) -> Pool:
    from tests.contract.strange import InCoroutines

    return InCoroutines(workers)


def _executor(kind: str) -> Callable[[int], Pool]:
    def make(workers: int) -> Pool:
        from concurrent import futures

        from tests.contract.strange import Owning

        return Owning(getattr(futures, kind), workers)

    return make


POOLS: dict[str, Kind] = {
    "inline": Kind(_inline, is_inline=True),
    "thread": Kind(_made("pexen.pool.thread", "ThreadPool")),
    "process-exec": Kind(_made("pexen.pool.process", "ProcessPool", start="exec"), can_kill=True, copies=True),
    "process-forkserver": Kind(
        _made("pexen.pool.process", "ProcessPool", start="forkserver"), can_kill=True, copies=True
    ),
    "async": Kind(_made("pexen.pool.coroutine", "AsyncPool")),
    "async-coroutines": Kind(_coroutines, in_coroutines=True),
    "executor-threads": Kind(_executor("ThreadPoolExecutor"), serves=False),
    "executor-processes": Kind(_executor("ProcessPoolExecutor"), copies=True, hears=False, serves=False),
    "command": Kind(
        _made("pexen.pool.command", "CommandPool", capture=True), runs_callables=False, can_kill=True, executes=True
    ),
    "local-inline": Kind(_local_inline, is_inline=True, executes=True),
    "local-thread": Kind(_made("pexen.pool.local", "LocalPool", capture=True), executes=True),
    "local-process": Kind(
        _made("pexen.pool.local", "LocalPool", callables="process", capture=True),
        can_kill=True,
        copies=True,
        executes=True,
    ),
    "local-async": Kind(_local_async, executes=True),
}
CALLABLES = {name: kind for name, kind in POOLS.items() if kind.runs_callables}
EXECUTING = {name: kind for name, kind in POOLS.items() if kind.executes}
