"""What services do in tests, by name. Imports little: worker processes import it."""

import contextlib
import os
import threading
from contextvars import ContextVar

import pexen
from tests.contract.deeds import _nap

VAR = ContextVar("VAR", default="unset")


def where():
    """Return process and thread."""
    return os.getpid(), threading.get_ident()


def tell(name: str) -> None:
    pexen.current().report(name, data={"where": where(), "var": VAR.get(), "cancelled": pexen.current().cancelled})


def service(value=7):
    tell("setup")
    VAR.set("set")
    yield value
    tell("teardown")
    return "ignored"


async def asynchronous(value=7):
    import asyncio

    def told(name):
        pexen.current().report(name, data={"task": id(asyncio.current_task()), "var": VAR.get()})

    async def ticking():
        while True:
            pexen.current().report("tick")
            await asyncio.sleep(0.001)

    ticks = asyncio.create_task(ticking())
    await asyncio.sleep(0)
    told("setup")
    VAR.set("set")
    yield value
    told("teardown")
    ticks.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ticks


def twice():
    VAR.set("set")
    try:
        yield 1
        yield 2
    finally:
        tell("closed")


async def asynchronously_twice():
    VAR.set("set")
    try:
        yield 1
        yield 2
    finally:
        tell("closed")


def never(value):
    if value:
        yield value


async def asynchronously_never(value):
    if value:
        yield value


def fails(when: str, error: BaseException):
    if when == "setup":
        raise error
    yield when
    raise error


async def asynchronously_fails(when: str, error: BaseException):
    if when == "setup":
        raise error
    yield when
    raise error


def closing():
    """Tell whether it was closed."""
    try:
        yield
    except GeneratorExit:
        tell("closed")
        raise
    tell("teardown")


async def asynchronously_closing():
    try:
        yield
    except GeneratorExit:
        tell("closed")
        raise
    tell("teardown")


def stubborn():
    try:
        yield
    finally:
        yield "will not end"


def sharing(shared):
    shared["seen"] = sorted(shared)
    yield
    shared["late"] = True


def slow_to_come_up():
    """Come up when asked to stop."""
    context = pexen.current()
    context.report("running")
    while not context.cancelled:
        _nap()
    yield "late"
    tell("teardown")


def slow_to_go():
    yield
    context = pexen.current()
    context.report("running")
    while not context.cancelled:
        _nap()


def unpicklable():
    yield threading.Lock()
    tell("teardown")


class Service:
    """Services in a class."""

    def method(self):
        yield "method"

    def __call__(self):
        yield "called"
