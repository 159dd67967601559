"""``pexen status``: where a run stands, live or dead, from its record alone."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

import click

from pexen.cli.options import CONTEXT
from pexen.cli.place import find_run, is_resumable
from pexen.cli.screen import write_out
from pexen.report.text import counted, spoken, visible
from pexen.state.lock import Holder, holder
from pexen.state.reader import Record, Start, read

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
    standing = Standing(find_run(name))
    if as_json:
        import json

        write_out(json.dumps(standing.as_json()) + "\n")
    else:
        write_out("\n".join(visible(line) for line in standing.lines()) + "\n")
    return 0


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
        self.running: list[Start] = self.record.unfinished
        in_flight = {one.path for one in self.running}
        stories = self.record.stories
        self.waiting = [
            Waiting(story.path, [path for path in _needed(story.plan) if not _is_finished(stories, path)])
            for story in stories.values()
            if not story.is_finished and story.path not in in_flight
        ]

    @property
    def state(self) -> str:
        """Running, killed, or how it ended."""
        if self.writer is not None:
            return "running"
        end = self.record.end
        return str(end["how"]) if end else "killed"

    def lines(self) -> list[str]:
        """Return it for people."""
        header, record, now = self.record.header, self.record, time.time()
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.get("at", 0)))
        lines = [f"run {header.get('run', os.path.basename(self.folder))} of {header.get('root') or self.folder}"]
        by = f", by {self.writer}" if self.writer else ""
        lines.append(f"  {self.state}{by}; began {began}, {counted(len(record.stories), 'task')}")
        counts = ", ".join(f"{count} {status}" for status, count in sorted(record.counts.items()))
        lines.append(f"  finished: {counts or 'nothing'}")
        lines += [f"  note: {one}" for one in record.notices]
        word = "running" if self.writer else "was running"
        lines += [
            f"  {word}: {one.path}" + (f", for {spoken(now - one.at)}" if self.writer else "") for one in self.running
        ]
        for one in self.waiting[:_LISTED]:
            lines.append(f"  waiting: {one.path}" + (f", for {', '.join(one.waits_for[:5])}" if one.waits_for else ""))
        if len(self.waiting) > _LISTED:
            lines.append(f"  … and {len(self.waiting) - _LISTED} more that wait")
        lines.append(f"  record: {self.folder}")
        if self.writer is None and is_resumable(self.folder):
            lines.append(f"  hint: pexen resume {os.path.basename(self.folder)}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "schema": 1,
            "run": os.path.basename(self.folder),
            "folder": self.folder,
            "state": self.state,
            "began": self.record.header.get("at"),
            "tasks": len(self.record.stories),
            "counts": self.record.counts,
            "running": [{"path": one.path, "attempt": one.attempt, "since": one.at} for one in self.running],
            "waiting": [{"path": one.path, "for": one.waits_for} for one in self.waiting],
            "notices": self.record.notices,
        }


def _needed(plan: Any) -> list[str]:
    return [path for edge in plan.get("requires", ()) for path in edge["paths"]]


def _is_finished(stories: Any, path: str) -> bool:
    return path in stories and stories[path].is_finished
