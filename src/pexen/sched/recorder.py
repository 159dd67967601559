"""Recorder: what a run writes into its journal, and what it takes over from the runs before that the journal has.

**Writing.** Records are made and appended outside of the run's lock, by whoever carries out what was decided there. A
result is told (and its dependants start) only when the journal has committed it: `Recorder.result` notes it, and posts
`Committed` then. Slots are free at the outcome, so others run meanwhile.

**Taking over.** A task whose path and fingerprint are those of one with a result is not run: it gets that result, marked
``replayed``. Except for `volatile` providers and those whose value could not be stored, when something unfinished needs
them; those that were lost; and ``once`` tasks that were started and not heard of again, which are ``lost`` for good.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pexen.errors import StateError
from pexen.model.call import parameter_of
from pexen.model.result import Details, Outcome, Result, Status
from pexen.sched.decide import Committed, Unrecorded
from pexen.sched.reboot import Agreed
from pexen.state import plan, records
from pexen.state.fingerprint import fingerprint
from pexen.state.journal import Journal
from pexen.state.lock import Holder
from pexen.state.reader import read
from pexen.state.values import Unstorable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pexen.core.planner import Planner
    from pexen.errors import PexenError
    from pexen.model.attempt import Attempt
    from pexen.model.event import RebootWanted
    from pexen.model.result import Ended, Report
    from pexen.model.task import Task
    from pexen.sched.reboot import Departure, Reboots
    from pexen.state.reader import Story


@dataclass(frozen=True, slots=True)
class Changes:
    """How the tasks differ from those of the runs before, by path."""

    finished: int = 0
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    again: tuple[tuple[str, str], ...] = ()


class Recorder:
    """The journal of a run in ``folder``. Raises `StateError` when it cannot be had, as `Journal` does.

    ``recalled`` are the results of runs before, by path, ``earlier`` the attempts of unfinished tasks, ``last_id`` the highest
    attempt id. ``reboots`` is how often the machine was restarted for a task, ``shared`` its dict as it left it then, and
    ``reported`` what it had reported. ``may`` are the limits for that. ``post`` takes events; it is set before anything is
    recorded.
    """

    def __init__(
        self, folder: str | os.PathLike[str], durability: str, about: Mapping[str, Any], may: Reboots
    ) -> None:  # fmt: skip
        self.post: Callable[[Any], None] = lambda _: None
        self.recalled: dict[str, Result] = {}
        self.earlier: dict[str, tuple[Ended, ...]] = {}
        self.reboots: dict[str, int] = {}
        self.shared: dict[str, Mapping[str, Any]] = {}
        self.reported: dict[str, tuple[Report, ...]] = {}
        self.changes: Changes | None = None
        self._may = may
        self._lock = threading.Lock()
        self._pending: dict[int, Callable[[list[Result]], None]] = {}
        self._held: dict[int, Attempt] = {}
        """Attempts that wait for the record of their start, by id."""
        self._safe = 0
        self._journal = Journal(
            folder, durability=durability, committed=self._committed, failed=self._failed  # type: ignore[arg-type]
        )  # fmt: skip
        self.folder = self._journal.folder
        self.forgets = self._journal.forgets
        try:
            self._before = read(self.folder) if self._journal.last else None
            self.last_id = self._before.last_id if self._before else 0
            self.notices = list(self._before.notices) if self._before else []
            self._left = {one.path for one in self._before.unfinished} if self._before else set()
            self._begin(durability, dict(about))
        except BaseException:
            self._journal.close()
            raise

    @property
    def dead(self) -> Mapping[str, Any]:
        """The first record of the last session before this one; empty when there was none."""
        return self._before.sessions[-1].run if self._before and self._before.sessions else {}

    def _begin(self, durability: str, about: dict[str, Any]) -> None:
        from pexen import __version__

        me = Holder.here()
        name = (self._before and self._before.header.get("run")) or os.path.basename(self.folder)
        record = records.run(
            name,
            at=time.time(),
            version=__version__,
            durability=durability,
            runner=(me.pid, me.start, me.boot),
            **about,
        )
        lineage = os.environ.get("PEXEN_LINEAGE", "")
        if lineage:
            record["lineage"] = lineage
        if self._before is not None:
            self._before.note_boot(record)
            self._check_boots()
        self._journal.append(record)

    # -- the plan, and what is known of it ----------------------------------------------------------------------------

    def plan(self, tasks: Iterable[Task], planner: Planner, *, on_the_fly: bool) -> None:
        """Record tasks that were admitted, and recall what is known of them. Call it before any of them can start."""
        made = plan.added if on_the_fly else plan.task
        before = self._before.stories if self._before else {}
        fresh, again = [], {}
        listed = list(tasks)
        for task in listed:
            bound = [(text, [one.name for one in found]) for text, found in planner.bindings(task)]
            record = made(task, "", bound)
            record["fingerprint"] = print_ = fingerprint(task, record)
            story = before.get(task.name)
            if story is None or story.fingerprint != print_:
                self._journal.append(record)
                fresh.append((task.name, story is not None))
                if story is not None and story.is_finished:
                    again[task.name] = "it has changed"
            elif story.is_finished:
                self._recall(task)
            elif not story.status:
                self._take_up(task, planner)
        if self._before is not None:
            again.update(self._run_again(listed, planner))
            for path, why in again.items():
                self._journal.append(plan.again(path, why))
            self._note_changes(listed, fresh, again, on_the_fly=on_the_fly)

    def _recall(self, task: Task) -> None:
        result = self._before.result(task.name, task) if self._before else None
        if result is not None:
            self.recalled[task.name] = replayed(result)

    def _take_up(self, task: Task, planner: Planner) -> None:
        """Take over the attempts of a task without a result, and decide on one whose fate is not known."""
        assert self._before is not None  # noqa: S101 - for mypy
        story = self._before.stories[task.name]
        ends = [records.ended_from(one, self.folder) for one in story.ends]
        charged = tuple(one for one in ends if one.status is not Status.CANCELLED)
        if charged:
            self.earlier[task.name] = charged
        if story.reboots:
            self._take_up_rebooted(task.name, story)
        if story.crashes >= self._may.crashes:
            why = f"the machine has gone down {story.crashes} times while it alone was running"
            self._decide(Result(task, Status.CRASHED, details=Details(reason=why)))
        elif task.once and story.path in self._left:
            why = "it was started, and what became of it is not known; once=True: it is not run again"
            self._decide(Result(task, Status.LOST, details=Details(reason=why)))
        elif story.is_suspect:
            planner.isolate(task)

    def _take_up_rebooted(self, path: str, story: Story) -> None:
        """Take over what a task has left for the time after a restart."""
        wish = story.rebooted
        self.reboots[path] = story.reboots
        if "shared" in wish:
            self.shared[path] = wish["shared"]
        reports = [one for one in story.reports if one["attempt"] == wish["attempt"]]
        if reports:
            self.reported[path] = tuple(map(records.report_from, reports))

    def _decide(self, result: Result) -> None:
        """Record a result that nothing has to run for."""
        self._journal.append(records.result(result, self.folder)[0])
        self.recalled[result.path] = replayed(result)

    def _run_again(self, tasks: list[Task], planner: Planner) -> dict[str, str]:
        """Take those out of what was recalled that have to run again; return them, with the reason."""
        again: dict[str, str] = {}
        for task in tasks:
            known = self.recalled.get(task.name)
            if known is not None and known.status is Status.LOST and not task.once:
                again[task.name] = "it was lost"
                del self.recalled[task.name]
        unfinished = [task for task in tasks if task.name not in self.recalled]
        while unfinished:
            task = unfinished.pop()
            for item, (_, providers) in zip(task.requires, planner.bindings(task), strict=True):
                for one in providers:
                    known = self.recalled.get(one.name)
                    if known is None:
                        continue
                    if one.volatile:
                        why = "volatile: what it has done may be gone"
                    elif parameter_of(item) is not None and isinstance(known.carried, Unstorable):
                        why = f"its value was not stored: {known.carried.why}"
                    else:
                        continue
                    again[one.name] = why
                    del self.recalled[one.name]
                    unfinished.append(one)
        return again

    def _note_changes(
        self, tasks: list[Task], fresh: list[tuple[str, bool]], again: dict[str, str], *, on_the_fly: bool
    ) -> None:  # fmt: skip
        if on_the_fly or self._before is None:
            return
        here = {task.name for task in tasks}
        self.changes = Changes(
            finished=len(self.recalled),
            new=tuple(path for path, was_there in fresh if not was_there),
            changed=tuple(path for path, was_there in fresh if was_there),
            removed=tuple(s.path for s in self._before.stories.values() if s.path not in here and not s.is_added),
            again=tuple((path, why) for path, why in again.items() if why != "it has changed"),
        )

    # -- restarts of the machine --------------------------------------------------------------------------------------

    @property
    def boots(self) -> int:
        """How often the machine was restarted in this run, before now."""
        return self._before.restarts if self._before else 0

    def _check_boots(self) -> None:
        """Raise `StateError` when this run restarts its machine for ever."""
        if self.boots > self._may.per_run:
            raise StateError(
                f"the machine was restarted {self.boots} times in this run, which is enough",
                facts=[("run", self.folder)],
                hint="max_reboots allows more",
            )

    def reboot(self, wishes: Iterable[RebootWanted], departure: Departure) -> None:
        """Record that tasks want the machine restarted; `Agreed` is posted when that is safe."""
        seq, boot = 0, Holder.here().boot
        for wish in wishes:
            record = records.reboot(wish.attempt, by=wish.by, at=time.time(), boot=boot, shared=wish.shared)
            seq = self._journal.append(record)
        self._when_safe(seq, lambda _: self.post(Agreed(departure)))
        self._journal.push()

    # -- what happens -------------------------------------------------------------------------------------------------

    def started(self, attempt: Attempt, submit: Callable[[], None]) -> None:
        """Record that an attempt is about to start, and start it: a ``once`` task when that is committed."""
        seq = self._journal.append(records.started(attempt, at=time.time()))
        if not (attempt.task.meta and attempt.task.once):
            submit()
            return
        self._held[attempt.id] = attempt

        def go(_: object) -> None:
            if self._held.pop(attempt.id, None) is not None:
                submit()

        self._when_safe(seq, go)
        self._journal.push()
        if self._journal.failure is not None:
            self._refuse_held()

    def _refuse_held(self) -> None:
        """Give back what waits for a record that will never be: each once, whoever comes first."""
        for id_ in list(self._held):
            attempt = self._held.pop(id_, None)
            if attempt is not None:
                why = "not started: the journal cannot be written"
                self.post(Outcome(attempt, Status.CANCELLED, reason=why))

    def returned(self, attempt: Attempt) -> None:
        """Record that an attempt came back unstarted."""
        self._journal.append(records.returned(attempt))

    def report(self, attempt: Attempt, what: Report, answer: Callable[[str], None] | None = None) -> None:
        """Record a report; call ``answer`` when it is safe, with nothing, or why it never will be."""
        seq = self._journal.append(records.report(attempt, what))
        if answer is None:
            return
        if not seq:
            answer("the journal cannot be written")
            return
        self._when_safe(seq, lambda _: answer(""))
        self._journal.push()

    def ended(self, path: str, attempt: Ended) -> None:
        """Record the end of an attempt that is not the task's result."""
        self._journal.append(records.ended(path, attempt, self.folder))

    def result(self, result: Result, shared: Any) -> None:
        """Record a result; it is posted as `Committed` when it is safe."""
        if self._stands(result):
            self.post(Committed([result]))
            return
        record, beside = records.result(result, self.folder, shared=shared)
        self._when_safe(self._journal.append(record, beside), lambda ready: ready.append(result))

    def _stands(self, result: Result) -> bool:
        """Tell whether that is what the journal has already: of what fell with a culprit that was recalled."""
        story = self._before.stories.get(result.path) if self._before else None
        return bool(story and story.is_finished and not result.start and story.status == result.status)

    def push(self) -> None:
        """Have what was recorded committed without waiting for more."""
        self._journal.push()

    def flush(self) -> None:
        """Wait until everything recorded so far is committed, or never will be."""
        self._journal.flush()

    def end(self, how: str, counts: Mapping[str, int], why: str = "") -> None:
        """Record the end of the run, and close the journal."""
        self._journal.append(records.end(how, counts, at=time.time(), why=why))
        self._journal.close()

    @property
    def failure(self) -> PexenError | None:
        """Why nothing more is recorded, or None."""
        return self._journal.failure

    # -- what is safe -------------------------------------------------------------------------------------------------

    def _when_safe(self, seq: int, does: Callable[[list[Result]], None]) -> None:
        """Have something done when a record is committed, which it may be by now; never when the journal has failed."""
        with self._lock:
            if seq and seq > self._safe:
                self._pending[seq] = does
                return
        if seq:
            self._do([does])
        elif self._journal.failure is not None:
            self.post(Unrecorded(self._journal.failure))

    def _committed(self, seq: int) -> None:
        with self._lock:
            self._safe = seq
            due = [self._pending.pop(one) for one in sorted(self._pending) if one <= seq]
        if due:
            self._do(due)

    def _do(self, due: list[Callable[[list[Result]], None]]) -> None:
        ready: list[Result] = []
        for does in due:
            does(ready)
        if ready:
            self.post(Committed(ready))

    def _failed(self, error: PexenError) -> None:
        self.post(Unrecorded(error))
        self._refuse_held()


def replayed(result: Result) -> Result:
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
