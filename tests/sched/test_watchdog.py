"""The watchdog ends what takes too long; its rules in virtual time, its effect on real tasks."""

from __future__ import annotations

import threading
from itertools import count

import pytest

import pexen
from pexen import ProcessPool, Sched, Status, Task, ThreadPool
from pexen.model.attempt import Attempt
from pexen.sched.timers import Timers
from pexen.sched.watchdog import GIVE_UP, LOOK, STALL, Watchdog
from pexen.sched.world import Lane
from pexen.testing import VirtualClock


class Asked:
    """A pool that only notes what it is asked."""

    executes = True
    workers = capacity = 1

    def __init__(self) -> None:
        self.asked: list[str] = []

    def examine(self, attempt):
        self.asked.append("examined")

    def cancel(self, attempt, *, force):
        self.asked.append("forced" if force else "asked")


class Watched:
    """One attempt under a watchdog in virtual time."""

    def __init__(self, monkeypatch, *, deadline=None, **meta) -> None:
        self.clock = VirtualClock()
        self.timers = Timers(self.clock)
        monkeypatch.setattr(self.timers, "_thread", threading.current_thread())  # the test fires the timers
        self.posted: list = []
        self.told: list[str] = []
        self.pool = Asked()
        self.attempt = Attempt(Task(print, "a", **meta), next(count(1)), None, self.posted.append)
        self.attempt.lane = Lane("default", self.pool)
        self.flying = {self.attempt.id: self.attempt}
        self.dog = Watchdog(
            self.flying, self.posted.append, self.timers, None, deadline=deadline, clock=self.clock,
            notice=lambda attempt, text: self.told.append(text),
        )  # fmt: skip
        self.dog.begin(lambda late: None)
        self.dog.watch(self.attempt)

    def at(self, seconds: float) -> list[str]:
        self.clock.jump(seconds)
        self.timers.fire()
        return self.pool.asked

    def change(self, what, seconds=0.0):
        self.dog.change(self.attempt, what, seconds)
        self.timers.fire()


ASKED = ["examined", "asked"]


def test_it_looks_asks_at_the_limit_forces_after_the_grace_and_then_gives_up(monkeypatch):
    watched = Watched(monkeypatch, timeout=10, grace=2)
    watched.attempt.started = 0.5
    assert watched.at(10) == []  # the limit counts from the real start
    assert watched.at(10.5) == ["examined"]
    assert "timeout of 10 s" in watched.attempt.struck
    assert watched.at(10.5 + LOOK) == ASKED
    assert watched.at(12.5 + LOOK) == [*ASKED, "forced"]
    assert watched.posted == []
    watched.at(12.5 + LOOK + GIVE_UP)
    assert [(one.status, one.freed) for one in watched.posted] == [(Status.TIMEOUT, False)]


def test_an_attempt_that_has_ended_is_left_alone(monkeypatch):
    watched = Watched(monkeypatch, timeout=10)
    watched.attempt.started = 0.0001
    watched.flying.clear()
    assert watched.at(11) == []


def test_one_that_waits_for_its_start_is_not_late(monkeypatch):
    watched = Watched(monkeypatch, timeout=10)
    assert watched.at(10) == []
    watched.attempt.started = 15
    assert watched.at(20) == []
    watched.at(23)  # when people are told
    assert watched.at(25) == ["examined"]


def test_after_a_stall_results_get_the_chance_to_arrive(monkeypatch):
    watched = Watched(monkeypatch, timeout=10)
    watched.attempt.started = 0.0001
    assert watched.at(100) == []
    assert watched.at(100 + STALL) == ["examined"]


def test_a_heartbeat_and_output_put_off_the_end_of_patience(monkeypatch):
    watched = Watched(monkeypatch, idle_timeout=2, timeout=100)
    watched.attempt.started = 1
    watched.attempt.heard = 2
    assert watched.at(3) == []
    watched.attempt.heard = 3.5
    assert watched.at(5.4) == []
    assert watched.at(5.5) == ["examined"]
    assert watched.attempt.struck == "was silent for 2 s"


def test_the_deadline_of_the_run_ends_what_was_started_before_it(monkeypatch):
    watched = Watched(monkeypatch, deadline=10)
    watched.attempt.started = 9
    assert watched.at(10) == ["examined"]
    assert "deadline of 10 s" in watched.attempt.struck
    cleanup = Watched(monkeypatch, deadline=10, timeout=5)
    cleanup.at(11)
    cleanup.attempt.started = 11
    assert cleanup.at(15) == []
    assert cleanup.at(16) == ["examined"]
    assert "timeout" in cleanup.attempt.struck


def test_an_attempt_may_change_its_limit(monkeypatch):
    watched = Watched(monkeypatch, timeout=10)
    watched.attempt.started = 0.001
    watched.at(5)
    watched.change("add", 5)
    assert watched.at(14.9) == []
    watched.change("set", 3)
    assert watched.at(17.8) == []
    assert watched.at(17.9) == ["examined"]


def test_pause_and_resume_are_a_stack(monkeypatch):
    watched = Watched(monkeypatch, timeout=10)
    watched.attempt.started = 0.001
    watched.at(4)
    watched.change("pause")  # six seconds left
    assert watched.at(1000) == []
    watched.change("set", 50)  # for what is done in between
    watched.at(1020)
    watched.change("pause")
    assert watched.at(2000) == []
    watched.change("resume")
    assert watched.at(2029) == []
    watched.change("resume")
    assert watched.at(2034.9) == []
    assert watched.at(2035.01) == ["examined"]


