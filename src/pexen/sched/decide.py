"""Deciding: what happens under the mailbox's lock. Events in, attempts to submit out.

Here the planner meets what was going on in the world: outcomes become results, the values of providers become arguments,
and each pool is given as many attempts as it has room for. No user code runs here, nothing is pickled, shown, waited for
or let go of that could have a finalizer of its own; values pass through unopened.

`Decider.decide` is the hottest code there is, so the usual case (a task passed, without reports, retries or shared values
anywhere in the run) is written out in line, and everything else is in `Decider._ended`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pexen.errors import InternalError, PoolError
from pexen.model.attempt import Attempt
from pexen.model.call import EXECUTE, PLAIN, SHARED, Source, parameter_of
from pexen.model.event import Broken, Freed, Limited, RebootWanted, Reported, Returned
from pexen.model.meta import AllOf, Named
from pexen.model.result import BAD, Details, Ended, Left, Outcome, Report, Result, Status, worst
from pexen.sched.reboot import Agreed, Departure, Overdue, Reboots
from pexen.sched.tally import Tally
from pexen.sched.verdict import expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pexen.core.planner import Fallen, Planner
    from pexen.errors import PexenError
    from pexen.model.task import Task
    from pexen.pool.base import Pool
    from pexen.sched.reboot import Wish
    from pexen.sched.recorder import Recorder
    from pexen.sched.sleep import Sleepers

PASSED = Status.PASSED
DEFAULT = "default"
WAKE: Any = None
"""Posted to have the decider look again although nothing has happened to an attempt."""


class Lane:
    """A pool in a run: its name, how many attempts it has in flight, and how many of those are commands.

    A pool may run callables in one place and commands in another. That no more than its workers run at once is seen to
    here: a command is never handed out ahead of time, and while one is in flight nothing else is either.
    """

    __slots__ = ("commands", "in_flight", "name", "pool")

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.pool = pool
        self.in_flight = 0
        self.commands = 0


@dataclass(frozen=True, slots=True)
class Again:
    """A task may be tried again."""

    task: Task


@dataclass(frozen=True, slots=True)
class Judged:
    """A result as the waivers have left it."""

    result: Result


@dataclass(frozen=True, slots=True)
class Committed:
    """Results that are as safe as the run promises: now they may be told."""

    results: list[Result]


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
    event after seconds. ``limit`` changes an attempt's time limit. ``recorder`` has the journal, where there is one.
    ``reboots`` is what may be done about restarts of the machine.
    """

    judge: Callable[[Result], None]
    waives: bool
    later: Callable[[float, Any], None]
    limit: Callable[[Attempt, str, float], None]
    recorder: Recorder | None = None
    reboots: Reboots = field(default_factory=Reboots)


