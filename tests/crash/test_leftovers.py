"""What a killed runner has in temporary folders is removed: by its guardian, by itself, or by whoever takes up its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pexen.cli import isolate
from pexen.errors import PexenError
from pexen.pool import files
from tests.cli.tools import DEADLINE, environment, is_up, make_gate, pexen, script, write

WAITS = "[ -e go ] || { echo up > a.up; read line < a.gate; }"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write(tmp_path / "pexen.toml", "")
    (tmp_path / "tmp").mkdir()
    make_gate(tmp_path, "a")
    return tmp_path


def started(tree: Path, **streams: int) -> tuple[subprocess.Popen[str], int]:
    """Start a run and wait until something in it waits at the gate; return the guardian and the runner's number."""
    run = subprocess.Popen(
        [sys.executable, "-m", "pexen", "run", "-q"],
        cwd=tree,
        env=environment(TMPDIR=str(tree / "tmp")),
        text=True,
        **streams,
    )
    is_up(tree, "a")
    return run, int(Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0])


def kill(*pids: int) -> None:
    """Kill processes that are ours, and return when they have ended."""
    pidfds = [os.pidfd_open(pid) for pid in pids]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pidfd in pidfds:
        isolate.select.select([pidfd], [], [], DEADLINE)
        os.close(pidfd)


def left(tree: Path) -> list[str]:
    return os.listdir(tree / "tmp")


@pytest.mark.parametrize("who", ["runner", "guardian"])
def test_of_a_killed_run_nothing_stays_in_temporary_folders(tree, who):
    script(tree / "a.sh", WAITS)
    run, runner = started(tree, stderr=subprocess.PIPE)
    assert [name.startswith("pexen-output-") for name in left(tree)] == [True]
    pidfd = os.pidfd_open(runner)
    kill(runner if who == "runner" else run.pid)
    run.communicate(timeout=DEADLINE)  # whoever is left has ended as well
    isolate.select.select([pidfd], [], [], DEADLINE)
    os.close(pidfd)
    assert left(tree) == []


def test_who_takes_up_a_run_removes_what_nobody_was_left_to_remove(tree):
    script(tree / "a.sh", WAITS)
    run, runner = started(tree, stderr=subprocess.DEVNULL)
    kill(run.pid, runner)
    run.wait(DEADLINE)
    (other,) = left(tree)
    (tree / "tmp" / "pexen-output-1-2-ff").mkdir()
    (tree / "go").touch()
    done = pexen("resume", cwd=tree, TMPDIR=str(tree / "tmp"))
    assert done.returncode == 0, done.stderr
    assert left(tree) == ["pexen-output-1-2-ff"], (other, "another run's is none of our business")


def test_a_link_and_what_belongs_to_others_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "pexen-output-7-ab-0").symlink_to(tmp_path / "mine")
    (tmp_path / "pexen-output-7-ab-1").mkdir()
    (tmp_path / "pexen-output-7-abc-2").mkdir()
    before = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: before + 1)
        files.remove_left("1-0/7-ab")
    assert len(os.listdir(tmp_path)) == 4
    for nothing in ("", "/", "w.7", ".*", "7-ab/w.7"):
        files.remove_left(nothing)
    assert len(os.listdir(tmp_path)) == 4
    files.remove_left("1-0/7-ab")
    assert sorted(os.listdir(tmp_path)) == ["mine", "pexen-output-7-ab-0", "pexen-output-7-abc-2"]
    assert os.listdir(tmp_path / "mine") == ["file"]


@pytest.mark.parametrize(
    ("lineage", "found"),
    [("", "pexen-x-"), ("7-ab", "pexen-x-7-ab-"), ("7-ab/8-cd", "pexen-x-8-cd-"), ("7-ab/w.9", "pexen-x-7-ab-")],
)
def test_names_say_whose_they_are(monkeypatch, lineage, found):
    monkeypatch.setenv("PEXEN_LINEAGE", lineage)
    assert files.prefix("x") == found


@pytest.mark.parametrize("who", ["runner", "both"])
def test_who_collects_for_a_killed_runner_dies_without_a_word(tree, who):
    write(tree / "pexenfile.py", "open('a.up', 'w').write('up\\n')\nopen('a.gate').read()\n")
    run, runner = started(tree, stderr=subprocess.PIPE)
    kill(*([runner] if who == "runner" else [run.pid, runner]))
    _, said = run.communicate(timeout=DEADLINE)  # at its end, nobody is left who has this pipe
    if who == "runner":  # its guardian may be the one to end the child, and then says so
        said = said.removeprefix("pexen: ended what the run had left: 1 process (python)\n")
        assert left(tree) == []
    assert said == ""


def test_who_collects_for_one_that_has_gone_already_says_nothing(tmp_path):
    code = f"from pexen.cli.isolate import answer\nanswer({str(tmp_path)!r}, 'no.such:thing', '', 1 << 22)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_ctrl_c_in_the_moment_of_starting_leaves_no_child_behind(monkeypatch, tmp_path, capfd):
    started = []
    starting = subprocess.Popen

    def interrupted(*arguments, **options):
        started.append(starting(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        isolate.isolate("time:sleep", "1000", 30)
    assert started[0].wait(DEADLINE) == -signal.SIGKILL
    assert capfd.readouterr() == ("", "")
    monkeypatch.undo()
    with suppress(PexenError):
        isolate.isolate("no.such:thing", "", 30)
    assert "ModuleNotFoundError" in capfd.readouterr().err, "what goes wrong otherwise is said"
