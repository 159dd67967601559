"""ExecutorPool: callables in anybody's executor. What holds for every pool is in ``tests/contract``."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import pexen
from pexen import ExecutorPool, Sched, Status, Task
from pexen.model.cpus import usable_cpus
from pexen.model.event import Broken, Returned
from pexen.model.result import Pickled
from tests.contract.mailbox import BOUND, Stopwatch
from tests.pool import deeds_of_executors as deeds
from tests.pool.box import Box

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
FORK = multiprocessing.get_context("fork")  # the other ways leave servers behind


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=FORK) as executor:
        yield executor


def opened(executor: Executor, workers: int | None = None) -> Box:
    box = Box(ExecutorPool(executor, workers))
    box.pool.open(box)
    return box


class Here(Executor):
    """Runs everything at once, in the thread that submits it; says nothing about workers."""

    def submit(self, what, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(what(*args, **kwargs))
        return future


class Refusing(Executor):
    def submit(self, what, /, *args, **kwargs):
        raise OSError(28, "the cluster is full")


def test_any_executor_will_do() -> None:
    results = Sched([Task(lambda: threading.current_thread().name, "a")], pool=ExecutorPool(Here())).wait()
    assert results["a"].value == "pexen-executor"


def test_the_workers_are_those_of_the_executor_or_as_said(threads) -> None:
    assert ExecutorPool(threads).workers == ExecutorPool(threads).capacity == 1
    assert ExecutorPool(threads, 7).workers == 7
    assert ExecutorPool(Here()).workers == usable_cpus()


def test_the_executor_is_still_its_owners_afterwards(threads) -> None:
    assert Sched([Task(lambda: 1, "a")], pool=ExecutorPool(threads)).wait().ok
    assert threads.submit(lambda: 2).result() == 2


def test_what_has_not_started_is_taken_back(threads) -> None:
    let_go = threading.Event()
    box = Box(ExecutorPool(threads, 5), lambda event: let_go.set() if isinstance(event, Returned) else None)
    box.pool.open(box)
    first, second, third = (box.submit(let_go.wait) for _ in range(3))
    box.pool.cancel(second, force=False)
    outcome = box.wait_for(second)
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "cancelled before it started")
    box.pool.close()
    assert box.ended()[first].status is Status.PASSED
    assert Returned(third) in box.events


def test_what_was_given_up_survives_the_pool(threads) -> None:
    let_go = threading.Event()

    def deaf() -> None:
        pexen.current().report("running")
        let_go.wait(BOUND)

    box = opened(threads)
    attempt = box.submit(deaf)
    box.wait_until(lambda: bool(box.reports()))
    box.pool.examine(attempt)
    assert "in deaf" in attempt.evidence
    box.pool.cancel(attempt, force=True)
    with Stopwatch(BOUND):
        assert box.pool.close().attempts == (attempt,)
    let_go.set()
    attempt.files = None


def test_a_timeout_is_told_honestly(threads) -> None:
    let_go = threading.Event()
    task = Task(let_go.wait, "deaf", args=[BOUND], timeout=0.1, grace=0.1)
    (result,) = Sched([task], pool=ExecutorPool(threads)).wait().values()
    let_go.set()
    assert result.status is Status.TIMEOUT
    assert "still runs" in result.reason


def test_a_service_is_refused(threads) -> None:
    def serves():
        yield

    box = opened(threads)
    outcome = box.run(Task(serves, "service", service=True))
    assert (outcome.status, "cannot keep a service" in outcome.reason) == (Status.ERROR, True)
    with pytest.raises(pexen.PoolError, match="cannot keep a service"):
        box.pool.tear_down(outcome.attempt)
    box.pool.close()


# -- executors that break ---------------------------------------------------------------------------------------------


def test_a_dead_worker_ends_the_run_and_is_the_only_ones_crash(processes) -> None:
    tasks = [Task(deeds.exits, "exits"), Task(deeds.tells, "after", after="/exits")]
    sched = Sched(tasks, pool=ExecutorPool(processes))
    with pytest.raises(pexen.PoolError, match="BrokenProcessPool"):
        sched.wait()
    assert sched.results["exits"].status is Status.CRASHED
    assert sched.results["after"].status is Status.CANCELLED


def test_with_several_in_flight_nobody_knows_who_has_done_it() -> None:
    read, write = os.pipe()
    tasks = [Task(deeds.waits, f"waits{number}", args=[read]) for number in range(2)]
    with ProcessPoolExecutor(3, mp_context=FORK) as executor:
        sched = Sched([*tasks, Task(deeds.exits, "exits", retries=3)], pool=ExecutorPool(executor))
        with pytest.raises(pexen.PoolError, match="the pool executor cannot work"):
            sched.wait()
    os.close(read)
    os.close(write)
    assert {str(result.status) for result in sched.results.values()} == {"lost"}
    assert {len(result.attempts) for result in sched.results.values()} == {1}


def test_an_executor_that_takes_nothing_ends_the_run() -> None:
    sched = Sched([Task(deeds.tells, "a"), Task(deeds.tells, "b")], pool=ExecutorPool(Refusing(), 1))
    with pytest.raises(pexen.PoolError, match="the cluster is full"):
        sched.wait()
    assert {str(result.status) for result in sched.results.values()} == {"cancelled"}


def test_an_executor_that_is_shut_down_in_the_middle_ends_the_run() -> None:
    executor = ThreadPoolExecutor(1)
    tasks = [
        Task(lambda: executor.shutdown(wait=False, cancel_futures=True), "ends"),
        Task(deeds.tells, "b", after="/ends"),
    ]
    sched = Sched(tasks, pool=ExecutorPool(executor))
    with pytest.raises(pexen.PoolError, match="cannot schedule new futures after shutdown"):
        sched.wait()
    assert sched.results["ends"].ok


def test_futures_that_their_owner_cancels_come_back_and_end_the_run() -> None:
    let_go, queued = threading.Event(), threading.Semaphore(0)

    class Telling(ThreadPoolExecutor):
        def submit(self, what, /, *args, **kwargs):
            future = super().submit(what, *args, **kwargs)
            queued.release()
            return future

    executor = Telling(1)
    box = opened(executor, 2)
    first = box.submit(lambda: (pexen.current().report("running"), let_go.wait(BOUND)))
    box.wait_until(lambda: bool(box.reports()))
    second = box.submit(deeds.tells)
    assert queued.acquire(timeout=BOUND)
    assert queued.acquire(timeout=BOUND)
    executor.shutdown(wait=False, cancel_futures=True)
    box.wait_until(lambda: Returned(second) in box.events)
    assert [event for event in box.events if isinstance(event, Broken)]
    let_go.set()
    box.pool.close()
    assert box.ended()[first].status is Status.PASSED


def test_broken_is_told_before_the_outcomes_and_once(processes) -> None:
    box = opened(processes, 3)
    attempts = [box.submit(deeds.exits) for _ in range(3)]
    box.wait_for_ends(3)
    box.pool.close()
    assert [type(event) for event in box.events].count(Broken) == 1
    assert isinstance(box.events[0], Broken)
    assert {event.attempt for event in box.ends} == set(attempts)


# -- processes --------------------------------------------------------------------------------------------------------


def test_an_attempt_in_a_process_is_told_about_itself(processes) -> None:
    result = Sched([Task(deeds.tells, "a/b")], pool=ExecutorPool(processes)).wait()["a/b"]
    path, number, cancelled, pid = result.value
    assert (path, number, cancelled) == ("a/b", 1, False)
    assert pid != os.getpid()
    assert result.start > 0


@pytest.mark.parametrize("verb", ["report", "heartbeat", "timeout", "dir", "attach", "reboot"])
def test_nothing_can_be_said_from_there(processes, verb) -> None:
    result = Sched([Task(deeds.says, "a", args=[verb])], pool=ExecutorPool(processes)).wait()["a"]
    assert result.status is Status.ERROR
    assert "nothing can be said to the run" in str(result.error)


def test_what_cannot_be_pickled_is_the_tasks_error(processes) -> None:
    lock = threading.Lock()
    tasks = [
        Task(lambda: lock, "callable"), Task(deeds.returns, "argument", args=[lock]), Task(deeds.tells, "after"),
    ]  # fmt: skip
    results = Sched(tasks, pool=ExecutorPool(processes)).wait()
    assert "the callable cannot be pickled: TypeError" in str(results["callable"].error)
    assert "an argument cannot be pickled: TypeError" in str(results["argument"].error)
    assert results["after"].ok


def test_values_stay_closed_in_the_runner(processes) -> None:
    results = Sched(
        [Task(deeds.makes_what_nobody_else_may_open, "makes"), Task(deeds.returns, "takes", args=[1], after="/makes")],
        pool=ExecutorPool(processes),
    ).wait()
    assert isinstance(results["makes"].carried, Pickled)
    with pytest.raises(LookupError, match="not at home"):
        _ = results["makes"].value
    assert results["takes"].value == 1


def test_lambdas_coroutines_and_values_of_others_travel(processes) -> None:
    async def doubles(one) -> int:
        return 2 * one

    results = Sched(
        [Task(lambda: 21, "one"), Task(doubles, "two", requires="/one")], pool=ExecutorPool(processes)
    ).wait()
    assert results["two"].value == 42
