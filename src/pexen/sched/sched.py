"""Sched: what to run, and with which pools.

A `Sched` outlives its runs: it keeps the planner and the results, each `pexen.sched.run.Run` the rest.
"""

from __future__ import annotations

import gc
import os
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pexen.core.planner import Planner
from pexen.errors import DefinitionError, PoolError
from pexen.model.meta import duration
from pexen.model.result import Results
from pexen.model.task import Task, as_task
from pexen.sched.around import check as check_around
from pexen.sched.group import Group
from pexen.sched.reboot import Reboots
from pexen.sched.run import Run, Running
from pexen.sched.verdict import checked
from pexen.sched.world import DEFAULT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from pexen.core.explain import Explanation
    from pexen.core.planner import Fallen
    from pexen.model.result import Result
    from pexen.model.waiver import Waiver
    from pexen.pool.base import Pool
    from pexen.sched.reboot import Wish
    from pexen.sched.recorder import Recorder
    from pexen.sched.resume import Changes

NO_REBOOTS = Reboots()
"""Whoever asks for a restart of the machine ends the run, and somebody else has to do it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a run stands: how many tasks there are, what is in flight, how many results of each status there are."""

    tasks: int
    unfinished: int
    in_flight: tuple[Running, ...]
    results: Mapping[str, int]


