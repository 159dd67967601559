"""Tasks that make others, in whole runs: their dependants wait for what was made as well."""

from __future__ import annotations

import os
import threading

import pytest

import pexen
from pexen import Group, InlinePool, LocalPool, ProcessPool, Sched, Status, Task, ThreadPool

POOLS = {
    "inline": InlinePool,
    "thread": lambda: ThreadPool(2),
    "process": lambda: ProcessPool(2),
    "local": lambda: LocalPool(2),
}


@pytest.fixture(params=POOLS)
def pool(request):
    return POOLS[request.param]()


def story(results) -> dict[str, str]:
    return {path: str(one.status) for path, one in results.items()}


def double(x: int) -> int:
    return 2 * x


def fails() -> None:
    raise AssertionError("on purpose")


def nothing() -> None:
    pass


def total(made):
    return sum(made)


def makes_three():
    return [Task(double, f"made/{x}", args=(x,)) for x in range(3)]


def makes_failing():
    return [Task(double, "made/0", args=(1,)), Task(fails, "made/1")]


def makes_makers():
    return [Task(makes_three, "more", expand=True), Task(double, "made/x", args=(10,))]


def makes_a_chain():
    return [
        Task(double, "one", args=(1,)),
        Task(
            total,
            "two",
            requires={
                "made": pexen.all_of(
                    "/one",
                )
            },
            provides="two",
        ),
        Task(double, "old_and_new", args=(5,), requires=["/before", "/two"]),
    ]


async def makes_asleep():
    return [Task(double, "made/0", args=(4,))]


def test_its_value_is_what_it_made_for_its_dependants(pool):
    tasks = [Task(makes_three, "made", expand=True), Task(total, "total", requires="/made")]
    results = Sched(tasks, pool=pool).wait()
    assert results["total"].value == 6
    assert list(results)[-1] == "total"
    assert results.ok


def test_a_coroutine_makes_tasks_as_well(pool):
    results = Sched([Task(makes_asleep, "made", expand=True), Task(total, "total", requires="/made")], pool=pool).wait()
    assert results["total"].value == 8


def test_who_requires_it_is_skipped_when_one_of_those_it_made_fails(pool):
    results = Sched(
        [Task(makes_failing, "made", expand=True), Task(total, "total", requires="/made")], pool=pool
    ).wait()
    assert story(results) == {"made": "passed", "made/0": "passed", "made/1": "failed", "total": "skipped"}
    assert results["total"].reason == "made/1 failed"


def test_what_it_made_may_make_others(pool):
    results = Sched([Task(makes_makers, "made", expand=True), Task(total, "total", requires="/made")], pool=pool).wait()
    assert results["total"].value == 20 + 6


def test_what_it_made_may_require_what_is_old_and_each_other(pool):
    tasks = [Task(nothing, "before"), Task(makes_a_chain, "made", expand=True), Task(nothing, "z", requires="/made")]
    results = Sched(tasks, pool=pool).wait()
    assert set(story(results)) == {"before", "made", "one", "two", "old_and_new", "z"}
    assert results.ok


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (5, "no list of tasks"),
        ("text", "no list of tasks"),
        ([5], "neither a task nor a callable"),
        ([Task(nothing, "taken")], "two tasks have the path"),
        ([Task(nothing, "x", requires="/z")], "would wait for itself"),
        ([Task(nothing, "x", requires="nobody")], "nobody provides it"),
    ],
)
def test_what_is_no_list_of_tasks_is_its_error_and_nothing_is_made(made, why):
    tasks = [Task(lambda: made, "makes", expand=True), Task(nothing, "taken"), Task(nothing, "z", requires="/makes")]
    results = pexen.run(tasks)
    assert story(results) == {"makes": "error", "taken": "passed", "z": "skipped"}
    assert results["makes"].error is not None
    assert why in results["makes"].error.message


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_one_that_is_tried_again_makes_nothing_twice(kind, tmp_path):
    def makes():
        pexen.current().add(Task(double, "added", args=(1,)))
        if not (tmp_path / "been").exists():
            (tmp_path / "been").touch()
            raise OSError("once")
        return [Task(double, "made/0", args=(2,))]

    tasks = [Task(makes, "made", expand=True, retries=1), Task(total, "total", requires="/made")]
    results = Sched(tasks, pool=POOLS[kind]()).wait()
    assert story(results) == dict.fromkeys(results, "passed")
    assert set(results) == {"made", "added", "made/0", "total"}
    assert results["total"].value == 2 + 4


