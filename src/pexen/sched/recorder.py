"""Recorder: what a run writes into its journal. What it takes over from runs before is in `pexen.sched.resume`.

**Writing.** Records are made and appended outside of the run's lock, by whoever carries out what was decided there. A
result is told (and its dependants start) only when the journal has committed it: `Recorder.result` notes it, and posts
`Committed` then. Slots are free at the outcome, so others run meanwhile.

**Put aside.** What is the same for nearly all tasks (it starts, it has passed and there is nothing more to say) is only put
into a list; that costs a fraction of a microsecond. `_collect` makes one record of many: the journal's thread calls it, and
whoever pushes, and whoever records anything else, so the order is that in which things happened. A start whose result is
there when they are collected is not written with ``durability="process"``: the result says that it has started.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pexen.model.call import EXECUTE
from pexen.model.context import UNWRITABLE
from pexen.model.result import Outcome, Result, Status
from pexen.sched.heirs import NOT_SAID
from pexen.sched.reboot import Agreed
from pexen.sched.resume import Before
from pexen.sched.world import Committed, Unrecorded
from pexen.state import plan, records
from pexen.state.fingerprint import fingerprint
from pexen.state.journal import Journal
from pexen.state.lock import Holder
from pexen.state.reader import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pexen.core.planner import Fallen, Planner
    from pexen.errors import PexenError
    from pexen.model.attempt import Attempt
    from pexen.model.event import RebootWanted
    from pexen.model.result import Ended, Report
    from pexen.model.task import Task
    from pexen.sched.reboot import Departure, Reboots
    from pexen.sched.world import Finish

_ENOUGH = 512
"""Results put aside that somebody writes who is just there, with ``durability="process"``."""
_LONGEST = 1000
"""Tasks in one record."""


class Recorder:
    """The journal of a run in ``folder``. Raises `StateError` when it cannot be had, as `Journal` does.

    ``before`` is what it has of the runs before, which are held against what a run ``may`` do. ``post`` takes events; it is
    set before anything is recorded.

    ``starts`` takes attempts that are about to start, ``plain`` results of which there is nothing to say but that they have
    passed, with a value that `is_simple`; who appends there calls `wake` afterwards, or `push` when there are ``enough``.
    """

    is_simple = staticmethod(records.is_simple)

    def __init__(
        self, folder: str | os.PathLike[str], durability: str, about: Mapping[str, Any], may: Reboots
    ) -> None:  # fmt: skip
        self.post: Callable[[Any], None] = lambda _: None
        self.starts: list[Attempt] = []
        self.plain: list[Result] = []
        self.enough = _ENOUGH if durability == "process" else sys.maxsize
        """How many results put aside are to be pushed; where there is a sync to wait for, that is better left to the thread."""
        self._elides = durability == "process"
        self._epoch = time.time() - time.monotonic()
        self._lock = threading.RLock()
        """For what was put aside, and what is pending: held from appending a record to noting what is to be done then."""
        self._pending: dict[int, Callable[[list[Result]], None] | list[Result]] = {}
        self._answers: dict[tuple[int, int], Callable[[str], None]] = {}
        """Who waits for a record; each is told once."""
        self._asked: list[tuple[int, tuple[int, int]]] = []
        """Up to which record it has to be safe for which of them."""
        self._safe = 0
        self._held: dict[int, Attempt] = {}
        """Attempts that wait for the record of their start, by id."""
        self._elided = 0
        """The highest id of an attempt whose start is not written."""
        self.journal = Journal(
            folder, durability=durability, committed=self._committed, failed=self._failed,  # type: ignore[arg-type]
            aside=self._aside, collect=self._collect,
        )  # fmt: skip
        self.folder = self.journal.folder
        self.forgets = self.journal.forgets
        self._safe = self.journal.committed
        try:
            root = str(about.get("root", ""))
            self.before = Before(read(self.folder) if self.journal.last else None, may, root)
            self._begin(durability, dict(about))
        except BaseException:
            self.journal.close()
            raise

    def _begin(self, durability: str, about: dict[str, Any]) -> None:
        from pexen import __version__

        me = Holder.here()
        record = records.run(
            self.before.name or os.path.basename(self.folder),
            at=time.time(),
            version=__version__,
            durability=durability,
            runner=(me.pid, me.start, me.boot),
            **about,
        )
        lineage = os.environ.get("PEXEN_LINEAGE", "")
        if lineage:
            record["lineage"] = lineage
        self.before.note_boot(record)
        self.journal.append(record)

    # -- the plan, and what is known of it ----------------------------------------------------------------------------

    def plan(self, tasks: Iterable[Task], planner: Planner, *, on_the_fly: bool, by: str = "") -> None:
        """Record tasks that were admitted, perhaps ``by`` the task at a path, and recall what is known of them.

        Call it before any of them can start.
        """
        made, before = partial(plan.added, by=by) if on_the_fly else plan.task, self.before
        listed = list(tasks)
        known: dict[int, records.Json] = {}
        for key, group in groupby(listed, _alike):
            alike = list(group)
            record = known.get(key)
            if record is None:
                record = made(alike[0], "", *_edges(alike[0], planner))
                record["fingerprint"] = fingerprint(alike[0], record)
                if key != id(alike[0]):
                    known[key] = record
            if before:
                mark = record["fingerprint"]
                alike = [
                    one for one in alike if not before.take_over(one, mark, planner) or before.is_new_heir(one.name, by)
                ]
            for one in plan.together(record, [task.path or task.name for task in alike], _LONGEST):
                self.journal.append(one)
        if before:
            self._record_again(before.run_again(listed, planner, on_the_fly=on_the_fly))

    def readmit(self, planner: Planner) -> list[Fallen]:
        """Admit what finished tasks have added in a run before, as far as they are recalled and not run again.

        Returns those that can never run. Call it after `plan`; what is admitted is recorded and recalled like that.
        """
        before = self.before
        if not before.heirs:
            return []
        due, fallen = before.heirs.admit(before, planner)
        for one in due:
            if not before.take_over(one.task, one.fingerprint, planner):
                self.journal.append({**one.record, "fingerprint": one.fingerprint})
            elif one.runs_again:
                before.run_anew(one.task.name, NOT_SAID)
        self._record_again(before.run_again([one.task for one in due], planner, on_the_fly=True))
        before.note_readmitted()
        return fallen

    def _record_again(self, again: Mapping[str, str]) -> None:
        for path, why in again.items():
            self.journal.append(plan.again(path, why))
        for result in self.before.take_decided():
            self.journal.append(records.result(result, self.folder)[0])

    def tell_when_safe(self, attempt: Attempt, answer: Callable[[str], None]) -> None:
        """Call ``answer`` when everything recorded so far is safe: with nothing, or why it never will be."""
        key = attempt.id, id(answer)
        self._answers[key] = answer
        with self._lock:
            last = self.journal.last
            is_safe = self._safe >= last
            if not is_safe:
                self._asked.append((last, key))
        if is_safe:
            self._answer(key, "")
        else:
            self.journal.push()
        if self.journal.failure is not None:
            self._answer_all(UNWRITABLE)

    # -- restarts of the machine --------------------------------------------------------------------------------------

    def reboot(self, wishes: Iterable[RebootWanted], departure: Departure) -> None:
        """Record that tasks want the machine restarted; `Agreed` is posted when that is safe."""
        boot, last = Holder.here().boot, None
        for wish in wishes:
            if last is not None:
                self._append(last)
            last = records.reboot(wish.attempt, by=wish.by, at=time.time(), boot=boot, shared=self._shared_of(wish))
        if last is not None:
            self._append(last, does=lambda _: self.post(Agreed(departure)))
        self.journal.push()

    def _shared_of(self, wish: RebootWanted) -> Mapping[str, Any] | None:
        """Return a task's shared dict as it leaves it, what it has left before the last restart included."""
        before = self.before.shared.get(wish.attempt.task.name)
        if before is None or wish.shared is None:
            return wish.shared if before is None else before
        return {**before, **wish.shared} if wish.attempt.call is EXECUTE else wish.shared

    # -- what happens -------------------------------------------------------------------------------------------------

    def started(self, attempt: Attempt, submit: Callable[[], None]) -> None:
        """Record that an attempt at a ``once`` task is about to start, and start it when that is committed."""
        self._held[attempt.id] = attempt

        def go(_: object) -> None:
            if self._held.pop(attempt.id, None) is not None:
                submit()

        self._append(records.started(attempt, at=time.time()), does=go)
        self.journal.push()
        if self.journal.failure is not None:
            self._refuse_held()

    def _refuse_held(self) -> None:
        """Give back what waits for a record that will never be: each once, whoever comes first."""
        for id_ in list(self._held):
            attempt = self._held.pop(id_, None)
            if attempt is not None:
                why = "not started: the journal cannot be written"
                self.post(Outcome(attempt, Status.CANCELLED, reason=why))

    def stopped(self, why: str) -> None:
        """Record that the run was told to stop."""
        self._append(records.stopped(why, at=time.time()))

    def returned(self, attempt: Attempt) -> None:
        """Record that an attempt came back unstarted."""
        self._append(records.returned(attempt))

    def report(self, attempt: Attempt, what: Report, answer: Callable[[str], None] | None = None) -> None:
        """Record a report; call ``answer`` when it is safe, with nothing, or why it never will be."""
        if answer is None:
            self._append(records.report(attempt, what))
            return
        self._answers[attempt.id, id(answer)] = answer

        def does(_: object) -> None:
            self._answer((attempt.id, id(answer)), "")

        self._append(records.report(attempt, what), does=does)
        self.journal.push()
        if self.journal.failure is not None:
            self._answer_all(UNWRITABLE)

    def _answer(self, key: tuple[int, int], text: str) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            answer(text)

    def _answer_all(self, text: str) -> None:
        for key in list(self._answers):
            self._answer(key, text)

    def ended(self, path: str, attempt: Ended) -> None:
        """Record the end of an attempt that is not the task's result."""
        self._append(records.ended(path, attempt, self.folder))

    def result(self, result: Result, finish: Finish | None) -> None:
        """Record a result, with what the planner is to be told; it is posted as `Committed` when it is safe."""
        if self.before.stands(result):
            self.post(Committed([result]))
            return
        shared, deps_ok = (finish.shared, finish.success) if finish else (None, False)
        record, beside = records.result(result, self.folder, shared=shared, deps_ok=deps_ok)
        self._append(record, beside, lambda ready: ready.append(result))

    def push(self) -> None:
        """Have what was recorded committed without waiting for more."""
        self._collect()
        self.journal.push()

    def flush(self) -> None:
        """Wait until everything recorded so far is committed, or never will be."""
        self._collect()
        self.journal.flush()

    def wake(self) -> None:
        """Have what was put aside recorded in a while."""
        if len(self.starts) + len(self.plain) >= self.journal.wanted:
            self.journal.wake()

    def end(self, how: str, counts: Mapping[str, int], why: str = "") -> None:
        """Record the end of the run, and close the journal."""
        self._append(records.end(how, counts, at=time.time(), why=why))
        self.journal.close()

    @property
    def failure(self) -> PexenError | None:
        """Why nothing more is recorded, or None."""
        return self.journal.failure

    # -- what was put aside -------------------------------------------------------------------------------------------

    def _aside(self) -> int:
        return len(self.starts) + len(self.plain)

    def _append(
        self, record: records.Json, beside: bytes = b"", does: Callable[[list[Result]], None] | None = None
    ) -> None:
        """Record something behind everything that was put aside; ``does`` is to be done when it is committed.

        It never is when the journal has failed, and that is posted then.
        """
        with self._lock:
            is_lost = self._append_aside()
            seq = self.journal.append(record, beside)
            if seq and does is not None:
                self._pending[seq] = does
            is_lost = is_lost or (does is not None and not seq)
        self._tell_lost(is_lost=is_lost)

    def _collect(self) -> None:
        """Append what was put aside."""
        with self._lock:
            is_lost = self._append_aside()
        self._tell_lost(is_lost=is_lost)

    def _tell_lost(self, *, is_lost: bool) -> None:
        """Say that something was not taken, if it was since the journal has failed."""
        if is_lost and self.journal.failure is not None:
            self.post(Unrecorded(self.journal.failure))

    def _append_aside(self) -> bool:
        """Append what was put aside, under the lock; return whether results were not taken since the journal has failed.

        It looks for results first and for starts second, so that no result is recorded before its start.
        """
        plain, starts = self.plain, self.starts
        is_lost = False
        while plain or starts:
            passed = plain[:_LONGEST]
            started = starts[:]
            del plain[: len(passed)], starts[: len(started)]
            if self._elides:
                started = self._without_settled(started)
            for one in range(0, len(started), _LONGEST):
                self.journal.append(records.starts(started[one : one + _LONGEST], self._epoch))
            if passed:
                seq = self.journal.append(records.passed(passed, self._elided))
                if seq:
                    self._pending[seq] = passed
                else:
                    is_lost = True
        return is_lost

    def _without_settled(self, started: list[Attempt]) -> list[Attempt]:
        """Leave out the attempts whose plain result is known."""
        elided, kept = self._elided, []
        for one in started:
            if not one.settled:
                kept.append(one)
            elif one.id > elided:
                elided = one.id
        self._elided = elided
        return kept

    # -- what is safe -------------------------------------------------------------------------------------------------

    def _committed(self, seq: int) -> None:
        with self._lock:
            due = [self._pending.pop(one) for one in sorted(self._pending) if one <= seq]
            self._safe = seq
            told = [key for last, key in self._asked if last <= seq]
            if told:
                self._asked = [one for one in self._asked if one[0] > seq]
        for key in told:
            self._answer(key, "")
        if due:
            self._do(due)

    def _do(self, due: list[Callable[[list[Result]], None] | list[Result]]) -> None:
        ready: list[Result] = []
        for does in due:
            if isinstance(does, list):
                self.post(Committed(does, is_plain=True))
            else:
                does(ready)
        if ready:
            self.post(Committed(ready))

    def _failed(self, error: PexenError) -> None:
        self.post(Unrecorded(error))
        self._refuse_held()
        self._answer_all(UNWRITABLE)


def _alike(task: Task) -> int:
    """Return what is the same number for tasks of which the plan says the same but for their paths."""
    return id(task if task.meta or task.requires or task.provides else task.callable)


def _edges(task: Task, planner: Planner) -> tuple[plan.Bindings, list[str]]:
    """Return what the requirements of a task were bound to, and the paths of those it comes after."""
    bound = [(text, [one.name for one in found]) for text, found in planner.bindings(task)] if task.requires else ()
    return bound, [one.name for one in planner.followed(task)] if "after" in task.meta else []
