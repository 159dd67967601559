"""Disks that are full, files that may grow no more, syncs that fail: a real ``pexen run`` stops, says so, and is taken up.

The promise, wherever it strikes: no traceback, exit code 3 and a message; whatever was told is in the record, and nothing is
told any more; `pexen status` reads the record; when there is space, `pexen resume` ends with the verdicts of a run that
nothing has disturbed, and nothing that was told runs again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pexen as library
from pexen.errors import StateError
from pexen.state import journal
from pexen.state.disk import Steps
from pexen.state.journal import Journal
from pexen.state.reader import read
from tests.cli.tools import DEADLINE, environment, script, write
from tests.state.hand import Watched

PEXEN = (sys.executable, "-m", "pexen")
LINKS = 8
VERDICTS = {
    **{f"link{n}.sh": "passed" for n in range(LINKS)},
    "bad.sh": "failed", "needs_bad.sh": "skipped", "number": "passed", "user": "passed", "once.sh": "passed",
}  # fmt: skip
MESSAGE = "error: the journal cannot be written: "
POOL = "error: the pool command cannot work: "
"""Or this: the disk takes the record and no more what a task is to be given."""
HINT = "hint: what was told before is safe; resume the run when the cause is removed"


class Case:
    """A tree to be run, by a shell that may be somewhere else (`Small`), and what is known of it."""

    def __init__(self, folder: Path, printed: int = 0) -> None:
        self.folder = folder
        self.record = folder / ".pexen"
        self.prefix: list[str] = []
        write(folder / "pexen.toml", "")
        for n in range(LINKS):
            after = f'requires = ["/link{n - 1}.sh"]' if n else ""
            prints = f"head -c {printed} /dev/zero 2>&1 | tr '\\0' x || :" if printed else ""
            self.counting(f"link{n}", prints, after)
        self.counting("bad", "exit 1", 'after = ["/link1.sh"]')
        self.counting("needs_bad", "", 'requires = ["/bad.sh"]')
        self.counting("once", "", 'once = true\nafter = ["/link2.sh"]')
        write(
            folder / "pexenfile.py",
            f"""
            import pexen
            @pexen.task(after=["/link5.sh"])
            def number():
                with open({str(folder / "count.number")!r}, "a") as file:
                    file.write("x")
                return {{"n": [1, 2.5, None], "long": "x" * 6000}}
            @pexen.task(requires={{number}})
            def user(number):
                with open({str(folder / "count.user")!r}, "a") as file:
                    file.write("x")
                assert number == {{"n": [1, 2.5, None], "long": "x" * 6000}}
            """,
        )

    def counting(self, name: str, body: str, meta: str) -> None:
        script(self.folder / f"{name}.sh", f"printf x >> {self.folder}/count.{name}.sh\n{body}", meta)

    def call(self, *words: str, via: tuple[str, ...] = (), python: tuple[str, ...] = PEXEN, **env: str):
        return subprocess.run(
            [*self.prefix, *via, *python, *words], cwd=self.folder, text=True, timeout=DEADLINE, check=False,
            env=environment(XDG_STATE_HOME=f"{self.folder}/state", **env), stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip

    def run(self, **rest):
        """Run it; what is told goes to a file where there is space."""
        return self.call("run", "-j2", "--report", f"jsonl:{self.folder}/told", **rest)

    @property
    def counts(self) -> dict[str, int]:
        files = {path: self.folder / f"count.{path}" for path in VERDICTS}
        return {path: file.stat().st_size if file.exists() else 0 for path, file in files.items()}

    @property
    def told(self) -> dict[str, str]:
        return told_in((self.folder / "told").read_text()) if (self.folder / "told").exists() else {}

    def latest(self) -> str:
        return f"{self.record}/runs/{os.listdir(self.record / 'runs')[0]}"


class Small(Case):
    """The same with ``.pexen`` on a file system of its own, which is small, in a mount namespace that goes with the test."""

    def __init__(self, folder: Path, size: str, printed: int = 0) -> None:
        super().__init__(folder, printed)
        self.record.mkdir()
        for flags in (["-rm"], ["-m"]):
            holder = subprocess.Popen(
                ["unshare", *flags, "sh", "-c", f'mount -t tmpfs -o size={size} none "$0" && echo up && read end', self.record],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self.holder = holder
            assert holder.stdout is not None
            if holder.stdout.readline() == b"up\n":
                break
            self.close()
        else:
            pytest.skip("neither may a namespace be made here, nor a file system mounted")
        enter = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
        if "r" in flags[0]:
            enter += [f"--user=/proc/{holder.pid}/ns/user", "--preserve-credentials"]
        self.prefix = [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(folder)]
        self.outside, self.record = self.record, Path(f"/proc/{holder.pid}/root{self.record}")

    def mount(self, size: str) -> None:
        """Make space, or take it."""
        subprocess.run(
            [*self.prefix, "mount", "-o", f"remount,size={size}", self.outside], check=True, timeout=DEADLINE
        )

    def close(self) -> None:
        self.holder.communicate(b"\n", timeout=DEADLINE)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[..., Small]]:
    made: list[Small] = []

    def make(size: str, printed: int = 0) -> Small:
        if not shutil.which("unshare") or not shutil.which("nsenter"):
            pytest.skip("util-linux is missing")
        made.append(Small(tmp_path, size, printed))
        return made[-1]

    yield make
    for one in made:
        one.close()


def told_in(lines: str) -> dict[str, str]:
    found = [json.loads(line) for line in lines.splitlines()]
    return {one["path"]: one["status"] for one in found if one["kind"] == "result"}


def check_stopped(case: Case, run: subprocess.CompletedProcess[str], why: str) -> dict[str, str]:
    """Check that it has stopped as promised; return what it has told."""
    assert run.returncode == 3, run.stderr
    assert "Traceback" not in run.stderr
    if f"{POOL}{why}" not in run.stderr:
        assert f"{MESSAGE}{why}\n" in run.stderr
        assert HINT in run.stderr
    told = {path: status for path, status in case.told.items() if status != "cancelled"}  # which is: not started
    listed = {line.split()[-1] for line in run.stderr.splitlines() if line.startswith("passed")}
    assert {path for path in listed if path in VERDICTS} <= told.keys(), "console and report know the same"
    assert told.items() <= VERDICTS.items()
    record = read(case.latest())
    assert record.end is None or record.end["how"] == "error"
    stories = {path: story.status for path, story in record.stories.items() if story.is_finished}
    assert told.items() <= stories.items(), "nothing was told that is not in the record"
    counts = case.counts
    for path, count in counts.items():
        assert count <= 1
        asked = (
            [one for edge in record.stories[path].plan.get("requires", ()) for one in edge["paths"]] if count else []
        )
        assert all(stories.get(one) for one in asked), f"{path} has started and what it requires was not safe"
    shown = case.call("status")
    assert shown.returncode == 0, shown.stderr
    assert "damaged" not in shown.stdout
    assert "hint: pexen resume" in shown.stdout
    return told


def check_resumed(case: Case, told: dict[str, str], resumes: int = 1) -> None:
    """Take it up and check that all is as if nothing had happened."""
    before, verdicts = case.counts, verdicts_after(case)
    done = case.call("resume")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert told_in(Path(case.latest(), "report.jsonl").read_text()) == verdicts
    counts = case.counts
    assert {path: counts[path] for path in told} == {path: before[path] for path in told}, "none of that runs again"
    assert all(count <= 1 + resumes for count in counts.values())
    assert counts["once.sh"] <= 1
    record = read(case.latest())
    assert (record.notices, record.duplicates, record.end and record.end["how"]) == ([], 0, "done")


def verdicts_after(case: Case) -> dict[str, str]:
    """What may run only once, and may have been started, is not known to have passed if there was no space to say so."""
    unknown = any(start.path == "once.sh" for start in read(case.latest()).unfinished)
    return {**VERDICTS, "once.sh": "lost"} if unknown else VERDICTS


def test_nothing_disturbs_the_undisturbed(tmp_path):
    case = Case(tmp_path)
    done = case.run()
    assert done.returncode == 1, done.stderr
    assert case.told == VERDICTS
    assert {path: count for path, count in case.counts.items() if count != 1} == {"needs_bad.sh": 0}


# -- no space ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "printed"), [("1m", 250_000), ("20k", 0)])
def test_a_disk_that_is_filled_by_the_run_itself(small, size, printed):
    case = small(size, printed)
    told = check_stopped(case, case.run(), "No space left on device")
    assert len(told) < len(VERDICTS)
    case.mount("16m")
    check_resumed(case, told)


def test_a_disk_that_somebody_else_fills_and_again_while_it_is_taken_up(small):
    case = small("1m")
    filler = case.record / "filler"
    eats = "[ -e filled ] || head -c 8m /dev/zero > .pexen/filler 2>/dev/null || : > filled"
    case.counting("link4", eats, 'requires = ["/link3.sh"]')
    told = check_stopped(case, case.run(), "No space left on device")
    again = case.call("resume", "-C", ".")  # the disk is as full as it was
    assert again.returncode in {3, 4}, again.stderr
    assert "Traceback" not in again.stderr
    assert "No space left on device" in again.stderr
    filler.unlink()
    check_resumed(case, told, 2)


def test_a_disk_that_is_full_from_the_start_is_not_used(small):
    case = small("64k")
    (case.record / "filler").write_bytes(bytes(15 * 4096))  # and one page is the folder's
    run = case.run()
    assert run.returncode == 1, run.stderr
    assert ".pexen cannot be used (No space left on device), output goes to " in run.stderr
    assert case.told == VERDICTS


@pytest.mark.parametrize("pages", [1, 2])
def test_a_disk_that_is_nearly_full_from_the_start(small, pages):
    case = small("64k")
    (case.record / "filler").write_bytes(bytes((15 - pages) * 4096))
    run = case.run()
    assert run.returncode in {3, 4}, run.stderr
    assert "Traceback" not in run.stderr
    assert "No space left on device" in run.stderr
    assert case.told == {}
    assert set(case.counts.values()) == {0}
    (case.record / "filler").unlink()
    case.mount("16m")
    done = case.run()
    assert done.returncode == 1, done.stderr
    assert case.told == VERDICTS


def test_a_value_that_does_not_fit_takes_no_space_from_the_record(small):
    case = small("1m")
    write(case.folder / "pexenfile.py", "import pexen\n@pexen.task\ndef number():\n    return 'x' * 1_500_000\n")
    for file in case.folder.glob("*.sh"):
        file.unlink()
    run = case.run()
    assert (run.returncode, case.told) == (3, {})
    assert f"{MESSAGE}No space left on device" in run.stderr
    assert os.listdir(f"{case.latest()}/values") == []
    case.mount("16m")
    assert case.call("resume").returncode == 0
    assert read(case.latest()).result("number").value == "x" * 1_500_000


# -- files that may grow no more --------------------------------------------------------------------------------------


def size_of_whole(tmp_path: Path) -> int:
    """Return the size of the record of a run that nothing disturbs."""
    case = Case(tmp_path / "whole")
    assert case.run().returncode == 1
    return Path(case.latest(), "journal.jsonl").stat().st_size


def test_a_limit_to_the_size_of_files(tmp_path):
    """SIGXFSZ, which the kernel sends then, is none of ours; a record that is half written is cut off."""
    whole = size_of_whole(tmp_path)
    for left in (6000, 1000):
        case = Case(tmp_path / str(left))
        size = whole - left
        run = case.run(via=("prlimit", f"--fsize={size}:"))
        told = check_stopped_at_limit(case, run)
        assert Path(case.latest(), "journal.jsonl").read_bytes()[-1:] == b"\n"
        assert read(case.latest()).notices == []
        check_resumed(case, told)


def check_stopped_at_limit(case: Case, run: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """As `check_stopped`; the report of what is told is a file as well, and larger: it is the record that counts."""
    if "a report is incomplete" in run.stderr or not (case.folder / "told").exists():
        (case.folder / "told").unlink(missing_ok=True)
    else:
        text = (case.folder / "told").read_text()
        (case.folder / "told").write_text(text[: text.rfind("\n") + 1])
    return check_stopped(case, run, "File too large")


@pytest.mark.parametrize(("size", "said"), [(0, "No usable temporary directory"), (4096, "File too large")])
def test_a_limit_that_leaves_no_room_for_what_is_collected(tmp_path, size, said):
    case = Case(tmp_path)
    run = case.run(via=("prlimit", f"--fsize={size}:"))
    assert run.returncode == 3, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.startswith(f"error: nothing can be collected: {said}")
    assert "hint: $TMPDIR says where temporary files go" in run.stderr
    assert set(case.counts.values()) == {0}
    done = case.run()
    assert done.returncode == 1, done.stderr
    assert case.told == VERDICTS


# -- syncs that fail --------------------------------------------------------------------------------------------------

FAILING = """\
import errno, os, sys
from pexen.state import disk
left, safe, sync, write = [int(sys.argv.pop(1))], [0], disk.Steps.fdatasync, disk.Steps.write
def failing(self, fd):
    left[0] -= 1
    if left[0] < 0:
        os.ftruncate(fd, safe[0])  # the disk has not taken what was to be synced
        disk.Steps.fdatasync = disk.Steps.fsync = never
        disk.Steps.write = lambda self, fd, data: never()
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    sync(self, fd)
    safe[0] = os.fstat(fd).st_size