def test_it_may_need_a_service(pool):
    @pexen.service
    def db():
        yield 1

    @pexen.task(expand=True, requires={db})
    def makes(db):
        return [Task(double, "made/0", args=(db,))]

    results = Sched([db, makes], pool=pool).wait()
    assert story(results) == {"makes": "passed", "made/0": "passed", "db": "passed"}


def test_what_it_made_may_be_services_and_who_needs_them():
    def makes():
        def db():
            yield 7

        return [Task(db, "db", service=True), Task(double, "uses", requires={"x": "/db"})]

    results = pexen.run([Task(makes, "makes", expand=True), Task(total, "total", requires={"made": "/makes"})])
    assert story(results) == {"makes": "passed", "uses": "passed", "total": "passed", "db": "passed"}


def test_lazy_ones_that_it_made_are_woken_for_its_dependants():
    def makes():
        return [Task(double, "made/0", args=(2,), lazy=True)]

    results = pexen.run([Task(makes, "made", expand=True), Task(total, "total", requires="/made")])
    assert results["total"].value == 4
    results = pexen.run([Task(makes, "made", expand=True)])
    assert story(results) == {"made": "passed", "made/0": "skipped"}


def test_in_a_group_what_is_made_is_in_it_as_well():
    tasks = [Task(makes_three, "made", expand=True, group="g"), Task(total, "total", requires="/made")]
    pool = ThreadPool(2)
    seen = []
    submit = pool.submit
    pool.submit = lambda attempt: (seen.append(attempt.task.path), submit(attempt))
    results = pexen.run(tasks, groups=[Group("g", pool=pool)])
    assert results["total"].value == 6
    assert sorted(seen) == ["made", "made/0", "made/1", "made/2"]


def test_an_empty_list_is_fine(pool):
    results = Sched([Task(list, "made", expand=True), Task(total, "total", requires="/made")], pool=pool).wait()
    assert results["total"].value == 0


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_several_threads_of_a_task_add_at_once(kind):
    def adds():
        context = pexen.current()

        def add(thread: int) -> None:
            for number in range(20):
                context.add(Task(double, f"t{thread}/{number}", args=(number,)))

        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    results = Sched([Task(adds, "adds")], pool=POOLS[kind]()).wait()
    assert len(results) == 81
    assert results.ok


@pytest.mark.parametrize("stop_at", ["made", "made/0", "made/2"])
def test_a_run_that_is_taken_up_again_has_each_once(stop_at, tmp_path):
    counts = tmp_path / "counts"
    counts.mkdir()

    def sched():
        made = Task(makes_counting, "made", expand=True, kwargs={"counts": str(counts)})
        return Sched([made, Task(total, "total", requires="/made")], pool=ThreadPool(1), journal=tmp_path / "run")

    first = sched()
    for result in first.run():
        if result.path == stop_at:
            break
    again = sched()
    results = again.wait()
    assert story(results) == dict.fromkeys(["made", "made/0", "made/1", "made/2", "total"], "passed")
    assert results["total"].value == 6
    assert results["made"].replayed
    assert results[stop_at].replayed
    assert len(os.listdir(counts)) == 3


def makes_counting(counts):
    return [Task(counted, f"made/{x}", args=(x, counts)) for x in range(3)]


def counted(x, counts):
    with open(os.path.join(counts, str(x)), "x"):  # fails when it runs twice
        pass
    return 2 * x


def test_who_is_cancelled_makes_nothing():
    ran = []

    def makes():
        ran.append(1)
        return makes_three()

    sched = Sched([Task(makes, "made", expand=True), Task(nothing, "z", requires="/made")])
    sched.cancel("made")
    assert {one: str(sched.wait()[one].status) for one in ("made", "z")} == {"made": "cancelled", "z": "skipped"}
    assert (ran, sched.results["made"].status) == ([], Status.CANCELLED)
