"""``pexen status``: where a run stands, live or dead, from its record alone."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import click

from pexen.cli.options import CONTEXT
from pexen.cli.screen import write_out
from pexen.model.result import Status
from pexen.report.text import counted, spoken, visible
from pexen.state.lock import Holder, holder
from pexen.state.reader import Record, Start, Story, read
from pexen.usecase.begun import begun, is_done, understood
from pexen.usecase.past import home_with
from pexen.usecase.place import find_run, is_resumable

_LISTED = 10
"""How many tasks that wait are named."""


@click.command("status", context_settings=CONTEXT)
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("-C", "chdir", help="Change to DIR first.", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(name: str, chdir: str | None, *, as_json: bool) -> int:
    """Show where RUN (the last one) stands: what runs and for how long, what waits and why, what became of the rest."""
    if chdir is not None:
        os.chdir(chdir)
    folder = find_run(name)
    with understood(folder):
        standing = Standing(folder)
        if as_json:
            import json

            text = json.dumps(standing.as_json())
        else:
            text = "\n".join(visible(line) for line in standing.lines())
    write_out(text + "\n")
    return 0


class Expected(NamedTuple):
    """How much longer a run takes: ``seconds``, but for the ``unknown`` tasks of which nothing is known."""

    seconds: float
    unknown: int


class Waiting(NamedTuple):
    """A task that has not been started, and the paths that it waits for."""

    path: str
    waits_for: list[str]


class Standing:
    """What the record of a run says at this moment. Raises `StateError` as `read` does."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.writer: Holder | None = holder(folder)
        self.record: Record = read(folder, damaged_ok=True)
        self.begun = begun(self.record)
        self.running: list[Start] = self.record.unfinished
        in_flight = {one.path for one in self.running}
        stories = self.record.stories
        self.up = _up(stories, {one.path: one.at for one in self.running})
        made = _made(stories)
        self.waiting = [
            Waiting(
                story.path,
                [path for path in _expanded(_awaited(story.plan, self.up), made) if not _is_finished(stories, path)],
            )
            for story in stories.values()
            if not story.is_finished and story.path not in in_flight and not is_done(self.record)
        ]

    def expected(self, now: float) -> Expected | None:
        """Return how much longer the run takes, at ``now`` (seconds since the epoch).

        None where it does not go on, or nothing is known of what is left. It is the longer one of two: what all that is left
        takes together with as many workers, and what the longest chain takes of which each requires the one before. Services
        last as long as the others need them.
        """
        if self.writer is None:
            return None
        estimates = expectations(self.folder)
        left: dict[str, float] = {}
        unknown = 0
        since = {one.path: now - one.at for one in self.running}
        plans = {path: self.record.stories[path].plan for path in (*since, *(one.path for one in self.waiting))}
        for path, plan in plans.items():
            takes = 0.0 if _is_service(plan) else plan.get("meta", {}).get("estimate", estimates.get(path))
            unknown += takes is None
            left[path] = max(0.0, (takes or 0.0) - since.get(path, 0.0))
        if left and unknown == len(left):
            return None
        host = self.record.sessions[-1].run.get("host", {})
        workers = max(1, int(host.get("workers", 0)) or len(self.running))
        return Expected(max(sum(left.values()) / workers, _longest(plans, left)), unknown)

    @property
    def state(self) -> str:
        """Running, killed, or how it ended."""
        if self.writer is not None:
            return "running"
        end = self.record.end
        return str(end["how"]) if end else "killed"

    def lines(self) -> list[str]:
        """Return it for people."""
        record, now = self.record, time.time()
        lines = [f"run {self.begun.name} of {self.begun.root or self.folder}", f"  {self._told_state()}"]
        if not record.sessions:
            return [*lines, f"  record: {self.folder}", "  hint: begin it again: pexen run"]
        known = [status for status in Status if status in record.counts]
        counts = ", ".join(f"{record.counts[one]} {one}" for one in [*known, *sorted(record.counts.keys() - known)])
        lines.append(f"  finished: {counts or 'nothing'}")
        lines += [f"  note: {one}" for one in record.notices]
        was = "" if self.writer else "was "
        lines += [
            f"  {was}{'up' if one.path in self.up else 'running'}: {one.path}"
            + (f", for {spoken(now - one.at)}" if self.writer else "")
            for one in self.running
        ]
        if self.writer:
            lines.append(f"  expected end: {_ending(self.expected(now), now)}")
        for one in self.waiting[:_LISTED]:
            lines.append(f"  waiting: {one.path}" + (f", for {', '.join(one.waits_for[:5])}" if one.waits_for else ""))
        if len(self.waiting) > _LISTED:
            lines.append(f"  … and {len(self.waiting) - _LISTED} more that wait")
        lines.append(f"  record: {self.folder}")
        hint = self._hint()
        return [*lines, f"  hint: {hint}"] if hint else lines

    def _told_state(self) -> str:
        """Return the state with what belongs to it; of who writes it is known since when."""
        sessions = self.record.sessions
        if not sessions:
            return "nothing was recorded" + (f" yet, by {self.writer}" if self.writer else "")
        tasks = counted(len(self.record.stories), "task")
        began = f"; began {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.begun.at))}"
        if self.writer is None:
            return f"{self.state}{began}, {tasks}"
        return f"{self.state}, by {self.writer}{began if len(sessions) > 1 else ''}; {tasks}"

    def _hint(self) -> str:
        """Return what can be done about a run that has not gone to its end."""
        if self.writer is not None or not is_resumable(self.folder):
            return ""
        if any(one.startswith("damaged") for one in self.record.notices):
            return "it cannot be taken up; pexen report --damaged-ok tells what it had"
        if not self.begun.is_typed:
            return f"the program that began it can take it up (resume=): {shlex.join(self.begun.argv)}"
        return f"pexen resume {os.path.basename(self.folder)}"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        now = time.time()
        expected = self.expected(now)
        return {
            "schema": 1,
            "run": os.path.basename(self.folder),
            "folder": self.folder,
            "state": self.state,
            "began": self.record.header.get("at"),
            "tasks": len(self.record.stories),
            "counts": self.record.counts,
            "running": [
                {"path": one.path, "attempt": one.attempt, "since": one.at, "up": one.path in self.up}
                for one in self.running
            ],
            "waiting": [{"path": one.path, "for": one.waits_for} for one in self.waiting],
            "expected": expected
            and {"seconds": expected.seconds, "at": now + expected.seconds, "unknown": expected.unknown},
            "notices": self.record.notices,
        }


