"""Ready-made checks around an attempt: what it has done to the machine without saying so.

Each is a generator function for ``around``: what stands before its ``yield`` runs before the attempt, what stands after it
when the attempt has ended, however it did. They look, report, and change nothing. `CHECKS` has them by name.

**What they claim is "meanwhile", not "because".** The kernel's log, its core files, the processes of the machine and a
folder are shared: what something else did during the attempt is reported as well, also by a neighbour's check. Whoever
wants to be certain runs the task alone.

**A check that cannot look says so**, with a ``skip`` report, which changes no verdict. Each attempt says it anew: what a
result shows must not depend on which task came first. What vanishes while being looked at was not left behind.

**Names are hostile.** Files and processes are called whatever a task likes, so in messages and data there is one line for
each, with everything unprintable made visible; only ``files`` has paths as the system knows them.

Costs, here: the kernel log 10 µs; the processes two looks at all there are, 3.5 ms with 150 of them; the files two walks,
3 µs an entry; the core files two listings of one folder, 90 µs.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from glob import escape
from itertools import islice
from resource import RLIMIT_CORE, getrlimit
from time import CLOCK_BOOTTIME, clock_gettime, monotonic
from typing import Any, NamedTuple, Protocol, TypeVar

from pexen.errors import PexenError
from pexen.model.meta import EMPTY
from pexen.pool import tree
from pexen.pool.tree import Process

KMSG = "/dev/kmsg"
SETTINGS = "/proc/sys/kernel"
"""Where ``core_pattern`` and ``core_uses_pid`` are."""
SYSTEMD_CORES = "/var/lib/systemd/coredump"
APPORT_CRASHES = "/var/crash"
IGNORED = frozenset({".pexen", ".git", "__pycache__"})
"""Names in the work folder that come and go by themselves."""
ENTRIES = 10_000
"""Files and folders that are looked at in a work folder."""
ATTACHED = 64 << 20
"""Bytes of a core file that is small enough to be kept."""

_SHOWN = 20
"""Lines of a message, and core files reported one by one."""
_KEPT = 1000
"""Items in the data of a report."""
_LONGEST = 300
"""Characters of a line."""
_RECORD = 1 << 16
"""More than the kernel's longest record; what does not fit is an error."""
_RECORDS = 100_000
"""Records read: more than any ring holds, so that a kernel that logs faster than we read does not hold us."""
_ERR = 3
_TELLING = re.compile(
    r"\b[Oo]ops\b|\bBUG\b|\bWARNING\b|Call Trace|\bsegfault\b|oom-kill|[Oo]ut of memory|general protection"
    r"|\bhung[ _]task|blocked for more than \d+ seconds"
)
_LOST = "some lines were overwritten before they could be read"

Around = Generator[None, str, None]
T = TypeVar("T")


