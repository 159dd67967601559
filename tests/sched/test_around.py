"""What runs around every attempt, and what it may do wrong."""

from __future__ import annotations

import threading

import pytest

import pexen
from pexen import CommandPool, LocalPool, ProcessPool, Sched, Status, Task
from pexen.sched import around as module


def log(seen):
    seen.report("before", "info", f"attempt {seen.attempt}")
    status = yield
    pexen.current().report("after", "info", f"{status}, started {seen.started > 0}")


def crash():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def told(result):
    return [(one.name, one.message) for one in result.reports]


def run_one(task, pool=None):
    return Sched([task], pool=pool).wait()[task.name]


@pytest.mark.parametrize(
    ("task", "pool", "status"),
    [
        (Task(print, "a", around=log), None, "passed"),
        (pexen.command("exit 3", path="a", around=log), None, "failed"),
        (pexen.command("kill -9 $$", path="a", around=log), None, "crashed"),
        (Task(crash, "a", around=log), lambda: ProcessPool(1), "crashed"),
        (pexen.command("sleep 100", path="a", around=log, timeout=0.1, grace=0.1), None, "timeout"),
    ],
    ids=["python", "command", "killed", "crash in a worker", "timeout"],
)
def test_it_runs_before_and_after_however_the_attempt_ends(task, pool, status):
    result = run_one(task, pool() if pool else None)
    assert result.status == status
    seen = "cancelled" if status == "timeout" else status  # how its pool tells it
    assert told(result) == [("before", "attempt 1"), ("after", f"{seen}, started True")]


def test_every_attempt_has_its_own():
    result = run_one(pexen.command("exit 1", path="a", around=log, retries=1))
    assert [one.name for one in result.attempts[0].reports] == ["before", "after"]
    assert told(result)[0] == ("before", "attempt 2")


def test_they_are_nested_and_the_outermost_is_the_first():
    order = []

    def outer():
        order.append("outer")
        yield
        order.append("/outer")

    def inner():
        order.append("inner")
        yield
        order.append("/inner")

    assert run_one(Task(lambda: order.append("task"), "a", around=[outer, inner])).ok
    assert order == ["outer", "inner", "task", "/inner", "/outer"]


def test_a_warning_from_around_makes_the_task_warned():
    def warns(seen):
        yield
        seen.report("disk", "warn", "nearly full")

    result = run_one(Task(print, "a", around=warns))
    assert (result.status, told(result)) == (Status.WARNED, [("disk", "nearly full")])


def raises_before():
    raise OSError("no log")
    yield


def raises_after():
    yield
    raise OSError("no log")


def never_yields():
    return
    yield


def yields_twice():
    yield
    yield


def test_one_that_raises_before_keeps_the_task_from_starting():
    ran = []
    result = run_one(Task(lambda: ran.append(1), "a", around=raises_before))
    assert (result.status, ran) == (Status.ERROR, [])
    assert "raises_before has raised OSError: no log" in result.reason


@pytest.mark.parametrize(
    ("what", "why"),
    [(raises_after, "OSError: no log"), (never_yields, "without a yield"), (yields_twice, "yielded twice")],
)
def test_what_is_wrong_with_one_is_told_under_the_task(what, why):
    result = run_one(Task(lambda: 42, "a", around=what))
    assert (result.status, result.value) == (Status.ERROR, 42)
    assert why in result.reports[0].message


@pytest.mark.leaks("threads")  # the one that nothing can end, until the end of the test
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_that_does_not_come_back_is_left_behind(when, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    let_go = threading.Event()

    def hangs():
        if when == "before":
            let_go.wait(60)
        yield
        let_go.wait(60)

    result = run_one(Task(lambda: 42, "a", around=hangs))
    let_go.set()
    assert result.status is Status.ERROR
    assert "did not come back" in result.reason or "has not come back" in result.reports[0].message


def test_files_that_it_attaches_belong_to_the_task(tmp_path):
    (tmp_path / "core").write_text("core")

    def keeps(seen):
        yield
        seen.attach(str(tmp_path / "core"))

    for pool in (CommandPool(1), LocalPool(1, output=tmp_path / "out")):
        result = run_one(pexen.command("true", path="a", around=keeps), pool)
        assert [file.rpartition("/")[2] for file in result.artifacts] == ["core"]
        with open(result.artifacts[0]) as file:
            assert file.read() == "core"


def test_ready_made_ones_have_names(tmp_path):
    result = run_one(pexen.command("touch new", path="a", cwd=tmp_path, around="leftover_files"))
    assert result.status is Status.WARNED
    assert told(result) == [("leftover files", "new")]


@pytest.mark.parametrize(
    ("around", "why"), [("kernel_lug", "did you mean 'kernel_log'"), (print, "no generator function")]
)
def test_what_cannot_be_around_a_task_is_refused(around, why):
    with pytest.raises(pexen.DefinitionError, match=why):
        Sched([Task(print, "a", around=around)])


def test_a_run_that_is_cancelled_ends():
    sched = Sched([pexen.command("sleep 100", path="a", around=log, grace=0.1)])
    run = sched.start()
    run.cancel(force=True)
    assert run.wait(30)["a"].status is Status.CANCELLED
