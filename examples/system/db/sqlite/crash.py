#!/usr/bin/env python3
# A writer that is killed within a transaction loses that transaction and nothing else.
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")  # so small that pages reach the file before the commit
connection.execute("BEGIN")
connection.execute("UPDATE items SET word = 'lost'")
connection.execute("DELETE FROM items WHERE id % 3 = 0")
os.kill(os.getpid(), signal.SIGKILL)
"""

for mode in ("delete", "wal"):
    with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
        file = Path(scratch, "data.sqlite")
        connection = sqlite3.connect(file)
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, word TEXT)")
        connection.executemany("INSERT INTO items VALUES (?, ?)", ((number, "kept") for number in range(3_000)))
        connection.commit()
        connection.close()

        killed = subprocess.run([sys.executable, "-c", WRITER, file], check=False)
        assert killed.returncode == -signal.SIGKILL, f"{mode}: the writer ended with {killed.returncode}"
        left = sorted(path.name for path in Path(scratch).iterdir())

        connection = sqlite3.connect(file)
        words = connection.execute("SELECT word, count(*) FROM items GROUP BY word").fetchall()
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        connection.close()
        assert words == [("kept", 3_000)], f"{mode}: {words}; the crash left {left}"
        assert verdict == [("ok",)], f"{mode}: {verdict}"
