"""Reboots: a task has the machine restarted, and is entered again after that.

::

    asked ── all others have ended ──▶ told ── it is in the journal ──▶ agreed ── those that asked have ended ──▶ left

From the first wish on nothing more is started, what has not begun goes back, and whoever asked waits for an answer with its
time limit paused. Others that run are let finish, for so long as `Reboots.drain` says, and are cancelled then; who asks
meanwhile joins in. The wishes are in the journal before anybody is answered. An attempt that wanted *pexen* to restart the
machine ends with its answer; one that wants to do it *itself* gets its time, and when the machine is still up after that it
has failed, and the run goes on.

A run ends with `Wish`; whoever drives it restarts the machine. When the next session of the journal finds itself in another
boot, the wish has come true: the task is entered with ``reboots`` one higher and ``shared`` as it left it. In the same boot
it has not, and the task is entered as it was before: it will ask again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pexen.model.call import EXECUTE
from pexen.model.context import NOT_ALLOWED
from pexen.model.result import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pexen.model.attempt import Attempt
    from pexen.model.event import RebootWanted
    from pexen.model.result import Outcome
    from pexen.sched.world import World

_GRACE = 5.0
"""Seconds between asking and killing what is in the way of a restart."""
_GIVE_UP = 1.0
"""Seconds between killing it and going on without it: it is a thread that does not listen."""
_RUN = 10
"""How many times as often as one task a run may restart the machine."""


@dataclass(frozen=True, slots=True)
class Reboots:
    """What a run may do about restarts of its machine.

    Unless they are ``allowed`` a run in which a task asks for one stops, to be taken up again when somebody has restarted
    the machine. ``per_task`` is how many a task may ask for (a run: ten times as many, and machines that go down by
    themselves count), ``drain`` the seconds that others are let finish before one, ``crashes`` how often a task may be alone
    while the machine goes down unannounced before it is run no more.
    """

    allowed: bool = False
    per_task: int = 10
    drain: float = 1800.0
    crashes: int = 2

    @property
    def per_run(self) -> int:
        """How many restarts a run may see."""
        return max(1, self.per_task) * _RUN


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run has ended for: the tasks at ``paths`` want the machine restarted; ``by_task`` if one does it itself."""

    paths: tuple[str, ...]
    by_task: bool = False


@dataclass(frozen=True, slots=True)
class Agreed:
    """What was wanted is in the journal."""

    departure: Departure


@dataclass(frozen=True, slots=True)
class Overdue:
    """Time is over: for ``attempt`` to restart the machine itself, or else for the ``step`` of that name."""

    departure: Departure
    step: str
    attempt: Attempt | None = None


