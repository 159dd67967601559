"""Adding: what running tasks add to the run.

What they say is taken in under the run's lock, and one by one, in order, turned into tasks and admitted outside of it, by
whoever has carried out what was decided. Until that is done no outcome of the adder counts: so in the journal what it has
added stands before its result, and who takes up the run finds both or runs the adder again.

*No duplicates.* A task that its adder has added before (in another attempt, or in a run before this one) is known again by
its path and its fingerprint, and nothing happens.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pexen.core.graph import shown
from pexen.errors import DefinitionError
from pexen.model.command import Command
from pexen.model.context import NOT_IN_FLIGHT, OVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pexen.core.planner import Planner
    from pexen.model.attempt import Attempt
    from pexen.model.event import AddWanted
    from pexen.model.result import Outcome
    from pexen.model.task import Task


@dataclass(frozen=True, slots=True)
class Added:
    """What an attempt has added is part of the run, or was ``refused``."""

    attempt: Attempt
    refused: str


class Adding:
    """Takes in what running tasks add.

    ``admit(tasks, path)`` makes them part of the run, for the adder at that path, and tells whether there is one; ``safe``
    calls back when that is recorded. ``known`` has the adder of each task at a path that was added by one, and its
    fingerprint if that is known.
    """

    def __init__(
        self,
        planner: Planner,
        admit: Callable[[list[Task], str], bool],
        safe: Callable[[Attempt, Callable[[str], None]], None],
        post: Callable[[Any], None],
        known: dict[str, tuple[str, str]],
    ) -> None:
        self._planner = planner
        self._admit = admit
        self._safe = safe
        self._post = post
        self._known = known
        self._queue: deque[AddWanted] = deque()
        self._busy = threading.Lock()
        self._kept: dict[int, Outcome] = {}

    # -- under the run's lock ---------------------------------------------------------------------------------------

    def ask(self, event: AddWanted, *, flies: bool) -> Callable[[], None]:
        """Take in that a task adds others; return what is to be done outside of the lock."""
        if not flies:
            return lambda: event.answer(NOT_IN_FLIGHT)
        event.attempt.adds += 1
        self._queue.append(event)
        return self._work

    def keep(self, outcome: Outcome) -> None:
        """Keep an outcome until what its attempt has added is part of the run."""
        self._kept[outcome.attempt.id] = outcome

    def keeps(self, attempt: Attempt) -> bool:
        """Tell whether the outcome of an attempt is kept."""
        return attempt.id in self._kept

    def done(self, attempt: Attempt) -> Outcome | None:
        """Note that something that an attempt has added was dealt with; return the outcome that was kept, if it counts now."""
        attempt.adds -= 1
        return None if attempt.adds else self._kept.pop(attempt.id, None)

    def kept(self) -> Iterable[Task]:
        """Return the tasks whose outcomes are kept."""
        return [outcome.attempt.task for outcome in self._kept.values()]

    def unknown(self, tasks: Iterable[Task], by: str) -> list[Task]:
        """Return those that the task at ``by`` has not added yet; raise `DefinitionError` for what it has added otherwise."""
        return [task for task in tasks if not self._is_known(task, by)]

    def _is_known(self, task: Task, by: str) -> bool:
        path = task.name
        adder, known = self._known.get(path, ("", ""))
        present = self._planner.find(path) if adder == by else None
        if present is None:
            return False
        if _fingerprint(task) != (known or _fingerprint(present)):
            raise DefinitionError(
                f"{path} was added before, and differs",
                hint="an adder that runs again adds the same tasks at the same paths, or others at other paths",
            )
        return True

    def in_group(self, tasks: Iterable[Task], by: str) -> None:
        """Let what a member of a group adds be in the group, unless it says otherwise: others may wait there for it."""
        adder = self._planner.find(by)
        group = adder.group if adder is not None else None
        if group is not None:
            for task in tasks:
                task.meta = {"group": group, **task.meta}

    def note(self, tasks: Iterable[Task], by: str) -> None:
        """Note that the task at ``by`` has added these."""
        self._known.update((task.name, (by, "")) for task in tasks)

    # -- outside of it ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Deal with what has come, unless somebody does."""
        while self._queue and self._busy.acquire(False):
            try:
                self._deal_with(self._queue.popleft())
            finally:
                self._busy.release()

    def _deal_with(self, event: AddWanted) -> None:
        refused = ""
        try:
            if not self._admit(_tasks(event), event.attempt.task.name):
                refused = OVER
        except DefinitionError as error:
            refused = str(error)
        except Exception as error:  # noqa: BLE001 - whatever can be said in JSON, and be wrong as a task
            refused = f"not understood: {type(error).__name__}: {error}"
        if refused:
            event.answer(refused)
        else:
            self._safe(event.attempt, event.answer)
        self._post(Added(event.attempt, refused))


def _tasks(event: AddWanted) -> list[Task]:
    """Return the tasks that an event brings, however they were said."""
    said = event.tasks
    if isinstance(said, list):
        return said
    if not isinstance(said, dict):
        from pexen.model.added import tasks_from  # only for workers

        return tasks_from(said)
    from pexen.factory.taskfile import said_tasks  # only for executables

    what = event.attempt.task.callable
    return said_tasks(said, os.path.abspath(what.cwd or ".") if isinstance(what, Command) else os.getcwd())


def _fingerprint(task: Task) -> str:
    from pexen.state import plan  # only for what is added twice, and runs with a journal
    from pexen.state.fingerprint import fingerprint

    return fingerprint(task, plan.task(task, "", [(shown(item), ()) for item in task.requires]))
