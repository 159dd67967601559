"""Departing: how a run comes to a restart of its machine, see `pexen.sched.reboot`."""

# ruff: noqa: SLF001 - it is a part of the decider

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pexen.model.call import EXECUTE
from pexen.model.context import ENDING
from pexen.model.event import Reported
from pexen.model.result import BAD, Details, Ended, Report, Result, Status
from pexen.sched.reboot import Agreed, Departure
from pexen.sched.world import WAKE, Finish

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pexen.model.attempt import Attempt
    from pexen.model.event import RebootWanted
    from pexen.model.result import Outcome
    from pexen.model.task import Task
    from pexen.sched.decide import Decider
    from pexen.sched.reboot import Overdue, Wish


class Departing:
    """The way to a restart, while the run is on it: ``departure``. Touched under the run's lock only."""

    def __init__(self, decider: Decider) -> None:
        self._of = decider
        self._count = 0
        self.departure: Departure | None = None
        self.released: set[int] = set()
        """Ids of attempts that asked for a restart and were told to end: what they say then is no verdict."""
        self.wish: Wish | None = None
        """The restart that the run has ended for."""

    def want(self, event: RebootWanted) -> None:
        """Take in that a task wants the machine restarted, or tell it why nothing comes of it."""
        of = self._of
        attempt = event.attempt
        refused = self._refusal(event)
        if not refused:
            of._is_odd = True  # nothing is put aside any more
            if self.departure is None:
                self._count += 1
                self.departure = Departure(of._world.reboots, of._world)
            of._commands += self.departure.ask(event, of.flying.values())
            return
        of._commands.append(partial(event.answer, refused))
        if attempt.id not in of.flying or (self.departure is not None and attempt.id in self.departure.wanted):
            return
        if refused == ENDING:
            self.released.add(attempt.id)
        else:
            of._happened(Reported(attempt, Report("reboot", "error", refused)))
        if attempt.call is EXECUTE:
            attempt.condemned = "" if refused == ENDING else refused
            of._commands.append(partial(attempt.lane.pool.cancel, attempt, force=False))

    def _refusal(self, event: RebootWanted) -> str:
        """Return why a task cannot have the machine restarted; empty when it can."""
        of = self._of
        recorder, path = of._recorder, event.attempt.task.name
        if event.attempt.id not in of.flying:
            return "the attempt has ended"
        if recorder is None:
            return "the machine cannot be restarted: this run has no journal, and could not go on after that"
        if recorder.failure is not None or of.stopping or of._planner.is_draining:
            return ENDING
        if self.departure is not None and event.attempt.id in self.departure.wanted:
            return "this task has asked for a restart already"
        if self.departure is not None and self.departure.is_told:
            return "the machine is being restarted already"
        may, times = of._world.reboots, recorder.before.reboots.get(path, 0)
        if times >= may.per_task:
            return f"the machine was restarted {times} times for this task, which is enough (max_reboots)"
        if self.departure is None and recorder.before.boots + self._count >= may.per_run:
            return f"the machine was restarted {recorder.before.boots} times in this run, which is enough (max_reboots)"
        return ""

    def step(self) -> None:
        """Do the next step on the way to a restart, if it can be done."""
        of, departure = self._of, self.departure
        if departure is None:
            return
        if not departure.wanted:
            self.departure = None
        elif not departure.is_told and (of.stopping or of._planner.is_draining or of._is_given_up):
            self.refuse()
        elif of._unsaid or of._unjudged or of._finishing:
            return
        elif departure.may_be_told(self._at_work()):
            if of._services and departure.ends_the_run:
                of._commands += of._services.leave(everybody=True)
                return
            events = departure.told()
            if events and of._recorder is not None:
                of._commands.append(partial(of._recorder.reboot, events, departure))
            else:
                of._commands.append(partial(of._post, Agreed(departure)))
        elif departure.may_leave(self._at_work(), stopping=of.stopping or of._planner.is_draining):
            self._leave(departure)
        if self.departure is None and not self.wish:
            of._commands.append(partial(of._post, WAKE))  # what was held back may start

    def _at_work(self) -> Mapping[int, Attempt]:
        """Return the attempts in flight but those at services that are up."""
        of = self._of
        return {id_: one for id_, one in of.flying.items() if not one.is_up} if of._services else of.flying

    def refuse(self) -> None:
        """Give up the way to a restart, since the run is ending: who asked for it ends, and is entered by the next run."""
        departure, self.departure = self.departure, None
        if departure is not None:
            self._let_go(departure, list(departure.wanted), "the run is ending")

    def fail(self) -> None:
        """Tell whoever waits for an answer that there will be no restart; that only leaves a note."""
        for event in self.departure.wanted.values() if self.departure else ():
            event.answer(ENDING)

    def withdraw(self, tasks: Iterable[Task]) -> None:
        """Forget what these tasks want of the machine: they are being cancelled."""
        departure, paths = self.departure, {task.path for task in tasks}
        if departure is not None and not departure.is_told:
            ids = [id_ for id_, event in departure.wanted.items() if event.attempt.task.path in paths]
            self._let_go(departure, ids, "cancelled")

    def _let_go(self, departure: Departure, ids: list[int], why: str) -> None:
        """Tell attempts that asked for a restart that nothing comes of it; those that have ended are cancelled."""
        of = self._of
        for id_ in ids:
            self.released.add(id_)
            of._commands += departure.withdraw(id_, ENDING)
            outcome = departure.kept.pop(id_, None)
            if outcome is not None:
                outcome.status, outcome.reason = Status.CANCELLED, why
                of._ended(outcome, outcome.attempt)

    def is_put_off(self, outcome: Outcome) -> bool:
        """Tell whether an attempt was stopped for a restart: its task is given back, to run again after it."""
        of, attempt, departure = self._of, outcome.attempt, self.departure
        is_ours = departure is not None and attempt.id not in departure.expired and attempt.id not in self.released
        if not is_ours or not attempt.cancelled or attempt.struck:
            return False
        if outcome.status is Status.CANCELLED and not outcome.started:
            of._give_back(attempt)
            return True
        if outcome.status not in BAD and outcome.status is not Status.CANCELLED:
            return False
        why = "stopped for a restart of the machine"
        ended = Ended(
            attempt.number, Status.CANCELLED, outcome.started + of._epoch, outcome.duration, None, why, outcome.output
        )
        if of._recorder is not None:
            of._commands.append(partial(of._recorder.ended, attempt.task.name, ended))
        of._tallies.pop(attempt.task.name, None)
        of._planner.requeue(attempt.task, free=outcome.freed)
        return True

    def note_overdue(self, event: Overdue) -> None:
        """Do what is due when some time is over."""
        of = self._of
        departure = event.departure
        if departure is not self.departure:
            return
        of._commands += departure.overdue(event, of.flying.values())
        outcome = departure.broken(event)
        if outcome is not None:
            of._ended(outcome, outcome.attempt)

    def _leave(self, departure: Departure) -> None:
        """End the run, so that the machine can be restarted."""
        of = self._of
        is_stopped = of.stopping or of._planner.is_draining
        self.wish = None if is_stopped and not departure.wish.by_task else departure.wish
        self.departure = None
        of.fallen += of._planner.drain("the machine is to be restarted", cleanups=False)
        for event in departure.wanted.values():
            task = event.attempt.task
            of.flying.pop(event.attempt.id, None)
            of._finish(task, Finish(success=False, status="waits for a restart of the machine", free=True))
            about = Details(reason="the machine is to be restarted for it")
            of._acknowledge([Result(task, Status.CANCELLED, details=about)])
        for attempt in list(
            of.flying.values()
        ):  # threads that do not listen, and services that go down with the machine
            del of.flying[attempt.id]
            of._finish(attempt.task, Finish(success=False, status="does not stop", free=False))
            still = (
                "was up when the machine went down" if attempt.is_up else "was asked to stop for that, and still runs"
            )
            about = Details(reason=f"the machine is to be restarted: it {still}")
            of._acknowledge([Result(attempt.task, Status.CANCELLED, details=about)])
        of._record_fallen()
