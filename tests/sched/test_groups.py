"""Groups in whole runs: alone, in their own pool, one after the other."""

from __future__ import annotations

import threading

import pytest

import pexen
from pexen import Group, InlinePool, ProcessPool, Sched, Status, Task, ThreadPool
from pexen.model.command import Command
from pexen.testing.scripted import ScriptedPool


def story(results) -> dict[str, str]:
    return {path: str(one.status) for path, one in results.items()}


def task(path: str, **meta) -> Task:
    return Task(Command(("true",)), path, **meta)


def nothing() -> None:
    pass


class World:
    """A run with scripted pools for the run and each group."""

    def __init__(self, tasks, groups=("g",), ordered=(), **options) -> None:
        self.pool = ScriptedPool(workers=3)
        self.groups = {name: ScriptedPool(workers=2) for name in groups}
        made = [Group(name, pool=pool, ordered=name in ordered) for name, pool in self.groups.items()]
        self.sched = Sched([*made, *tasks], pool=self.pool, **options)
        self.run = self.sched.open()
        self.settle()

    def settle(self) -> None:
        """Wait until no pool of a group is being opened or closed."""
        while True:
            with self.run._turns:
                turning = self.run._turning
            if turning is None or not turning.is_alive():
                return
            turning.join()

    def of(self, path: str) -> ScriptedPool:
        return next(pool for pool in (self.pool, *self.groups.values()) if path in pool.running())

    def end(self, *paths: str, status: Status = Status.PASSED) -> None:
        for path in paths:
            self.of(path).end(path, status)
            self.settle()

    def up(self, path: str) -> None:
        self.of(path).up(path)
        self.settle()

    def running(self) -> list[str]:
        return [path for pool in (self.pool, *self.groups.values()) for path in pool.running()]

    def over(self) -> dict[str, str]:
        """See that the run is over; return its story."""
        self.settle()
        while (found := self.run.take(30)) is not None:
            assert found
        self.run.close()
        return story(self.sched.results)


def test_a_group_runs_alone_when_what_runs_has_ended():
    world = World(
        [task("x"), task("y"), task("late", after="/x"), task("m", group="g", priority=-1), task("n", group="g")]
    )
    assert world.running() == ["m", "n"]
    world.end("m")
    assert world.running() == ["n"]
    world.end("n")
    assert world.running() == ["x", "y"]
    world.end("x", "y", "late")
    assert set(world.over().values()) == {"passed"}


def test_ungrouped_tasks_come_first_when_equal_and_what_runs_is_drained():
    world = World([task("m", group="g"), task("x"), task("y")])
    assert world.running() == ["x", "y"]
    world.end("x")
    assert world.running() == ["y"]
    world.end("y")
    assert world.running() == ["m"]
    world.end("m")
    world.over()


def test_groups_compete_by_the_best_priority_among_their_members():
    world = World(
        [task("a", group="g"), task("b", group="h", priority=5), task("c", group="h", priority=-5)], groups=["g", "h"]
    )
    assert world.running() == ["c", "b"]
    world.end("b", "c")
    assert world.running() == ["a"]
    world.end("a")
    world.over()


def test_an_ordered_group_runs_its_members_one_by_one_whatever_becomes_of_them():
    world = World([task(name, group="g", priority=-ord(name)) for name in "abc"], ordered=["g"])
    world.end("a", status=Status.FAILED)
    assert world.running() == ["b"]
    world.end("b")
    world.end("c")
    assert world.over() == {"a": "failed", "b": "passed", "c": "passed"}


def test_an_ordered_group_with_a_sleeper_goes_on():
    world = World([task("x", requires="/m"), task("z", group="g", lazy=True), task("m", group="g")], ordered=["g"])
    world.end("m")
    world.end("x")
    assert world.over() == {"z": "skipped", "m": "passed", "x": "passed"}


def test_a_group_waits_for_what_its_members_require_outside():
    world = World([task("x"), task("m", group="g", requires="/x", priority=-9), task("n", group="g", priority=-9)])
    assert world.running() == ["x"]
    world.end("x", status=Status.FAILED)
    assert world.running() == ["n"]
    world.end("n")
    assert world.over() == {"x": "failed", "m": "skipped", "n": "passed"}


def test_a_group_of_which_nobody_is_left_is_not_opened():
    opened = []
    pool = ScriptedPool()
    pool.open = lambda mailbox: opened.append(mailbox)
    results = Sched(
        [task("x"), task("m", group="g", requires="/x")], groups=[Group("g", pool=pool)],
        pool=ScriptedPool(otherwise=Status.FAILED),
    ).wait()  # fmt: skip
    assert (story(results), opened) == ({"x": "failed", "m": "skipped"}, [])


