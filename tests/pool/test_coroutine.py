"""AsyncPool: coroutines on one event loop. What holds for every pool is in ``tests/contract``."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial

import pytest

import pexen
from pexen import AsyncPool, LocalPool, Sched, Status, Task
from pexen.model.event import Freed, Returned, Up
from pexen.pool import coroutine
from tests.contract.mailbox import BOUND, Stopwatch
from tests.pool.box import Box


@pytest.fixture
def box() -> Iterator[Box]:
    """An open pool with one place."""
    box = Box(AsyncPool(1))
    box.pool.open(box)
    yield box
    box.pool.close()
    box.events.clear()


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Have a pool that is closed wait for nobody."""
    monkeypatch.setattr(coroutine, "GIVE_UP", 0.05)


async def answer() -> int:
    return 42


async def forever() -> None:
    pexen.current().report("running")
    await asyncio.Event().wait()


def reported(box: Box, name: str = "running") -> None:
    box.wait_until(lambda: any(report.name == name for report in box.reports()))


def test_ten_thousand_wait_at_the_same_time() -> None:
    """Each waits for the last one to come, so all of them are under way at once."""
    came = []
    opened = asyncio.Event()

    async def wait_for_all() -> int:
        came.append(1)
        if len(came) == 10_000:
            opened.set()
        await opened.wait()
        return 1

    before = threading.active_count()
    most = []
    tasks = [Task(wait_for_all, f"t{number}") for number in range(10_000)]
    for result in Sched(tasks, pool=AsyncPool()).run():
        assert result.value == 1
        most.append(threading.active_count())
    assert len(most) == 10_000
    assert max(most) <= before + 1


def test_no_more_than_the_workers_run_at_once() -> None:
    running, most, full = [], [], asyncio.Event()

    async def note() -> None:
        running.append(1)
        most.append(len(running))
        if len(most) == 3:
            full.set()
        await full.wait()
        running.pop()

    assert Sched([Task(note, f"t{number}") for number in range(50)], pool=AsyncPool(3)).wait().ok
    assert max(most) == 3


# -- ending -----------------------------------------------------------------------------------------------------------


def test_a_timeout_cancels_and_the_evidence_says_where_it_waited() -> None:
    cleaned = []

    async def innermost() -> None:
        await asyncio.Event().wait()

    async def late() -> None:
        try:
            await asyncio.gather(innermost())
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    result = Sched([Task(late, "late", timeout=0.1)], pool=AsyncPool()).wait()["late"]
    assert (result.status, result.reason) == (Status.TIMEOUT, "took longer than its timeout of 0.1 s")
    assert cleaned == [1]
    assert "in late" in result.evidence
    assert "in innermost" in result.evidence  # the task that it has started
    assert "onloop.py" not in result.evidence


def test_what_is_cancelled_in_the_queue_is_never_run(box: Box) -> None:
    first, second = box.submit(forever), box.submit(answer)
    reported(box)
    box.pool.cancel(second, force=False)
    outcome = box.wait_for(second)
    assert (outcome.status, outcome.reason, outcome.started) == (Status.CANCELLED, "cancelled before it started", 0)
    box.pool.cancel(first, force=False)
    assert box.wait_for(first).reason == "cancelled on request"


def test_what_is_cancelled_before_its_first_step_is_told_so(box: Box) -> None:
    def both() -> None:  # on the loop, which has no time in between
        box.pool._cancel(attempt, False)

    attempt = box.attempt(answer)
    box.pool._inbox.append(attempt)
    box.pool._call(lambda: (box.pool._take(), both()))
    outcome = box.wait_for(attempt)
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "cancelled before it started")
    assert box.run(answer).value == 42


def test_a_cancellation_that_nobody_asked_for_is_an_error(box: Box) -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    outcome = box.run(cancels_itself)
    assert outcome.status is Status.ERROR
    assert outcome.failure is not None
    assert outcome.failure.type == "asyncio.exceptions.CancelledError"


def test_one_that_does_not_stop_is_given_up_and_ended_with_the_pool(impatient) -> None:
    ended = []

    async def deaf() -> None:
        pexen.current().report("running")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pexen.current().report("asked")
            except GeneratorExit:
                ended.append(1)
                raise

    box = Box(AsyncPool(1))
    box.pool.open(box)
    attempt = box.submit(deaf)
    reported(box)
    for force in (False, True):
        box.pool.cancel(attempt, force=force)
    reported(box, "asked")
    assert box.run(answer).value == 42  # its place is free
    assert attempt not in box.ended()
    assert box.pool.close().attempts == ()
    outcome = box.ended()[attempt]
    assert (outcome.status, outcome.reason, outcome.freed) == (Status.CANCELLED, "it did not stop when asked", True)
    assert ended == [1]