@dataclass(slots=True)
class Departure:
    """A run on its way to a restart; touched under the run's lock only. What a method returns is to be called outside."""

    may: Reboots
    world: World
    wanted: dict[int, RebootWanted] = field(default_factory=dict)
    """By attempt id, in the order in which they asked."""
    kept: dict[int, Outcome] = field(default_factory=dict)
    """How those have ended that asked."""
    ignored: set[int] = field(default_factory=set)
    """Ids of attempts that nothing can end."""
    is_told: bool = False
    is_agreed: bool = False
    is_late: bool = False
    expired: set[int] = field(default_factory=set)
    """Ids of attempts whose time to restart the machine is over."""

    def ask(self, event: RebootWanted, flying: Iterable[Attempt]) -> list[Callable[[], object]]:
        """Take in a wish."""
        is_first = not self.wanted
        self.wanted[event.attempt.id] = event
        self.world.limit(event.attempt, "pause", 0.0)
        if not is_first:
            return []
        unstarted = [one for one in flying if not one.started and one is not event.attempt]
        return [
            *(partial(one.lane.pool.cancel, one, force=False) for one in unstarted),
            partial(self.world.later, self.may.drain, Overdue(self, "drain")),
        ]

    def keeps(self, outcome: Outcome) -> bool:
        """Take in the end of an attempt; False for one that is to be judged like any other."""
        attempt = outcome.attempt
        event = self.wanted.get(attempt.id)
        if event is None:
            return False
        if not self._ends_here(event) and (
            attempt.struck or not (outcome.status is Status.PASSED or _is_forced(outcome))
        ):
            del self.wanted[attempt.id]
            return False
        if attempt.id in self.expired:
            self._break(outcome)
            return False
        self.kept[attempt.id] = outcome
        return True

    def may_be_told(self, flying: Mapping[int, Attempt]) -> bool:
        """Tell whether nobody runs any more but those that asked, and nobody has told that yet."""
        return not self.is_told and flying.keys() - self.ignored <= self.wanted.keys()

    @property
    def ends_the_run(self) -> bool:
        """Whether all that asked end, and the run with them; else one of them takes the machine down while it runs."""
        return all(map(self._ends_here, self.wanted.values()))

    def told(self) -> list[RebootWanted]:
        """Return what the journal is to be told."""
        self.is_told = True
        return [one for one in self.wanted.values() if self._is_granted(one)]

    def agree(self) -> list[Callable[[], object]]:
        """Let those that asked go on, each its way."""
        self.is_agreed = True
        does: list[Callable[[], object]] = []
        for id_, event in self.wanted.items():
            attempt = event.attempt
            does.append(partial(event.answer, "" if self._is_granted(event) else NOT_ALLOWED))
            if not self._ends_here(event):
                self.world.limit(attempt, "set", event.within)
                does.append(partial(self.world.later, event.within, Overdue(self, "task", attempt)))
            elif id_ not in self.kept:
                if attempt.call is EXECUTE:
                    does.append(partial(attempt.lane.pool.cancel, attempt, force=False))
                does.append(partial(self.world.later, attempt.task.grace, Overdue(self, "leave")))
        return does

    def overdue(self, event: Overdue, flying: Iterable[Attempt]) -> list[Callable[[], object]]:
        """Do what is due when some time is over."""
        if event.step == "leave":
            self.is_late = True
            mine = [one for one in flying if one.id in self.wanted and self._ends_here(self.wanted[one.id])]
            return [partial(one.lane.pool.cancel, one, force=True) for one in mine]
        # What may run only once is not ended: it could not be run again.
        others = [one for one in flying if one.id not in self.wanted and not (one.task.meta and one.task.once)]
        if self.is_told or event.step == "task":
            return []
        if event.step == "give up":
            self.ignored |= {one.id for one in others}
            return []
        force, then = event.step == "kill", ("give up", _GIVE_UP) if event.step == "kill" else ("kill", _GRACE)
        return [
            *(partial(one.lane.pool.cancel, one, force=force) for one in others),
            partial(self.world.later, then[1], Overdue(self, then[0])),
        ]

    def broken(self, event: Overdue) -> Outcome | None:
        """Return the end of an attempt that said it would restart the machine, and did not."""
        attempt = event.attempt
        if attempt is None:
            return None
        self.expired.add(attempt.id)
        outcome = self.kept.pop(attempt.id, None)
        if outcome is not None:
            self._break(outcome)
        return outcome

    def _break(self, outcome: Outcome) -> None:
        within = self.wanted.pop(outcome.attempt.id).within
        outcome.status = Status.ERROR
        outcome.reason = f"it was to restart the machine by itself within {within:g} s, which is still up"

    def may_leave(self, flying: Mapping[int, Attempt], *, stopping: bool) -> bool:
        """Tell whether the run may end. A run that is ``stopping`` may be so because the machine already goes down."""
        ready = self.is_agreed and (stopping or self.ends_the_run)
        return ready and (self.is_late or not flying.keys() - self.ignored)

    def withdraw(self, id_: int, why: str) -> list[Callable[[], object]]:
        """Forget what one attempt wants, and tell it why; it is to end."""
        event = self.wanted.pop(id_)
        attempt = event.attempt
        if id_ in self.kept:
            return [partial(event.answer, why)]
        self.world.limit(attempt, "resume", 0.0)
        does: list[Callable[[], object]] = [partial(event.answer, why)]
        if attempt.call is EXECUTE:
            does.append(partial(attempt.lane.pool.cancel, attempt, force=False))
        return does

    @property
    def wish(self) -> Wish:
        """What the run ends for."""
        events = self.wanted.values()
        return Wish(tuple(one.attempt.task.name for one in events), any(one.by == "task" for one in events))

    def _is_granted(self, event: RebootWanted) -> bool:
        return event.by == "pexen" or self.may.allowed

    def _ends_here(self, event: RebootWanted) -> bool:
        return event.by == "pexen" or not self.may.allowed


def _is_forced(outcome: Outcome) -> bool:
    """Tell whether an attempt was ended from outside: perhaps by the machine, which is going down."""
    if outcome.status in {Status.CANCELLED, Status.CRASHED, Status.LOST}:
        return True
    code = outcome.reason.removeprefix("exit code ")
    return code.isdigit() and int(code) > _SIGNAL  # a shell whose command a signal has ended


_SIGNAL = 128