def test_groups_that_would_wait_for_each_other_are_refused():
    tasks = [task("a", group="g"), task("b", group="h", requires="/a"), task("c", group="g", requires="/b")]
    with pytest.raises(pexen.DefinitionError, match="would wait for itself"):
        Sched(tasks, groups=[Group("g"), Group("h")])
    with pytest.raises(pexen.DefinitionError, match="there is no group 'k'"):
        Sched([task("a", group="k")], groups=[Group("g")])
    with pytest.raises(pexen.DefinitionError, match="two groups are named 'g'"):
        Sched(groups=[Group("g"), Group("g")])


# -- services ----------------------------------------------------------------------------------------------------------


def test_outside_services_that_members_need_stay_up_and_others_are_taken_down():
    world = World(
        [
            task("db", service=True), task("other", service=True), task("a", requires=["/db", "/other"]),
            task("m", group="g", requires="/db", after="/a", priority=-1), task("z", requires="/other", after="/m"),
        ]
    )  # fmt: skip
    world.up("db")
    world.up("other")
    world.end("a")
    assert world.pool.torn_down == ["other"]
    world.end("other")
    assert world.running() == ["db", "m"]
    world.end("m")
    world.end("db")
    world.up("other")
    world.end("z")
    world.end("other")
    assert set(world.over().values()) == {"passed"}
    assert len(world.sched.results["other"].attempts) == 2


def test_its_own_services_serve_only_its_members():
    tasks = [task("db", service=True, group="g"), task("m", group="g", requires="/db")]
    with pytest.raises(pexen.DefinitionError, match="serve only its members"):
        Sched([*tasks, task("x", requires="/db")], groups=[Group("g")])
    world = World(tasks)
    world.up("db")
    world.end("m")
    world.end("db")
    assert set(world.over().values()) == {"passed"}


# -- on the fly --------------------------------------------------------------------------------------------------------


def test_who_is_added_while_it_is_the_groups_turn_joins_it():
    world = World([task("m", group="g", priority=-1), task("x")])
    world.sched.add([task("n", group="g"), task("y", priority=-9)])
    assert world.running() == ["m", "n"]
    world.end("m", "n")
    assert world.running() == ["y", "x"]
    world.sched.add([task("o", group="g")])
    world.end("x", "y")
    assert world.running() == ["o"]
    world.end("o")
    world.over()


def test_a_sleeper_that_is_needed_after_the_turn_of_its_group_has_another_one():
    world = World([task("z", group="g", lazy=True), task("m", group="g"), task("x", priority=1)])
    world.end("m")
    world.sched.add([task("y", requires="/z")])
    world.end("x")
    assert world.running() == ["z"]
    world.end("z")
    world.end("y")
    assert set(world.over().values()) == {"passed"}


def test_a_sleeper_whose_group_has_not_come_waits_for_what_it_requires_outside():
    world = World(
        [task("x"), task("w", requires="/x"), task("z", group="g", lazy=True, requires="/w"), task("m", group="g")],
        ["g"],
    )
    world.sched.cancel("m")
    world.sched.add([task("y", requires="/z")])
    world.end("x")
    assert world.running() == ["w"]
    world.end("w")
    world.end("z")
    world.end("y")
    world.over()


def test_one_group_needs_a_sleeper_of_another():
    world = World([task("z", group="g", lazy=True), task("m", group="h", priority=1)], ["g", "h"])
    world.sched.add([task("n", group="h", requires="/z")])
    if world.running() == ["m"]:
        world.end("m")
    world.end("z")
    if "m" in world.running():
        world.end("m")
    world.end("n")
    assert set(world.over().values()) == {"passed"}


# -- its end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "cancel", "close", "maxfail"])
def test_stopping_during_the_turn_of_a_group(how):
    options = {"maxfail": 1} if how == "maxfail" else {}
    world = World([task("m", group="g"), task("n", group="g", requires="/m"), task("x", after="/n")], **options)
    if how == "stop":
        world.run.stop()
    elif how == "cancel":
        world.run.cancel()
    elif how == "maxfail":
        world.end("m", status=Status.FAILED)
    assert set(world.over() if how != "close" else (world.run.close(), story(world.sched.results))[1]) == {
        "m",
        "n",
        "x",
    }
    assert world.running() == []
    assert not any(one.name == "pexen-group" for one in threading.enumerate())


def test_members_are_tried_again_within_the_turn():
    world = World([task("m", group="g", retries=1), task("x", priority=1)])
    world.end("m", status=Status.FAILED)
    assert world.running() == ["m"]
    world.end("m")
    world.end("x")
    assert world.over() == {"m": "passed", "x": "passed"}


def test_retry_last_within_a_group_comes_before_the_end_of_its_turn():
    world = World([task("m", group="g", retries=1), task("n", group="g"), task("x", priority=1)], retry_last=True)
    world.end("m", status=Status.FAILED)
    world.end("n")
    assert world.running() == ["m"]
    world.end("m")
    world.end("x")
    assert set(world.over().values()) == {"passed"}


