"""Everything a task can do, in every pool: what becomes of it, in time, and that the next task is none the worse.

What would end or stop the runner itself is left out for the pools that run tasks in it (inline, thread); that nothing is
left after each test is seen to by the fixture for all tests.
"""

from __future__ import annotations

import errno
import os

import pytest

import pexen
from pexen import CommandPool, InlinePool, ProcessPool, Sched, Status, Task, ThreadPool
from pexen.model.result import Pickled
from pexen.pool import tree
from tests.contract import faults
from tests.contract.mailbox import Stopwatch

TIMEOUT, GRACE, SLOW = 0.5, 0.3, 1.0
BUSY = 4.0
"""Seconds more that a busy machine may take; the bound itself is asserted on the duration of the attempt."""

POOLS = {
    "inline": lambda out: InlinePool(output=out),
    "thread": lambda out: ThreadPool(2, output=out),
    "process-exec": lambda out: ProcessPool(2, output=out, capture=True, cap=100_000),
    "process-forkserver": lambda out: ProcessPool(2, start="forkserver", output=out, capture=True, cap=100_000),
    "command": lambda out: CommandPool(2, output=out, capture=True, cap=100_000),
}
ALL, PROCESSES = ("inline", "thread", "process-exec", "process-forkserver"), ("process-exec", "process-forkserver")

PYTHON = [
    (faults.raises, ALL, "error", "LookupError: lost"),
    (faults.exits_by_exception, ALL, "error", "SystemExit"),
    (faults.interrupts_itself, ALL, "error", "KeyboardInterrupt"),
    (faults.raises_what_cannot_be_read, ALL, "error", "1 2"),
    (faults.exits, PROCESSES, "crashed", "exit code 0"),
    (faults.aborts, PROCESSES, "crashed", "SIGABRT"),
    (faults.segfaults, PROCESSES, "crashed", "SIGSEGV"),
    (faults.kills_itself, PROCESSES, "crashed", "SIGKILL"),
    (faults.loops, PROCESSES, "timeout", "timeout of"),
    (faults.is_deaf, PROCESSES, "timeout", "did not stop when asked"),
    (faults.stops_itself, PROCESSES, "timeout", "timeout of"),
    (faults.leaves_a_child, PROCESSES, "warned", "1 process (sleep)"),
    (faults.leaves_a_session, PROCESSES, "warned", "1 process (sleep)"),
    (faults.leaves_a_daemon, PROCESSES, "warned", "1 process (sleep)"),
    (faults.leaves_a_nameless_daemon, PROCESSES, "warned", "1 process (sleep)"),
    (faults.closes_everything, PROCESSES, "passed", ""),
    (faults.prints_much, PROCESSES, "passed", ""),
    (faults.returns_the_unsendable, PROCESSES, "error", "return value cannot be pickled"),
]  # fmt: skip
HIDDEN = "env -i setsid"
SHELL = [
    ("exit 3", "failed", "exit code 3"),
    ("kill -ABRT $$", "crashed", "SIGABRT"),
    ("kill -9 $$", "crashed", "SIGKILL"),
    ("while :; do :; done", "timeout", "timeout of"),
    ("trap '' TERM; while :; do :; done", "timeout", "did not stop when asked"),
    ("kill -STOP $$; exit 0", "timeout", "timeout of"),
    ("sleep 1000 & exit 0", "warned", "1 process"),
    ("setsid sleep 1000 & exit 0", "warned", "1 process"),
    ("setsid sh -c 'sleep 1000 & exit 0' & wait", "warned", "1 process"),
    (f"{HIDDEN} sh -c 'sleep 1000 & exit 0' & wait", "warned", "1 process"),
    ("exec 0<&- 1>&- 2>&- 7>&-; exit 0", "passed", ""),
    ("head -c 20000000 /dev/urandom", "passed", ""),
    ("/nonexistent/program", "failed", "exit code 127"),
]  # fmt: skip
STARTS = [
    (["/nonexistent/program"], "ENOENT"), (["/etc/passwd"], "EACCES"), (["sh", "-c", "x" * 3_000_000], "E2BIG"),
    (["echo", "a\0b"], "NUL"),
]  # fmt: skip


