"""What a run does with a pool, without a run: make attempts, submit them, wait for how they end."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pexen.model.attempt import Attempt
from pexen.model.call import CONSTANT, PLAIN, SHARED, Call, Kind, Source, kind_of
from pexen.model.event import Up
from pexen.model.result import Outcome, Pickled
from pexen.model.task import Task
from pexen.pool.base import Pool
from tests.contract.mailbox import BOUND, Mailbox

THE_SHARED_DICT = object()
"""Given as an argument: the parameter is to receive the task's shared dict."""

_ids = itertools.count(1)


def attempt_of(
    what: Callable[..., Any],
    *args: Any,
    path: str = "some/task",
    number: int = 1,
    layers: tuple[Any, ...] = (),
    units: Mapping[str, tuple[str, ...]] | None = None,
    post: Callable[[Any], None] = print,
    **kwargs: Any,
) -> Attempt:
    """Return an attempt to call ``what`` with these arguments, as a run would make it."""
    kind = kind_of(what)
    call = PLAIN
    if args or kwargs or kind is not Kind.FUNCTION:
        call = Call(kind, tuple(map(_source, args)), tuple((word, _source(value)) for word, value in kwargs.items()))
    rest = {"number": number, "args": args, "kwargs": kwargs, "shared": layers, "units": units or {}}
    return Attempt(Task(what, path), next(_ids), call, post, **rest)


def _source(value: Any) -> Source:
    return Source(SHARED if value is THE_SHARED_DICT else CONSTANT)


class Drive:
    """An open pool and its mailbox."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.mailbox = Mailbox()
        pool.open(self.mailbox)

    def attempt(self, what: Callable[..., Any], *args: Any, **options: Any) -> Attempt:
        """See `attempt_of`."""
        return attempt_of(what, *args, post=self.mailbox.post, **options)

    def start(self, what: Callable[..., Any], *args: Any, **options: Any) -> Attempt:
        """Submit an attempt and return it."""
        attempt = self.attempt(what, *args, **options)
        self.pool.submit(attempt)
        return attempt

    def run(self, what: Callable[..., Any], *args: Any, **options: Any) -> Outcome:
        """Submit an attempt and wait for its outcome."""
        return self.outcome(self.start(what, *args, **options))

    def outcome(self, attempt: Attempt, bound: float = BOUND) -> Outcome:
        """Wait for the outcome of an attempt."""
        (outcome,) = self.outcomes([attempt], bound)
        return outcome

    def outcomes(self, attempts: list[Attempt], bound: float = BOUND) -> list[Outcome]:
        """Wait for the outcomes of attempts; return them in the order of the attempts."""
        self.drive()
        wanted = {attempt.id for attempt in attempts}
        self.mailbox.wait_until(lambda: wanted <= {outcome.attempt.id for outcome in self.mailbox.outcomes}, bound)
        found = {outcome.attempt.id: outcome for outcome in self.mailbox.outcomes}
        return [found[attempt.id] for attempt in attempts]

    def drive(self) -> None:
        """Run what is queued in a pool that has to be driven."""
        while getattr(self.pool, "driven", False) and self.pool.run_queued():
            pass

    def bring_up(self, what: Callable[..., Any], *args: Any, **options: Any) -> Up:
        """Submit a service and wait until it is up."""
        return self.up(self.start(what, *args, **options))

    def up(self, attempt: Attempt) -> Up:
        """Wait until a service is up, or has ended."""
        self.drive()
        events = self.mailbox.events
        self.mailbox.wait_until(
            lambda: any(event.attempt is attempt and isinstance(event, Up | Outcome) for event in events)
        )
        [event] = [event for event in events if event.attempt is attempt and isinstance(event, Up | Outcome)]
        assert isinstance(event, Up), event.failure
        return event

    def tear_down(self, attempt: Attempt) -> Outcome:
        """Have a service torn down, and wait for its outcome."""
        self.pool.tear_down(attempt)
        return self.outcome(attempt)

    def wait_for_report(self, attempt: Attempt, name: str = "running") -> None:
        """Wait until a running attempt has said so."""
        self.mailbox.wait_until(lambda: any(report.name == name for report in self.mailbox.reports(attempt)))


@contextmanager
def driving(pool: Pool) -> Iterator[Drive]:
    """Open the pool for a block and close it afterwards."""
    drive = Drive(pool)
    try:
        yield drive
    finally:
        pool.close()


def value_of(carried: Any) -> Any:
    """Return a value as the user would see it."""
    return carried.load() if isinstance(carried, Pickled) else carried
