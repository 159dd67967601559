"""Sched: what to run, with which pools; and `Run`: one execution of it.

The run joins the planner with the pools. All that happens between "an attempt has ended" and "these may start next" is in
`Run._decide`, under the mailbox's lock: plain data in, plain data out, no user code. What it decides (attempts to submit,
conditions to evaluate) is carried out by the same thread after unlocking.

Somebody *drives* a run: the loop over `Sched.run`, `pexen.run`, or the background thread of `Sched.start`. The driver
does not move tasks (whoever posts an event does that); it hands out results, runs what an `InlinePool` has queued, and
closes the pools at the end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pexen.core.planner import Planner
from pexen.errors import DefinitionError, InternalError, PoolError
from pexen.model.attempt import Attempt
from pexen.model.call import EXECUTE, PLAIN, SHARED
from pexen.model.event import Broken, Freed, Reported, Returned
from pexen.model.meta import AllOf, Named
from pexen.model.result import Details, Ended, Outcome, Result, Results, Status, worst
from pexen.model.task import Task, as_task
from pexen.pool.base import outcome_of
from pexen.sched.mailbox import WAKE, Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pexen.core.planner import Explanation, Fallen
    from pexen.model.call import Source
    from pexen.model.result import Report
    from pexen.pool.base import Pool

PASSED = Status.PASSED
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt in flight, as `Snapshot` shows it. ``age`` is seconds since it started, None while it is queued."""

    path: str
    attempt: int
    pool: str
    age: float | None


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
    threads for callables, and commands); ``pools`` are others by the name tasks give in ``pool=``. ``resources`` are
    amounts or lists of unit names, ``shared`` the defaults of every task's shared dict, ``poison`` whether any
    uncontrolled failure poisons what the task claimed, ``backlog`` how many results may wait for the loop over `run`.

    Methods may be called from any thread. Raises `DefinitionError` when the tasks are wrong.
    """

    def __init__(
        self,
        tasks: Iterable[Any] = (),
        *,
        pool: Pool | None = None,
        pools: Mapping[str, Pool] | None = None,
        resources: Mapping[str, float | Sequence[str]] | None = None,
        shared: Mapping[str, Any] | None = None,
        poison: bool = False,
        backlog: int = 1000,
        durations: Callable[[str], float | None] | None = None,
    ) -> None:
        self._pools = _with_commands(pool, pools)
        self._planner = Planner(resources=resources, pools=self._pools, durations=durations)
        self._results: dict[str, Result] = {}
        self._early: deque[Fallen] = deque()
        self._shared = (dict(shared),) if shared else ()
        self._poison = poison
        self._backlog = max(1, backlog)
        self._lock = threading.Lock()
        self._run: Run | None = None
        self.add(tasks)

    @property
    def results(self) -> Results:
        """All results so far, those that nobody has read from the loop included."""
        return Results(self._results)

    def add(self, tasks: Iterable[Any]) -> None:
        """Admit more tasks, before, during or after a run; all of them or, with a `DefinitionError`, none."""
        items = [item if item.__class__ is Task else as_task(item) for item in tasks]
        with self._lock:
            run = self._run
            if run is None:
                self._early.extend(self._planner.add(items))
                return
        if not run.add(items):  # it has just ended: they are for the next one
            run.wait_closed()
            self.add(items)

    def run(self) -> Iterator[Result]:
        """Run everything that was added and yield each result as it comes.

        Tasks may be added from the loop. Leaving the loop early cancels what has not started, ends what runs, and keeps
        all results readable in `results`. A later `run` runs what was added since.
        """
        run = self._begin(kept=True)
        try:
            yield from run
        finally:
            run.close()

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

    def snapshot(self) -> Snapshot:
        """Return where the run stands."""
        counts: dict[str, int] = {}
        run = self._run
        with self._lock if run is None else run.lock:
            for result in self._results.values():
                counts[result.status] = counts.get(result.status, 0) + 1
            in_flight = () if run is None else run.in_flight()
            return Snapshot(len(self._planner.tasks()), self._planner.unfinished, in_flight, counts)

    def __enter__(self) -> Sched:
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

    def _begin(self, *, kept: bool) -> Run:
        with self._lock:
            if self._run is not None:
                raise PoolError("this Sched is already running", hint="one run at a time; add() works while it runs")
            early, self._early = self._early, deque()
            run = self._run = Run(self, kept, early)
        run.begin()
        return run

    def _end(self, run: Run) -> None:
        with self._lock:
            if self._run is run:
                self._run = None


class Run:
    """One execution of a `Sched`. Iterate to get the results as they come; `wait` for the end.

    Made by `Sched.run` and `Sched.start`. ``kept`` tells whether results are kept for somebody who reads them.
    """

    def __init__(self, sched: Sched, kept: bool, early: Iterable[Fallen]) -> None:
        self._sched = sched
        self._planner = sched._planner  # noqa: SLF001 - a Sched and its Run are one thing in two lives
        self._pools = sched._pools  # noqa: SLF001
        self._results = sched._results  # noqa: SLF001
        self._shared = sched._shared  # noqa: SLF001
        self._limit = sched._backlog  # noqa: SLF001
        self._mailbox = Mailbox(self._decide, self._carry_out, self._crashed)
        self.lock = self._mailbox.lock
        self._lanes = [_Lane(name, pool) for name, pool in self._pools.items()]
        self._lane = {lane.name: lane for lane in self._lanes}
        self._flying: dict[int, Attempt] = {}
        self._asking: dict[int, Attempt] = {}
        self._reports: dict[str, list[Report]] = {}
        self._earlier: dict[str, tuple[Ended, ...]] = {}
        self._attempts = 0
        self._has_shared = bool(self._shared)
        self._odd = self._has_shared  # whether any task so far had reports, retries or shared values
        self._epoch = time.time() - time.monotonic()
        self._kept = kept
        self._consumed = False
        self._fresh: deque[Result] = deque()
        self._fallen = list(early)
        self._stalled = False
        self._stopping = False
        self._over = False
        self._ending = False
        self._closed = threading.Lock()
        self._error: BaseException | None = None
        self._gate_of: Callable[[Task], str | None] | None = None
        self._sleepers: list[tuple[threading.Lock, bool]] = []
        self._finished = threading.Event()
        self._inline: list[Any] = [pool for pool in self._pools.values() if getattr(pool, "driven", False)]

    # -- for users ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Result]:
        """Yield each result as it comes, until the run is over and all are read."""
        fresh, limit = self._fresh, self._limit // 2
        self._consumed = True
        while True:
            try:
                result = fresh.popleft()
            except IndexError:
                if not self._wait_for_more(results=True):
                    break
                continue
            if self._stalled and len(fresh) <= limit:
                self._mailbox.post(WAKE)
            yield result
        if self._error is not None:
            raise self._error

    def wait(self, timeout: float | None = None) -> Results:
        """Wait for the end of the run and return the results; raises TimeoutError after ``timeout`` seconds."""
        if not self._finished.wait(timeout):
            raise TimeoutError("the run is not over")
        if self._error is not None:
            raise self._error
        return self._sched.results

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the run from ending while tasks may still be added from elsewhere."""
        with self.lock:
            self._planner.hold()
        try:
            yield
        finally:
            with self.lock:
                self._planner.release()
            self._mailbox.post(WAKE)

    def cancel(self) -> None:
        """Cancel what has not started and ask what runs to stop."""
        self.cancel_tasks(self._planner.tasks())

    def drain(self, reason: str = "the run was stopped") -> None:
        """Start nothing more but clean-ups; let finish what runs."""
        with self.lock:
            self._fallen += self._planner.drain(reason)
        self._mailbox.post(WAKE)

    # -- for Sched ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the pools and let the first tasks start."""
        for lane in self._lanes:
            lane.pool.open(self._mailbox)
        self._mailbox.post(WAKE)

    def add(self, tasks: list[Task]) -> bool:
        """Admit tasks while the run goes on; False when it has just ended."""
        with self.lock:
            if self._ending:
                return False
            self._fallen += self._planner.add(tasks)
            self._over = False
        self._mailbox.post(WAKE)
        return True

    def cancel_tasks(self, tasks: list[Task], *, force: bool = False) -> None:
        """Take the unstarted ones of the tasks out; ask (or force) those in flight to stop."""
        wanted = {task.path for task in tasks}
        with self.lock:
            self._fallen += self._planner.cancel(tasks)
            flying = [attempt for attempt in self._flying.values() if attempt.task.path in wanted]
        for attempt in flying:
            self._lane_of(attempt.task).pool.cancel(attempt, force=force)
        self._mailbox.post(WAKE)

    def wait_closed(self) -> None:
        """Wait until the pools are closed, however the run ended."""
        self._finished.wait()

    def in_flight(self) -> tuple[Running, ...]:
        """Return the attempts in flight; call it under `lock`."""
        now = time.monotonic()
        return tuple(
            Running(one.task.name, one.number, self._lane_of(one.task).name, now - one.started if one.started else None)
            for one in self._flying.values()
        )

    def drive(self) -> None:
        """Stay until the run is over."""
        while self._wait_for_more(results=False):
            pass

    def drive_in_background(self) -> None:
        """Have a thread stay until the run is over, and close it."""

        def stay() -> None:
            try:
                self.drive()
            finally:
                self.close()

        threading.Thread(target=stay, name="pexen-run", daemon=True).start()

    def close(self) -> None:
        """End whatever is left and close the pools. Returns when everything that can be ended is gone."""
        if not self._closed.acquire(blocking=False):
            self.wait_closed()
            return
        try:
            if not self._over:
                self._stop()
            for lane in self._lanes:
                lane.pool.close()
            self._mailbox.drain()
        finally:
            with self.lock:
                self._over = self._ending = True
            self._sched._end(self)  # noqa: SLF001
            self._finished.set()
            self._wake()

    def _stop(self) -> None:
        """Cancel what has not started; ask what runs to stop, and after its grace end it."""
        self._stopping = True
        self.cancel_tasks(self._planner.tasks())
        grace = max((attempt.task.grace for attempt in list(self._flying.values())), default=0.0)
        end = time.monotonic() + grace
        while self._flying and not self._over and (left := end - time.monotonic()) > 0:
            self._sleep(left, results=False)
        if self._flying:
            self.cancel_tasks(self._planner.tasks(), force=True)

    def _wait_for_more(self, *, results: bool, timeout: float | None = None) -> bool:
        """Wait until there may be a result to read; False when the run is over and all are read."""
        for pool in self._inline:
            if pool.run_queued():
                return True
        if results and self._fresh:
            return True
        if self._over:
            with self.lock:
                self._ending = self._over
            return not self._ending
        self._sleep(timeout, results=results)
        return True

    def _sleep(self, timeout: float | None, *, results: bool) -> None:
        """Sleep until there are results (if they are wanted), something to run inline, or the end."""
        gate = threading.Lock()
        gate.acquire()
        me = (gate, results)
        self._sleepers.append(me)
        if not (self._over or (results and self._fresh) or any(pool.has_queued() for pool in self._inline)):
            gate.acquire(timeout=-1 if timeout is None else timeout)
        try:
            self._sleepers.remove(me)
        except ValueError:
            pass  # whoever woke this thread has done it

    def _wake(self, *, only_for_results: bool = False) -> None:
        for sleeper in self._sleepers[:]:
            if sleeper[1] or not only_for_results:
                try:
                    self._sleepers.remove(sleeper)
                except ValueError:
                    continue
                sleeper[0].release()

    # -- deciding: under the lock, no user code -------------------------------------------------------------------

    def _decide(self, inbox: deque[Any]) -> list[tuple[_Lane, Attempt]] | None:
        """Take in what has happened; return the attempts to submit."""
        fresh = len(self._fresh)
        while inbox:
            event = inbox.popleft()
            if event.__class__ is Outcome:
                self._ended(event)
            elif event is not WAKE:
                self._happened(event)
        if self._fallen:
            self._record_fallen()
        commands = self._fill()
        if self._fallen:
            self._record_fallen()
        if not self._flying and not commands:
            self._check_end()
        if self._sleepers and (len(self._fresh) != fresh or self._over):
            self._wake(only_for_results=not self._over)
        return commands

    def _ended(self, outcome: Outcome) -> None:
        """Take in the end of an attempt: a retry, or the task's one result."""
        attempt = outcome.attempt
        if self._flying.pop(attempt.id, None) is None:
            return  # decided already: the first recorded outcome wins
        task = attempt.task
        self._lane_of(task).in_flight -= 1
        status = outcome.status
        if status is PASSED and not self._odd and outcome.shared is None and outcome.output is None:
            result = Result(task, PASSED, outcome.value, outcome.started + self._epoch, outcome.duration)
            fallen = self._planner.finish(task)
            if task.meta and outcome.freed:
                self._planner.free(task)
            self._results[task.path] = result  # type: ignore[index]
            if self._kept:
                self._fresh.append(result)
            if fallen:
                self._fallen += fallen
            return
        self._ended_otherwise(outcome, attempt)

    def _ended_otherwise(self, outcome: Outcome, attempt: Attempt) -> None:
        task, planner = attempt.task, self._planner
        path = task.name
        reports = tuple(self._reports.pop(path, ()))
        status = worst(outcome.status, reports)
        start = outcome.started + self._epoch if outcome.started else 0.0
        if self._is_tried_again(task, status, attempt):
            ended = Ended(
                attempt.number, status, start, outcome.duration, outcome.failure, outcome.reason, outcome.output
            )
            self._odd = True
            self._earlier[path] = (*self._earlier.get(path, ()), ended)
            planner.requeue(task)
            return
        shared = attempt.shared if outcome.shared is None else (outcome.shared,)
        if outcome.shared is not None:
            self._has_shared = self._odd = True
        earlier = self._earlier.pop(path, ())
        details = Details(outcome.failure, outcome.reason, reports, earlier, shared, outcome.output)
        result = Result(task, status, outcome.value, start, outcome.duration, details)
        unsane = not outcome.locks_ok or (self._sched._poison and status in _UNCONTROLLED)  # noqa: SLF001
        if unsane:
            self._fallen += planner.poison(task)
        self._fallen += planner.finish(task, success=status.is_success or outcome.deps_ok, status=status)
        if outcome.freed:
            planner.free(task)
        self._record(result)

    def _is_tried_again(self, task: Task, status: Status, attempt: Attempt) -> bool:
        return bool(
            task.meta
            and attempt.number <= task.retries
            and status in task.retry_on
            and not self._stopping
            and not attempt.cancelled
        )

    def _happened(self, event: Any) -> None:
        """Take in everything but outcomes."""
        if isinstance(event, Reported):
            if event.attempt.id in self._flying:
                self._odd = True
                self._reports.setdefault(event.attempt.task.name, []).append(event.report)
        elif isinstance(event, Returned):
            if self._flying.pop(event.attempt.id, None) is not None:
                task = event.attempt.task
                self._lane_of(task).in_flight -= 1
                self._planner.requeue(task)
                if self._stopping:
                    self._fallen += self._planner.cancel([task])
        elif isinstance(event, Freed):
            self._planner.free(event.attempt.task)
        elif isinstance(event, Broken):
            self._error = PoolError(f"the pool {event.pool} cannot work: {event.reason}")
            self._fallen += self._planner.drain(self._error.headline, cleanups=False)

    def _record(self, result: Result) -> None:
        self._results[result.task.path] = result  # type: ignore[index]
        if self._kept:
            self._fresh.append(result)

    def _record_fallen(self) -> None:
        while self._fallen:
            fallen, self._fallen = self._fallen, []
            for one in fallen:
                status = Status.CANCELLED if one.cancelled else Status.SKIPPED
                self._record(Result(one.task, status, details=Details(reason=one.reason)))

    def _fill(self) -> list[tuple[_Lane, Attempt]] | None:
        """Ask the planner for as many attempts as the pools have room for."""
        if self._consumed and len(self._fresh) >= self._limit:
            self._stalled = True
            return None
        self._stalled = False
        commands = []
        planner, flying = self._planner, self._flying
        for lane in self._lanes:
            workers, capacity, in_flight = lane.pool.workers, lane.pool.capacity, lane.in_flight
            if in_flight >= capacity:
                continue
            name = lane.name
            while in_flight < capacity:
                task = planner.next(name, ahead=in_flight >= workers)
                if task is None:
                    break
                in_flight += 1
                attempt = self._attempt(task)
                flying[attempt.id] = attempt
                commands.append((lane, attempt))
            lane.in_flight = in_flight
        if planner._fallen:  # noqa: SLF001 - the one hot look; take_fallen() would make a list each time
            self._fallen += planner.take_fallen()
        return commands

    def _attempt(self, task: Task) -> Attempt:
        """Return the next attempt at a task, with the values it is called with."""
        planner = self._planner
        self._attempts += 1
        call = planner.call_of(task)
        attempt = Attempt(task, self._attempts, call, self._mailbox.post)
        if self._earlier:
            attempt.number = len(self._earlier.get(task.path, ())) + 1  # type: ignore[arg-type]
        if self._has_shared:
            attempt.shared = self._layers(task)
        if call is not PLAIN and call is not EXECUTE:
            attempt.args = tuple([self._value(task, source) for source in call.positional])
            attempt.kwargs = {word: self._value(task, source) for word, source in call.keyword}
        if task.meta and "resources" in task.meta:
            attempt.units = planner.units(task)
        return attempt

    def _value(self, task: Task, source: Source) -> Any:
        """Return the value of one argument, as the runner carries it."""
        if source.index < 0:
            return None if source.index == SHARED else source.constant
        item = task.requires[source.index]
        if isinstance(item, Named):
            item = item.requirement
        values = [self._results[one.name].carried for one in self._planner.providers(task, source.index)]
        return values if isinstance(item, AllOf) else values[0] if values else None

    def _layers(self, task: Task) -> tuple[Any, ...]:
        """Return the layers of the task's shared dict: the defaults, then those of its providers in tree order."""
        found = list(self._shared)
        for provider in self._planner.all_providers(task):
            found += self._results[provider.name].details.shared
        last = {id(layer): index for index, layer in enumerate(found)}
        return tuple(layer for index, layer in enumerate(found) if last[id(layer)] == index)

    def _check_end(self) -> None:
        """Notice that the run is over, or that it can never be (which is a bug, and must not be a hang)."""
        planner = self._planner
        if planner.is_over():
            if planner._fallen:  # noqa: SLF001 - lazy tasks that nobody wanted
                self._fallen += planner.take_fallen()
                self._record_fallen()
            self._over = True
        elif not self._stalled and planner.is_stuck():
            stuck = [planner.explain(task) for task in planner.tasks() if planner.state(task).name in {"BLOCKED", "READY"}]
            self._error = InternalError("nothing can proceed", facts=[("task", str(one)) for one in stuck[:10]])
            self._over = True

    def _crashed(self, error: BaseException) -> None:
        """End the run for a bug of ours; whoever drives it raises the error."""
        self._error = error
        self._over = True
        self._wake()

    def _lane_of(self, task: Task) -> _Lane:
        if len(self._lanes) == 1:
            return self._lanes[0]
        return self._lane[task.pool or DEFAULT]

    # -- carrying out: outside of the lock ------------------------------------------------------------------------

    def _carry_out(self, commands: list[tuple[_Lane, Attempt]]) -> None:
        for lane, attempt in commands:
            meta = attempt.task.meta
            if meta and ("when" in meta or "host" in meta):
                refused = self._gate(attempt)
                if refused is not None:
                    self._mailbox.post(refused)
                    continue
            lane.pool.submit(attempt)
        if self._inline and self._sleepers:
            self._wake()

    def _gate(self, attempt: Attempt) -> Outcome | None:
        """Return the outcome of a task that is not to run on this machine, decided just before it would start."""
        if self._gate_of is None:
            from pexen.factory.conditions import gate  # only runs with conditions pay for it
            from pexen.factory.facts import gather

            self._gate_of = gate(gather())
        try:
            reason = self._gate_of(attempt.task)
        except BaseException as error:  # noqa: BLE001 - a condition may be the user's own code
            return outcome_of(attempt, error)
        return None if reason is None else Outcome(attempt, Status.SKIPPED, reason=reason)


class _Lane:
    """A pool in a run: its name, and how many attempts it has in flight."""

    __slots__ = ("in_flight", "name", "pool")

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.pool = pool
        self.in_flight = 0


_UNCONTROLLED = frozenset({Status.ERROR, Status.TIMEOUT, Status.CRASHED, Status.LOST})


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


def _with_commands(pool: Pool | None, pools: Mapping[str, Pool] | None) -> dict[str, Pool]:
    """Return the pools by name; each of them can run executables as well."""
    from pexen.pool.local import LocalPool

    named = dict(pools or {})
    if pool is not None:
        if DEFAULT in named:
            raise DefinitionError("both pool= and pools['default'] are given")
        named[DEFAULT] = pool
    named.setdefault(DEFAULT, LocalPool())
    return {name: LocalPool.around(one) for name, one in named.items()}
