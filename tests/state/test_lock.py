"""One writer at a time: the second is told who, and nothing that a writer leaves behind keeps the lock."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pexen.errors import StateError
from pexen.state import lock as lock_module
from pexen.state.journal import Journal
from pexen.state.lock import Holder, holder
from pexen.state.reader import read
from tests.state.hand import Watched, run

WRITER = """
import os, subprocess, sys
sys.path.insert(0, {source!r})
from pexen.state.journal import Journal
journal = Journal(sys.argv[1], durability="process")
journal.append({{"kind": "run", "schema": 1}})
journal.flush()
{then}
print("ready", flush=True)
sys.stdin.read()
"""
NOTHING = ""
EXECUTES = "subprocess.Popen(['cat'], close_fds=False)"
FORKS = """
if not os.fork():
    assert journal.append({"kind": "x"}) == 0 and not journal.flush()
    journal.push()
    journal.close()
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
"""
FORKS_IN_C = """
import ctypes
libc = ctypes.PyDLL(None)  # keeps the GIL, which the child could not take: who has it may be no more
while journal.wanted != 1:
    os.sched_yield()  # until the journal's thread sleeps and wants it neither
if not libc.fork():
    libc.read(0, ctypes.create_string_buffer(1), 1)
    libc._exit(0)
"""


@contextmanager
def writer(folder: Path, then: str = NOTHING) -> Iterator[subprocess.Popen]:
    """Run a process that writes a journal; at the end nothing of it is left."""
    source = str(Path(lock_module.__file__).parents[2])
    code = WRITER.format(source=source, then=then)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = ""
    while "ready" not in said or ("forked" in then and "forked" not in said):
        said += (line := process.stdout.readline())
        assert line
    try:
        yield process
    finally:
        process.stdin.close()
        assert "Error" not in process.stdout.read()  # and waits for whoever has inherited it
        process.stdout.close()
        process.wait()


def test_a_second_writer_is_refused_and_told_who_is_the_first(tmp_path: Path) -> None:
    with writer(tmp_path) as first:
        before = (tmp_path / "journal.jsonl").read_bytes()
        with pytest.raises(StateError, match="another process is writing this journal") as caught:
            Journal(tmp_path)
        facts = dict(caught.value.facts)
        assert facts["writer"].startswith(f"process {first.pid} on {os.uname().nodename}, since ")
        assert facts["journal"] == str(tmp_path)
        assert (tmp_path / "journal.jsonl").read_bytes() == before
        assert holder(str(tmp_path)).pid == first.pid
    assert holder(str(tmp_path)) is None
    Journal(tmp_path).close()


def test_a_second_writer_of_the_same_process_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path):
        with pytest.raises(StateError, match=f"process {os.getpid()} "):
            Journal(tmp_path)
        assert holder(str(tmp_path)).pid == os.getpid()
    with Journal(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == ["journal.jsonl"]


@pytest.mark.parametrize("then", [NOTHING, EXECUTES, FORKS, FORKS_IN_C], ids=["alone", "exec", "fork", "fork in C"])
def test_a_killed_writer_leaves_no_lock_whatever_lives_on(tmp_path: Path, then: str) -> None:
    with writer(tmp_path, then) as first:
        first.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert holder(str(tmp_path)) is None
        with Journal(tmp_path) as journal:
            assert journal.last == 1
            assert holder(str(tmp_path)).pid == os.getpid()
            assert journal.append({"kind": "x"}) == 2
    assert read(tmp_path).last == 2


@pytest.mark.parametrize("then", [EXECUTES, FORKS, FORKS_IN_C], ids=["exec", "fork", "fork in C"])
def test_the_writer_keeps_its_lock_whatever_its_children_do(tmp_path: Path, then: str) -> None:
    with writer(tmp_path, then), pytest.raises(StateError, match="another process"):
        Journal(tmp_path)


@pytest.mark.parametrize("other", [{"boot": "another"}, {"space": "another"}, {"boot": ""}])
def test_a_holder_that_cannot_be_looked_at_counts(tmp_path: Path, other: dict[str, str]) -> None:
    held = Holder.here()._replace(pid=4_000_000, **other)
    (tmp_path / "lock").write_text(json.dumps(held._asdict()))
    with (tmp_path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="process 4000000"):
            Journal(tmp_path)
        assert holder(str(tmp_path)) == held


@pytest.mark.parametrize("text", ["", "rubbish", "{}", "[1]", '{"pid": "x"}'])
def test_a_lock_that_does_not_say_whose_it_is_counts_as_long_as_it_is_held(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    with (tmp_path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="writer: unknown"):
            Journal(tmp_path)
    with Journal(tmp_path):
        pass


def test_a_process_with_the_same_number_is_not_the_holder() -> None:
    here = Holder.here()
    assert not here.is_gone()
    assert here._replace(start=here.start + 1).is_gone()
    assert here._replace(pid=4_000_000).is_gone()
    assert "since" in str(here._replace(since=float("inf")))


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="cannot be opened"):
        Journal(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_where_there_are_no_locks_whoever_is_named_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(fd, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with Journal(tmp_path):
        with pytest.raises(StateError, match="another process"):
            Journal(tmp_path)
        named = json.loads((tmp_path / "lock").read_text())
    Journal(tmp_path).close()
    for change, refused in [
        ({"pid": 4_000_000}, False),
        ({"boot": "earlier"}, False),
        ({"host": "x", "boot": "y"}, True),
    ]:
        (tmp_path / "lock").write_text(json.dumps({**named, **change}))
        if refused:
            with pytest.raises(StateError, match="another process"):
                Journal(tmp_path)
        else:
            Journal(tmp_path).close()


def test_a_guard_that_is_never_given_back_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "_PAUSE", 0)
    (tmp_path / "journal.jsonl").touch()
    with (tmp_path / "journal.jsonl").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="just opening"):
            Journal(tmp_path)


def test_the_lock_is_in_place_only_when_it_is_complete(tmp_path: Path) -> None:
    steps, seen = Watched(), []
    steps.before["write"] = lambda *_: seen.append((tmp_path / "lock").exists())
    steps.after["replace"] = lambda _source, target: seen.append(json.loads(Path(target).read_text())["pid"])
    with Journal(tmp_path, steps=steps):
        pass
    assert seen == [False, os.getpid()]


def test_what_the_lock_leaves_when_it_cannot_be_taken(tmp_path: Path) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    steps = Watched()
    steps.before["write"] = full
    with pytest.raises(StateError, match="cannot be opened: No space left on device"):
        Journal(tmp_path, steps=steps)
    with Journal(tmp_path) as journal:
        journal.append(run())