def check(task, pool, status, why):
    """Run the task and then an ordinary one; return the first one's result."""
    executes = isinstance(pool, CommandPool)
    after = pexen.command("exit 0", path="after") if executes else Task(faults.fine, "after")
    with Stopwatch(TIMEOUT + GRACE + SLOW + 30):
        results = Sched([task, after.replace(after=f"/{task.name}")], pool=pool).wait()
    result = results[task.name]
    assert result.status == status, (result.reason, result.error, result.evidence)
    assert why in f"{result.reason} {result.error} {result.leaked}"
    assert results["after"].status is Status.PASSED
    if status == "timeout":
        assert result.duration < TIMEOUT + GRACE + SLOW + BUSY
        assert "processes:" in result.evidence
    return result


@pytest.mark.parametrize(
    ("fault", "pool", "status", "why"),
    [(fault, pool, status, why) for fault, pools, status, why in PYTHON for pool in pools],
    ids=lambda value: getattr(value, "__name__", None) or str(value).split(":")[0][:20],
)
def test_a_python_task(fault, pool, status, why, tmp_path):
    limits = {"timeout": TIMEOUT, "grace": GRACE} if status == "timeout" else {"timeout": 50}
    result = check(Task(fault, "a", **limits), POOLS[pool](tmp_path), status, why)
    if status == "warned":
        assert not os.path.exists(f"/proc/{result.value}/cmdline") or not is_alive(result.value)
    if fault is faults.prints_much:
        assert len(result.output_bytes) <= 100_200
        assert result.output_bytes.startswith(b"\x00\xff\xfe")


@pytest.mark.parametrize(("script", "status", "why"), SHELL, ids=[script[:30] for script, *_ in SHELL])
def test_an_executable(script, status, why, tmp_path):
    if HIDDEN in script and not tree.slack(os.getppid()):
        status, why = "passed", ""  # nobody may read what would tell; the guardian of `pexen run` ends it
    limits = {"timeout": TIMEOUT, "grace": GRACE} if status == "timeout" else {"timeout": 50}
    result = check(pexen.command(script, path="a", **limits), POOLS["command"](tmp_path), status, why)
    assert len(result.output_bytes) <= 100_200


@pytest.mark.parametrize(("argv", "why"), STARTS, ids=[why for _, why in STARTS])
def test_an_executable_that_cannot_be_started(argv, why, tmp_path):
    result = check(pexen.command(argv, path="a"), POOLS["command"](tmp_path), "error", "cannot start")
    assert why in result.reason
    assert why == "NUL" or hasattr(errno, why)


@pytest.mark.parametrize("pool", PROCESSES)
def test_garbage_on_every_descriptor_never_hangs(pool, tmp_path):
    results = Sched(
        [Task(faults.prints_on_everything, "a", timeout=20), Task(faults.fine, "b", after="/a")],
        pool=POOLS[pool](tmp_path),
    ).wait()
    assert results["a"].status in {"passed", "crashed"}
    assert results["b"].status is Status.PASSED


@pytest.mark.parametrize("pool", PROCESSES)
def test_one_that_kills_its_worker_every_time_is_tried_so_often_and_no_more(pool, tmp_path):
    result = check(Task(faults.kills_itself, "a", retries=2), POOLS[pool](tmp_path), "crashed", "SIGKILL")
    assert [str(one.status) for one in result.attempts] == ["crashed"] * 3


def test_a_thread_is_given_up_honestly():
    import threading

    let_go = threading.Event()
    results = {}
    tasks = [Task(let_go.wait, "deaf", args=[60], timeout=0.2, grace=0.1, claims="it"), Task(faults.fine, "b")]
    for result in Sched(tasks, pool=ThreadPool(1)).run():
        results[result.path] = result
        if result.path == "deaf":
            let_go.set()
    assert results["deaf"].status is Status.TIMEOUT
    assert "still runs" in results["deaf"].reason
    assert "killed" not in results["deaf"].reason
    assert "stacks:" in results["deaf"].evidence
    assert results["b"].status is Status.PASSED


def is_alive(value) -> bool:
    pid = value.load() if isinstance(value, Pickled) else value
    process = tree.look(pid)
    return process is not None and process.is_alive
