"""The scripted pool under a real `Sched`: no thread, no time."""

import threading

import pytest

import pexen
from pexen import Report, Sched, Status, Task
from pexen.model.attempt import Attempt
from pexen.model.call import Call, Kind
from pexen.model.event import Up
from pexen.testing import ScriptedPool, Step, VirtualClock
from tests.contract.mailbox import Mailbox


def nothing():
    raise AssertionError("a scripted pool runs nothing")


def chain(*paths, **meta):
    return [
        Task(nothing, path, requires=f"/{before}" if before else None, **meta)
        for before, path in zip([None, *paths], paths, strict=False)
    ]


def statuses(results):
    return {path: str(result.status) for path, result in results.items()}


def test_the_test_says_how_each_attempt_ends():
    pool = ScriptedPool(workers=2)
    sched = Sched([*chain("a", "b"), Task(nothing, "c"), Task(nothing, "d")], pool=pool)
    run = sched.open()
    assert pool.running() == ["a", "c"]
    pool.end("a", value=7)
    assert pool.running() == ["c", "b"]
    pool.end("c", Status.FAILED, reason="as the test says")
    assert pool.running() == ["b", "d"]
    pool.end_all()
    assert [one.path for one in run.take()] == ["a", "c", "b", "d"]
    assert run.take() is None
    run.close()
    assert statuses(sched.results) == {"a": "passed", "c": "failed", "b": "passed", "d": "passed"}
    assert (sched.results["a"].value, sched.results["c"].reason) == (7, "as the test says")


def test_a_lost_attempt_is_submitted_again_and_not_charged():
    pool = ScriptedPool()
    run = Sched([Task(nothing, "a")], pool=pool).open()
    pool.lose("a")
    assert (pool.submitted, pool.running(), pool.attempt("a").number) == (["a", "a"], ["a"], 1)
    pool.end("a")
    [result] = run.take()
    assert len(result.attempts) == 1
    run.close()


def test_reports_arrive_while_the_task_runs_and_make_it_worse():
    pool = ScriptedPool()
    run = Sched([Task(nothing, "a")], pool=pool).open()
    pool.report("a", "acl", "fail", "odd")
    pool.end("a")
    [result] = run.take()
    assert (result.status, [one.name for one in result.reports]) == (Status.FAILED, ["acl"])
    run.close()


def test_a_complete_script_runs_to_the_end_in_this_thread():
    before = threading.active_count()
    script = {
        "a": [Status.CRASHED, ValueError("second"), "third"],
        "b": [Step(value="value", shared={"key": 1}, reports=(Report("r", "warn"),))],
        "c": [AssertionError("no")],
        "d": [None],
        "e": [Step(lost=True), pexen.TaskSkip("not here")],
    }
    tasks = [*chain("a", "b"), *chain("c", "d"), Task(nothing, "e")]
    results = Sched(
        [task.replace(retries=2) if task.path == "a" else task for task in tasks], pool=ScriptedPool(script)
    ).wait()
    assert statuses(results) == {"a": "passed", "b": "warned", "c": "failed", "d": "skipped", "e": "skipped"}
    assert [str(one.status) for one in results["a"].attempts] == ["crashed", "error", "passed"]
    assert (results["a"].value, results["b"].value, results["b"].shared) == ("third", "value", {"key": 1})
    assert results["e"].reason == "not here"
    assert threading.active_count() == before


def test_what_the_script_does_not_name_goes_otherwise():
    results = Sched(chain("a", "b", "c"), pool=ScriptedPool({"b": [Status.WARNED]}, otherwise=Status.PASSED)).wait()
    assert statuses(results) == {"a": "passed", "b": "warned", "c": "passed"}


def test_a_loop_over_the_results_drives_the_script():
    pool = ScriptedPool(otherwise=Status.PASSED, workers=3)
    sched = Sched([Task(nothing, "t0")], pool=pool)
    seen = []
    for result in sched.run():
        seen.append(result.path)
        if len(seen) < 20:
            sched.add([Task(nothing, f"t{len(seen)}", requires=f"/{result.path}")])
    assert seen == pool.submitted == [f"t{number}" for number in range(20)]


def test_attempts_end_in_order_of_virtual_time():
    clock = VirtualClock()
    pool = ScriptedPool(workers=2, clock=clock, durations={"slow": 10, "quick": 1}, otherwise=Status.PASSED)
    tasks = [
        Task(nothing, "slow"),
        Task(nothing, "quick"),
        Task(nothing, "next", requires="/quick", estimate=3),
        Task(nothing, "last"),
    ]
    run = Sched(tasks, pool=pool).open()
    clock.jump(2)
    assert pool.running() == ["slow", "next"]
    pool.run_until_idle()
    assert clock() == 10
    results = {one.path: one for one in run.take()}
    assert list(results) == ["quick", "next", "last", "slow"]
    assert [one.duration for one in results.values()] == [1, 3, 1, 10]
    assert all(len(one.attempts) == 1 for one in results.values())
    run.close()


