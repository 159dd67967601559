"""Process trees: what belongs to an attempt, and ending all of it.

**Who belongs to a family.** Nothing in Linux holds for every descendant of a process, unless a cgroup can be made. So
there are five signs, and a process that shows one of them belongs, with everything below it:

- it descends from the leader by living parents;
- it is in the leader's session or process group. The number is the leader's own as long as nobody has reaped it;
- `LINEAGE` in its environment names the attempt. That survives setsid and the death of parents;
- it descends from a subreaper (`pexen.pool.subreaper`) that serves this attempt alone, such as a worker process;
- it is an orphan, a child of one of our ancestors now, and its *timer slack* is the attempt's. The kernel hands that number
  of nanoseconds down at fork, through everything a daemon does, and nobody ever sets it; a few microseconds more than
  the usual 50 are no difference. To read it of another process takes CAP_SYS_NICE.

Who forks twice, makes a session, *and* clears its environment shows only the last one when its parents are dead. Where
that cannot be read it is nobody's: a *stray*, a child of the subreaper (the guardian). Strays die as soon as no attempt is
running, or none that was started before them.

**Nothing is signalled by its number.** A number means somebody else as soon as its owner has been reaped. `kill` opens a
pidfd, which from then on means one process for good, then compares the start time, and then signals through the pidfd.

**Ending.** Kill everything found, look again, until nobody is found: what was forked between look and kill is found by
the next one, and a process with a pending SIGKILL cannot fork. A look is no instant. Who forks after the numbers were
listed and ends before his turn comes leaves a child that this look misses (seen in one of three tries against a process
that does nothing else), so it takes `_QUIET` looks in a row. Against who goes on like that it remains a race, unless
there is a cgroup; therefore ending is bounded in time, and what is left is told. A leader that is its own subreaper is
stopped first and killed last, so that whatever is missed goes to it and not to somebody who cannot tell whose it was.

**Costs**, here: a look takes 24 µs for each process, and 14 µs more for each that shows no other sign, since its
environment is read. Numbers are given out in order, so what is younger than a leader has a number between his and the
newest: `recent` looks only there. `newest` takes 2 µs and tells whether there is anybody at all.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from time import monotonic
from typing import NamedTuple

LINEAGE = "PEXEN_LINEAGE"
"""The environment variable that says whose a process is: an attempt, behind those of the pexens around this one."""
PATIENCE = 2.0
"""Seconds that ending a family may take."""
_QUIET = 2
"""How many looks in a row have to find nobody alive and nobody new; see above."""
_WATCHED = 64
"""How many processes are waited for at a time: each takes a descriptor."""
LAST_BREATH = 0.05
"""Seconds for those to end by themselves who are still there when the process of a task has ended."""
_TOLD = 1000
"""How many killed processes are told by name; more are a fork bomb."""
_ENDED = frozenset("ZX")
"""States of processes that nothing can be done to: zombies and those just being removed."""


class Identity(NamedTuple):
    """One process for good, unlike its number. ``start`` is in clock ticks since boot.

    ``boot`` is empty within a run. What is written down to be read by another run has it, see `lasting`.
    """

    pid: int
    start: int
    boot: str = ""

    def lasting(self) -> Identity:
        """Return what means this process also after a reboot: nobody, then."""
        return self._replace(boot=boot())


class Process(NamedTuple):
    """A process as it was when it was looked at."""

    pid: int
    parent: int
    group: int
    session: int
    start: int
    state: str
    name: str

    @property
    def identity(self) -> Identity:
        """What to remember it by."""
        return Identity(self.pid, self.start)

    @property
    def is_alive(self) -> bool:
        """Whether it had not ended."""
        return self.state not in _ENDED


class Killed(NamedTuple):
    """A process that was killed, with its command line, as far as it could be read."""

    pid: int
    name: str
    words: str


class Toll(NamedTuple):
    """What `end` has killed, and what was still there when its time was up: stuck in the kernel, or forking faster."""

    killed: tuple[Killed, ...] = ()
    left: tuple[Process, ...] = ()

    def __str__(self) -> str:
        """Return ``2 processes (sleep, sh)``."""
        names = list(dict.fromkeys(one.name for one in self.killed))
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        count = len(self.killed)
        return f"{count} process{'es' * (count != 1)}" + (f" ({shown})" if names else "")


Processes = Mapping[int, Process]
Finder = Callable[[Processes], Iterable[Process]]
"""Picks, of all processes, those that are meant."""


# -- looking ---------------------------------------------------------------------------------------------------------


def snapshot() -> dict[int, Process]:
    """Return all processes that can be seen, by number. One pass: what starts meanwhile may be missing."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return {process.pid: process for process in found if process is not None}


