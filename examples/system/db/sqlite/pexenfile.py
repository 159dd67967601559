"""A database that several tasks share, and SQLite's own locks, which rest on the record locks of the system."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pexen

defaults = dict(tags={"sqlite"}, timeout="30s")

WORDS = ["alpha", "beta", "gamma", "delta"]


@pexen.task(provides="database", requires="record locks")
def create():
    """A database with a table of 10,000 rows; `record locks` is what an executable elsewhere in the tree proves."""
    file = Path(tempfile.mkdtemp(prefix="pexen-system-"), "data.sqlite")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, word TEXT NOT NULL, amount INTEGER NOT NULL)")
        rows = ((number, WORDS[number % 4], number) for number in range(10_000))
        connection.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)
    return os.fspath(file)


@pexen.task(requires="database", uses="database rows")
def totals(database):
    """SQL and Python add up to the same."""
    with closing(sqlite3.connect(database)) as connection:
        grouped = dict(connection.execute("SELECT word, sum(amount) FROM items GROUP BY word"))
    expected = {word: sum(range(place, 10_000, 4)) for place, word in enumerate(WORDS)}
    assert grouped == expected, f"{grouped}, not {expected}"


@pexen.task(requires="database", claims="database rows")
def rollback(database):
    """A transaction that fails half way changes nothing."""
    with closing(sqlite3.connect(database)) as connection:
        before = connection.execute("SELECT count(*), sum(amount) FROM items").fetchone()
        try:
            with connection:
                connection.execute("UPDATE items SET amount = amount + 1")
                connection.execute("INSERT INTO items VALUES (1, 'again', 0)")
        except sqlite3.IntegrityError:
            pass
        else:
            raise AssertionError("a primary key was accepted twice")
        after = connection.execute("SELECT count(*), sum(amount) FROM items").fetchone()
    assert before == after, f"{before} became {after}"


@pexen.task(requires="database", after={totals, rollback}, cleanup=True)
def drop(database):
    """Still intact after everybody used it; then it goes away."""
    folder = os.path.dirname(database)
    gone, verdict = f"{folder}.gone", "ok"
    if os.path.isfile(database):  # else this was begun before, and the run killed
        with closing(sqlite3.connect(database)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
    assert verdict == "ok", verdict
