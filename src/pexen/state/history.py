"""History: what the runs below one ``.pexen`` have come to, task by task; made from their journals, and never the truth.

`History.catch_up` reads the journals it does not have yet, or has as they were before they went on, each into a transaction of
its own that replaces what was there of that run. So it does not matter who does it, when, how often, and how many at once; a
damaged or missing file is made again from the runs that are left. What it had of runs that have been removed stays, up to
`KEPT` runs and `MOST` results, and is lost only with the file.

Of each task an estimate is kept beside its results, renewed with every run, so that a run that begins asks once, for all.
"""

from __future__ import annotations

import math
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from pexen.errors import StateError
from pexen.model.path import is_below
from pexen.state.appender import FILE
from pexen.state.lock import holder
from pexen.state.reader import read
from pexen.state.seen import RECENT, Ran, Seen, durations, is_sane, median, ran, ran_from, seen, seen_from, stored, text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

NAME = "history.db"
VERSION = 1
KEPT, MOST = 500, 1_000_000
"""How many runs, and how many results of theirs, are kept."""
AT_ONCE = 64 << 20
"""Bytes of journals that are read on the way in or out of a run; what is left is read the next time."""

_SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, stamp TEXT, at REAL, ended REAL, how TEXT, host TEXT, arch TEXT, version TEXT,
    stepwise INTEGER, tasks INTEGER
);
CREATE TABLE task (id INTEGER PRIMARY KEY, path TEXT UNIQUE, seconds REAL);
CREATE TABLE result (
    task INTEGER, at REAL, run INTEGER, status TEXT, original TEXT, duration REAL, attempts INTEGER, fingerprint TEXT,
    fell INTEGER, PRIMARY KEY (task, at, run)
) WITHOUT ROWID;
CREATE INDEX result_of_run ON result (run)
"""
_RUN = "name, at, ended, how, host, arch, version, stepwise, tasks"
_RESULT = "result.status, result.original, result.duration, result.attempts, result.fingerprint, result.fell, result.at"
_VERDICT = "result.status NOT IN ('', 'cancelled') AND NOT result.fell"


class History:
    """The history in the folder ``home``, a ``.pexen``. To be used from one thread, and closed; it raises nothing.

    ``notices`` say in words what could not be read, written or kept.
    """

    def __init__(self, home: str) -> None:
        from pexen.state.database import Database  # sqlite3 takes 8 ms to import

        self._home = home
        self._database = Database(f"{home}/{NAME}", _SCHEMA, VERSION)
        self._said: list[str] = []
        self._filling = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @property
    def notices(self) -> list[str]:
        """What is to be said, each once."""
        return list(dict.fromkeys([*self._database.notices, *self._said]))

    @property
    def is_kept(self) -> bool:
        """Whether what is written lasts: there is a file, and it takes something."""
        return self._database.write(lambda _: True, otherwise=False) and not self._database.is_in_memory

    # -- from journals ------------------------------------------------------------------------------------------------

    def catch_up(self, *, most: float = math.inf, mine: str = "") -> int:
        """Read the journals that are new or have grown, the last runs first; return how many.

        At most about ``most`` bytes. Runs that are going on are left out. ``mine`` is the run that has just ended: that there is
        no history but of this one is nothing to be told.
        """
        added, was_new = self._fill(most)
        if was_new and added - {mine} and not self._database.is_in_memory:
            self._said.append(f"there was none: it has been made from the runs that are still there ({len(added)})")
        return len(added)

    def rebuild(self) -> int:
        """Make it anew from the runs that are still there; return how many. What it knew of removed ones is lost."""
        self._filling = True  # whatever is wrong with the old one
        gone = len({one.name for one in self.runs()} - set(_names(self._home)))
        if gone:
            self._said.append(f"{gone} of the runs it knew have been removed; what they were is in {NAME}.old only")
            self._database.set_aside("is made again")
        else:
            self._database.write(_emptied, None)
        return len(self._fill(math.inf)[0])

    def _fill(self, most: float) -> tuple[set[str], bool]:
        """Add what is missing; return the runs, and whether the file is a new one.

        If it turns out to be damaged meanwhile, there is another new one afterwards, which whoever asks next fills.
        """
        self._filling = True
        known = {text(name): text(stamp) for name, stamp in self._rows("SELECT name, stamp FROM run")}
        was_new = self._database.is_new
        self._database.filled()
        added = self._add_missing(known, most)
        self._filling = False
        return added, was_new

    def _add_missing(self, known: dict[str, str], most: float) -> set[str]:
        added: set[str] = set()
        for name in sorted(_names(self._home), reverse=True):
            folder = f"{self._home}/runs/{name}"
            size, stamp = _stamp(f"{folder}/{FILE}")
            if not stamp or known.get(name) == stamp or _is_written(folder):
                continue
            if most <= 0:
                break
            most -= size
            rows = self._read(name, folder)
            if rows and self._database.write(partial(_put, stamp=stamp, run=rows[0], results=rows[1]), otherwise=False):
                added.add(name)
        return added

    def _read(self, name: str, folder: str) -> tuple[Ran, dict[str, Seen]] | None:
        try:
            record = read(folder, damaged_ok=True)
            self._said += [f"run {name}: {one}" for one in record.notices if one.startswith("damaged")]
            return ran(record, name), seen(record, name)
        except (StateError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._said.append(f"run {name} cannot be read: {getattr(error, 'headline', error)}")
            return None

    # -- what it says -------------------------------------------------------------------------------------------------

    def runs(self) -> list[Ran]:
        """Return all runs, the last one first."""
        return [ran_from(row) for row in self._rows(f"SELECT {_RUN} FROM run ORDER BY at DESC, name DESC")]

    def results(self, run: str) -> dict[str, Seen]:
        """Return what a run has seen, by path."""
        rows = self._rows(
            f"SELECT task.path, {_RESULT}, run.name FROM run JOIN result ON result.run = run.id"
            " JOIN task ON task.id = result.task WHERE run.name = ?", stored(run),
        )  # fmt: skip
        return {text(path): seen_from(rest) for path, *rest in rows}

    def tasks(self, place: str = "") -> dict[str, list[Seen]]:
        """Return what has been seen of each task at or below a path, the oldest first."""
        told = {}
        for number, name in self._rows("SELECT id, path FROM task"):
            path = text(name)
            if not place or is_below(path, place):
                rows = self._rows(
                    f"SELECT {_RESULT}, run.name FROM result JOIN run ON run.id = result.run"
                    " WHERE result.task = ? AND result.status != '' ORDER BY result.at", number,
                )  # fmt: skip
                if rows:
                    told[path] = [seen_from(row) for row in rows]
        return dict(sorted(told.items()))

    def estimates(self) -> dict[str, float]:
        """Return how many seconds each task takes, as far as is known."""
        found = self._rows("SELECT path, seconds FROM task WHERE seconds IS NOT NULL")
        return {text(path): seconds for path, seconds in found if is_sane(seconds)}

    def verdicts(self, *, before: str = "") -> dict[str, Seen]:
        """Return the last verdict on each task, of runs that began before that one, or of all."""
        where, values = self._before(before)
        rows = self._rows(
            f"SELECT task.path, {_RESULT}, run.name, max(result.at) FROM result JOIN task ON task.id = result.task"
            f" JOIN run ON run.id = result.run WHERE {_VERDICT}{where} GROUP BY result.task", *values,
        )  # fmt: skip
        return {text(path): seen_from(rest[:-1]) for path, *rest in rows}

    def passed_stepwise(self, *, before: str = "") -> set[str]:
        """Return what has passed since somebody began to go step by step, in runs before that one.

        Those are the last runs with ``--sw``, back to one in which all was good.
        """
        where, values = self._before(before)
        found: set[str] = set()
        for name, how in self._rows(f"SELECT name, how FROM run WHERE stepwise{where} ORDER BY at DESC", *values):
            results = self.results(text(name))
            if how == "done" and not any(one.is_bad for one in results.values()):
                break
            found |= {path for path, one in results.items() if one.is_good}
        return found - {path for path, one in self.verdicts(before=before).items() if one.is_bad}

    def _before(self, run: str) -> tuple[str, list[Any]]:
        """Return the end of a condition on runs, and its values."""
        if not run:
            return "", []
        known = self._rows("SELECT at FROM run WHERE name = ?", stored(run))
        return " AND run.name != ? AND run.at < ?", [stored(run), known[0][0] if known else math.inf]

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        nothing: list[tuple[Any, ...]] = []
        found = self._database.read(lambda db: db.execute(sql, values).fetchall(), nothing)
        if self._database.is_new and not self._filling:
            self.catch_up()
            found = self._database.read(lambda db: db.execute(sql, values).fetchall(), nothing)
        return found


# -- rows -------------------------------------------------------------------------------------------------------------


def _put(db: sqlite3.Connection, *, stamp: str, run: Ran, results: dict[str, Seen]) -> bool:
    """Write what one run has seen in place of what was there of it."""
    db.execute("DELETE FROM result WHERE run = (SELECT id FROM run WHERE name = ?)", (stored(run.name),))
    db.execute("DELETE FROM run WHERE name = ?", (stored(run.name),))
    marks = ", ".join("?" * (len(run) + 1))
    values = [stored(one) if isinstance(one, str) else one for one in (stamp, *run)]
    number = db.execute(f"INSERT INTO run (stamp, {_RUN}) VALUES ({marks})", values).lastrowid
    db.executemany("INSERT OR IGNORE INTO task (path) VALUES (?)", ((stored(path),) for path in results))
    ids = {text(path): task for task, path in db.execute("SELECT id, path FROM task")}
    db.executemany(
        "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (ids[path], one.at, number, stored(one.status), stored(one.original), one.duration, one.attempts,
             stored(one.fingerprint), one.fell)
            for path, one in results.items()
        ),
    )  # fmt: skip
    _estimate(db, [ids[path] for path in results])
    _prune(db)
    return True


def _estimate(db: sqlite3.Connection, tasks: Collection[int]) -> None:
    """Renew what is expected of some tasks."""
    made = []
    for task in tasks:
        rows = db.execute(f"SELECT {_RESULT} FROM result WHERE task = ? ORDER BY at DESC LIMIT ?", (task, 3 * RECENT))
        recent = durations(seen_from(row) for row in rows.fetchall()[::-1])
        made.append((median(recent) if recent else None, task))
    db.executemany("UPDATE task SET seconds = ? WHERE id = ?", made)


def _prune(db: sqlite3.Connection) -> None:
    """Remove the oldest runs beyond what is kept."""
    total, out = 0, []
    for index, (number, tasks) in enumerate(db.execute("SELECT id, tasks FROM run ORDER BY at DESC").fetchall()):
        total += tasks
        if index >= KEPT or (total > MOST and index):
            out.append((number,))
    if out:
        db.executemany("DELETE FROM result WHERE run = ?", out)
        db.executemany("DELETE FROM run WHERE id = ?", out)
        db.execute("DELETE FROM task WHERE id NOT IN (SELECT task FROM result)")


def _emptied(db: sqlite3.Connection) -> None:
    for table in ("result", "task", "run"):
        db.execute(f"DELETE FROM {table}")


# -- runs on the disk -------------------------------------------------------------------------------------------------


def _names(home: str) -> list[str]:
    try:
        return os.listdir(f"{home}/runs")
    except OSError:
        return []


def _stamp(file: str) -> tuple[int, str]:
    """Return the size of a journal, and by what it is seen that it is another one; empty where there is none."""
    try:
        found = os.stat(file, follow_symlinks=False)
    except OSError:
        return 0, ""
    return found.st_size, f"{found.st_size} {found.st_mtime_ns}"


def _is_written(folder: str) -> bool:
    try:
        return holder(folder) is not None
    except OSError:
        return True
