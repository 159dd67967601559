"""The check that every test leaves nothing behind goes red for each kind of leak."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.leaks import Belongings, leaks_since

HERE = Path(__file__).parent
SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


def test_nothing_left_is_nothing_found() -> None:
    assert leaks_since(Belongings.now()) == {}


def test_a_running_child_is_found() -> None:
    before = Belongings.now()
    with subprocess.Popen(SLEEPER) as child:
        assert str(child.pid) in leaks_since(before)["children"][0]
        child.kill()
    assert leaks_since(before) == {}


def test_a_child_that_ended_and_was_not_reaped_is_found() -> None:
    before = Belongings.now()
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert str(child.pid) in leaks_since(before)["children"][0]


def test_a_thread_is_found_daemon_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.leaks.JOIN", 0.01)
    before, stop = Belongings.now(), threading.Event()
    for daemon in (True, False):
        threading.Thread(target=stop.wait, daemon=daemon).start()
    assert len(leaks_since(before)["threads"]) == 2
    stop.set()
    monkeypatch.undo()
    assert leaks_since(before) == {}


def test_a_descriptor_is_found(tmp_path: Path) -> None:
    before = Belongings.now()
    number = os.open(tmp_path, os.O_RDONLY)
    assert leaks_since(before) == {"descriptors": [f"{number} -> {tmp_path}"]}
    os.close(number)
    assert leaks_since(before) == {}


def test_a_descriptor_that_only_a_cycle_holds_is_none() -> None:
    class Holder:
        def __init__(self) -> None:
            self.me, self.number = self, os.open("/", os.O_RDONLY)

        def __del__(self) -> None:
            os.close(self.number)

    before = Belongings.now()
    Holder()
    assert leaks_since(before) == {}


def test_a_temporary_file_is_found() -> None:
    before = Belongings.now()
    with tempfile.NamedTemporaryFile(prefix="pexen-") as file:
        assert leaks_since(before)["files"] == [file.name]
    assert leaks_since(before) == {}


@pytest.mark.leaks("files")  # what the mark is for; the folder goes with the session's
def test_a_marked_test_may_leave_what_it_says() -> None:
    tempfile.mkdtemp(prefix="pexen")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.open('/', os.O_RDONLY)", "descriptors"),
        ("subprocess.Popen(['sleep', '1000'])", "children"),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", "threads"),
        ("tempfile.mkdtemp(prefix='pexen')", "files"),
    ],
)
def test_a_test_that_leaks_fails(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "conftest.py").write_bytes((HERE / "conftest.py").read_bytes())
    (tmp_path / "test_it.py").write_text(
        f"import os, subprocess, tempfile, threading\nkeep = []\ndef test(): keep.append({body})\n"
    )
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {HERE.parent}\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "tmp", tmp_path],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "the test left behind " + said in run.stdout
    assert "1 passed, 1 error" in run.stdout
