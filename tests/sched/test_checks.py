"""The checks around an attempt: real files and real processes; the kernel's log is a file, or a reader that misbehaves."""

from __future__ import annotations

import errno
import inspect
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from pexen.errors import PexenError
from pexen.model.result import LEVELS, Report
from pexen.pool import tree
from pexen.pool.tree import Process
from pexen.sched import checks
from pexen.sched.around import ready_made
from pexen.sched.checks import CHECKS, Around, Watched

HOSTILE = [
    "a\nb",
    "\x1b[31mred",
    "back\rspace\b",
    "\u202egnp.exe",
    "caf\u00e9",
    os.fsdecode(b"\xff\xfe"),
    "a b",
    "'\"$`",
]
SHOWN = ["a\\nb", "\\x1b[31mred", "back\\rspace\\x08", "\\u202egnp.exe", "caf\u00e9", "\\xff\\xfe", "a b", "'\"$`"]


class Attempt:
    """What a check is given; remembers what it is told."""

    def __init__(self, folder: Path | str = ".") -> None:
        self.path = "a/task"
        self.folder = str(folder)
        self.started = 0.0
        self.reports: list[Report] = []
        self.attached: list[str] = []
        self.obstacle: Exception | None = None

    def report(
        self,
        name: str,
        status: str = "pass",
        message: str = "",
        *,
        data: Mapping[str, Any] | None = None,
        files: Sequence[str] = (),
    ) -> None:
        assert status in LEVELS
        for text in (message, json.dumps(data or {}, ensure_ascii=False)):
            assert all(line.isprintable() for line in text.split("\n"))
        self.reports.append(Report(name, status, message, data or {}, tuple(files)))

    def attach(self, file: str, name: str = "") -> str:
        if self.obstacle:
            raise self.obstacle
        self.attached.append(file)
        return f"kept/{os.path.basename(file)}"

    def said(self) -> list[tuple[str, str]]:
        return [(one.status, one.message) for one in self.reports]


def nothing() -> None:
    pass


def around(
    check: Callable[[Watched], Around], attempt: Attempt, during: Callable[[], object] = nothing, status: str = "passed"
) -> list[Report]:
    """Do what a runner does."""
    generator = check(attempt)
    next(generator)
    attempt.started = monotonic()
    during()
    with pytest.raises(StopIteration):
        generator.send(status)
    return attempt.reports


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    folder = tmp_path / "work"
    folder.mkdir()
    return Attempt(folder)


@pytest.fixture
def work(attempt: Attempt) -> Path:
    return Path(attempt.folder)


# -- all of them -----------------------------------------------------------------------------------------------------


def test_they_have_names() -> None:
    assert list(CHECKS) == ["kernel_log", "core_dumps", "leftover_processes", "leftover_files"]
    for name, check in CHECKS.items():
        assert check.__name__ == name
        assert inspect.isgeneratorfunction(check)
        assert ready_made(name) is check


@pytest.mark.parametrize("name", CHECKS)
def test_one_that_is_not_resumed_leaves_nothing(name: str, attempt: Attempt) -> None:
    """Descriptors, above all; see conftest."""
    generator = CHECKS[name](attempt)
    next(generator)
    generator.close()
    assert attempt.reports == []


@pytest.mark.parametrize("status", ["passed", "crashed", "timeout", "cancelled", "error", "no such status", None])
@pytest.mark.parametrize("name", CHECKS)
def test_they_work_on_this_machine_however_the_attempt_ends(name: str, status: Any, attempt: Attempt) -> None:
    around(CHECKS[name], attempt, status=status)
    assert {one.name for one in attempt.reports} <= {name.replace("_", " ").replace("dumps", "dump")}
    if name == "leftover_files":
        assert attempt.reports == []


@pytest.mark.parametrize("name", ["leftover_processes", "leftover_files"])
def test_an_attempt_that_never_began_has_left_nothing(name: str, attempt: Attempt, work: Path) -> None:
    with ExitStack() as closing:
        generator = CHECKS[name](attempt)
        next(generator)
        closing.enter_context(sleeper())
        (work / "file").touch()
        with pytest.raises(StopIteration):
            generator.send("error")
    assert attempt.reports == []


# -- the kernel's log ------------------------------------------------------------------------------------------------

