"""The services of a run that are up: what they give, and what their end means.

The planner says who is to be torn down and when (`pexen.core.services`); here is what the decider notes of those that are up.
The end of a service is

- its one result, when it was torn down. A teardown that went wrong makes it ``warned`` and loses nothing.
- an attempt that is over, when it is needed again: by who was added meanwhile, or since it was put down for a group.
- a death, when nobody has asked for it. Who runs and relies on it is told so in a report; who waits falls, unless the
  service has ``restarts`` left.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pexen.model.call import EXECUTE
from pexen.model.result import Details, Report, Result, Status
from pexen.sched.inputs import layers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.core.planner import Planner
    from pexen.model.attempt import Attempt
    from pexen.model.event import Up
    from pexen.model.result import Outcome
    from pexen.model.task import Task
    from pexen.sched.world import World


class Services:
    """Those that are up, by path: in ``results`` as their dependants see them. Touched under the run's lock only."""

    def __init__(self, planner: Planner, world: World) -> None:
        self._planner = planner
        self._world = world
        self._attempts: dict[str, Attempt] = {}
        self._deaths: dict[str, int] = {}
        self.results: dict[str, Result] = {}

    def __len__(self) -> int:
        """Return how many are up."""
        return len(self._attempts)

    def came_up(self, event: Up, start: float) -> list[Callable[[], object]]:
        """Note that a service is up, and let its dependants start; one that was to stop meanwhile goes down again."""
        attempt = event.attempt
        task, lane = attempt.task, attempt.lane
        if attempt.struck or attempt.cancelled or attempt.is_up:
            attempt.is_leaving = True
            return [partial(lane.pool.tear_down, attempt)]
        attempt.is_up = True
        attempt.watch = None
        lane.reserved += 1
        lane.commands -= attempt.call is EXECUTE
        about = Details(shared=layers_of(attempt, event))
        self._attempts[task.name] = attempt
        self.results[task.name] = Result(task, Status.PASSED, event.value, start, details=about)
        self._planner.provide(task)
        return []

    def leave(self, *, everybody: bool = False) -> list[Callable[[], object]]:
        """Have the next one torn down that is to be: nobody needs it any more, or ``everybody`` is to go."""
        task = self._planner.next_to_leave(everybody=everybody)
        return [] if task is None else self._torn_down(self._attempts[task.name])

    def _torn_down(self, attempt: Attempt) -> list[Callable[[], object]]:
        attempt.is_leaving = True
        return [partial(self._world.tear_down, attempt)]

    def stop(self, attempt: Attempt) -> list[Callable[[], object]]:
        """Have one torn down on request, whoever needs it."""
        if attempt.is_leaving:
            return []
        attempt.cancelled = True
        return self._torn_down(attempt)

    def went_down(self, outcome: Outcome) -> None:
        """Take the end of an attempt out of the books, and give the outcome what the service was to its dependants."""
        attempt = outcome.attempt
        if not attempt.is_leaving:
            self._planner.went_down(attempt.task)
        attempt.lane.reserved -= 1
        attempt.lane.commands += attempt.call is EXECUTE
        del self._attempts[attempt.task.name]
        known = self.results.pop(attempt.task.name)
        outcome.value = known.carried
        attempt.shared, outcome.shared = known.details.shared, None

    def judge(self, attempt: Attempt, status: Status, reason: str) -> tuple[Status, str]:
        """Return status and reason of the end of an attempt at a service."""
        if not attempt.is_up:
            if not status.is_success:
                return status, _late(attempt, reason) if status is Status.TIMEOUT else reason
            if attempt.is_leaving:
                return Status.CANCELLED, "cancelled while it was starting"
            return Status.ERROR, reason or "it ended before it was up"
        if attempt.cancelled and not attempt.struck:
            return Status.CANCELLED, reason or "cancelled"
        if attempt.is_leaving:
            if status.is_success:
                return status, reason
            told = f"its teardown went wrong: {reason}" if reason else "its teardown went wrong"
            return Status.WARNED, told
        if status.is_success:
            return Status.FAILED, reason or "it ended by itself while it was needed"
        return status, reason

    def lives_again(self, attempt: Attempt, *, stopping: bool) -> bool:
        """Tell whether a service that has gone down is to be started again."""
        task = attempt.task
        if not self._planner.is_wanted(task) or (stopping or attempt.cancelled):
            return False
        if attempt.is_leaving:
            return True
        deaths = self._deaths[task.name] = self._deaths.get(task.name, 0) + 1
        return deaths <= task.restarts and not self._planner.is_draining

    def told_of_death(self, task: Task, status: Status, reason: str) -> tuple[list[Task], Report]:
        """Return who relied on a service that has died and runs, and what is reported to them."""
        said = reason or str(status)
        return self._planner.running_users(task), Report(f"service {task.name}", "warn", f"it has died: {said}")


def _late(attempt: Attempt, reason: str) -> str:
    """Return the reason of an attempt whose time was over before it was up."""
    ready = attempt.task.ready
    return f"{reason}, and was not up" + (f" ({ready})" if ready else "")


def is_special(meta: Any) -> bool:
    """Tell whether the end of a task with this metadata is not as simple as most."""
    return not _SPECIAL.isdisjoint(meta)


_SPECIAL = frozenset({"xfail", "service", "teardown", "expand"})
