"""Journals made by hand, and steps that fail or stop where a test wants it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pexen.model.attempt import Attempt
from pexen.model.call import PLAIN
from pexen.model.task import Task
from pexen.state import codec, records
from pexen.state.appender import FILE
from pexen.state.disk import Steps
from pexen.state.lines import sealed


def run(run_id: str = "run-1", **rest: Any) -> dict[str, Any]:
    """Return the first record of a journal."""
    rest = {"at": 1.0, "version": "0.1", "durability": "full", "runner": (1, 2, "boot"), **rest}
    return records.run(run_id, **rest)


def attempt(path: str = "a", number: int = 1, id: int = 1) -> Attempt:  # noqa: A002 - the attempt's
    """Return an attempt at a task that does nothing."""
    return Attempt(Task(print, path), id, PLAIN, print, number=number)


def lines(*contents: dict[str, Any]) -> list[bytes]:
    """Return the lines of a journal with these records, newlines included."""
    crc, made = 0, []
    for seq, record in enumerate(contents, 1):
        line, crc = sealed(codec.with_json().encode(record), seq, crc)
        made.append(line)
    return made


def written(folder: Path, *contents: dict[str, Any]) -> Path:
    """Write a journal with these records; return the file."""
    file = folder / FILE
    file.write_bytes(b"".join(lines(*contents)))
    return file


class Watched(Steps):
    """Notes every step by name, and does ``before[name]`` or ``after[name]``, given the step's arguments."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.before: dict[str, Callable[..., Any]] = {}
        self.after: dict[str, Callable[..., Any]] = {}

    def _take(self, name: str, *arguments: Any) -> Any:
        self.taken.append(name)
        if name in self.before:
            self.before[name](*arguments)
        result = getattr(Steps, name)(self, *arguments)
        if name in self.after:
            self.after[name](*arguments)
        return result

    def write(self, fd, data):
        return self._take("write", fd, data)

    def fdatasync(self, fd):
        self._take("fdatasync", fd)

    def fsync(self, fd):
        self._take("fsync", fd)

    def ftruncate(self, fd, size):
        self._take("ftruncate", fd, size)

    def replace(self, source, target):
        self._take("replace", source, target)


class Deadly(Steps):
    """Kills its own process with -9 at step ``last``: before it, or, of a write, when part of it is done."""

    def __init__(self, last: int, part: float) -> None:
        self.left = last
        self.part = part

    def _step(self) -> bool:
        self.left -= 1
        return self.left < 0

    def write(self, fd, data):
        if self._step():
            os.write(fd, bytes(data)[: int(len(data) * self.part)])
            die()
        return os.write(fd, data)

    def fdatasync(self, fd):
        self.die_or_go_on()
        os.fdatasync(fd)

    def fsync(self, fd):
        self.die_or_go_on()
        os.fsync(fd)

    def ftruncate(self, fd, size):
        self.die_or_go_on()
        os.ftruncate(fd, size)

    def replace(self, source, target):
        self.die_or_go_on()
        os.replace(source, target)

    def die_or_go_on(self) -> None:
        if self._step():
            die()


def die() -> None:
    """End this process without another step."""
    os.kill(os.getpid(), signal.SIGKILL)
