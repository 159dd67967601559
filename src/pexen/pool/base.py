"""The seam between the run and whatever executes attempts, and how a callable is executed in any Python pool.

The rules of the seam, which one contract test body checks on every pool:

- `submit` only enqueues, never blocks, never runs user code; it may be called from any thread, also from the pool's own.
- For every submitted attempt exactly one of `Outcome` or `Returned` is posted, also when the pool is closed under it.
- For a service `Up` is posted once it has started; its worker is its own from then on and does not count among ``workers``.
  It stays up until `tear_down`. An outcome that comes before that says that it has died, or could not start. After
  `tear_down` the outcome says how the teardown went.
- Events are posted from the pool's own threads and never while a lock of the pool is held: posting may call `submit`.
- `close` ends everything that can be ended and returns when it is gone; nothing is posted afterwards, except by the
  threads that it returns as survivors, and what they still post is ignored by the run.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from pexen.errors import TaskFail, TaskSkip
from pexen.model.call import PLAIN, SHARED, Kind
from pexen.model.context import CURRENT
from pexen.model.event import Up
from pexen.model.result import Failure, Left, Outcome, Pickled, Status, merge_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pexen.model.attempt import Attempt
    from pexen.model.attempt import Files as AnyFiles
    from pexen.model.call import Source
    from pexen.model.event import Event
    from pexen.pool.files import Files

OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep


class Mailbox(Protocol):
    """Where a pool posts its events."""

    def post(self, event: Event) -> None:
        """Take one event; may start other attempts through `Pool.submit` before it returns."""

    def post_all(self, events: Iterable[Event]) -> None:
        """Take several events at once: cheaper than one by one."""


@dataclass(frozen=True, slots=True)
class Survivors:
    """What a closed pool could not end: attempts whose threads are still running."""

    attempts: tuple[Attempt, ...] = ()


class Pool(Protocol):
    """Carries attempts out. A pool is opened and closed once a run, and may be opened again."""

    @property
    def executes(self) -> bool:
        """Whether it runs commands, not only callables."""

    @property
    def workers(self) -> int:
        """How many attempts run at the same time."""

    @property
    def capacity(self) -> int:
        """Attempts in flight: workers + spare. May change while the pool is open. Commands are never spare."""

    def open(self, mailbox: Mailbox) -> None:
        """Get ready; workers may be started later, when there is something to do."""

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt."""

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Ask a running attempt to stop, or with ``force`` end it now; its outcome is posted as ever."""

    def examine(self, attempt: Attempt) -> None:
        """Note what a running attempt is doing: until its outcome is posted its ``evidence`` says so. From any thread."""

    def tear_down(self, attempt: Attempt) -> None:
        """Have a service that is up end in good order; its outcome is posted as ever. From any thread, at most once."""

    def close(self) -> Survivors:
        """End everything, wait for it, and return what could not be ended."""


PASSED = Status.PASSED  # an enum's attribute costs as much as the rest of `execute`


class Killed(GeneratorExit):
    """Ends a service that is up, and whose worker cannot be killed: its generator is closed."""


def execute(
    attempt: Attempt, files: Files | None = None, serve: Callable[[Attempt, Any], None] | None = None
) -> Outcome:
    """Run an attempt's callable here and now; return how it ended. Lets no exception of any kind escape.

    ``serve`` is given the generator of a service, and returns when that has been torn down.
    """
    call = attempt.call
    CURRENT.set(attempt)
    attempt.files = files
    attempt.started = started = monotonic()
    try:
        if call is PLAIN:
            value = attempt.task.callable()  # type: ignore[operator]
        else:
            value = _call(attempt, serve)
    except BaseException as error:
        outcome = outcome_of(attempt, error)
        outcome.started, outcome.duration = started, monotonic() - started
    else:
        outcome = Outcome(attempt, PASSED, value, started, monotonic() - started)
    if attempt.made is not None or attempt.evidence:
        complete(outcome, files)
    return outcome


def complete(outcome: Outcome, files: Files | None) -> None:
    """Add to an outcome what the attempt's context and folder hold, and let go of the context."""
    attempt = outcome.attempt
    if attempt.made is not None:  # not asked of CURRENT: a coroutine has contextvars of its own
        outcome.shared = attempt.made.written
        attempt.made = None
    outcome.left = left_by(attempt, files)


def left_by(attempt: Attempt, files: AnyFiles | None, killed: str = "") -> Left | None:
    """Return what an attempt that has ended has left behind, if that is anything."""
    artifacts = () if files is None else files.left(attempt.id)
    return Left(killed, artifacts, files and files.keeper) if killed or artifacts else None


def _call(attempt: Attempt, serve: Callable[[Attempt, Any], None] | None) -> Any:
    value = called(attempt)
    if attempt.call.kind is Kind.COROUTINE:
        import asyncio

        value = asyncio.run(value)
    elif attempt.call.kind is Kind.GENERATOR and serve is not None:
        return serve(attempt, value)
    return attempt.context().expand(value) if attempt.task.expand else value


def called(attempt: Attempt) -> Any:
    """Call an attempt's callable with its arguments; return what that returns: perhaps a coroutine, or a generator."""
    call, task = attempt.call, attempt.task
    args = [_argument(attempt, source, value) for source, value in zip(call.positional, attempt.args, strict=True)]
    kwargs = {word: _argument(attempt, source, attempt.kwargs[word]) for word, source in call.keyword}
    return task.callable(*args, **kwargs)  # type: ignore[operator]


def _argument(attempt: Attempt, source: Source, value: Any) -> Any:
    """Return what the parameter gets: unpickled here, where the task may fail for it."""
    if source.index == SHARED:
        return attempt.context().shared
    if isinstance(value, Pickled):
        return value.load()
    if isinstance(value, list) and any(isinstance(item, Pickled) for item in value):
        return [item.load() if isinstance(item, Pickled) else item for item in value]
    return value


def outcome_of(attempt: Attempt, error: BaseException) -> Outcome:
    """Return the outcome that an exception means."""
    if isinstance(error, TaskSkip):
        return Outcome(attempt, Status.SKIPPED, reason=told(error))
    if isinstance(error, Killed):
        return Outcome(attempt, Status.CANCELLED, reason="killed on request")
    failure = failure_of(error)
    if isinstance(error, TaskFail):
        return Outcome(attempt, Status.FAILED, failure=failure, deps_ok=error.deps_ok, locks_ok=error.locks_ok)
    status = Status.FAILED if isinstance(error, AssertionError) else Status.ERROR
    return Outcome(attempt, status, failure=failure)


def failure_of(error: BaseException) -> Failure:
    """Return an exception as type name, message and traceback; its own ``__str__`` may be hostile."""
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        text = ""
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    return Failure(name, told(error), text, error)


def told(error: BaseException) -> str:
    """Return an exception's message, whatever its ``__str__`` does."""
    try:
        return str(error)
    except BaseException:
        return "(its message cannot be shown)"


def up(attempt: Attempt, value: Any) -> Up:
    """Return the event that a service has started in this process; its shared dict as it is now."""
    written = attempt.made.written if attempt.made is not None else None
    return Up(attempt, value, None if written is None else dict(written))


def merged_layers(attempt: Attempt) -> dict[str, Any]:
    """Return the attempt's shared dict, its layers merged."""
    return merge_shared(attempt.shared)
