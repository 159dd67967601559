"""Run: one execution of the tasks of a `Sched`.

All that happens between "an attempt has ended" and "these may start next" is in `pexen.sched.decide`, under the mailbox's
lock. Here is the rest: carrying out what was decided, handing out results, stopping, and closing.

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
from functools import cache, cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError, PoolError
from pexen.model.attempt import Attempt
from pexen.model.event import Broken, Returned
from pexen.model.result import Outcome, Output, Results, Status
from pexen.model.task import held_by
from pexen.pool import subreaper
from pexen.pool.base import outcome_of
from pexen.sched.adding import Adding
from pexen.sched.around import Around
from pexen.sched.decide import Decider
from pexen.sched.mailbox import Mailbox
from pexen.sched.sleep import Sleepers
from pexen.sched.strays import Strays
from pexen.sched.timers import Timers
from pexen.sched.verdict import Judge
from pexen.sched.watchdog import Watchdog
from pexen.sched.world import WAKE, Judged, Turned, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pexen.core.planner import Fallen, Planner
    from pexen.model.result import Result
    from pexen.model.task import Task
    from pexen.model.waiver import Waiver
    from pexen.pool.base import Pool
    from pexen.sched.post import Stage
    from pexen.sched.reboot import Reboots, Wish
    from pexen.sched.recorder import Recorder
    from pexen.sched.remote import RemoteStream
    from pexen.sched.serve import Server
    from pexen.sched.stream import Stream

_NOTICES = 1000
"""Notices kept for who drives the run."""


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt in flight, as a snapshot shows it. ``age`` is seconds since it started, None while it is queued.

    ``is_up`` tells that it is a service which is there for others, and not being torn down.
    """

    path: str
    attempt: int
    pool: str
    age: float | None
    is_up: bool = False


