"""Feeding a planner by hand: short verbs by path, with `check` after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pexen.core.planner import Fallen, Planner
from pexen.model.task import Task


def nothing() -> None:
    raise AssertionError("a planner runs nothing")


def serve() -> Iterator[None]:
    raise AssertionError("a planner runs nothing")
    yield


def make(path: str, **meta: Any) -> Task:
    """Return a task at the path."""
    return Task(serve if meta.get("service") else nothing, path, **meta)


class Hand:
    """A planner, and who has fallen so far, by path: the reason, or None for a task that was cancelled."""

    def __init__(self, *tasks: Task, **options: Any) -> None:
        self.planner = Planner(**options)
        self.fallen: dict[str, str] = {}
        self.cancelled: set[str] = set()
        if tasks:
            self.add(*tasks)

    def task(self, path: str) -> Task:
        task = self.planner.find(path)
        assert task is not None, f"there is no {path}"
        return task

    def note(self, fallen: Any) -> list[str]:
        self.planner.check()
        for one in fallen:
            assert isinstance(one, Fallen)
            assert one.task.path not in self.fallen, f"{one.task.path} fell twice"
            self.fallen[str(one.task.path)] = one.reason
            if one.cancelled:
                self.cancelled.add(str(one.task.path))
        return [str(one.task.path) for one in fallen]

    def add(self, *tasks: Task) -> list[str]:
        return self.note(self.planner.add(tasks))

    def start(self, pool: str = "default", *, ahead: bool = False) -> str | None:
        """Start the best task; return its path."""
        task = self.planner.next(pool, ahead=ahead)
        self.note(self.planner.take_fallen())
        return None if task is None else task.path

    def starts(self, pool: str = "default") -> list[str]:
        """Start all that may start now; return their paths in order."""
        found = []
        while (path := self.start(pool)) is not None:
            found.append(path)
        return found

    def finish(self, *paths: str, free: bool = True) -> list[str]:
        """Let tasks pass; return who fell for it: nobody."""
        return [one for path in paths for one in self.note(self.planner.finish(self.task(path), free=free))]

    def fail(self, *paths: str, status: str = "failed", free: bool = True) -> list[str]:
        """Let tasks fail; return who fell for it."""
        return [
            one
            for path in paths
            for one in self.note(self.planner.finish(self.task(path), success=False, status=status, free=free))
        ]

    def poison(self, path: str) -> list[str]:
        return self.note(self.planner.poison(self.task(path)))

    def free(self, path: str) -> None:
        self.planner.free(self.task(path))
        self.planner.check()

    def requeue(self, path: str, *, free: bool = True, later: bool = False) -> None:
        self.planner.requeue(self.task(path), free=free, later=later)
        self.note(self.planner.take_fallen())

    def again(self, *paths: str) -> None:
        for path in paths:
            self.planner.again(self.task(path))
            self.note(self.planner.take_fallen())

    def is_waiting(self) -> bool:
        """Ask for everything that may start, which must be nothing; return whether all that is left waits for `again`."""
        assert not [path for pool in self.planner._queues for path in self.starts(pool)]
        assert not self.planner.is_stuck(asked=True)
        return self.planner.is_waiting()

    def provide(self, path: str) -> None:
        self.planner.provide(self.task(path))
        self.planner.check()

    def leave(self, *, free: bool = True, success: bool = True) -> list[str]:
        """Tear down all services that are due, one after the other; return them in that order."""
        left = []
        while task := self.planner.next_to_leave():
            self.planner.check()
            left.append(task.path)
            if self.planner.is_wanted(task):
                self.planner.restart(task, free=free)
            else:
                self.note(self.planner.finish(task, success=success, free=free))
            self.planner.check()
        return left

    def restart(self, path: str, *, free: bool = True) -> None:
        self.planner.restart(self.task(path), free=free)
        self.note(self.planner.take_fallen())
        self.planner.check()

    def cancel(self, *paths: str, reason: str = "cancelled") -> list[str]:
        return self.note(self.planner.cancel([self.task(path) for path in paths], reason))

    def drain(self, **options: Any) -> list[str]:
        return self.note(self.planner.drain(**options))

    def state(self, path: str) -> str:
        return self.planner.state(self.task(path)).name.lower()

    def why(self, path: str) -> str:
        return str(self.planner.explain(self.task(path)))

    def is_over(self) -> bool:
        over = self.planner.is_over()
        self.note(self.planner.take_fallen())
        return over

    def run(self) -> list[str]:
        """Run everything to the end, one task at a time, all passing; return the order of starts."""
        order = []
        while path := self.start():
            order.append(path)
            self.finish(path)
        return order
