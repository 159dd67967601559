"""A machine that can be booted, for runs whose tasks want that: the boot id is a file, and it is this very process going on."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import pexen
from pexen import Sched, Task
from pexen.sched.reboot import Reboots
from pexen.state import journal
from pexen.state.disk import Steps

PATIENCE = 30.0
ALLOWED = Reboots(allowed=True)
SOON = Reboots(allowed=True, drain=0.01)
"""Others are asked to end at once."""
POOLS = ["thread", "process"]
SAY = """echo '{"reboot": true}' >&"$PEXEN_CONTROL" """
"""What a script says that wants the machine restarted."""
ASKED = (
    """echo '{"id": 1, "report": "asked"}' >&"$PEXEN_CONTROL"; read -r answer <&"$PEXEN_CONTROL"; echo > "$1/asked" """
)
"""Tell who reads that pipe that what was said before has been heard: it is answered in turn."""


class Machine:
    """A machine that can be booted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = folder / "boot_id"
        self._numbers = count(1)
        self.folder = folder
        self.journal = folder / "run"
        self.journal.mkdir()
        monkeypatch.setenv("PEXEN_BOOT_ID_FILE", str(self._file))
        self.boot()

    def boot(self) -> None:
        """Have the machine restarted."""
        self._file.write_text(f"boot-{next(self._numbers)}\n")

    def sched(self, tasks: Any, **options: Any) -> Sched:
        """Return what takes up the run with these tasks."""
        return Sched(tasks, journal=self.journal, **{"reboots": ALLOWED, **options})

    def live(self, tasks: Callable[[], Any], **options: Any) -> Sched:
        """Run the tasks, with a restart of the machine whenever they want one; return the last run."""
        for _ in range(8):
            sched = self.sched(tasks(), **options)
            sched.start().wait(PATIENCE)
            self.boot()
            if sched.wish is None:
                return sched
        raise AssertionError("it wants the machine restarted for ever")

    def script(self, text: str, path: str = "script", **meta: Any) -> Task:
        """Return a task that is an executable; what it is given is the folder of the machine."""
        file = self.folder / f"{path}.sh"
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return pexen.command([str(file), str(self.folder)], path=path, **meta)

    def pipe(self, name: str) -> Path:
        """Return a named pipe: who opens it waits for another one that does."""
        path = self.folder / name
        os.mkfifo(path)
        return path


class Other:
    """A task that others are let finish: it tells when it is asked to end, and ends when it may."""

    def __init__(self) -> None:
        self.asked, self.may_end = Event(), Event()

    def task(self) -> Task:
        """Return the task, which starts before others."""
        return Task(self._stay, "other", priority=-1)

    def _stay(self) -> None:
        while not (pexen.current().cancelled or self.may_end.is_set()):
            Event().wait(0.01)
        self.asked.set()
        assert self.may_end.wait(PATIENCE)


def pool(kind: str, workers: int = 2) -> Any:
    """Return a pool of the kind."""
    return pexen.ThreadPool(workers) if kind == "thread" else pexen.ProcessPool(workers)


def story(results: Any) -> dict[str, str]:
    """Return the status of each task."""
    return {path: str(one.status) for path, one in results.items()}


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so of which nobody tells."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        Event().wait(0.01)


def in_flight(sched: Sched) -> list[str]:
    """Return the paths of the tasks in flight."""
    return [one.path for one in sched.snapshot().in_flight]


def fill_disk(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[], bool]) -> None:
    """Have journals made from now on written to a disk that may be full."""

    class Full(Steps):
        def fdatasync(self, fd: int) -> None:
            _check()
            super().fdatasync(fd)

        def write(self, fd: int, data: Any) -> int:
            _check()
            return super().write(fd, data)

    def _check() -> None:
        if is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made = journal.Appender
    monkeypatch.setattr(journal, "Appender", lambda folder, **options: made(folder, **{**options, "steps": Full()}))
