"""The watchdog: ends attempts that take too long, are silent for too long, or outlive the run's deadline.

Each attempt with a limit has a `Watch`, which knows when it wants to be looked at next; one timer at a time is set, for the
earliest of them. So a limit of half an hour on each of a million short tasks costs an object each, and no timer.

What happens to one attempt, with the times between two steps::

    running ── limit ──▶ examined ── 50 ms ──▶ asked ── grace ──▶ forced ── 1 s ──▶ given up

*Examined*: its pool notes what it is doing, before it is asked to stop. What cannot be ended (a thread) is given up: its
result is ``timeout``, its locks stay held, and its place is taken by another.

**Limits count from the attempt's real start**, which its pool notes; until then an attempt is not late. The attempt itself
may change its limit, with pause and resume as a stack: see `Limit`.

**A timer that fires late is not believed**: the runner was stopped, so results may be waiting to be read, and the
attempts get another `STALL` seconds. What they did not notice of that time counts all the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pexen.model.result import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.sched.timers import Timers

STALL = 0.5
"""Seconds of lateness from which on a timer says more about the machine than about a task."""
LOOK = 0.05
"""Seconds that a pool has to see what an attempt is doing, before the attempt is asked to stop."""
GIVE_UP = 0.9
"""Seconds for the outcome of a forced end to arrive, before the attempt is given up."""
WARNED = 0.8
"""The part of its limit after which people are told that an attempt is still running."""
WORTH = 5.0
"""Seconds of a limit below which nobody is told."""
TEARDOWN = 60.0
"""Seconds that the teardown of a service may take that has no limit of its own."""
NEVER = float("inf")


class Limit:
    """How much time is left, as seconds from ``since`` on; None while nothing is counted. Pause and resume are a stack.

    The remaining time that `pause` puts aside comes back at `resume`; a limit that is set in between holds in between.
    """

    __slots__ = ("aside", "left", "since")

    def __init__(self, left: float | None, since: float) -> None:
        self.left = left
        self.since = since
        self.aside: list[float | None] = []

    @property
    def due(self) -> float:
        """When the time is over."""
        return NEVER if self.left is None else self.since + self.left

    def change(self, what: str, seconds: float, now: float) -> None:
        """Do what the attempt says: set, add, pause, resume; a resume without a pause does nothing."""
        rest = None if self.left is None else self.left - (now - self.since)
        if what == "set":
            self.left, self.since = seconds, now
        elif what == "add" and self.left is not None:
            self.left += seconds
        elif what == "pause":
            self.aside.append(rest)
            self.left = None
        elif what == "resume" and self.aside:
            self.left, self.since = self.aside.pop(), now


class Watch:
    """One attempt under watch: its limits, how far things have gone, and when to look again (``due``)."""

    __slots__ = ("changes", "due", "limit", "silence", "span", "step", "told")

    def __init__(self, span: float | None, silence: float | None, due: float) -> None:
        self.span = span
        self.silence = silence
        self.due = due
        self.limit: Limit | None = None
        self.changes: list[tuple[str, float, float]] = []
        self.step = 0
        self.told = False

    @property
    def is_forced(self) -> bool:
        """Whether asking was not enough."""
        return self.step >= 3


class Watchdog:
    """Watches the attempts of a run.

    ``flying`` are those in flight, ``post`` takes outcomes of what is given up, ``default`` is the limit of tasks that
    have none, ``deadline`` is the span after which the run is to end, ``notice`` is told of attempts that take long.
    """

    def __init__(
        self,
        flying: Mapping[int, Attempt],
        post: Callable[[Event], None],
        timers: Timers,
        default: float | None,
        *,
        deadline: float | None = None,
        notice: Callable[[Attempt, str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flying = flying
        self._post = post
        self._timers = timers
        self._default = default
        self._notice = notice
        self.clock = clock
        self._wake = NEVER
        self._span = deadline
        self._end = NEVER
        self._steps = (self._examine, self._ask, self._force, self._give_up)

    def begin(self, at_deadline: Callable[[float], None]) -> None:
        """Start the clock of the run; ``at_deadline`` is called when its time is over."""
        if self._span is not None:
            self._end = self.clock() + self._span
            self._timers.at(self._end, at_deadline)

    @property
    def watches_all(self) -> bool:
        """Whether every attempt has a limit."""
        return self._default is not None or self._span is not None

    def watch(self, attempt: Attempt) -> None:
        """Watch an attempt that is about to be submitted."""
        task = attempt.task
        span = task.timeout if "timeout" in task.meta else self._default
        silence = task.idle_timeout
        spans = [silence, span if span is None or span < WORTH else span * WARNED]
        due = min(self._end, self.clock() + min((one for one in spans if one is not None), default=NEVER))
        attempt.watch = Watch(span, silence, due)
        self._set(due)

    def watch_teardown(self, attempt: Attempt) -> None:
        """Watch the teardown of a service from now on: it may take as long as its start, or else `TEARDOWN`."""
        self.watch(attempt)
        watch, now = attempt.watch, self.clock()
        attempt.heard = now
        watch.span = TEARDOWN if watch.span is None else watch.span
        watch.limit = Limit(watch.span, now)
        watch.due = 0.0
        self._set(now)

    def change(self, attempt: Attempt, what: str, seconds: float) -> None:
        """Take in that an attempt changes its own limit."""
        if attempt.watch is None:  # it had none: whatever it sets is its first one
            attempt.watch = Watch(None, None, NEVER)
        attempt.watch.changes.append((what, seconds, self.clock()))
        attempt.watch.due = 0.0
        self._set(self.clock())

    def _set(self, due: float) -> None:
        """Have a timer fire at ``due`` at the latest. Two threads may set one too many; that does no harm."""
        if due < self._wake:
            self._wake = due
            self._timers.at(due, self._look_at_all)

    def _look_at_all(self, late: float) -> None:
        """Look at everybody who wants to be looked at, and set the next timer."""
        self._wake = NEVER
        now, soonest = self.clock(), NEVER
        for attempt in list(self._flying.values()):
            watch = attempt.watch
            if watch is None:
                continue
            if watch.due <= now:
                watch.due = self._looked_at(attempt, watch, now, late)
            soonest = min(soonest, watch.due)
        if soonest < NEVER:
            self._set(soonest)

    def _looked_at(self, attempt: Attempt, watch: Watch, now: float, late: float) -> float:
        """Do what is due for an attempt; return when to look again."""
        if watch.step:
            return now + self._steps[watch.step](attempt)
        due, why = self._limit_of(attempt, watch, now)
        if due > now:
            return due
        if late > STALL:
            return now + STALL
        attempt.struck = why
        return now + self._steps[0](attempt)

    def _limit_of(self, attempt: Attempt, watch: Watch, now: float) -> tuple[float, str]:
        """Return when the attempt's time is over, or when to look again before, and what is said then."""
        started = attempt.started
        if watch.limit is None:
            if not started:  # it waits for a worker
                return now + max(LOOK, min(watch.span or NEVER, watch.silence or NEVER, max(LOOK, self._end - now))), ""
            watch.limit = Limit(watch.span, started)
        for what, seconds, when in watch.changes:
            watch.limit.change(what, seconds, when)
            watch.span = seconds if what == "set" else watch.span
        watch.changes.clear()
        end = self._end if started < self._end else NEVER  # what is started after it is a clean-up
        limits = [(end, f"the run's deadline of {self._span or 0:g} s has passed")]
        limits.append((watch.limit.due, f"took longer than its timeout of {_told(watch)}"))
        if watch.silence is not None and not watch.limit.aside:
            limits.append((max(started, attempt.heard) + watch.silence, f"was silent for {watch.silence:g} s"))
        due, why = min(limits)
        return (self._told_at(attempt, watch, due, now) if due > now else due), why

    def _told_at(self, attempt: Attempt, watch: Watch, due: float, now: float) -> float:
        """Tell people when most of the limit is over, once; return when to look again."""
        limit = watch.limit
        if watch.told or limit is None or limit.left is None or limit.left < WORTH:
            return due
        tell = limit.since + limit.left * WARNED
        if now < tell:
            return min(due, tell)
        watch.told = True
        if self._notice is not None:
            self._notice(
                attempt, f"still running: {attempt.task.name} for {now - attempt.started:.0f} s of {limit.left:g} s"
            )
        return due

    # -- the steps: each returns the seconds until the next one ---------------------------------------------------------

    def _examine(self, attempt: Attempt) -> float:
        attempt.watch.step = 1
        attempt.lane.pool.examine(attempt)
        return LOOK

    def _ask(self, attempt: Attempt) -> float:
        attempt.watch.step = 2
        attempt.lane.pool.cancel(attempt, force=False)
        return attempt.task.grace

    def _force(self, attempt: Attempt) -> float:
        attempt.watch.step = 3
        attempt.lane.pool.cancel(attempt, force=True)
        return GIVE_UP

    def _give_up(self, attempt: Attempt) -> float:
        """Report an attempt that cannot be ended; whoever runs it still holds what it took."""
        started = attempt.started
        self._post(
            Outcome(
                attempt, Status.TIMEOUT, None, started, self.clock() - started, freed=False,
                reason=f"{attempt.struck}; it cannot be ended and still runs",
            )
        )  # fmt: skip
        return NEVER


def _told(watch: Watch) -> str:
    return "what it had left" if watch.span is None else f"{watch.span:g} s"
