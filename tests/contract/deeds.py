"""What tasks do in tests, by name. Imports little: worker processes import it."""

import os
import sys

import pexen


def nothing() -> None:
    """Return None."""


def answer() -> int:
    return 42


def echo(*args, **kwargs):
    return args, kwargs


async def coroutine() -> str:
    import asyncio

    await asyncio.sleep(0)
    return "done"


def say_and_wait(name: str = "running") -> None:
    """Report ``name``, then wait until the attempt is asked to stop."""
    context = pexen.current()
    context.report(name)
    while not context.cancelled:
        _nap()


def _nap() -> None:
    import select

    select.select([], [], [], 0.01)


def hang(name: str = "running") -> None:
    """Report ``name``, then never return, whatever one is asked."""
    pexen.current().report(name)
    while True:
        _nap()


def reporting(*names: str) -> None:
    for name in names:
        pexen.current().report(name, "info", f"about {name}", data={"n": len(name)}, files=["a", "b"])


def report_and_exit() -> None:
    pexen.current().report("last words", "warn")
    os._exit(3)


def tell_context():
    context = pexen.current()
    return context.path, context.attempt, dict(context.units), context.cancelled


def write_shared(shared) -> None:
    shared["seen"] = sorted(shared)
    shared["new"] = 1


def write_shared_by_context() -> None:
    pexen.current().shared["new"] = 2


async def write_shared_in_coroutine() -> None:
    pexen.current().shared["new"] = 3


def raise_(error: BaseException) -> None:
    raise error


def exit_by(way: str) -> None:
    """End like this: error, exit, _exit, segfault."""
    if way == "error":
        raise ValueError("an error")
    if way == "exit":
        sys.exit(3)
    if way == "_exit":
        os._exit(3)
    if way == "segfault":
        import ctypes

        ctypes.string_at(0)


class Own(BaseException):
    """An exception of somebody's own that is no Exception."""


class Two(Exception):
    """Pickles, and does not unpickle: its class wants two arguments and gets one."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no")


class Thing:
    """A callable object, with all that may be called in a class."""

    def __call__(self):
        return "done"

    def method(self):
        return "done"

    @staticmethod
    def static():
        return "done"

    @classmethod
    def of_class(cls):
        return "done"


class Hostile:
    """A callable that cannot be hashed, compared, shown, or asked for its truth."""

    __hash__ = None

    def __call__(self):
        return "done"

    def __eq__(self, other):
        raise RuntimeError("compared")

    def __repr__(self):
        raise RuntimeError("shown")

    def __bool__(self):
        raise RuntimeError("asked")


class Made:
    """A class as a task: its value is the instance."""

    def __init__(self):
        self.text = "done"

    def __eq__(self, other):
        return type(other) is Made and other.text == self.text

    def __hash__(self):
        return 1
