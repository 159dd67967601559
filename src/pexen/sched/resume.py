"""Resume: what a run takes over from the runs before it that its journal has.

A task whose path and fingerprint are those of one with a result is not run: it gets that result, marked ``replayed``. Except
for `volatile` providers and those whose value could not be stored, when something unfinished needs them; those that were
lost; and ``once`` tasks that were started and not heard of again, which are ``lost`` for good.

Of an unfinished task its attempts go on to be counted. After a restart that it had asked for it is entered with what it
has left; after a crash of the machine that nobody announced, whoever ran then runs alone, and who was alone too often is
not run any more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pexen.errors import StateError
from pexen.model.call import parameter_of
from pexen.model.result import Details, Result, Status
from pexen.sched.heirs import Heirs
from pexen.state import records
from pexen.state.lock import Holder
from pexen.state.values import Unstorable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pexen.core.planner import Planner
    from pexen.model.result import Ended, Report
    from pexen.model.task import Task
    from pexen.sched.reboot import Reboots
    from pexen.state.reader import Record, Story


CHANGED = "it has changed"


@dataclass(frozen=True, slots=True)
class Changes:
    """How the tasks differ from those of the runs before, by path."""

    finished: int = 0
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    again: tuple[tuple[str, str], ...] = ()


class Before:
    """The runs before, as ``record`` tells of them; false when there were none. ``may`` limits restarts of the machine.

    By path: ``recalled`` are results, ``earlier`` the attempts of unfinished tasks, ``reboots`` how often the machine was
    restarted for one, ``shared`` its dict as it left it then, ``reported`` what it had reported. ``deps_ok`` are those that
    failed and said that their dependants may run. ``heirs`` are tasks that others have added. ``changes`` is set by the first
    `run_again`. ``root`` is that of the tree now.
    """

    def __init__(self, record: Record | None, may: Reboots, root: str = "") -> None:
        self.recalled: dict[str, Result] = {}
        self.earlier: dict[str, tuple[Ended, ...]] = {}
        self.deps_ok: set[str] = set()
        self.reboots: dict[str, int] = {}
        self.shared: dict[str, Mapping[str, Any]] = {}
        self.reported: dict[str, tuple[Report, ...]] = {}
        self.changes: Changes | None = None
        self._record = record
        self._stories: Mapping[str, Story] = record.stories if record else {}
        self._left = {path for one in record.sessions for path in one.left} if record else set()
        then = str(self.dead.get("root", ""))
        self.heirs = Heirs(self._stories, moved=bool(root and then and root != then))
        self.readmitted = self.heirs.admitted
        self._may = may
        self._suspects: set[str] = set()
        self._decided: list[Result] = []
        self._settled: set[str] = set()
        """Paths of tasks that do not run again whatever needs them."""
        self._new: list[str] = []
        self._changed: list[str] = []
        self._again: dict[str, str] = {}
        self._anew: list[Task] = []
        self._known_again: dict[str, str] = {}
        self._is_at_the_start = True
        self._said: list[str] = []
        self._disowned: set[str] = set()
        """Tasks that are to add again what is still theirs."""

    def __bool__(self) -> bool:
        """Tell whether there was a run before."""
        return self._record is not None

    @property
    def name(self) -> str:
        """The name of the run; empty for a new one."""
        return str(self._record.header.get("run", "")) if self._record else ""

    @property
    def last_id(self) -> int:
        """The highest id of an attempt."""
        return self._record.last_id if self._record else 0

    @property
    def notices(self) -> list[str]:
        """What is to be said about the journal itself, in words."""
        return [*self._record.notices, *self._said] if self._record else []

    @property
    def dead(self) -> Mapping[str, Any]:
        """The first record of the last session; empty when there was none."""
        return self._record.sessions[-1].run if self._record and self._record.sessions else {}

    # -- restarts of the machine --------------------------------------------------------------------------------------

    @property
    def boots(self) -> int:
        """How often the machine was restarted in this run, before now."""
        return self._record.restarts if self._record else 0

    def note_boot(self, record: Mapping[str, Any]) -> None:
        """Take in the ``run`` record of the session that goes on; raise `StateError` when it restarts its machine for ever."""
        if self._record is None:
            return
        self._record.note_boot(record)
        if self.boots > self._may.per_run:
            raise StateError(
                f"the machine was restarted {self.boots} times in this run, which is enough",
                facts=[("run", self._record.folder)],
                hint="max_reboots allows more",
            )

    def is_suspect(self, task: Task) -> bool:
        """Tell whether a task may have taken the machine down: the record of its start is on the disk before it starts."""
        return bool(self._suspects) and task.name in self._suspects

    # -- what is known of the tasks -----------------------------------------------------------------------------------

    def take_over(self, task: Task, fingerprint: str, planner: Planner) -> bool:
        """Take over what is known of a task; False for one that is not what it was, and has to be in the plan anew."""
        story = self._stories.get(task.name)
        if story is None:
            self._new.append(task.name)
            return False
        if story.fingerprint != fingerprint:
            self._changed.append(task.name)
            self._disowned.add(task.name)
            if story.is_finished:
                self._again[task.name] = CHANGED
            return False
        if story.is_finished:
            self._recall(task, story)
        else:
            self._take_up(task, story.anew or story, planner)
        return True

    def _recall(self, task: Task, story: Story) -> None:
        result = self._record.result(task.name, task) if self._record else None
        if result is not None:
            self.recalled[task.name] = _replayed(result)
            if (story.result or {}).get("deps_ok"):
                self.deps_ok.add(task.name)

    def _take_up(self, task: Task, story: Story, planner: Planner) -> None:
        """Take over the attempts of a task without a result, and decide on one whose fate is not known."""
        folder = self._record.folder if self._record else ""
        ends = [records.ended_from(one, folder) for one in story.ends]
        charged = tuple(one for one in ends if one.status is not Status.CANCELLED)
        if charged:
            self.earlier[task.name] = charged
        if story.reboots:
            self._enter_again(task.name, story)
        if story.crashes >= self._may.crashes:
            why = f"the machine has gone down {story.crashes} times while it alone was running"
            self._decide(Result(task, Status.CRASHED, details=Details(reason=why)))
        elif task.once and story.path in self._left:
            why = "it was started, and what became of it is not known; once=True: it is not run again"
            self._decide(Result(task, Status.LOST, details=Details(reason=why)))
        elif story.is_suspect:
            planner.isolate(task)
            self._suspects.add(task.name)

    def _enter_again(self, path: str, story: Story) -> None:
        """Take over what a task has left for the time after a restart."""
        wish = story.rebooted
        self.reboots[path] = story.reboots
        if "shared" in wish:
            self.shared[path] = wish["shared"]
        reports = [one for one in story.reports if one["attempt"] == wish["attempt"]]
        if reports:
            self.reported[path] = tuple(map(records.report_from, reports))

    def _decide(self, result: Result) -> None:
        """Give a task a result that nothing has to run for."""
        self._decided.append(result)
        self._settled.add(result.path)
        self.recalled[result.path] = _replayed(result)

    def take_decided(self) -> list[Result]:
        """Return the results that were decided upon and are to be recorded, once."""
        decided, self._decided = self._decided, []
        return decided

    def stands(self, result: Result) -> bool:
        """Tell whether that is what the journal has already: of what fell with a culprit that was recalled."""
        story = self._stories.get(result.path)
        return bool(story and story.is_finished and not result.start and story.status == result.status)

    # -- what has to run again ----------------------------------------------------------------------------------------

    def run_anew(self, path: str, why: str) -> bool:
        """Have a finished task run again, since it has to add tasks again; False when it may not. Called before `run_again`."""
        known = self.recalled.get(path)
        if known is not None and known.task.once:
            self._said.append(f"{path} runs at most once, and {why}")
            return False
        if known is not None:
            del self.recalled[path]
            self._again[path] = why
            self._anew.append(known.task)
        return True

    def is_new_heir(self, path: str, by: str) -> bool:
        """Tell whether the journal does not say of a task that the task at ``by``, as it is now, has added it."""
        story = self._stories.get(path)
        return bool(by) and (story is None or story.by != by or by in self._disowned)

    def run_again(self, tasks: list[Task], planner: Planner, *, on_the_fly: bool) -> dict[str, str]:
        """Take those out of what was recalled that have to run again; return them, with the reason."""
        again, self._again = self._again, {}
        for task in tasks:
            known = self.recalled.get(task.name)
            if known is not None and known.status is Status.LOST and not task.once:
                again[task.name] = "it was lost"
                del self.recalled[task.name]
        unfinished = [task for task in tasks if task.name not in self.recalled] + self._anew
        self._anew = []
        needed = self._needed_later({task.name for task in tasks})
        while needed or unfinished:
            if not needed:
                needed = _needed_by(unfinished.pop(), planner)
            for path, has_value in needed:
                known = self.recalled.get(path)
                why = known and path not in self._settled and _gone(known, has_value=has_value)
                if known and why:
                    again[path] = why
                    unfinished.append(self.recalled.pop(path).task)
            needed = []
        self._disowned |= again.keys()
        self._known_again.update((path, why) for path, why in again.items() if why != CHANGED)
        if not on_the_fly:
            self._note_changes({task.name for task in tasks})
        return again

    def _needed_later(self, here: set[str]) -> list[tuple[str, bool]]:
        """Return what tasks require that will be added on the fly again: the paths, and whether they get the value."""
        later = [one for one in self._stories.values() if one.is_added and not one.is_finished and one.path not in here]
        edges = [edge for one in later for edge in one.plan.get("requires", ())]
        return [(path, "to" in edge) for edge in edges for path in edge["paths"]]

    def note_readmitted(self) -> None:
        """Note in ``changes`` what has become of tasks that others have added, as long as nothing has run."""
        if self.changes is not None and self._is_at_the_start:
            self.changes = replace(
                self.changes, finished=len(self.recalled), changed=tuple(self._changed),
                again=tuple(self._known_again.items()),
            )  # fmt: skip
            self._is_at_the_start = False

    def _note_changes(self, here: set[str]) -> None:
        stories = self._stories.values()
        self.changes = Changes(
            finished=len(self.recalled),
            new=tuple(self._new),
            changed=tuple(self._changed),
            removed=tuple(one.path for one in stories if one.path not in here and not one.is_added),
            again=tuple(self._known_again.items()),
        )


def _needed_by(task: Task, planner: Planner) -> list[tuple[str, bool]]:
    """Return the paths of what a task requires, each with whether it gets the value."""
    bound = zip(task.requires, planner.bindings(task), strict=True)
    return [(one.name, parameter_of(item) is not None) for item, (_, providers) in bound for one in providers]


def _gone(known: Result, *, has_value: bool) -> str:
    """Return why a finished task has to run again for one that requires it, perhaps its value; empty when it has not."""
    if known.task.is_service:
        return "a service: it is not up any more"
    if known.task.once:
        return ""
    if known.task.volatile:
        return "volatile: what it has done may be gone"
    if has_value and isinstance(known.carried, Unstorable):
        return f"its value was not stored: {known.carried.why}"
    return ""


def _replayed(result: Result) -> Result:
    """Return the result, marked as one of a run before."""
    about = replace(result.details, replayed=True)
    return Result(result.task, result.status, result.carried, result.start, result.duration, about)


def end_leftovers(dead: Mapping[str, Any]) -> None:
    """End the processes that a run which was killed has left, and remove its temporary folders: they carry its name."""
    lineage = dead.get("lineage")
    if not lineage or dead.get("boot") != Holder.here().boot or lineage == os.environ.get("PEXEN_LINEAGE"):
        return
    from pexen.pool import files, tree

    tree.reap(tree.end(tree.Family(lineage=lineage).members).killed)
    files.remove_left(str(lineage))
