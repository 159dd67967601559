"""Threads of one process write to one file: a group, so that they run at a time, in threads, and beside nothing else.

`pexen.toml` says how the group runs; who is a member says so here.
"""

import os
import tempfile
from pathlib import Path

import pexen

LINES = 500


@pexen.service(provides="log")
def folder():
    """A file for the writers and for who reads it afterwards; both need it, so it lives longer than the group's turn."""
    with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
        yield os.fspath(Path(scratch, "log"))


def write(log, number):
    """Append line after line, each in one write."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for line in range(LINES):
            os.write(file, b"%d %d %s\n" % (number, line, b"x" * (line % 50)))
    finally:
        os.close(file)
    return os.getpid()


def tasks(here):
    for number in range(8):
        yield here.task(
            write, f"writer{number}", kwargs={"number": number}, requires="log", provides="written", group="threads",
            volatile=True,  # a run that is taken up again has another file
        )  # fmt: skip


@pexen.task(requires={"log": "log", "written": pexen.all_of("written")})
def whole(log, written):
    """Appended lines are neither torn nor lost nor out of order, whoever else appends."""
    assert len(set(written)) == 1, f"not threads of one process: {written}"
    found = [line.split() for line in Path(log).read_text().splitlines()]
    for number in range(8):
        lines = [(int(line), len(tail[0]) if tail else 0) for writer, line, *tail in found if int(writer) == number]
        assert lines == [(line, line % 50) for line in range(LINES)], f"writer {number}: {lines}"
    assert len(found) == 8 * LINES, len(found)
