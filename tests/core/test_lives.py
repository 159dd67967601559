"""Services and groups in runs of any shape: what always holds of them, and that every run comes to its end.

A run is driven by hand: tasks and groups of all kinds are added before and while it goes on, start, pass, fail, are tried again;
services come up, die, are restarted. After every step the planner's own `check` must hold.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import note as say
from hypothesis import strategies as st

from pexen.core.node import FINAL, Junction, Node, State
from pexen.core.planner import Planner
from pexen.errors import DefinitionError
from pexen.model.command import Command
from pexen.model.meta import any_of
from pexen.model.task import Task
from tests.core.snapshot import snapshot

GROUPS = {"one": False, "two": True}
POOLS = ("default", "other")
NAMES = [f"t{number}" for number in range(12)]


@st.composite
def tasks(draw, known: list[str], first: int) -> list[Task]:
    """Return some tasks that require, and come after, earlier ones and each other."""
    made: list[Task] = []
    for number in range(first, first + draw(st.integers(1, 6))):
        path = f"t{number}"
        before = [*known, *(one.path for one in made)]
        meta = {}
        if before:
            some = st.lists(st.sampled_from(before), max_size=3, unique=True)
            requires = [f"/{one}" for one in draw(some)]
            if len(requires) == 3 and draw(st.booleans()):
                requires = [any_of(*requires[:2]), requires[2]]
            meta["requires"] = requires
            if draw(st.sampled_from([False, False, True])):
                meta["after"] = [f"/{one}" for one in draw(some)] or None
        kind = draw(st.sampled_from(["plain", "plain", "service", "service", "service", "lazy", "expand", "cleanup"]))
        if kind in {"service", "lazy", "cleanup"}:
            meta[kind] = True
        if draw(st.sampled_from([False, False, False, True])):
            meta["group"] = draw(st.sampled_from(sorted(GROUPS)))
        if draw(st.sampled_from([False, False, False, True])):
            meta[draw(st.sampled_from(["claims", "uses"]))] = draw(st.sampled_from(["x", "y"]))
        elif draw(st.sampled_from([False] * 5 + [True])):
            meta["resources"] = {"cpu": draw(st.integers(1, 3))}
        meta["priority"] = draw(st.sampled_from([0, 0, 0, 1]))
        meta["pool"] = draw(st.sampled_from([None, None, "other"]))
        made.append(Task(Command(("true",)), path, **meta))
        if kind == "expand":
            made[-1].meta = {
                **made[-1].meta,
                "expand": True,
            }  # which is for callables, but to the planner that is all the same
    return made


class World:
    """A planner and what a run does with it."""

    def __init__(self) -> None:
        self.planner = Planner(resources={"cpu": 4}, pools=POOLS)
        self.pools = [*POOLS, *(self.planner.add_group(name, is_ordered=ordered) for name, ordered in GROUPS.items())]
        self.running: dict[str, Task] = {}
        self.up: dict[str, Task] = {}
        self.starts: list[str] = []
        self.leaving: Task | None = None
        self.turn: str | None = None
        self.ended: list[str] = []
        self.known: list[str] = []
        self.count = 0
        self.steps = 0
        self.holds = 0
        self.later: dict[str, Task] = {}
        self.unfreed: dict[str, Task] = {}

    # -- what happens -------------------------------------------------------------------------------------------------

    def add(self, made: list[Task], by: str | None = None) -> bool:
        for one in made:
            if by is not None and self.planner.find(by).group:
                one.meta = {"group": self.planner.find(by).group, **one.meta}
            say(f"{by or ''} add {one.path} requires={one.requires} {dict(one.meta)}")
        before = snapshot(self.planner)
        try:
            fallen = self.planner.add(made, None if by is None else lambda _: by)
        except DefinitionError as error:
            say(f"refused: {error}")
            after = snapshot(self.planner)
            assert {key for key in before if after[key] != before[key]} == set()
            return False
        self.known += [one.path for one in made]
        self.note(fallen)
        return True

    def note(self, fallen) -> None:
        for one in fallen:
            say(f"fell {one.task.path}: {one.reason}")
            self.ended.append(one.task.path)

    def next(self, pool: str) -> bool:
        task = self.planner.next(pool)
        self.note(self.planner.take_fallen())
        if task is None:
            return False
        say(f"start {task.path}")
        self.sees_what_it_needs(task)
        self.is_its_turn(task)
        self.running[task.path] = task
        return True

    def end(
        self, task: Task, success: bool, again: bool, *, later: bool = False, free: bool = True, poison: bool = False
    ) -> None:
        del self.running[task.path]
        say(f"end {task.path} {success=} {again=}")
        if task.is_service and success:
            self.planner.provide(task)
            self.up[task.path] = task
            self.starts.append(task.path)
        elif again and self.planner.may_start_again(task):
            say(f"again {later=} {free=}")
            self.planner.requeue(task, later=later, free=free)
            if later:
                self.later[task.path] = task
            if not free:
                self.unfreed[task.path] = task
            self.note(self.planner.take_fallen())
        else:
            self.final(task, success, free=free, poison=poison)

    def final(self, task: Task, success: bool, *, free: bool = True, poison: bool = False) -> None:
        self.ended.append(task.path)
        if poison and not success:
            self.note(self.planner.poison(task))
        self.note(self.planner.finish(task, success=success, free=free))
        if not free:
            self.unfreed[task.path] = task

    def free(self) -> bool:
        """Have the processes of one gone, and one tried again."""
        if self.unfreed:
            path, task = self.unfreed.popitem()
            say(f"free {path}")
            self.planner.free(task)
        elif self.later:
            path, task = self.later.popitem()
            say(f"try {path}")
            self.planner.again(task)
        else:
            return False
        return True

    def die(self, task: Task, restart: bool) -> None:
        say(f"die {task.path} {restart=}")
        del self.up[task.path]
        self.starts.remove(task.path)
        if restart and self.planner.is_wanted(task):
            self.planner.restart(task)
            self.note(self.planner.take_fallen())
        else:
            self.final(task, success=False)

    def leave(self) -> bool:
        """Tear one down, or finish with the one that is."""
        if self.leaving is not None:
            task, self.leaving = self.leaving, None
            if self.planner.is_wanted(task):
                self.planner.restart(task)
                self.note(self.planner.take_fallen())
            else:
                self.final(task, success=True)
            return True
        task = self.planner.next_to_leave()
        if task is None:
            return False  # also as long as somebody holds the run
        say(f"leave {task.path}")
        assert not self.relies_on(task), f"{task.path} leaves, and {self.relies_on(task)} rely on it"
        later = self.starts[self.starts.index(task.path) + 1 :]
        due = {node.path for node in self.planner._services.due}
        assert not due & set(later), f"{task.path} leaves before {later}"
        self.starts.remove(task.path)
        del self.up[task.path]
        self.leaving = task
        return True

    def step(self) -> bool:
        """Open or close the pool of a group."""
        step = self.planner.group_step()
        if step is None:
            return False
        what, pool = step
        say(f"{what} {pool}")
        if what == "open":
            assert not self.running, f"{self.running} run when {pool} begins"
            self.turn = pool
            self.planner.opened()
        else:
            self.turn = None
            self.planner.closed()
        return True

    # -- what always holds --------------------------------------------------------------------------------------------

    def node(self, task: Task) -> Node:
        return self.planner._nodes[task.path]

    def sees_what_it_needs(self, task: Task) -> None:
        """What it requires has succeeded; services are up."""

        def is_met(item) -> bool:
            if isinstance(item, Junction):
                return (any if item.any else all)(is_met(one) for one in [*item.members, *item.grown])
            return item.path in self.up if item.task.is_service else item.state is State.DONE

        for item, bound in zip(task.requires, self.node(task).bound, strict=True):
            assert is_met(bound), f"{task.path} started without {item}"

    def relies_on(self, task: Task) -> list[str]:
        """Return what runs and requires a service, whatever is in between."""
        found = []
        for path in self.running:
            stack = list(self.planner._nodes[path].bound)
            while stack:
                item = stack.pop()
                if isinstance(item, Junction):
                    stack += [item.chosen] if item.any and item.chosen else item.members
                elif item.path == task.path:
                    found.append(path)
                elif item.state not in {State.FAILED, State.SKIPPED, State.CANCELLED}:
                    stack += item.bound
        return found

    def is_its_turn(self, task: Task) -> None:
        groups = self.planner._groups
        mine = f"group {task.group}" if task.group else None
        if mine is not None:
            assert self.turn == mine, f"{task.path} started outside of its group's turn"
            if task.group == "two" and not task.is_service:
                others = [one for one in self.running.values() if one.group == "two" and not one.is_service]
                assert not others, f"{task.path} started beside {others}"
        elif groups.current is not None:
            is_needed = task.is_service and self.node(task) in groups.current.needed
            assert is_needed, f"{task.path} started in {self.turn}"

    def run_to_the_end(self) -> None:
        """Let everything pass; the run must come to its end."""
        for _ in range(self.holds):
            self.planner.release()
        for _ in range(1000):
            self.planner.check()
            ended = len(self.ended)
            moved = self.step() or sum(self.next(pool) for pool in self.pools) or len(self.ended) > ended
            if not moved and self.running:
                self.end(next(iter(self.running.values())), success=True, again=False)
                moved = True
            if not moved and not self.leave() and not self.free():
                break
        over = self.planner.is_over()
        self.note(self.planner.take_fallen())
        left = [str(self.planner.explain(one)) for one in self.planner.tasks() if not self.planner.is_final(one)]
        assert over, "\n".join([f"stuck: {left}, up: {list(self.up)}", *left])
        assert not self.planner.is_stuck()


VERBS = [
    "add", "make", *["next"] * 4, *["end"] * 3, "die", "die", "leave", "leave", "step", "step", "cancel", "free", "hold", "drain",
]  # fmt: skip


def recall_some(world: World, data) -> None:
    """Let some be known from a run before."""
    for path in world.known:
        task = world.planner.find(path)
        if data.draw(st.sampled_from([False] * 9 + [True])) and not (task.is_service or world.planner.is_final(task)):
            say(f"recall {path}")
            world.ended.append(path)
            world.note(world.planner.recall([(task, data.draw(st.booleans()), "failed")]))
    world.planner.check()


@pytest.mark.timeout(300)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_run_comes_to_its_end(data):
    world = World()
    world.add(data.draw(tasks([], 0)))
    recall_some(world, data)
    for _ in range(data.draw(st.sampled_from([5, 15, 40]))):
        verb = data.draw(st.sampled_from(VERBS))
        if verb == "add":
            world.add(data.draw(tasks(world.known, len(world.known) + 20)))
        elif verb == "next":
            any(world.next(pool) for pool in data.draw(st.permutations(world.pools)))
        elif verb == "end" and world.running:
            task = world.running[data.draw(st.sampled_from(sorted(world.running)))]
            seldom = st.sampled_from([False, False, False, True])
            world.end(
                task, not data.draw(seldom), data.draw(seldom), later=data.draw(seldom), free=not data.draw(seldom),
                poison=data.draw(seldom),
            )  # fmt: skip
        elif verb == "make" and world.running:
            made = data.draw(tasks(world.known, len(world.known) + 20))
            world.add(made, data.draw(st.sampled_from(sorted(world.running))))
        elif verb == "free":
            world.free()
        elif verb == "hold":
            world.holds += 1
            world.planner.hold()
        elif verb == "drain" and data.draw(st.booleans()):
            world.note(world.planner.drain(cleanups=data.draw(st.booleans())))
        elif verb == "die" and world.up:
            world.die(world.up[data.draw(st.sampled_from(sorted(world.up)))], data.draw(st.booleans()))
        elif verb == "leave":
            world.leave()
        elif verb == "step":
            world.step()
        elif verb == "cancel" and world.known:
            path = data.draw(st.sampled_from(world.known))
            world.note(world.planner.cancel([world.planner._nodes[path].task]))
        world.planner.check()
    world.run_to_the_end()
    plain = [path for path in world.ended if not world.planner._nodes[path].task.is_service]
    assert sorted(plain) == sorted(path for path in world.known if not world.planner._nodes[path].task.is_service)
    assert set(world.known) == set(world.ended)
    assert all(node.state in FINAL for node in world.planner._nodes.values())
