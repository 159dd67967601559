#!/usr/bin/env python3
# Two writers: the second is told that the database is locked. A reader beside a writer: in WAL mode it sees the past.
import sqlite3
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
    file = Path(scratch, "data.sqlite")
    first = sqlite3.connect(file, isolation_level=None, timeout=0)
    second = sqlite3.connect(file, isolation_level=None, timeout=0)
    (mode,) = first.execute("PRAGMA journal_mode = wal").fetchone()
    assert mode == "wal", f"the journal mode is {mode}"
    first.execute("CREATE TABLE items (word TEXT)")

    first.execute("BEGIN IMMEDIATE")
    first.execute("INSERT INTO items VALUES ('new')")
    seen = second.execute("SELECT count(*) FROM items").fetchone()
    assert seen == (0,), f"a reader sees {seen} rows that are not committed"
    try:
        second.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        assert "locked" in str(error), error
    else:
        raise AssertionError("two writers at the same time")

    first.execute("COMMIT")
    second.execute("BEGIN IMMEDIATE")
    second.execute("INSERT INTO items SELECT word || 'er' FROM items")
    second.execute("COMMIT")
    words = [word for (word,) in first.execute("SELECT word FROM items ORDER BY word")]
    assert words == ["new", "newer"], words
    first.close()
    second.close()
