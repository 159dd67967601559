"""On the way to a restart of the machine: whatever happens there, the run ends, and what it has recorded is true."""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Barrier, Event, Thread, current_thread
from typing import Any

import pytest

import pexen
from pexen import InlinePool, StateError, Task
from pexen.model.result import Status
from pexen.sched.reboot import Reboots
from pexen.state.reader import read
from tests.sched.machine import (
    ASKED,
    PATIENCE,
    POOLS,
    SAY,
    SOON,
    Machine,
    Other,
    fill_disk,
    in_flight,
    pool,
    story,
    wait_until,
)  # fmt: skip

STAY = "exec sleep 1000"


def asks() -> int:
    """Want the machine restarted, once."""
    here = pexen.current()
    if not here.reboots:
        here.reboot()
    return here.reboots


# -- the run is stopped meanwhile --------------------------------------------------------------------------------------


def test_who_has_said_it_and_gone_is_cancelled_when_the_run_is_stopped(machine: Machine) -> None:
    other = Other()
    sched = machine.sched([machine.script(SAY), other.task()], reboots=SOON)
    run = sched.start()
    assert other.asked.wait(PATIENCE)
    wait_until(lambda: in_flight(sched) == ["other"])
    run.stop("interrupted")
    other.may_end.set()
    assert story(run.wait(PATIENCE)) == {"script": "cancelled", "other": "passed"}
    assert sched.wish is None


def test_an_executable_that_waits_for_the_restart_is_ended_when_there_will_be_none(machine: Machine) -> None:
    asked = machine.pipe("asked")

    def bad() -> None:
        asked.read_text()
        raise AssertionError

    sched = machine.sched([machine.script(SAY + "\n" + ASKED + "\n" + STAY), Task(bad, "bad")], maxfail=1)
    assert story(sched.start().wait(PATIENCE)) == {"script": "cancelled", "bad": "failed"}


def test_who_goes_on_although_there_will_be_no_restart_has_its_time_limit_again(machine: Machine) -> None:
    other = Other()

    def stays() -> None:
        pexen.current().timeout.set(0.2)
        with suppress(BaseException):
            pexen.current().reboot()
        while not pexen.current().cancelled:
            Event().wait(0.01)

    run = machine.sched([Task(stays, "stays"), other.task()], pool=pexen.ThreadPool(2), reboots=SOON).start()
    assert other.asked.wait(PATIENCE)
    run.drain()
    other.may_end.set()
    assert run.wait(PATIENCE)["stays"].status is Status.TIMEOUT


def test_who_asked_in_a_run_that_was_stopped_is_entered_by_the_next_one(machine: Machine) -> None:
    other, entered = Other(), []

    def once() -> None:
        entered.append(pexen.current().reboots)
        if len(entered) == 1:
            pexen.current().reboot()

    tasks = [Task(once, "asks"), other.task()]
    run = machine.sched(tasks, pool=pexen.ThreadPool(2), reboots=SOON).start()
    assert other.asked.wait(PATIENCE)
    run.stop("interrupted")
    other.may_end.set()
    assert story(run.wait(PATIENCE))["asks"] == "cancelled"
    results = machine.sched(tasks).wait()
    assert results["asks"].status is Status.PASSED
    assert not results["asks"].replayed
    assert entered == [0, 0]


def test_a_run_that_is_stopped_when_all_is_recorded_does_not_restart_the_machine(machine: Machine) -> None:
    told = Event()

    def stays() -> None:
        try:
            asks()
        except BaseException:
            told.set()
            while not pexen.current().cancelled:
                Event().wait(0.01)
            raise

    sched = machine.sched([Task(stays, "stays", grace=PATIENCE)])
    run = sched.start()
    assert told.wait(PATIENCE)
    run.stop("interrupted")
    assert story(run.wait(PATIENCE)) == {"stays": "cancelled"}
    assert sched.wish is None
    assert read(machine.journal).end["how"] == "stopped"  # type: ignore[index]


@pytest.mark.parametrize("then", [STAY, "exit 0"])
def test_who_asked_can_be_cancelled_and_nothing_comes_of_it(machine: Machine, then: str) -> None:
    asked, done = machine.pipe("asked"), Event()
    tasks = [
        Task(done.wait, "other", args=[PATIENCE], priority=-1), machine.script(SAY + "\n" + ASKED + "\n" + then),
    ]  # fmt: skip
    sched = machine.sched(tasks)
    run = sched.start()
    asked.read_text()
    if then != STAY:
        wait_until(lambda: in_flight(sched) == ["other"])
    sched.cancel("script")
    results = iter(run)
    first = next(results)
    assert (first.path, first.status) == ("script", "cancelled"), "it does not wait for the other one"
    done.set()
    assert [one.path for one in results] == ["other"]
    assert sched.wish is None


