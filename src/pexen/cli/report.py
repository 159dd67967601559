"""``pexen report``: writes reports of a run from its record, of one that was killed as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pexen.cli.drive import reporter
from pexen.cli.options import CONTEXT, Report
from pexen.cli.place import find_run
from pexen.cli.screen import Screen
from pexen.model.result import Details, Result, Status
from pexen.report.base import Observers, Plan, Summary
from pexen.report.text import visible
from pexen.state.plan import task_from
from pexen.state.reader import read

if TYPE_CHECKING:
    from pexen.state.reader import Record


@click.command("report", context_settings=CONTEXT)
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("-C", "chdir", help="Change to DIR first.", metavar="DIR")
@click.option("--report", "reports", type=Report(), multiple=True, help="Write junit or jsonl to FILE; repeatable.")
@click.option("--damaged-ok", is_flag=True, help="Pass over what is damaged in the record.")
def command(name: str, chdir: str | None, reports: tuple[tuple[str, str], ...], *, damaged_ok: bool) -> int:
    """Write reports of RUN (the last one). Without FILE they go to the run's folder."""
    if chdir is not None:
        os.chdir(chdir)
    if not reports:
        raise click.UsageError("which one? --report junit:out.xml, --report jsonl:out.jsonl")
    folder = find_run(name)
    record = read(folder, damaged_ok=damaged_ok)
    observers = Observers([reporter(kind, file, folder) for kind, file in reports])
    results = {one.path: one for one in (*record.results(), *unfinished(record))}
    observers.begin(Plan([one.task for one in results.values()], str(record.header.get("root", ""))))
    observers.finished(results.values())
    observers.moment(list)
    observers.end(Summary(results, lasted(record), "" if record.end else "killed"))
    for text in (*record.notices, *observers.broken):
        Screen().write(f"note: {visible(text)}\n")
    return 1 if observers.broken else 0


def unfinished(record: Record) -> list[Result]:
    """Return what is to be said of tasks that have no result: they were running when the run ended, or never began."""
    running = {one.path: one for one in record.unfinished}
    found = []
    for story in record.stories.values():
        if story.status:
            continue
        start = running.get(story.path)
        why = "the run ended before it did" if start else "the run ended before it could start"
        status = Status.LOST if start else Status.CANCELLED
        found.append(Result(task_from(story.plan), status, None, start.at if start else 0.0, 0.0, Details(reason=why)))
    return found


def lasted(record: Record) -> float:
    """Return how many seconds the run took, all its sessions together, as far as is known."""
    total = 0.0
    last = max((one.start + one.duration for one in record.results()), default=0.0)
    for session in record.sessions:
        began = session.run.get("at", 0.0)
        total += max(0.0, (session.end["at"] if session.end else last) - began)
    return total