EXAMPLES = {
    "3,7,1500000,-;usb 1-1: device descriptor read/64, error -71\n SUBSYSTEM=usb\n DEVICE=+usb:1-1\n": True,
    "0,7,1500000,-;Kernel panic - not syncing": True,
    "2,7,1500000,-,caller=T1;critical": True,
    "11,7,1500000,-;facility user, level err": True,
    "4,7,1500000,-;Oops: 0000 [#1] SMP": True,
    "6,7,1500000,-;BUG: kernel NULL pointer dereference": True,
    "4,7,1500000,-;WARNING: CPU: 0 PID: 1 at fs/x.c:7 f+0x1/0x2": True,
    "4,7,1500000,-;Call Trace:": True,
    "6,7,1500000,-;sh[71]: segfault at 0 ip 0 sp 0 error 4": True,
    "6,7,1500000,-;traps: sh[71] general protection fault ip:0": True,
    "6,7,1500000,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)": True,
    "4,7,1500000,-;Out of memory: Killed process 71 (sh)": True,
    "6,7,1500000,-;Memory cgroup out of memory: Killed process 71 (sh)": True,
    "6,7,1500000,-;INFO: task sh:71 blocked for more than 120 seconds.": True,
    "6,7,1500000,-;kernel.hung_task_panic was set": True,
    "4,7,1500000,-;a warning, no more": False,
    "30,7,1500000,-;systemd[1]: Started a service": False,
    "6,7,1500000,-;DEBUG: BUGS in WARNINGS; whoops": False,
    "6,7,1500000,-;harmless\n DRIVER=BUG: WARNING; Call Trace\n": False,
    "": False,
    "garbage": False,
    "garbage;BUG:": False,
    "x,7,1500000,-;BUG:": False,
    "3,7;BUG:": False,
    "3,7,,-;BUG:": False,
}


@pytest.fixture
def kmsg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "kmsg"
    file.write_text("3,1,1000,-;from before\n")
    monkeypatch.setattr(checks, "KMSG", str(file))
    return file


def log(file: Path, *records: str | bytes) -> None:
    with open(file, "ab") as opened:
        opened.writelines((record if isinstance(record, bytes) else record.encode()) + b"\n" for record in records)


@pytest.mark.parametrize("record", EXAMPLES)
def test_errors_and_crashes_are_telling(record: str, kmsg: Path, attempt: Attempt) -> None:
    around(checks.kernel_log, attempt, lambda: log(kmsg, record))
    if EXAMPLES[record]:
        line = f"[    1.500000] {record.partition(';')[2].partition(chr(10))[0]}"
        data = {"lines": [line], "log": [line]}
        assert attempt.reports == [Report("kernel log", "warn", line, data)]
    else:
        assert attempt.reports == []


def test_what_was_logged_before_is_not_told(kmsg: Path, attempt: Attempt) -> None:
    assert around(checks.kernel_log, attempt) == []


def test_what_follows_a_crash_is_kept(kmsg: Path, attempt: Attempt) -> None:
    said = ["6,2,0,-;quiet", "4,3,1,-;BUG: bad", "6,4,2,-; <TASK>", "6,5,3,-; f+0x1/0x2"]
    (report,) = around(checks.kernel_log, attempt, lambda: log(kmsg, *said))
    assert report.message == "[    0.000001] BUG: bad"
    assert report.data["log"] == ["[    0.000001] BUG: bad", "[    0.000002]  <TASK>", "[    0.000003]  f+0x1/0x2"]


def test_the_log_cannot_write_to_the_terminal(kmsg: Path, attempt: Attempt) -> None:
    """The kernel escapes; a line that is not escaped is made visible all the same."""
    (report,) = around(checks.kernel_log, attempt, lambda: log(kmsg, rb"3,2,0,-;\x1b[2J", b"3,3,0,-;\x1b[2J\xff\x00\r"))
    assert report.message == "[    0.000000] \\x1b[2J\n[    0.000000] \\x1b[2J\\xff\\x00\\r"


def test_a_flood_is_cut(kmsg: Path, attempt: Attempt) -> None:
    lines = [f"3,{n},{n},-;{n} {'x' * 400}" for n in range(1500)]
    (report,) = around(checks.kernel_log, attempt, lambda: log(kmsg, *lines))
    message = report.message.split("\n")
    assert len(message) == 21
    assert message[-1] == "… and 1,480 more"
    assert all(len(line) <= 320 for line in message)
    assert len(report.data["lines"]) == len(report.data["log"]) == 1000


