"""A pool that runs nothing: the test says how and when each attempt ends, beforehand or as it goes.

*As it goes*: what is submitted is held, in `ScriptedPool.running`, until `end`, `lose` or `end_all` says what became of
it. Use it with ``Sched.open``, and everything happens in the test's own thread, step by step::

    pool = ScriptedPool(workers=2)
    run = Sched(tasks, pool=pool).open()
    pool.end("compile", Status.CRASHED)
    assert pool.running() == ["compile"]  # it is tried again

A service is held as well, and comes up when the test says so with `ScriptedPool.up`. It stays among those that are
`running` until `end`; when the run asks for its teardown, that is noted in ``torn_down``.

*Beforehand*: attempts that the script covers end by themselves in virtual time, in the order of their ends and of
submission, one with each `run_queued`. As with an `InlinePool` the thread that drives the run calls that, so
``Sched(tasks, pool=ScriptedPool(script)).wait()`` goes through without any other thread. A service that the script covers
comes up at once, and ends as the step says when it is torn down.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pexen.errors import PoolError, nearest
from pexen.model.event import Reported, Returned, Up
from pexen.model.result import Outcome, Report, Status
from pexen.pool.base import Survivors, outcome_of
from pexen.testing.clock import VirtualClock

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.pool.base import Mailbox
    from pexen.testing.clock import Appointment

Durations = Mapping[str, float] | Callable[[str], float | None]
"""How long tasks take, by path, in virtual seconds. What it does not know takes its ``estimate``, or 1."""


@dataclass(frozen=True, slots=True)
class Step:
    """How one attempt ends. ``error`` is an exception that the task raises; it decides the status then.

    ``reports`` come just before the end. ``seconds`` is how long it takes, where the script knows better than the
    pool's ``durations``. ``lost`` hands the attempt back instead: its worker died before it started. Of a service it says
    how the teardown ends; ``value`` and ``shared`` are known, and ``reports`` given, when it comes up.
    """

    status: Status = Status.PASSED
    value: Any = None
    reason: str = ""
    error: BaseException | None = None
    shared: Any = None
    reports: tuple[Report, ...] = ()
    seconds: float | None = None
    lost: bool = False


def as_step(said: object) -> Step:
    """Return what a script says of an attempt as a `Step`: a status, an exception, or else the value it returns."""
    if isinstance(said, Step):
        return said
    if isinstance(said, Status):
        return Step(said)
    return Step(error=said) if isinstance(said, BaseException) else Step(value=said)


def seconds_of(path: str, estimate: float | None, durations: Durations | None) -> float:
    """Return how long a task takes."""
    known = durations.get(path) if isinstance(durations, Mapping) else durations(path) if durations else None
    return next((float(one) for one in (known, estimate) if one is not None), 1.0)


class ScriptedPool:
    """Holds attempts until the test, or the ``script``, ends them. Callables and commands alike; runs neither.

    ``script`` says for a path how its attempts end, one after the other: steps, statuses, exceptions, values; the last
    one counts for all further attempts. With ``otherwise`` that holds for all other paths as well. Without ``durations``
    and ``clock`` everything takes no time. With ``obeys=False`` attempts that are asked to stop do not.

    ``submitted``, ``asked`` and ``torn_down`` are the paths of all attempts ever submitted, of those asked to stop, and of
    the services whose teardown was asked for, each in order.
    """

    executes = True
    driven = True
    """Whoever drives the run has to call `run_queued`."""

    def __init__(
        self,
        script: Mapping[str, Sequence[object]] | None = None,
        *,
        workers: int = 1,
        clock: VirtualClock | None = None,
        durations: Durations | None = None,
        otherwise: object = None,
        obeys: bool = True,
    ) -> None:
        self.workers = self.capacity = workers
        self.clock = VirtualClock() if clock is None else clock
        self.submitted: list[str] = []
        self.asked: list[str] = []
        self.torn_down: list[str] = []
        self._script = {path: [as_step(one) for one in ends] for path, ends in (script or {}).items()}
        self._otherwise = None if otherwise is None else [as_step(otherwise)]
        self._timed = clock is not None or durations is not None
        self._durations = durations
        self._obeys = obeys
        self._counts: dict[str, int] = {}
        self._held: dict[str, Attempt] = {}
        self._due: dict[str, Appointment] = {}
        self._up: dict[str, Step | None] = {}
        self._mailbox: Mailbox | None = None

    # -- the pool -------------------------------------------------------------------------------------------------

    def open(self, mailbox: Mailbox) -> None:
        """Remember where to post."""
        self._mailbox = mailbox

    def submit(self, attempt: Attempt) -> None:
        """Hold an attempt, and make an appointment for its end where the script says how."""
        path = attempt.task.name
        # At virtual 0 it has started, too: where 0 would mean never, the least there is above it.
        attempt.started = self.clock() or sys.float_info.min
        self._held[path] = attempt
        self.submitted.append(path)
        steps = self._script.get(path) or self._otherwise
        if steps:
            count = self._counts[path] = self._counts.get(path, 0) + 1
            step = steps[min(count, len(steps)) - 1]
            does, seconds = self._carry_out, self._seconds(attempt, step)
            if attempt.task.is_service and not step.lost:
                does, seconds = self._come_up, 0.0
            self._due[path] = self.clock.call_later(seconds, lambda: does(path, step))

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """End the attempt as cancelled, at once; one that does not obey only when forced."""
        attempt.cancelled = True
        path = attempt.task.name
        self.asked.append(path)
        if (force or self._obeys) and self._held.get(path) is attempt:
            self.end(path, Status.CANCELLED)

    def tear_down(self, attempt: Attempt) -> None:
        """Note that the teardown of a service is wanted, and make an appointment for its end where the script says how."""
        path = attempt.task.name
        self.torn_down.append(path)
        step = self._up.get(path)
        if step is not None:
            end = Step(step.status, reason=step.reason, error=step.error)
            self._due[path] = self.clock.call_later(self._seconds(attempt, step), lambda: self._carry_out(path, end))

    def close(self) -> Survivors:
        """End what is held as cancelled."""
        self.end_all(Status.CANCELLED)
        self._mailbox = None
        return Survivors()

    def has_queued(self) -> bool:
        """Tell whether `run_queued` has something to do."""
        return self.clock.next_at() is not None

    def run_queued(self) -> bool:
        """Go to the next appointment of the clock: the end of an attempt, or one of the test's own."""
        return self.clock.run_next()

    def run_until_idle(self) -> None:
        """Let virtual time pass until only attempts are left that the script does not cover."""
        self.clock.run_until_idle()

    # -- the test -------------------------------------------------------------------------------------------------

    def running(self) -> list[str]:
        """Return the paths of the attempts that are held, in order of submission."""
        return list(self._held)

    def services(self) -> list[str]:
        """Return the paths of the services that are up, in the order in which they came up."""
        return list(self._up)

    def up(self, path: str, value: Any = None, *, shared: Any = None) -> None:
        """Have a service come up; what may start then has been submitted when this returns."""
        self._bring_up(path, None, value, shared)

    def attempt(self, path: str) -> Attempt:
        """Return the attempt that is held: its number, arguments, units."""
        held = self._held.get(path)
        if held is None:
            raise _not_running(path, list(self._held))
        return held

    def end(
        self,
        path: str,
        status: Status = Status.PASSED,
        value: Any = None,
        reason: str = "",
        *,
        error: BaseException | None = None,
        shared: Any = None,
    ) -> None:
        """End an attempt; what may start then has been submitted when this returns."""
        attempt = self._take(path)
        outcome = Outcome(attempt, status, value) if error is None else outcome_of(attempt, error)
        outcome.reason = reason or outcome.reason
        outcome.shared = shared
        outcome.started, outcome.duration = attempt.started, self.clock() - attempt.started
        self._post_to().post(outcome)

    def end_all(self, status: Status = Status.PASSED) -> None:
        """End all attempts that are held now, not those that start when these have ended."""
        for path in self.running():
            self.end(path, status)

    def lose(self, path: str) -> None:
        """Hand an attempt back: its worker is gone, and nothing is charged to the task."""
        self._post_to().post(Returned(self._take(path)))

    def report(self, path: str, name: str, status: str = "pass", message: str = "") -> None:
        """Have a running task give one of its results."""
        self._post_to().post(Reported(self.attempt(path), Report(name, status, message)))

    # -- inside ---------------------------------------------------------------------------------------------------

    def _seconds(self, attempt: Attempt, step: Step) -> float:
        if step.seconds is not None:
            return step.seconds
        task = attempt.task
        return seconds_of(task.name, task.estimate, self._durations) if self._timed else 0.0

    def _come_up(self, path: str, step: Step) -> None:
        for report in step.reports:
            self._post_to().post(Reported(self.attempt(path), report))
        self._bring_up(path, step, step.value, step.shared)

    def _bring_up(self, path: str, step: Step | None, value: Any, shared: Any) -> None:
        attempt = self.attempt(path)
        if path in self._up:
            raise PoolError(f"{path!r} is up already")
        self._up[path] = step
        self._post_to().post(Up(attempt, value, shared))

    def _carry_out(self, path: str, step: Step) -> None:
        if step.lost:
            self.lose(path)
            return
        for report in step.reports:
            self._post_to().post(Reported(self.attempt(path), report))
        self.end(path, step.status, step.value, step.reason, error=step.error, shared=step.shared)

    def _take(self, path: str) -> Attempt:
        attempt = self._held.pop(path, None)
        if attempt is None:
            raise _not_running(path, list(self._held))
        self._up.pop(path, None)
        due = self._due.pop(path, None)
        if due is not None:
            due.cancel()
        return attempt

    def _post_to(self) -> Mailbox:
        if self._mailbox is None:
            raise PoolError("the scripted pool is not open", hint="Sched(tasks, pool=pool).open() opens it")
        return self._mailbox


def _not_running(path: str, running: list[str]) -> PoolError:
    return PoolError(
        f"no attempt of {path!r} is running",
        facts=[("running", ", ".join(running) or "nothing")],
        hint=nearest(path, running),
    )