def recent(pid: int) -> dict[int, Process]:
    """Return that process and all that were given a number since it was; as `snapshot`, and as incomplete."""
    span = (newest() - pid) % most()
    names = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    found = (look(number) for number in names if (number - pid) % most() <= span)
    return {process.pid: process for process in found if process is not None}


def newest(loadavg: int = -1) -> int:
    """Return the number that was given out last, to a process or thread that this one can see.

    ``loadavg`` is a descriptor of ``/proc/loadavg``, for who asks often: 2 µs instead of 7.
    """
    data = os.pread(loadavg, 128, 0) if loadavg >= 0 else _read("/proc/loadavg", 128)
    return int(data.rsplit(None, 1)[-1] if data else 0)


@cache
def most() -> int:
    """Return behind which number the counting starts again."""
    return int(_read("/proc/sys/kernel/pid_max", 32) or 1 << 22)


def ancestors() -> set[int]:
    """Return this process and its ancestors: who may be given its orphans."""
    line, pid = set(), os.getpid()
    while pid and pid not in line:
        line.add(pid)
        process = look(pid)
        pid = process.parent if process else 0
    return line


def slack(pid: int | str) -> int:
    """Return the timer slack of a process in nanoseconds; 0 when it is not to be known."""
    return int(_read(f"/proc/{pid}/timerslack_ns", 32) or 0)


def look(pid: int) -> Process | None:
    """Return the process that has this number now, or None."""
    data = _read(f"/proc/{pid}/stat", 1024)
    head, bracket, tail = data.rpartition(b")")
    if not bracket:
        return None
    name = head.partition(b"(")[2].decode(errors="backslashreplace")  # it may hold blanks, brackets, anything
    words = tail.split()
    return Process(pid, int(words[1]), int(words[2]), int(words[3]), int(words[19]), words[0].decode(), name)


def command_line(pid: int) -> str:
    """Return the words of its command line with blanks between them; empty for those that have none."""
    return _read(f"/proc/{pid}/cmdline", 4096).replace(b"\0", b" ").strip().decode(errors="backslashreplace")


def lineage(pid: int) -> str:
    """Return whose a process is, by its environment as it was at its exec; empty when it does not say or is not ours."""
    environment = b"\0" + _read(f"/proc/{pid}/environ", 1 << 20)
    found = environment.partition(f"\0{LINEAGE}=".encode())[2].partition(b"\0")[0]
    return found.decode(errors="replace")


def lineage_below(outer: str, run: str, attempt: object) -> str:
    """Return what to put into an attempt's environment; ``outer`` is what the runner itself has there."""
    own = f"{run}.{attempt}"
    return f"{outer}/{own}" if outer else own


@cache
def boot() -> str:
    """Return what tells this boot, of this machine or container, from others."""
    first = look(1)
    return f"{_read('/proc/sys/kernel/random/boot_id', 64).decode().strip()}.{first.start if first else ''}"


def is_alive(identity: Identity) -> bool:
    """Tell whether that very process is there and has not ended."""
    process = look(identity.pid)
    same_boot = not identity.boot or identity.boot == boot()
    return same_boot and process is not None and process.start == identity.start and process.is_alive


def has_orphans(reaper: int, keep: Collection[int]) -> bool:
    """Tell whether a single-threaded subreaper has other children than those to keep. Also True when nobody can say.

    Exact if what is kept are its oldest children, as the runner is of the guardian: the kernel may skip a child in this
    list only behind one that is reaped at that moment.
    """
    try:
        with open(f"/proc/{reaper}/task/{reaper}/children", "rb") as file:
            return any(int(pid) not in keep for pid in file.read().split())
    except OSError:
        return True