class Watched(Protocol):
    """What a check sees of the attempt it stands around.

    ``path`` of the task; ``folder`` it works in; ``started``, monotonic seconds when the attempt itself began, 0.0 if it never
    did: to be asked for only after the ``yield``.
    """

    @property
    def path(self) -> str:
        """The task's."""

    @property
    def folder(self) -> str:
        """Where it works."""

    @property
    def started(self) -> float:
        """When it began."""

    def report(
        self, name: str, status: str = "pass", message: str = "", *, data: Mapping[str, Any] = EMPTY,
        files: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Give a report in the task's name."""

    def attach(self, file: str, name: str = "") -> str:
        """Keep a copy of a file; return where."""


# -- the kernel's log ------------------------------------------------------------------------------------------------


def kernel_log(watched: Watched) -> Around:
    """Warn of what the kernel has logged: errors and worse, and what tells of a crash whatever its level.

    ``data["lines"]`` are those lines, ``data["log"]`` everything from the first of them on, such as the stack below an oops.
    Needs to read /dev/kmsg: CAP_SYSLOG, unless ``kernel.dmesg_restrict`` is off.
    """
    log = _tried(_opened)
    if isinstance(log, OSError):
        yield
        _cannot(watched, "kernel log", log)
        return
    try:
        yield
        heard = _heard(lambda: os.read(log, _RECORD))
    finally:
        os.close(log)
    if heard.total:
        message = _listed(heard.lines, heard.total, [_LOST] * heard.is_torn)
        watched.report("kernel log", "warn", message, data={"lines": heard.lines, "log": heard.log})
    elif heard.is_torn:
        watched.report("kernel log", "skip", _LOST)


def _opened() -> int:
    """Return a descriptor of the log that gives what is logged from now on."""
    fd = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        os.close(fd)
        raise
    return fd


class _Heard(NamedTuple):
    """What the log held: the telling lines, how many there were, everything since the first, whether some were lost."""

    lines: list[str]
    total: int
    log: list[str]
    is_torn: bool


def _heard(read: Callable[[], bytes]) -> _Heard:
    """Read records until there are no more; ``read`` gives one, or raises as a read of /dev/kmsg does."""
    lines: list[str] = []
    log: list[str] = []
    count, is_torn = 0, False
    for _ in range(_RECORDS):
        try:
            data = read()
        except BlockingIOError:
            break
        except BrokenPipeError:  # the next one read is the oldest there is
            is_torn = True
            continue
        except OSError:
            return _Heard(lines, count, log, is_torn=True)
        if not data:
            break
        for is_telling, line in _parsed(data):
            count += is_telling
            if is_telling and len(lines) < _KEPT:
                lines.append(line)
            if count and len(log) < _KEPT:
                log.append(line)
    else:
        is_torn = True
    return _Heard(lines, count, log, is_torn)


def _parsed(data: bytes) -> Iterator[tuple[bool, str]]:
    r"""Yield whether a record is telling and how it reads: of ``<prio>,<seq>,<µs>,<flags>[,…];<text>``.

    The kernel has written everything but printable ASCII as ``\xNN``, newlines too. The lines that follow with a blank in
    front say which device is meant, for programs.
    """
    for line in data.split(b"\n"):
        head, semicolon, text = line.partition(b";")
        words = head.split(b",")
        if semicolon and len(words) >= 3 and words[0].isdigit() and words[2].isdigit():
            said = _shown(text)
            is_telling = int(words[0]) & 7 <= _ERR or _TELLING.search(said) is not None
            yield is_telling, f"[{int(words[2]) / 1e6:12.6f}] {said}"


# -- core files ------------------------------------------------------------------------------------------------------


def core_dumps(watched: Watched) -> Around:
    """Warn of every core file that has appeared or changed where ``kernel.core_pattern`` puts them; keep the small ones.

    A pattern that is no absolute path is relative to where the crashed process was: what has gone elsewhere meanwhile is not
    found. systemd-coredump writes behind the back of the crash, so a large core file may come too late.
    """
    place = _tried(lambda: _place(os.path.abspath(watched.folder)))
    if not isinstance(place, Place):
        yield
        _cannot(watched, "core dump", place)
        return
    before = _tried(place.files)
    status = yield
    after = _tried(place.files)
    if isinstance(after, OSError):
        _cannot(watched, "core dump", after)
    elif isinstance(before, OSError) and not isinstance(before, FileNotFoundError):
        _cannot(watched, "core dump", before)
    else:
        known = {} if isinstance(before, OSError) else before
        cores = {file: stamp for file, stamp in after.items() if known.get(file) != stamp}
        _report_cores(watched, cores)
        if not cores and status == "crashed" and place.is_limited and getrlimit(RLIMIT_CORE)[0] == 0:
            _cannot(watched, "core dump", "none are written: their size limit is 0 here (ulimit -c)")


class Stamp(NamedTuple):
    """What tells a file from what it was before."""

    inode: int
    size: int
    changed: int


class Place(NamedTuple):
    """Where core files are: below ``root``, at a path whose components match the ``steps``.

    ``is_limited`` if the kernel writes them, with the size limit of the process; a program that is given them knows no limit.
    """

    root: str
    steps: tuple[re.Pattern[str], ...]
    is_limited: bool = False

    def files(self) -> dict[str, Stamp]:
        """Return what is there now. Raises `OSError` when the root cannot be read."""
        folders = [self.root]
        for step in self.steps[:-1]:
            folders = [path for folder in folders for path in self._matching(folder, step)]
        stamps = ((path, _stamp(path)) for folder in folders for path in self._matching(folder, self.steps[-1]))
        return {path: stamp for path, stamp in stamps if stamp}

    def _matching(self, folder: str, step: re.Pattern[str]) -> list[str]:
        try:
            return [os.path.join(folder, name) for name in os.listdir(folder) if step.match(name)]
        except OSError:
            if folder is self.root:
                raise
            return []


def _place(folder: str) -> Place | str:
    """Return where the kernel puts the core files of those that work in a folder, or who else is given them."""
    pattern = _setting("core_pattern")
    program = os.path.basename(pattern[1:].split(maxsplit=1)[0]) if pattern[1:].strip() else ""
    if pattern[:1] not in {"|", "@"}:
        return _written(pattern, folder, uses_pid=_setting("core_uses_pid") not in {"", "0"})
    if program == "systemd-coredump":
        return Place(SYSTEMD_CORES, (re.compile(translate("core.*")),))
    if program == "apport":
        return Place(APPORT_CRASHES, (re.compile(translate("*.crash")),))
    return f"the kernel gives core files to {_shown(program or pattern)}"


def _written(pattern: str, folder: str, *, uses_pid: bool) -> Place:
    """Return where a pattern without a pipe leads to, from a folder. Its wildcards may stand in any component."""
    parts = [part for part in pattern.split("/") if part] or [""]
    root = "" if pattern.startswith("/") else folder.rstrip("/")
    while len(parts) > 1 and "%" not in parts[0]:
        root += f"/{parts.pop(0)}"
    steps = [translate(_wildcards(part)) for part in parts]
    if uses_pid and "%p" not in pattern:
        steps[-1] = translate(f"{_wildcards(parts[-1])}.[0-9]*")
    return Place(root or "/", tuple(map(re.compile, steps)), is_limited=True)


def _wildcards(part: str) -> str:
    """Return a component of core_pattern as a glob. The kernel writes a slash in a name as something else."""
    return re.sub(r"%(.?)|[^%]+", lambda found: _wildcard(found[0]), part, flags=re.DOTALL)


def _wildcard(piece: str) -> str:
    if piece == "%":  # the last one, which the kernel drops
        return ""
    return escape(piece) if piece[0] != "%" else "%" if piece == "%%" else "*"


def _setting(name: str) -> str:
    try:
        with open(f"{SETTINGS}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except FileNotFoundError:
        if name == "core_pattern":
            raise
        return ""


def _stamp(path: str) -> Stamp | None:
    """Return the stamp of a regular file; the kernel writes to nothing else."""
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return Stamp(info.st_ino, info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None


def _report_cores(watched: Watched, cores: Mapping[str, Stamp]) -> None:
    for file, stamp in islice(cores.items(), _SHOWN):
        name = _shown(file)
        note, copy = _kept(watched, file, stamp.size)
        data = {"file": name, "size": stamp.size, **copy}
        watched.report("core dump", "warn", f"{name}, {stamp.size:,} bytes{note}", data=data, files=(file,))
    rest = list(islice(cores, _SHOWN, None))
    if rest:
        watched.report("core dump", "warn", f"… and {len(rest):,} more", files=rest[:_KEPT])


def _kept(watched: Watched, file: str, size: int) -> tuple[str, dict[str, Any]]:
    """Keep a copy of a small file; return what to say about it."""
    if size > ATTACHED:
        return "; too large to be kept", {}
    try:
        return "", {"copy": _shown(watched.attach(file), None)}
    except (OSError, PexenError) as error:
        return f"; cannot be kept: {_why(error)}", {}


# -- processes -------------------------------------------------------------------------------------------------------


def leftover_processes(watched: Watched) -> Around:
    """Warn of processes anywhere on the machine that have started during the attempt and are still alive.

    Such as what a service manager has started for it; pexen itself ends what belongs to the task. Left out are the kernel's
    threads, this process with everything below it, and the *kin*: what is below its ancestors in the same session (the guardian,
    make, a shell and what it runs beside us). Ancestors in other sessions are service managers, terminals, daemons: what they
    start is what is looked for. So is what PID 1 starts, whichever session it is in.
    """
    # Taken now: what the machine sleeps through later must not move the beginning of the attempt.
    slept = clock_gettime(CLOCK_BOOTTIME) - monotonic()
    before = _tried(_identities)
    yield
    until = _ticks(clock_gettime(CLOCK_BOOTTIME))
    after = _tried(tree.snapshot)
    if isinstance(before, OSError):
        _cannot(watched, "leftover processes", before)
    elif isinstance(after, OSError):
        _cannot(watched, "leftover processes", after)
    elif watched.started:
        since = _ticks(watched.started + slept)
        fresh = [one for one in after.values() if since <= one.start <= until and one.identity not in before]
        left = list(_strangers(fresh, after, _kin(os.getpid(), after)))
        _report_lines(watched, "leftover processes", "processes", [_described(one) for one in left])


def _identities() -> set[tree.Identity]:
    return {one.identity for one in tree.snapshot().values()}


def _ticks(seconds: float) -> int:
    """Return seconds since boot, suspended ones included, as `Process.start` counts them."""
    return int(seconds * os.sysconf("SC_CLK_TCK"))


def _kin(pid: int, processes: Mapping[int, Process]) -> set[int]:
    """Return those below whom nobody is a stranger to a process."""
    kin, session = {pid}, processes[pid].session if pid in processes else 0
    line: set[int] = set()
    while pid in processes and pid not in line:
        line.add(pid)
        if pid != 1 and processes[pid].session == session:
            kin.add(pid)
        pid = processes[pid].parent
    second = processes.get(2)
    if second is not None and (second.name, second.parent) == ("kthreadd", 0):  # and no container's second process
        kin.add(2)
    return kin


def _strangers(fresh: Iterable[Process], processes: Mapping[int, Process], kin: Collection[int]) -> Iterator[Process]:
    """Yield those that are alive and not below the kin, neither as it was seen nor now.

    A snapshot is no instant: of one of ours that lost its parent while it was taken it does not show whose it is.
    """
    for one in fresh:
        if not _is_below(one, kin, processes.get):
            now = tree.look(one.pid)
            is_here = now is not None and now.identity == one.identity and now.is_alive
            if is_here and not _is_below(now, kin, tree.look):
                yield one


def _is_below(one: Process | None, kin: Collection[int], look: Callable[[int], Process | None]) -> bool:
    seen: set[int] = set()
    while one is not None and one.pid not in seen:
        if one.pid in kin:
            return True
        seen.add(one.pid)
        one = look(one.parent)
    return False


def _described(one: Process) -> str:
    return _shown(f"{one.pid} {one.name} {tree.command_line(one.pid)}".rstrip())


# -- files -----------------------------------------------------------------------------------------------------------


def leftover_files(watched: Watched) -> Around:
    """Warn of files and folders that have appeared in the work folder and are still there.

    A new folder stands for all that is in it. Links are not followed, and what is called as in `IGNORED` is not looked at.
    A folder with more than `ENTRIES` entries is too large; one that has grown to that is looked at as far as it goes.
    """
    before = _tried(lambda: _walked(os.path.abspath(watched.folder)))
    yield
    new = before if isinstance(before, OSError) else _tried(_appeared, before)
    if isinstance(new, OSError):
        _cannot(watched, "leftover files", new)
    elif watched.started:
        large = f"the folder is too large: only {ENTRIES:,} of its files and folders were looked at"
        _report_lines(watched, "leftover files", "files", sorted(map(_shown, new.names)), [large] * new.is_cut)
        if new.is_cut and not new.names:
            _cannot(watched, "leftover files", large)


class _Walk(NamedTuple):
    """The names of what is in a folder, relative to it and with a slash behind folders; those folders that were read."""

    root: str
    names: set[str]
    folders: set[str]
    is_cut: bool


def _appeared(before: _Walk) -> _Walk:
    """Return what was not there before."""
    if before.is_cut:
        return before._replace(names=set())
    now = _walked(before.root, before.folders)
    return now._replace(names=now.names - before.names)


def _walked(root: str, within: Collection[str] | None = None) -> _Walk:
    """Walk a folder, at most `ENTRIES` of what is in it; the second time only where the first one has been.

    That leaves out what is in new folders, and what is in those that could not be read then. Raises `OSError` when the root
    itself cannot be read.
    """
    names: set[str] = set()
    folders: set[str] = set()
    waiting, budget = deque([""]), ENTRIES
    while waiting:
        folder = waiting.popleft()
        try:
            entries, has_more = _entries(os.path.join(root, folder), budget)
        except OSError:
            if not folder:
                raise
            continue
        folders.add(folder)
        budget -= len(entries)
        for name, is_folder in entries:
            if name not in IGNORED:
                names.add(path := f"{folder}{name}{'/' * is_folder}")
                if is_folder and (within is None or path in within):
                    waiting.append(path)
        if has_more:
            return _Walk(root, names, folders, is_cut=True)
    return _Walk(root, names, folders, is_cut=False)


def _entries(folder: str, most: int) -> tuple[list[tuple[str, bool]], bool]:
    """Return at most so many entries, each with whether it is a folder, and whether there are more."""
    with os.scandir(folder) as listing:
        entries = [(entry.name, _is_folder(entry)) for entry in islice(listing, most)]
        return entries, next(listing, None) is not None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


# -- words -----------------------------------------------------------------------------------------------------------


def _tried(call: Callable[..., T], *args: Any) -> T | OSError:
    """Return what a call gives, or why it could not."""
    try:
        return call(*args)
    except OSError as error:
        return error.with_traceback(None)  # which would keep frames alive as long as the attempt takes


def _cannot(watched: Watched, name: str, obstacle: OSError | str) -> None:
    """Say that a check could not look."""
    message = obstacle if isinstance(obstacle, str) else f"cannot be read: {_why(obstacle)}"
    watched.report(name, "skip", message)


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return _shown(reason or str(error))


def _listed(lines: Sequence[str], count: int, notes: Sequence[str] = ()) -> str:
    """Return the first lines, how many more there are, and notes."""
    more = [f"… and {count - _SHOWN:,} more"] if count > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more, *notes])


def _report_lines(watched: Watched, name: str, key: str, lines: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Warn of what there is a line for each, if there is any."""
    if lines:
        watched.report(name, "warn", _listed(lines, len(lines), notes), data={key: list(lines[:_KEPT])})


def _shown(text: str | bytes, longest: int | None = _LONGEST) -> str:
    """Return text as one line, with what cannot be printed made visible, and not longer than that."""
    line = text if isinstance(text, str) else text.decode(errors="surrogateescape")
    if not line.isprintable():
        line = "".join(each if each.isprintable() else _escaped(each) for each in line)
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def _escaped(char: str) -> str:
    """Return a character as Python writes it; a byte that is no UTF-8, which came as half of a surrogate pair, as the byte."""
    code = ord(char)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else char.encode("unicode_escape").decode()


CHECKS: dict[str, Callable[[Watched], Around]] = {
    "kernel_log": kernel_log,
    "core_dumps": core_dumps,
    "leftover_processes": leftover_processes,
    "leftover_files": leftover_files,
}
"""By the name that task files use."""
