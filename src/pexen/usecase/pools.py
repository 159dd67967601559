"""The pools of a program: where its tasks run and where their output goes, by a word for what kind of pool it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pexen.pool.local import LocalPool
from pexen.sched.group import Group

if TYPE_CHECKING:
    from pexen.factory.groups import Grouping
    from pexen.pool.base import Pool

DEFAULT = "process"


def pool_of(kind: str, workers: int | None, spare: int | None, output: str) -> LocalPool:
    """Return a pool for callables of this kind (see `pexen.factory.groups.KINDS`) and for commands, ``workers`` in all.

    The output of everything goes to files in ``output``, but that of callables in threads.
    """
    callables: Pool
    if kind == "inline":
        from pexen.pool.inline import InlinePool

        return LocalPool(1, callables=InlinePool(output=output), output=output, capture=True)
    if kind == "async":
        from pexen.pool.coroutine import AsyncPool

        callables = AsyncPool(workers, output=output)
    elif kind == "thread":
        from pexen.pool.thread import ThreadPool

        callables = ThreadPool(workers, spare=spare, output=output)
    elif spare is None:  # made, and imported, when there is the first callable
        return LocalPool(workers, callables=DEFAULT, output=output, capture=True)
    else:
        from pexen.pool.process import ProcessPool

        callables = ProcessPool(workers, spare=spare, output=output, capture=True)
    return LocalPool(callables.workers, callables=callables, output=output, capture=True)


def attached_pool(output: str) -> LocalPool:
    """Return a pool that runs one task at a time, callables in this process, all of them with its terminal."""
    from pexen.pool.inline import InlinePool

    return LocalPool(1, callables=InlinePool(output=output), output=output, capture=False)


def completed(group: Group, output: str, jobs: int | None) -> Group:
    """Return a group whose commands write into ``output``, without its members; one without a pool gets that of a tree's."""
    pool = group.pool or pool_of(DEFAULT, jobs, None, output)
    if not pool.executes:
        pool = LocalPool(callables=pool, output=output, capture=True)
    return Group(group.name, pool=pool, ordered=group.ordered)


def of_tree(grouping: Grouping, jobs: int | None, output: str, *, ahead: bool) -> Group:
    """Return a group of a tree, with its pool. Unless ``ahead``, nothing is sent to workers that are busy."""
    kind = grouping.pool or DEFAULT
    workers = grouping.workers or (None if kind == "async" else jobs)
    pool = pool_of(kind, workers, grouping.spare if ahead else 0, output)
    return Group(grouping.name, pool=pool, ordered=grouping.ordered)