class Sched:
    """A set of tasks and how to run them.

    ``tasks`` are `pexen.Task` values, decorated functions or any callables. ``pool`` is where they run (by default
    threads for callables, and commands); ``pools`` are others by the name tasks give in ``pool=``. ``groups`` are
    `pexen.Group` values, which may stand among the tasks as well. ``resources`` are
    amounts or lists of unit names, ``shared`` the defaults of every task's shared dict, ``poison`` whether any
    uncontrolled failure poisons what the task claimed, ``backlog`` how many results may wait for the loop over `run`,
    ``maxfail`` after how many failures nothing more is started but clean-ups. ``durations`` returns what is known of
    how long the task at a path takes, in seconds. ``gate`` returns why a task is not to run here (by default its
    ``when`` and ``host`` on the facts of this machine). ``timeout`` is the limit of tasks that have none of their
    own, ``deadline`` that of the run: what runs then is ended as by its timeout, and only clean-ups start any more.
    ``waivers`` say which failures are accepted, see `pexen.waiver`. With ``subreap`` this process is given the
    orphans of its tasks while a run goes on, so that they cannot get out of its reach; those that end by themselves
    stay zombies as long as it lives. ``reaper`` is a process that is given the orphans of this one and has no other
    children. With ``retry_last``, what is tried again is when all else has ended, one at a time.

    With ``journal``, a folder, everything is recorded there as safely as ``durability`` promises (``"full"``: a power cut;
    ``"process"``: kill -9). What a run before has recorded there as finished is not run again: its results come first, marked
    ``replayed``; see `changes`. ``about`` are more fields of the journal's first record. ``reboots`` say
    what happens when a task wants the machine restarted, see `wish`.

    Methods may be called from any thread. Raises `DefinitionError` when the tasks are wrong.
    """

    def __init__(  # noqa: PLR0913 - all there is to say about a run, by keyword
        self,
        tasks: Iterable[Any] = (),
        *,
        pool: Pool | None = None,
        pools: Mapping[str, Pool] | None = None,
        groups: Iterable[Group] = (),
        resources: Mapping[str, float | Sequence[str]] | None = None,
        shared: Mapping[str, Any] | None = None,
        poison: bool = False,
        backlog: int = 1000,
        maxfail: int | None = None,
        durations: Callable[[str], float | None] | None = None,
        gate: Callable[[Task], str | None] | None = None,
        timeout: float | str | None = None,
        deadline: float | str | None = None,
        waivers: Iterable[Waiver] = (),
        retry_last: bool = False,
        reaper: int | None = None,
        subreap: bool = False,
        journal: str | os.PathLike[str] | None = None,
        durability: Literal["full", "process"] = "full",
        about: Mapping[str, Any] | None = None,
        reboots: Reboots = NO_REBOOTS,
    ) -> None:
        self._timeout = None if timeout is None else duration("timeout", timeout)
        self._deadline = None if deadline is None else duration("deadline", deadline)
        self._waivers = checked(waivers)
        self._retry_last = retry_last
        self._reaper = reaper
        self._subreap = subreap
        self._reboots = reboots
        self.wish: Wish | None = None
        """The restart of the machine that the last run has ended for: whoever drives it sees to that."""
        self._recording = None if journal is None else (os.path.abspath(journal), durability, dict(about or {}))
        self._recorder: Recorder | None = None
        self._gate = gate
        self._maxfail = maxfail
        self._pools = _with_commands(pool, pools)
        self._planner = Planner(resources=resources, pools=self._pools, durations=durations)
        self._results: dict[str, Result] = {}
        self._early: deque[Fallen] = deque()
        self._shared = (dict(shared),) if shared else ()
        self._poison = poison
        self._backlog = max(1, backlog)
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._groups: dict[str, Pool] = {}
        self.add([*groups, *tasks])

    @property
    def results(self) -> Results:
        """All results so far, those that nobody has read from the loop included."""
        return Results(self._results)

    def add(self, tasks: Iterable[Any]) -> None:
        """Admit more tasks, before, during or after a run; all of them or, with a `DefinitionError`, none."""
        groups: list[Group] = []
        items = [item if item.__class__ is Task else _as_task(item, groups) for item in tasks]
        if groups:
            items = [*filter(None, items), *self._add_groups(groups)]
        if self._recording is not None:
            _refuse_repeated_names(items)
        if len(items) <= _MANY:
            self._admit(items)
            return
        with _without_gc():
            self._admit(items)

    def _add_groups(self, groups: list[Group]) -> list[Task]:
        """Make the groups; return their tasks, which say now that they are members."""
        members: list[Task] = []
        fresh = {}
        for group in groups:
            members += group.members()
            with self._lock if self._run is None else self._run.lock:
                name = self._planner.add_group(group.name, is_ordered=group.ordered)
            fresh[name] = _with_commands(group.pool, None)[DEFAULT]
        self._groups.update(fresh)
        if self._run is not None:
            self._run.add_groups(fresh)
        return members

    def _admit(self, items: list[Task]) -> None:
        _vet(items)
        with self._lock:
            run = self._run
            if run is None:
                self._early.extend(self._planner.add(items))
                return
        if not run.add(items):  # it has just ended: they are for the next one
            run.wait_closed()
            self._admit(items)

    def run(self) -> Iterator[Result]:
        """Run everything that was added and yield each result as it comes.

        Tasks may be added from the loop. Leaving the loop early cancels what has not started, ends what runs, and keeps
        all results readable in `results`. A later `run` runs what was added since.
        """
        run = self._begin(kept=True, consumed=True)
        try:
            yield from run
        finally:
            run.close()
        run.wait()  # raises what has gone wrong since: the last record could not be written

    def __aiter__(self) -> AsyncIterator[Result]:
        """Run, as `run` does, in a running event loop: ``async for result in sched``. See `pexen.sched.aio.results_of`."""
        from pexen.sched.aio import results_of  # asyncio, for those who have it anyway

        return results_of(self)

    def open(self) -> Run:
        """Run, driven by the caller: from one thread `Run.take` until that returns None, then `Run.close`."""
        return self._begin(kept=True, consumed=True)

    def start(self) -> Run:
        """Run in the background; iterate over the `Run`, or wait for it."""
        run = self._begin(kept=True)
        run.drive_in_background()
        return run

    def wait(self) -> Results:
        """Run everything to the end in this thread and return the results."""
        run = self._begin(kept=False)
        try:
            run.drive()
        finally:
            run.close()
        return run.wait()

    def cancel(self, *paths: str) -> None:
        """Cancel the tasks at these paths, or all: what has not started never will, what runs is asked to stop."""
        tasks = [self._find(path) for path in paths] or self._planner.tasks()
        run = self._run
        if run is not None:
            run.cancel_tasks(tasks)
        else:
            with self._lock:
                self._early.extend(self._planner.cancel(tasks))

    def explain(self, path: str) -> Explanation:
        """Return why a task is not running."""
        with self._lock if self._run is None else self._run.lock:
            return self._planner.explain(self._find(path))

    def bindings(self, path: str) -> list[tuple[str, list[str]]]:
        """Return each requirement of a task as text, with the paths of the tasks it is bound to."""
        with self._lock if self._run is None else self._run.lock:
            found = self._planner.bindings(self._find(path))
            return [(wanted, [task.name for task in tasks]) for wanted, tasks in found]

    def snapshot(self) -> Snapshot:
        """Return where the run stands."""
        counts: dict[str, int] = {}
        run = self._run
        with self._lock if run is None else run.lock:
            for result in self._results.values():
                counts[result.status] = counts.get(result.status, 0) + 1
            in_flight = () if run is None else run.in_flight()
            return Snapshot(len(self._planner.tasks()), self._planner.unfinished, in_flight, counts)

    def __enter__(self) -> Self:
        """Return self; leaving the block ends a run that is still going."""
        return self

    def __exit__(self, *_: object) -> None:
        run = self._run
        if run is not None:
            run.close()

    def _find(self, path: str) -> Task:
        task = self._planner.find(path)
        if task is None:
            raise DefinitionError(f"there is no task {path!r} in this run")
        return task

    def _begin(self, *, kept: bool, consumed: bool = False) -> Run:
        with self._lock:
            if self._run is not None:
                raise PoolError("this Sched is already running", hint="one run at a time; add() works while it runs")
            recorder = self._recorder = self._take_up()
            early, self._early = self._early, deque()
            run = self._run = Run(
                self._planner,
                self._pools,
                self._results,
                groups=self._groups,
                early=early,
                kept=kept,
                consumed=consumed,
                shared=self._shared,
                poison=self._poison,
                maxfail=self._maxfail,
                backlog=self._backlog,
                gate=self._gate,
                timeout=self._timeout,
                deadline=self._deadline,
                waivers=self._waivers,
                retry_last=self._retry_last,
                reaper=self._reaper,
                subreap=self._subreap,
                recorder=recorder,
                reboots=self._reboots,
                vet=_vet,
                at_end=self._end,
            )
        run.begin()
        return run

    def _take_up(self) -> Recorder | None:
        """Open the journal, end what an earlier run has left behind, and recall what that has finished."""
        if self._recording is None:
            return None
        from pexen.sched.recorder import Recorder
        from pexen.sched.resume import end_leftovers  # only runs with a journal pay for it

        with suppress(OSError):  # the journal says it better if that cannot be
            os.makedirs(self._recording[0], 0o700, exist_ok=True)
        recorder = Recorder(*self._recording, self._reboots)
        try:
            end_leftovers(recorder.before.dead)
            left = self._planner.tasks()
            if len(left) > self._planner.unfinished:
                left = [task for task in left if not self._planner.is_final(task)]
            recorder.plan(left, self._planner, on_the_fly=False)
            self._early.extend(recorder.readmit(self._planner))
            recorder.push()
        except BaseException:
            recorder.journal.close()
            raise
        return recorder

    @property
    def changes(self) -> Changes | None:
        """How the tasks differ from those of the run that is taken up again; None without one."""
        return self._recorder.before.changes if self._recorder else None

    @property
    def notices(self) -> list[str]:
        """What is to be said about the journal, in words."""
        recorder = self._recorder
        if recorder is None:
            return []
        forgets = [f"the record does not survive a restart: it is on {recorder.forgets}"] if recorder.forgets else []
        return [*recorder.before.notices, *forgets]

    def _end(self, run: Run) -> None:
        with self._lock:
            if self._run is run:
                self._run = None
                self.wish = run.wish