def test_one_that_never_waits_does_not_keep_the_pool_from_closing(impatient) -> None:
    let_go = threading.Event()

    async def blocks() -> None:
        pexen.current().report("running")
        let_go.wait(BOUND)

    box = Box(AsyncPool())
    box.pool.open(box)
    attempt, other = box.submit(Task(blocks, grace=0)), box.submit(Task(answer, grace=0))
    reported(box)
    box.pool.examine(attempt)
    assert "in blocks" in attempt.evidence
    with Stopwatch(BOUND):
        assert attempt in box.pool.close().attempts
    let_go.set()
    assert [event for event in box.ends if event.attempt is other] in ([], [Returned(other)])


def test_a_coroutine_may_ignore_everything_and_still_nothing_hangs(impatient) -> None:
    ignored = []

    async def ignores_everything() -> None:
        never = asyncio.get_running_loop().create_future()
        pexen.current().report("running")
        while True:
            try:
                await asyncio.shield(never) if not ignored else await never
            except BaseException as error:
                if GeneratorExit in ignored:
                    raise
                ignored.append(type(error))

    box = Box(AsyncPool())
    box.pool.open(box)
    attempt = box.submit(Task(ignores_everything, grace=0))
    reported(box)
    with Stopwatch(BOUND):
        assert box.pool.close().attempts == ()
    assert box.ended()[attempt].status is Status.CANCELLED
    assert ignored == [asyncio.CancelledError, GeneratorExit]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("depth", range(3))
def test_no_exception_ends_the_loop(box: Box, error: BaseException, depth: int) -> None:
    """In the coroutine, in a task that it awaits, in one that it does not."""

    async def raises() -> None:
        raise error

    async def waits() -> None:
        await asyncio.create_task(raises())

    async def leaves() -> None:
        asyncio.create_task(raises())  # noqa: RUF006
        for _ in range(3):
            await asyncio.sleep(0)

    outcome = box.run((raises, waits, leaves)[depth])
    assert outcome.status is (Status.PASSED if depth == 2 else Status.ERROR)
    assert box.run(answer).value == 42
    assert box.pool._thread.is_alive()


def test_a_task_that_stops_the_loop_stops_nobody(box: Box) -> None:
    async def stops() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)

    assert box.run(stops).status is Status.PASSED
    assert box.run(answer).value == 42


# -- what belongs to an attempt ---------------------------------------------------------------------------------------

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


def test_each_attempt_has_contextvars_of_its_own_and_so_has_what_it_starts() -> None:
    async def sets(name: str) -> tuple[str, ...]:
        found = VARIABLE.get()
        VARIABLE.set(name)
        await asyncio.sleep(0)

        async def inner() -> str:
            return f"{VARIABLE.get()} {pexen.current().path}"

        return found, await asyncio.create_task(inner()), await asyncio.to_thread(lambda: VARIABLE.get())

    tasks = [Task(sets, path, args=[path]) for path in ("a", "b")]
    results = Sched(tasks, pool=AsyncPool()).wait()
    assert [result.value for result in results.values()] == [("unset", "a a", "a"), ("unset", "b b", "b")]
    assert VARIABLE.get() == "unset"


def test_the_attempt_is_known_in_threads_that_it_starts(box: Box) -> None:
    async def asks() -> str:
        return await asyncio.to_thread(lambda: pexen.current().path)

    assert box.run(Task(asks, "a/b")).value == "a/b"


def test_tasks_left_behind_are_ended_before_the_outcome(box: Box) -> None:
    order = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            asyncio.create_task(another())  # noqa: RUF006
            order.append("background")

    async def another() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("another")

    async def leaves() -> int:
        asyncio.create_task(background())  # noqa: RUF006
        await asyncio.sleep(0)
        return 1

    outcome = box.run(leaves)
    assert outcome.value == 1
    assert order[0] == "background"
    assert box.run(all_tasks).value == 1


async def all_tasks() -> int:
    return len(asyncio.all_tasks())