class Decider:
    """The state of a run that is only touched under its lock; `fresh` is also read from, and popped, without it."""

    def __init__(
        self,
        planner: Planner,
        pools: Mapping[str, Pool],
        results: dict[str, Result],
        *,
        shared: tuple[Any, ...],
        poison: bool,
        maxfail: int | None,
        backlog: int,
        kept: bool,
        consumed: bool,
        retry_last: bool,
        sleepers: Sleepers,
        world: World,
    ) -> None:
        self._planner = planner
        self._results = results
        self._shared = shared
        self._poison = poison
        self._may_fail = maxfail
        self._backlog = backlog
        self._kept = kept
        self._retry_last = retry_last
        self._sleepers = sleepers
        self._world = world
        self._departure: Departure | None = None
        """The way to a restart of the machine, while the run is on it."""
        self._asked = 0
        """How many restarts were asked for."""
        self.wish: Wish | None = None
        """The restart that the run has ended for."""
        self._epoch = time.time() - time.monotonic()
        self._recorder = recorder = world.recorder
        self._recalled = recorder.recalled if recorder else {}
        self._taken_up = bool(recorder and recorder.reboots)
        self._finishing: dict[str, Finish] = {}
        """What has ended and is not committed yet, by path: to the planner it still runs."""
        self._unsaid = 0
        """How many results are on their way to the journal."""
        self._attempts = recorder.last_id if recorder else 0
        self._tallies: dict[str, Tally] = {}
        self._waiting: deque[Task] = deque()
        self._unjudged = 0
        self._commands: list[Any] = []
        self._earlier: dict[str, tuple[Ended, ...]] = recorder.earlier if recorder else {}
        self._is_odd = bool(shared) or any(result.details.shared for result in results.values())
        self.lanes = {name: Lane(name, pool) for name, pool in pools.items()}
        self._each_lane = list(self.lanes.values())
        self._post: Callable[[Any], None] = deque().append
        self.flying: dict[int, Attempt] = {}
        self.fresh: deque[Result] = deque()
        self.fallen: list[Fallen] = []
        self.consumed = consumed
        self.stalled = False
        self.stopping = False
        self.ending = False
        self.over = False
        self.error: BaseException | None = None
        self._replays = False

    def answer_to(self, post: Callable[[Any], None]) -> None:
        """Set where attempts post their events."""
        self._post = post

    # -- the hot loop ---------------------------------------------------------------------------------------------

    def decide(self, inbox: deque[Any]) -> list[Any]:  # noqa: C901, PLR0912 - written out in line, see above
        """Take in what has happened; return the attempts to submit, and what is to be called besides."""
        flying, fresh, results, planner, epoch = self.flying, self.fresh, self._results, self._planner, self._epoch
        before = len(fresh)
        while inbox:
            event = inbox.popleft()
            if event.__class__ is not Outcome:
                if event is not WAKE:
                    self._happened(event)
                continue
            attempt = event.attempt
            if attempt.around is not None and not attempt.around.over and attempt.id in flying:
                attempt.watch = None
                self._commands.append(partial(attempt.around.end, event))
                continue
            if flying.pop(attempt.id, None) is None:
                if attempt.struck:
                    self._free(attempt.task)  # it was given up, and has ended after all
                continue  # decided already: the first recorded outcome wins
            lane = attempt.lane
            lane.in_flight -= 1
            if attempt.call is EXECUTE:
                lane.commands -= 1
            if (
                event.status is not PASSED
                or self._is_odd
                or event.shared is not None
                or event.output is not None
                or attempt.struck
                or self._recorder is not None
                or event.left is not None
                or (attempt.task.meta and "xfail" in attempt.task.meta)
            ):
                self._ended(event, attempt)
                continue
            task = attempt.task
            results[task.path] = result = Result(task, PASSED, event.value, event.started + epoch, event.duration)  # type: ignore[index]
            fallen = planner.finish(task, free=event.freed)
            if fallen:
                self.fallen += fallen
            if self._kept:
                fresh.append(result)
        if self.fallen:
            self._record_fallen()
        attempts: list[Any] = self._fill()
        if self._departure is not None:
            self._depart(self._departure)
        if not flying:
            self._check_end()
            if self._waiting and self._try_the_next():
                attempts = self._fill()
        if self._sleepers and (len(fresh) != before or self.over):
            self._sleepers.wake(only_for_results=not self.over)
        if self._commands:
            attempts += self._commands
            self._commands = []
        if self._unsaid and self._recorder and self._has_room():
            attempts.append(self._recorder.push)  # somebody has nothing to do before these are committed
        return attempts

    def _has_room(self) -> bool:
        return not self.flying or any(lane.in_flight < lane.pool.workers for lane in self._each_lane)

    def _fill(self) -> list[Attempt]:
        """Ask the planner for as many attempts as the pools have room for."""
        attempts = self._fill_lanes()
        while self._replays:  # what has a result already may have let others start, in any pool
            self._replays = False
            if self.fallen:
                self._record_fallen()
            attempts += self._fill_lanes()
        return attempts

    def _fill_lanes(self) -> list[Attempt]:
        attempts: list[Attempt] = []
        if self.ending or self._departure is not None:
            return attempts
        if self.consumed and len(self.fresh) + self._unsaid >= self._backlog:
            self.stalled = True
            return attempts
        self.stalled = False
        planner, flying, post = self._planner, self.flying, self._post
        for lane in self._each_lane:
            pool, in_flight = lane.pool, lane.in_flight
            workers = pool.workers
            limit = workers if lane.commands else pool.capacity
            if in_flight >= limit:
                continue
            name, number = lane.name, self._attempts
            while in_flight < limit:
                task = planner.next(name, ahead=in_flight >= workers)
                if task is None:
                    break
                if self._recalled and task.path in self._recalled:
                    self._replay(task)
                    continue
                in_flight += 1
                number += 1
                attempt = Attempt(task, number, task.call, post)
                attempt.lane = lane
                flying[number] = attempt
                if attempt.call is not PLAIN or self._is_odd or task.meta or self._taken_up:
                    self._complete(attempt, task)
                    if attempt.call is EXECUTE:
                        lane.commands += 1
                        limit = workers
                attempts.append(attempt)
            lane.in_flight, self._attempts = in_flight, number
        if planner.fallen:
            self.fallen += planner.take_fallen()
            self._record_fallen()
            attempts += self._fill()  # what fell may have let a task start in a pool that was asked before
        return attempts

    # -- everything else ------------------------------------------------------------------------------------------

    def _replay(self, task: Task) -> None:
        """Give a task that may start now the result that it has from a run before."""
        result = self._recalled.pop(task.name)
        status = result.original
        self._is_odd = self._is_odd or bool(result.details.shared)
        self.fallen += self._planner.finish(
            task, success=status.is_success, status=_SAID.get(status, status), free=True
        )
        self._replays = True
        self._tell(result)

    def _ended(self, outcome: Outcome, attempt: Attempt) -> None:
        """Take in the end of an attempt that is not as simple as most: a retry, or the task's one result."""
        task = attempt.task
        path = task.name
        if self._departure is not None:
            if self._departure.keeps(outcome):
                self._tallies.pop(path, None)
                return
            if outcome.status is Status.CANCELLED and not outcome.started and not attempt.struck:
                self._give_back(attempt)
                return
            if attempt.cancelled and not attempt.struck and outcome.status in BAD:
                outcome.status, outcome.reason = Status.CANCELLED, "stopped for a restart of the machine"
        tally = self._tallies.pop(path, None)
        left = outcome.left or _NOTHING_LEFT
        status, reason, leaked = _verdict(outcome, attempt, left.killed)
        if tally is not None:
            status = worst(status, tally.levels)
        if leaked and status is Status.PASSED:
            status = Status.WARNED
        about = Details(
            outcome.failure, reason, tuple(tally.reports()) if tally else (), (), (), outcome.output, leaked,
            attempt.evidence, left.artifacts, keeper=left.keeper,
        )  # fmt: skip
        start = outcome.started + self._epoch if outcome.started else 0.0
        if self._is_tried_again(task, status, attempt):
            ended = Ended(
                attempt.number, status, start, outcome.duration, about.failure, reason, about.output, about.reports, leaked,
                about.evidence, about.artifacts,
            )  # fmt: skip
            self._is_odd = True
            self._earlier[path] = (*self._earlier.get(path, ()), ended)
            if self._recorder is not None:
                self._commands.append(partial(self._recorder.ended, path, ended))
            self._try_again(task, free=outcome.freed)
            return
        if attempt.call is EXECUTE and self._recorder is not None and path in self._recorder.shared:
            outcome.shared = {**self._recorder.shared[path], **(outcome.shared or {})}
        about.shared = _layers_of(attempt, outcome)
        about.earlier = self._earlier.pop(path, ())
        self._is_odd = self._is_odd or outcome.shared is not None
        finish = Finish(
            status.is_success or outcome.deps_ok, _SAID.get(status, status), outcome.freed,
            not outcome.locks_ok or (self._poison and status in _UNCONTROLLED), outcome.shared,
        )  # fmt: skip
        if self._recorder is None:
            self._finish(task, finish)
        else:
            self._finishing[path] = finish
        self._judge(Result(task, status, outcome.value, start, outcome.duration, about))

    def _finish(self, task: Task, how: Finish) -> None:
        """Tell the planner that a task has ended."""
        if how.poisons:
            self.fallen += self._planner.poison(task)
        self.fallen += self._planner.finish(task, success=how.success, status=how.status, free=how.free)

    def _free(self, task: Task) -> None:
        """Note that the processes of a task are gone."""
        finishing = self._finishing.get(task.name)
        if finishing is None:
            self._planner.free(task)
        else:
            finishing.free = True

    def _judge(self, result: Result) -> None:
        """Record a result as people are to see it; the waivers are the user's code, so they are asked elsewhere."""
        if result.task.meta and "xfail" in result.task.meta:
            result = expected(result)
        if result.status in BAD and (self._world.waives or "waivers" in result.task.meta):
            self._unjudged += 1
            self._commands.append(partial(self._world.judge, result))
        else:
            self._record(result)

    def _try_again(self, task: Task, *, free: bool) -> None:
        """Have a task tried again: at once, after its delay, or alone when all others have ended."""
        delay = task.retry_delay
        self._planner.requeue(task, free=free, later=bool(delay or self._retry_last))
        if self._retry_last:
            self._waiting.append(task)
        elif delay:
            self._commands.append(partial(self._world.later, delay, Again(task)))

    def _try_the_next(self) -> bool:
        """Let the next of those start that were to be tried again alone, if nothing else is left to be done."""
        if self.over or not self._planner.is_waiting():
            return False
        task = self._waiting.popleft()
        if task.retry_delay:
            self._commands.append(partial(self._world.later, task.retry_delay, Again(task)))
            return False
        self._planner.again(task)
        return True

    def _is_tried_again(self, task: Task, status: Status, attempt: Attempt) -> bool:
        return bool(
            task.meta
            and attempt.number <= task.retries
            and status in task.retry_on
            and not self.stopping
            and (task.cleanup or not self._planner.is_draining)
            and (attempt.struck or not attempt.cancelled)
        )

    def _happened_to_run(self, event: Any) -> None:
        """Take in what concerns no attempt in flight."""
        if isinstance(event, Committed):
            self._unsaid -= len(event.results)
            self._acknowledge(event.results)
        elif isinstance(event, Again):
            self._planner.again(event.task)
        elif isinstance(event, Judged):
            self._unjudged -= 1
            self._record(event.result)
        elif isinstance(event, Unrecorded):
            self._give_up(event.error)
        elif isinstance(event, Agreed):
            if event.departure is self._departure:
                self._commands += event.departure.agree()
        elif isinstance(event, Overdue):
            self._note_overdue(event)
        elif isinstance(event, Broken):
            self.error = PoolError(f"the pool {event.pool} cannot work: {event.reason}")
            self.fallen += self._planner.drain(self.error.headline, cleanups=False)

    def _happened(self, event: Any) -> None:
        """Take in everything but outcomes."""
        if isinstance(event, _OF_THE_RUN):
            self._happened_to_run(event)
            return
        task = event.attempt.task
        if isinstance(event, Freed):
            self._free(task)
        elif isinstance(event, Reported):
            if event.attempt.id in self.flying:
                self._is_odd = True
                tally = self._tallies.get(task.name)
                if tally is None:
                    tally = self._tallies[task.name] = Tally()
                tally.add(event.report)
                self._confirm(event)
            elif event.answer is not None:
                self._commands.append(partial(event.answer, "the attempt has ended"))
        elif isinstance(event, RebootWanted):
            self._want_reboot(event)
        elif isinstance(event, Limited):
            if event.attempt.id in self.flying:
                self._world.limit(event.attempt, event.what, event.seconds)
        elif isinstance(event, Returned) and self.flying.pop(event.attempt.id, None) is not None:
            lane = event.attempt.lane
            lane.in_flight -= 1
            lane.commands -= event.attempt.call is EXECUTE
            self._give_back(event.attempt)

    def _give_back(self, attempt: Attempt) -> None:
        """Take an attempt that has not been started as if it had never been handed out."""
        self._planner.requeue(attempt.task)
        if self._recorder is not None:
            self._commands.append(partial(self._recorder.returned, attempt))
        if self.stopping:
            self.fallen += self._planner.cancel([attempt.task])

    def _confirm(self, event: Reported) -> None:
        """Have a report recorded, and whoever waits for that told."""
        if self._recorder is not None:
            self._commands.append(partial(self._recorder.report, event.attempt, event.report, event.answer))
        elif event.answer is not None:
            self._commands.append(partial(event.answer, ""))

    # -- restarts of the machine ----------------------------------------------------------------------------------

    def _want_reboot(self, event: RebootWanted) -> None:
        """Take in that a task wants the machine restarted, or tell it why nothing comes of it."""
        attempt = event.attempt
        refused = self._refusal(event)
        if not refused:
            self._asked += 1
            self._departure = self._departure or Departure(self._world.reboots, self._world)
            self._commands += self._departure.ask(event, self.flying.values())
            return
        self._commands.append(partial(event.answer, refused))
        if attempt.id in self.flying:
            self._happened(Reported(attempt, Report("reboot", "error", refused)))
            if attempt.call is EXECUTE:
                attempt.condemned = refused
                self._commands.append(partial(attempt.lane.pool.cancel, attempt, force=False))

    def _refusal(self, event: RebootWanted) -> str:
        """Return why a task cannot have the machine restarted; empty when it can."""
        recorder, path = self._recorder, event.attempt.task.name
        if event.attempt.id not in self.flying:
            return "the attempt has ended"
        if recorder is None:
            return "the machine cannot be restarted: this run has no journal, and could not go on after that"
        if recorder.failure is not None or self.stopping or self._planner.is_draining:
            return "the machine is not restarted any more: the run is ending"
        if self._departure is not None and self._departure.is_told:
            return "the machine is being restarted already"
        may, times = self._world.reboots, recorder.reboots.get(path, 0)
        if times >= may.per_task:
            return f"the machine was restarted {times} times for this task, which is enough (max_reboots)"
        if recorder.boots + self._asked >= may.per_run:
            return f"the machine was restarted {recorder.boots} times in this run, which is enough (max_reboots)"
        return ""

    def _depart(self, departure: Departure) -> None:
        """Do the next step on the way to a restart, if it can be done."""
        if not departure.wanted:
            self._departure = None
        elif not departure.is_told and (self.stopping or self._planner.is_draining or self._is_given_up):
            self._commands += departure.refuse("the machine is not restarted: the run is ending")
            self._departure = None
        elif self._unsaid or self._unjudged or self._finishing:
            return
        elif departure.may_be_told(self.flying):
            events = departure.told()
            if events and self._recorder is not None:
                self._commands.append(partial(self._recorder.reboot, events, departure))
            else:
                self._commands.append(partial(self._post, Agreed(departure)))
        elif departure.may_leave(self.flying):
            self._leave(departure)
        if self._departure is None and not self.wish:
            self._commands.append(partial(self._post, WAKE))  # what was held back may start

    def _note_overdue(self, event: Overdue) -> None:
        departure = event.departure
        if departure is not self._departure:
            return
        self._commands += departure.overdue(event, self.flying.values())
        outcome = departure.broken(event)
        if outcome is not None:
            self._ended(outcome, outcome.attempt)

    def _leave(self, departure: Departure) -> None:
        """End the run, so that the machine can be restarted."""
        self.wish = departure.wish
        self._departure = None
        self.fallen += self._planner.drain("the machine is to be restarted", cleanups=False)
        for event in departure.wanted.values():
            task = event.attempt.task
            self.flying.pop(event.attempt.id, None)
            self._finish(task, Finish(success=False, status="waits for a restart of the machine", free=True))
            about = Details(reason="the machine is to be restarted for it")
            self._acknowledge([Result(task, Status.CANCELLED, details=about)])
        self._record_fallen()

    def _record(self, result: Result) -> None:
        """Make a result known: at once, or when the journal has committed it.

        That a task was cancelled, or fell since the run was stopped, is no result to a run that is taken up again.
        """
        recorder = self._recorder
        if self._may_fail and result.status in BAD:
            self._may_fail -= 1
            if not self._may_fail:
                self.fallen += self._planner.drain("stopped: enough tasks have failed")
        if recorder is None:
            self._tell(result)
        elif self._is_given_up:
            finish = self._finishing.pop(result.path, None)
            if finish is not None:
                self._finish(result.task, finish)
        elif result.status is Status.CANCELLED or (self._planner.is_draining and not result.start):
            if result.start:
                self._commands.append(partial(recorder.ended, result.path, result.attempts[-1]))
            self._acknowledge([result])
        else:
            self._unsaid += 1
            finish = self._finishing.get(result.path)
            self._commands.append(partial(recorder.result, result, finish and finish.shared))

    def _acknowledge(self, results: Iterable[Result]) -> None:
        """Tell results that are committed, and let their dependants start."""
        for result in results:
            finish = self._finishing.pop(result.path, None)
            if finish is not None:
                self._finish(result.task, finish)
            self._tell(result)

    @property
    def _is_given_up(self) -> bool:
        return self._recorder is not None and self._recorder.failure is not None

    def _give_up(self, error: PexenError) -> None:
        """Tell nothing more, start nothing more, let what runs end: there is no record of it any more."""
        if self.error is None:
            self.error = error
            self.fallen += self._planner.drain("the journal cannot be written", cleanups=False)
        self._unsaid = 0
        if self._departure is not None:
            self._commands += self._departure.refuse("the journal cannot be written")
            self._departure = None
        waiting, self._finishing = self._finishing, {}
        for path, finish in waiting.items():
            task = self._planner.find(path)
            if task is not None:
                self._finish(task, finish)

    def _tell(self, result: Result) -> None:
        self._results[result.path] = result
        if self._kept:
            self.fresh.append(result)

    def _record_fallen(self) -> None:
        while self.fallen:
            fallen, self.fallen = self.fallen, []
            for one in fallen:
                status = Status.CANCELLED if one.cancelled else Status.SKIPPED
                self._record(Result(one.task, status, details=Details(reason=one.reason)))

    def _complete(self, attempt: Attempt, task: Task) -> None:
        """Give an attempt what only some need: number, values, shared layers, units."""
        if self._earlier:
            attempt.number = len(self._earlier.get(task.name, ())) + 1
        if self._is_odd:
            attempt.shared = self._layers(task)
        if self._recorder is not None and task.name in self._recorder.reboots:
            self._enter_again(attempt, self._recorder)
        call = attempt.call
        if call is not PLAIN and call is not EXECUTE:
            attempt.args = tuple([self._value(task, source) for source in call.positional])
            attempt.kwargs = {word: self._value(task, source) for word, source in call.keyword}
        if "resources" in task.meta:
            attempt.units = self._planner.units(task)
        if call is EXECUTE and task.requires:
            attempt.values = self._values(task)

    def _enter_again(self, attempt: Attempt, recorder: Recorder) -> None:
        """Give an attempt what the one before the restart has left for it."""
        path = attempt.task.name
        self._is_odd = True
        attempt.reboots = recorder.reboots[path]
        if path in recorder.shared:
            left = recorder.shared[path]
            attempt.shared = (*attempt.shared, left) if attempt.call is EXECUTE else (left,)
        if path in recorder.reported:
            self._tallies[path] = tally = Tally()
            for report in recorder.reported.pop(path):
                tally.add(report)

    def _values(self, task: Task) -> dict[str, Any]:
        """Return what an executable is given, by the names that parameters would have."""
        found: dict[str, Any] = {}
        for index, item in enumerate(task.requires):
            name = parameter_of(item)
            if name is not None:
                value = self._value(task, Source(index))
                if value is not None:
                    found[name] = value
        return found

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
        """Return the layers of the task's shared dict: the defaults, then those of its providers in tree order.

        A layer that comes twice counts where it comes last, so their number is bounded by that of the writers.
        """
        if not task.requires:
            return self._shared
        found = list(self._shared)
        for provider in self._planner.all_providers(task):
            found += self._results[provider.name].details.shared
        last = {id(layer): index for index, layer in enumerate(found)}
        return tuple(layer for index, layer in enumerate(found) if last[id(layer)] == index)

    def _check_end(self) -> None:
        """Notice that the run is over, or that it can never be (which is a bug, and must not be a hang)."""
        planner = self._planner
        if self._unjudged or self._unsaid or self._departure is not None:
            return
        if planner.is_over():
            if planner.fallen:  # lazy tasks that nobody wanted
                self.fallen += planner.take_fallen()
                self._record_fallen()
            self.over = not self._unsaid
        elif not self.stalled and not self.ending and not self._commands and planner.is_stuck(asked=True):
            left = [planner.explain(task) for task in planner.tasks() if not planner.is_final(task)]
            self.fail(InternalError("nothing can proceed", facts=[("task", str(one)) for one in left[:10]]))

    def fail(self, error: BaseException) -> None:
        """End the run for a bug of ours; whoever drives it raises the error."""
        self.error = error
        self.over = True
        self._sleepers.wake()

    def in_flight(self, tasks: Iterable[Task]) -> list[Attempt]:
        """Return the attempts at these tasks that are in flight."""
        wanted = {task.path for task in tasks}
        return [attempt for attempt in self.flying.values() if attempt.task.path in wanted]