def test_a_tiny_backlog_holds_nothing_up():
    tasks = [Task(nothing, name, group="g" if name in "abcd" else None) for name in "abcdefgh"]
    sched = Sched(tasks, groups=[Group("g", pool=ThreadPool(2))], pool=ThreadPool(2), backlog=1)
    assert len(list(sched.run())) == 8


def cannot(*_):
    raise OSError(24, "Too many open files")


def test_a_pool_that_cannot_be_opened_ends_the_run_with_the_reason():
    broken = ScriptedPool()
    broken.open = cannot
    sched = Sched([Task(nothing, "m", group="g"), Task(nothing, "x")], groups=[Group("g", pool=broken)])
    with pytest.raises(pexen.PoolError, match="Too many open files"):
        for _ in sched.run():
            pass
    assert story(sched.results) == {"x": "passed", "m": "cancelled"}


def test_threads_that_cannot_be_started_are_an_error_of_who_needs_them():
    broken = ThreadPool(1)
    broken.open = cannot
    results = pexen.run(
        [Task(nothing, "m", group="g"), Task(nothing, "x", after="/m")], groups=[Group("g", pool=broken)]
    )
    assert story(results) == {"m": "error", "x": "passed"}
    assert "Too many open files" in results["m"].reason


def test_a_pool_is_opened_for_each_turn_and_closed_after_it():
    said = []

    class Pool(ThreadPool):
        def open(self, mailbox):
            said.append("open")
            super().open(mailbox)

        def close(self):
            said.append("close")
            return super().close()

    sched = Sched([Task(nothing, "m", group="g")], groups=[Group("g", pool=Pool(1))])
    for result in sched.run():
        if result.path == "m":
            sched.add([Task(nothing, "x", after="/m"), Task(nothing, "n", group="g", after="/x")])
    assert said[:4] == ["open", "close", "open", "close"]
    assert sched.results.ok


@pytest.mark.parametrize(
    "kind", [InlinePool, lambda: ThreadPool(2), lambda: ProcessPool(2)], ids=["inline", "thread", "process"]
)
def test_a_group_in_each_pool_beside_others(kind):
    busy = []

    def outside():
        busy.append(1)

    tasks = [Task(nothing, f"m{number}", group="g") for number in range(3)]
    tasks += [Task(outside, f"x{number}") for number in range(3)]
    tasks += [Task(nothing, "last", requires=["/m0", "/x0"], alone=True)]
    sched = Sched(tasks, groups=[Group("g", pool=kind())], pool=ThreadPool(2))
    assert sched.wait().ok
    assert len(busy) == 3


def test_a_group_in_a_resumed_run(tmp_path):
    def tasks():
        return [task("x"), task("m", group="g"), task("n", group="g", requires="/m"), task("z", after="/n")]

    def sched(**script):
        pool = ScriptedPool({"x": [Status.PASSED], "z": [Status.PASSED]})
        return Sched(tasks(), pool=pool, groups=[Group("g", pool=ScriptedPool(script))], journal=tmp_path)

    first = sched(m=[Status.PASSED])
    for result in first.run():
        if result.path == "m":
            break
    assert story(first.results)["n"] == "cancelled"
    second = sched(n=[Status.PASSED])
    assert story(second.wait()) == dict.fromkeys("xmnz", "passed")
    assert second.results["m"].replayed


def test_explain_during_a_turn():
    world = World([task("m", group="g", priority=-1), task("x"), task("n", group="h")], ["g", "h"])
    assert "waits for the group 'g', which runs alone" in str(world.sched.explain("x"))
    assert "waits for the group 'g', which runs alone" in str(world.sched.explain("n"))
    assert [one.path for one in world.sched.snapshot().in_flight] == ["m"]
    world.run.stop(force=True)
    world.over()


def boots():
    if not pexen.current().reboots:
        pexen.current().reboot()


def test_a_member_may_have_the_machine_restarted(machine):
    tasks = [Task(boots, "m", group="g"), Task(nothing, "n", group="g"), Task(nothing, "x", requires="/m")]
    results = machine.live(lambda: [Group("g", pool=ThreadPool(1)), *tasks], pool=ThreadPool(1)).results
    assert story(results) == dict.fromkeys(["m", "n", "x"], "passed")


def test_a_thread_that_outlives_its_group_is_told_of():
    let_go = threading.Event()
    deaf = Task(let_go.wait, "deaf", timeout=0.05, grace=0.0)
    sched = Sched([Group("g", [deaf], pool=ThreadPool(1)), Task(nothing, "next", after="/deaf")])
    run = sched.start()
    try:
        assert story(run.wait(60)) == {"deaf": "timeout", "next": "passed"}
        assert any("deaf still runs" in one for one in run.notices)
    finally:
        let_go.set()
