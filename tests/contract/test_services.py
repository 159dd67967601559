"""Services at the seam between run and pools, see `pexen.pool.base`: one body for all pools that run callables."""

import functools

import pytest

from pexen.errors import TaskFail
from pexen.model.event import Returned, Up
from pexen.model.result import Outcome, Status
from tests.contract import deeds
from tests.contract import deeds_of_services as services
from tests.contract.drivers import THE_SHARED_DICT, Drive, driving, value_of
from tests.contract.pools import Kind


@pytest.fixture(autouse=True)
def _serves(kind: Kind) -> None:
    if not kind.serves:
        pytest.skip("an executor cannot keep a service up")


BOTH = pytest.mark.parametrize("service", [services.service, services.asynchronous], ids=["plain", "asynchronous"])


def told(drive: Drive, attempt, what: str):
    """Return what both halves of a service say."""
    reports = {report.name: report.data[what] for report in drive.mailbox.reports(attempt) if what in report.data}
    found = reports["setup"], reports["teardown"]
    return [tuple(one) if isinstance(one, list) else one for one in found]


@BOTH
def test_a_service_is_up_until_it_is_torn_down(drive: Drive, service) -> None:
    up = drive.bring_up(service, {"port": 80})
    assert (value_of(up.value), up.shared) == ({"port": 80}, None)
    assert drive.mailbox.ends == []
    outcome = drive.tear_down(up.attempt)
    assert (outcome.status, outcome.value, outcome.failure, outcome.reason) == (Status.PASSED, None, None, "")
    assert outcome.started == up.attempt.started > 0
    order = [event for event in drive.mailbox.events if isinstance(event, Up | Outcome)]
    assert order == [up, outcome]
    assert [one.name for one in drive.mailbox.reports() if one.name != "tick"] == ["setup", "teardown"]


@pytest.mark.parametrize("way", ["method", "called", "partial", "none"])
def test_all_that_makes_a_generator_can_be_a_service(drive: Drive, way: str) -> None:
    thing = services.Service()
    what = {"method": thing.method, "called": thing, "partial": functools.partial(services.service, "partial")}
    up = drive.bring_up(what.get(way, functools.partial(services.service, None)))
    assert value_of(up.value) == (None if way == "none" else way)
    assert drive.tear_down(up.attempt).status is Status.PASSED


def test_both_halves_run_in_the_same_thread_and_the_same_surroundings(drive: Drive) -> None:
    up = drive.bring_up(services.service)
    drive.run(deeds.nothing)
    drive.tear_down(up.attempt)
    setup, teardown = told(drive, up.attempt, "where")
    assert setup == teardown
    assert told(drive, up.attempt, "var") == ["unset", "set"]


def test_both_halves_of_an_asynchronous_one_run_in_the_same_task(drive: Drive) -> None:
    up = drive.bring_up(services.asynchronous)
    drive.run(deeds.coroutine)
    drive.tear_down(up.attempt)
    setup, teardown = told(drive, up.attempt, "task")
    assert setup == teardown
    assert told(drive, up.attempt, "var") == ["unset", "set"]


def test_background_tasks_go_on_while_a_service_is_up(drive: Drive, kind: Kind) -> None:
    if kind.is_inline:
        pytest.skip("its event loop stands still")
    up = drive.bring_up(services.asynchronous)
    before = len(drive.mailbox.reports(up.attempt))
    drive.mailbox.wait_until(lambda: len(drive.mailbox.reports(up.attempt)) >= before + 5)
    assert drive.tear_down(up.attempt).status is Status.PASSED


def test_the_shared_dict_is_told_with_up_and_again_at_the_end(drive: Drive) -> None:
    up = drive.bring_up(services.sharing, THE_SHARED_DICT, layers=({"before": 1},))
    assert value_of(up.shared) == {"before": 1, "seen": ["before"]}
    outcome = drive.tear_down(up.attempt)
    assert value_of(outcome.shared) == {"before": 1, "seen": ["before"], "late": True}
    assert "late" not in value_of(up.shared)


# -- workers ----------------------------------------------------------------------------------------------------------


