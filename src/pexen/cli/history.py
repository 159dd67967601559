"""``pexen history``: how long tasks have taken over the runs, which of them are flaky, and since when one is bad."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pexen.cli.options import CONTEXT, resolved, setting
from pexen.cli.screen import has_colour, write_out
from pexen.errors import DefinitionError, StateError, nearest
from pexen.factory.tree import find_root, place_in
from pexen.report.text import counted, sized, spoken, style, visible
from pexen.state.history import NAME, History
from pexen.state.seen import Seen, bad_since, durations, flakiness, typical
from pexen.usecase.codes import GOOD
from pexen.usecase.past import home_of, tell

if TYPE_CHECKING:
    from pexen.state.seen import Ran

SCHEMA = 1
"""Version of what ``--json`` writes; raised when a key changes its meaning or goes."""
_DRAWN = 20
"""How many of the last runs are drawn."""
_LEVELS, _ASCII = "▁▂▃▄▅▆▇█", ".:-=+*#@"


@click.command("history", context_settings=CONTEXT)
@click.argument("word", metavar="[PATH]", default="")
@click.option("-C", "--chdir", "chdir", metavar="DIR", help="Change to DIR first.")
@click.option("--runs", "of_runs", is_flag=True, help="Show the runs instead.")
@click.option("--rebuild", is_flag=True, help="Make the history anew from the records that are left.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@setting("color")
def command(word: str, chdir: str | None, *, of_runs: bool, rebuild: bool, as_json: bool, **given: Any) -> int:
    """Show how long the tasks at PATH and below took, whether they are flaky, and since when they are bad."""
    if chdir is not None:
        os.chdir(chdir)
    root, place = _meant(word)
    home = home_of(root)
    if home is None:
        raise DefinitionError(f"there is no run yet of {root}", hint="pexen run makes one")
    with History(home) as history:
        if rebuild:
            made = history.rebuild()
            told = [f"made from {counted(made, 'run')}: {sized(_size(f'{home}/{NAME}'))}"]
        else:
            history.catch_up()
            told = []
        if not rebuild or word or of_runs:
            colour = has_colour(resolved(given, root)["color"], 1)
            write_out(_runs(history, as_json=as_json) if of_runs else _tasks(history, place, root, as_json, colour))
        tell(f"history: {one}" for one in (*history.notices, *told))
        if rebuild and not history.is_kept:
            raise StateError(
                "the history cannot be written", facts=[("file", f"{home}/{NAME}")], hint="make it writable"
            )
    return GOOD


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0


def _tasks(history: History, place: str, root: str, as_json: bool, colour: bool) -> str:
    found = history.tasks(place)
    if place and not found:
        hint = nearest(place, sorted(history.tasks())) or "pexen history shows all that is known"
        raise DefinitionError(f"nothing is known of {place!r}", facts=[("in", root)], hint=hint)
    told = [Told(path, rows) for path, rows in found.items()]
    if as_json:
        import json

        return json.dumps({"schema": SCHEMA, "root": root, "tasks": [one.as_json() for one in told]}) + "\n"
    lines = one_task(told[0], colour=colour) if len(told) == 1 and place == told[0].path else table(told, colour=colour)
    return "".join(line + "\n" for line in lines)


def _meant(word: str) -> tuple[str, str]:
    """Return the root of the tree that a word belongs to, and the path in there, at which there need be nothing any more."""
    if "::" in word and not os.path.lexists(word):
        tree, _, place = word.partition("::")
        return find_root(tree or "."), place.strip("/")
    root = find_root(word or ".")
    return root, place_in(root, word) if word else ""


class Told(NamedTuple):
    """A task, and what the runs have seen of it, the oldest first."""

    path: str
    rows: Sequence[Seen]

    @property
    def verdicts(self) -> list[Seen]:
        """What says something about the task itself."""
        return [one for one in self.rows if one.is_verdict]

    @property
    def takes(self) -> tuple[float, float] | None:
        """How long it takes and how far that is usually off, in seconds."""
        recent = durations(self.rows)
        return typical(recent) if recent else None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        changes, pairs = flakiness(self.rows)
        since, takes = bad_since(self.rows), self.takes
        return {
            "path": self.path,
            "seconds": takes[0] if takes else None,
            "noise": takes[1] if takes else None,
            "flaky": {"changes": changes, "of": pairs},
            "bad_since": {"run": since.run, "at": since.at} if since else None,
            "runs": [
                {"run": one.run, "at": one.at, "status": one.status, "original": one.original, "seconds": one.duration,
                 "attempts": one.attempts, "fingerprint": one.fingerprint}
                for one in self.rows
            ],
        }  # fmt: skip


# -- for people -----------------------------------------------------------------------------------------------------


def table(told: Sequence[Told], *, colour: bool) -> Iterator[str]:
    """Yield a line for each task: the last status, how long it takes, how flaky it is, the last runs, what is wrong."""
    wide = max((len(visible(one.path)) for one in told), default=0)
    for one in told:
        last = (one.verdicts or one.rows)[-1].status
        changes, pairs = flakiness(one.rows)
        flaky = f"flaky {changes}/{pairs}" if changes else ""
        since = bad_since(one.rows)
        yield (
            f"{visible(one.path):{wide}}  {style(f'{visible(last):9}', last, on=colour and last in _KNOWN)}"
            f"  {_taking(one.takes):16}  {sparkline(one.rows):{_DRAWN}}  {style(f'{flaky:11}', 'warned', on=colour)}"
            f"  {f'bad since {when(since.at)}, run {visible(since.run)}' if since else ''}"
        ).rstrip()


def one_task(told: Told, *, colour: bool) -> Iterator[str]:
    """Yield what is known of one task, a line for each run."""
    changes, pairs = flakiness(told.rows)
    since = bad_since(told.rows)
    yield style(visible(told.path), "bold", on=colour)
    yield f"  takes: {_taking(told.takes)}"
    yield f"  flaky: {changes} of {pairs} times another verdict though nothing had changed"
    if since:
        yield f"  bad since: {when(since.at)}, run {visible(since.run)}"
    wide = max(len(visible(one.run)) for one in told.rows)
    most = max((one.duration or 0.0 for one in told.rows), default=0.0)
    before = told.rows[0].fingerprint
    for one in told.rows:
        took = "" if one.duration is None else spoken(one.duration)
        bar = round(20 * (one.duration or 0.0) / most) if most else 0
        notes = [f"{one.attempts} attempts"] * (one.attempts > 1) + ["it had changed"] * (one.fingerprint != before)
        before = one.fingerprint
        status = style(f"{visible(one.status):9}", one.status, on=colour and one.status in _KNOWN)
        line = f"  {visible(one.run):{wide}}  {when(one.at)}  {status}  {took:>7}  {'#' * bar:20}  {', '.join(notes)}"
        yield line.rstrip()


_KNOWN = frozenset({
    "passed", "uptodate", "warned", "skipped", "cancelled", "failed", "error", "timeout", "crashed", "lost",
})  # fmt: skip


def sparkline(rows: Sequence[Seen]) -> str:
    """Return a character for each of the last runs: how long it took, ``x`` where it was bad, ``s`` where it was skipped."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    levels = _LEVELS if encoding == "utf8" else _ASCII
    last = [one for one in rows if one.is_verdict][-_DRAWN:]
    most = max((one.duration or 0.0 for one in last if one.is_good), default=0.0)

    def drawn(one: Seen) -> str:
        if not one.is_good:
            return "x" if one.is_bad else "s"
        return levels[round((len(levels) - 1) * (one.duration or 0.0) / most) if most else 0]

    return "".join(map(drawn, last))


def _taking(takes: tuple[float, float] | None) -> str:
    return f"{spoken(takes[0])} ± {spoken(takes[1])}" if takes else "unknown"


def when(at: float) -> str:
    """Return a moment as people write it, in local time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "unknown"


# -- runs -----------------------------------------------------------------------------------------------------------


def _runs(history: History, *, as_json: bool) -> str:
    runs = history.runs()
    if as_json:
        import json

        told = [{**one._asdict(), "results": _counts(history, one)} for one in runs]
        return json.dumps({"schema": SCHEMA, "runs": told}) + "\n"
    return "".join(_of_run(history, one) for one in reversed(runs))


def _of_run(history: History, run: Ran) -> str:
    counts = ", ".join(f"{many} {visible(status)}" for status, many in sorted(_counts(history, run).items()))
    took = spoken(run.ended - run.at) if run.ended > run.at else "?"
    return f"{visible(run.name)}  {when(run.at)}  {visible(run.how):11}  {took:>7}  {counts or 'nothing'}\n"


def _counts(history: History, run: Ran) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in history.results(run.name).values():
        if one.status:
            counts[one.status] = counts.get(one.status, 0) + 1
    return counts