# -- the disk is full --------------------------------------------------------------------------------------------------


def itself() -> None:
    """Have the machine restarted, which does not happen."""
    pexen.current().reboot(by="task", within="0.05s")


@pytest.mark.parametrize("many", range(2, 10))
@pytest.mark.parametrize("kind", ["function", "executable", "by task"])
def test_a_run_whose_journal_fails_ends(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, kind: str, many: int
) -> None:  # fmt: skip
    steps = count()
    fill_disk(monkeypatch, lambda: next(steps) >= many)
    what = {"function": Task(asks, "it"), "by task": Task(itself, "it"), "executable": machine.script(f"{SAY}\n{STAY}")}
    sched = machine.sched([Task(str, "before"), what[kind]], pool=pexen.ThreadPool(2))
    with suppress(StateError):
        sched.start().wait(PATIENCE)
        assert kind == "by task" or sched.wish is not None


@pytest.mark.parametrize("durability", ["full", "process"])
def test_who_waits_for_its_report_is_told_that_it_will_never_be_safe(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:  # fmt: skip
    fill_disk(monkeypatch, (machine.folder / "full").exists)
    task = machine.script(
        """: > "$1/full"; echo '{"id": 7, "report": "acl"}' >&"$PEXEN_CONTROL"
        read -r answer <&"$PEXEN_CONTROL"; echo "$answer" > "$1/answer" """
    )
    with pytest.raises(StateError, match="No space left"):
        machine.sched([task], durability=durability).start().wait(PATIENCE)
    assert (machine.folder / "answer").read_text() == '{"id": 7, "error": "the journal cannot be written"}\n'


@pytest.mark.parametrize("durability", ["full", "process"])
def test_who_waits_for_its_report_is_not_kept_until_somebody_looks(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:  # fmt: skip
    monkeypatch.setattr("pexen.pool.command.LOOK", 1000.0)
    task = machine.script(
        """for n in 1 2 3; do echo '{"id": 7, "report": "acl"}' >&"$PEXEN_CONTROL"
        read -r answer <&"$PEXEN_CONTROL"; done"""
    )
    result = machine.sched([task], durability=durability).start().wait(PATIENCE)["script"]
    assert (result.status, len(result.reports)) == (Status.PASSED, 3)


# -- a task restarts the machine itself --------------------------------------------------------------------------------


def paused(here: pexen.Context) -> None:
    """Ask with the time limit paused."""
    with here.timeout.paused():
        here.reboot(by="task", within="0.02s")


def set_later(here: pexen.Context) -> None:
    """Ask, and take more time."""
    here.reboot(by="task", within="0.02s")
    here.timeout.set("1h")


@pytest.mark.parametrize("how", [paused, set_later])
def test_its_time_is_over_whatever_it_does_to_its_time_limit(machine: Machine, how: Callable[[Any], None]) -> None:
    def returns_late() -> None:
        how(pexen.current())
        Event().wait(0.1)  # whether that is before or behind, it is the same

    sched = machine.sched([Task(returns_late, "it"), Task(str, "after", after="/it")])
    results = sched.start().wait(PATIENCE)
    assert story(results) == {"it": "error", "after": "passed"}
    assert "still up" in results["it"].reason


def swallows(pipe: Path) -> None:
    """Hold the pipe until killed."""
    with pipe.open("w"), suppress(BaseException):
        pexen.current().reboot()
        Event().wait(PATIENCE)


def outlives(pipe: Path) -> None:
    """Have a verdict of its own when the other one is dead."""
    with pipe.open() as opened:
        pexen.current().reboot(by="task", within="1h")
        opened.read()
    Event().wait(0.1)  # time enough to be ended by mistake
    raise AssertionError("my own verdict")


def test_it_is_not_ended_with_another_that_has_no_more_to_do(machine: Machine) -> None:
    pipe = machine.pipe("pipe")
    tasks = [Task(outlives, "outlives", args=[pipe], priority=-1), Task(swallows, "swallows", args=[pipe], grace=0.05)]
    sched = machine.sched(tasks, pool=pexen.ProcessPool(2))
    assert story(sched.start().wait(PATIENCE)) == {"swallows": "cancelled", "outlives": "failed"}
    assert sched.wish is not None
    assert sched.wish.paths == ("swallows",)


def ask_often() -> None:
    """Ask from some threads, and fail with what they are told."""
    here, told = pexen.current(), []

    def ask() -> None:
        try:
            here.reboot(by="task", within="1h")
            told.append("agreed")
        except pexen.PexenError as error:
            told.append(str(error))

    threads = [Thread(target=ask, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    raise AssertionError(f"{sorted(told)}")


@pytest.mark.parametrize("kind", POOLS)
def test_all_threads_of_a_task_that_ask_are_answered(machine: Machine, kind: str) -> None:
    result = machine.sched([Task(ask_often, "often")], pool=pool(kind)).start().wait(PATIENCE)["often"]
    assert result.status is Status.FAILED
    assert f"{['agreed', *['this task has asked for a restart already'] * 7]}" in str(result.error)


# -- what else runs ----------------------------------------------------------------------------------------------------


def test_what_waits_in_an_inline_pool_is_not_run(machine: Machine) -> None:
    """Its thread is the one that waits for the answer."""
    ran: list[str] = []
    pools = {"a": InlinePool(), "b": InlinePool()}
    tasks = [Task(asks, "asks", pool="a"), Task(ran.append, "queued", args=["queued"], pool="b")]
    sched = machine.sched(tasks, pool=pexen.ThreadPool(1), pools=pools)
    assert story(sched.start().wait(PATIENCE))["asks"] == "cancelled"
    assert sched.wish is not None
    assert ran == []
    machine.boot()
    assert set(story(machine.sched(tasks, pools=pools).start().wait(PATIENCE)).values()) == {"passed"}
    assert ran == ["queued"]


def test_what_depends_on_one_that_is_stopped_for_a_restart_runs_after_it(machine: Machine) -> None:
    entered: list[int] = []

    def slow() -> None:
        entered.append(1)
        while len(entered) == 1:
            Event().wait(0.01)
            assert not pexen.current().cancelled

    def tasks() -> list[Task]:
        return [Task(slow, "slow", provides="x", priority=-1), Task(asks, "asks"), Task(str, "user", requires="x")]

    sched = machine.live(tasks, pool=pexen.ThreadPool(2), reboots=SOON)
    assert story(sched.results) == {"slow": "passed", "asks": "passed", "user": "passed"}
    assert len(entered) == 2


def test_a_thread_that_does_not_listen_is_not_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pexen.sched.reboot._GRACE", 0.01)
    monkeypatch.setattr("pexen.sched.reboot._GIVE_UP", 0.01)
    over, threads = Event(), []

    def deaf() -> None:
        threads.append(current_thread())
        over.wait(PATIENCE)

    tasks = [Task(deaf, "deaf", priority=-1), Task(asks, "asks")]
    sched = machine.sched(tasks, pool=pexen.ThreadPool(2), reboots=SOON)
    results = sched.start().wait(PATIENCE)
    over.set()
    threads[0].join(PATIENCE)
    assert sched.wish is not None
    assert story(results) == {"deaf": "cancelled", "asks": "cancelled"}
    assert "still runs" in results["deaf"].reason


def test_many_that_ask_at_once_want_one_restart(machine: Machine) -> None:
    all_here = Barrier(12)

    def meets() -> None:
        all_here.wait(PATIENCE)
        asks()

    tasks = [Task(meets, f"t{number}") for number in range(12)]
    sched = machine.sched(tasks, pool=pexen.ThreadPool(12), reboots=Reboots(allowed=True, per_task=1))
    assert set(story(sched.start().wait(PATIENCE)).values()) == {"cancelled"}
    assert sched.wish is not None
    assert len(sched.wish.paths) == 12


# -- being entered again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["around", "task"])
def test_what_runs_around_a_task_knows_of_the_restart_and_may_want_it(machine: Machine, who: str) -> None:
    seen = []

    def around(here: Any) -> Any:
        seen.append(("around", here.reboots))
        if who == "around" and not here.reboots:
            here.reboot()
        yield

    def task() -> None:
        seen.append(("task", pexen.current().reboots))
        if who == "task":
            asks()

    sched = machine.live(lambda: [Task(task, "it", around=[around])])
    assert story(sched.results) == {"it": "passed"}
    assert [number for name, number in seen if name == "around"] == [0, 1]
    assert [number for name, number in seen if name == "task"] == ([1] if who == "around" else [0, 1])


def test_a_task_that_was_added_on_the_fly_is_entered_again(machine: Machine) -> None:
    for number in range(2):
        sched = machine.sched([Task(str, "first")])
        for result in sched.run():
            if result.path == "first":
                sched.add([Task(asks, "asks")])
        assert (sched.wish is None) == (number == 1)
        machine.boot()
    assert sched.results["asks"].value == 1


def test_a_changed_task_is_entered_again_and_starts_at_none(machine: Machine) -> None:
    entered: list[tuple[int, int]] = []

    def task(version: int, times: int) -> Task:
        def it() -> None:
            entered.append((version, pexen.current().reboots))
            if pexen.current().reboots < times:
                pexen.current().reboot()

        return Task(it, "it", tags=[f"v{version}"])

    machine.live(lambda: [task(1, 0)])
    machine.live(lambda: [task(2, 1)])
    machine.sched([task(3, 9)]).wait()
    machine.boot()
    machine.live(lambda: [task(4, 1)])
    assert entered == [(1, 0), (2, 0), (2, 1), (3, 0), (4, 0), (4, 1)]


def test_a_volatile_task_is_entered_again_until_all_that_need_it_have_ended(machine: Machine) -> None:
    entered: list[tuple[str, int]] = []

    def note(name: str) -> None:
        entered.append((name, pexen.current().reboots))
        asks()

    def tasks() -> list[Task]:
        return [
            Task(note, "a", args=["a"], volatile=True, provides="x"),
            Task(note, "b", args=["b"], requires="x"),
        ]

    assert story(machine.live(tasks).results) == {"a": "passed", "b": "passed"}
    assert entered == [("a", 0), ("a", 1), ("b", 0), ("a", 0), ("a", 1), ("b", 1)]


def test_what_was_left_in_shared_outlives_a_second_restart(machine: Machine) -> None:
    got: list[dict[str, Any]] = []

    def it() -> None:
        here = pexen.current()
        if here.reboots == 0:
            here.shared["before"] = "6.1"
        if here.reboots < 2:
            here.reboot()
        got.append(dict(here.shared))

    machine.live(lambda: [Task(it, "it")])
    assert got == [{"before": "6.1"}]


def test_what_an_executable_left_in_shared_outlives_a_second_restart(machine: Machine) -> None:
    say = """echo '{"shared": {"%s": %d}}' >&"$PEXEN_CONTROL" """
    text = f"""case $PEXEN_REBOOTS in
        0) {say % ("port", 8080)}; {SAY};;
        1) {say % ("x", 1)}; {SAY};;
        *) cat "$PEXEN_VALUES" > "$1/values";;
    esac"""
    user = Task(lambda shared: dict(shared), "user", requires={"/script"})
    sched = machine.live(lambda: [machine.script(text), user])
    assert sched.results["user"].value == {"port": 8080, "x": 1}
    assert '"shared": {"port": 8080, "x": 1}' in (machine.folder / "values").read_text()


class Step(enum.IntEnum):
    """Equal to a number, and not one."""

    one = 1


class Name(str):
    """Equal to a text, and not one."""

    __slots__ = ()


@pytest.mark.parametrize("value", [Step.one, Name("x"), (1,), {1: 2}, [Step.one], float("nan"), b"", {1}], ids=repr)
def test_what_would_come_back_as_something_else_is_refused(machine: Machine, value: Any) -> None:
    def it() -> None:
        pexen.current().shared["step"] = value
        asks()

    sched = machine.sched([Task(it, "it")])
    assert "'step'" in str(sched.wait()["it"].error)
    assert sched.wish is None


@pytest.mark.parametrize("value", ["a\ud800", "", [1, [2.5, None]], {"a": {"b": True}}, 1 << 70], ids=repr)
def test_what_is_plain_comes_back_as_it_was(machine: Machine, value: Any) -> None:
    def it() -> Any:
        here = pexen.current()
        if not here.reboots:
            here.shared["step"] = value
            here.reboot()
        return here.shared["step"]

    assert machine.live(lambda: [Task(it, "it")]).results["it"].value == value


def test_what_was_reported_before_a_restart_that_did_not_come_is_not_told(machine: Machine) -> None:
    def it() -> None:
        pexen.current().report("step", "pass" if (machine.folder / "second").exists() else "warn")
        if not (machine.folder / "second").exists():
            (machine.folder / "second").touch()
            pexen.current().reboot()

    machine.sched([Task(it, "it")]).wait()
    result = machine.sched([Task(it, "it")]).wait()["it"]
    assert result.status is Status.PASSED
    assert [one.status for one in result.reports] == ["pass"]
    assert read(machine.journal).result("it").reports == result.reports  # type: ignore[union-attr]