def expectations(folder: str) -> dict[str, float]:
    """Return how many seconds tasks take, as far as the history beside a run knows."""
    from pexen.state.history import NAME, History

    home = home_with(folder)
    if not os.path.isfile(f"{home}/{NAME}"):
        return {}
    with History(home) as history:
        return history.estimates()


def _longest(plans: Mapping[str, Any], left: Mapping[str, float]) -> float:
    """Return how long the longest chain takes of which each comes behind the one before."""
    from graphlib import CycleError, TopologicalSorter

    graph = {path: [one for one in _before(plan) if one in left] for path, plan in plans.items()}
    ends: dict[str, float] = {}
    try:
        for path in TopologicalSorter(graph).static_order():
            ends[path] = left[path] + max((ends[one] for one in graph[path]), default=0.0)
    except CycleError:  # the record is damaged
        return max(left.values(), default=0.0)
    return max(ends.values(), default=0.0)


def _ending(expected: Expected | None, now: float) -> str:
    if expected is None:
        return "unknown"
    at = time.strftime("%H:%M:%S", time.localtime(now + expected.seconds))
    rest = f", not counting {counted(expected.unknown, 'task')} of which nothing is known" if expected.unknown else ""
    return f"in {spoken(expected.seconds)}, at {at}{rest}"


def _up(stories: Mapping[str, Story], running: Mapping[str, float]) -> set[str]:
    """Return those of what is ``running``, each since when, that are services and up: somebody has begun who requires them."""
    services = {path for path in running if _is_service(stories[path].plan)}
    if not services:
        return set()
    return {
        path
        for story in stories.values()
        for path in services.intersection(_needed(story.plan))
        if running.get(story.path, _start_of(story)) >= running[path]
    }


def _is_service(plan: Any) -> bool:
    """Tell whether a task lasts as long as others need it."""
    meta = plan.get("meta", {})
    return bool(meta.get("service") or meta.get("teardown"))


def _start_of(story: Story) -> float:
    """Return when a task has begun that has a result; 0 where it has none or was never begun."""
    ended = (story.result or {}).get("ended") or {}
    return float(ended.get("start") or 0.0)


def _needed(plan: Any) -> list[str]:
    return [path for edge in plan.get("requires", ()) for path in edge["paths"]]


def _awaited(plan: Any, up: Collection[str]) -> list[str]:
    """Return the paths that a task comes after, but for services that are ``up`` when it requires them."""
    return list(dict.fromkeys((*(path for path in _needed(plan) if path not in up), *plan.get("after", ()))))


def _made(stories: Mapping[str, Story]) -> dict[str, list[str]]:
    """Return what each task with ``expand`` has added."""
    made: dict[str, list[str]] = {}
    for story in stories.values():
        if story.by in stories and stories[story.by].plan.get("meta", {}).get("expand"):
            made.setdefault(story.by, []).append(story.path)
    return made


def _expanded(paths: list[str], made: Mapping[str, list[str]]) -> list[str]:
    """Return the paths with what was made by these tasks, and by those in turn."""
    found = dict.fromkeys(paths)
    stack = paths[::-1]
    while stack and made:
        fresh = [path for path in made.get(stack.pop(), ()) if path not in found]
        found.update(dict.fromkeys(fresh))
        stack += fresh
    return list(found)


def _before(plan: Any) -> list[str]:
    """Return the paths that a task comes after: of what it requires, and of what it only waits for."""
    return _awaited(plan, ())


def _is_finished(stories: Any, path: str) -> bool:
    return path in stories and stories[path].is_finished