@pytest.mark.parametrize("kind", ["missing", "pipe"])
def test_a_log_that_cannot_be_read_is_said_after_every_attempt(
    kind: str, kmsg: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    kmsg.unlink()
    if kind == "pipe":
        os.mkfifo(kmsg)
    for _ in range(2):
        around(checks.kernel_log, attempt)
    reason = os.strerror(errno.ENOENT if kind == "missing" else errno.ESPIPE)
    assert attempt.said() == [("skip", f"cannot be read: {reason}")] * 2


def test_who_may_not_read_the_log_is_told(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "/dev/kmsg")

    monkeypatch.setattr(checks, "_opened", refuse)
    around(checks.kernel_log, attempt)
    assert attempt.reports == [Report("kernel log", "skip", "cannot be read: Permission denied")]


def reader(*answers: bytes | OSError) -> Callable[[], bytes]:
    """Give records, or errors, one after another, and then what /dev/kmsg gives when there is no more."""
    left = iter(answers)

    def read() -> bytes:
        answer = next(left, BlockingIOError(errno.EAGAIN, "again"))
        if isinstance(answer, OSError):
            raise answer
        return answer

    return read


PIPE = BrokenPipeError(errno.EPIPE, "overwritten")


def test_records_are_read_until_there_are_no_more() -> None:
    heard = checks._heard(reader(b"3,1,0,-;one\n", b"6,2,0,-;two\n", b"3,3,0,-;three\n DEVICE=x\n"))
    assert (heard.total, heard.is_torn) == (2, False)
    assert [line.rpartition(" ")[2] for line in heard.log] == ["one", "two", "three"]


def test_lines_that_were_overwritten_are_missed_aloud(
    kmsg: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answers in ((PIPE, b"3,9,0,-;bad\n"), (PIPE, b"6,9,0,-;fine\n")):
        heard = checks._heard(reader(*answers))
        assert heard.is_torn
        monkeypatch.setattr(checks, "_heard", lambda _, heard=heard: heard)
        around(checks.kernel_log, attempt)
        monkeypatch.undo()
        monkeypatch.setattr(checks, "KMSG", str(kmsg))
    lost = "some lines were overwritten before they could be read"
    assert attempt.said() == [("warn", f"[    0.000000] bad\n{lost}"), ("skip", lost)]


def test_another_error_ends_the_reading() -> None:
    heard = checks._heard(reader(b"3,1,0,-;one\n", OSError(errno.EINVAL, "too long"), b"3,2,0,-;two\n"))
    assert (heard.total, heard.is_torn) == (1, True)


@pytest.mark.parametrize("answer", [b"3,1,0,-;x\n", PIPE])
def test_a_kernel_that_never_stops_does_not_hold_us(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_RECORDS", 50)
    heard = checks._heard(reader(*[answer] * 200))
    assert heard.is_torn
    assert heard.total == (0 if answer is PIPE else 50)


# -- core files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kernel"
    folder.mkdir()
    (folder / "core_pattern").write_text("core\n")
    (folder / "core_uses_pid").write_text("0\n")
    monkeypatch.setattr(checks, "SETTINGS", str(folder))
    monkeypatch.setattr(checks, "SYSTEMD_CORES", str(tmp_path / "systemd"))
    monkeypatch.setattr(checks, "APPORT_CRASHES", str(tmp_path / "crash"))
    return folder


NAMES = {
    ("core", "core"): True,
    ("core", "core.7"): False,
    ("core", "score"): False,
    ("core", "cores"): False,
    ("core.%p", "core.7"): True,
    ("core.%p", "core"): False,
    ("%e-%t.core", "sh-17.core"): True,
    ("%e-%t.core", ".sh-17.core"): True,
    ("%e-%t.core", "sh-17.core.gz"): False,
    ("%e-%t.core", "a\nb-17.core"): True,
    ("core.%E", "core.!usr!bin!sh"): True,
    ("100%%", "100%"): True,
    ("100%%", "100x"): False,
    ("%%%p", "%7"): True,
    ("core%", "core"): True,
    ("a[b]*?.%p", "a[b]*?.7"): True,
    ("a[b]*?.%p", "abxy.7"): False,
    ("core of %e", "core of sh"): True,
}


@pytest.mark.parametrize(("pattern", "name"), NAMES)
def test_patterns_have_wildcards(pattern: str, name: str, settings: Path, work: Path, attempt: Attempt) -> None:
    (settings / "core_pattern").write_text(f"{pattern}\n")
    around(checks.core_dumps, attempt, lambda: (work / name).write_bytes(b"ELF"))
    assert bool(attempt.reports) == NAMES[pattern, name]


def test_core_files_are_reported_and_kept(settings: Path, work: Path, attempt: Attempt) -> None:
    core = work / "core"
    around(checks.core_dumps, attempt, lambda: core.write_bytes(bytes(5000)))
    data = {"file": str(core), "size": 5000, "copy": "kept/core"}
    assert attempt.reports == [Report("core dump", "warn", f"{core}, 5,000 bytes", data, (str(core),))]
    assert attempt.attached == [str(core)]


def test_only_new_and_changed_ones_are_told(settings: Path, work: Path, attempt: Attempt) -> None:
    (settings / "core_pattern").write_text("core.%p")
    for name in ("core.1", "core.2", "core.3"):
        (work / name).write_bytes(b"old")

    def during() -> None:
        (work / "core.2").write_bytes(b"other")
        (work / "core.3").unlink()
        (work / "core.4").write_bytes(b"new")

    around(checks.core_dumps, attempt, during)
    assert sorted(attempt.attached) == [str(work / "core.2"), str(work / "core.4")]


def test_the_process_id_may_be_appended(settings: Path, work: Path, attempt: Attempt) -> None:
    (settings / "core_uses_pid").write_text("1\n")
    around(checks.core_dumps, attempt, lambda: [(work / name).touch() for name in ("core", "core.7", "core.x")])
    assert attempt.attached == [str(work / "core.7")]
    (settings / "core_pattern").write_text("%p.core")
    around(checks.core_dumps, attempt, lambda: [(work / name).touch() for name in ("7.core", "8.core.8")])
    assert attempt.attached[1:] == [str(work / "7.core")]


def test_a_kernel_without_that_setting_appends_nothing(settings: Path, work: Path, attempt: Attempt) -> None:
    (settings / "core_uses_pid").unlink()
    around(checks.core_dumps, attempt, (work / "core").touch)
    assert attempt.attached == [str(work / "core")]


def test_patterns_may_lead_to_other_folders(settings: Path, work: Path, attempt: Attempt, tmp_path: Path) -> None:
    cores = tmp_path / "co[r]es"
    (cores / "u0" / "at").mkdir(parents=True)
    (settings / "core_pattern").write_text(f"{cores}/u%u//at/core.%p")

    def during() -> None:
        (cores / "u1000" / "at").mkdir(parents=True)
        (cores / "v1" / "at").mkdir(parents=True)
        (cores / "u2").touch()
        for name in ("u0/at/core.1", "u1000/at/core.2", "v1/at/core.3", "u0/core.4"):
            (cores / name).touch()

    around(checks.core_dumps, attempt, during)
    assert sorted(attempt.attached) == [str(cores / "u0/at/core.1"), str(cores / "u1000/at/core.2")]


def test_relative_patterns_may_have_folders(settings: Path, work: Path, attempt: Attempt) -> None:
    """Also one that is made only meanwhile."""
    (settings / "core_pattern").write_text("dumps/core")

    def during() -> None:
        (work / "dumps").mkdir()
        (work / "dumps" / "core").touch()

    around(checks.core_dumps, attempt, during)
    assert attempt.attached == [str(work / "dumps" / "core")]


def test_the_root_itself_may_be_the_folder() -> None:
    place = checks._written("/core.%p", "/elsewhere", uses_pid=False)
    assert place.root == "/"
    assert place._matching("/", checks.re.compile("proc$")) == ["/proc"]


@pytest.mark.parametrize(
    ("pattern", "folder", "files", "found"),
    [
        (
            "|/usr/lib/systemd/systemd-coredump %P %u",
            "systemd",
            ("core.sh.0.x.7.1.zst", ".#core.x"),
            "core.sh.0.x.7.1.zst",
        ),
        ("|/usr/share/apport/apport -p%p -s%s", "crash", ("_bin_sh.0.crash", "_bin_sh.0.upload"), "_bin_sh.0.crash"),
    ],
)
def test_programs_that_are_given_core_files_put_them_somewhere(
    pattern: str, folder: str, files: tuple[str, ...], found: str, settings: Path, attempt: Attempt, tmp_path: Path
) -> None:
    (settings / "core_pattern").write_text(pattern)
    around(checks.core_dumps, attempt)
    assert attempt.said() == [("skip", f"cannot be read: {os.strerror(errno.ENOENT)}")]
    attempt.reports.clear()
    (tmp_path / folder).mkdir()
    around(checks.core_dumps, attempt, lambda: [(tmp_path / folder / file).touch() for file in files])
    assert attempt.attached == [str(tmp_path / folder / found)]


@pytest.mark.parametrize(
    ("pattern", "who"),
    [
        ("|/opt/\x1b[2J/catch \n%p", "catch"),
        ("|/opt/c\x1b", "c\\x1b"),
        ("@/run/cores", "cores"),
        ("|", "|"),
        ("| ", "| "),
    ],
)
def test_who_else_is_given_core_files_is_named(pattern: str, who: str, settings: Path, attempt: Attempt) -> None:
    (settings / "core_pattern").write_text(pattern)
    around(checks.core_dumps, attempt)
    assert attempt.reports == [Report("core dump", "skip", f"the kernel gives core files to {who}")]


def test_a_pattern_that_cannot_be_read_is_said(settings: Path, attempt: Attempt) -> None:
    (settings / "core_pattern").unlink()
    around(checks.core_dumps, attempt)
    assert attempt.said() == [("skip", f"cannot be read: {os.strerror(errno.ENOENT)}")]


def test_a_folder_that_could_not_be_read_before_is_said(
    settings: Path, work: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else everything that is in it would be new."""
    answers = iter([PermissionError(errno.EACCES, "Permission denied"), ["core"]])

    def listdir(folder: str) -> list[str]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    (work / "core").touch()
    monkeypatch.setattr(checks.os, "listdir", listdir)
    around(checks.core_dumps, attempt)
    monkeypatch.undo()
    assert attempt.said() == [("skip", "cannot be read: Permission denied")]


def test_a_work_folder_that_has_gone_is_said(settings: Path, work: Path, attempt: Attempt) -> None:
    around(checks.core_dumps, attempt, work.rmdir)
    assert attempt.said() == [("skip", f"cannot be read: {os.strerror(errno.ENOENT)}")]


def test_only_regular_files_are_core_files(settings: Path, work: Path, attempt: Attempt, tmp_path: Path) -> None:
    (settings / "core_pattern").write_text("core.%p")
    (tmp_path / "secret").write_text("x")

    def during() -> None:
        (work / "core.1").symlink_to(tmp_path / "secret")
        (work / "core.2").mkdir()
        (work / "core.4").symlink_to(work / "nowhere")
        os.mkfifo(work / "core.3")

    assert around(checks.core_dumps, attempt, during) == []


def test_large_ones_are_not_kept(settings: Path, work: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file costs nothing."""

    def during() -> None:
        (work / "core").touch()
        os.truncate(work / "core", checks.ATTACHED + 1)

    (report,) = around(checks.core_dumps, attempt, during)
    assert report.message == f"{work}/core, 67,108,865 bytes; too large to be kept"
    assert report.files == (str(work / "core"),)
    assert attempt.attached == []


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file or directory"),
        (PexenError("this pool keeps no files"), "this pool keeps no files"),
    ],
)
def test_one_that_cannot_be_kept_is_told_all_the_same(
    obstacle: Exception, reason: str, settings: Path, work: Path, attempt: Attempt
) -> None:
    attempt.obstacle = obstacle
    (report,) = around(checks.core_dumps, attempt, (work / "core").touch)
    assert (report.status, report.message) == ("warn", f"{work}/core, 0 bytes; cannot be kept: {reason}")


def test_one_that_vanishes_while_it_is_looked_at_was_none(work: Path) -> None:
    assert checks._stamp(str(work / "core")) is None


def test_many_are_counted(settings: Path, work: Path, attempt: Attempt) -> None:
    (settings / "core_pattern").write_text("core.%p")
    around(checks.core_dumps, attempt, lambda: [(work / f"core.{number}").touch() for number in range(25)])
    assert len(attempt.reports) == 21
    assert len(attempt.attached) == 20
    assert attempt.reports[-1].message == "… and 5 more"
    assert len({file for one in attempt.reports for file in one.files}) == 25


@pytest.mark.parametrize(("name", "shown"), list(zip(HOSTILE, SHOWN, strict=True)))
def test_names_of_core_files_may_be_anything(
    name: str, shown: str, settings: Path, work: Path, attempt: Attempt
) -> None:
    """The path stays as it is where it is to be opened."""
    (settings / "core_pattern").write_text("%e.core")
    file = work / f"{name}.core"
    (report,) = around(checks.core_dumps, attempt, file.touch)
    assert report.message == f"{work}/{shown}.core, 0 bytes"
    assert report.files == (str(file),)


@pytest.mark.parametrize("limit", [0, 1 << 20])
@pytest.mark.parametrize("status", ["crashed", "failed"])
def test_after_a_crash_it_is_said_that_there_can_be_none(
    limit: int, status: str, settings: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "getrlimit", lambda _: (limit, limit))
    around(checks.core_dumps, attempt, status=status)
    is_said = status == "crashed" and not limit
    assert attempt.said() == [("skip", "none are written: their size limit is 0 here (ulimit -c)")] * is_said


def test_a_program_that_is_given_core_files_knows_no_limit(
    settings: Path, attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings / "core_pattern").write_text("|/usr/lib/systemd/systemd-coredump %P")
    (tmp_path / "systemd").mkdir()
    monkeypatch.setattr(checks, "getrlimit", lambda _: (0, 0))
    assert around(checks.core_dumps, attempt, status="crashed") == []


def is_written_here() -> bool:
    """Whether this machine's kernel would write a core file into the work folder."""
    try:
        pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    except OSError:
        return False
    return pattern[:1] not in {"|", "@", "/", ""} and resource.getrlimit(resource.RLIMIT_CORE)[1] != 0


@pytest.mark.skipif(not is_written_here(), reason="the kernel gives core files to a program, or writes them elsewhere")
def test_a_real_crash_is_found(work: Path, attempt: Attempt) -> None:
    def during() -> None:
        crash = "ulimit -c $(ulimit -H -c); kill -SEGV $$"
        child = subprocess.run(["sh", "-c", crash], cwd=work, check=False)
        assert child.returncode == -11

    (report,) = around(checks.core_dumps, attempt, during, "crashed")
    assert report.status == "warn"
    assert Path(report.files[0]).read_bytes().startswith(b"\x7fELF")


# -- processes -------------------------------------------------------------------------------------------------------

RUNNER = """
import json, subprocess, sys
from time import monotonic
from pexen.sched.checks import leftover_processes

class Attempt:
    path, folder, started, said = "a", ".", 0.0, []
    def report(self, name, status="pass", message="", *, data={}, files=()):
        self.said.append([name, status, message, data])

attempt = Attempt()
around = leftover_processes(attempt)
next(around)
attempt.started = monotonic()
own = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(own.pid, flush=True)
sys.stdin.readline()
try:
    around.send("passed")
except StopIteration:
    print(json.dumps(attempt.said), flush=True)
own.kill()
own.wait()
"""


@contextmanager
def sleeper(*argv: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that lives until the block is left."""
    with subprocess.Popen(argv or ["sleep", "600"], **how) as process:
        try:
            while not tree.command_line(process.pid):
                os.sched_yield()  # an exec has succeeded a moment before its arguments can be read
            yield process
        finally:
            process.kill()


class Runner:
    """A process with the check around an attempt that we are the inside of; below us, in a session of its own or in ours."""

    def __init__(self, *, own_session: bool) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=own_session,
            env={**os.environ, "PYTHONPATH": str(Path(tree.__file__).parents[2])},
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    def left(self) -> dict[int, str]:
        """End the attempt; return the lines that are reported, by process id. Others may have started some meanwhile."""
        said = json.loads(self.process.communicate("\n")[0])
        assert self.process.returncode == 0
        assert [one[:2] for one in said] in ([], [["leftover processes", "warn"]])
        lines = [line for one in said for line in one[3]["processes"]]
        return {int(line.split()[0]): line for line in lines}


def test_what_a_service_manager_has_started_is_told() -> None:
    """The manager is above the runner, as that of a desktop session is, but in another session."""
    with sleeper() as earlier:
        runner = Runner(own_session=True)
        with sleeper() as one, sleeper("sh", "-c", "read x", stdin=subprocess.PIPE, start_new_session=True) as other:
            left = runner.left()
    assert left[one.pid] == f"{one.pid} sleep sleep 600"
    assert left[other.pid] == f"{other.pid} sh sh -c read x"
    assert earlier.pid not in left


def test_what_is_below_the_runner_is_not_told() -> None:
    runner = Runner(own_session=True)
    assert not {runner.child, runner.process.pid} & runner.left().keys()


def test_what_runs_beside_the_runner_is_not_told() -> None:
    """What its ancestors in the same session have started: make, a pipe to a pager, the guardian's orphans."""
    runner = Runner(own_session=False)
    with sleeper() as helper, sleeper(start_new_session=True) as stray:
        left = runner.left()
    assert not {helper.pid, stray.pid, runner.child} & left.keys()


def test_what_has_ended_is_not_told() -> None:
    runner = Runner(own_session=True)
    with sleeper() as one, subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        left = runner.left()
    assert one.pid in left
    assert zombie.pid not in left


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "(x) R 1", os.fsdecode(b"\xff\xfe")])
def test_names_of_processes_may_be_anything(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    shutil.copy(shutil.which("sh") or "", file)
    runner = Runner(own_session=True)
    with sleeper(str(file), "-c", "read x", stdin=subprocess.PIPE) as one:
        line = runner.left()[one.pid]
    assert line.isprintable()
    assert line.startswith(f"{one.pid} {checks._shown(name)} ")
    assert line.endswith("-c read x")


def made(pid: int, parent: int, session: int = 0, start: int = 0, state: str = "S", name: str = "x") -> Process:
    return Process(pid, parent, session, session, start, state, name)


def machine(*processes: Process) -> dict[int, Process]:
    return {one.pid: one for one in processes}


ABOVE = (made(1, 0, 1, name="init"), made(10, 1, 10, name="manager"), made(20, 10, 20, name="sh"), made(30, 20, 20))


def test_kin_are_the_ancestors_of_the_same_session() -> None:
    assert checks._kin(30, machine(*ABOVE)) == {30, 20}


def test_the_first_process_is_kin_to_nobody_but_itself() -> None:
    """Of a container, say: its orphans may be anybody's."""
    processes = machine(made(1, 0, 1), made(7, 1, 1))
    assert checks._kin(7, processes) == {7}
    assert checks._kin(1, processes) == {1}


def test_threads_of_the_kernel_are_kin() -> None:
    assert 2 in checks._kin(30, machine(*ABOVE, made(2, 0, name="kthreadd")))
    assert 2 not in checks._kin(30, machine(*ABOVE, made(2, 0, name="sh"))), "entered a container"
    assert 2 not in checks._kin(30, machine(*ABOVE, made(2, 1, name="kthreadd"))), "called so in a container"


def test_numbers_that_lead_in_a_circle_lead_nowhere() -> None:
    """As they may when one is given away while they are followed."""
    circle = machine(made(5, 6), made(6, 5))
    assert not checks._is_below(circle[5], {30}, circle.get)
    assert checks._kin(5, circle) == {5, 6}
    assert checks._kin(99, circle) == {99}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, Process]]:
    """Made-up machines: what each snapshot shows, and behind the last one what a look at a single process shows."""
    shown: list[dict[int, Process]] = []
    monkeypatch.setattr(tree, "snapshot", lambda: shown.pop(0))
    monkeypatch.setattr(tree, "look", lambda pid: shown[0].get(pid))
    monkeypatch.setattr(checks.os, "getpid", lambda: 30)
    monkeypatch.setattr(checks, "clock_gettime", lambda _: 100.0)
    monkeypatch.setattr(checks, "monotonic", lambda: 90.0)
    monkeypatch.setattr(checks.os, "sysconf", lambda _: 10)
    return shown