def test_a_service_that_is_up_does_not_count_among_the_workers(kind: Kind) -> None:
    with driving(kind.make(1)) as drive:
        ups = [drive.bring_up(service) for service in (services.service, services.asynchronous, services.service)]
        where = {value_of(drive.run(services.where).value) for _ in range(3)}
        assert len(where) == 1  # one worker, whatever is up
        assert all(drive.tear_down(up.attempt).status is Status.PASSED for up in ups)
        if not kind.is_inline:
            assert not where & {told(drive, up.attempt, "where")[0] for up in (ups[0], ups[2])}


def test_what_was_submitted_behind_a_service_runs_while_it_is_up(kind: Kind) -> None:
    with driving(kind.make(1)) as drive:
        first, *others = (
            drive.start(services.service), drive.start(deeds.answer), drive.start(services.service), drive.start(deeds.answer),
        )  # fmt: skip
        drive.up(first)
        drive.up(others[1])
        assert [value_of(one.value) for one in drive.outcomes([others[0], others[2]])] == [42, 42]
        for attempt in (first, others[1]):
            assert drive.tear_down(attempt).status is Status.PASSED
        assert not drive.mailbox.returned


def test_after_services_everything_goes_on(drive: Drive) -> None:
    for _ in range(3):
        up = drive.bring_up(services.service)
        drive.tear_down(up.attempt)
        assert value_of(drive.run(deeds.answer).value) == 42


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [services.never, services.asynchronously_never])
def test_one_that_yields_nothing_is_an_error(drive: Drive, service) -> None:
    outcome = drive.run(service, 0)
    assert outcome.status is Status.ERROR
    assert "a service that yields nothing" in outcome.failure.message
    assert not [event for event in drive.mailbox.events if isinstance(event, Up)]


@pytest.mark.parametrize("service", [services.twice, services.asynchronously_twice])
def test_one_that_yields_twice_is_an_error_and_closed(drive: Drive, service) -> None:
    up = drive.bring_up(service)
    outcome = drive.tear_down(up.attempt)
    assert (outcome.status, value_of(up.value)) == (Status.ERROR, 1)
    assert "a service yields once" in outcome.failure.message
    assert [(report.name, report.data["var"]) for report in drive.mailbox.reports()] == [("closed", "set")]


@pytest.mark.parametrize("service", [services.fails, services.asynchronously_fails])
@pytest.mark.parametrize("error", [ValueError("no"), TaskFail("no"), SystemExit("no"), GeneratorExit("no")], ids=repr)
def test_what_setup_raises_is_the_outcome(drive: Drive, service, error: BaseException) -> None:
    error.__traceback__ = None  # of the pool that was here before
    outcome = drive.run(service, "setup", error)
    assert outcome.status is (Status.FAILED if isinstance(error, TaskFail) else Status.ERROR)
    assert outcome.failure.message == "no"
    assert "deeds_of_services.py" in outcome.failure.traceback
    assert not [event for event in drive.mailbox.events if isinstance(event, Up)]


@pytest.mark.parametrize("service", [services.fails, services.asynchronously_fails])
@pytest.mark.parametrize("error", [ValueError("no"), AssertionError("no"), SystemExit("no")], ids=repr)
def test_what_teardown_raises_is_the_outcome(drive: Drive, service, error: BaseException) -> None:
    error.__traceback__ = None
    up = drive.bring_up(service, "teardown", error)
    outcome = drive.tear_down(up.attempt)
    assert outcome.status is (Status.FAILED if isinstance(error, AssertionError) else Status.ERROR)
    assert outcome.failure.message == "no"
    assert "deeds_of_services.py" in outcome.failure.traceback


def test_a_value_that_cannot_be_carried_is_an_error_and_what_was_set_up_is_torn_down(drive: Drive, kind: Kind) -> None:
    if not kind.copies:
        pytest.skip("values need not be carried")
    outcome = drive.run(services.unpicklable)
    assert outcome.status is Status.ERROR
    assert "return value cannot be pickled" in outcome.failure.message
    assert [report.name for report in drive.mailbox.reports()] == ["teardown"]


# -- cancelling and closing -------------------------------------------------------------------------------------------


def test_a_service_that_is_up_and_asked_to_stop_only_knows_it(drive: Drive) -> None:
    up = drive.bring_up(services.service)
    drive.pool.cancel(up.attempt, force=False)
    assert drive.tear_down(up.attempt).status is Status.PASSED
    assert told(drive, up.attempt, "cancelled") == [False, True]


