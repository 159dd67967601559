"""Services that are executables: when they are up, how they are taken down, and what it means that they have ended.

There are three kinds. One that *goes on running* (``service = true``) is up when its readiness check holds or it says so. A
*set-up* (``teardown`` alone) is up when its process has exited with status 0. The third goes on running and has a
``teardown`` as well.

=========  ===================================================  ====================================================
step       what is waited for                                   then
=========  ===================================================  ====================================================
STARTING   readiness, or the end of the set-up                  UP, and its worker is free
UP         `Services.tear_down`                                 CLEANING with a ``teardown``, else STOPPING
CLEANING   the end of the ``teardown``                          LEAVING; without any patience when that has failed
LEAVING    its process goes by itself, within ``grace``; of a   over; if its process is still there, STOPPING
           set-up, all that it has started
STOPPING   its group goes after SIGTERM, within ``grace``       over; if anybody is still there he is killed first
=========  ===================================================  ====================================================

**The process stays a zombie** from its exit until all is over: its number must not be anybody else's, because it is by its
group and session, among others, that what a set-up has started is known (`pexen.pool.tree`). Nothing of it is ended before.

Everything here happens in the thread of the pool, which is in the way of nobody: what takes time is looked at again later,
after 20 ms at first and after half a second in the end.
"""

from __future__ import annotations

import os
from enum import Enum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pexen.model.result import Status
from pexen.pool.running import on_request, told, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pexen.model.command import Command
    from pexen.pool.readiness import Check
    from pexen.pool.running import Running

SOON, LATER = 0.02, 0.5
"""Seconds between two looks, at first and in the end."""
_SLOWER = 1.5
KILLED = "it did not stop when asked and was killed"


class Step(Enum):
    """How far a service is; see the table above."""

    STARTING = "starting"
    UP = "up"
    CLEANING = "cleaning"
    LEAVING = "leaving"
    STOPPING = "stopping"


class Cleaner(NamedTuple):
    """The process of a ``teardown``, from its start until all is over."""

    pid: int
    pidfd: int


class Service:
    """What there is to know of a running attempt that is one.

    ``command`` is what was started, ``told`` the variables that its processes are given. ``end`` is there when its own process
    has exited, ``has_cleaned`` when that of its ``teardown`` has. ``due`` is when to look at it again, ``deadline`` when
    patience ends; monotonic seconds.
    """

    __slots__ = (
        "check", "cleaner", "command", "deadline", "due", "end", "has_cleaned", "pause", "step", "told", "trouble",
    )  # fmt: skip

    def __init__(self, command: Command, told: Mapping[str, str]) -> None:
        self.command = command
        self.told = told
        self.step = Step.STARTING
        self.check: Check | None = None
        self.cleaner: Cleaner | None = None
        self.end: os.waitid_result | None = None
        self.has_cleaned = False
        self.trouble = ""
        self.due = self.deadline = inf
        self.pause = SOON


class Hands(Protocol):
    """What the pool does for its services."""

    def bring_up(self, running: Running) -> None:
        """Give its worker back, and tell the run that it is up."""

    def start_cleaner(self, running: Running, service: Service) -> Cleaner | None:
        """Start its ``teardown``; None: that has to wait. Raises `OSError` and `ValueError` for what cannot be started."""

    def why_not(self, service: Service, error: OSError | ValueError) -> str:
        """Return why its ``teardown`` cannot be started."""

    def is_alone(self, running: Running, *, in_group: bool) -> bool:
        """Tell whether nobody of the family of an ended process, or of its group, is alive."""

    def kill(self, running: Running) -> None:
        """Kill it, and note who that was."""

    def conclude(self, running: Running, status: Status, reason: str) -> None:
        """End all that belongs to an attempt whose processes have exited, and tell the run; `Services.forget` follows."""