def test_the_test_may_end_what_the_script_would_have_ended_later():
    pool = ScriptedPool({"a": [Step(seconds=60)]})
    run = Sched(chain("a", "b"), pool=pool).open()
    pool.end("a", Status.TIMEOUT)
    assert not pool.has_queued()
    assert {one.path: str(one.status) for one in run.take()} == {"a": "timeout", "b": "skipped"}
    run.close()


def test_an_attempt_that_is_asked_to_stop_ends():
    pool = ScriptedPool()
    sched = Sched([Task(nothing, "a"), Task(nothing, "b")], pool=pool)
    with sched:
        sched.open()
    assert statuses(sched.results) == {"b": "cancelled", "a": "cancelled"}
    assert pool.asked == ["a"]


def test_an_attempt_that_does_not_obey_ends_when_forced():
    pool = ScriptedPool(obeys=False)
    run = Sched([Task(nothing, "a")], pool=pool).open()
    run.cancel()
    assert (pool.running(), pool.attempt("a").cancelled) == (["a"], True)
    run.cancel(force=True)
    assert pool.running() == []
    run.close()


def test_commands_are_held_as_well():
    results = Sched([pexen.command("exit 1", path="c")], pool=ScriptedPool({"c": [Status.PASSED]})).wait()
    assert results.ok


def test_what_it_was_given_can_be_looked_at():
    pool = ScriptedPool(workers=2)
    run = Sched([Task(lambda x: x, "a", args=[5], resources={"gpu": 1})], pool=pool, resources={"gpu": ["g0"]}).open()
    assert (pool.attempt("a").kwargs or pool.attempt("a").args, pool.attempt("a").units) == ((5,), {"gpu": ("g0",)})
    pool.end_all()
    run.take()
    run.close()


def test_ending_what_does_not_run_names_what_does():
    pool = ScriptedPool()
    run = Sched([Task(nothing, "alpha")], pool=pool).open()
    with pytest.raises(pexen.PoolError, match=r"(?s)running: alpha.*did you mean 'alpha'"):
        pool.end("alhpa")
    run.close()
    with pytest.raises(pexen.PoolError):
        pool.end("alpha")


def held_service(script=None, **meta):
    """Return a pool that nobody runs, its mailbox, and the attempt of a service that it holds."""
    pool, mailbox = ScriptedPool(script), Mailbox()
    pool.open(mailbox)
    attempt = Attempt(Task(nothing, "db", service=True, **meta), 1, Call(Kind.GENERATOR), mailbox.post)
    pool.submit(attempt)
    return pool, mailbox, attempt


def test_a_service_is_up_until_the_test_ends_it():
    pool, mailbox, attempt = held_service()
    assert (pool.running(), pool.services()) == (["db"], [])
    pool.up("db", 7, shared={"key": 1})
    assert (pool.running(), pool.services()) == (["db"], ["db"])
    assert mailbox.events == [Up(attempt, 7, {"key": 1})]
    with pytest.raises(pexen.PoolError, match="up already"):
        pool.up("db")
    pool.tear_down(attempt)
    assert (pool.torn_down, pool.services()) == (["db"], ["db"])
    pool.end("db", Status.ERROR)
    assert (pool.running(), pool.services(), mailbox.outcomes[0].status) == ([], [], Status.ERROR)


def test_a_service_of_the_script_comes_up_at_once_and_ends_as_the_step_says_when_it_is_torn_down():
    step = Step(Status.FAILED, 7, "no", shared={"key": 1}, reports=(Report("r", "warn"),), seconds=5)
    pool, mailbox, attempt = held_service({"db": [step]})
    assert mailbox.events == []
    pool.run_until_idle()
    assert mailbox.events[1:] == [Up(attempt, 7, {"key": 1})]
    assert [one.name for one in mailbox.reports()] == ["r"]
    assert (pool.services(), pool.clock()) == (["db"], 0)
    pool.tear_down(attempt)
    assert mailbox.outcomes == []
    pool.run_until_idle()
    [outcome] = mailbox.outcomes
    assert (outcome.status, outcome.reason, outcome.duration) == (Status.FAILED, "no", 5)
    assert (len(mailbox.reports()), pool.running(), pool.services(), pool.has_queued()) == (1, [], [], False)


def test_a_service_may_be_lost_before_it_is_up_and_die_while_it_is():
    pool, mailbox, attempt = held_service({"db": [Step(lost=True), 1]})
    pool.run_until_idle()
    assert mailbox.returned == [attempt]
    pool.submit(attempt)
    pool.run_until_idle()
    pool.end("db", Status.CRASHED)
    assert (mailbox.outcomes[0].status, pool.services()) == (Status.CRASHED, [])
