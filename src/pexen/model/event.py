"""What pools tell the run, through the mailbox. An `Outcome` is itself the event that an attempt has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pexen.model.result import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.attempt import Attempt
    from pexen.model.result import Report


@dataclass(frozen=True, slots=True)
class Reported:
    """A running task has given one of its results."""

    attempt: Attempt
    report: Report
    answer: Callable[[str], None] | None = None
    """Called when it is safe, with nothing, or why it never will be."""


@dataclass(frozen=True, slots=True)
class Limited:
    """A running task has changed its own timeout: ``what`` is set, add, pause or resume."""

    attempt: Attempt
    what: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RebootWanted:
    """A running task wants the machine restarted, ``by`` "pexen", or by the "task" itself ``within`` so many seconds.

    ``shared`` is its shared dict if it has touched that. ``answer`` is called once: with nothing when the machine may go
    down, else with why it will not.
    """

    attempt: Attempt
    by: str
    within: float
    shared: Any
    answer: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Up:
    """A service has started: what it gives its dependants, and its shared dict if it has touched that. Once an attempt."""

    attempt: Attempt
    value: Any = None
    shared: Any = None


@dataclass(frozen=True, slots=True)
class AddWanted:
    """A running task adds tasks to the run.

    ``tasks`` is a list of `Task` values, or `Encoded` ones, or the tables of a task file. ``answer`` is called once: with
    nothing when they are part of the run and that is as safe as it promises, else with why they are not.
    """

    attempt: Attempt
    tasks: Any
    answer: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Returned:
    """An attempt comes back unstarted (its worker died, or it was taken back); it is not charged to the task."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Freed:
    """The process tree of an attempt whose outcome said ``freed=False`` is now proven gone."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Broken:
    """A pool can do no more work: its workers do not start. ``reason`` says why."""

    pool: str
    reason: str


Event = Outcome | Reported | Limited | RebootWanted | Up | AddWanted | Returned | Freed | Broken
