"""Services in each kind of pool: what does not hold for all of them. What does is in ``tests/contract/test_services.py``."""

import asyncio
import os
import select
import signal
import socket
import threading
from functools import partial

import pytest

from pexen import InlinePool, ThreadPool
from pexen.model.event import RebootWanted, Up
from pexen.model.result import Status
from pexen.pool import crew, wire
from pexen.pool.inbox import Inbox
from pexen.pool.process import ProcessPool
from tests.contract import deeds
from tests.contract import deeds_of_services as services
from tests.contract.drivers import Drive, driving, value_of
from tests.contract.mailbox import BOUND
from tests.pool import deeds_of_processes as processes
from tests.pool import deeds_of_running_services as acts


@pytest.fixture
def one():
    """A pool with one worker process."""
    with driving(ProcessPool(1)) as drive:
        yield drive
    drive.mailbox.events.clear()  # whoever can be answered, or has left files, keeps the pool


def names(drive: Drive) -> list[str]:
    return [report.name for report in drive.mailbox.reports()]


# -- processes --------------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_while_its_service_is_up_costs_nobody_else(one: Drive) -> None:
    up = one.bring_up(acts.plain)
    other = one.start(deeds.say_and_wait)
    one.wait_for_report(other)
    os.kill(value_of(up.value), signal.SIGKILL)
    outcome = one.outcome(up.attempt)
    assert (outcome.status, outcome.reason) == (Status.CRASHED, "killed by signal 9 (SIGKILL)")
    assert outcome.started == up.attempt.started > 0
    one.pool.cancel(other, force=False)
    assert one.outcome(other).status is Status.PASSED
    assert len(one.mailbox.ends) == 2
    one.pool.tear_down(up.attempt)  # too late
    assert value_of(one.run(deeds.answer).value) == 42


def test_a_worker_ends_with_its_service_and_is_free_then(one: Drive) -> None:
    pids = []
    for _ in range(2):
        up = one.bring_up(acts.plain)
        pids.append(value_of(up.value))
        assert not one.tear_down(up.attempt).freed
        one.mailbox.wait_until(lambda: type(one.mailbox.events[-1]).__name__ == "Freed")
    assert pids[0] != pids[1]


def test_the_process_stays_as_the_setup_has_made_it(tmp_path) -> None:
    with driving(ProcessPool(1, output=tmp_path)) as drive:
        before = os.getcwd(), None
        up = drive.bring_up(acts.changing, "/")
        assert value_of(drive.run(acts.look_around).value) == before
        outcome = drive.tear_down(up.attempt)
        [found] = drive.mailbox.reports()
        assert found.data == {"folder": "/", "variable": "yes"}
        assert outcome.output.read() == b"set up\ntorn down\n"


@pytest.mark.parametrize("stays", [False, True])
def test_children_live_while_their_service_is_up(one: Drive, stays: bool) -> None:
    up = one.bring_up(acts.with_child, stays)
    outcome = one.tear_down(up.attempt)
    assert [report.status for report in one.mailbox.reports()] == ["pass"]
    assert outcome.status is Status.PASSED
    assert (outcome.left.killed if outcome.left else "") == ("1 process (sleep)" if stays else "")


def test_a_fork_does_not_come_up_as_well(tmp_path) -> None:
    with driving(ProcessPool(1, output=tmp_path)) as drive:
        up = drive.bring_up(acts.forking)
        outcome = drive.tear_down(up.attempt)
        assert outcome.status is Status.PASSED
        assert outcome.output.read() == b"the child is here, too\n"
        assert len([event for event in drive.mailbox.events if isinstance(event, Up)]) == 1


@pytest.mark.parametrize("force", [False, True])
def test_what_somebody_writes_into_eventfds_does_not_start_it_twice(one: Drive, force: bool) -> None:
    up = one.bring_up(acts.forging)
    if force:
        one.pool.cancel(up.attempt, force=True)
        assert one.outcome(up.attempt).reason == "killed on request"
    else:
        os.kill(one.mailbox.reports()[0].data["pid"], signal.SIGKILL)
        assert one.outcome(up.attempt).status is Status.CRASHED
    assert names(one) == ["pid"]
    assert value_of(one.run(deeds.answer).value) == 42


