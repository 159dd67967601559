"""What a process has at one moment, and what it has left behind since."""

import gc
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

JOIN = 1.0
"""Seconds that the new threads of a test together may still take to return once it is over."""


class Belongings(NamedTuple):
    """What this process has at one moment, by kind; a leak adds to one of the sets."""

    children: set[int]
    threads: set[threading.Thread]
    descriptors: set[int]
    files: set[str]

    @classmethod
    def now(cls) -> "Belongings":
        """Look around."""
        return cls(children(), set(threading.enumerate()), set(descriptors()), files())


def children() -> set[int]:
    """Return the process ids of our children, those included that have ended and were not reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    return {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent_of(pid) == os.getpid()}


def parent_of(pid: str) -> int:
    """Return the parent of a process, 0 when the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # "pid (name) state parent ...", where the name may hold blanks and brackets.
    return int(stat.rpartition(b")")[2].split()[1])


def descriptors() -> dict[int, str]:
    """Return our open descriptors and what each is, without the one used for looking."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
    return found


def files() -> set[str]:
    """Return what pexen has in the temporary folder."""
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("pexen")}


def leaks_since(before: Belongings) -> dict[str, list[str]]:
    """Return what is here now and was not here before, by kind and in words."""
    fresh = set(threading.enumerate()) - before.threads
    for thread in fresh:
        thread.join(JOIN / len(fresh))
    now = Belongings.now()
    if now.descriptors - before.descriptors:
        gc.collect()  # a caught exception's traceback keeps its frames' files open until the cycle is collected
        now = Belongings.now()
    open_now = descriptors()
    found = {
        "children": [f"{pid} {command_of(pid)}" for pid in now.children - before.children],
        "threads": [repr(thread) for thread in now.threads - before.threads],
        "descriptors": [f"{number} -> {open_now.get(number)}" for number in now.descriptors - before.descriptors],
        "files": [f"{tempfile.gettempdir()}/{name}" for name in now.files - before.files],
    }
    return {kind: sorted(leaked) for kind, leaked in found.items() if leaked}


def command_of(pid: int) -> str:
    """Return what a child runs, for the message."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") or "(ended)"
    except OSError:
        return "(gone)"


def end(pids: set[int]) -> None:
    """Kill children that a test left; they are ours and not reaped, so the numbers cannot mean anybody else."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