def _read(path: str, size: int) -> bytes:
    """Return at most ``size`` bytes of a file in /proc; nothing when the process has gone or is not to be read."""
    data = b""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return data
    try:
        while size > 0 and (piece := os.read(fd, size)):
            data += piece
            size -= len(piece)
    except OSError:
        pass
    finally:
        os.close(fd)
    return data


# -- finding ---------------------------------------------------------------------------------------------------------


class Family(NamedTuple):
    """What belongs to one leader; see the four signs above. What is not known is left out.

    ``session`` and ``group`` are to be given only while the process with that number has not been reaped. Nothing that
    started before the leader belongs, and never the process that asks, nor its ancestors.
    """

    leader: Identity | None = None
    session: int = 0
    group: int = 0
    lineage: str = ""
    slack: int = 0

    def members(self, processes: Processes) -> list[Process]:
        """Return who belongs, ended ones included; a `Finder`."""
        since = self.leader.start if self.leader else 0
        mine = _line(os.getpid(), processes)
        candidates = [one for one in processes.values() if one.start >= since and one.pid not in mine]
        children = _children(candidates)
        found: dict[int, Process] = {}
        _descend([one for one in candidates if self._shows_itself(one)], children, found)
        if self.lineage:
            _descend([one for one in candidates if one.pid not in found and self._is_named_by(one)], children, found)
        if self.slack and any(one.is_alive for one in candidates if one.pid not in found):
            orphans = ancestors()
            tagged = [
                o for o in candidates if o.pid not in found and o.parent in orphans and slack(o.pid) == self.slack
            ]
            _descend(tagged, children, found)
        return list(found.values())

    def _shows_itself(self, one: Process) -> bool:
        return (
            one.identity == self.leader
            or (bool(self.session) and one.session == self.session)
            or (bool(self.group) and one.group == self.group)
        )

    def _is_named_by(self, one: Process) -> bool:
        said = lineage(one.pid) if one.is_alive else ""
        return said == self.lineage or said.startswith(self.lineage + "/")


def below(root: int, keep: Collection[int] = (), *, before: float = float("inf")) -> Finder:
    """Return what finds everything below a process, but for children to keep and for what is below those.

    With ``before``, only children that started before that: those that can belong to no attempt started later.
    """

    def find(processes: Processes) -> list[Process]:
        children = _children(processes.values())
        found: dict[int, Process] = {}
        _descend((c for c in children.get(root, ()) if c.pid not in keep and c.start < before), children, found)
        return list(found.values())

    return find


def drawn(members: Iterable[Process]) -> list[str]:
    """Return a line for each process, indented below its parent: number, state, command line."""
    listed = sorted(members, key=lambda one: (one.start, one.pid))
    pids, children = {one.pid for one in listed}, _children(listed)
    lines, stack = [], [(one, 0) for one in reversed(listed) if one.parent not in pids]
    while stack:
        one, depth = stack.pop()
        lines.append(f"{'  ' * depth}{one.pid} {one.state} {command_line(one.pid) or f'[{one.name}]'}")
        stack += [(child, depth + 1) for child in reversed(children.get(one.pid, ()))]
    return lines


def _children(processes: Iterable[Process]) -> dict[int, list[Process]]:
    children: dict[int, list[Process]] = {}
    for one in processes:
        children.setdefault(one.parent, []).append(one)
    return children


def _descend(roots: Iterable[Process], children: Mapping[int, list[Process]], found: dict[int, Process]) -> None:
    """Add the roots and everything below them."""
    stack = list(roots)
    while stack:
        one = stack.pop()
        if one.pid not in found:
            found[one.pid] = one
            stack += children.get(one.pid, ())


def _line(pid: int, processes: Processes) -> set[int]:
    """Return a process and its ancestors."""
    line: set[int] = set()
    while pid in processes and pid not in line:
        line.add(pid)
        pid = processes[pid].parent
    return line


# -- ending ----------------------------------------------------------------------------------------------------------


def kill(identity: Identity, number: int = signal.SIGKILL) -> bool:
    """Send a signal to that very process; return whether it was there to be sent one."""
    with ExitStack() as closing:
        pidfd = _opened(identity, closing)
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
        except (ProcessLookupError, PermissionError):
            return False
    return True


