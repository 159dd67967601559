"""Streams that other processes read: started in any way, killed while they hold something, left behind by the runner."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest

import pexen
from pexen import PexenError, Sched, Status, Task, ThreadPool
from pexen.pool import wire
from pexen.sched import remote

PATIENCE = 30.0
ROOT = Path(__file__).parents[2]


def nothing() -> None:
    pass


def tasks(count):
    return [Task(nothing, f"t{number}") for number in range(count)]


class Program:
    """A process of its own that runs a program of reader.py."""

    def __init__(self, *arguments, **environ):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.real.reader", *arguments],
            cwd=ROOT, env={**os.environ, **environ}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def heard(self):
        """Return what it says next."""
        return self.process.stdout.readline().strip()

    def told(self, word=""):
        """Tell it what to do with what it holds; return what it says then."""
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.heard()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def rest(self):
        """Return everything that it is still given, and how that ends."""
        found = []
        while (said := self.told()) and said != "end" and not said.startswith("error"):
            found.append(said)
        return found, said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def reader_of(stream):
    return Program("read", pickle.dumps(stream).hex())


def read(stream):
    """Be a task."""
    return [result.path for result in stream]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_any_start_method(method):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.real.reader", "many", method],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout)
    both = [one for found in told["found"] for one in found]
    assert told["exits"] == [0, 0]
    assert Counter(path for path, _, _ in both) == Counter(["gate", *(f"t{number}" for number in range(500))])
    assert not any(redelivered for _, redelivered, _ in both)


def test_what_a_killed_reader_held_goes_to_another_and_what_it_had_dealt_with_does_not():
    run = Sched(tasks(100), pool=ThreadPool(2)).start()
    with run.stream() as stream, reader_of(stream) as first:
        seen = [first.heard(), *(first.told() for _ in range(40))]
        first.kill()
        with reader_of(stream) as second:
            found = [second.heard()]
            rest, end = second.rest()
            found += rest
    assert end == "end"
    assert [one for one in found if "*" in one] == [seen[-1] + "*"]
    assert sorted([*seen[:-1], *(one.rstrip("*") for one in found)]) == sorted(f"t{number}" for number in range(100))


@pytest.mark.parametrize(("how", "again"), [("close", []), ("break", ["t0*"]), ("raise", ["t0*"])])
def test_who_leaves_hands_back_what_it_holds_unless_it_closes_its_reader(how, again):
    gate = threading.Event()
    run = Sched([Task(nothing, "t0"), Task(gate.wait, "gate", requires="/t0")], pool=ThreadPool(1)).start()
    with run.stream() as stream, reader_of(stream) as first:
        assert first.heard() == "t0"
        with reader_of(stream) as second:
            assert first.told(how) == ""
            gate.set()
            found = [second.heard()]
            rest, end = second.rest()
    assert end == "end"
    assert found + rest == [*again, "gate"]


def test_the_end_waits_for_what_a_process_holds():
    run = Sched(tasks(1), pool=ThreadPool(1)).start()
    with run.stream() as stream, reader_of(stream) as process:
        assert process.heard() == "t0"
        run.wait(PATIENCE)
        found = []
        thread = threading.Thread(target=lambda: found.extend((one.path, one.redelivered) for one in stream))
        thread.start()
        process.kill()
        thread.join(PATIENCE)
        assert found == [("t0", True)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer Pythons warn of forks while there are threads
def test_a_fork_of_a_killed_reader_does_not_keep_what_it_held():
    run = Sched(tasks(1), pool=ThreadPool(1)).start()
    with run.stream() as stream:
        told, tell = os.pipe()
        pid = os.fork()
        if not pid:  # the fork of the fork has the socket as well, and stays
            try:
                reader = iter(stream)
                next(reader)
                if child := os.fork():
                    os.write(tell, str(child).encode())
                signal.pause()
            finally:
                os._exit(1)
        child = int(os.read(told, 100))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        try:
            assert [(one.path, one.redelivered) for one in stream] == [("t0", True)]
        finally:
            os.kill(child, signal.SIGKILL)
    os.close(told)
    os.close(tell)


def test_a_bounded_stream_holds_back_what_another_process_does_not_read():
    started = []
    gate = threading.Event()
    sched = Sched([Task(gate.wait, "gate", priority=-1)], pool=ThreadPool(1, spare=0))
    sched.add(Task(lambda: started.append(1), f"t{number}") for number in range(50))
    run = sched.start()
    with run.stream(maxsize=3) as stream, reader_of(stream) as process:
        gate.set()
        seen = [process.heard()]
        while len(seen) < 51:
            assert len(started) <= len(seen) + 3
            seen.append(process.told())
        assert process.told() == "end"
    assert Counter(seen) == Counter(["gate", *(f"t{number}" for number in range(50))])


def test_slow_readers_share_what_there_is():
    run = Sched(tasks(20), pool=ThreadPool(1)).start()
    results = run.wait(PATIENCE)
    with run.stream() as stream, reader_of(stream) as first, reader_of(stream) as second:
        assert {first.heard(), second.heard()} == set(list(results)[:2])


def test_large_values_come_whole_and_stay_pickled_until_they_are_wanted():
    run = Sched([Task(bytes, f"t{number}", args=(5 << 20,)) for number in range(3)], pool=ThreadPool(1)).start()
    with run.stream() as stream:
        results = list(pickle.loads(pickle.dumps(stream)))
        assert [type(one.carried).__name__ for one in results] == ["Pickled"] * 3
        assert [one.value for one in results] == [bytes(5 << 20)] * 3


def test_a_hostile_value_harms_nobody():
    class Hostile:
        def __reduce__(self):
            raise SystemExit(3)

    run = Sched([Task(Hostile, "t0"), *tasks(3)[1:]], pool=ThreadPool(1)).start()
    with run.stream() as stream:
        results = {one.path: one for one in pickle.loads(pickle.dumps(stream))}
    assert sorted(results) == ["t0", "t1", "t2"]
    assert results["t0"].value is None


def test_processes_are_told_how_a_run_has_failed():
    run = Sched(tasks(1), pool=ThreadPool(1)).start()
    with run.stream() as stream:
        run.wait(PATIENCE)
        with reader_of(stream) as process:
            assert process.heard() == "t0"
            stream.end(pexen.PoolError("broken on purpose"))
            assert process.told() == "error: broken on purpose"


def test_who_comes_after_the_end_finds_it():
    stream = Sched(tasks(1), pool=ThreadPool(1)).start().stream()
    pickled = pickle.dumps(stream)
    assert [one.path for one in stream] == ["t0"]
    stream.close()
    assert list(pickle.loads(pickled)) == []
    assert list(pickle.loads(pickle.dumps(stream))) == []


@pytest.mark.parametrize("is_forked", [False, True])
def test_readers_are_told_when_the_runner_is_gone(is_forked, tmp_path):
    with Program("run", TMPDIR=str(tmp_path), PYTHONWARNINGS="ignore") as runner:
        stream = pickle.loads(bytes.fromhex(runner.heard()))
        reader = iter(stream)
        assert next(reader).path == "t"
        child = int(runner.told()) if is_forked else 0
        runner.kill()
        with pytest.raises(PexenError, match="the runner is gone"):
            next(reader)
        if child:  # it has had the sockets all the time
            os.kill(child, signal.SIGKILL)
        with pytest.raises(PexenError, match="the runner is gone"):
            iter(stream)
        assert list(reader) == []


def test_a_program_that_is_a_task_cannot_read_the_stream_of_its_run():
    gate = threading.Event()
    sched = Sched([Task(gate.wait, "gate")], pool=pexen.LocalPool(2, callables="thread", capture=True))
    run = sched.start()
    with run.stream() as stream:
        argv = [sys.executable, "-m", "tests.real.reader", "read", pickle.dumps(stream).hex()]
        sched.add([pexen.command(argv, path="t", cwd=ROOT)])
        for result in run:
            if result.path == "t":
                break
        gate.set()
        run.wait(PATIENCE)
    assert "own run" in result.output
    assert result.status is Status.PASSED


def test_strangers_are_refused():
    gate = threading.Event()
    run = Sched([Task(gate.wait, "t")], pool=ThreadPool(1)).start()
    with run.stream() as stream:
        handle = pickle.loads(pickle.dumps(stream))
        assert Path(handle._folder).stat().st_mode & 0o777 == 0o700
        handle._token = b"guessed"
        with pytest.raises(PexenError, match="not a reader"):
            iter(handle)
        for noise in (
            b"GET / HTTP/1.1\r\n\r\n" * 9,
            wire.frame(remote.HELLO, 0, b"nonsense"),
            wire.frame(remote.DEALT, 9),
        ):
            with socket.socket(socket.AF_UNIX) as sock:
                with remote.folder_of(handle._folder) as folder:
                    sock.connect(f"{folder}/{remote.NAME}")
                sock.sendall(noise)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1 << 16):
                    pass
        gate.set()
        assert [one.path for one in stream] == ["t"]


def test_nothing_is_left_when_everything_was_read():
    stream = Sched(tasks(3), pool=ThreadPool(1)).start().stream()
    handle = pickle.loads(pickle.dumps(stream))
    assert len(list(handle)) == 3
    stream.close()
    assert not os.path.exists(handle._folder)
    assert not [thread for thread in threading.enumerate() if thread.name == "pexen-streams"]


def test_a_long_temporary_folder_will_do(tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with Sched(tasks(1), pool=ThreadPool(1)).start().stream() as stream:
        assert [one.path for one in pickle.loads(pickle.dumps(stream))] == ["t0"]


def test_closing_a_stream_does_not_wait_for_who_reads_it():
    run = Sched(tasks(3), pool=ThreadPool(1)).start()
    stream = run.stream()
    with reader_of(stream) as process:
        process.heard()
        stream.close()
        rest, end = process.rest()
    assert end == "end"
    assert len(rest) <= 2
