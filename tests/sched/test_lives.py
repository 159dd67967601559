"""Services, groups and tasks made on the fly in whole runs of any shape: what always holds, and that each comes to its end.

Attempts pass, fail and are lost, services come up, die and are torn down, tasks are added from outside and from inside, some are
cancelled, the run may be stopped. However it goes: each task has one result, nothing starts before what it needs is there,
nothing beside a group, and nothing is in flight at the end.
"""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pexen import Group, Sched, Status
from pexen.core.node import Junction
from pexen.errors import DefinitionError
from pexen.model.command import Command
from pexen.model.event import AddWanted
from pexen.model.meta import any_of
from pexen.model.task import Task
from pexen.testing.scripted import ScriptedPool

GROUPS = {"one": False, "two": True}
LOG: list[str] = []
say = LOG.append


@st.composite
def tasks(draw, known: list[str], first: int, prefix: str = "t") -> list[Task]:
    """Return some tasks that require, and come after, earlier ones and each other."""
    made: list[Task] = []
    for number in range(first, first + draw(st.integers(1, 6))):
        path = f"{prefix}{number}"
        before = [*known, *(one.path for one in made)]
        meta = {}
        if before:
            some = st.lists(st.sampled_from(before), max_size=3, unique=True)
            requires = [f"/{one}" for one in draw(some)]
            if len(requires) >= 2 and draw(st.booleans()):
                requires = [any_of(*requires[:2]), *requires[2:]]
            meta["requires"] = requires
            if draw(st.sampled_from([False, False, True])):
                meta["after"] = [f"/{one}" for one in draw(some)] or None
        kind = draw(st.sampled_from(["plain", "plain", "plain", "service", "service", "lazy", "expand", "cleanup"]))
        if kind != "plain":
            meta[kind] = True
        if kind == "service":
            meta["restarts"] = draw(st.sampled_from([0, 0, 1]))
        meta["retries"] = draw(st.sampled_from([0, 0, 1]))
        if draw(st.sampled_from([False, False, True])):
            meta["group"] = draw(st.sampled_from(sorted(GROUPS)))
        else:
            meta["pool"] = draw(st.sampled_from([None, None, "other"]))
        lock = draw(st.sampled_from([None, None, None, "claims", "uses", "resources", "alone"]))
        if lock == "resources":
            meta["resources"] = {"cpu": draw(st.integers(1, 3))}
        elif lock == "alone":
            meta["alone"] = kind != "service" or None
        elif lock:
            meta[lock] = draw(st.sampled_from(["x", "y"]))
        meta["priority"] = draw(st.sampled_from([0, 0, 0, 1]))
        meta = {key: value for key, value in meta.items() if value is not None}
        expands = {"expand": True} if meta.pop("expand", False) else {}
        made.append(Task(Command(("true",)), path, **meta))
        made[-1].meta = {**made[-1].meta, **expands}  # which is for callables, but here that is all the same
    return made


