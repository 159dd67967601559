"""A cgroup of our own: where one can be made, the exact answer to what belongs together.

A process cannot leave its cgroup without write access to another one, whatever it does to its parents, session and
environment, and what it forks is born inside. ``cgroup.kill`` (Linux 5.14) ends all of it at once and without a race, fork
bombs included. Only version 2 has that.

It takes a folder of the unified hierarchy in which we may write: for root usually, otherwise where systemd has delegated
one (``systemd-run --user --scope -p Delegate=yes pexen run``), in containers seldom. It is made below the cgroup that
this process is in, so whatever limits apply to us apply to what is put there. No controller is asked for.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from time import monotonic, sleep

_NUMBERS = count()
_OURS = re.compile(r"pexen-(\d+)-")
_OCTAL = re.compile(r"\\([0-7]{3})")
_PAUSES = (0.0, 0.001, 0.002, 0.005)


class Cgroup:
    """A folder of the unified hierarchy, made by us and with nothing in it but what we have put there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, name: str = "") -> Cgroup | None:
        """Return a new and empty one below our own, or None where that cannot be."""
        home = own_folder()
        if home is None:
            return None
        _remove_stale(home)
        path = home / f"pexen-{os.getpid()}-{next(_NUMBERS)}{name and '-'}{name}"
        try:
            path.mkdir()
        except OSError:
            return None
        if os.access(path / "cgroup.kill", os.W_OK) and os.access(home / "cgroup.procs", os.W_OK):
            return cls(path)
        path.rmdir()
        return None

    def add(self, pid: int) -> bool:
        """Put a process in, with all its threads; what it has forked before stays outside. Return whether it is in."""
        try:
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def members(self) -> list[int]:
        """Return the processes that are in it, ended ones that were not reaped excluded."""
        try:
            return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in it or below it."""
        try:
            return "populated 0" in (self.path / "cgroup.events").read_text()
        except OSError:
            return True

    def kill(self) -> None:
        """Kill everything that is in it or below it, also what is just being forked."""
        with suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def remove(self, seconds: float = 2.0) -> bool:
        """Kill what is left, wait until it has gone, remove the folder; return whether all that has happened."""
        self.kill()
        deadline, pauses = monotonic() + seconds, iter(_PAUSES)
        while not self._is_removed():
            if monotonic() >= deadline:
                return False
            sleep(next(pauses, _PAUSES[-1]))  # a folder is busy for a moment longer than its last process lives
        return True

    def _is_removed(self) -> bool:
        # Those inside may have made folders of their own. Deepest first.
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        return not self.path.exists()


@cache
def _remove_stale(home: Path) -> None:
    """Remove what runs have left there that were killed; once in a process."""
    for name in os.listdir(home):
        match = _OURS.match(name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            with suppress(OSError):  # somebody is in it: then it is not ours to touch
                os.rmdir(home / name)


def own_folder() -> Path | None:
    """Return the folder of the unified hierarchy that stands for the cgroup this process is in, if it can be seen."""
    try:
        own = next(line[3:].rstrip("\n") for line in _lines("/proc/self/cgroup") if line.startswith("0::"))
        root, at = next(mount for mount in map(_mount, _lines("/proc/self/mountinfo")) if mount)
    except (OSError, StopIteration):
        return None
    inside = os.path.relpath(own, root)
    path = Path(os.path.normpath(os.path.join(at, inside)))
    return path if not inside.startswith("..") and (path / "cgroup.procs").exists() else None


def _lines(file: str) -> list[str]:
    with open(file, errors="surrogateescape") as lines:
        return list(lines)


def _mount(line: str) -> tuple[str, str] | None:
    """Return which part of the hierarchy is mounted where, for a line of mountinfo that mounts version 2."""
    before, _, after = line.partition(" - ")
    if not after.startswith("cgroup2 "):
        return None
    root, at = (_OCTAL.sub(lambda match: chr(int(match[1], 8)), word) for word in before.split()[3:5])
    return root, at
