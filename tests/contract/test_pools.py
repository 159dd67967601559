"""The seam between run and pools, see `pexen.pool.base`: one body for all of them."""

import functools
import operator
import pickle
import threading

import pytest

import pexen
from pexen.errors import TaskFail, TaskSkip
from pexen.model.event import Returned
from pexen.model.result import Outcome, Pickled, Status
from tests.contract import deeds
from tests.contract.drivers import THE_SHARED_DICT, Drive, attempt_of, driving, value_of
from tests.contract.mailbox import BOUND, Mailbox, Stopwatch
from tests.contract.pools import Kind
from tests.leaks import Belongings, leaks_since

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the executor's, see `Owning`

# -- values and verdicts ----------------------------------------------------------------------------------------------


def test_a_value_comes_back(drive: Drive) -> None:
    outcome = drive.run(deeds.answer)
    assert outcome.status is Status.PASSED
    assert value_of(outcome.value) == 42
    assert outcome.failure is None
    assert outcome.shared is None
    assert outcome.output is None


def test_none_comes_back(drive: Drive) -> None:
    outcome = drive.run(deeds.nothing)
    assert (outcome.status, outcome.value, outcome.reason) == (Status.PASSED, None, "")


def test_times_are_told(drive: Drive) -> None:
    attempts = [drive.start(deeds.nothing) for _ in range(5)]
    for outcome, attempt in zip(drive.outcomes(attempts), attempts, strict=True):
        assert outcome.attempt is attempt
        assert outcome.started > 0
        assert 0 <= outcome.duration < BOUND
        assert attempt.started == outcome.started


