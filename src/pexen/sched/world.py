"""What the decider and those around it say to each other: events of the run itself, and what it has done by others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pexen.sched.reboot import Reboots

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.errors import PexenError
    from pexen.model.attempt import Attempt
    from pexen.model.result import Result
    from pexen.model.task import Task
    from pexen.pool.base import Pool
    from pexen.sched.adding import Adding
    from pexen.sched.recorder import Recorder

DEFAULT = "default"
WAKE: Any = None
"""Posted to have the decider look again although nothing has happened to an attempt."""


class Lane:
    """A pool in a run: its name, how many attempts it has in flight, how many of those are commands, and services that are up.

    A pool may run callables in one place and commands in another. That no more than its workers run at once is seen to
    here: a command is never handed out ahead of time, and while one is in flight nothing else is either.
    """

    __slots__ = ("commands", "in_flight", "name", "pool", "reserved")

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.pool = pool
        self.in_flight = 0
        self.commands = 0
        self.reserved = 0
        """Workers that belong to services which are up: as many more than the pool's own run at once."""


@dataclass(frozen=True, slots=True)
class Again:
    """A task may be tried again."""

    task: Task


@dataclass(frozen=True, slots=True)
class Turned:
    """The pool of the group whose turn it is has been opened, or closed."""

    is_open: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A result as the waivers have left it."""

    result: Result


@dataclass(frozen=True, slots=True)
class Committed:
    """Results that are as safe as the run promises: now they may be told. Plain ones have come from `decide` itself."""

    results: list[Result]
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """The journal has failed: nothing that was not told by now will ever be."""

    error: PexenError


@dataclass(slots=True)
class Finish:
    """What the planner is told of a task when its result is committed."""

    success: bool
    status: str
    free: bool
    poisons: bool = False
    shared: Any = None


@dataclass(slots=True)
class World:
    """What the decider has done by others, outside of the lock but for `limit`.

    ``judge`` takes a result and posts `Judged`; ``waives`` tells whether there are waivers for all tasks. ``later`` posts an
    event after seconds. ``limit`` changes an attempt's time limit. ``tear_down`` has a service torn down, under watch; ``turn``
    has a pool opened ("open") or closed ("close") for a group, and posts `Turned`. ``adding`` takes in what tasks add.
    ``notice`` tells people something. ``recorder`` has the journal, where there is one. ``reboots`` is what may be done about
    restarts of the machine.
    """

    judge: Callable[[Result], None]
    waives: bool
    later: Callable[[float, Any], None]
    limit: Callable[[Attempt, str, float], None]
    tear_down: Callable[[Attempt], None]
    turn: Callable[[str, Pool], None]
    adding: Adding
    notice: Callable[[str], None]
    recorder: Recorder | None = None
    reboots: Reboots = field(default_factory=Reboots)
