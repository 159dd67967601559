"""A run that its caller drives: results in batches, a way to be woken, a limit of failures."""

import threading

import pytest

from pexen import InlinePool, LocalPool, Sched, Status, Task, ThreadPool


def nothing() -> None:
    pass


def fails() -> None:
    raise AssertionError("on purpose")


def taken(run, **options):
    """Every result, in batches."""
    batches = []
    try:
        while (batch := run.take(**options)) is not None:
            batches.append([result.path for result in batch])
    finally:
        run.close()
    return batches


@pytest.mark.parametrize(
    "pool", [InlinePool, lambda: ThreadPool(2), lambda: LocalPool(2)], ids=["inline", "thread", "local"]
)
def test_every_result_is_taken_once(pool):
    for _ in range(50):  # the last results and the end come together
        sched = Sched([Task(nothing, f"t{number}") for number in range(5)], pool=pool())
        batches = taken(sched.open(), gather=0.001)
        assert sorted(path for batch in batches for path in batch) == [f"t{number}" for number in range(5)]


def test_results_are_gathered_but_the_end_is_not_waited_for():
    sched = Sched([Task(nothing, f"t{number}") for number in range(300)], pool=ThreadPool(2))
    batches = [batch for batch in taken(sched.open(), gather=1000.0) if batch]
    assert sum(map(len, batches)) == 300
    assert len(batches) <= 3


def test_it_returns_after_the_timeout_with_nothing_and_goes_on():
    gate = threading.Event()
    run = Sched([Task(gate.wait, "t", args=(30,))], pool=ThreadPool(1)).open()
    assert run.take(0.001) == []
    gate.set()
    assert taken(run)[-1:] == [["t"]]


@pytest.mark.parametrize("early", [True, False])
def test_it_can_be_woken_before_and_while_it_waits(early):
    gate = threading.Event()
    run = Sched([Task(gate.wait, "t", args=(30,))], pool=ThreadPool(1)).open()
    waker = threading.Timer(0, run.wake)
    waker.start()
    if early:
        waker.join()
    assert run.take() == []
    waker.join()
    gate.set()
    taken(run)


def test_with_a_backlog_of_one_nothing_starts_before_the_result_was_dealt_with():
    seen = []
    tasks = [Task(seen.append, f"t{number}", args=(number,)) for number in range(5)]
    run = Sched(tasks, pool=ThreadPool(1, spare=0), backlog=1).open()
    dealt = 0
    while (batch := run.take()) is not None:
        dealt += len(batch)
        assert len(batch) <= 1
        assert len(seen) == dealt
    run.close()
    assert dealt == 5


@pytest.mark.parametrize(("maxfail", "ran"), [(1, 1), (3, 3), (None, 8), (0, 8)])
def test_after_so_many_failures_only_cleanups_start(maxfail, ran):
    tasks = [Task(fails, f"t{number}") for number in range(8)]
    clean = Task(nothing, "clean", after=[f"/t{number}" for number in range(8)], cleanup=True)
    results = Sched([*tasks, clean], pool=InlinePool(), maxfail=maxfail).wait()
    counts = [result.status for result in results.values()]
    assert counts.count(Status.FAILED) == ran
    assert counts.count(Status.CANCELLED) == 8 - ran
    assert results["clean"].status == Status.PASSED


def test_bindings_are_text_and_paths():
    tasks = [Task(nothing, "a/db", provides="db"), Task(nothing, "b", requires=["db", "/a"])]
    assert Sched(tasks).bindings("b") == [("'db'", ["a/db"]), ("'/a'", ["a/db"])]


def test_a_run_that_is_held_is_not_over_although_nothing_is_left_to_do():
    run = Sched(pool=ThreadPool(1)).open()
    with run.hold():
        assert run.take(0.0) == []
    assert taken(run) == []