def end(
    find: Finder, *, last: Identity | None = None, seconds: float = PATIENCE, see: Callable[[], Processes] | None = None
) -> Toll:
    """Kill what ``find`` finds until it finds nobody alive, for at most ``seconds``; return who that was.

    ``see`` returns among whom it is looked for, see `recent`; by default among all.

    ``last`` is a leader that is given the orphans below it: it is stopped at once, and killed when it is alone. Whoever is
    the parent of what is killed reaps it, see `reap`. Raises `OSError` when there is no descriptor to look with.
    """
    return _Ending(find, last, monotonic() + seconds, see).run()


def reap(killed: Iterable[Killed]) -> None:
    """Reap those that are children of this process by now, which it has to do if it is the subreaper.

    Not for children that somebody here has started and will wait for.
    """
    for one in killed:
        with suppress(ChildProcessError):
            os.waitpid(one.pid, os.WNOHANG)


class _Ending:
    """One call of `end`."""

    def __init__(
        self, find: Finder, last: Identity | None, deadline: float, see: Callable[[], Processes] | None
    ) -> None:
        self._find = find
        self._see = see
        self._last = last
        self._deadline = deadline
        self._killed: dict[Identity, Killed] = {}
        self._refused: dict[Identity, Process] = {}
        self._seen: set[Identity | None] = set()

    def run(self) -> Toll:
        if self._last:
            kill(self._last, signal.SIGSTOP)
        quiet = 0
        while True:
            alive, is_new = self._look()
            others = [one for one in alive if one.identity != self._last]
            quiet = 0 if others or is_new else quiet + 1
            is_alone = quiet >= _QUIET or not (self._seen or self._last)
            if (is_alone and not alive) or monotonic() >= self._deadline:
                for one in alive:
                    self._kill(one)
                return Toll(tuple(self._killed.values()), (*alive, *self._refused.values()))
            dying = others or (alive if is_alone else [])
            fresh = [one for one in dying if one.identity not in self._killed]
            for one in fresh:
                self._kill(one)
            if dying and not fresh:  # a look that finds somebody is followed by the next one at once: they may fork
                _wait(dying, self._deadline)

    def _look(self) -> tuple[list[Process], bool]:
        """Return who is alive, and whether anybody, dead or alive, was found that had not been seen before.

        Parents come before their children: one who is left for a moment sees a child die, and goes on.
        """
        found = [
            one for one in self._find(self._see() if self._see else snapshot()) if one.identity not in self._refused
        ]
        unseen = {one.identity for one in found} - self._seen - {self._last}
        self._seen |= unseen
        return sorted((one for one in found if one.is_alive), key=lambda one: (one.start, one.pid)), bool(unseen)

    def _kill(self, one: Process) -> None:
        words = command_line(one.pid) if len(self._killed) < _TOLD else ""
        if kill(one.identity):
            self._killed.setdefault(one.identity, Killed(one.pid, one.name, words))
        elif is_alive(one.identity):  # somebody else's, by setuid
            self._refused[one.identity] = one


def are_left(find: Finder, see: Callable[[], Processes], seconds: float = LAST_BREATH) -> bool:
    """Tell whether somebody ``find`` finds is alive and does not end by himself within ``seconds``.

    The others of a pipe, say, are about to end when a shell has done so: they were not left behind.
    """
    deadline = monotonic() + seconds
    while alive := [one for one in find(see()) if one.is_alive]:
        if monotonic() >= deadline:
            return True
        _wait(alive, deadline)
    return False


def _wait(dying: list[Process], deadline: float) -> None:
    """Wait until one of them has ended."""
    poll = select.poll()
    with ExitStack() as closing:
        for one in dying[:_WATCHED]:
            pidfd = _opened(one.identity, closing)
            if pidfd is None:
                return
            poll.register(pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - monotonic()) * 1000)


def _opened(identity: Identity, closing: ExitStack) -> int | None:
    """Return a pidfd of that very process, or None when it has gone."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError:
        return None
    closing.callback(os.close, pidfd)
    # Only now: whatever had the number before, the pidfd means the one that has this start time.
    process = look(identity.pid)
    return pidfd if process is not None and process.start == identity.start else None
