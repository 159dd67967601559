#!/usr/bin/env python3
# rename() replaces a file atomically: a reader sees the old file or the new one, never a part and never none.
import os
import tempfile
import threading
from pathlib import Path

ROUNDS = 300
SIZE = 20_000

with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
    target, draft = Path(scratch, "target"), Path(scratch, "draft")
    target.write_bytes(b"a" * SIZE)
    problems: list[str] = []
    reads: list[int] = []
    finished = threading.Event()

    def watch() -> None:
        while not finished.is_set() and not problems:
            try:
                seen = target.read_bytes()
            except FileNotFoundError:
                problems.append("the file was missing for a moment")
                return
            reads.append(len(seen))
            if len(seen) != SIZE or len(set(seen)) != 1:
                problems.append(f"a reader saw {len(seen)} bytes with {len(set(seen))} different letters")

    reader = threading.Thread(target=watch)
    reader.start()
    for round_ in range(ROUNDS):
        draft.write_bytes(b"ab"[round_ % 2 :][:1] * SIZE)
        os.replace(draft, target)
    finished.set()
    reader.join()
    assert not problems, problems
    print(f"{len(reads)} reads during {ROUNDS} replacements")
