"""The command line as people and programs use it: in a process of its own, and on a terminal."""

import os
import re
import select
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

DEADLINE = 30.0
"""Seconds that anything may take on a busy machine."""

_SET = ("CI", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS")
_CTTY = """\
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which the tests' own shell may have ignored
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
_SHELL = """\
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
pipe, gate = os.pipe()
job = os.fork()
if not job:
    os.setpgid(0, 0)
    os.close(gate)
    os.read(pipe, 1)
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
os.setpgid(job, job)
os.tcsetpgrp(0, job)
os.close(gate)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))
"""
"""A shell that runs one job in the foreground. Where SIGHUP is ignored, only the job does so, as with nohup."""


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


def gated(tree: Path, name: str, body: str = "", meta: str = "") -> Path:
    """Write a script that says when it is up and goes on when the gate is opened."""
    make_gate(tree, name)
    rest = f"exec 3<>{name}.gate; echo up > {name}.up\nread line <&3\nexit $line"
    script(tree / f"{name}.sh", f"{textwrap.dedent(body)}\n{rest}", meta)
    return tree


GATED = """\
import os, pexen
def wait(name):
    gate = os.open(name + ".gate", os.O_RDWR)
    try:
        with open(name + ".up", "w") as file:
            file.write("up\\n")
        assert os.read(gate, 100) == b"0\\n"
    finally:
        os.close(gate)
"""
"""For Python tasks that wait at a gate, which has been made for each name."""


def make_gate(tree: Path, name: str) -> None:
    """Make what `is_up` and `open_gate` use."""
    os.mkfifo(tree / f"{name}.up")
    os.mkfifo(tree / f"{name}.gate")


def is_up(tree: Path, name: str) -> None:
    """Wait until a task waits at its gate."""
    fd = os.open(tree / f"{name}.up", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([fd], [], [], DEADLINE)[0], f"{name} is not up"
        assert os.read(fd, 100) == b"up\n"
    finally:
        os.close(fd)


def open_gate(tree: Path, name: str, status: int = 0) -> None:
    """Let a task go on that is up; fails if it is not there any more."""
    fd = os.open(tree / f"{name}.gate", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b"%d\n" % status)
    os.close(fd)


class Line:
    """A line that processes hold: who has opened it can speak, and it is dead when all of them are gone.

    A script opens it with ``exec 9>FILE``, and so do all that it starts.
    """

    def __init__(self, file: Path) -> None:
        os.mkfifo(file)
        self.fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        self.raw = b""

    def heard(self, *words: str, seconds: float = DEADLINE) -> bool:
        """Wait until all of these words have been said, each on a line; return whether that was in time."""
        deadline = monotonic() + seconds
        while not set(words) <= set(self.raw.decode().split("\n")[:-1]):
            if not self._read(deadline):
                return False
        return True

    def is_dead(self, seconds: float) -> bool:
        """Tell whether everybody who had it is gone within some seconds."""
        deadline = monotonic() + seconds
        while self._read(deadline):
            pass
        return not self._timed_out

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - monotonic()))
        self._timed_out = not ready
        data = os.read(self.fd, 65536) if ready else b""
        self.raw += data
        return bool(data)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


class Terminal:
    """A program on a terminal of its own. Reads until something is there, never for a span of time.

    With a ``shell``, the program is what that runs in the foreground: a job in a process group of its own.
    """

    def __init__(
        self, *words: str | Path, cwd: Path, columns: int = 100, shell: bool = False,
        stderr: int | None = None, pass_fds: Sequence[int] = (), **env: str,
    ) -> None:  # fmt: skip
        self.master, slave = os.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        command = [sys.executable, "-I", "-c", _SHELL if shell else _CTTY, "-m", "pexen", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment(**{"TERM": "xterm", **env}),
            stdin=slave, stdout=slave, stderr=slave if stderr is None else stderr,
            start_new_session=True, pass_fds=pass_fds,
        )  # fmt: skip
        os.close(slave)
        self.pidfd = os.pidfd_open(self.process.pid)
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

    def press_until_gone(self, key: str) -> int:
        """Press a key again and again until the program has ended; return its exit code."""
        deadline = monotonic() + DEADLINE
        while not select.select([self.pidfd], [], [], 0.05)[0]:
            assert monotonic() < deadline, "it does not leave"
            self.type(key)
        return self.process.wait()

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self.master)
        self.master = -1

    def end_of_process(self) -> int:
        """Wait for the end without a look at the terminal; return the exit code."""
        assert select.select([self.pidfd], [], [], DEADLINE)[0], "it does not end"
        return self.process.wait()

    @property
    def screen(self) -> list[str]:
        """What has been on the screen, lines that scrolled away included, without empty ones and echoed keys."""
        return rendered(self.raw.replace("^C", ""))

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
        os.close(self.pidfd)
        if self.master >= 0:
            os.close(self.master)


@contextmanager
def terminal(*words: str | Path, cwd: Path, **options: Any) -> Iterator[Terminal]:
    """Run a command line on a terminal."""
    it = Terminal(*words, cwd=cwd, **options)
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