class World:
    """A run on scripted pools."""

    def __init__(self, **options) -> None:
        self.pools = {"default": ScriptedPool(workers=2), "other": ScriptedPool(workers=1)}
        self.of_groups = {name: ScriptedPool(workers=2) for name in GROUPS}
        for name, pool in [*self.pools.items(), *self.of_groups.items()]:
            self.watch(name, pool)
        groups = [Group(name, pool=self.of_groups[name], ordered=ordered) for name, ordered in GROUPS.items()]
        self.sched = Sched(groups, pools=self.pools, resources={"cpu": 4}, **options)
        self.known: list[str] = []
        self.taken: list = []
        self.count = 0
        self.wrong: list[str] = []
        self.open_group = None

    def watch(self, name, pool) -> None:
        submit, opening, closing = pool.submit, pool.open, pool.close

        def submitted(attempt) -> None:
            say(f"start {attempt.task.path} #{attempt.number}")
            self.check_start(name, attempt)
            submit(attempt)

        tear_down = pool.tear_down

        def torn_down(attempt) -> None:
            say(f"tear down {attempt.task.path}")
            users = [one.path for one in self.sched._planner.running_users(attempt.task)]
            if users and not (attempt.cancelled or self.stopped):
                self.wrong.append(f"{attempt.task.path} is torn down under {users}")
            tear_down(attempt)

        pool.tear_down = torn_down
        pool.submit = submitted
        if name in GROUPS:

            def opened(mailbox) -> None:
                say(f"open {name}")
                self.open_group = name
                beside = [one for pool in self.pools.values() for one in pool.running() if one not in pool.services()]
                if beside:
                    self.wrong.append(f"{beside} run when {name} opens")
                opening(mailbox)

            def closed():
                say(f"close {name}")
                self.open_group = None
                if pool.running() and not self.closing:
                    self.wrong.append(f"{pool.running()} run when {name} closes")
                return closing()

            pool.open, pool.close = opened, closed

    closing = False
    stopped = False

    def every(self):
        return {**self.pools, **self.of_groups}

    def check_start(self, pool, attempt) -> None:
        planner, results = self.sched._planner, self.sched._results
        task = attempt.task
        up = {path for one in self.every().values() for path in one.services()}

        def is_met(item) -> bool:
            if isinstance(item, Junction):
                return (any if item.any else all)(is_met(one) for one in [*item.members, *item.grown])
            if item.task.is_service:
                return item.path in up
            return item.path in results and results[item.path].status.is_success

        if task.path in results and not task.is_service:
            self.wrong.append(f"{task.path} starts and has a result")
        node = planner._nodes[task.path]
        for item, bound in zip(task.requires, node.bound, strict=True):
            if not is_met(bound):
                self.wrong.append(f"{task.path} started without {item}")
        for other in planner.followed(task):
            if not planner.is_final(other):
                self.wrong.append(f"{task.path} started before the end of {other.path}")
        if task.group:
            if self.open_group != task.group:
                self.wrong.append(f"{task.path} started while {self.open_group}")
        elif self.open_group and not task.is_service:
            self.wrong.append(f"{task.path} started beside {self.open_group}")

    # -- verbs --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.run = self.sched.open()
        self.settle()

    def settle(self) -> None:
        while True:
            with self.run._turns:
                turning = self.run._turning
            if turning is not None and turning.is_alive():
                turning.join()
            elif not (self.recorded() or self.take()):
                break
        assert not self.wrong, self.wrong
        if self.run._decider.error is not None:
            raise self.run._decider.error
        self.sched._planner.check()

    def recorded(self) -> bool:
        """Have everything committed; tell whether something was."""
        recorder = self.run._recorder
        if recorder is None or not (self.run._decider._unsaid or recorder.starts or recorder.plain):
            return False
        recorder.flush()
        return True

    def take(self) -> bool:
        before = len(self.taken)
        while found := self.run.take(0.0):
            for one in found:
                say(f"result {one.path} {one.status} {one.reason}")
            self.taken += found
        return len(self.taken) > before

    def add(self, made) -> None:
        for one in made:
            say(f"add {one.path} requires={one.requires} {dict(one.meta)}")
        try:
            self.sched.add(made)
        except DefinitionError as error:
            say(f"refused: {error}")
        else:
            self.known += [one.path for one in made]

    def add_inside(self, pool, path, made) -> None:
        for one in made:
            say(f"{path} adds {one.path} requires={one.requires} {dict(one.meta)}")
        said = []
        pool._post_to().post(AddWanted(pool.attempt(path), made, said.append))
        if not said:
            self.run._recorder.flush()
        assert len(said) == 1
        say(f"answer {said}")
        if not said[0]:
            self.known += [one.path for one in made]

    def running(self):
        return [(pool, path) for pool in self.every().values() for path in pool.running()]

    def finish(self) -> None:
        """Let everything pass, until the run is over."""
        for _ in range(3000):
            self.settle()
            if self.run._decider.over:
                break
            moves = [(pool, path) for pool, path in self.running() if self.may_end(pool, path)]
            if not moves:
                left = [str(self.sched.explain(path)) for path in self.known if path not in self.sched.results]
                pytest.fail("\n".join(["stuck", str(self.running()), str(self.run._decider.lanes), *left]))
            pool, path = moves[0]
            self.end(pool, path, Status.PASSED)
        self.settle()
        assert self.run._decider.over
        assert self.running() == []
        self.close()

    def may_end(self, pool, path) -> bool:
        task = self.sched._find(path)
        return not task.is_service or path not in pool.services() or pool.attempt(path).is_leaving

    def end(self, pool, path, status) -> None:
        task = self.sched._find(path)
        if task.is_service and path not in pool.services() and status is Status.PASSED:
            say(f"up {path}")
            pool.up(path)
        else:
            say(f"end {path} {status}")
            pool.end(path, status)

    def close(self) -> None:
        self.closing = True
        self.run.close()
        self.take()
        assert not self.wrong, self.wrong
        plain = [
            one.path for one in self.taken if not one.task.is_service
        ]  # a service may live again for who comes later
        assert len(plain) == len(set(plain))
        assert {one.path for one in self.taken} == set(self.known)
        assert set(self.sched.results) == set(self.known)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_run_comes_to_its_end(data):
    LOG.clear()
    try:
        live(data)
    except BaseException:
        note("\n".join(LOG))
        raise


