"""Named pipes, through which commands and tests wait for each other: opening one waits for the other side."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.mailbox import BOUND


class Pipe:
    """A named pipe between commands and a test."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self.held: int | None = None

    def get(self) -> bytes:
        """Wait for somebody to write, and return all of it."""
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            data = b""
            while True:
                ready = select.poll()
                ready.register(fd, select.POLLIN)
                assert ready.poll(BOUND * 1000), "nobody has written"
                piece = os.read(fd, 65536)
                if not piece:
                    return data
                data += piece
        finally:
            os.close(fd)

    def release(self) -> None:
        """Let go everybody who waits to read a line, or will."""
        self.held = os.open(self.path, os.O_RDWR)
        os.write(self.held, b"\n" * 100)

    def close(self) -> None:
        if self.held is not None:
            os.close(self.held)


@pytest.fixture
def pipe(tmp_path) -> Iterator[Callable[[str], Pipe]]:
    pipes: list[Pipe] = []

    def make(name: str) -> Pipe:
        pipes.append(Pipe(tmp_path / name))
        return pipes[-1]

    yield make
    for one in pipes:
        one.close()


def daemon(script: str, up: Pipe) -> str:
    """Return a script that leaves ``script`` behind in a session of its own, once that is there."""
    return f"setsid sh -c 'echo > {up.path}; {script}' & read x < {up.path}"
