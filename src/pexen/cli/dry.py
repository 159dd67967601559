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


def show_order(
    chosen: Chosen, *, jobs: int, verbose: bool, durations: Callable[[str], float | None] | None = None
) -> None:  # fmt: skip
    """Write the paths in the order in which they would start if each passed in the time that ``durations`` tells (or 1 s)."""
    planner = Planner(resources=resources(chosen.root), durations=durations)
    would_skip = skipper()
    fallen = planner.add(chosen.tasks)
    running: list[tuple[float, int, Task, bool]] = []
    lines: list[str] = []
    now = 0.0
    while True:
        while len(running) < (jobs or usable_cpus()) and (task := planner.next()) is not None:
            reason = would_skip(task)
            lines.append(_line(task, verbose=verbose) if reason is None else _skipped(task, reason))
            known = task.estimate if task.estimate is not None else durations(task.name) if durations else None
            takes = 0.0 if reason is not None else 1.0 if known is None else known
            heappush(running, (now + takes, len(lines), task, reason is None))
        if not running:
            break
        now, _, task, good = heappop(running)
        fallen += planner.finish(task, success=good, status="skipped")
        planner.free(task)
    fallen += planner.take_fallen() if planner.is_over() else []
    lines += [_skipped(one.task, one.reason) for one in fallen]
    write_out("".join(line + "\n" for line in lines))


def _line(task: Task, *, verbose: bool) -> str:
    if verbose and isinstance(task.callable, Command):
        return f"{visible(task.name)}: {visible(str(task.callable))}"
    return visible(task.name)


def _skipped(task: Task, reason: str) -> str:
    return f"# {visible(task.name)} would be skipped: {first_line(reason)}"