def test_a_forged_eventfd_does_not_tear_it_down(one: Drive) -> None:
    up = one.bring_up(acts.forging)
    assert one.run(deeds.answer).status is Status.PASSED
    assert one.tear_down(up.attempt).status is Status.PASSED


@pytest.mark.parametrize("pretending", [acts.pretend_to_be_up, acts.come_up_twice])
def test_what_is_no_service_or_is_up_cannot_come_up(one: Drive, pretending) -> None:
    attempt = one.start(pretending)
    if pretending is acts.come_up_twice:
        one.up(attempt)
        one.pool.tear_down(attempt)
    outcome = one.outcome(attempt)
    assert outcome.status is Status.CRASHED
    assert outcome.reason.startswith("protocol damaged")


def test_how_long_services_are_up_says_nothing_about_what_to_send_ahead(one: Drive) -> None:
    up = one.bring_up(acts.plain)
    one.tear_down(up.attempt)
    assert one.pool._crew.ahead._typical is None


def test_nothing_is_sent_behind_a_service(monkeypatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 1000.0)  # what is sent ahead is not taken back
    with driving(ProcessPool(1, spare=5)) as drive:
        pid = value_of(drive.run(processes.pid).value)
        service = drive.start(services.slow_to_come_up)
        drive.wait_for_report(service)
        others = [drive.start(deeds.answer) for _ in range(3)]
        os.kill(pid, signal.SIGTERM)  # `Pool.cancel` would take back what is behind it
        drive.up(service)
        assert [value_of(one.value) for one in drive.outcomes(others)] == [42] * 3
        assert drive.tear_down(service).status is Status.PASSED


def test_a_service_waits_for_an_idle_worker(monkeypatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 1000.0)
    with driving(ProcessPool(1, spare=5)) as drive:
        pid = value_of(drive.run(processes.pid).value)
        first = drive.start(deeds.say_and_wait)
        drive.wait_for_report(first)
        behind = [drive.start(deeds.nothing), drive.start(acts.plain), *(drive.start(deeds.nothing) for _ in range(3))]
        os.kill(pid, signal.SIGTERM)
        assert drive.up(behind[1])
        assert [one.status for one in drive.outcomes([behind[0], *behind[2:]])] == [Status.PASSED] * 4
        assert drive.tear_down(behind[1]).status is Status.PASSED
        assert drive.mailbox.returned == []


def test_it_is_known_where_a_service_is_that_does_not_go(one: Drive) -> None:
    up = one.bring_up(services.slow_to_go)
    one.pool.tear_down(up.attempt)
    one.wait_for_report(up.attempt)
    one.pool.examine(up.attempt)
    one.pool.cancel(up.attempt, force=False)
    assert one.outcome(up.attempt).status is Status.PASSED
    assert "slow_to_go" in up.attempt.evidence


def test_what_a_handler_raises_while_it_is_up_tears_it_down_and_is_its_error(one: Drive) -> None:
    up = one.bring_up(acts.raising_handler)
    os.kill(value_of(up.value), signal.SIGUSR1)
    outcome = one.outcome(up.attempt)
    assert (outcome.status, outcome.failure.message) == (Status.ERROR, "the handler's")
    assert names(one) == ["pid", "teardown"]


def test_a_plain_service_needs_no_event_loop(one: Drive) -> None:
    up = one.bring_up(acts.modules)
    before = value_of(up.value)
    one.tear_down(up.attempt)
    [report] = one.mailbox.reports()
    assert "asyncio" not in {*before, *report.data["names"]}


# -- questions to the runner while a service is up --------------------------------------------------------------------


def asked(drive: Drive) -> RebootWanted:
    """Wait until somebody asks for a restart."""
    wishes = lambda: [event for event in drive.mailbox.events if isinstance(event, RebootWanted)]
    drive.mailbox.wait_until(wishes)
    return wishes()[0]


@pytest.mark.parametrize("service", [partial(acts.asking, False), acts.asking_itself], ids=["thread", "task"])
def test_who_asks_while_a_service_is_up_is_answered(one: Drive, service) -> None:
    up = one.bring_up(service)
    asked(one).answer("not now")
    one.wait_for_report(up.attempt, "answered")
    assert one.tear_down(up.attempt).status is Status.PASSED
    assert one.mailbox.reports()[0].message == "not now"


