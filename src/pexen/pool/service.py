"""How the generator of a service is run: to its yield, and on when the service is torn down. The same in every pool.

Where an attempt has a thread or a process, that waits in between, here in `drive`: so both halves run in one thread, in the
same contextvars, and an asynchronous generator in one task of one event loop, whose other tasks go on meanwhile.

Imports little: worker processes use it, too.
"""

from __future__ import annotations

from pexen.errors import DefinitionError

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from typing import Any, Protocol

    class Stand(Protocol):
        """Where a service is up: what the pool does at the yield. ``GeneratorExit`` says that nothing is to be resumed."""

        def come_up(self, value: Any) -> None:
            """Tell that the service is up, and what it gives."""

        def wait(self) -> None:
            """Return when it is to be torn down."""

        async def until_torn_down(self) -> None:
            """Return when it is to be torn down; meanwhile the event loop goes on."""


HINT = "what stands before its yield sets up, what stands behind it tears down"


def drive(made: Any, stand: Stand) -> None:
    """Run a generator, or an asynchronous one, from setup to teardown. Raises what it raises.

    When ``stand`` raises, what has been set up is torn down all the same; a `GeneratorExit` closes it instead.
    """
    if is_asynchronous(made):
        import asyncio

        asyncio.run(driven(made, stand))
        return
    value = begin(made)
    try:
        stand.come_up(value)
        stand.wait()
    except GeneratorExit:
        close(made)
        raise
    except BaseException:
        end(made)
        raise
    end(made)


async def driven(made: AsyncGenerator[Any, None], stand: Stand) -> None:
    """Run an asynchronous generator; see `drive`."""
    try:
        value = await anext(made)
    except StopAsyncIteration:
        raise _yields_nothing() from None
    try:
        stand.come_up(value)
        await stand.until_torn_down()
    except GeneratorExit:
        try:  # noqa: SIM105 - contextlib is more than a worker should import
            await made.aclose()
        except BaseException:  # noqa: S110 - it was not asked how it wants to end
            pass
        raise
    except BaseException:
        await _end(made)
        raise
    await _end(made)


def is_asynchronous(made: Any) -> bool:
    """Tell whether it is an asynchronous generator."""
    return hasattr(made, "__anext__")


def begin(made: Generator[Any, None, Any]) -> Any:
    """Run a generator to its yield; return the value."""
    try:
        return next(made)
    except StopIteration:
        raise _yields_nothing() from None


def end(made: Generator[Any, None, Any]) -> None:
    """Resume a generator, which ends now."""
    try:
        next(made)
    except StopIteration:
        return
    close(made)
    raise _yields_again()


def close(made: Generator[Any, None, Any]) -> None:
    """Have a generator end at its yield. Lets nothing escape."""
    try:  # noqa: SIM105 - contextlib is more than a worker should import
        made.close()
    except BaseException:  # noqa: S110 - it was not asked how it wants to end
        pass


async def _end(made: AsyncGenerator[Any, None]) -> None:
    try:
        await anext(made)
    except StopAsyncIteration:
        return
    await made.aclose()
    raise _yields_again()


def _yields_nothing() -> DefinitionError:
    return DefinitionError("a service that yields nothing", hint=HINT)


def _yields_again() -> DefinitionError:
    return DefinitionError("a service yields once", hint=HINT)
