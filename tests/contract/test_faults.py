"""Everything a task can do, in every pool: what becomes of it, in time, and that the next task is none the worse.

What would end or stop the runner itself is left out for the pools that run tasks in it (inline, thread); that nothing is
left after each test is seen to by the fixture for all tests.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import pexen
from pexen import AsyncPool, CommandPool, InlinePool, ProcessPool, Sched, Status, Task, ThreadPool
from pexen.model.result import Pickled
from pexen.pool import tree
from pexen.pool.member import Member
from tests.contract import faults
from tests.contract.mailbox import BOUND, Stopwatch
from tests.contract.strange import InCoroutines, Owning

TIMEOUT, GRACE, SLOW = 0.5, 0.3, 1.0
BUSY = 4.0
"""Seconds more that a busy machine may take; the bound itself is asserted on the duration of the attempt."""

POOLS = {
    "inline": lambda out: InlinePool(output=out),
    "thread": lambda out: ThreadPool(2, output=out),
    "async": lambda out: AsyncPool(2, output=out),
    "async-coroutines": lambda out: InCoroutines(2, output=out),
    "executor-threads": lambda out: Owning(ThreadPoolExecutor, 2, output=out),
    "process-exec": lambda out: ProcessPool(2, output=out, capture=True, cap=100_000),
    "process-forkserver": lambda out: ProcessPool(2, start="forkserver", output=out, capture=True, cap=100_000),
    "command": lambda out: CommandPool(2, output=out, capture=True, cap=100_000),
}
PROCESSES = ("process-exec", "process-forkserver")
ALL = ("inline", "thread", "async", "async-coroutines", "executor-threads", *PROCESSES)

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


EXCEPTIONS = [
    (faults.raises_its_own, "Own: mine"), (faults.raises_generator_exit, "GeneratorExit"),
    (faults.raises_a_group, "several (2 sub-exceptions)"), (faults.raises_the_unsendable, "Unsayable"),
]  # fmt: skip


@pytest.mark.parametrize("pool", ALL)
@pytest.mark.parametrize(("fault", "why"), EXCEPTIONS, ids=[fault.__name__ for fault, _ in EXCEPTIONS])
def test_every_kind_of_exception_is_only_the_task_s_error(fault, why, pool, tmp_path):
    check(Task(fault, "a"), POOLS[pool](tmp_path), "error", why)


@pytest.mark.parametrize("fault", [faults.loops, faults.is_deaf, faults.stops_itself], ids=lambda one: one.__name__)
@pytest.mark.parametrize("pool", PROCESSES)
def test_what_does_not_stop_is_ended_in_time(fault, pool, tmp_path):
    result = check(Task(fault, "a", timeout=TIMEOUT, grace=GRACE), POOLS[pool](tmp_path), "timeout", "timeout of")
    assert result.duration < TIMEOUT + GRACE + SLOW


ENDLESS = ["while :; do :; done", "trap '' TERM; while :; do :; done", "kill -STOP $$; exit 0"]


@pytest.mark.parametrize("script", ENDLESS)
def test_an_executable_that_does_not_stop_is_ended_in_time(script, tmp_path):
    task = pexen.command(script, path="a", timeout=TIMEOUT, grace=GRACE)
    result = check(task, POOLS["command"](tmp_path), "timeout", "timeout of")
    assert result.duration < TIMEOUT + GRACE + SLOW


LEAVING = [faults.leaves_a_child, faults.leaves_a_session, faults.leaves_a_daemon, faults.leaves_a_nameless_daemon]


@pytest.mark.parametrize("pool", PROCESSES)
@pytest.mark.parametrize("fault", LEAVING, ids=lambda one: one.__name__)
def test_what_a_python_task_leaves_is_dead_when_its_result_is_seen(fault, pool, tmp_path):
    for result in Sched([Task(fault, "a")], pool=POOLS[pool](tmp_path)).run():
        assert not is_alive(result.value)
        assert (result.status, result.leaked) == ("warned", "1 process (sleep)")


UP = "while ! grep -q sleep /proc/$!/comm; do :; done; echo $!"
"""Wait until the background process is the program, then tell its number."""
LEFT = [f"sleep 1000 & {UP}", f"setsid sleep 1000 & {UP}", f"setsid sh -c 'sleep 1000 & {UP}' & wait"]


@pytest.mark.parametrize("script", [*LEFT, f"{HIDDEN} sh -c 'sleep 1000 & {UP}' & wait"])
def test_what_an_executable_leaves_is_dead_when_its_result_is_seen(script, tmp_path):
    """All of them hold standard output open as well: nobody waits for it to be closed."""
    if HIDDEN in script and not tree.slack(os.getppid()):
        pytest.skip("nobody may read what would tell")
    for result in Sched([pexen.command(script, path="a")], pool=POOLS["command"](tmp_path)).run():
        assert not is_alive(int(result.output))
        assert (result.status, result.leaked) == ("warned", "1 process (sleep)")
        assert result.duration < SLOW


@pytest.mark.parametrize("start", ["exec", "forkserver"])
def test_the_next_task_does_not_see_what_one_has_changed(start, tmp_path):
    tasks = [Task(faults.state, "before"), Task(faults.changes_everything, "a", after="/before")]
    tasks.append(Task(faults.state, "after", after="/a"))
    results = Sched(tasks, pool=ProcessPool(1, start=start, output=tmp_path)).wait()
    assert results["a"].status is Status.PASSED
    assert results["after"].value == results["before"].value


@pytest.mark.parametrize("content", [b"#!/nonexistent/program\n", b"\x7fELF\x02\x01\x01" + b"\xff" * 100])
def test_a_program_that_the_kernel_refuses(content, tmp_path):
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(0o700)
    result = check(pexen.command([str(program)], path="a"), POOLS["command"](tmp_path / "out"), "error", "cannot start")
    assert "ENOENT" in result.reason or "ENOEXEC" in result.reason


def test_a_program_that_may_not_be_executed(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o600)
    pool = POOLS["command"](tmp_path / "out")
    assert "EACCES" in check(pexen.command([str(program)], path="a"), pool, "error", "cannot start").reason


@pytest.mark.parametrize("pool", [*PROCESSES, "command"])
def test_much_output_on_one_line_is_bounded_and_exact_at_both_ends(pool, tmp_path):
    """50 MB, and the runner never has them."""
    script = "head -c 50000000 /dev/zero | tr '\\0' '\\377'"
    task = pexen.command(script, path="a") if pool == "command" else Task(faults.prints_endlessly_on_one_line, "a")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = check(task, POOLS[pool](tmp_path), "passed", "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert result.details.output.size == 50_000_000
    assert len(result.output_bytes) <= 100_200
    unit = b"\xff" * 2 if pool == "command" else b"\x00\xff"
    assert result.output_bytes.startswith(unit * 25_000)
    assert result.output_bytes.endswith(unit * 24_000)
    assert sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*.out")) < 300_000


def test_an_executable_that_writes_garbage_on_every_descriptor(tmp_path):
    script = "for n in 3 4 5 6 7 8 9; do printf '\\0\\377{garbage}\\n' >&$n; done 2>/dev/null; exit 0"
    result = check(pexen.command(script, path="a"), POOLS["command"](tmp_path), "warned", "")
    assert any("cannot understand" in report.message for report in result.reports)


def test_an_executable_that_kills_itself_every_time_is_tried_so_often_and_no_more(tmp_path):
    task = pexen.command("kill -9 $$", path="a", retries=2)
    result = check(task, POOLS["command"](tmp_path), "crashed", "SIGKILL")
    assert [str(one.status) for one in result.attempts] == ["crashed"] * 3


@pytest.mark.parametrize("pool", PROCESSES)
def test_what_waits_behind_a_task_that_kills_its_worker_is_not_charged(pool, tmp_path):
    tasks = [Task(faults.kills_itself, "a", retries=2), *(Task(faults.fine, f"b{number}") for number in range(20))]
    results = Sched(tasks, pool=POOLS[pool](tmp_path)).wait()
    assert len(results["a"].attempts) == 3
    assert {len(results[f"b{number}"].attempts) for number in range(20)} == {1}
    assert all(results[f"b{number}"].ok for number in range(20))


def test_the_lock_of_a_thread_that_still_runs_stays_held():
    """Its place is taken by another; who claims the lock would be first, and is not, until the thread has returned."""
    let_go, order = threading.Event(), []
    tasks = [
        Task(let_go.wait, "deaf", args=[60], timeout=0.2, grace=0.1, claims="it", priority=-1),
        Task(faults.fine, "claimant", claims="it"), Task(faults.fine, "witness", priority=1),
    ]  # fmt: skip
    for result in Sched(tasks, pool=ThreadPool(1)).run():
        order.append(result.path)
        if result.path == "witness":
            let_go.set()
    assert order == ["deaf", "witness", "claimant"]


@pytest.mark.parametrize("fault", LEAVING, ids=lambda one: one.__name__)
def test_what_is_left_is_told_though_the_worker_was_killed_after_its_result(fault, monkeypatch, tmp_path):
    """The chaos has met it: what the worker was the parent of is not below it any more when the runner looks."""
    if fault is faults.leaves_a_nameless_daemon and not tree.slack(os.getppid()):
        pytest.skip("nobody may read what would tell")

    def killed_before(member):
        signal.pidfd_send_signal(member.process.pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(member.process.pidfd, select.POLLIN)
        assert poll.poll(BOUND * 1000)
        end_tree(member)

    end_tree = Member.end_tree
    monkeypatch.setattr(Member, "end_tree", killed_before)
    for result in Sched([Task(fault, "a")], pool=ProcessPool(1, output=tmp_path)).run():
        assert (result.status, result.leaked, is_alive(result.value)) == ("warned", "1 process (sleep)", False)