def told(attempt: Attempt, started: float = 80.0) -> list[int]:
    """Have the attempt begin 10 seconds ago, on a machine that is up for 100 seconds and has slept for 10 of them."""
    generator = checks.leftover_processes(attempt)
    next(generator)
    attempt.started = started
    with pytest.raises(StopIteration):
        generator.send("passed")
    return [int(line.split()[0]) for one in attempt.reports for line in one.data["processes"]]


def test_only_what_started_while_it_ran_is_told(looks: list[dict[int, Process]], attempt: Attempt) -> None:
    fresh = [made(100 + start, 10, start=start) for start in (0, 899, 900, 950, 1000, 1001)]
    after = machine(*ABOVE, *fresh)
    looks += [machine(*ABOVE, made(1050, 10, start=950)), after, after]
    assert told(attempt) == [1000, 1100], "950 was there before"


def test_a_number_that_was_given_away_is_somebody_else(looks: list[dict[int, Process]], attempt: Attempt) -> None:
    after = machine(*ABOVE, made(99, 10, start=950))
    looks += [machine(*ABOVE, made(99, 10, start=5)), after, after]
    assert told(attempt) == [99]


@pytest.mark.parametrize(
    "now",
    [
        None,
        made(99, 10, start=950, state="Z"),
        made(99, 10, start=990),
        made(99, 30, start=950),
    ],
)
def test_who_has_gone_or_turns_out_to_be_ours_is_not_told(
    now: Process | None, looks: list[dict[int, Process]], attempt: Attempt
) -> None:
    """A snapshot is no instant: it shows a child of ours whose parent, just ended, it does not show."""
    looks += [machine(*ABOVE), machine(*ABOVE, made(99, 98, start=950)), machine(*ABOVE, *([now] if now else []))]
    assert told(attempt) == []