def never(*_):
    os.write(2, b"Traceback: it was tried again\\n")
disk.Steps.fdatasync = failing
from pexen.cli.main import main
main()
"""
FAILING_AT_THE_END = FAILING.replace(
    "disk.Steps.fdatasync = failing",
    """
def written(self, fd, data):
    if b'"kind":"end"' in data:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return write(self, fd, data)
disk.Steps.write = written
""",
)


@pytest.mark.parametrize("many", [2, 5])
def test_a_sync_that_fails_is_not_tried_again(tmp_path, many):
    case = Case(tmp_path)
    run = case.run(python=(sys.executable, "-c", FAILING, str(many)))
    told = check_stopped(case, run, "Input/output error")
    check_resumed(case, told)


def test_the_last_record_is_missing_and_all_was_told(tmp_path):
    case = Case(tmp_path)
    run = case.run(python=(sys.executable, "-c", FAILING_AT_THE_END, "99"))
    assert check_stopped(case, run, "Input/output error") == VERDICTS
    check_resumed(case, VERDICTS)
    assert {path: count for path, count in case.counts.items() if count != 1} == {"needs_bad.sh": 0}


@pytest.mark.parametrize(("many", "verb"), [(0, "opened"), (1, "written")])
def test_the_first_sync_fails_and_it_is_no_run(tmp_path, many, verb):
    case = Case(tmp_path)
    run = case.run(python=(sys.executable, "-c", FAILING, str(many)))
    assert run.returncode == 3, run.stderr
    assert f"error: the journal cannot be {verb}: Input/output error\n" in run.stderr
    assert "Traceback" not in run.stderr
    assert case.told == {}
    again = case.call("resume")
    assert again.returncode == 4
    assert "nothing was recorded" in again.stderr
    assert case.run().returncode == 1
    assert case.told == VERDICTS


STRACE = shutil.which("strace")


def can_inject() -> bool:
    words = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO",
        "true",
    ]
    return bool(STRACE) and subprocess.run(words, capture_output=True, timeout=DEADLINE, check=False).returncode == 0


def test_a_sync_that_fails_in_the_kernel(tmp_path):
    if not can_inject():
        pytest.skip("strace is missing, or may not trace here")
    case = Case(tmp_path)
    inject = ("strace", "-f", "-qq", "-o", f"{tmp_path}/calls", "-e", "trace=fdatasync", "-e")
    run = case.run(via=(*inject, "inject=fdatasync:error=EIO:when=3"))
    told = check_stopped(case, run, "Input/output error")
    before, _, after = (tmp_path / "calls").read_text().partition("(INJECTED)")
    assert "fdatasync(" in before
    assert "fdatasync(" not in after, "after one that failed nobody knows what is on the disk"
    check_resumed(case, told)


# -- what runs when it strikes ----------------------------------------------------------------------------------------


class Failing(Steps):
    """A disk on which the first result cannot be synced; ``noticed`` is set then."""

    def __init__(self) -> None:
        self.armed = threading.Event()
        self.noticed = threading.Event()

    def fdatasync(self, fd):
        if self.armed.is_set():
            self.noticed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().fdatasync(fd)


def test_what_runs_is_let_finish_and_nothing_more_is_started_or_told(tmp_path, monkeypatch):
    steps, finished, later = Failing(), [], []
    made = journal.Appender
    monkeypatch.setattr(journal, "Appender", lambda at, **rest: made(at, **{**rest, "steps": steps}))

    def long():
        running.release()
        assert steps.noticed.wait(DEADLINE)
        finished.append("long")

    def short():
        assert running.acquire(timeout=DEADLINE)
        steps.armed.set()

    running = threading.Semaphore(0)
    tasks = [library.Task(long, "long"), library.Task(short, "short")]
    tasks += [library.Task(later.append, f"later/{n}", args=[n]) for n in range(5)]
    tasks += [library.Task(later.append, "needs", args=[9], requires="/short", cleanup=True)]
    told = []
    with pytest.raises(StateError, match="No space left on device"):
        told.extend(
            one.path for one in library.Sched(tasks, pool=library.ThreadPool(2), journal=tmp_path).run() if one.start
        )
    assert (finished, told) == (["long"], [])
    assert 9 not in later, "not even a clean-up starts behind what is not safe"


def test_a_half_written_value_goes_and_the_journal_can_be_read(tmp_path):
    steps = Watched()
    left = [2]

    def fill(fd, data):
        left[0] -= len(data) > 100_000
        if left[0] < 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    steps.before["write"] = fill
    with Journal(tmp_path, steps=steps) as it:
        for n in range(3):
            it.append({"kind": "run", "schema": 1} if not n else {"kind": "note"}, b"x" * 200_000)
            it.flush()
        assert it.failure is not None
    assert sorted(os.listdir(tmp_path / "values")) == ["1.json"]
    assert read(tmp_path).last == 1
    assert read(tmp_path).notices == []
