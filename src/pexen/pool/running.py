"""One attempt of a `CommandPool` that has been started, and what the end of a process means."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from pexen.model.command import Command
from pexen.model.result import Status
from pexen.pool import tree
from pexen.pool.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.attempt import Attempt
    from pexen.pool.channel import Ear
    from pexen.pool.daemon import Service
    from pexen.pool.spool import Sink
    from pexen.pool.tap import Tap

SKIP = 77
"""The exit status by which an executable says that it cannot be run here, as in automake."""


class Running:
    """One started attempt.

    ``slot`` is the worker that it takes, -1 for none any more, ``door`` at which socket it is heard. ``asked`` is the last
    signal sent on request, ``has_forked`` whether it may have children, ``toll`` who was killed by force. ``service`` is there
    for one, see `pexen.pool.daemon`.
    """

    __slots__ = ("asked", "attempt", "channel", "door", "ears", "has_forked", "lineage", "pid", "pidfd", "service", "sink",
                 "slack", "slot", "tap", "tapped", "toll")  # fmt: skip

    def __init__(
        self,
        attempt: Attempt,
        slot: int,
        door: int,
        lineage: str,
        slack: int,
        defer: Callable[[Callable[[], None]], None],
    ) -> None:
        self.attempt = attempt
        self.slot = slot
        self.door = door
        self.lineage = lineage
        self.slack = slack
        self.pid = self.pidfd = -1
        self.sink: Sink | None = None
        self.asked = 0
        self.has_forked = False
        self.ears: list[Ear] = []
        command = attempt.task.callable
        self.channel = Channel(attempt, command.cwd if isinstance(command, Command) else None, defer)
        self.tap = _tap() if attempt.task.tap else None
        self.tapped = 0
        self.toll: tuple[tree.Killed, ...] = ()
        self.service: Service | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that were started for it and have not been reaped; each leads a group and a session."""
        cleaner = self.service and self.service.cleaner
        return (self.pid, cleaner.pid) if cleaner else (self.pid,)

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group, to that of its tear-down as well."""
        for pid in self.pids:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)

    def signal_to_stop(self) -> None:
        """Send the signal that means stop; one that is stopped would not see it without SIGCONT."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def ask(self, *, force: bool) -> None:
        """Stop it, or with ``force`` end it, on request."""
        self.asked = signal.SIGKILL if force else signal.SIGTERM
        if force:
            self.signal(signal.SIGKILL)
        else:
            self.signal_to_stop()

    def family(self, processes: tree.Processes) -> list[tree.Process]:
        """Return who belongs to it; for as long as it has not been reaped."""
        found: dict[int, tree.Process] = {}
        for pid in self.pids:
            leader = processes.get(pid)
            if leader is not None:
                family = tree.Family(leader.identity, pid, pid, self.lineage, self.slack)
                found.update((one.pid, one) for one in family.members(processes))
        return list(found.values())

    def group(self, processes: tree.Processes) -> list[tree.Process]:
        """Return those of its family who are sent what it is sent."""
        return [one for one in self.family(processes) if one.group in self.pids]


def _tap() -> Tap:
    from pexen.pool.tap import Tap  # few tasks want it

    return Tap()


def verdict(end: os.waitid_result, asked: int) -> tuple[Status, str]:
    """Return status and reason for an end: exit status 0 counts, what came after a request is the request's."""
    exited, number = end.si_code == os.CLD_EXITED, end.si_status
    if exited and number == 0:
        return Status.PASSED, ""
    said = told(end)
    if asked:
        how = on_request(asked)
        return Status.CANCELLED, how if not exited and number == asked else f"{how} ({said})"
    if exited:
        return (Status.SKIPPED if number == SKIP else Status.FAILED), said
    return Status.CRASHED, said


def on_request(asked: int) -> str:
    """Return how something was ended that has been sent this signal."""
    return "killed on request" if asked == signal.SIGKILL else "terminated on request"


def told(end: os.waitid_result) -> str:
    """Return how a process has ended, in words."""
    number = end.si_status
    return f"exit code {number}" if end.si_code == os.CLD_EXITED else f"killed by signal {number} ({_name(number)})"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