ERRORS = [
    ValueError("text"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), deeds.Own("own"), StopIteration(1),
    RecursionError("deep"), MemoryError(), ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_task_raises_is_its_own_error(kind: Kind, drive: Drive, error: BaseException) -> None:
    if kind.in_coroutines and isinstance(error, StopIteration):
        pytest.skip("Python makes another one of it")
    error.__traceback__ = None  # of the pool that was here before
    outcome = drive.run(deeds.raise_, error)
    assert outcome.status is Status.ERROR
    assert outcome.failure is not None
    assert outcome.failure.type.rpartition(".")[2] == type(error).__name__
    assert outcome.failure.message == str(error)
    assert "deeds.py" in outcome.failure.traceback
    assert "pexen/pool" not in outcome.failure.traceback
    assert type(outcome.failure.exception) is type(error)
    assert value_of(drive.run(deeds.answer).value) == 42


VERDICTS = [
    (AssertionError("wrong"), Status.FAILED, (False, True)),
    (TaskFail("a", "b"), Status.FAILED, (False, True)),
    (TaskFail("a", deps_ok=True), Status.FAILED, (True, True)),
    (TaskFail("a", locks_ok=False), Status.FAILED, (False, False)),
    (TaskSkip("no disk"), Status.SKIPPED, (False, True)),
]


@pytest.mark.parametrize(("error", "status", "oks"), VERDICTS)
def test_verdicts_of_the_task_itself(drive: Drive, error: Exception, status: Status, oks: tuple[bool, bool]) -> None:
    outcome = drive.run(deeds.raise_, error)
    assert outcome.status is status
    assert (outcome.deps_ok, outcome.locks_ok) == oks
    assert (outcome.reason == "no disk") is (status is Status.SKIPPED)
    assert (outcome.failure is None) is (status is Status.SKIPPED)


def test_an_exception_without_a_message(drive: Drive) -> None:
    outcome = drive.run(deeds.raise_, deeds.Mute())
    assert outcome.status is Status.ERROR
    assert outcome.failure is not None
    assert outcome.failure.message == "(its message cannot be shown)"


# -- what can be called -----------------------------------------------------------------------------------------------


def _callables():
    text = "done"

    class Local:
        def __call__(self):
            return text

    def made_here():
        return Local()()

    return {
        "function": functools.partial(operator.concat, "do", "ne"),
        "lambda": lambda: "done",
        "closure": lambda: text,
        "nested": made_here,
        "local class's object": Local(),
        "partial": functools.partial(deeds.echo, 1, two=2),
        "bound method": deeds.Thing().method,
        "static method": deeds.Thing.static,
        "class method": deeds.Thing.of_class,
        "object": deeds.Thing(),
        "class": deeds.Made,
        "builtin": dict,
        "bound builtin": "done".upper,
        "coroutine": deeds.coroutine,
        "unhashable and hostile": deeds.Hostile(),
        "without arguments": deeds.echo,
    }


EXPECTED = {
    "partial": ((1,), {"two": 2}), "class": deeds.Made(), "builtin": {}, "bound builtin": "DONE",
    "without arguments": ((), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", _callables())
def test_everything_callable_can_be_a_task(drive: Drive, name: str) -> None:
    outcome = drive.run(_callables()[name])
    assert outcome.status is Status.PASSED, outcome.failure
    assert value_of(outcome.value) == EXPECTED.get(name, "done")


def test_a_function_of_main(drive: Drive) -> None:
    # As if the user's script had defined it: its module cannot be imported anywhere else.
    source = "import json\nLIMIT = 3\ndef task(x=1):\n    'text'\n    return json.dumps([LIMIT, x, __name__])\n"
    namespace = {"__name__": "__main__"}
    exec(source, namespace)
    outcome = drive.run(namespace["task"])
    assert value_of(outcome.value) == '[3, 1, "__main__"]'


def test_a_function_of_main_that_calls_another(drive: Drive) -> None:
    namespace = {"__name__": "__main__"}
    exec("class Of: pass\ndef other(): return Of()\ndef task(): return type(other()).__name__\n", namespace)
    assert value_of(drive.run(namespace["task"]).value) == "Of"


# -- arguments --------------------------------------------------------------------------------------------------------


def test_arguments(drive: Drive) -> None:
    twice = ["same"]
    outcome = drive.run(deeds.echo, 1, None, {"a": [b"b", 2.5]}, twice, word="x", other=(twice,))
    assert value_of(outcome.value) == ((1, None, {"a": [b"b", 2.5]}, ["same"]), {"word": "x", "other": (["same"],)})


def test_opaque_arguments_are_opened_for_the_task(drive: Drive) -> None:
    carried = [Pickled(pickle.dumps(number)) for number in range(3)]
    outcome = drive.run(deeds.echo, carried[0], carried[1:], word=carried[2], several=[carried[0], "plain"])
    assert value_of(outcome.value) == ((0, [1, 2]), {"word": 2, "several": [0, "plain"]})


def test_an_opaque_argument_that_does_not_open_is_the_attempts_error(drive: Drive) -> None:
    outcome = drive.run(deeds.echo, Pickled(b"no pickle"))
    assert outcome.status is Status.ERROR
    assert value_of(drive.run(deeds.answer).value) == 42


def test_the_shared_dict_as_a_parameter(drive: Drive) -> None:
    layers = ({"a": 1, "b": 1}, Pickled(pickle.dumps({"b": 2})))
    outcome = drive.run(deeds.write_shared, THE_SHARED_DICT, layers=layers)
    assert value_of(outcome.shared) == {"a": 1, "b": 2, "seen": ["a", "b"], "new": 1}


@pytest.mark.parametrize(("task", "new"), [(deeds.write_shared_by_context, 2), (deeds.write_shared_in_coroutine, 3)])
def test_the_shared_dict_by_context(drive: Drive, task, new: int) -> None:
    outcome = drive.run(task, layers=({"a": 1},))
    assert outcome.status is Status.PASSED
    assert value_of(outcome.shared) == {"a": 1, "new": new}


def test_the_context_tells_about_the_attempt(drive: Drive) -> None:
    outcome = drive.run(deeds.tell_context, path="a/b é", number=3, units={"gpu": ("0", "1")})
    assert value_of(outcome.value) == ("a/b é", 3, {"gpu": ("0", "1")}, False)
    with pytest.raises(pexen.PexenError, match="inside a task"):
        pexen.current()


# -- reports ----------------------------------------------------------------------------------------------------------


def test_reports_come_in_order_and_before_the_outcome(kind: Kind, drive: Drive) -> None:
    if not kind.hears:
        pytest.skip("nothing can be said from there")
    outcome = drive.run(deeds.reporting, "one", "three", "x")
    assert [report.name for report in drive.mailbox.reports(outcome.attempt)] == ["one", "three", "x"]
    assert drive.mailbox.events[-1] is outcome
    first = drive.mailbox.reports()[0]
    assert (first.status, first.message, first.data, first.files) == ("info", "about one", {"n": 3}, ("a", "b"))


def test_a_report_of_an_unknown_level_is_the_tasks_error(drive: Drive) -> None:
    def task():
        pexen.current().report("name", "fial")

    outcome = drive.run(task)
    assert outcome.status is Status.ERROR
    assert outcome.failure is not None
    assert "did you mean 'fail'?" in outcome.failure.message


# -- many, from everywhere --------------------------------------------------------------------------------------------


def test_exactly_one_outcome_for_each_of_500(drive: Drive) -> None:
    attempts = [drive.attempt(deeds.nothing if number % 3 else deeds.answer) for number in range(500)]
    rest = iter(attempts[20:])

    def submit_another(event):
        attempt = next(rest, None)
        if attempt is not None:
            drive.pool.submit(attempt)

    drive.mailbox.on_event = submit_another
    for attempt in attempts[:20]:
        drive.pool.submit(attempt)
    assert {outcome.status for outcome in drive.outcomes(attempts)} == {Status.PASSED}
    assert sorted(end.attempt.id for end in drive.mailbox.ends) == [attempt.id for attempt in attempts]


def test_submitting_from_many_threads(drive: Drive) -> None:
    started: list = []

    def submit():
        started.extend(drive.start(deeds.nothing) for _ in range(50))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert len(drive.outcomes(started)) == len(drive.mailbox.ends) == 200


# -- cancelling and closing -------------------------------------------------------------------------------------------


def test_a_running_attempt_is_asked_to_stop(kind: Kind, drive: Drive) -> None:
    if kind.is_inline:
        pytest.skip("nobody else can run while a task runs inline")
    if not kind.hears:
        pytest.skip("nothing can be said from there")
    attempt = drive.start(deeds.say_and_wait)
    drive.wait_for_report(attempt)
    drive.pool.cancel(attempt, force=False)
    assert drive.outcome(attempt).status is Status.PASSED
    assert attempt.cancelled


def test_cancelling_what_has_ended_changes_nothing(drive: Drive) -> None:
    first = drive.run(deeds.nothing)
    for force in (False, True):
        drive.pool.cancel(first.attempt, force=force)
        assert drive.run(deeds.nothing).status is Status.PASSED
    assert len(drive.mailbox.ends) == 3


def test_a_running_attempt_is_killed(kind: Kind, drive: Drive) -> None:
    if not kind.can_kill:
        pytest.skip("a thread cannot be killed")
    attempt = drive.start(deeds.hang)
    drive.wait_for_report(attempt)
    drive.pool.cancel(attempt, force=True)
    outcome = drive.outcome(attempt)
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "killed on request")
    assert drive.run(deeds.nothing).status is Status.PASSED


def test_closing_ends_every_attempt(kind: Kind) -> None:
    pool = kind.make(2)
    drive = Drive(pool)
    waits = deeds.hang if kind.can_kill else deeds.say_and_wait
    busy = [] if kind.is_inline or not kind.hears else [drive.start(waits) for _ in range(2)]
    for attempt in busy:
        drive.wait_for_report(attempt)
    queued = [drive.start(deeds.nothing) for _ in range(10)]
    if not kind.can_kill:
        for attempt in busy:
            attempt.cancelled = True
    with Stopwatch(BOUND):
        pool.close()
    ends = {end.attempt.id: end for end in drive.mailbox.ends}
    assert len(ends) == len(drive.mailbox.ends)
    assert set(ends) == {attempt.id for attempt in busy + queued}
    if kind.can_kill:
        assert {ends[attempt.id].status for attempt in busy} == {Status.CANCELLED}
        assert {type(ends[attempt.id]) for attempt in queued} == {Returned}


def test_a_pool_can_be_opened_again(kind: Kind) -> None:
    pool = kind.make(2)
    for _ in range(3):
        with driving(pool) as drive:
            assert value_of(drive.run(deeds.answer).value) == 42


def test_closing_leaves_nothing_behind(kind: Kind) -> None:
    before = Belongings.now()
    with driving(kind.make(3)) as drive:
        assert len(drive.outcomes([drive.start(deeds.answer) for _ in range(30)])) == 30
    assert leaks_since(before) == {}


def test_closing_a_pool_that_was_not_opened_or_not_used(kind: Kind) -> None:
    pool = kind.make(1)
    pool.close()
    pool.open(Mailbox())
    pool.close()
    pool.close()


def test_closing_from_within_a_post(kind: Kind) -> None:
    pool = kind.make(2)
    closed = threading.Event()

    def close(event):
        if isinstance(event, Outcome):
            pool.close()
            closed.set()

    mailbox = Mailbox(close)
    pool.open(mailbox)
    pool.submit(attempt_of(deeds.nothing, post=mailbox.post))
    if kind.is_inline:
        pool.run_queued()
    assert closed.wait(BOUND)
    assert [type(end) for end in mailbox.ends] == [Outcome]


def test_capacity_is_at_least_the_workers(drive: Drive) -> None:
    assert drive.pool.capacity >= drive.pool.workers >= 1
