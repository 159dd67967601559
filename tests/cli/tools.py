"""The command line as people and programs use it: in a process of its own, and on a terminal."""

import os
import re
import select
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

DEADLINE = 30.0
"""Seconds that anything may take on a busy machine."""

_SET = ("CI", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS")
_CTTY = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def environment(**more: str) -> dict[str, str]:
    """Return the environment without what would change the output, but for what is given."""
    kept = {key: value for key, value in os.environ.items() if key not in _SET and not key.startswith("PEXEN_")}
    return {**kept, **more}


def pexen(*words: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pexen", *map(str, words)],
        cwd=cwd, env=environment(**env), text=True, timeout=DEADLINE, check=False,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip


def script(file: Path, body: str = ":", meta: str = "", shell: str = "#!/bin/sh") -> Path:
    """Write an executable with metadata in a comment block."""
    block = "".join(f"# {line}\n" for line in ["/// pexen", *meta.strip().splitlines(), "///"]) if meta else ""
    return write(file, f"{shell}\n{block}{textwrap.dedent(body)}\n", executable=True)


def write(file: Path, text: str, *, executable: bool = False) -> Path:
    """Write a file, and the folders around it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    if executable:
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


class Terminal:
    """A program on a terminal of its own. Reads until something is there, never for a span of time."""

    def __init__(self, *words: str | Path, cwd: Path, columns: int = 100, **env: str) -> None:
        self.master, slave = os.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        command = [sys.executable, "-I", "-c", _CTTY, "-m", "pexen", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment(**{"TERM": "xterm", **env}),
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.raw = ""
        self._seen = 0

    def until(self, pattern: str) -> str:
        """Read until the pattern appears behind what was matched before; return the match."""
        deadline = monotonic() + DEADLINE
        while (match := re.compile(pattern).search(self.raw, self._seen)) is None:
            if not self._read(deadline - monotonic()):
                raise AssertionError(f"no {pattern!r} in {self.raw[self._seen :]!r}, all: {self.raw!r}")
        self._seen = match.end()
        return match.group()

    def ended(self) -> int:
        """Read to the end and return the exit code."""
        deadline = monotonic() + DEADLINE
        while self._read(deadline - monotonic()):
            pass
        return self.process.wait(timeout=DEADLINE)

    def type(self, text: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C."""
        os.write(self.master, text.encode())

    @property
    def screen(self) -> list[str]:
        """What has been on the screen, lines that scrolled away included, without empty ones."""
        return rendered(self.raw)

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0, timeout))
        if not ready:
            raise AssertionError(f"nothing more was written after {self.raw!r}")
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody has the other end
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        """End what is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)


@contextmanager
def terminal(*words: str | Path, cwd: Path, columns: int = 100, **env: str) -> Iterator[Terminal]:
    """Run a command line on a terminal."""
    it = Terminal(*words, cwd=cwd, columns=columns, **env)
    try:
        yield it
    finally:
        it.close()


def rendered(raw: str) -> list[str]:
    """Return the lines that a terminal would show; colours and modes are left out."""
    lines = [""]
    for token in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", raw):
        if token == "\n":
            lines.append("")
        elif token == "\x1b[K":
            lines[-1] = ""  # only used at the beginning of a line
        elif token[0] not in "\x1b\r":
            lines[-1] += token
    return [line for line in lines if line]
