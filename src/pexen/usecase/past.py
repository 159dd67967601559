"""What earlier runs mean for one that begins: how long tasks take, what failed the last time, where to go on step by step.

All of it comes from the history, which is made from the runs' records and may be missing: then there is a note at most.
A run that is taken up again is given what it was given when it began: of runs before that one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from pexen.report.text import counted, some_of, visible
from pexen.usecase.place import homes, latest

if TYPE_CHECKING:
    from pexen.factory.select import Narrow
    from pexen.model.task import Task
    from pexen.state.history import History
    from pexen.state.seen import Seen

T = TypeVar("T")


class Past:
    """What is known before a run of the tree at ``root``, ``taken_up`` the folder of one that is taken up again.

    With ``failed`` only what failed the last time is chosen, with ``stepwise`` only what has not passed since somebody began
    to go step by step; with ``first`` or ``stepwise``, what failed the last time comes first. ``notes`` are for people.
    """

    def __init__(
        self, root: str, taken_up: str = "", *, failed: bool = False, first: bool = False, stepwise: bool = False
    ) -> None:  # fmt: skip
        self.notes: list[str] = []
        self._home = home_with(taken_up) if taken_up else home_of(root)
        self._before = os.path.basename(taken_up)
        self._failed, self._stepwise = failed, stepwise
        self._first = first or stepwise
        self._bad: set[str] | None = None
        self._is_known = False

    @property
    def narrowing(self) -> Narrow | None:
        """What chooses among what is chosen; None where nothing is to be left out."""
        return self.narrow if self._failed or self._stepwise else None

    def narrow(self, paths: Sequence[str]) -> Collection[str]:
        """Return those of the chosen paths that are to be run; all, with a note, where there is no reason to leave one out."""
        kept: Collection[str] = paths
        if self._failed:
            bad = self._last_bad()
            kept = [path for path in paths if path in bad]
            if not kept:
                why = "nothing failed the last time" if self._is_known else "nothing is known of runs before"
                if bad:
                    why = f"what failed the last time is not among these tasks ({visible(some_of(sorted(bad)))})"
                self.notes.append(f"{why}: nothing is left out")
                kept = paths
        if self._stepwise:
            passed: set[str] = self._asked(lambda history: history.passed_stepwise(before=self._before), set())
            left = [path for path in kept if path not in passed]
            if left and len(left) < len(kept):
                self.notes.append(f"stepwise: {counted(len(kept) - len(left), 'task')} left out that passed before")
            kept = left or kept
        return set(kept)

    def durations(self, tasks: Collection[Task]) -> Callable[[str], float | None] | None:
        """Return what tells how long a task takes, in seconds; None where nothing is known that would matter.

        A task of which nothing is known takes as long as the middle one. What comes first is made longer than everything
        together: what takes longest, with all that waits for it, is what starts first.
        """
        from pexen.state.seen import median

        if self._home is None or len(tasks) < 2:
            return None
        first = self._last_bad() if self._first else set()
        known: dict[str, float] = self._asked(lambda history: history.estimates(), {})
        if not known and not first:
            return None
        otherwise = median(known.values()) if known else 1.0
        ahead = 0.0
        if first:
            ahead = 1.0 + sum(float(task.estimate or known.get(task.name, otherwise)) for task in tasks)
        return lambda path: known.get(path, otherwise) + (ahead if path in first else 0.0)

    def _last_bad(self) -> set[str]:
        if self._bad is None:
            verdicts: dict[str, Seen] = self._asked(lambda history: history.verdicts(before=self._before), {})
            self._is_known = bool(verdicts)
            self._bad = {path for path, one in verdicts.items() if one.is_bad}
        return self._bad

    def _asked(self, does: Callable[[History], T], otherwise: T) -> T:
        if self._home is None:
            return otherwise
        from pexen.state.history import AT_ONCE, History

        with History(self._home) as history:
            history.catch_up(most=AT_ONCE)
            found = does(history)
            self.notes += [f"history: {one}" for one in history.notices if f"history: {one}" not in self.notes]
        return found


def remember(folder: str) -> list[str]:
    """Add the run in ``folder``, which has just ended, to the history; return what is to be said. It raises nothing."""
    return caught_up(home_with(folder), os.path.basename(folder))


def caught_up(home: str, mine: str = "") -> list[str]:
    """Add the runs to the history that are missing in it; return what is to be said. It raises nothing."""
    from pexen.state.history import AT_ONCE, History

    with History(home) as history:
        history.catch_up(most=AT_ONCE, mine=mine)
        return [f"history: {one}" for one in history.notices]


def tell(notes: Iterable[str]) -> None:
    """Write notes to standard error."""
    for text in notes:
        try:
            sys.stderr.write(f"note: {visible(text)}\n")
        except (AttributeError, OSError, ValueError):  # there is none, or nobody reads it any more
            return


def home_of(root: str) -> str | None:
    """Return the folder with the last runs of a tree, or None where there have been none."""
    there = [home for home in homes(root) if os.path.isdir(f"{home}/runs")]
    return max(there, key=lambda home: latest(home)[0], default=None)


def home_with(folder: str) -> str:
    """Return the folder with the runs that one in ``folder`` is among."""
    return os.path.dirname(os.path.dirname(os.path.abspath(folder)))
