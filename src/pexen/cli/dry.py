"""``pexen run --dry-run``: the order in which tasks would start."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from pexen.cli.list import skipper
from pexen.cli.screen import write_out
from pexen.cli.selection import Chosen
from pexen.core.planner import Planner
from pexen.model.command import Command
from pexen.model.cpus import usable_cpus
from pexen.model.task import Task
from pexen.report.text import first_line, visible
from pexen.usecase.config import resources

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.core.planner import Fallen
    from pexen.factory.groups import Grouping


def show_order(
    chosen: Chosen, *, jobs: int, verbose: bool, durations: Callable[[str], float | None] | None = None
) -> None:  # fmt: skip
    """Write the paths in the order in which they would start if each passed in the time that ``durations`` tells (or 1 s).

    Lines that begin with ``#`` say what else would happen: whose turn it is, what is torn down, what is skipped.
    """
    planner = Planner(resources=resources(chosen.root), durations=durations)
    rehearsal = _Rehearsal(planner, jobs or usable_cpus(), durations or (lambda _: None), verbose=verbose)
    for group in chosen.groups.values():
        rehearsal.add_group(group)
    rehearsal.run(chosen.tasks)
    write_out("".join(line + "\n" for line in rehearsal.lines))


class _Rehearsal:
    """A run of the planner in imagined time."""

    def __init__(self, planner: Planner, jobs: int, durations: Callable[[str], float | None], *, verbose: bool) -> None:
        self.lines: list[str] = []
        self._planner = planner
        self._jobs = jobs
        self._durations = durations
        self._verbose = verbose
        self._would_skip = skipper()
        self._room = {"default": jobs}
        """How many more tasks each pool takes."""
        self._groups: dict[str, Grouping] = {}
        self._fallen: list[Fallen] = []
        self._running: list[tuple[float, int, Task, bool, str]] = []
        self._now = 0.0

    def add_group(self, group: Grouping) -> None:
        pool = self._planner.add_group(group.name, is_ordered=group.ordered)
        self._room[pool] = 1 if group.pool == "inline" else group.workers or self._jobs
        self._groups[pool] = group

    def run(self, tasks: list[Task]) -> None:
        """Go from end to end until nothing is left."""
        planner = self._planner
        self._fallen += planner.add(tasks)
        while True:
            while self._step():
                pass
            if not self._running:
                break
            self._now, _, task, good, pool = heappop(self._running)
            self._room[pool] += 1
            if good and task.is_service:
                planner.provide(task)
                continue
            self._fallen += planner.finish(task, success=good, status="skipped")
            planner.free(task)
        self._fallen += planner.take_fallen() if planner.is_over() else []
        self.lines += [_skipped(one.task, one.reason) for one in self._fallen]

    def _step(self) -> bool:
        """Do all that takes no time and is due; tell whether there was anything."""
        planner = self._planner
        has_moved = False
        for pool in self._room:
            while self._room[pool] and (task := planner.next(pool)) is not None:
                self._start(task, pool)
                has_moved = True
        if (turn := planner.group_step()) is not None:
            self._turn(*turn)
            has_moved = True
        while (task := planner.next_to_leave()) is not None:
            self._leave(task)
            has_moved = True
        return has_moved

    def _start(self, task: Task, pool: str) -> None:
        reason = self._would_skip(task)
        self.lines.append(_line(task, verbose=self._verbose) if reason is None else _skipped(task, reason))
        known = task.estimate if task.estimate is not None else self._durations(task.name)
        takes = 0.0 if reason is not None else 1.0 if known is None else known
        self._room[pool] -= 1
        heappush(self._running, (self._now + takes, len(self.lines), task, reason is None, pool))

    def _turn(self, what: str, pool: str) -> None:
        group = self._groups[pool]
        name = visible(group.name)
        if what == "open":
            self._planner.opened()
            about = str(group)
            self.lines.append(f"# group {name}" + (f" ({about})" if about else ""))
        else:
            self._planner.closed()
            self.lines.append(f"# group {name} is over")

    def _leave(self, task: Task) -> None:
        """Tear a service down."""
        self.lines.append(f"# {visible(task.name)} would be torn down")
        if self._planner.is_wanted(task):
            self._planner.restart(task)
        else:
            self._fallen += self._planner.finish(task, free=True)


def _line(task: Task, *, verbose: bool) -> str:
    if verbose and isinstance(task.callable, Command):
        return f"{visible(task.name)}: {visible(str(task.callable))}"
    return visible(task.name)


def _skipped(task: Task, reason: str) -> str:
    return f"# {visible(task.name)} would be skipped: {first_line(reason)}"