def test_the_limit_set_in_between_holds_in_between(monkeypatch):
    watched = Watched(monkeypatch, timeout=10)
    watched.attempt.started = 0.001
    watched.change("pause")
    watched.change("set", 2)
    assert watched.at(2.1) == ["examined"]


def test_a_task_without_a_limit_may_give_itself_one(monkeypatch):
    watched = Watched(monkeypatch)
    watched.attempt.watch = None
    watched.attempt.started = 1
    watched.at(5)
    watched.change("set", 2)
    assert watched.at(7) == ["examined"]


def test_people_are_told_once_that_it_takes_long(monkeypatch):
    watched = Watched(monkeypatch, timeout=100)
    watched.attempt.started = 0.001
    watched.at(79)
    assert watched.told == []
    watched.at(81)
    watched.at(90)
    assert watched.told == ["still running: a for 81 s of 100 s"]


@pytest.mark.parametrize("pool", [None, "process"])
def test_a_command_that_ignores_term_is_ended(pool):
    tasks = [pexen.command("trap '' TERM; while :; do sleep 1000; done", path="deaf", timeout=0.2, grace=0.2)]
    result = Sched(tasks, pool=ProcessPool(1) if pool else None).wait()["deaf"]
    assert result.status is Status.TIMEOUT
    assert "timeout of 0.2 s" in result.reason
    assert result.duration < 30


def endless():
    while True:
        pass


def test_a_loop_in_a_process_is_ended_and_the_others_go_on():
    tasks = [Task(endless, "endless", timeout=0.3, grace=0.2), Task(print, "fine", requires=())]
    results = Sched(tasks, pool=ProcessPool(2)).wait()
    assert results["endless"].status is Status.TIMEOUT
    assert results["fine"].status is Status.PASSED


def test_a_timeout_may_be_retried():
    result = Sched([pexen.command("sleep 1000", path="slow", timeout=0.1, grace=0.1, retries=1)]).wait()["slow"]
    assert [one.status for one in result.attempts] == [Status.TIMEOUT, Status.TIMEOUT]


def test_a_thread_that_obeys_is_asked_and_one_that_does_not_is_given_up():
    let_go = threading.Event()

    def obeys():
        while not pexen.current().cancelled:
            let_go.wait(0.001)

    def deaf():
        let_go.wait(60)

    tasks = [
        Task(obeys, "obeys", timeout=0.1), Task(deaf, "deaf", timeout=0.1, grace=0.1, claims="it"),
        Task(print, "other"),
    ]  # fmt: skip
    sched = Sched(tasks, pool=ThreadPool(2))
    results = {}
    for result in sched.run():
        results[result.path] = result
        if result.path == "deaf":
            assert "still runs" in result.reason
            let_go.set()
    assert {path: str(one.status) for path, one in results.items()} == {
        "obeys": "timeout", "deaf": "timeout", "other": "passed",
    }  # fmt: skip


def test_the_default_limit_is_for_tasks_without_one():
    tasks = [pexen.command("sleep 1000", path="slow", grace=0.1), pexen.command("true", path="own", timeout="1m")]
    results = Sched(tasks, timeout="200ms").wait()
    assert {path: str(one.status) for path, one in results.items()} == {"slow": "timeout", "own": "passed"}


def test_a_thread_that_is_given_up_loses_its_place_but_not_its_locks():
    let_go, ended = threading.Event(), threading.Event()

    def deaf():
        let_go.wait(60)
        ended.set()

    tasks = [
        Task(deaf, "deaf", timeout=0.1, grace=0.1, claims="it", priority=-1),
        Task(print, "other"),
        Task(print, "wants", claims="it"),
    ]
    sched = Sched(tasks, pool=ThreadPool(1))
    seen = []
    for result in sched.run():
        seen.append((result.path, str(result.status)))
        if len(seen) == 2:
            assert not ended.is_set()
            assert "held by deaf" in str(sched.explain("wants"))
            let_go.set()
    assert sorted(seen[:2]) == [("deaf", "timeout"), ("other", "passed")]
    assert seen[2:] == [("wants", "passed")]


@pytest.mark.leaks("threads")  # the thread that nothing can end, until the event at the end of the test
def test_leaving_the_loop_does_not_wait_for_a_thread_that_does_not_obey():
    let_go, begun = threading.Event(), threading.Event()

    def deaf():
        begun.set()
        let_go.wait(60)

    sched = Sched([Task(deaf, "deaf", grace=0.1), Task(begun.wait, "quick", args=[30])], pool=ThreadPool(2))
    for _ in sched.run():
        break
    assert sched.results["deaf"].status is Status.CANCELLED
    assert "still runs" in sched.results["deaf"].reason
    let_go.set()


def test_a_service_that_was_not_up_in_time_says_what_it_lacked() -> None:
    web = pexen.command("exec sleep 600", path="web", service=True, ready="file:/nonexistent", timeout=0.05)
    results = pexen.run([web, pexen.Task(print, "user", requires="web")])
    assert results["web"].status == "timeout"
    assert results["web"].reason == "took longer than its timeout of 0.05 s, and was not up (file:/nonexistent)"
    assert results["user"].status == "skipped"
