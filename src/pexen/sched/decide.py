"""Deciding: what happens under the mailbox's lock. Events in, attempts to submit out.

Here the planner meets what was going on in the world: outcomes become results, the values of providers become arguments,
and each pool is given as many attempts as it has room for. No user code runs here, nothing is pickled, shown, waited for
or let go of that could have a finalizer of its own; values pass through unopened.

`Decider.decide` is the hottest code there is, so the usual case (a task passed, without reports, retries or shared values
anywhere in the run) is written out in line, and everything else is in `Decider._ended`. With a journal the usual result is
put aside for the recorder, and comes back with many others as `Committed`.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from pexen.core.planner import NOT_NEEDED_SERVICE
from pexen.errors import InternalError, PoolError
from pexen.model.attempt import Attempt
from pexen.model.call import EXECUTE, PLAIN
from pexen.model.event import AddWanted, Broken, Freed, Limited, RebootWanted, Reported, Returned, Up
from pexen.model.result import BAD, Details, Ended, Left, Outcome, Report, Result, Status, worst
from pexen.sched.adding import Added
from pexen.sched.departing import Departing
from pexen.sched.inputs import Inputs, layers_of
from pexen.sched.reboot import Agreed, Overdue
from pexen.sched.services import Services, is_special
from pexen.sched.tally import Tally
from pexen.sched.verdict import SAID, UNCONTROLLED, expected, verdict_of
from pexen.sched.world import WAKE, Again, Committed, Finish, Judged, Lane, Turned, Unrecorded, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pexen.core.planner import Fallen, Planner
    from pexen.errors import PexenError
    from pexen.model.task import Task
    from pexen.pool.base import Pool
    from pexen.sched.recorder import Recorder
    from pexen.sched.sleep import Sleepers
    from pexen.sched.stream import Stream

PASSED = Status.PASSED


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
        self._services = Services(planner, world)
        self._up = self._services.results
        self._inputs = Inputs(planner, results, self._up, shared)
        self._poison = poison
        self._may_fail = maxfail
        self._backlog = backlog
        self._kept = kept
        self._retry_last = retry_last
        self._sleepers = sleepers
        self._world = world
        self.departing = Departing(self)
        self._epoch = time.time() - time.monotonic()
        self._recorder = recorder = world.recorder
        self._finishing: dict[str, Finish] = {}
        """What has ended and is not committed yet, by path: to the planner it still runs."""
        self._unsaid = 0
        """How many results are on their way to the journal."""
        self._plain = recorder.plain if recorder else []
        """Where results are put aside for the journal."""
        self.has_room = True
        """Whether a worker of some pool has nothing to do."""
        self._attempts = recorder.before.last_id if recorder else 0
        self._tallies: dict[str, Tally] = {}
        self._waiting: deque[Task] = deque()
        self._unjudged = 0
        self._commands: list[Any] = []
        self._earlier: dict[str, tuple[Ended, ...]] = recorder.before.earlier if recorder else {}
        self._is_odd = bool(shared) or any(result.details.shared for result in results.values())
        self._has_groups = False
        self.lanes = {name: Lane(name, pool) for name, pool in pools.items()}
        self._each_lane = list(self.lanes.values())
        self._post: Callable[[Any], None] = deque().append
        self.flying: dict[int, Attempt] = {}
        self.fresh: deque[Result] = deque()
        self._told = self.fresh
        """Where results are told: in the loop's own queue, until there are streams that want them as well."""
        self.streams: tuple[Stream, ...] = ()
        self.fallen: list[Fallen] = []
        self.consumed = consumed
        self.stalled = False
        self.stopping = False
        self.ending = False
        self.over = False
        self.has_failed = False
        """Whether it is over for a bug, or a pool that cannot work: then nothing that is added can change that."""
        self.error: BaseException | None = None

    def add_pools(self, pools: Mapping[str, Pool]) -> None:
        """Take in the pools of groups."""
        self._has_groups = self._has_groups or bool(pools)
        self.lanes.update((name, Lane(name, pool)) for name, pool in pools.items())
        self._each_lane = list(self.lanes.values())

    def answer_to(self, post: Callable[[Any], None]) -> None:
        """Set where attempts post their events."""
        self._post = post

    # -- the hot loop ---------------------------------------------------------------------------------------------

    def decide(self, inbox: deque[Any]) -> list[Any]:  # noqa: C901, PLR0912, PLR0915 - written out in line, see above
        """Take in what has happened; return the attempts to submit, and what is to be called besides."""
        flying, fresh, results, planner, epoch = self.flying, self._told, self._results, self._planner, self._epoch
        plain, recorder = self._plain, self._recorder
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
                or attempt.adds
                or event.left is not None
                or (attempt.task.meta and is_special(attempt.task.meta))
                or (
                    recorder is not None
                    and not (event.freed and (event.value is None or recorder.is_simple(event.value)))
                )
            ):
                self._ended(event, attempt)
                continue
            task = attempt.task
            result = Result(task, PASSED, event.value, event.started + epoch, event.duration)
            if recorder is not None:
                attempt.settled = True
                plain.append(result)
                self._unsaid += 1
                continue
            results[task.path] = result  # type: ignore[index]
            fallen = planner.finish(task, free=event.freed)
            if fallen:
                self.fallen += fallen
            if self._kept:
                fresh.append(result)
        if self.fallen:
            self._record_fallen()
        if self._has_groups:
            self._take_turns()
        attempts: list[Any] = self._fill()
        if self.departing.departure is not None:
            self.departing.step()
        if self._has_groups:
            self._take_turns()
        up = self._up
        if up:
            self._commands += self._services.leave()
        if len(flying) <= len(up):
            self._check_end()
            if self._waiting and self._try_the_next():
                attempts = self._fill()
        if fresh is not self.fresh:
            self.hand_out()
        if self._sleepers and (len(fresh) != before or self.over):
            self._sleepers.wake(only_for_results=not self.over)
        if self._commands:
            attempts += self._commands
            self._commands = []
        if self._unsaid and recorder is not None:
            if self.has_room or len(plain) >= recorder.enough:
                attempts.append(recorder.push)  # somebody may have nothing to do before these are committed
            elif not attempts:
                attempts.append(recorder.wake)
        return attempts

    def _take_turns(self) -> None:
        """Have the pool of a group opened or closed if it is time for that, before others start that are not as urgent."""
        step = self._planner.group_step() if self.departing.departure is None else None
        if step is not None:
            self._commands.append(partial(self._world.turn, step[0], self.lanes[step[1]].pool))

    def _fill(self) -> list[Attempt]:
        """Ask the planner for as many attempts as the pools have room for."""
        attempts: list[Attempt] = []
        has_room = False
        self.has_room = True
        if self.ending or self.departing.departure is not None:
            return attempts
        if self._told is not self.fresh:
            self.hand_out()
        self.stalled = True  # before looking: who consumes looks here afterwards, so one of the two sees the other
        if self.consumed and len(self.fresh) + self._unsaid >= self._backlog:
            return attempts
        if self.streams and self._is_held_back():
            return attempts
        self.stalled = False
        planner, flying, post = self._planner, self.flying, self._post
        for lane in self._each_lane:
            pool, in_flight = lane.pool, lane.in_flight
            workers = pool.workers + lane.reserved
            limit = workers if lane.commands else pool.capacity + lane.reserved
            if in_flight >= limit:
                continue
            name, number = lane.name, self._attempts
            while in_flight < limit:
                task = planner.next(name, ahead=in_flight >= workers)
                if task is None:
                    break
                in_flight += 1
                number += 1
                attempt = Attempt(task, number, task.call, post)
                attempt.lane = lane
                flying[number] = attempt
                if attempt.call is not PLAIN or self._is_odd or task.meta:
                    self._complete(attempt, task)
                    if attempt.call is EXECUTE:
                        lane.commands += 1
                        limit = workers
                attempts.append(attempt)
            lane.in_flight, self._attempts = in_flight, number
            has_room = has_room or in_flight < workers
        self.has_room = has_room
        if planner.replaced:
            self._commands += [partial(self._world.notice, text) for text in planner.replaced]
            planner.replaced.clear()
        if planner.fallen:
            self.fallen += planner.take_fallen()
            self._record_fallen()
            attempts += self._fill()  # what fell may have let a task start in a pool that was asked before
        return attempts

    # -- everything else ------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Give all tasks that have a result from a run before that one. What is finished needs neither locks nor workers."""
        recorder = self._recorder
        if recorder is None:
            return
        self._is_odd = self._is_odd or bool(recorder.before.earlier or recorder.before.reboots)
        recalled = list(recorder.before.recalled.values())
        recorder.before.recalled.clear()
        self.fallen += self._planner.recall(
            (one.task, one.original.is_success or self._may_depend_on(one.task), SAID.get(one.original, one.original))
            for one in recalled
        )
        for result in recalled:
            self._is_odd = self._is_odd or bool(result.details.shared)
            self._tell(result)

    def _may_depend_on(self, task: Task) -> bool:
        return self._recorder is not None and task.name in self._recorder.before.deps_ok

    def _ended(self, outcome: Outcome, attempt: Attempt) -> None:
        """Take in the end of an attempt that is not as simple as most: a retry, or the task's one result."""
        task = attempt.task
        path = task.name
        if attempt.adds:
            self._unjudged += 1
            self._world.adding.keep(outcome)
            return
        if attempt.is_up:
            self._services.went_down(outcome)
        elif self.departing.departure is not None:
            if self.departing.departure.keeps(outcome):
                self._tallies.pop(path, None)
                return
            if self.departing.is_put_off(outcome):
                return
        if attempt.id in self.departing.released:
            self.departing.released.discard(attempt.id)
            if outcome.status in BAD:
                outcome.status, outcome.reason, outcome.failure = Status.CANCELLED, "the run is ending", None
        self._conclude(outcome, attempt)

    def _conclude(self, outcome: Outcome, attempt: Attempt) -> None:
        """Judge an attempt that is over: its task is tried again, or has its one result."""
        task = attempt.task
        path = task.name
        tally = self._tallies.pop(path, None)
        left = outcome.left or _NOTHING_LEFT
        status, reason, leaked = verdict_of(outcome, attempt, left.killed)
        if task.is_service:
            status, reason = self._services.judge(attempt, status, reason)
        if tally is not None:
            status = worst(status, tally.levels)
        if leaked and status is Status.PASSED:
            status = Status.WARNED
        about = Details(
            outcome.failure, reason, tuple(tally.reports()) if tally else (), (), (), outcome.output, leaked,
            attempt.evidence, left.artifacts, keeper=left.keeper,
        )  # fmt: skip
        start = outcome.started + self._epoch if outcome.started else 0.0
        if self._goes_on(outcome, attempt, status, start, about):
            return
        if attempt.call is EXECUTE and self._recorder is not None and path in self._recorder.before.shared:
            outcome.shared = {**self._recorder.before.shared[path], **(outcome.shared or {})}
        about.shared = layers_of(attempt, outcome)
        about.earlier = self._earlier.pop(path, ())
        self._is_odd = self._is_odd or outcome.shared is not None
        finish = Finish(
            status.is_success or outcome.deps_ok, SAID.get(status, status), outcome.freed,
            not outcome.locks_ok or (self._poison and status in UNCONTROLLED), outcome.shared,
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

    def _goes_on(self, outcome: Outcome, attempt: Attempt, status: Status, start: float, about: Details) -> bool:
        """Tell whether there will be another attempt, or another life of a service; if so, see to that."""
        task = attempt.task
        lives = False
        if attempt.is_up:
            if not attempt.is_leaving:
                self._tell_of_death(task, status, about.reason)
            lives = self._services.lives_again(attempt, stopping=self.stopping)
        if not lives and not self._is_tried_again(task, status, attempt):
            return False
        ended = Ended(
            attempt.number, status, start, outcome.duration, about.failure, about.reason, about.output, about.reports,
            about.leaked, about.evidence, about.artifacts,
        )  # fmt: skip
        self._is_odd = True
        self._earlier[task.name] = (*self._earlier.get(task.name, ()), ended)
        if self._recorder is not None:
            self._commands.append(partial(self._recorder.ended, task.name, ended))
        if lives:
            self._planner.restart(task, free=outcome.freed)
        else:
            self._try_again(task, free=outcome.freed)
        return True

    def _tell_of_death(self, task: Task, status: Status, reason: str) -> None:
        """Have those that run and rely on a service say in their results that it has died under them."""
        users, report = self._services.told_of_death(task, status, reason)
        for attempt in self.in_flight(users) if users else ():
            self._happened(Reported(attempt, report))

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
        while self._waiting:
            task = self._waiting.popleft()
            if task.retry_delay:
                self._commands.append(partial(self._world.later, task.retry_delay, Again(task)))
                return False
            if self._planner.again(task):
                return True
        return False

    def _is_tried_again(self, task: Task, status: Status, attempt: Attempt) -> bool:
        return bool(
            task.meta
            and attempt.number <= task.retries
            and not task.once
            and not attempt.is_up
            and status in task.retry_on
            and not self.stopping
            and (task.cleanup or not self._planner.is_draining)
            and (attempt.struck or not attempt.cancelled)
            and self._planner.may_start_again(task)
        )

    def _happened_to_run(self, event: Any) -> None:
        """Take in what concerns no attempt in flight."""
        if isinstance(event, Committed):
            self._unsaid = max(0, self._unsaid - len(event.results))  # it is 0 when the journal has failed
            if event.is_plain:
                self._settle(event.results)
            else:
                self._acknowledge(event.results)
        elif isinstance(event, Again):
            self._planner.again(event.task)
        elif isinstance(event, Turned):
            if event.is_open:
                self._planner.opened()
            else:
                self._planner.closed()
        elif isinstance(event, Judged):
            self._unjudged -= 1
            self._record(event.result)
        elif isinstance(event, Unrecorded):
            self._give_up(event.error)
        elif isinstance(event, Agreed):
            if event.departure is self.departing.departure:
                self._commands += event.departure.agree()
        elif isinstance(event, Overdue):
            self.departing.note_overdue(event)
        elif isinstance(event, Added):
            self._note_added(event)
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
                self._count(event)
            elif event.answer is not None:
                self._commands.append(partial(event.answer, "the attempt has ended"))
        elif isinstance(event, RebootWanted):
            self.departing.want(event)
        elif isinstance(event, Up):
            if event.attempt.id in self.flying:
                self._is_odd = self._is_odd or event.shared is not None
                self._commands += self._services.came_up(event, event.attempt.started + self._epoch)
        elif isinstance(event, AddWanted):
            self._commands.append(self._world.adding.ask(event, flies=event.attempt.id in self.flying))
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

    def _count(self, event: Reported) -> None:
        """Take in a report of an attempt whose outcome has not counted yet."""
        self._is_odd = True
        path = event.attempt.task.name
        tally = self._tallies.get(path)
        if tally is None:
            tally = self._tallies[path] = Tally()
        tally.add(event.report)
        self._confirm(event)

    def _note_added(self, event: Added) -> None:
        """Take in what has become of the tasks that an attempt adds; an executable that did not ask is told by a report."""
        attempt = event.attempt
        adding = self._world.adding
        if event.refused and attempt.call is EXECUTE and (attempt.id in self.flying or adding.keeps(attempt)):
            self._count(Reported(attempt, Report("pexen control", "warn", f"nothing was added: {event.refused}")))
        outcome = adding.done(attempt)
        if outcome is not None:
            self._unjudged -= 1
            self._ended(outcome, attempt)

    def _confirm(self, event: Reported) -> None:
        """Have a report recorded, and whoever waits for that told."""
        if self._recorder is not None:
            self._commands.append(partial(self._recorder.report, event.attempt, event.report, event.answer))
        elif event.answer is not None:
            self._commands.append(partial(event.answer, ""))

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
        elif self._is_no_verdict(result):
            if result.start:
                self._commands.append(partial(recorder.ended, result.path, result.attempts[-1]))
            self._acknowledge([result])
        else:
            self._unsaid += 1
            finish = self._finishing.get(result.path)
            self._commands.append(partial(recorder.result, result, finish))

    def _is_no_verdict(self, result: Result) -> bool:
        """Tell whether a run that is taken up again has to run the task, as it was stopped. Not what may run only once."""
        if result.start and result.task.meta and result.task.once:
            return False
        return result.status is Status.CANCELLED or (self._planner.is_draining and not result.start)

    def _acknowledge(self, results: Iterable[Result]) -> None:
        """Tell results that are committed, and let their dependants start."""
        for result in results:
            finish = self._finishing.pop(result.path, None)
            if finish is not None:
                self._finish(result.task, finish)
            self._tell(result)

    def _settle(self, plain: list[Result]) -> None:
        """Tell plain results that are committed, and let their dependants start."""
        told, finish, is_given_up = self._results, self._planner.finish, self._is_given_up
        for result in plain:
            task = result.task
            told[task.path] = result  # type: ignore[index]
            if is_given_up and self._planner.is_final(task):
                continue  # the news that the journal has failed has overtaken these
            fallen = finish(task, free=True)
            if fallen:
                self.fallen += fallen
        if self._kept:
            self._told += plain

    @property
    def _is_given_up(self) -> bool:
        return self._recorder is not None and self._recorder.failure is not None

    def _give_up(self, error: PexenError) -> None:
        """Tell nothing more, start nothing more, let what runs end: there is no record of it any more."""
        if self.error is None:
            self.error = error
            self.fallen += self._planner.drain("the journal cannot be written", cleanups=False)
        self._unsaid = 0
        self.departing.refuse()
        self._is_odd = True  # nothing is put aside any more
        waiting, self._finishing = self._finishing, {}
        for path, finish in waiting.items():
            task = self._planner.find(path)
            if task is not None:
                self._finish(task, finish)
        flying = {*self._world.adding.kept(), *(attempt.task for attempt in self.flying.values())}
        for task in self._planner.running_tasks():
            if task not in flying:  # it has passed, and that was put aside
                self.fallen += self._planner.finish(task, free=True)

    def _tell(self, result: Result) -> None:
        self._results[result.path] = result
        if self._kept:
            self._told.append(result)

    # -- streams: see `pexen.sched.stream` ------------------------------------------------------------------------------

    def join(self, stream: Stream) -> None:
        """Have a stream told all results from now on."""
        if self._told is self.fresh:
            self._told = deque()
        self.streams = (*self.streams, stream)

    def part(self, stream: Stream) -> None:
        """Tell a stream nothing more."""
        self.streams = tuple(one for one in self.streams if one is not stream)

    def hand_out(self) -> None:
        """Tell the loop over the run, and each stream, what has been told since the last time."""
        told = self._told
        if told is not self.fresh and told:
            news = list(told)
            told.clear()
            self.fresh += news
            for stream in self.streams:
                stream.tell(news)
            if self._sleepers:
                self._sleepers.wake(only_for_results=True)

    def _is_held_back(self) -> bool:
        """Tell whether a bounded stream is full."""
        return any(stream.is_full(self._unsaid) for stream in self.streams)

    def _record_fallen(self) -> None:
        while self.fallen:
            fallen, self.fallen = self.fallen, []
            for one in fallen:
                self._record(self._fell(one))

    def _fell(self, one: Fallen) -> Result:
        """Return the result of a task that will not run any more; that of a service that was up already is how it ended."""
        earlier = self._earlier.pop(one.task.name, ())
        status = Status.CANCELLED if one.cancelled else Status.SKIPPED
        about = Details(reason=one.reason, earlier=earlier)
        if earlier and one.task.is_service and one.reason == NOT_NEEDED_SERVICE:
            last = earlier[-1]
            status, about.reason, about.failure = last.status, last.reason, last.failure
        return Result(one.task, status, details=about)

    def _complete(self, attempt: Attempt, task: Task) -> None:
        """Give an attempt what only some need: number, values, shared layers, units."""
        if self._earlier:
            attempt.number = len(self._earlier.get(task.name, ())) + 1
        if self._is_odd:
            attempt.shared = self._inputs.layers(task)
        if self._recorder is not None and task.name in self._recorder.before.reboots:
            self._enter_again(attempt, self._recorder)
        call = attempt.call
        if call is not PLAIN and call is not EXECUTE:
            attempt.args = tuple([self._inputs.value(task, source) for source in call.positional])
            attempt.kwargs = {word: self._inputs.value(task, source) for word, source in call.keyword}
        if "resources" in task.meta:
            attempt.units = self._planner.units(task)
        if call is EXECUTE and task.requires:
            attempt.values = self._inputs.values(task)

    def _enter_again(self, attempt: Attempt, recorder: Recorder) -> None:
        """Give an attempt what the one before the restart has left for it."""
        path = attempt.task.name
        self._is_odd = True
        attempt.reboots = recorder.before.reboots[path]
        if path in recorder.before.shared:
            left = recorder.before.shared[path]
            attempt.shared = (*attempt.shared, left) if attempt.call is EXECUTE else (left,)
        if path in recorder.before.reported:
            self._tallies[path] = tally = Tally()
            for report in recorder.before.reported.pop(path):
                tally.add(report)

    def _check_end(self) -> None:
        """Notice that the run is over, or that it can never be (which is a bug, and must not be a hang)."""
        planner = self._planner
        if self._unjudged or self._unsaid or self.departing.departure is not None:
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
        self.over = self.has_failed = True
        self.departing.fail()
        self._sleepers.wake()

    def stop_services(self, attempts: list[Attempt]) -> list[Attempt]:
        """Have those among the attempts torn down that are services others need; return those that are no services.

        A service that nobody needs but who is cancelled with it goes down in its turn.
        """
        paths = {one.task.path for one in attempts}
        for one in attempts:
            if one.is_up and self._planner.is_needed_but_by(one.task, paths):
                self._commands += self._services.stop(one)
        return [one for one in attempts if not one.is_up]

    def in_flight(self, tasks: Iterable[Task]) -> list[Attempt]:
        """Return the attempts at these tasks that are in flight."""
        wanted = {task.path for task in tasks}
        return [attempt for attempt in self.flying.values() if attempt.task.path in wanted]


_NOTHING_LEFT = Left()
_OF_THE_RUN = (Committed, Again, Turned, Judged, Unrecorded, Broken, Agreed, Overdue, Added)
