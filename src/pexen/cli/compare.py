"""``pexen compare``: what a run has broken, fixed or made slower, beside another one.

Slower is what took longer than in the other run *and* than it usually did before, by more than its noise: three times the
median deviation of the last durations, but at least `FLOOR` seconds and a `SHARE` of what it takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from pexen.cli.options import CONTEXT, resolved, setting
from pexen.cli.screen import has_colour, write_out
from pexen.errors import DefinitionError
from pexen.factory.tree import find_root
from pexen.report.text import spoken, style, visible
from pexen.state.history import History
from pexen.state.reader import read
from pexen.state.seen import Ran, Seen, durations, ran, seen, typical
from pexen.usecase.begun import understood
from pexen.usecase.codes import FAILED, GOOD
from pexen.usecase.past import home_of, tell
from pexen.usecase.place import find_run

SCHEMA = 1
"""Version of what ``--json`` writes; raised when a key changes its meaning or goes."""
FLOOR, SHARE = 0.1, 0.25
_DEVIATIONS = 3.0


@click.command("compare", context_settings=CONTEXT)
@click.argument("words", metavar="[RUN [RUN]]", nargs=-1)
@click.option("-C", "--chdir", "chdir", metavar="DIR", help="Change to DIR first.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@setting("color")
def command(words: tuple[str, ...], chdir: str | None, *, as_json: bool, **given: Any) -> int:
    """Show what the second RUN (the last one) has broken, fixed or made slower since the first (the one before).

    The exit code is 1 when something is bad that was not, or slower.
    """
    if len(words) > 2:
        raise click.UsageError("two runs are compared")
    if chdir is not None:
        os.chdir(chdir)
    root = find_root(".")
    home = home_of(root)
    if home is None:
        raise DefinitionError(f"there is no run yet of {root}", hint="pexen run makes one")
    with History(home) as history:
        history.catch_up()
        before, after = _both(history, words, root)
        found = Comparison(before, after, lambda path: history.tasks(path).get(path, ()))
        if as_json:
            import json

            write_out(json.dumps(found.as_json()) + "\n")
        else:
            colour = has_colour(resolved(given, root)["color"], 1)
            write_out("".join(line + "\n" for line in found.lines(colour=colour)))
        tell(f"history: {one}" for one in history.notices)
    return FAILED if found.is_worse else GOOD


class Told(NamedTuple):
    """A run, and what it has seen."""

    run: Ran
    seen: Mapping[str, Seen]


def _both(history: History, words: Sequence[str], root: str) -> tuple[Told, Told]:
    """Return the runs that were asked for."""
    after = _told(history, words[1] if len(words) == 2 else "latest", root)
    if words:
        return _told(history, words[0], root), after
    earlier = [one.name for one in history.runs() if one.at < after.run.at]
    if not earlier:
        raise DefinitionError(f"there is no run before {after.run.name}", hint="pexen history --runs shows them all")
    return _told(history, earlier[0], root), after


def _told(history: History, word: str, root: str) -> Told:
    """Return a run from its record; where that has been removed, from what history has kept of it."""
    try:
        folder = find_run(word, root)
    except DefinitionError:
        names = [one.name for one in history.runs()]
        found = [name for name in names if name == word] or [name for name in names if name.startswith(word)]
        if len(found) != 1:
            raise
        run = next(one for one in history.runs() if one.name == found[0])
        return Told(run, history.results(run.name))
    record, name = read(folder, damaged_ok=True), os.path.basename(folder)
    with understood(record.path):
        return Told(ran(record, name), seen(record, name))


class Slower(NamedTuple):
    """Seconds in the one run and in the other, and the noise that was taken for granted."""

    before: float
    after: float
    noise: float


class Comparison:
    """What became of each task of two runs. ``past`` returns what has been seen of the task at a path, the oldest first.

    ``broke`` is bad and was not; ``fixed`` was bad and succeeds; ``unrun`` had a verdict and has none; ``new`` and ``removed``
    are in one of the runs only; ``slower`` says by how much.
    """

    def __init__(self, before: Told, after: Told, past: Callable[[str], Sequence[Seen]]) -> None:
        self.before, self.after = before, after
        old, new = before.seen, after.seen
        both = sorted(old.keys() & new.keys())
        self.broke = [path for path in both if new[path].is_bad and not old[path].is_bad]
        self.fixed = [path for path in both if new[path].is_good and old[path].is_bad]
        self.unrun = [path for path in both if old[path].is_verdict and not new[path].is_verdict]
        self.new = sorted(new.keys() - old.keys())
        self.removed = sorted(old.keys() - new.keys())
        self.slower: dict[str, Slower] = {}
        for path in both:
            found = self._slower(path, past)
            if found is not None:
                self.slower[path] = found

    def _slower(self, path: str, past: Callable[[str], Sequence[Seen]]) -> Slower | None:
        before, after = self.before.seen[path].seconds, self.after.seen[path].seconds
        if before is None or after is None or after - before <= least(before):
            return None
        run = self.after.run
        usual = durations(one for one in past(path) if one.run != run.name and one.at < run.at and one.seconds)
        middle, noise = typical(usual) if usual else (before, 0.0)
        found = Slower(before, after, max(_DEVIATIONS * noise, least(before)))
        return found if after - max(before, middle) > found.noise else None

    @property
    def is_worse(self) -> bool:
        """Whether something is bad that was not, or slower."""
        return bool(self.broke or self.slower or any(self.after.seen[path].is_bad for path in self.new))

    def lines(self, *, colour: bool) -> Iterator[str]:
        """Yield it for people."""
        old, new = self.before.seen, self.after.seen
        said: dict[str, tuple[Collection[str], str, Callable[[str], str]]] = {
            "broke": (self.broke, "failed", lambda path: f"{old[path].status or 'not run'} → {new[path].status}"),
            "slower": (self.slower, "warned", lambda path: _spoken(self.slower[path])),
            "fixed": (self.fixed, "passed", lambda path: f"{old[path].status} → {new[path].status}"),
            "not run": (self.unrun, "skipped", lambda path: f"{old[path].status} → {new[path].status or 'not run'}"),
            "new": (self.new, "bold", lambda path: new[path].status or "not run"),
            "removed": (
                self.removed,
                "dim",
                lambda path: f"was {old[path].status}" if old[path].status else "had no result",
            ),
        }
        yield f"{visible(self.before.run.name)} → {visible(self.after.run.name)}"
        for word, (paths, look, about) in said.items():
            for path in paths:
                yield f"  {style(f'{word:7}', look, on=colour)}  {visible(path)}  {style(visible(about(path)), 'dim', on=colour)}"
        if not any(paths for paths, _, _ in said.values()):
            yield "  no difference"

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""

        def change(path: str) -> dict[str, Any]:
            return {"path": path, "before": self.before.seen[path].status, "after": self.after.seen[path].status}

        return {
            "schema": SCHEMA,
            "runs": [one.run._asdict() for one in (self.before, self.after)],
            "worse": self.is_worse,
            "broke": [change(path) for path in self.broke],
            "fixed": [change(path) for path in self.fixed],
            "unrun": [change(path) for path in self.unrun],
            "new": [{"path": path, "after": self.after.seen[path].status} for path in self.new],
            "removed": [{"path": path, "before": self.before.seen[path].status} for path in self.removed],
            "slower": [{"path": path, **one._asdict()} for path, one in self.slower.items()],
        }


def least(seconds: float) -> float:
    """Return by how many seconds a task must be slower to be told so, however steady it is."""
    return max(FLOOR, SHARE * seconds)


def _spoken(one: Slower) -> str:
    return f"{spoken(one.before)} → {spoken(one.after)}, noise {spoken(one.noise)}"