@pytest.mark.parametrize("service", [services.closing, services.asynchronously_closing, services.stubborn])
def test_a_service_that_is_up_can_be_ended_by_force(drive: Drive, kind: Kind, service) -> None:
    up = drive.bring_up(service)
    drive.pool.cancel(up.attempt, force=True)
    outcome = drive.outcome(up.attempt)
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "killed on request")
    told = [] if kind.can_kill or service is services.stubborn else ["closed"]
    assert [report.name for report in drive.mailbox.reports()] == told
    assert value_of(drive.run(deeds.answer).value) == 42
    if not kind.is_inline:
        assert drive.pool.close().attempts == ()


def test_setup_and_teardown_can_be_asked_to_stop(drive: Drive, kind: Kind) -> None:
    if kind.is_inline:
        pytest.skip("nobody is there to ask")
    attempt = drive.start(services.slow_to_come_up)
    drive.wait_for_report(attempt)
    drive.pool.cancel(attempt, force=False)
    assert value_of(drive.up(attempt).value) == "late"
    assert drive.tear_down(attempt).status is Status.PASSED
    up = drive.bring_up(services.slow_to_go)
    drive.pool.tear_down(up.attempt)
    drive.wait_for_report(up.attempt)
    drive.pool.cancel(up.attempt, force=False)
    assert drive.outcome(up.attempt).status is Status.PASSED


def test_a_service_that_has_not_started_is_cancelled(drive: Drive, kind: Kind) -> None:
    if not kind.is_inline:
        pytest.skip("it would start at once")
    attempt = drive.start(services.service)
    drive.pool.cancel(attempt, force=True)
    assert drive.outcome(attempt).status is Status.CANCELLED
    assert not drive.mailbox.reports()


@pytest.mark.parametrize("service", [services.closing, services.asynchronously_closing])
@pytest.mark.parametrize("is_asked", [False, True])
def test_closing_the_pool_ends_what_is_up(kind: Kind, service, is_asked: bool) -> None:
    with driving(kind.make(1)) as drive:
        up = drive.bring_up(service)
        if is_asked:
            drive.pool.tear_down(up.attempt)
        assert drive.pool.close().attempts == ()
        [outcome] = drive.mailbox.ends
        if not kind.can_kill:
            assert outcome.status is Status.PASSED
            assert [report.name for report in drive.mailbox.reports()] == ["teardown"]
        elif not is_asked:  # else it may have been faster
            assert (outcome.status, outcome.reason) == (Status.CANCELLED, "the pool was closed")


def test_closing_the_pool_waits_for_a_service_that_comes_up_meanwhile(kind: Kind) -> None:
    if kind.is_inline:
        pytest.skip("nothing happens meanwhile")
    with driving(kind.make(1)) as drive:
        attempt = drive.start(services.slow_to_come_up)
        drive.wait_for_report(attempt)
        attempt.cancelled = True  # the thread goes on, the process is ended by the closing
        drive.pool.close()
        [outcome] = drive.mailbox.outcomes
        assert outcome.status is (Status.CANCELLED if kind.can_kill else Status.PASSED)


def test_closing_hands_back_a_service_that_has_not_started(kind: Kind) -> None:
    if not kind.is_inline:
        pytest.skip("it would start at once")
    with driving(kind.make(1)) as drive:
        attempt = drive.start(services.service)
        drive.pool.close()
        assert drive.mailbox.ends == [Returned(attempt)]


def test_events_come_from_threads_that_may_submit(kind: Kind) -> None:
    with driving(kind.make(1)) as drive:
        next_one = drive.attempt(deeds.answer)
        service = drive.attempt(services.service)

        def on_event(event) -> None:
            if isinstance(event, Up):
                drive.pool.submit(next_one)
            elif isinstance(event, Outcome) and event.attempt is next_one:
                drive.pool.tear_down(service)

        drive.mailbox.on_event = on_event
        drive.pool.submit(service)
        assert [one.status for one in drive.outcomes([service, next_one])] == [Status.PASSED] * 2
        drive.mailbox.on_event = None