def run(tasks: Iterable[Any], *, workers: int | None = None, **options: Any) -> Results:
    """Run tasks to the end and return the mapping from path to result.

    ``options`` are those of `Sched`; ``workers`` is the size of the default pool (the usable CPUs).
    """
    if workers is not None:
        if options.get("pool") is not None:
            raise DefinitionError("run() takes either workers= or pool=", hint="pool=pexen.ThreadPool(4)")
        from pexen.pool.local import LocalPool

        options["pool"] = LocalPool(workers)
    return Sched(tasks, **options).wait()


_MANY = 100
"""Tasks that are worth pausing the garbage collector for."""


def _as_task(item: Any, groups: list[Group]) -> Any:
    """Return the task that an item stands for; of a group, which is put to the others, nothing."""
    if isinstance(item, Group):
        groups.append(item)
        return None
    return as_task(item)


def _vet(tasks: Iterable[Task]) -> None:
    """Raise `DefinitionError` for a task that no run could run."""
    for task in tasks:
        if task.meta:
            if "around" in task.meta:
                check_around(task)


def _refuse_repeated_names(tasks: Iterable[Task]) -> None:
    """Raise `DefinitionError` for callables whose names repeat: with a journal a path has to survive an edit."""
    seen: set[str] = set()
    for task in tasks:
        if task.path is None:
            if task.name in seen:
                raise DefinitionError(
                    f"two tasks are named {task.name!r}, which a journal cannot tell apart",
                    hint="give them paths: pexen.Task(callable, path=…)",
                )
            seen.add(task.name)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Pause the cyclic garbage collector: a million nodes are about to be made, none of which is garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _with_commands(pool: Pool | None, pools: Mapping[str, Pool] | None) -> dict[str, Pool]:
    """Return the pools by name; those that run callables only are completed to run commands as well."""
    from pexen.pool.local import LocalPool

    named = dict(pools or {})
    if pool is not None:
        if DEFAULT in named:
            raise DefinitionError("both pool= and pools['default'] are given")
        named[DEFAULT] = pool
    named.setdefault(DEFAULT, LocalPool())
    for one in named.values():
        if isinstance(one, type) or not hasattr(one, "executes"):
            wraps = not isinstance(one, type) and hasattr(one, "submit")
            hint = "pexen.ExecutorPool(executor)" if wraps else "pexen.ProcessPool(workers=4)"
            raise DefinitionError(f"this is no pool: {one!r}", hint=hint)
    return {name: one if one.executes else LocalPool(callables=one) for name, one in named.items()}