_NOTHING_LEFT = Left()
_OF_THE_RUN = (Committed, Again, Judged, Unrecorded, Broken, Agreed, Overdue)


def _verdict(outcome: Outcome, attempt: Attempt, killed: str) -> tuple[Status, str, str]:
    """Return status, reason and what has leaked; an attempt that had ended before it was struck was in time."""
    status, reason = outcome.status, outcome.reason
    if attempt.condemned and status is Status.CANCELLED:
        status, reason = Status.ERROR, attempt.condemned
    if attempt.struck and not (status is PASSED and not attempt.cancelled):
        status, reason = Status.TIMEOUT, reason if "still runs" in reason else attempt.struck
        if attempt.watch is not None and attempt.watch.is_forced and "still runs" not in reason:
            reason += "; it did not stop when asked and was killed"
    if not killed:
        return status, reason, ""
    if attempt.cancelled:
        return status, f"{reason}; killed {killed}", ""
    return status, reason, killed


def _layers_of(attempt: Attempt, outcome: Outcome) -> tuple[Any, ...]:
    """Return the layers of the shared dict that go to dependants; executables only say what they add."""
    if outcome.shared is None:
        return attempt.shared
    return (*attempt.shared, outcome.shared) if attempt.call is EXECUTE else (outcome.shared,)


_SAID = {
    Status.ERROR: "ended in an error",
    Status.TIMEOUT: "timed out",
    Status.LOST: "was lost",
    Status.SKIPPED: "was skipped",
    Status.CANCELLED: "was cancelled",
}
"""How the reason for a skip tells of its culprit."""
_UNCONTROLLED = frozenset({Status.ERROR, Status.TIMEOUT, Status.CRASHED, Status.LOST})
