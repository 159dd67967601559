"""Pools as only the contract needs them."""

import asyncio
import inspect
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import pexen
from pexen.model.attempt import Attempt
from pexen.model.call import Call, Kind
from pexen.model.task import Task
from pexen.pool.base import Mailbox, Survivors
from pexen.pool.coroutine import AsyncPool
from pexen.pool.executor import ExecutorPool
from tests.contract import deeds


class InCoroutines(AsyncPool):
    """Calls everything but services from a coroutine function, so that it runs on the loop."""

    def submit(self, attempt: Attempt) -> None:
        if attempt.call.kind is Kind.GENERATOR:
            super().submit(attempt)
            return
        attempt.task = Task(in_coroutine(attempt.task.callable), attempt.task.path)
        attempt.call = Call(Kind.COROUTINE, attempt.call.positional, attempt.call.keyword)
        super().submit(attempt)


def in_coroutine(what: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that calls ``what``, or what does the same without stopping the loop."""
    what = next((twin for deed, twin in TWINS if deed is what), what)

    async def task(*args: Any, **kwargs: Any) -> Any:
        value = what(*args, **kwargs)
        return await value if inspect.iscoroutine(value) else value

    return task


async def say_and_wait(name: str = "running") -> None:
    context = pexen.current()
    context.report(name)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        assert context.cancelled


async def hang(name: str = "running") -> None:
    pexen.current().report(name)
    await asyncio.Event().wait()


TWINS = [(deeds.say_and_wait, say_and_wait), (deeds.hang, hang)]


class Owning(ExecutorPool):
    """Has an executor of its own whenever it is open."""

    def __init__(self, kind: Callable[..., Executor], workers: int, **options: Any) -> None:
        self._make = lambda: kind(workers, **ABOUT.get(kind, {}))
        super().__init__(Executor(), workers, **options)

    def open(self, mailbox: Mailbox) -> None:
        self._executor = self._make()
        super().open(mailbox)

    def close(self) -> Survivors:
        survivors = super().close()
        if self._executor is not None:
            self._executor.shutdown()
        self._executor = None
        return survivors


# Forked, since the other ways leave servers of multiprocessing behind that live as long as this process.
ABOUT = {ProcessPoolExecutor: {"mp_context": multiprocessing.get_context("fork")}}
