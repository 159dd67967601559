"""The run, in threads and inline: what is promised to whoever uses pexen as a library."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import pexen
from pexen import DefinitionError, InlinePool, LocalPool, PoolError, Sched, Status, Task, ThreadPool, task


def pools():
    return [InlinePool(), ThreadPool(2), LocalPool(2)]


@pytest.fixture(params=range(3), ids=["inline", "thread", "local"])
def pool(request):
    return pools()[request.param]


def nothing() -> None:
    pass


def fails() -> None:
    raise AssertionError("on purpose")


def paths(results) -> list[str]:
    return [result.path for result in results]


def test_values_go_to_parameters_named_like_requirements(pool):
    @task(provides="db")
    def db():
        return "url"

    @task(requires={db})
    def query(db):
        return f"{db}!"

    results = Sched([query, db], pool=pool).wait()
    assert results["query"].value == "url!"
    assert results.ok
    assert results.check() is results


def test_a_failure_skips_what_requires_it_and_names_the_culprit(pool):
    tasks = [Task(fails, "a"), Task(nothing, "b", requires="/a"), Task(nothing, "c", requires="/b"), Task(nothing, "d")]
    results = Sched(tasks, pool=pool).wait()
    assert {path: str(result.status) for path, result in results.items()} == {
        "a": "failed", "b": "skipped", "c": "skipped", "d": "passed",
    }  # fmt: skip
    assert results["c"].reason == "a failed"
    with pytest.raises(pexen.TasksFailed) as caught:
        results.check()
    assert isinstance(caught.value.__cause__, AssertionError)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), type("Own", (BaseException,), {})()]
)
def test_no_exception_of_any_base_ends_more_than_its_attempt(pool, error):
    def raises():
        raise error

    results = Sched([Task(raises, "bad"), Task(nothing, "good")], pool=pool).wait()
    assert results["bad"].status is Status.ERROR
    assert results["good"].status is Status.PASSED


def test_task_fail_decides_about_dependants_and_locks(pool):
    def lenient():
        raise pexen.TaskFail("bad", deps_ok=True)

    def dirty():
        raise pexen.TaskFail("dirty", locks_ok=False)

    tasks = [
        Task(lenient, "lenient"), Task(nothing, "after_lenient", requires="/lenient"),
        Task(dirty, "dirty", claims="disk", priority=-1), Task(nothing, "needs_disk", uses="disk"),
    ]  # fmt: skip
    results = Sched(tasks, pool=pool).wait()
    assert results["lenient"].status is Status.FAILED
    assert results["after_lenient"].status is Status.PASSED
    assert results["needs_disk"].status is Status.SKIPPED
    assert "dirty" in results["needs_disk"].reason


def test_poison_spreads_only_when_asked(pool):
    def explodes():
        raise ValueError

    tasks = [Task(explodes, "bad", claims="disk", priority=-1), Task(nothing, "next", claims="disk")]
    assert Sched(tasks, pool=pool, poison=True).wait()["next"].status is Status.SKIPPED
    assert Sched(tasks, pool=pools()[1]).wait()["next"].status is Status.PASSED


def test_the_loop_may_add_tasks(pool):
    sched = Sched([Task(nothing, "t0")], pool=pool)
    seen = []
    for result in sched.run():
        seen.append(result.path)
        if len(seen) < 50:
            sched.add([Task(nothing, f"t{len(seen)}", requires=f"/{result.path}")])
    assert seen == [f"t{number}" for number in range(50)]


def test_other_threads_and_tasks_may_add_tasks():
    held = threading.Event()

    def adds(number):
        held.wait(30)
        sched.add([Task(nothing, f"added/{number}")])

    sched = Sched([Task(adds, f"adder/{number}", args=[number]) for number in range(20)], pool=ThreadPool(4))
    run = sched.start()
    with run.hold():
        held.set()
        threads = [
            threading.Thread(target=sched.add, args=([Task(nothing, f"other/{number}")],)) for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(run.wait(30)) == 60
    assert len(list(run)) == 60


def test_a_second_run_runs_what_was_added_since(pool):
    sched = Sched([Task(nothing, "a")], pool=pool)
    assert paths(sched.run()) == ["a"]
    assert paths(sched.run()) == []
    sched.add([Task(nothing, "b", requires="/a")])
    assert paths(sched.run()) == ["b"]
    assert set(sched.results) == {"a", "b"}


def test_leaving_the_loop_cancels_and_keeps_every_result_readable(pool):
    sched = Sched([Task(nothing, f"t{number}") for number in range(500)], pool=pool)
    for _ in sched.run():
        break
    counts = Counter(str(result.status) for result in sched.results.values())
    assert sum(counts.values()) == 500
    assert counts["passed"] >= 1
    assert set(counts) <= {"passed", "cancelled"}


def test_leaving_the_loop_asks_running_tasks_to_stop():
    running = threading.Event()

    def patient():
        running.set()
        while not pexen.current().cancelled:
            threading.Event().wait(0.001)

    def quick():
        running.wait(30)

    sched = Sched([Task(patient, "patient"), Task(quick, "quick")], pool=ThreadPool(2))
    for _ in sched.run():
        break
    assert set(sched.results) == {"patient", "quick"}


def test_backlog_bounds_what_runs_ahead_of_the_reader():
    started = []
    sched = Sched(
        [Task(lambda: started.append(1), f"t{number}") for number in range(2000)], pool=ThreadPool(2), backlog=10
    )
    for count, _ in enumerate(sched.run(), 1):
        assert len(started) <= count + 10 + ThreadPool(2).capacity
    assert len(started) == 2000


def test_start_is_not_held_back_without_a_reader():
    run = Sched([Task(nothing, f"t{number}") for number in range(300)], pool=ThreadPool(2), backlog=10).start()
    assert len(run.wait(30)) == 300


def test_retries_are_all_kept_and_bounded(pool):
    tries = []

    def flaky():
        tries.append(1)
        raise ValueError(len(tries))

    result = Sched([Task(flaky, "flaky", retries=2)], pool=pool).wait()["flaky"]
    assert result.status is Status.ERROR
    assert [(one.number, one.failure.message) for one in result.attempts] == [(1, "1"), (2, "2"), (3, "3")]


def test_reports_count_and_are_kept(pool):
    def reports():
        pexen.current().report("fine")
        pexen.current().report("acl", "warn", "odd", data={"mode": 7})

    result = Sched([Task(reports, "reports")], pool=pool).wait()["reports"]
    assert result.status is Status.WARNED
    assert [(one.name, one.status) for one in result.reports] == [("fine", "pass"), ("acl", "warn")]
    assert result.ok


def test_shared_goes_down_the_graph_and_is_not_seen_elsewhere(pool):
    def writes(shared):
        shared["key"] = "value"

    def reads(shared):
        return dict(shared)

    def passes_on():
        pass

    tasks = [
        Task(writes, "writes"), Task(passes_on, "between", requires="/writes"),
        Task(reads, "reads", requires="/between"), Task(reads, "elsewhere"),
    ]  # fmt: skip
    results = Sched(tasks, pool=pool, shared={"default": 0}).wait()
    assert results["reads"].value == {"default": 0, "key": "value"}
    assert results["elsewhere"].value == {"default": 0}
    assert results["between"].shared == {"default": 0, "key": "value"}


def test_named_units_are_handed_out_one_task_each():
    barrier = threading.Barrier(2, timeout=30)

    def which():
        barrier.wait()
        return pexen.current().units["gpu"]

    tasks = [Task(which, f"t{number}", resources={"gpu": 1}) for number in range(4)]
    results = Sched(tasks, pool=ThreadPool(4), resources={"gpu": ["a", "b"]}).wait()
    assert Counter(result.value for result in results.values()) == {("a",): 2, ("b",): 2}


def test_claims_exclude_and_uses_share():
    holders, most, guard = set(), [0], threading.Lock()

    def claim(me):
        with guard:
            holders.add(me)
            most[0] = max(most[0], len(holders))
        threading.Event().wait(0)
        with guard:
            holders.discard(me)

    Sched(
        [Task(claim, f"t{number}", args=[number], claims="it") for number in range(200)], pool=ThreadPool(4)
    ).wait().check()
    assert most == [1]


def test_alone_runs_alone():
    inside, wrong, guard = [0], [], threading.Lock()

    def normal():
        with guard:
            inside[0] += 1
        threading.Event().wait(0)
        with guard:
            inside[0] -= 1

    def lonely():
        if inside[0]:
            wrong.append(inside[0])

    tasks = [Task(lonely, f"alone{n}", alone=True) if n % 20 == 10 else Task(normal, f"t{n}") for n in range(200)]
    Sched(tasks, pool=ThreadPool(4)).wait().check()
    assert wrong == []


def test_pools_by_name():
    def where():
        return threading.current_thread().name

    tasks = [Task(where, "here"), Task(where, "there", pool="other")]
    results = Sched(tasks, pool=InlinePool(), pools={"other": ThreadPool(1)}).wait()
    assert results["here"].value == "MainThread"
    assert results["there"].value != "MainThread"
    with pytest.raises(pexen.DefinitionError, match="no pool 'othr'"):
        Sched([Task(where, "there", pool="othr")], pools={"other": ThreadPool(1)})


def test_a_definition_error_from_the_loop_changes_nothing():
    sched = Sched([Task(nothing, "a")], pool=ThreadPool(2))
    for _ in sched.run():
        with pytest.raises(pexen.DefinitionError):
            sched.add([Task(nothing, "fine"), Task(nothing, "b", requires="nobody")])
    assert set(sched.results) == {"a"}


def test_cancel_takes_out_what_has_not_started():
    gate = threading.Event()
    sched = Sched(
        [Task(gate.wait, "first", args=[30]), *(Task(nothing, f"t{n}", requires="/first") for n in range(5))],
        pool=ThreadPool(1),
    )
    run = sched.start()
    sched.cancel("t0", "t1")
    gate.set()
    results = run.wait(30)
    assert Counter(str(result.status) for result in results.values()) == {"passed": 4, "cancelled": 2}


def test_drain_lets_only_clean_ups_start():
    first = threading.Event()
    tasks = [
        Task(first.wait, "first", args=[30]),
        Task(nothing, "rest", requires="/first"),
        Task(nothing, "tidy", after="/first", cleanup=True),
    ]
    run = Sched(tasks, pool=ThreadPool(1)).start()
    run.drain("enough")
    first.set()
    results = run.wait(30)
    assert results["tidy"].status is Status.PASSED
    assert (str(results["rest"].status), results["rest"].reason) == ("cancelled", "enough")


def test_one_run_at_a_time():
    gate = threading.Event()
    sched = Sched([Task(gate.wait, "a", args=[30])], pool=ThreadPool(1))
    run = sched.start()
    with pytest.raises(pexen.PoolError):
        sched.start()
    gate.set()
    run.wait(30)


def test_snapshot_and_explain_while_it_runs():
    gate, started = threading.Event(), threading.Event()

    def hold():
        started.set()
        gate.wait(30)

    sched = Sched(
        [
            Task(hold, "hold", claims="it", priority=-1),
            Task(nothing, "wants", claims="it"),
            Task(nothing, "later", requires="/wants"),
        ],
        pool=ThreadPool(2),
    )
    run = sched.start()
    assert started.wait(30)
    snapshot = sched.snapshot()
    assert (snapshot.tasks, snapshot.unfinished, [one.path for one in snapshot.in_flight]) == (3, 3, ["hold"])
    assert "held by hold" in str(sched.explain("wants"))
    assert "wants" in str(sched.explain("later"))
    gate.set()
    run.wait(30)
    assert sched.snapshot().results == {"passed": 3}


def test_the_context_manager_ends_the_run():
    with Sched([Task(nothing, f"t{n}") for n in range(100)], pool=ThreadPool(2)) as sched:
        next(iter(sched.run()))
    assert len(sched.results) == 100


def test_conditions_skip_with_the_reason():
    tasks = [
        Task(nothing, "never", when="os == 'plan9'"), Task(nothing, "linux", when="os == 'linux'"),
        Task(nothing, "lacks", host="cmd:surely-no-such-command"),
        Task(nothing, "called", when=lambda facts: facts.os != "linux"),
    ]  # fmt: skip
    results = Sched(tasks, pool=ThreadPool(2)).wait()
    assert {path: str(result.status) for path, result in results.items()} == {
        "never": "skipped", "linux": "passed", "lacks": "skipped", "called": "skipped",
    }  # fmt: skip
    assert "surely-no-such-command" in results["lacks"].reason


def test_a_condition_that_raises_is_the_tasks_own_error():
    def broken(facts):
        raise ValueError("no idea")

    result = Sched([Task(nothing, "a", when=broken)], pool=ThreadPool(1)).wait()["a"]
    assert result.status is Status.ERROR
    assert "no idea" in str(result.error)


def test_commands_and_callables_in_one_run():
    tasks = [
        pexen.command("echo hello; exit 0", path="says"), pexen.command(["false"], path="fails"),
        Task(nothing, "callable", requires="/says"), pexen.command("exit 77", path="skips"),
    ]  # fmt: skip
    results = pexen.run(tasks, pool=pexen.LocalPool(2, capture=True))
    assert {path: str(result.status) for path, result in results.items()} == {
        "says": "passed", "fails": "failed", "callable": "passed", "skips": "skipped",
    }  # fmt: skip
    assert results["says"].output == "hello\n"


def test_processes_get_values_of_threads_and_the_reverse():
    def twice(base):
        return base * 2

    tasks = [
        Task(lambda: 21, "base", pool="threads"),
        Task(twice, "twice", requires="/base"),
        Task(lambda twice: twice + 1, "last", requires="/twice", pool="threads"),
    ]
    results = Sched(tasks, pool=pexen.ProcessPool(1), pools={"threads": ThreadPool(1)}).wait()
    assert results["last"].value == 43


def test_a_chain_of_100_000_needs_no_recursion():
    tasks = [Task(nothing, f"t{n}", requires=f"/t{n - 1}" if n else None) for n in range(100_000)]
    assert len(Sched(tasks, pool=ThreadPool(2)).wait()) == 100_000


def test_names_that_repeat_are_numbered():
    results = pexen.run([nothing, nothing, nothing], workers=1)
    assert set(results) == {"nothing", "nothing#2", "nothing#3"}


@pytest.mark.parametrize("asked", [True, False])
def test_the_runner_subreaps_only_if_asked_and_while_a_run_goes_on(asked):
    from pexen.pool.subreaper import is_subreaper

    seen = Sched([Task(is_subreaper, "a")], pool=ThreadPool(1), subreap=asked).wait()
    assert seen["a"].value is asked
    assert not is_subreaper()
    result = Sched([pexen.command("setsid sleep 1000 & sleep 0.1", path="leaks")], subreap=asked).wait()["leaks"]
    assert result.leaked == "1 process (sleep)"


@pytest.mark.parametrize("workers", [0, -1, "4", 1.5])
def test_workers_are_a_whole_number_of_one_or_more(workers):
    """With -1 the run said that it was a bug in pexen."""
    for kind in (pexen.ThreadPool, pexen.ProcessPool, pexen.CommandPool, pexen.LocalPool, pexen.AsyncPool):
        with pytest.raises(PoolError, match="workers is a whole number of 1 or more"):
            kind(workers)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (5, "ProcessPool"),
        (pexen.ThreadPool, "ProcessPool"),
        (ThreadPoolExecutor(1), "ExecutorPool"),
        ("process", "ProcessPool"),
    ],
)
def test_what_is_no_pool_is_refused(given, hint):
    with pytest.raises(DefinitionError, match="this is no pool") as caught:
        Sched(pool=given)
    assert hint in caught.value.hint


@pytest.mark.parametrize("given", [5, None, ThreadPoolExecutor])
def test_what_is_no_executor_is_refused(given):
    with pytest.raises(PoolError, match="this is no executor"):
        pexen.ExecutorPool(given)