def live(data):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        live_in(data, folder)


def one_that_runs(world, verb, running, data) -> None:
    """Let something happen to an attempt."""
    pool, path = data.draw(st.sampled_from(running), label="which")
    if verb == "end":
        statuses = [Status.PASSED, Status.PASSED, Status.PASSED, Status.FAILED, Status.CRASHED]
        world.end(pool, path, data.draw(st.sampled_from(statuses)))
    elif verb == "inside":
        world.count += 1
        world.add_inside(pool, path, data.draw(tasks(world.known, 0, f"{path}_{world.count}_")))
    elif verb == "lose" and path not in pool.services():
        say(f"lose {path}")
        pool.lose(path)


def live_in(data, folder):
    options = {
        "journal": folder if data.draw(st.sampled_from([False, True])) else None,
        "durability": "process",
        "maxfail": data.draw(st.sampled_from([None, None, None, 2])),
        "retry_last": data.draw(st.sampled_from([False, False, True])),
        "poison": data.draw(st.sampled_from([False, False, True])),
        "backlog": data.draw(st.sampled_from([1, 1000])),
    }
    say(f"{options}")
    world = World(**options)
    world.add(data.draw(tasks([], 0)))
    world.begin()
    try:
        live_on(world, data)
    finally:
        world.closing = True
        world.run.close()  # also of an example that is given up in the middle


def live_on(world, data):
    verbs = ["end", "end", "end", "end", "add", "inside", "lose", "cancel", "explain"]
    for _ in range(data.draw(st.integers(0, 25))):
        verb = data.draw(st.sampled_from(verbs))
        running = world.running()
        if verb == "add":
            if not world.run._decider.over:
                world.add(data.draw(tasks(world.known, len(world.known) + 20)))
        elif verb == "cancel" and world.known:
            path = data.draw(st.sampled_from(world.known))
            say(f"cancel {path}")
            world.sched.cancel(path)
        elif verb == "explain" and world.known:
            for path in world.known:
                str(world.sched.explain(path))
            world.sched.snapshot()
        elif running:
            one_that_runs(world, verb, running, data)
        world.settle()
        if world.run._decider.over:
            break
    how = data.draw(st.sampled_from(["finish", "finish", "finish", "close", "stop", "drain", "force"]))
    say(how)
    world.stopped = how != "finish"
    if how == "close":
        world.close()
        return
    if how == "stop":
        world.run.stop()
    elif how == "force":
        world.run.stop(force=True, cleanups=False)
    elif how == "drain":
        world.run.drain()
    world.finish()
