"""``pexen report``: writes reports of a run from its record, of one that was killed as well."""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

import click

from pexen.cli.options import CONTEXT, Report
from pexen.errors import StateError
from pexen.model.result import Details, Result, Status
from pexen.report.base import Observers, Plan, Summary
from pexen.report.text import visible
from pexen.state.plan import task_from
from pexen.state.reader import read
from pexen.usecase.begun import Begun, begun, is_done, understood
from pexen.usecase.codes import GOOD, INTERNAL
from pexen.usecase.place import find_run
from pexen.usecase.reports import reporter
from pexen.usecase.screen import Screen

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
    record = _read(folder, damaged_ok=damaged_ok)
    how = begun(record)
    observers = Observers([reporter(kind, file, folder) for kind, file in reports])
    with understood(record.path):
        results = {one.path: one for one in (*record.results(), *unfinished(record))}
        seconds = lasted(record)
    observers.begin(Plan([one.task for one in results.values()], _title(folder, how), began=how.at))
    observers.finished(results.values())
    observers.moment(list)
    observers.end(Summary(results, seconds, "" if record.end else "killed"))
    for text in (*record.notices, *observers.broken):
        Screen().write(f"note: {visible(text)}\n")
    return INTERNAL if observers.broken else GOOD


def _read(folder: str, *, damaged_ok: bool) -> Record:
    try:
        return read(folder, damaged_ok=damaged_ok)
    except StateError as error:
        if "damaged" not in error.headline:
            raise
        hint = "--damaged-ok passes over what is damaged"
        raise StateError(error.headline, facts=error.facts, hint=hint) from error


def _title(folder: str, how: Begun) -> str:
    """Return what the run was called, which its own report for programs says; where that is gone, as its tree is called."""
    import json

    try:
        with open(f"{folder}/report.jsonl", "rb") as file:
            title = json.loads(file.readline(1 << 20))["title"]
    except (OSError, ValueError, KeyError, TypeError):
        title = ""
    return title if title and isinstance(title, str) else os.path.basename(how.root)


def unfinished(record: Record) -> list[Result]:
    """Return what is to be said of tasks that have no result: they were running when the run ended, or never began.

    Nothing of those of a run that went to its end: they had been removed when it was taken up.
    """
    if is_done(record):
        return []
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
    """Return for how many seconds the run was going, all its sessions together: until the last that is known of each."""
    begins = [float(session.run.get("at", 0.0)) for session in record.sessions]
    last = [max((one.at for one in session.left.values()), default=0.0) for session in record.sessions]
    for one in record.results():
        end = one.start + one.duration
        mine = bisect_right(begins, end) - 1
        if mine >= 0:
            last[mine] = max(last[mine], end)
    ends = [session.end["at"] if session.end else known for session, known in zip(record.sessions, last, strict=True)]
    return sum(max(0.0, end - began) for began, end in zip(begins, ends, strict=True))