def test_what_is_submitted_by_a_report_does_not_belong_to_the_one_that_reports() -> None:
    """Whoever reports may have to decide what runs next, and submits it: in its own contextvars."""
    ended = asyncio.Event()

    async def reports() -> None:
        pexen.current().report("running")
        for _ in range(3):
            await asyncio.sleep(0)

    async def waits() -> str:
        await ended.wait()
        return pexen.current().path

    box = Box(AsyncPool())
    second = box.attempt(Task(waits, "second"))

    def submit(event) -> None:
        if event in box.ends:
            ended.set()
        else:
            box.pool.submit(second)

    box.on_event = submit
    box.pool.open(box)
    assert box.run(Task(reports, "first")).status is Status.PASSED
    assert box.wait_for(second).value == "second"
    box.pool.close()
    box.on_event = None


def test_locks_are_held_until_the_thread_of_a_cancelled_coroutine_has_returned(box: Box) -> None:
    let_go = threading.Event()

    async def in_thread() -> None:
        await asyncio.to_thread(wait)

    def wait() -> None:
        pexen.current().report("running")
        let_go.wait(BOUND)

    attempt = box.submit(in_thread)
    reported(box)
    box.pool.cancel(attempt, force=False)
    outcome = box.wait_for(attempt)
    assert (outcome.status, outcome.freed) == (Status.CANCELLED, False)
    assert Freed(attempt) not in box.events
    let_go.set()
    box.wait_until(lambda: Freed(attempt) in box.events)


def test_a_thread_that_does_not_return_does_not_keep_the_pool_from_closing(impatient) -> None:
    let_go = threading.Event()

    async def in_thread() -> None:
        pexen.current().report("running")
        await asyncio.to_thread(let_go.wait, BOUND)

    box = Box(AsyncPool())
    box.pool.open(box)
    attempt = box.submit(in_thread)
    reported(box)
    with Stopwatch(BOUND):
        assert box.pool.close().attempts == (attempt,)
    let_go.set()


def test_a_restart_of_the_machine_cannot_be_waited_for_on_the_loop(box: Box) -> None:
    async def wants() -> None:
        pexen.current().reboot()

    async def wants_in_a_thread() -> None:
        await asyncio.to_thread(pexen.current().reboot)

    failure = box.run(wants).failure
    assert failure is not None
    assert "asyncio.to_thread" in failure.message
    result = Sched([Task(wants_in_a_thread, "a")], pool=AsyncPool()).wait()["a"]
    assert "no journal" in str(result.error)


# -- plain functions --------------------------------------------------------------------------------------------------


def test_plain_functions_run_beside_the_loop_and_do_not_stop_it() -> None:
    met = threading.Event()

    def plain() -> str:
        assert met.wait(BOUND)
        return threading.current_thread().name

    async def sets() -> None:
        met.set()

    results = Sched([Task(plain, "plain"), Task(sets, "sets")], pool=AsyncPool()).wait()
    assert results["plain"].value.startswith("pexen-thread")
    assert results["sets"].ok


def test_commands_run_beside_it_in_a_local_pool() -> None:
    async def length(shell) -> int:
        await asyncio.sleep(0)
        return 1

    tasks = [Task(length, "length", requires="/shell", kwargs={"shell": None}), pexen.command("exit 0", path="shell")]
    results = Sched(tasks, pool=LocalPool(callables=AsyncPool())).wait()
    assert results.ok
    assert results["length"].value == 1


def test_values_go_from_one_to_the_other_by_reference() -> None:
    thing = object()

    async def gives() -> object:
        return thing

    tasks = [Task(gives, "gives"), Task(lambda gives: gives is thing, "takes", requires="/gives")]
    assert Sched(tasks, pool=AsyncPool()).wait()["takes"].value is True


# -- services ---------------------------------------------------------------------------------------------------------


def up(box: Box, attempt) -> Up:
    """Wait until the service is up."""
    box.wait_until(lambda: any(isinstance(event, Up) and event.attempt is attempt for event in box.events))
    return next(event for event in box.events if isinstance(event, Up))


def service(function, **meta) -> Task:
    return Task(function, "service", service=True, **meta)


