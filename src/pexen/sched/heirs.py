"""Heirs: tasks that a task of a run before has added, made again from their records.

A task that has finished is not run again, so it does not add them again. A command is made again from its argv, a function
that can be imported from its reference (it is imported only where it runs) and its arguments in JSON. Of others (lambdas,
closures, arguments or metadata that JSON cannot say) the record has no more than the result: that does for one that has
finished and need not run again. For all else its adder runs again, and adds it again.

An adder that is not finished runs again anyhow, and adds again what it has added: the run knows that by its path and its
fingerprint. The heirs of one that has changed, or is not there any more, are gone with it.

*Iteration.* Heirs add tasks too, and chains of them may be long. Whether the heirs of each can be had is worked out from the
last to the first: an heir is recorded after its adder. What is admitted is then found from the first to the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError
from pexen.model.command import Command
from pexen.state import plan
from pexen.state.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pexen.core.planner import Fallen, Planner
    from pexen.model.task import Task
    from pexen.sched.resume import Before
    from pexen.state.reader import Story

NOT_SAID = "what it has added cannot be made again from the record"


@dataclass(slots=True)
class Heir:
    """A task that was added, made again; ``is_whole`` if it can be run. ``record`` and ``fingerprint`` are those of its plan."""

    task: Task
    record: Mapping[str, Any]
    fingerprint: str
    is_whole: bool
    runs_again: bool = False
    """It has finished, and has to add again what it has added."""


class Heirs:
    """What is known of tasks that others have added; false when there are none. ``moved`` tells that the tree was.

    ``admitted`` has the adder and the fingerprint of each that was admitted, by path.
    """

    def __init__(self, stories: Mapping[str, Story], *, moved: bool) -> None:
        self.admitted: dict[str, tuple[str, str]] = {}
        self._by: dict[str, list[Story]] = {}
        for story in stories.values():
            if story.is_added and story.by:
                self._by.setdefault(story.by, []).append(story)
        self._stories = stories
        self._moved = moved
        self._made: dict[str, Heir] | None = None
        self._asked: set[str] = set()
        """Adders that have been looked at."""

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._by)

    def admit(self, before: Before, planner: Planner) -> tuple[list[Heir], list[Fallen]]:
        """Admit what finished tasks have added; return it, and those tasks that can never run.

        Adders whose heirs cannot be had are taken out of what is recalled, to run again.
        """
        due = self._due(before, planner)
        if not due:
            return [], []
        try:
            makers = {one.task.name: adder for adder, heirs in due.items() for one in heirs}
            fallen = planner.add([one.task for heirs in due.values() for one in heirs], makers.get)
        except DefinitionError as error:
            for adder in due:
                before.run_anew(adder, f"what it has added does not fit any more: {error.headline}")
            return [], []
        for adder, heirs in due.items():
            for one in heirs:
                self.admitted[one.task.name] = adder, one.fingerprint
        return [one for heirs in due.values() for one in heirs], fallen

    def _due(self, before: Before, planner: Planner) -> dict[str, list[Heir]]:
        """Return the heirs to be admitted, by adder; those whose requirements are not there have their adders run again."""
        while True:
            due = self._found(before, planner)
            here = {one.task.name for heirs in due.values() for one in heirs}
            lacking = [
                adder
                for adder, heirs in due.items()
                if not all(path in here or planner.find(path) for one in heirs for path in _named_by(one.record))
            ]
            if not lacking:
                self._asked |= due.keys()
                return due
            for adder in lacking:
                self._asked.add(adder)
                before.run_anew(adder, "what it has added requires what is not there any more")

    def _found(self, before: Before, planner: Planner) -> dict[str, list[Heir]]:
        """Return the heirs of all that is recalled, and theirs, by adder."""
        due: dict[str, list[Heir]] = {}
        queue = [path for path in before.recalled if path in self._by and path not in self._asked]
        made = self._all_made() if queue else {}
        for adder in queue:  # the list grows while it is walked
            heirs = [made.get(one.path) for one in self._by[adder] if planner.find(one.path) is None]
            found = [one for one in heirs if one is not None]
            if len(found) < len(heirs):
                self._asked.add(adder)
                if before.run_anew(adder, NOT_SAID):
                    continue
            due[adder] = found
            queue += [
                one.task.name
                for one in found
                if self._stories[one.task.name].is_finished and not one.runs_again and one.task.name in self._by
            ]
        return due

    def _all_made(self) -> dict[str, Heir]:
        """Return every heir that can be had, by path."""
        if self._made is None:
            self._made = {}
            for story in () if self._moved else reversed(list(self._stories.values())):
                if story.is_added and story.by:
                    theirs = all(one.path in self._made for one in self._by.get(story.path, ()))
                    heir = _heir(story, has_to_run=not story.is_finished or not theirs)
                    if heir is not None:
                        heir.runs_again = story.is_finished and not theirs
                        self._made[story.path] = heir
        return self._made


def _heir(story: Story, *, has_to_run: bool) -> Heir | None:
    """Return a task made again from its record; None where that does not do."""
    record = story.plan
    called = None if "argv" in record["what"] else plan.called_from(record)
    is_whole = not record.get("left_out") and (called is not None or "argv" in record["what"])
    has_changed = "call" in record["what"] and called is None
    if not is_whole and (has_to_run or has_changed or not _stands(story)):
        return None
    try:
        task = plan.task_from(record, called) if is_whole else plan.task_from(_without_arguments(record))
    except DefinitionError:
        return None
    is_file = type(task.callable) is Command  # of a function it is known by now that it has not changed
    return Heir(task, record, fingerprint(task, record) if is_file else story.fingerprint, is_whole)


def _without_arguments(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of a task that is only looked at: it is not to be seen whether its arguments fit."""
    meta = record.get("meta", {})
    return {**record, "meta": {key: value for key, value in meta.items() if key not in {"args", "kwargs"}}}


def _stands(story: Story) -> bool:
    """Tell whether a result does not make the task run again, whatever requires it."""
    result = story.result
    if result is None or story.status == "lost" or story.plan.get("meta", {}).get("volatile"):
        return False
    return "unstorable" not in result


def _named_by(record: Mapping[str, Any]) -> Iterable[str]:
    """Yield the paths that a record requires, or comes after."""
    for edge in record.get("requires", ()):
        yield from edge["paths"]
    yield from record.get("after", ())