def test_a_service_is_torn_down_while_somebody_waits_for_an_answer(one: Drive) -> None:
    up = one.bring_up(acts.asking, True)
    question = asked(one)
    one.pool.tear_down(up.attempt)
    one.wait_for_report(up.attempt, "teardown")
    question.answer("not now")
    assert one.outcome(up.attempt).status is Status.PASSED
    assert names(one) == ["teardown", "answered"]


def test_a_task_of_the_event_loop_that_waits_for_an_answer_does_not_lose_the_teardown(one: Drive) -> None:
    up = one.bring_up(acts.asking_itself)
    question = asked(one)
    one.pool.tear_down(up.attempt)  # read by the one that waits for its answer
    question.answer("not now")
    assert one.outcome(up.attempt).status is Status.PASSED


@pytest.fixture
def inbox():
    """The inbox of a worker, and the runner's end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Inbox(theirs.fileno()), ours


def test_a_letter_may_have_come_before_somebody_waits_for_it(inbox) -> None:
    inbox, runner = inbox
    runner.sendall(wire.frame(wire.ANSWER, 1, b"one") + wire.frame(wire.RECALL, 0) + wire.frame(wire.TEAR_DOWN, 1))
    inbox.take_in()
    inbox.take_in()  # there is nothing more, and nobody waits for it
    assert inbox.wait_for(wire.ANSWER, 1) == b"one"
    assert inbox.wait_for(wire.TEAR_DOWN, 1) == b""
    assert inbox.frames == [(wire.RECALL, 0, b"")]


def test_a_letter_that_rings_without_having_come_keeps_nobody_busy(inbox) -> None:
    letter = inbox[0].expect(wire.TEAR_DOWN, 1)
    os.eventfd_write(letter.fd, 7)  # a task that writes to all descriptors there are
    assert not letter.has_arrived()
    assert not select.select([letter.fd], [], [], 0)[0]
    inbox[0].forget(wire.TEAR_DOWN, 1)


def test_who_reads_what_another_waits_for_wakes_it(inbox) -> None:
    inbox, runner = inbox
    came: list[bytes] = []
    for _ in range(50):
        waiting = [
            threading.Thread(target=lambda kind=kind: came.append(bytes(inbox.wait_for(kind, 7))))
            for kind in (wire.ANSWER, wire.TEAR_DOWN, wire.UP)
        ]
        for thread in waiting:
            thread.start()
        runner.sendall(b"".join(wire.frame(kind, 7, b"x") for kind in (wire.UP, wire.ANSWER, wire.TEAR_DOWN)))
        for thread in waiting:
            thread.join()
    assert came == [b"x"] * 150
    assert inbox.frames == []


# -- threads ----------------------------------------------------------------------------------------------------------


def test_a_thread_given_up_in_the_setup_never_comes_up() -> None:
    begun, go_on, told = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        yield go_on.wait()
        told.append("teardown")

    with driving(ThreadPool(1)) as drive:
        attempt = drive.start(slow)
        assert begun.wait(BOUND)
        drive.pool.cancel(attempt, force=True)
        assert drive.run(lambda: 1).value == 1  # another thread has its place
        go_on.set()
        outcome = drive.outcome(attempt)
        assert (outcome.status, outcome.reason) == (Status.CANCELLED, "killed on request")
        assert told == []
        assert drive.pool.close().attempts == ()


def test_a_thread_given_up_in_the_teardown_survives_the_pool() -> None:
    go_on = threading.Event()

    def stuck():
        yield threading.current_thread()
        go_on.wait()

    with driving(ThreadPool(1)) as drive:
        up = drive.bring_up(stuck)
        drive.pool.tear_down(up.attempt)
        drive.pool.cancel(up.attempt, force=True)
        assert drive.pool.close().attempts == (up.attempt,)
        go_on.set()
        up.value.join()
        assert drive.outcome(up.attempt).status is Status.PASSED


def test_the_loop_of_an_asynchronous_service_may_be_cancelled_by_itself() -> None:
    """Whoever cancels the task of the service ends it; a teardown that is wanted then comes too late."""
    tasks = []

    async def service():
        tasks.append((asyncio.get_running_loop(), asyncio.current_task()))
        yield
        tasks.append("teardown")

    with driving(ThreadPool(1)) as drive:
        up = drive.bring_up(service)
        loop, task = tasks.pop()
        loop.call_soon_threadsafe(task.cancel)
        outcome = drive.outcome(up.attempt)
        assert (outcome.status, outcome.failure.type) == (Status.ERROR, "asyncio.exceptions.CancelledError")
        assert tasks == ["teardown"]
        drive.pool.tear_down(up.attempt)
        drive.pool.cancel(up.attempt, force=True)
        assert len(drive.mailbox.ends) == 1


def test_threads_that_have_ended_are_not_taken_for_others_with_their_number() -> None:
    with driving(ThreadPool(1)) as drive:
        for _ in range(5):
            up = drive.bring_up(services.service)
            assert drive.run(lambda: 1).value == 1
            drive.tear_down(up.attempt)
            assert not drive.pool._threads.keys() & drive.pool._apart.keys()


def test_a_pool_opened_again_serves_again() -> None:
    pool = ThreadPool(1)
    for _ in range(3):
        with driving(pool) as drive:
            up = drive.bring_up(services.service)
            assert drive.run(lambda: 1).value == 1
            assert drive.tear_down(up.attempt).status is Status.PASSED


# -- inline -----------------------------------------------------------------------------------------------------------


def test_inline_teardown_waits_until_it_is_driven_and_comes_once() -> None:
    told = []

    def service():
        yield
        told.append("teardown")

    with driving(InlinePool()) as drive:
        up = drive.bring_up(service)
        for _ in range(2):
            drive.pool.tear_down(up.attempt)
        assert (told, drive.pool.has_queued()) == ([], True)
        drive.drive()
        drive.pool.tear_down(up.attempt)
        assert (told, drive.pool.has_queued(), len(drive.mailbox.ends)) == (["teardown"], False, 1)


def test_inline_services_that_are_up_when_the_pool_closes_go_in_reverse() -> None:
    told = []

    def service(name):
        yield
        told.append(name)

    with driving(InlinePool()) as drive:
        ups = [drive.bring_up(service, name) for name in "abc"]
        drive.pool.tear_down(ups[1].attempt)
        drive.pool.close()
        assert told == ["c", "b", "a"]
        assert [one.status for one in drive.mailbox.outcomes] == [Status.PASSED] * 3


def test_an_inline_event_loop_stands_still_while_its_service_is_up() -> None:
    with driving(InlinePool()) as drive:
        up = drive.bring_up(services.asynchronous)
        before = len(drive.mailbox.reports())
        drive.run(lambda: 1)
        assert len(drive.mailbox.reports()) == before
        assert drive.tear_down(up.attempt).status is Status.PASSED


def test_the_task_of_an_inline_service_may_have_been_cancelled() -> None:
    async def service():
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        yield

    with driving(InlinePool()) as drive:
        up = drive.bring_up(service)
        outcome = drive.tear_down(up.attempt)
        assert outcome.failure.type == "asyncio.exceptions.CancelledError"


def test_an_interrupt_of_the_event_loop_closes_it() -> None:
    async def service():
        yield
        raise KeyboardInterrupt

    with driving(InlinePool()) as drive:
        up = drive.bring_up(service)
        assert drive.tear_down(up.attempt).failure.type == "KeyboardInterrupt"


def test_the_driving_thread_is_in_no_task_while_a_service_is_up() -> None:
    from pexen.model.running import CURRENT

    with driving(InlinePool()) as drive:
        up = drive.bring_up(services.service)
        assert CURRENT.get() is None
        drive.tear_down(up.attempt)
        assert CURRENT.get() is None


# -- what a service is not --------------------------------------------------------------------------------------------


def test_a_plain_attempt_is_none_for_tear_down() -> None:
    for pool in (InlinePool(), ThreadPool(1), ProcessPool(1)):
        with driving(pool) as drive:
            attempt = drive.start(processes.pid)
            drive.outcome(attempt)
            drive.pool.tear_down(attempt)
            assert drive.run(deeds.answer).status is Status.PASSED
            assert len(drive.mailbox.ends) == 2