class Services:
    """Leads every service of a pool from one step to the next. To be used from one thread."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._timed: dict[int, tuple[Running, Service]] = {}

    # -- up ------------------------------------------------------------------------------------------------------------

    def begin(self, running: Running, service: Service, check: Check | None) -> None:
        """Lead one whose process has just been started; ``check`` is what to ask, if anything."""
        task = running.attempt.task
        service.check = check
        if task.service and not task.ready:
            self._bring_up(running, service)
        elif check is not None:
            self._look_soon(running, service)

    def heard(self, running: Running, service: Service) -> None:
        """Go on with one that has said something."""
        if running.channel.is_ready and service.step is Step.STARTING and not running.asked and service.end is None:
            self._bring_up(running, service)

    def _bring_up(self, running: Running, service: Service) -> None:
        self.forget(running, service)
        service.step = Step.UP
        self._hands.bring_up(running)

    # -- down ----------------------------------------------------------------------------------------------------------

    def tear_down(self, running: Running, service: Service) -> None:
        """Take down one that is up."""
        if service.step is not Step.UP or running.asked:
            return
        if running.attempt.task.teardown:
            self._clean(running, service)
        else:
            self._send_away(running, service)

    def _clean(self, running: Running, service: Service) -> None:
        service.step = Step.CLEANING
        try:
            service.cleaner = self._hands.start_cleaner(running, service)
        except (OSError, ValueError) as error:
            self._note_cleaned(running, service, self._hands.why_not(service, error))
        else:
            self._look_at(running, service, inf if service.cleaner else monotonic() + LATER)

    def _send_away(self, running: Running, service: Service) -> None:
        service.step = Step.STOPPING
        running.signal_to_stop()
        service.deadline = monotonic() + running.attempt.task.grace
        self._go_on(running, service)

    def _note_cleaned(self, running: Running, service: Service, trouble: str) -> None:
        service.trouble = trouble and f"teardown: {trouble}"
        service.step = Step.LEAVING
        service.deadline = monotonic() + (0.0 if trouble else running.attempt.task.grace)
        self._go_on(running, service)

    def _go_on(self, running: Running, service: Service) -> None:
        """Look whether one that is to go away has gone, or has had its time."""
        is_asked, has_ended = service.step is Step.STOPPING, service.end is not None
        now = monotonic()
        if has_ended and (self._is_all(running, service) or self._hands.is_alone(running, in_group=is_asked)):
            self._end(running, service)
        elif now < service.deadline:
            if has_ended:  # nobody tells when the others do
                self._look_soon(running, service)
            else:
                self._look_at(running, service, service.deadline)
        elif not is_asked and not has_ended:
            self._send_away(running, service)
        else:
            if is_asked:
                service.trouble = service.trouble or KILLED
                self._hands.kill(running)
            self._look_at(running, service, inf)
            if has_ended:
                self._end(running, service)

    def _is_all(self, running: Running, service: Service) -> bool:
        """Tell whether its own process was all there is to wait for; a set-up's has ended long ago."""
        return service.step is Step.LEAVING and running.attempt.task.service

    def _end(self, running: Running, service: Service) -> None:
        self._hands.conclude(running, Status.FAILED if service.trouble else Status.PASSED, service.trouble)

    # -- what happens to it --------------------------------------------------------------------------------------------

    def note_end(self, running: Running, service: Service, end: os.waitid_result) -> None:
        """Go on with one whose process has exited; it is a zombie until it is concluded."""
        service.end = end
        if running.asked:
            self.note_request(running, service)
        elif service.step in {Step.LEAVING, Step.STOPPING}:
            self._go_on(running, service)
        elif service.step is Step.UP:
            self._hands.conclude(running, *_early(end, "ended by itself while it was needed"))
        elif service.step is Step.STARTING and running.attempt.task.service:
            self._hands.conclude(running, *_early(end, "ended before it was ready"))
        elif service.step is Step.STARTING:
            status, reason = verdict(end, 0)
            if status is Status.PASSED:
                self._bring_up(running, service)
            else:
                self._hands.conclude(running, status, reason)

    def note_end_of_cleaner(self, running: Running, service: Service, end: os.waitid_result | None) -> None:
        """Go on with one whose ``teardown`` has exited; None: somebody else has taken its exit status."""
        service.has_cleaned = True
        if running.asked:
            self.note_request(running, service)
        elif end is None:
            self._note_cleaned(running, service, "its exit status was taken by other code in this process")
        else:
            is_well = end.si_code == os.CLD_EXITED and end.si_status == 0
            self._note_cleaned(running, service, "" if is_well else told(end).replace("exit code", "exit status"))

    def note_request(self, running: Running, service: Service) -> None:
        """Go on with one that was asked to stop, or ended, on request."""
        self._look_at(running, service, inf)
        is_cleaning = service.cleaner is not None and not service.has_cleaned
        if service.end is not None and not is_cleaning:
            how = on_request(running.asked)
            self._hands.conclude(
                running, Status.CANCELLED, f"teardown: {how}" if service.step is Step.CLEANING else how
            )

    # -- later ---------------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When to `look` again, in monotonic seconds."""
        return min((service.due for _, service in self._timed.values()), default=inf)

    def look(self) -> None:
        """Look at those whose time has come."""
        now = monotonic()
        for running, service in list(self._timed.values()):
            if service.due > now:
                continue
            if service.step is Step.CLEANING:
                self._clean(running, service)
            elif service.step is not Step.STARTING:
                self._go_on(running, service)
            elif service.check is None or not service.check.holds():
                self._look_soon(running, service)
            else:
                self._bring_up(running, service)

    def _look_soon(self, running: Running, service: Service) -> None:
        self._look_at(running, service, min(service.deadline, monotonic() + service.pause))
        service.pause = min(LATER, service.pause * _SLOWER)

    def _look_at(self, running: Running, service: Service, due: float) -> None:
        service.due = due
        if due == inf:
            self._timed.pop(running.attempt.id, None)
        else:
            self._timed[running.attempt.id] = running, service

    def forget(self, running: Running, service: Service) -> None:
        """Let go of what was kept for the next look."""
        self._look_at(running, service, inf)
        service.pause = SOON
        if service.check is not None:
            service.check.close()
            service.check = None


def _early(end: os.waitid_result, what: str) -> tuple[Status, str]:
    """Return status and reason for the end of a process that should have gone on."""
    status = Status.FAILED if end.si_code == os.CLD_EXITED else Status.CRASHED
    return status, f"it {what} ({told(end)})"