def test_a_service_is_up_until_it_is_torn_down_in_the_same_task_and_takes_no_place(box: Box) -> None:
    seen = []

    async def serves():
        pexen.current().shared["port"] = 1
        VARIABLE.set("mine")
        seen.append(asyncio.current_task())
        async with asyncio.timeout(None):
            yield "value"
        seen.append(asyncio.current_task())
        seen.append(VARIABLE.get())

    attempt = box.submit(service(serves))
    told = up(box, attempt)
    assert (told.value, told.shared) == ("value", {"port": 1})
    assert box.run(answer).value == 42  # in the only place there is
    assert attempt not in box.ended()
    box.pool.tear_down(attempt)
    assert box.wait_for(attempt).status is Status.PASSED
    assert seen[0] is seen[1]
    assert seen[2] == "mine"


def test_a_service_that_yields_twice_is_an_error_and_is_ended(box: Box) -> None:
    ended = []

    async def serves():
        try:
            yield 1
            yield 2
        finally:
            ended.append(1)

    attempt = box.submit(service(serves))
    up(box, attempt)
    box.pool.tear_down(attempt)
    outcome = box.wait_for(attempt)
    assert outcome.status is Status.ERROR
    assert outcome.failure is not None
    assert "a service yields once" in outcome.failure.message
    assert ended == [1]


def test_a_service_that_does_not_come_up(box: Box) -> None:
    async def yields_nothing():
        if False:
            yield

    async def raises():
        raise AssertionError("no")
        yield

    first, second = box.run(service(yields_nothing)), box.run(service(raises))
    assert (first.status, second.status) == (Status.ERROR, Status.FAILED)
    assert first.failure is not None
    assert "yields nothing" in first.failure.message
    assert not [event for event in box.events if isinstance(event, Up)]


def test_an_error_in_the_teardown_is_the_outcome(box: Box) -> None:
    async def serves():
        yield
        raise ValueError("down")

    attempt = box.submit(service(serves))
    up(box, attempt)
    box.pool.tear_down(attempt)
    outcome = box.wait_for(attempt)
    assert outcome.status is Status.ERROR
    assert outcome.failure is not None
    assert outcome.failure.message == "down"


@pytest.mark.parametrize("how", ["force", "close", "tear down and close"])
def test_a_service_that_is_ended_while_it_is_up_cleans_up(how) -> None:
    """By force it is closed at its yield, otherwise it is torn down in good order; a teardown is not interrupted."""
    ended = []

    async def serves():
        try:
            yield
        except GeneratorExit:
            ended.append("closed")
            raise
        await asyncio.sleep(0.01)
        ended.append("torn down")

    box = Box(AsyncPool())
    box.pool.open(box)
    attempt = box.submit(service(serves))
    up(box, attempt)
    box.pool.examine(attempt)
    assert "in serves" in attempt.evidence
    if how == "force":
        box.pool.cancel(attempt, force=True)
        assert box.wait_for(attempt).reason == "killed on request"
    elif how == "tear down and close":
        box.pool.tear_down(attempt)
    assert box.pool.close().attempts == ()
    assert box.ended()[attempt].status is (Status.CANCELLED if how == "force" else Status.PASSED)
    assert ended == ["closed" if how == "force" else "torn down"]
    box.events.clear()
    attempt.files = None


def test_a_service_that_is_asked_to_stop_while_it_is_up_only_knows_it(box: Box) -> None:
    async def serves():
        yield
        pexen.current().report(str(pexen.current().cancelled))

    attempt = box.submit(service(serves))
    up(box, attempt)
    box.pool.cancel(attempt, force=False)
    box.pool.tear_down(attempt)
    assert box.wait_for(attempt).status is Status.PASSED
    assert [report.name for report in box.reports()] == ["True"]


def test_a_partial_of_a_coroutine_function_and_an_object_that_is_called_like_one(box: Box) -> None:
    class Called:
        async def __call__(self) -> str:
            return threading.current_thread().name

    async def name(one) -> str:
        return threading.current_thread().name

    assert box.run(Task(partial(name, 1), "partial")).value == "pexen-loop"
    assert box.run(Task(Called(), "object")).value == "pexen-loop"


def test_runs_that_do_not_need_it_never_import_asyncio() -> None:
    import subprocess
    import sys

    code = (
        "import sys, pexen\n"
        "pexen.AsyncPool if 0 else None\n"
        "assert pexen.Sched([lambda: 1, pexen.command('exit 0', path='c')]).wait().ok\n"
        "print('asyncio' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=BOUND)
    assert done.stdout == "False\n", done.stderr


def test_the_clock_of_an_attempt_starts_with_its_code(box: Box) -> None:
    before = time.monotonic()
    outcome = box.run(answer)
    assert before <= outcome.started == outcome.attempt.started <= time.monotonic()
