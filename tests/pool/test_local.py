"""LocalPool: each task in the right pool, which is there only when it is needed.

What holds for every pool is in ``tests/contract``; that no more than ``workers`` run at once is the run's doing as well.
"""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pexen
from pexen.errors import PoolError
from pexen.model.result import Pickled
from pexen.pool.inline import InlinePool
from pexen.pool.local import LocalPool
from pexen.pool.thread import ThreadPool
from tests.contract.mailbox import BOUND
from tests.pool.box import Box


def opened(pool: LocalPool) -> Box:
    box = Box(pool)
    pool.open(box)
    return box


def print_and_return_thread() -> tuple[int, str]:
    print("printed")
    return os.getpid(), threading.current_thread().name


@pytest.mark.parametrize("callables", ["thread", "process"])
def test_each_task_goes_to_the_right_pool(callables) -> None:
    pool = LocalPool(2, callables=callables, capture=True)
    box = opened(pool)
    value = box.run(print_and_return_thread).value
    shell = box.run("echo $PPID")
    pool.close()
    pid, thread = value.load() if isinstance(value, Pickled) else value
    assert (pid == os.getpid()) == (callables == "thread")
    assert thread.startswith("pexen-thread") == (callables == "thread")
    assert shell.output is not None
    assert int(shell.output.read()) == os.getpid()
    box.events.clear()  # a closed ProcessPool still knows its mailbox


def test_a_given_pool_is_opened_and_closed_and_says_how_many_workers() -> None:
    given = ThreadPool(3, spare=5)
    pool = LocalPool(callables=given)
    assert (pool.workers, pool.capacity) == (3, 8)
    for _ in range(2):
        box = opened(pool)
        assert box.run(lambda: 1).value == 1
        pool.close()
        assert given._mailbox is None
    assert LocalPool(4, callables=given).workers == 4
    assert LocalPool().workers >= 1


def test_a_misspelt_kind_of_workers() -> None:
    with pytest.raises(PoolError, match="did you mean 'process'"):
        LocalPool(callables="processes")


LAZY = """
import sys, threading, pexen
assert pexen.run([{tasks}], workers=2).ok
print(sorted(name for name in sys.modules if name in {modules}))
"""
MODULES = {"pexen.pool.command", "pexen.pool.process", "pexen.pool.thread", "ctypes", "subprocess", "multiprocessing"}


@pytest.mark.parametrize(
    ("tasks", "needed"),
    [
        ("pexen.command('true'), pexen.command('true', 'again')", ["ctypes", "pexen.pool.command"]),
        ("lambda: 1, lambda: 2", ["pexen.pool.thread"]),
    ],
)
def test_what_a_run_does_not_need_is_not_even_imported(tasks, needed) -> None:
    script = LAZY.format(tasks=tasks, modules=MODULES)
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == f"{needed}\n", done.stderr


@pytest.mark.parametrize("capture", [True, False])
def test_output_and_capture_are_those_of_both_pools(tmp_path, capfd, capture) -> None:
    pool = LocalPool(2, callables="process", output=tmp_path, capture=capture)
    box = opened(pool)
    outputs = [box.run(item).output for item in (print_and_return_thread, "echo printed")]
    pool.close()
    kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
    if capture:
        assert [Path(output.path).name for output in outputs if output] == sorted(kept)
        assert list(kept.values()) == ["printed\n", "printed\n"]
        assert capfd.readouterr() == ("", "")
    else:
        assert outputs == [None, None]
        assert kept == {}
        assert capfd.readouterr() == ("printed\nprinted\n", "")


def test_an_inline_pool_is_driven_through_it() -> None:
    pool = LocalPool(callables=InlinePool())
    assert pool.driven
    assert not LocalPool().driven
    assert not pool.has_queued()
    assert not pool.run_queued()
    box = opened(pool)
    attempt = box.submit(threading.get_ident)
    assert box.run("true").status == "passed"
    assert pool.has_queued()
    assert pool.run_queued()
    assert box.ended()[attempt].value == threading.get_ident()
    pool.close()


def test_a_pool_that_cannot_be_opened_is_the_error_of_each_task() -> None:
    pool = LocalPool(2)
    box = opened(pool)
    assert box.run("true").status == "passed"  # what is imported late is here now
    pool.close()
    box = opened(pool)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        attempts = [box.submit("true") for _ in range(3)]
        outcomes = [box.wait_for(attempt) for attempt in attempts]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {(one.status, one.started) for one in outcomes} == {("error", 0)}
    assert all(one.reason.startswith("cannot start: [Errno 24]") for one in outcomes)
    assert box.run("true").status == "passed"
    pool.close()


@pytest.mark.parametrize("callables", ["thread", "process"])
def test_never_more_than_the_workers_run_in_a_mix(tmp_path, callables) -> None:
    log = tmp_path / "log"

    def note() -> None:
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for sign in (b"+\n", b"-\n"):
            os.write(fd, sign)
        os.close(fd)

    tasks = [
        pexen.Task(note, f"callable{number}")
        if number % 7 < 4
        else pexen.command(f"echo + >> {log}; sleep 0.003; echo - >> {log}", f"command{number}")
        for number in range(200)
    ]
    assert pexen.run(tasks, pool=LocalPool(3, callables=callables)).ok
    running = most = 0
    for line in log.read_text().split():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert 1 < most <= 3
    assert running == 0