class Run:
    """One execution of a `Sched`. Iterate to get the results as they come; `wait` for the end.

    Made by `Sched.run`, `Sched.start` and `Sched.open`. ``kept`` tells whether results are kept for somebody who reads
    them, ``gate`` why a task is not to run on this machine; ``vet`` refuses tasks that cannot be run; ``at_end`` is called
    with the run when it is closed.
    """

    def __init__(  # noqa: PLR0913 - made in one place, by keyword
        self,
        planner: Planner,
        pools: Mapping[str, Pool],
        results: dict[str, Result],
        *,
        groups: Mapping[str, Pool],
        early: Iterable[Fallen],
        backlog: int,
        gate: Callable[[Task], str | None] | None,
        timeout: float | None,
        deadline: float | None,
        waivers: Sequence[Waiver],
        reaper: int | None,
        subreap: bool,
        recorder: Recorder | None,
        reboots: Reboots,
        vet: Callable[[Iterable[Task]], None],
        at_end: Callable[[Run], None],
        **options: Any,
    ) -> None:
        self._planner = planner
        self._pools = list(pools.values())
        self._of_groups: list[Pool] = []
        self._results = results
        self._limit = backlog
        self._gate_of = gate
        self.notices: deque[str] = deque(maxlen=_NOTICES)
        self._at_end = at_end
        self._sleepers = Sleepers()
        self._timers = Timers()
        self._waivers = waivers
        self._reaper = reaper
        self._subreap = subreap and not subreaper.is_subreaper()
        self._vet = vet
        known = {} if recorder is None else recorder.before.readmitted
        self._adding = Adding(planner, self._add_by, self._tell_when_safe, self._post, known)
        world = World(
            self._judge, bool(waivers), self._post_later, self._change_limit, self._tear_down, self._turn, self._adding,
            self._tell, recorder, reboots,
        )  # fmt: skip
        self._recorder = recorder
        self._decider = Decider(
            planner, pools, results, backlog=backlog, sleepers=self._sleepers, world=world, **options
        )
        self._decider.fallen += early
        self._mailbox = Mailbox(self._decider.decide, self._carry_out, self._decider.fail)
        self._decider.answer_to(self._mailbox.post)
        if recorder is not None:
            recorder.post = self._mailbox.post
        self.lock = self._mailbox.held
        self._watchdog = Watchdog(
            self._decider.flying, self._mailbox.post, self._timers, timeout, deadline=deadline, notice=self._tell_of
        )
        self._in_background = False
        self._ended = False
        self._before = len(results)
        """How many results are of runs before."""
        self._server: Server | None = None
        self._serving = threading.Lock()
        self._stages: tuple[Stage, ...] = ()
        self._refused = threading.local()
        """Outcomes of tasks that are not to run here, which this thread is about to post."""
        self._closing = threading.Lock()
        self._finished = threading.Event()
        self._turning: threading.Thread | None = None
        self._turns = threading.Lock()
        self._may_turn = True
        self._inline: list[Any] = [pool for pool in self._pools if getattr(pool, "driven", False)]
        self.add_groups(groups)

    # -- for users ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Result]:
        """Yield each result as it comes, until the run is over and all are read."""
        fresh, limit = self._decider.fresh, self._limit // 2
        self._decider.consumed = True
        while True:
            try:
                result = fresh.popleft()
            except IndexError:
                if not self._wait_for_more(results=True):
                    break
                continue
            if self._decider.stalled and len(fresh) <= limit:
                self._mailbox.post(WAKE)
            yield result
        if self._in_background:
            self.wait_closed()  # whoever comes next finds the journal free
        if self._decider.error is not None:
            raise self._decider.error

    def take(self, timeout: float | None = None, *, gather: float = 0.0) -> list[Result] | None:
        """Return the results that have come since the last call; None when the run is over and all were taken.

        Waits up to ``timeout`` seconds for the first one, and ``gather`` seconds more for others, so that who shows
        them is woken seldom. The list is empty after the timeout, and after `wake`. While the backlog is full nothing
        starts before the next call: what was taken has been dealt with by then.
        """
        fresh = self._decider.fresh
        self._decider.consumed = True
        if self._decider.stalled:
            self._mailbox.post(WAKE)
        if not fresh and not self._wait_for_more(results=True, timeout=timeout):
            if self._decider.error is not None:
                raise self._decider.error
            return None
        if gather and fresh and not self._decider.over:
            self._sleep(gather, for_results=False)
        return [fresh.popleft() for _ in range(len(fresh))]

    def pop(self) -> Result | None:
        """Return the next result if it has come, else None. Never waits and never decides, so it takes no time."""
        try:
            return self._decider.fresh.popleft()
        except IndexError:
            return None

    def wait_for_more(self) -> bool:
        """Wait until `pop` may have something to return, or `wake` is called; False when the run is over and all are read."""
        if self._decider.stalled:
            self._mailbox.post(WAKE)
        return self._wait_for_more(results=True)

    def wake(self) -> None:
        """Have `take` or `wait_for_more` return at once, this time or the next. May be called from a signal handler."""
        self._sleepers.poke()

    def wait(self, timeout: float | None = None) -> Results:
        """Wait for the end of the run and return the results; raises TimeoutError after ``timeout`` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        if not self._finished.wait(timeout):
            raise TimeoutError("the run is not over")
        if self._decider.error is not None:
            raise self._decider.error
        for stage in self._stages:
            stage.wait(None if end is None else max(0.0, end - time.monotonic()))  # one may have come after the end
        return Results(self._results)

    def stream(self, maxsize: int | None = None) -> Stream:
        """Return a stream of all results, each for one of those who read it: threads, and processes that get it pickled.

        Results so far come first. With ``maxsize`` nothing starts while so many are not dealt with by those who read it.
        """
        from pexen.sched.stream import Stream

        if maxsize is not None and maxsize < 1:
            raise DefinitionError(f"maxsize is how many results may wait, not {maxsize}")
        stream = self._opened(Stream, maxsize)
        stream.offer()
        return stream

    def post(self, function: Callable[[Result], Any], pool: Pool | None = None, *, name: str | None = None) -> Stage:
        """Have ``function`` called with every result, in a pool of its own (threads by default), while others still run.

        What becomes of that is in ``result.posted`` by ``name`` (by default the function's), and in the stage that is
        returned. The run is over when its stages are. Raises `DefinitionError` for a function that cannot be called so.
        """
        from pexen.sched.post import Stage
        from pexen.sched.stream import Stream

        stage = Stage(function, pool, name, [one.name for one in self._stages])
        stream = self._opened(Stream, None, stage)
        stage.begin(stream)
        return stage

    def _opened(self, kind: type[Stream], maxsize: int | None, stage: Stage | None = None) -> Stream:
        with self.lock:
            decider = self._decider
            decider.hand_out()
            stream = kind(self, islice(self._results.values(), self._before, None), maxsize)
            decider.join(stream)
            if self._ended:
                stream.end(decider.error)
            if stage is not None:
                self._stages = (*self._stages, stage)
        self._mailbox.post(WAKE)  # for whoever has found the lock taken
        return stream

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the run from ending while tasks may still be added from elsewhere."""
        with self.lock:
            if self._decider.ending:
                raise PoolError("the run is over")
            self._planner.hold()
            self._decider.over = self._decider.has_failed  # all may have ended, and nobody has noticed yet
        try:
            yield
        finally:
            with self.lock:
                self._planner.release()
            self._mailbox.post(WAKE)

    def cancel(self, *, force: bool = False) -> None:
        """Cancel what has not started and ask (or force) what runs to stop."""
        self.cancel_tasks(self._planner.tasks(), force=force)

    def stop(self, reason: str = "the run was stopped", *, force: bool = False, cleanups: bool = True) -> int:
        """Start nothing more, and ask (or force) what runs to stop; return how many that were.

        Clean-ups still start and are left alone, unless ``cleanups`` is false.
        """
        with self.lock:
            self._decider.fallen += self._planner.drain(reason, cleanups=cleanups)
            flying = [
                one
                for one in self._decider.flying.values()
                if not (cleanups and one.task.cleanup) and (force or not one.is_up)
            ]
        self._record_stop(reason)
        for attempt in flying:
            attempt.lane.pool.cancel(attempt, force=force)
        self._mailbox.post(WAKE)
        return len(flying)

    def drain(self, reason: str = "the run was stopped") -> None:
        """Start nothing more but clean-ups; let finish what runs."""
        with self.lock:
            self._decider.fallen += self._planner.drain(reason)
        self._record_stop(reason)
        self._mailbox.post(WAKE)

    def _record_stop(self, reason: str) -> None:
        if self._recorder is not None:
            self._recorder.stopped(reason)

    @property
    def wish(self) -> Wish | None:
        """The restart of the machine that the run has ended for, if it has."""
        return self._decider.departing.wish

    def add_groups(self, pools: Mapping[str, Pool]) -> None:
        """Take in groups: their pools are opened when it is their turn."""
        self._of_groups += pools.values()
        self._inline += [pool for pool in pools.values() if getattr(pool, "driven", False)]
        with self.lock:
            self._decider.add_pools(pools)

    # -- for its streams ------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Start what may start, if nothing has been started lately for lack of room."""
        if self._decider.stalled:
            self._mailbox.post(WAKE)

    def is_inside(self, what: Any) -> bool:
        """Tell whether that is an attempt in flight, its context, or its task's path."""
        return any(
            what is one or what is one.made or what == one.task.name for one in list(self._decider.flying.values())
        )

    def serve(self, stream: Stream) -> RemoteStream:
        """Return a stream as other processes read it."""
        from pexen.sched.serve import Server  # only who has other processes read pays for it

        with self._serving:
            served = self._server and self._server.add(stream)
            if not served:
                self._server = Server(self.is_inside)
                served = self._server.add(stream)
            return served  # type: ignore[return-value]  # a server does not end before it has a stream

    def leave(self, stream: Stream) -> None:
        """Tell a stream nothing more."""
        with self.lock:
            self._decider.part(stream)
        self._mailbox.post(WAKE)
        if self._server is not None:
            self._server.leave()

    # -- for Sched ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the pools and let the first tasks start."""
        with self.lock:
            self._decider.take_over()
        if self._subreap:
            subreaper.become_subreaper()
        for pool in self._pools:
            pool.open(self._mailbox)
        self._watchdog.begin(self._at_deadline)
        if self._reaper is not None:
            Strays(self._reaper, self._decider.flying, self._timers, self._tell).look()
        self._mailbox.post(WAKE)

    def add(self, tasks: list[Task], by: str = "") -> bool:
        """Admit tasks while the run goes on, for whoever drives it or ``by`` the task at a path; False when it has just ended."""
        decider, recorder, mailbox = self._decider, self._recorder, self._mailbox
        with mailbox.lock:
            if decider.ending:
                return False
            if by:
                self._adding.in_group(tasks, by)
                tasks = self._adding.unknown(tasks, by)
            decider.fallen += self._planner.add(tasks, (lambda _: by) if by else None)
            if by:
                self._adding.note(tasks, by)
            if recorder is not None:
                recorder.plan(tasks, self._planner, on_the_fly=True, by=by)
                decider.fallen += recorder.readmit(self._planner)
                decider.take_over()
            is_at_rest = decider.over or decider.has_room or bool(decider.fallen)
            decider.over = decider.has_failed
        if is_at_rest:
            mailbox.post(WAKE)
        else:  # somebody who is busy will ask for more
            mailbox.look()
        return True

    def _add_by(self, tasks: list[Task], by: str) -> bool:
        self._vet(tasks)
        return self.add(tasks, by)

    def _tell_when_safe(self, attempt: Attempt, answer: Callable[[str], None]) -> None:
        if self._recorder is None:
            answer("")
        else:
            self._recorder.tell_when_safe(attempt, answer)

    def cancel_tasks(self, tasks: list[Task], *, force: bool = False) -> None:
        """Take the unstarted ones of the tasks out; ask (or force) those in flight to stop."""
        with self.lock:
            self._decider.fallen += self._planner.cancel(tasks)
            self._decider.departing.withdraw(tasks)
            flying = self._decider.in_flight(tasks)
            if not force:
                flying = self._decider.stop_services(flying)
        for attempt in flying:
            attempt.lane.pool.cancel(attempt, force=force)
        self._mailbox.post(WAKE)

    def wait_closed(self) -> None:
        """Wait until the pools are closed, however the run ended."""
        self._finished.wait()

    def in_flight(self) -> tuple[Running, ...]:
        """Return the attempts in flight; call it under `lock`."""
        now = time.monotonic()

        def age(one: Attempt) -> float | None:
            return now - one.started if one.started else None

        return tuple(
            Running(one.task.name, one.number, one.lane.name, age(one), one.is_up and not one.is_leaving)
            for one in self._decider.flying.values()
        )

    def drive(self) -> None:
        """Stay until the run is over."""
        while self._wait_for_more(results=False):
            pass

    def drive_in_background(self) -> None:
        """Have a thread stay until the run is over, and close it."""
        self._in_background = True

        def stay() -> None:
            try:
                self.drive()
            finally:
                self.close()

        threading.Thread(target=stay, name="pexen-run", daemon=True).start()

    def close(self) -> None:
        """End whatever is left and close the pools. Returns when everything that can be ended is gone."""
        if not self._closing.acquire(blocking=False):
            self.wait_closed()
            return
        is_cut_short = not self._decider.over
        try:
            if is_cut_short:
                self._stop()
            self._end_turns()
            for pool in (*self._pools, *self._of_groups):
                pool.close()
            left = list(self._decider.flying.values())
            told = "it was asked to stop, and still runs"
            self._mailbox.post_all([Outcome(one, Status.CANCELLED, reason=told, freed=False) for one in left])
        finally:
            if self._subreap:
                subreaper.become_subreaper(on=False)
            self._timers.close()
            if self._recorder is not None:
                self._end_record(self._recorder)
            with self.lock:
                self._decider.over = self._decider.ending = True
            self._mailbox.retire()
            self._end_streams(cancelled=is_cut_short)
            self._at_end(self)
            self._finished.set()
            self._sleepers.wake()

    def _end_record(self, recorder: Recorder) -> None:
        """Have everything committed that is to be told, and close the journal."""
        decider = self._decider
        if decider.error is not None:
            how, why = "error", str(decider.error)
        elif decider.departing.wish is not None:
            how, why = "reboot", ", ".join(decider.departing.wish.paths)
        else:
            how, why = "stopped" if decider.stopping or self._planner.is_draining else "done", ""
        counts: dict[str, int] = {}
        recorder.flush()
        with self.lock:
            for result in self._results.values():
                counts[result.status] = counts.get(result.status, 0) + 1
        recorder.end(how, counts, why)
        if decider.error is None:
            decider.error = recorder.failure

    def _end_streams(self, *, cancelled: bool) -> None:
        """Let those who read come to the end, and wait for the stages; what these have not begun may be ``cancelled``."""
        with self.lock:
            self._ended = True
            self._decider.hand_out()
            for stream in self._decider.streams:
                stream.end(self._decider.error)
            stages = self._stages
        for stage in stages:
            stage.finish(cancelled=cancelled)

    def _stop(self) -> None:
        """Cancel what has not started; ask what runs to stop, and after its grace end it."""
        self._decider.stopping = True
        self.cancel_tasks(self._planner.tasks())
        grace = max((attempt.task.grace for attempt in list(self._decider.flying.values())), default=0.0)
        end = time.monotonic() + grace
        inline = () if self._in_background else self._inline
        while self._decider.flying and not self._decider.over and (left := end - time.monotonic()) > 0:
            if sum(pool.run_queued() for pool in inline):
                continue
            self._sleep(left, for_results=False)
        if self._decider.flying:
            self.cancel_tasks(self._planner.tasks(), force=True)

    def _wait_for_more(self, *, results: bool, timeout: float | None = None) -> bool:
        """Wait until there may be a result to read; False when the run is over and all are read."""
        for pool in self._inline:
            if pool.run_queued():
                return True
        if results and self._decider.fresh:
            return True
        if self._decider.over:
            with self.lock:
                if results and self._decider.fresh:  # the last ones came with the end, after the look above
                    return True
                self._decider.ending = self._decider.over
            return not self._decider.ending
        self._sleep(timeout, for_results=results)
        return True

    def _sleep(self, timeout: float | None, *, for_results: bool) -> None:
        """Sleep until there are results (if they are wanted), something to run inline, or the end."""
        decider = self._decider

        def is_due() -> bool:
            return decider.over or bool(for_results and decider.fresh) or any(one.has_queued() for one in self._inline)

        self._sleepers.sleep(is_due, timeout, for_results=for_results)

    # -- carrying out: outside of the lock ------------------------------------------------------------------------

    def _carry_out(self, commands: list[Any]) -> None:
        recorder = self._recorder
        starts = None if recorder is None else recorder.starts
        for attempt in commands:
            if attempt.__class__ is not Attempt:
                attempt()
                continue
            meta = attempt.task.meta
            if meta and ("when" in meta or "host" in meta):
                refused = self._gate(attempt)
                if refused is not None:
                    self._refuse(refused)
                    continue
            if recorder is not None:
                if (meta and "once" in meta and attempt.task.once) or recorder.before.is_suspect(attempt.task):
                    recorder.started(attempt, partial(self._start, attempt))
                    continue
                starts.append(attempt)  # type: ignore[union-attr]
            self._start(attempt)
        if starts and len(starts) >= recorder.journal.wanted:  # type: ignore[union-attr]
            recorder.wake()  # type: ignore[union-attr]
        if self._inline and self._sleepers:
            self._sleepers.wake()

    def _refuse(self, outcome: Outcome) -> None:
        """Post an outcome that may let others start that are refused in turn: in a loop, not ever deeper."""
        mine: deque[Outcome] | None = getattr(self._refused, "outcomes", None)
        if mine is not None:
            mine.append(outcome)
            return
        mine = self._refused.outcomes = deque([outcome])
        try:
            while mine:
                self._mailbox.post(mine.popleft())
        finally:
            self._refused.outcomes = None

    def _start(self, attempt: Attempt) -> None:
        """Hand an attempt to its pool, or first to what runs around it."""
        meta = attempt.task.meta
        if meta and "around" in meta:
            attempt.around = Around(attempt, self._mailbox.post, self._timers)
            attempt.around.begin(partial(self._submit_late, attempt))
            return
        if self._watchdog.watches_all or (meta and ("timeout" in meta or "idle_timeout" in meta)):
            self._watchdog.watch(attempt)
        attempt.lane.pool.submit(attempt)
        if attempt.cancelled:  # by somebody who did not find it in the pool yet
            attempt.lane.pool.cancel(attempt, force=False)

    def _submit_late(self, attempt: Attempt) -> None:
        """Hand on an attempt around which everything has begun; it may have been cancelled, or its pool closed, meanwhile."""
        if attempt.cancelled:
            self._mailbox.post(Outcome(attempt, Status.CANCELLED, reason="not started"))
            return
        self._watchdog.watch(attempt)
        try:
            attempt.lane.pool.submit(attempt)
        except PoolError:
            self._mailbox.post(Returned(attempt))

    @cached_property
    def _judging(self) -> Judge:
        from pexen.factory.facts import Facts  # only runs in which something fails that may be waived pay for it

        return Judge(self._waivers, cache(Facts), self._tell)

    def _judge(self, result: Result) -> None:
        self._mailbox.post(Judged(self._judging.verdict(result)))  # type: ignore[arg-type]  # the run's own

    def _post(self, event: Any) -> None:
        self._mailbox.post(event)

    def _post_later(self, seconds: float, event: Any) -> None:
        self._timers.at(time.monotonic() + seconds, lambda _late: self._mailbox.post(event))

    def _change_limit(self, attempt: Attempt, what: str, seconds: float) -> None:
        self._watchdog.change(attempt, what, seconds)

    def _tear_down(self, attempt: Attempt) -> None:
        self._watchdog.watch_teardown(attempt)
        attempt.lane.pool.tear_down(attempt)

    def _turn(self, what: str, pool: Pool) -> None:
        """Open or close the pool of a group, in a thread of its own: that may take long, and this one may be the pool's."""

        def turn() -> None:
            try:
                if what == "open":
                    pool.open(self._mailbox)
                else:
                    for left in pool.close().attempts:
                        self._tell(
                            f"{left.lane.name} is over, and {left.task.name} still runs: its thread cannot be ended"
                        )
            except BaseException as error:  # noqa: BLE001 - there is nobody else to tell
                self._mailbox.post(Broken("group", f"{type(error).__name__}: {error}"))
            self._mailbox.post(Turned(what == "open"))  # type: ignore[arg-type]  # the run's own

        thread = threading.Thread(target=turn, name="pexen-group", daemon=True)
        with self._turns:
            if self._may_turn:
                self._turning = thread
                thread.start()

    def _end_turns(self) -> None:
        """Have no more pools opened, or closed, for groups; return when that has ended which is under way."""
        with self._turns:
            self._may_turn = False
            turning = self._turning
        if turning is not None and turning is not threading.current_thread():
            turning.join()

    def _tell(self, text: str) -> None:
        """Tell whoever drives the run something that people should know."""
        self.notices.append(text)
        self._sleepers.wake()

    def _tell_of(self, attempt: Attempt, text: str) -> None:
        """Tell that an attempt takes long: with what it holds, and what it has said last."""
        held = held_by(attempt.task)
        last = Output(attempt.printed).tail(1) if attempt.printed else ""
        self._tell(text + (f", holds {held}" if held else "") + (f", last output: {last}" if last else ""))

    def _at_deadline(self, _late: float) -> None:
        """Start nothing more, and take back what waits for a worker; the watchdog sees to what runs."""
        self.drain("the run's deadline has passed")
        for attempt in list(self._decider.flying.values()):
            if not attempt.started:
                attempt.lane.pool.cancel(attempt, force=False)

    def _gate(self, attempt: Attempt) -> Outcome | None:
        """Return the outcome of a task that is not to run on this machine, decided just before it would start."""
        if self._gate_of is None:
            from pexen.factory.conditions import gate  # only runs with conditions pay for it
            from pexen.factory.facts import Facts

            self._gate_of = gate(Facts())
        try:
            reason = self._gate_of(attempt.task)
        except BaseException as error:  # noqa: BLE001 - a condition may be the user's own code
            return outcome_of(attempt, error)
        return None if reason is None else Outcome(attempt, Status.SKIPPED, reason=reason)