def test_many_processes_are_counted(looks: list[dict[int, Process]], attempt: Attempt) -> None:
    after = machine(*ABOVE, *(made(1_000_000 + number, 10, start=950) for number in range(1100)))
    looks += [machine(*ABOVE), after, after]
    assert len(told(attempt)) == 1000
    lines = attempt.reports[0].message.split("\n")
    assert len(lines) == 21
    assert lines[-1] == "… and 1,080 more"


@pytest.mark.parametrize("when", ["before", "after"])
def test_processes_that_cannot_be_listed_are_said(when: str, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors, for instance."""
    failing = [when == "before", when == "after"]

    def snapshot() -> dict[int, Process]:
        if failing.pop(0):
            raise OSError(errno.EMFILE, "Too many open files")
        return {}

    monkeypatch.setattr(tree, "snapshot", snapshot)
    around(checks.leftover_processes, attempt)
    assert attempt.reports == [Report("leftover processes", "skip", "cannot be read: Too many open files")]


# -- files -----------------------------------------------------------------------------------------------------------


def test_files_and_folders_that_are_left_are_told(work: Path, attempt: Attempt) -> None:
    """Once: a new folder stands for all that is in it."""
    (work / "old" / "deep").mkdir(parents=True)
    (work / "old" / "file").touch()

    def during() -> None:
        (work / "new" / "inner").mkdir(parents=True)
        (work / "new" / "inner" / "file").touch()
        (work / "old" / "deep" / "file").touch()
        (work / "old" / "file").write_text("changed, not new")
        (work / "log").touch()
        (work / "temporary").touch()
        (work / "temporary").unlink()

    (report,) = around(checks.leftover_files, attempt, during)
    left = ["log", "new/", "old/deep/file"]
    assert report == Report("leftover files", "warn", "\n".join(left), {"files": left})


def test_what_was_there_and_what_has_gone_is_not_told(work: Path, attempt: Attempt) -> None:
    for name in ("a", "b/c", "b/d"):
        (work / name).mkdir(parents=True)
    assert around(checks.leftover_files, attempt, lambda: shutil.rmtree(work / "b")) == []


def test_a_file_that_has_become_a_folder_is_new(work: Path, attempt: Attempt) -> None:
    (work / "a").touch()

    def during() -> None:
        (work / "a").unlink()
        (work / "a").mkdir()

    around(checks.leftover_files, attempt, during)
    assert attempt.said() == [("warn", "a/")]


def test_what_comes_and_goes_by_itself_is_ignored(work: Path, attempt: Attempt) -> None:
    (work / ".git").mkdir()
    (work / "sub").mkdir()

    def during() -> None:
        for name in (".git/index", ".pexen/runs/1", "__pycache__/x.pyc", "sub/__pycache__/x.pyc", "sub/.git/y"):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).touch()

    assert around(checks.leftover_files, attempt, during) == []


def test_links_are_not_followed(work: Path, attempt: Attempt, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (work / "out").symlink_to(tmp_path / "elsewhere")
    (work / "loop").symlink_to(work)

    def during() -> None:
        (tmp_path / "elsewhere" / "file").touch()
        (work / "dangling").symlink_to(work / "nowhere")
        (work / "another").symlink_to(tmp_path / "elsewhere")

    around(checks.leftover_files, attempt, during)
    assert attempt.said() == [("warn", "another\ndangling")]


def test_a_work_folder_may_be_a_link(work: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(work)
    attempt = Attempt(tmp_path / "link")
    around(checks.leftover_files, attempt, (work / "file").touch)
    assert attempt.said() == [("warn", "file")]


def test_a_runner_that_has_gone_elsewhere_does_not_move_the_folder(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task in a thread may change the folder of the whole process."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(work)
    attempt = Attempt(".")

    def during() -> None:
        (work / "file").touch()
        os.chdir(tmp_path)

    around(checks.leftover_files, attempt, during)
    assert attempt.said() == [("warn", "file")]


def test_names_of_files_may_be_anything(work: Path, attempt: Attempt) -> None:
    around(checks.leftover_files, attempt, lambda: [(work / name).touch() for name in HOSTILE])
    (report,) = attempt.reports
    assert report.message.split("\n") == sorted(SHOWN)
    assert report.data["files"] == sorted(SHOWN)


def test_very_long_names_are_cut(work: Path, attempt: Attempt) -> None:
    (work / ("d" * 200)).mkdir()
    around(checks.leftover_files, attempt, (work / ("d" * 200) / ("f" * 200)).touch)
    assert len(attempt.reports[0].message) == 300


def test_many_files_are_counted(work: Path, attempt: Attempt) -> None:
    around(checks.leftover_files, attempt, lambda: [(work / f"{number:02}").touch() for number in range(25)])
    (report,) = attempt.reports
    assert report.message.split("\n") == [f"{number:02}" for number in range(20)] + ["… and 5 more"]
    assert len(report.data["files"]) == 25


LARGE = "the folder is too large: only 10 of its files and folders were looked at"


@pytest.fixture
def ten(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with as many entries as are looked at."""
    monkeypatch.setattr(checks, "ENTRIES", 10)
    for number in range(5):
        (work / f"{number}" / "sub").mkdir(parents=True)
    return work


def test_a_folder_that_is_too_large_is_said(ten: Path, attempt: Attempt) -> None:
    (ten / "3" / "one too many").touch()
    around(checks.leftover_files, attempt, (ten / "file").touch)
    assert attempt.said() == [("skip", LARGE)]


def test_a_folder_that_has_become_too_large_is_looked_at_as_far_as_it_goes(ten: Path, attempt: Attempt) -> None:
    around(checks.leftover_files, attempt, (ten / "file").touch)
    assert attempt.said() == [("warn", f"file\n{LARGE}")]


def test_a_folder_that_is_just_not_too_large_is_looked_at(ten: Path, attempt: Attempt) -> None:
    def during() -> None:
        (ten / "4" / "sub").rmdir()
        (ten / "file").touch()

    around(checks.leftover_files, attempt, during)
    assert attempt.said() == [("warn", "file")]


def test_what_lies_in_a_new_folder_is_not_walked(ten: Path, attempt: Attempt) -> None:
    (ten / "4" / "sub").rmdir()

    def during() -> None:
        (ten / "new").mkdir()
        for number in range(100):
            (ten / "new" / f"{number}").touch()

    around(checks.leftover_files, attempt, during)
    assert attempt.said() == [("warn", "new/")]


def test_too_large_and_nothing_new_seen(ten: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    around(checks.leftover_files, attempt, lambda: monkeypatch.setattr(checks, "ENTRIES", 9))
    assert attempt.said() == [("skip", LARGE.replace("10", "9"))]


def refusing(monkeypatch: pytest.MonkeyPatch, name: str, *, calls: int) -> None:
    """Have the folder of that name not read so many times; root may read everything."""
    entries, left = checks._entries, [True] * calls

    def refuse(folder: str, most: int) -> tuple[list[tuple[str, bool]], bool]:
        if folder.rstrip("/").endswith(name) and left:
            left.pop()
            raise OSError(errno.EACCES, "Permission denied", folder)
        return entries(folder, most)

    monkeypatch.setattr(checks, "_entries", refuse)


def test_what_was_in_a_folder_that_could_not_be_read_is_not_new(
    work: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "locked").mkdir()
    (work / "locked" / "old").touch()
    refusing(monkeypatch, "locked", calls=1)
    around(checks.leftover_files, attempt, (work / "new").touch)
    assert attempt.said() == [("warn", "new")]


def test_a_folder_that_vanishes_while_it_is_walked_was_not_left(
    work: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "going").mkdir()
    refusing(monkeypatch, "going", calls=2)
    assert around(checks.leftover_files, attempt) == []


def test_a_work_folder_that_cannot_be_read_is_said(
    work: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, "work", calls=1)
    around(checks.leftover_files, attempt)
    monkeypatch.undo()
    around(checks.leftover_files, attempt, work.rmdir)
    gone = os.strerror(errno.ENOENT)
    assert attempt.said() == [("skip", "cannot be read: Permission denied"), ("skip", f"cannot be read: {gone}")]
