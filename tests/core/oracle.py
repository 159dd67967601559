"""The slow obvious planner: written from the words of docs/scheduler.md and the architecture, not from the code.

It keeps a list of tasks and what became of each. Every question is answered from scratch: who provides a name is found
by looking at every path, who may start by comparing every pair of tasks. It does not choose; it says what may be chosen,
which of several is best, and what must happen to whom.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pexen.model.meta import AllOf, AnyOf, Named, TreeLock
from pexen.model.task import Task

MET = {"up", "done"}
LOST = {"failed", "skipped", "cancelled"}
FINAL = {"done"} | LOST


class Refused(Exception):
    """The batch is wrong: a planner has to raise `DefinitionError`."""


class One:
    """A task and what became of it."""

    def __init__(self, task: Task, order: int) -> None:
        self.task = task
        self.order = order
        self.requires: list[Any] = []
        self.after: list[One] = []
        self.weight: float = 1
        self.state = "waiting"
        self.asleep = False
        self.occupies = False
        self.later = False
        self.refused: int | None = None
        self.overtakes = 0
        self.overtaken_on: dict[Any, int] = {}

    @property
    def path(self) -> str:
        return self.task.path or "?"

    @property
    def key(self) -> tuple[float, float, int]:
        return (self.task.priority, -self.weight, self.order)

    @property
    def takes(self) -> bool:
        """Whether it keeps something until it is freed."""
        one = self.task
        return bool(one.claims or one.uses or one.resources or one.alone or one.once)

    def __repr__(self) -> str:
        return f"{self.path}:{self.state}"


@dataclass(eq=False)
class All:
    """Several providers that must all succeed."""

    members: list[Any]


@dataclass(eq=False)
class Any_:
    """Alternatives, one of which must succeed."""

    members: list[Any]


class Oracle:
    """All tasks of a run, in order of addition."""

    def __init__(self, resources: dict[str, Any], pools: tuple[str, ...]) -> None:
        self.resources = {
            name: total if isinstance(total, int | float) else len(total) for name, total in resources.items()
        }
        self.pools = pools
        self.all: list[One] = []
        self.poison: list[tuple[Any, One]] = []
        self.holds = 0
        self.draining = False
        self.refusals = 0

    # -- admission ------------------------------------------------------------------------------------------------

    def at(self, path: str | None) -> One:
        return next(one for one in self.all if one.path == path)

    def add(self, tasks: list[Task]) -> None:
        """Admit tasks, or raise `Refused`."""
        fresh = [One(task, len(self.all) + index) for index, task in enumerate(tasks)]
        every = self.all + fresh
        paths = [one.path for one in every]
        if len(set(paths)) < len(paths):
            raise Refused("paths")
        for one in fresh:
            if one.task.pool is not None and one.task.pool not in self.pools:
                raise Refused("pool")
            for name, amount in one.task.resources.items():
                if amount > self.resources.get(name, 0):
                    raise Refused("resource")
            one.requires = [self.bind(every, one, item) for item in one.task.requires]
            one.after = [leaf for item in one.task.after for leaf in leaves_of(self.bind(every, one, item))]
            one.asleep = one.task.lazy
        for one, before in self.order(fresh):
            behind = [other.weight for other in fresh if one in before[other.path]]
            one.weight = (1 if one.task.estimate is None else one.task.estimate) + max(behind, default=0)
        self.all = every

    def order(self, fresh: list[One]) -> list[tuple[One, dict[str, list[One]]]]:
        """Return the batch, dependants first, with what each of it waits for."""
        before = {one.path: [leaf for item in one.requires for leaf in leaves_of(item)] + one.after for one in fresh}
        sorter = TopologicalSorter(
            {path: [one.path for one in found if one in fresh] for path, found in before.items()}
        )
        try:
            order = list(sorter.static_order())
        except CycleError:
            raise Refused("cycle") from None
        by_path = {one.path: one for one in fresh}
        return [(by_path[path], before) for path in reversed(order)]

    def bind(self, every: list[One], me: One, item: Any) -> Any:
        """Return the providers of a requirement: one, `All` or `Any_` of them."""
        if isinstance(item, Named):
            return self.bind(every, me, item.requirement)
        if isinstance(item, AllOf):
            return self.bind(every, me, item.of)
        if isinstance(item, AnyOf):
            found = [self.bind(every, me, part) for part in item.alternatives]
            if len(found) == 1 and isinstance(found[0], All) and not isinstance(item.alternatives[0], AllOf):
                found = found[0].members
            return Any_(sorted(found, key=lambda one: -preference_of(one)))
        found = self.providers(every, me, item)
        if not found:
            raise Refused("unknown")
        if me in found:
            raise Refused("itself")
        return found[0] if len(found) == 1 else All(found)

    @staticmethod
    def providers(every: list[One], me: One, item: Any) -> list[One]:
        if isinstance(item, Task):
            return [one for one in every if one.path == item.path]
        if isinstance(item, str) and item.startswith("/"):
            exact = [one for one in every if "/" + one.path == item]
            return exact or [one for one in every if ("/" + one.path).startswith(item + "/")]
        if isinstance(item, str | tuple):
            having = [one for one in every if item in one.task.provides]
        else:
            having = [one for one in every if one.task.callable is item]
        folder = me.path
        while folder:
            folder = folder.rpartition("/")[0]
            near = [one for one in having if not folder or one.path.startswith(folder + "/")]
            if near:
                return near
        return []

    # -- requirements ---------------------------------------------------------------------------------------------

    def met(self, item: Any) -> bool:
        if isinstance(item, One):
            return item.state in MET
        return (any if isinstance(item, Any_) else all)(self.met(member) for member in item.members)

    def lost(self, item: Any) -> bool:
        if isinstance(item, One):
            return item.state in LOST
        if isinstance(item, Any_):
            return all(self.lost(member) for member in item.members)
        return any(self.lost(member) for member in item.members)

    def is_ready(self, one: One) -> bool:
        return (
            one.state == "waiting"
            and not one.asleep
            and all(self.met(item) for item in one.requires)
            and all(other.state in FINAL for other in one.after)
        )

    def doomed(self) -> set[str]:
        """Skip everything that can never run, and return the paths of it."""
        gone: set[str] = set()
        while found := [one for one in self.all if one.state == "waiting" and any(self.lost(i) for i in one.requires)]:
            for one in found:
                one.state = "skipped"
                gone.add(one.path)
        return gone

    def culprits(self, one: One) -> set[str]:
        """Return the paths of all that did not succeed among what ``one`` requires, transitively, and itself."""
        found: set[str] = set()
        stack = [one]
        while stack:
            this = stack.pop()
            if this.path not in found:
                found.add(this.path)
                stack += [leaf for item in this.requires for leaf in leaves_of(item) if leaf.state in LOST]
        return found

    def is_slept_on(self, item: Any) -> bool:
        """Tell whether a requirement cannot be met unless somebody is woken."""
        if isinstance(item, One):
            return item.asleep
        members = [member for member in item.members if not self.met(member) and not self.lost(member)]
        return (all if isinstance(item, Any_) else any)(self.is_slept_on(member) for member in members)

    def must_wake(self) -> list[One]:
        """Return the tasks that are awake and wait for one that is asleep; in the end there must be none."""
        return [
            one
            for one in self.all
            if one.state == "waiting"
            and not one.asleep
            and any(not self.met(item) and self.is_slept_on(item) for item in one.requires)
        ]

    # -- locks and amounts ----------------------------------------------------------------------------------------

    def occupants(self) -> list[One]:
        return [one for one in self.all if one.occupies]

    def may_take(self, one: One) -> bool:
        """Tell whether what it takes is free."""
        others = self.occupants()
        return not any(conflict(one.task, other.task) for other in others) and all(
            amount + sum(other.task.resources.get(name, 0) for other in others) <= self.resources[name]
            for name, amount in one.task.resources.items()
        )

    def delays(self, start: One, waiting: One) -> list[Any]:
        """Return what ``waiting`` could not have because ``start`` has it; "places" are all of a tree together."""
        found: list[Any] = []
        if start.task.alone or waiting.task.alone:
            found.append("alone" if waiting.task.alone else "other")
        found += [lock if not isinstance(lock, TreeLock) else "places" for lock in clashes(start.task, waiting.task)]
        others = [one for one in self.occupants() if one is not start]
        for name, amount in waiting.task.resources.items():
            mine = start.task.resources.get(name, 0)
            held = sum(other.task.resources.get(name, 0) for other in others)
            if mine and mine + held + amount > self.resources[name]:
                found.append(f"amount of {name}")
        return list(dict.fromkeys(found))

    def is_poisoned(self, one: One) -> list[str]:
        """Return the culprits that left something insane which the task needs."""
        return [
            culprit.path
            for lock, culprit in self.poison
            for mine in (*one.task.claims, *one.task.uses)
            if same(mine, lock)
        ]

    # -- what may start -------------------------------------------------------------------------------------------

    def ready(self, pool: str) -> list[One]:
        """Return the ready tasks of a pool, best first."""
        mine = [one for one in self.all if (one.task.pool or "default") == pool]
        # The last attempt of one that occupies may still live.
        found = [one for one in mine if self.is_ready(one) and not one.occupies and not one.later]
        return sorted(found, key=lambda one: one.key)

    def startable(self, pool: str) -> list[One]:
        """Return the tasks that may start now, but for fairness, best first."""
        return [one for one in self.ready(pool) if self.may_take(one) and not self.is_poisoned(one)]

    def refuse(self, one: One) -> None:
        if one.refused is None:
            self.refusals += 1
            one.refused = self.refusals

    def start(self, one: One) -> None:
        """Let it run; count whom it has overtaken, and note on what."""
        one.state, one.occupies = "running", True
        self.overtaken: list[tuple[One, Any]] = []
        for waiting in self.all:
            if waiting.refused is None or waiting is one or waiting.task.priority > one.task.priority:
                continue
            if one.refused is not None and one.refused < waiting.refused:
                continue
            things = self.delays(one, waiting)
            waiting.overtakes += bool(things)
            if one.refused is None:
                for thing in things:
                    self.overtaken.append((waiting, thing))
                    waiting.overtaken_on[thing] = waiting.overtaken_on.get(thing, 0) + 1
        self.forget_wait(one)

    @staticmethod
    def forget_wait(one: One) -> None:
        one.refused, one.overtakes, one.overtaken_on = None, 0, {}

    def too_late(self, limit: int) -> list[One]:
        """Return the tasks that the last start overtook, too often on one thing, and that nobody like them is before."""
        waiting = [one for one in self.all if one.refused is not None]
        return [
            one
            for one, thing in self.overtaken
            if one.overtaken_on[thing] >= limit
            and thing not in {"places", "other"}
            and not any(
                other.refused < one.refused  # type: ignore[operator]
                and other.task.priority == one.task.priority
                and wants(other, thing) == wants(one, thing)
                for other in waiting
            )
        ]

    def free(self, one: One) -> None:
        one.occupies = False

    def drop(self, one: One, state: str) -> None:
        one.state, one.later = state, False
        self.forget_wait(one)

    def is_over(self) -> bool:
        left = [one for one in self.all if one.state not in FINAL]
        if not self.holds and left and all(one.state == "waiting" and one.asleep for one in left):
            for one in left:
                self.drop(one, "skipped")
            left = []
        return not left and not self.holds

    def is_waiting(self) -> bool:
        """Tell whether all that is left waits to be tried again, or for one that does, when nothing else can start."""
        left = [one for one in self.all if one.state not in FINAL]
        runs = any(one.state == "running" for one in left)
        # What is ready can come before: as soon as the processes of an attempt that has ended are gone.
        comes = any(self.is_ready(one) and not one.later for one in left)
        lives = any(one.occupies and one.state not in {"running", "up"} for one in self.all)
        return any(one.later for one in left) and not runs and not (comes and lives)

    def is_quiet(self) -> bool:
        """Tell whether nothing can ever happen again by itself."""
        busy = any(one.state in {"running", "up"} or one.occupies for one in self.all)
        return not busy and not self.holds and not any(self.is_ready(one) for one in self.all)


def leaves_of(item: Any) -> list[One]:
    return [item] if isinstance(item, One) else [leaf for member in item.members for leaf in leaves_of(member)]


def preference_of(item: Any) -> float:
    return max(leaf.task.preference for leaf in leaves_of(item))


def same(lock: Any, other: Any) -> bool:
    """Tell whether two locks are about the same thing: one name, or places of which one is above the other."""
    if isinstance(lock, TreeLock) and isinstance(other, TreeLock):
        depth = min(len(lock.parts), len(other.parts))
        return lock.parts[:depth] == other.parts[:depth]
    return type(lock) is type(other) and bool(lock == other)


def clashes(task: Task, other: Task) -> list[Any]:
    """Return the locks of ``other`` that it cannot have together with those of ``task``."""
    claims = [lock for lock in other.claims if any(same(lock, mine) for mine in (*task.claims, *task.uses))]
    return claims + [lock for lock in other.uses if any(same(lock, mine) for mine in task.claims)]


def conflict(task: Task, other: Task) -> bool:
    return task.alone or other.alone or bool(clashes(task, other))


def wants(one: One, thing: Any) -> Any:
    """Return how a task wants a thing, to compare those that want it alike."""
    if thing == "alone":
        return one.task.alone
    if isinstance(thing, str) and thing.startswith("amount of "):
        return one.task.resources.get(thing.removeprefix("amount of "))
    return (thing in one.task.claims, thing in one.task.uses and thing not in one.task.claims)


def words(reason: str) -> set[str]:
    """Return the words of a reason, to look for paths in it."""
    return set(re.findall(r"[\w/.]+", reason))
