"""Stages: a function called with every result, in parallel, with outcomes of its own beside those of the tasks."""

import pickle
import threading

import pytest

import pexen
from pexen import DefinitionError, PoolError, ProcessPool, Sched, Status, Task, ThreadPool
from pexen.testing import ScriptedPool

PATIENCE = 30.0
POOLS = {"thread": lambda: ThreadPool(2), "process": lambda: ProcessPool(1), "default": lambda: None}


def number_of(result):
    return int(result.path[1:])


def picky(result):
    if result.path == "t1":
        raise ValueError("not that one")
    return result.value


def give(value):
    return value


def tasks(count):
    return [Task(give, f"t{number}", args=(number * 10,)) for number in range(count)]


@pytest.mark.parametrize("pool", POOLS)
def test_it_is_called_with_every_result_and_its_outcome_is_attached(pool):
    run = Sched(tasks(20), pool=ThreadPool(2)).start()
    stage = run.post(number_of, POOLS[pool]())
    results = run.wait(PATIENCE)
    assert {path: one.posted["number_of"].value for path, one in results.items()} == {
        f"t{number}": number for number in range(20)
    }
    assert stage.name == "number_of"
    assert stage.results["t3"] is results["t3"].posted["number_of"]
    assert len(stage.wait()) == 20
    assert stage.errors == []


@pytest.mark.parametrize("pool", POOLS)
def test_its_errors_are_kept_apart(pool):
    run = Sched(tasks(3), pool=ThreadPool(2)).start()
    stage = run.post(picky, POOLS[pool]())
    results = run.wait(PATIENCE)
    assert results.ok
    assert [one.path for one in stage.errors] == ["t1"]
    assert results["t1"].status is Status.PASSED
    assert results["t1"].error is None
    assert results["t1"].posted["picky"].error.message == "not that one"
    assert results["t2"].posted["picky"].value == 20
    assert not stage.results.ok


def test_it_works_while_other_tasks_still_run():
    posted = threading.Event()
    run = Sched([Task(posted.wait, "t1", args=(PATIENCE,)), Task(give, "t0", args=(1,))], pool=ThreadPool(2)).start()
    run.post(lambda result: result.path == "t0" and posted.set(), name="tell")
    assert run.wait(PATIENCE)["t1"].value is True


def test_calls_are_made_in_parallel():
    meet = threading.Barrier(3)
    run = Sched(tasks(3), pool=ThreadPool(1)).start()
    stage = run.post(lambda _: meet.wait(PATIENCE), ThreadPool(3), name="meet")
    run.wait(PATIENCE)
    assert sorted(one.value for one in stage.results.values()) == [0, 1, 2]


def test_several_stages_have_names_of_their_own():
    run = Sched(tasks(30), pool=ThreadPool(2)).start()
    run.post(number_of)
    run.post(number_of, name="again")
    with pytest.raises(DefinitionError, match="'again'"):
        run.post(picky, name="again")
    assert all(set(one.posted) == {"number_of", "again"} for one in run.wait(PATIENCE).values())


def test_one_that_is_opened_late_gets_all_results():
    run = Sched(tasks(5), pool=ThreadPool(2)).start()
    run.wait(PATIENCE)
    stage = run.post(number_of)
    assert sorted(one.value for one in stage.wait(PATIENCE).values()) == list(range(5))
    assert run.wait(PATIENCE)["t4"].posted["number_of"].value == 4


def test_waiting_for_the_run_waits_for_its_stages():
    gate, called = threading.Event(), threading.Event()

    def slow(_):
        called.set()
        gate.wait(PATIENCE)

    run = Sched(tasks(1), pool=ThreadPool(1)).start()
    stage = run.post(slow)
    called.wait(PATIENCE)
    with pytest.raises(TimeoutError):
        run.wait(0.01)
    with pytest.raises(TimeoutError):
        stage.wait(0.01)
    gate.set()
    assert run.wait(PATIENCE)["t0"].posted["slow"].ok


def test_what_was_not_begun_is_cancelled_when_the_run_is_cut_short():
    called, never = threading.Event(), threading.Event()

    def stays():
        while not pexen.current().cancelled:
            never.wait(0.001)

    def stuck(_):
        called.set()
        stays()

    with Sched([*tasks(5), Task(stays, "stays")], pool=ThreadPool(1)) as sched:
        stage = sched.start().post(stuck, ThreadPool(1))
        called.wait(PATIENCE)
    statuses = [one.status for one in stage.results.values()]
    assert statuses.count(Status.PASSED) == 1  # it was asked to stop, and did
    assert set(statuses) == {Status.PASSED, Status.CANCELLED}


def dies(result):
    import os

    os._exit(3)


def test_one_call_that_kills_its_process_is_an_outcome_like_others():
    run = Sched(tasks(2), pool=ThreadPool(1)).start()
    stage = run.post(dies, ProcessPool(1))
    results = run.wait(PATIENCE)
    assert results.ok
    assert [str(one.status) for one in stage.errors] == ["crashed", "crashed"]


class BrokenPool(ScriptedPool):
    """A pool that cannot work."""

    def submit(self, attempt):
        raise PoolError("broken on purpose")


def test_a_pool_that_cannot_work_is_told_by_whoever_waits():
    run = Sched(tasks(2), pool=ThreadPool(1)).start()
    stage = run.post(number_of, BrokenPool())
    with pytest.raises(PoolError, match="on purpose"):
        stage.wait(PATIENCE)
    with pytest.raises(PoolError, match="on purpose"):
        run.wait(PATIENCE)


@pytest.mark.parametrize("function", [lambda: None, lambda one, two: None])
def test_a_function_that_cannot_be_called_with_a_result_is_refused_at_once(function):
    run = Sched(tasks(1), pool=ThreadPool(1)).start()
    with pytest.raises(DefinitionError):
        run.post(function)
    assert run.wait(PATIENCE).ok


def test_a_function_whose_own_metadata_do_not_fit_is_told_by_whoever_waits():
    run = Sched(tasks(1), pool=ThreadPool(1)).start()
    stage = run.post(pexen.task(requires="nobody")(lambda result: None), name="odd")
    with pytest.raises(DefinitionError, match="nobody"):
        stage.wait(PATIENCE)


def test_what_is_attached_travels_with_a_pickled_result():
    run = Sched(tasks(2), pool=ThreadPool(1)).start()
    run.post(picky)
    results = run.wait(PATIENCE)
    again = pickle.loads(pickle.dumps(results["t1"]))
    assert again.posted["picky"].error.type == "ValueError"
    assert pickle.loads(pickle.dumps(results["t0"])).posted["picky"].value == 0
    assert again.value == 10


def test_without_a_stage_nothing_is_attached():
    assert pexen.run(tasks(1))["t0"].posted == {}
