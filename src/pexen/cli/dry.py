"""``pexen run --dry-run``: the order in which tasks would start."""

from __future__ import annotations

from collections import deque

from pexen.cli.list import skipper
from pexen.cli.options import resources
from pexen.cli.screen import write_out
from pexen.cli.selection import Chosen
from pexen.core.planner import Planner
from pexen.model.command import Command
from pexen.model.cpus import usable_cpus
from pexen.model.task import Task
from pexen.report.text import first_line, visible


def show_order(chosen: Chosen, *, jobs: int, verbose: bool) -> None:
    """Write the paths in the order in which they would start if each took the same time and passed, to standard output."""
    planner = Planner(resources=resources(chosen.root))
    would_skip = skipper()
    fallen = planner.add(chosen.tasks)
    running: deque[tuple[Task, bool]] = deque()
    lines: list[str] = []
    while True:
        while len(running) < (jobs or usable_cpus()) and (task := planner.next()) is not None:
            reason = would_skip(task)
            lines.append(_line(task, verbose=verbose) if reason is None else _skipped(task, reason))
            running.append((task, reason is None))
        if not running:
            break
        task, good = running.popleft()
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
