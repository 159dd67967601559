"""``pexen resume``, ``status``, ``report`` and ``clean``: what a run has recorded, and how it goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

from pexen.cli.report import lasted
from pexen.state.reader import Session, Start
from tests.cli.tools import pexen, script

PEXEN = [sys.executable, "-m", "pexen"]

LIMIT = 60
pytestmark = pytest.mark.leaks("files")  # what a killed process has in temporary folders stays there


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "pexen.toml").write_text("")
    return tmp_path


def counted(tree: Path, name: str) -> int:
    file = tree / f"{name}.count"
    return len(file.read_text()) if file.exists() else 0


def counting(tree: Path, name: str, more: str = "", meta: str = "") -> None:
    script(tree / f"{name}.sh", f"printf x >> {tree}/{name}.count\n{more}", meta=meta)


@pytest.fixture
def killed(tree):
    """A run that was killed while b.sh was running, a.sh had passed and c.sh was waiting for b.sh."""
    counting(tree, "a")
    gate = tree / "gate"
    os.mkfifo(gate)
    counting(tree, "b", f"[ -e {tree}/go ] || cat {gate}", meta='requires = ["/a.sh"]')
    counting(tree, "c", meta='requires = ["/b.sh"]')
    process = subprocess.Popen([*PEXEN, "run", "-j1"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with gate.open("w"):  # returns when b.sh reads
        while '"kind":"started","path":"b.sh"' not in (tree / ".pexen/latest/journal.jsonl").read_text():
            os.sched_yield()  # a start does not wait for its record, which is on its way
        os.kill(process.pid, signal.SIGKILL)
        process.wait(LIMIT)
        children = Path(f"/proc/{process.pid}/task")
        assert not children.exists()
        until_nobody_writes(tree)
    (tree / "go").touch()
    return tree


def until_nobody_writes(tree: Path) -> None:
    """Wait until the runner has gone, which ends when it notices that its guardian has."""
    from pexen.state.lock import holder

    while holder(str(tree / ".pexen" / "latest")) is not None:
        os.sched_yield()


def test_a_killed_run_is_shown_and_taken_up(killed):
    shown = pexen("status", cwd=killed).stdout
    assert "killed; began" in shown
    assert "finished: 1 passed" in shown
    assert "was running: b.sh" in shown
    assert "waiting: c.sh, for b.sh" in shown
    assert "hint: pexen resume 2" in shown
    done = pexen("resume", cwd=killed)
    assert done.returncode == 0, done.stderr
    assert "taken up again: 1 result from before" in done.stderr
    assert [counted(killed, name) for name in "abc"] == [1, 2, 1]
    shown = pexen("status", cwd=killed).stdout
    assert "done; began" in shown
    assert "finished: 3 passed" in shown
    assert "hint" not in shown
    assert len(list((killed / ".pexen" / "runs").iterdir())) == 1


def test_new_changed_and_removed_tasks_are_told(killed):
    counting(killed, "a", "true")
    counting(killed, "new")
    (killed / "c.sh").unlink()
    done = pexen("resume", cwd=killed)
    assert done.returncode == 0
    assert "new: new.sh" in done.stderr
    assert "changed: a.sh" in done.stderr
    assert "removed: c.sh" in done.stderr
    assert [counted(killed, name) for name in ("a", "new", "c")] == [2, 1, 0]


def test_status_for_machines(killed):
    told = json.loads(pexen("status", "--json", cwd=killed).stdout)
    assert (told["schema"], told["state"], told["tasks"], told["counts"]) == (1, "killed", 3, {"passed": 1})
    assert [one["path"] for one in told["running"]] == ["b.sh"]
    assert told["waiting"] == [{"path": "c.sh", "for": ["b.sh"]}]


def test_a_report_of_a_run_that_was_killed(killed):
    done = pexen("report", "--report", "junit:out.xml", "--report", "jsonl:out.jsonl", cwd=killed)
    assert done.returncode == 0, done.stderr
    cases = {case.get("name"): [child.tag for child in case] for case in ET.parse(killed / "out.xml").iter("testcase")}
    assert sorted(cases) == ["a.sh", "b.sh", "c.sh"]
    assert "error" in cases["b.sh"]
    assert "skipped" in cases["c.sh"]
    lines = [json.loads(line) for line in (killed / "out.jsonl").read_text().splitlines()]
    found = {one["path"]: one["status"] for one in lines if one["kind"] == "result"}
    assert found == {"a.sh": "passed", "b.sh": "lost", "c.sh": "cancelled"}


def test_each_run_leaves_both_reports_and_latest_leads_to_them(tree):
    script(tree / "a.sh", "echo hello")
    assert pexen("run", cwd=tree).returncode == 0
    latest = tree / ".pexen" / "latest"
    assert {"journal.jsonl", "report.xml", "report.jsonl", "output"} <= set(os.listdir(latest))
    before = (latest / "report.xml").read_text()
    assert pexen("report", "--report", "junit:again.xml", cwd=tree).returncode == 0
    a, b = (ET.fromstring(text) for text in (before, (tree / "again.xml").read_text()))
    assert [one.attrib for one in a.iter("testcase")] == [one.attrib for one in b.iter("testcase")]


def test_interrupted_is_resumable(tree):
    gate = tree / "gate"
    os.mkfifo(gate)
    script(tree / "a.sh", f"[ -e {tree}/go ] || cat {gate}")
    script(tree / "b.sh", meta='requires = ["/a.sh"]')
    process = subprocess.Popen([*PEXEN, "run"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with gate.open("w"):
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 2
    assert "stopped; began" in pexen("status", cwd=tree).stdout
    (tree / "go").touch()
    done = pexen("resume", cwd=tree)
    assert done.returncode == 0, done.stderr
    assert "2 passed" in done.stderr


def test_a_run_that_still_goes_is_shown_and_not_taken_up(tree):
    gate = tree / "gate"
    os.mkfifo(gate)
    script(tree / "a.sh", f"cat {gate}")
    process = subprocess.Popen([*PEXEN, "run"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with gate.open("w"):
        shown = pexen("status", cwd=tree).stdout
        assert "running, by process" in shown
        assert "running: a.sh, for" in shown
        refused = pexen("resume", cwd=tree)
        assert refused.returncode == 3
        assert "this run is still going" in refused.stderr
        assert "writer: process" in refused.stderr
        assert pexen("clean", "--keep", "0", "--resumable", cwd=tree).stdout == "0 runs removed\n"
    assert process.wait(LIMIT) == 0


def test_where_it_was_started_and_with_what(tree):
    (tree / "sub").mkdir()
    (tree / "sub" / "pexenfile.py").write_text(
        "import os, pexen\nday = None\ndef tasks(here):\n    day = here.param('day')\n"
        "    yield here.command(['sh', '-c', f'printf %s {day} >> out; [ -e go ]'], path='it')\n"
    )
    assert pexen("run", "-D", "day=mon", "sub", cwd=tree).returncode == 1
    record = json.loads((tree / ".pexen" / "latest" / "journal.jsonl").read_text().splitlines()[0])
    assert (record["cwd"], record["argv"]) == (str(tree), ["pexen", "run", "-D", "day=mon", "sub"])
    done = pexen("resume", cwd=tree / "sub")
    assert done.returncode == 1, "finished stays finished, failed or not"
    assert (tree / "sub" / "out").read_text() == "mon"


@pytest.mark.parametrize("command", ["status", "resume", "report"])
def test_no_run_and_no_such_run(tree, command):
    words = ["--report", "junit"] if command == "report" else []
    done = pexen(command, *words, cwd=tree)
    assert done.returncode == 4
    assert "there is no run yet" in done.stderr
    done = pexen(command, "2031", *words, cwd=tree)
    assert done.returncode == 4
    assert "there is no run '2031'" in done.stderr


def test_a_damaged_record_is_named(tree):
    script(tree / "a.sh")
    assert pexen("run", cwd=tree).returncode == 0
    file = tree / ".pexen" / "latest" / "journal.jsonl"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = pexen("resume", cwd=tree)
    assert done.returncode == 3
    assert "the journal is damaged" in done.stderr
    assert "journal.jsonl:" in done.stderr
    assert "note: damaged: line" in pexen("status", cwd=tree).stdout


def test_a_torn_record_is_a_notice(killed):
    with (killed / ".pexen" / "latest" / "journal.jsonl").open("ab") as file:
        file.write(b'{"seq":99,"crc":"00')
    assert "part of a record" in pexen("status", cwd=killed).stdout
    assert pexen("resume", cwd=killed).returncode == 0


def test_clean_keeps_what_is_asked_for_and_what_can_be_taken_up(killed):
    (killed / "b.sh").unlink()
    (killed / "c.sh").unlink()
    for _ in range(3):
        assert pexen("run", cwd=killed).returncode == 0
    names = sorted(os.listdir(killed / ".pexen" / "runs"))
    done = pexen("clean", "--keep", "1", cwd=killed)
    assert done.stdout.splitlines() == [*names[1:3], "2 runs removed", "1 kept, it can be taken up (--resumable)"]
    assert pexen("clean", "--keep", "1", "--resumable", cwd=killed).stdout.splitlines() == [names[0], "1 run removed"]


def test_how_long_it_was_going_without_what_lies_between():
    """The sum over its sessions: of one that was killed, until the last that is known of it."""
    killed, ended, last = (Session({"at": at}) for at in (100.0, 1000.0, 5000.0))
    killed.left["x"] = Start("x", 1, 1, 130.0)
    ended.end = {"how": "stopped", "at": 1010.0}
    results = [
        SimpleNamespace(start=start, duration=took) for start, took in ((100, 20), (1000, 5), (5000, 2.5), (0, 0))
    ]
    record = SimpleNamespace(sessions=[killed, ended, last], results=lambda: results)
    assert lasted(record) == 30.0 + 10.0 + 2.5
