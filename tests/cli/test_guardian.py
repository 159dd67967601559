"""The guardian: nothing of a run outlives it, and nobody notices the guardian otherwise.

Everything that is started holds the writing end of one pipe. What has been written there, and its end, when nobody is
left to write, is all that these tests look at.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

import pexen
from pexen.cli.guardian import ABANDONED, ECHO

BOUND = 30.0
PROMISE = 2.0
"""Seconds within which everything of a killed run has gone."""
QUIET = 3 * ECHO
"""Seconds after which a signal would have been passed on."""

RUNNER = """
import os, signal, subprocess, sys
sys.path.insert(0, {root!r})
from pexen.cli.guardian import guarded

def say(*words):
    os.write({fd}, (" ".join(map(str, words)) + "\\n").encode())

def sh(script):
    return subprocess.Popen(["sh", "-c", script.replace("@up", "echo up > /proc/self/fd/{fd}")], pass_fds=[{fd}])

def main():
{body}

if __name__ == "__main__":
    sys.exit(guarded(main))
"""


class Stage:
    """Where a guarded program is run."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.heard = b""
        self.processes: list[subprocess.Popen[bytes]] = []

    def argv(self, body: str) -> list[str]:
        root = str(Path(pexen.__file__).parents[1])
        code = RUNNER.format(root=root, fd=self.write, body=textwrap.indent(textwrap.dedent(body).strip(), "    "))
        return [sys.executable, "-c", code]

    def run(self, body: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a guarded program with the body of its ``main``."""
        process = subprocess.Popen(self.argv(body), pass_fds=[self.write], **{"process_group": 0, **options})  # type: ignore[call-overload]
        self.processes.append(process)
        return process

    def line(self, seconds: float = BOUND) -> str:
        """Return the next line that somebody has said; an empty one when nobody is left, or says anything in time."""
        deadline = monotonic() + seconds
        while b"\n" not in self.heard:
            poll = select.poll()
            poll.register(self.read, select.POLLIN)
            if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
                return ""
            data = os.read(self.read, 65536)
            if not data:
                return ""
            self.heard += data
        line, self.heard = self.heard.split(b"\n", 1)
        return line.decode()

    def is_empty(self, seconds: float) -> bool:
        """Whether everybody is gone within some seconds."""
        self.let_go()
        deadline = monotonic() + seconds
        poll = select.poll()
        poll.register(self.read, select.POLLIN)
        while poll.poll(max(0.0, deadline - monotonic()) * 1000):
            if not os.read(self.read, 65536):
                return True
        return False

    def let_go(self) -> None:
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.let_go()
        os.close(self.read)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


# -- it ends as the runner does --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("return 0", 0),
        ("return 3", 3),
        ("return 255", 255),
        ("sys.exit(7)", 7),
        ("os._exit(9)", 9),
        *((f"os.kill(os.getpid(), {int(n)})", -n) for n in (9, 15, 1, 11, 6, 3)),
        ("signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), 2)", -2),
    ],
)
def test_it_ends_as_the_runner_does(stage: Stage, body: str, code: int) -> None:
    assert stage.run(body).wait(BOUND) == code
    assert stage.is_empty(0)


def test_an_exception_is_shown_once(stage: Stage) -> None:
    process = stage.run("raise ValueError('oops')", stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=BOUND)
    assert process.returncode == 1
    assert said.count(b"ValueError: oops") == 1


def test_what_was_printed_before_is_printed_once(stage: Stage) -> None:
    argv = stage.argv("print('in'); return 0")
    argv[2] = argv[2].replace("    sys.exit(guarded", "    print('before'); sys.exit(guarded")
    done = subprocess.run(argv, pass_fds=[stage.write], capture_output=True, check=True, timeout=BOUND)
    assert (done.stdout, done.stderr) == (b"before\nin\n", b"")


def test_standard_input_is_the_runners(stage: Stage) -> None:
    process = stage.run("say(sys.stdin.read()); return 0", stdin=subprocess.PIPE)
    process.communicate(b"hello", timeout=BOUND)
    assert stage.line() == "hello"


def test_who_reads_the_runners_output_sees_its_end(stage: Stage) -> None:
    process = stage.run("os.close(1); sys.stdin.read(); return 0", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read() == b""
    assert process.poll() is None
    process.communicate(timeout=BOUND)


def test_who_writes_the_runners_input_is_told_that_nobody_reads(stage: Stage) -> None:
    process = stage.run("os.close(0); say('closed'); signal.pause()", stdin=subprocess.PIPE)
    assert stage.line() == "closed"
    assert process.stdin is not None
    with pytest.raises(BrokenPipeError):
        for _ in range(50_000):  # until the guardian has let go as well; far less than the pipe holds
            os.write(process.stdin.fileno(), b"x")
    process.stdin.close()
    process.terminate()


def test_who_ignores_the_ends_of_children_does_not_hand_that_down(stage: Stage) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = stage.run("say(sh('exit 5').wait()); return 3")
        assert stage.line() == "5"
    finally:
        signal.signal(signal.SIGCHLD, before)
    process.wait(BOUND)  # its own end may have been ignored here
    assert stage.is_empty(0)


def test_where_there_are_threads_there_is_no_guardian(stage: Stage) -> None:
    argv = stage.argv("say(os.getpid()); return 0")
    argv[2] = argv[2].replace(
        "    sys.exit(guarded(main))",
        "    import threading; held = threading.Event(); threading.Thread(target=held.wait).start()\n"
        "    code = guarded(main); held.set(); sys.exit(code)",
    )
    with subprocess.Popen(argv, pass_fds=[stage.write]) as process:
        assert stage.line() == str(process.pid)
    assert process.returncode == 0


def test_what_the_runner_starts_inherits_nothing(stage: Stage) -> None:
    stage.run(
        """
        os.set_inheritable(STAGE, False)
        seen = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, capture_output=True, text=True).stdout
        say(*seen.split())
        return 0
        """.replace("STAGE", str(stage.write))
    )
    assert stage.line() == "0 1 2 3", "3 is what ls reads the folder by"


def test_the_run_is_named_in_the_environment(stage: Stage) -> None:
    process = stage.run("say(os.environ['PEXEN_LINEAGE']); return 0")
    assert re.fullmatch(rf"{process.pid}-[0-9a-f]+", stage.line())
    stage.run("say(os.environ['PEXEN_LINEAGE']); return 0", env={**os.environ, "PEXEN_LINEAGE": "outer/1"})
    assert re.fullmatch(r"outer/1/\d+-[0-9a-f]+", stage.line())


# -- nothing outlives the run ----------------------------------------------------------------------------------------

LEFT = {
    "child": "@up; sleep 600",
    "grandchildren": "sh -c '@up; sleep 600 & wait' & wait",
    "daemon": "( ( setsid sh -c '@up; sleep 600 & wait' & ) & )",
    "without environment": f"( ( env -i PATH={shlex.quote(os.environ['PATH'])} setsid sh -c '@up; sleep 600 & wait' & ) & )",
    "ignores signals": "trap '' TERM HUP INT; @up; setsid sleep 600 & sleep 600",
    "stopped": "( ( setsid sh -c '@up; kill -STOP $$; sleep 600' & ) & )",
}
LEAVE = "".join(f"sh({script!r})\n" for script in LEFT.values()) + "say('runner', os.getpid())\nsignal.pause()"


def started(stage: Stage) -> int:
    """Wait until everything is up; return the runner's process id."""
    lines = [stage.line() for _ in range(len(LEFT) + 1)]
    assert sum(line == "up" for line in lines) == len(LEFT)
    return int(next(line for line in lines if line.startswith("runner")).split()[1])


def test_nothing_outlives_a_runner_that_is_killed(stage: Stage) -> None:
    process = stage.run(LEAVE, stderr=subprocess.PIPE)
    runner = started(stage)
    assert runner != process.pid
    os.kill(runner, signal.SIGKILL)
    assert stage.is_empty(PROMISE)
    _, said = process.communicate(timeout=BOUND)
    assert process.returncode == -signal.SIGKILL
    assert re.fullmatch(rb"pexen: ended what the run had left: \d+ processes \(.*\)\n", said)


def test_nothing_outlives_a_guardian_that_is_killed(stage: Stage) -> None:
    # Who has cleared its environment goes to PID 1 at that moment, and nobody can tell whose it was.
    process = stage.run("".join(line for line in LEAVE.splitlines(keepends=True) if "env -i" not in line))
    for _ in range(len(LEFT)):
        assert stage.line()
    process.kill()
    assert stage.is_empty(PROMISE)


def test_nothing_outlives_a_run_that_ends_well(stage: Stage) -> None:
    process = stage.run(
        """
        sh("( ( setsid sh -c '@up; sleep 600 & wait' & ) & )").wait()
        sys.stdin.readline()
        return 0
        """,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert stage.line() == "up"
    _, said = process.communicate(b"\n", timeout=BOUND)
    assert process.returncode == 0
    assert said.startswith(b"pexen: ended what the run had left: ")
    assert stage.is_empty(0)


def test_a_run_that_leaves_nothing_says_nothing(stage: Stage) -> None:
    process = stage.run("return sh('exit 4').wait()", stderr=subprocess.PIPE)
    assert process.communicate(timeout=BOUND)[1] == b""
    assert process.returncode == 4


def test_orphans_are_reaped_while_the_run_goes_on(stage: Stage) -> None:
    stage.run(
        """
        sh("( ( setsid sh -c 'echo $$ > /proc/self/fd/STAGE; read go' < /proc/%d/fd/0 & ) & )" % os.getpid()).wait()
        sys.stdin.readline()
        children = f"/proc/{os.getppid()}/task/{os.getppid()}/children"
        while open(children).read().split() != [str(os.getpid())]:  # ends with the test, at the latest
            pass
        say("alone")
        return 0
        """.replace("STAGE", str(stage.write)),
        stdin=subprocess.PIPE,
    )
    assert stage.line().isdigit()
    stdin = stage.processes[0].stdin
    assert stdin is not None
    stdin.write(b"\n\n\n")
    stdin.close()
    assert stage.line() == "alone"
    assert stage.is_empty(BOUND)


# -- signals ---------------------------------------------------------------------------------------------------------

LISTEN = """
import select
for number in (1, 2, 3, 10, 12, 15):
    signal.signal(number, lambda number, _: say(number))
say("ready")
while True:
    select.select([], [], [], 0.05)
"""
"""Not ``signal.pause()``: what comes right before that blocks is only said when something else comes."""


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15])
def test_what_is_sent_to_the_guardian_reaches_the_runner_each_time(stage: Stage, number: int) -> None:
    process = stage.run(LISTEN)
    assert stage.line() == "ready"
    for _ in range(2):
        os.kill(process.pid, number)
        assert stage.line() == str(number)
        assert stage.line(QUIET) == "", "only once"


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15])
def test_what_is_sent_to_the_group_reaches_the_runner_once(stage: Stage, number: int) -> None:
    process = stage.run(LISTEN)
    assert stage.line() == "ready"
    for _ in range(2):
        os.killpg(process.pid, number)
        assert stage.line() == str(number)
        assert stage.line(QUIET) == "", "only once"


def test_what_is_sent_to_both_one_after_the_other_reaches_the_runner_once(stage: Stage) -> None:
    """As GNU timeout does."""
    process = stage.run(LISTEN)
    assert stage.line() == "ready"
    os.kill(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    assert stage.line() == "15"
    assert stage.line(QUIET) == ""


def test_what_the_runner_does_not_handle_ends_both_alike(stage: Stage) -> None:
    process = stage.run("say('ready'); signal.pause()")
    assert stage.line() == "ready"
    process.terminate()
    assert process.wait(BOUND) == -signal.SIGTERM


def test_nohup_stays_in_force(stage: Stage) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = stage.run("say('ready'); sys.stdin.read(); return 5", stdin=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stage.line() == "ready"
    os.kill(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=BOUND)
    assert process.returncode == 5


SHELL = """
import os, signal, subprocess, sys, fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def say(*words):
    os.write({fd}, (" ".join(map(str, words)) + "\\n").encode())
job = subprocess.Popen({argv!r}, process_group=0, pass_fds=[{fd}],
                       preexec_fn=lambda: signal.signal(signal.SIGTTOU, signal.SIG_DFL))
os.tcsetpgrp(0, job.pid)
say("started", job.pid)
while True:
    pid, status = os.waitpid(job.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        break
    say("stopped", os.WSTOPSIG(status))
    os.tcsetpgrp(0, os.getpid())
    sys.stdin.readline()
    os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
    say("continued")
say("ended", os.waitstatus_to_exitcode(status))
"""
"""A shell with job control, as far as needed here: any line typed is ``fg``."""


@pytest.fixture
def keyboard(stage: Stage, request: pytest.FixtureRequest) -> Iterator[int]:
    """A terminal with a shell on it that runs `LISTEN`, behind what the test gives; yields what to type into."""
    master, slave = pty.openpty()
    code = SHELL.format(fd=stage.write, argv=stage.argv(getattr(request, "param", "") + LISTEN))
    shell = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        pass_fds=[stage.write],
        start_new_session=True,
    )
    os.close(slave)
    stage.processes.append(shell)
    ready, started = sorted([stage.line(), stage.line()])
    assert ready == "ready"
    yield master
    shell.kill()
    os.kill(int(started.split()[1]), signal.SIGKILL)  # the guardian; its runner notices, stopped or not
    assert stage.is_empty(BOUND)
    os.close(master)


@pytest.mark.parametrize(("key", "number"), [(b"\x03", 2), (b"\x1c", 3)])
def test_keys_reach_the_runner_once(stage: Stage, keyboard: int, key: bytes, number: int) -> None:
    for _ in range(2):
        os.write(keyboard, key)
        assert stage.line() == str(number)
        assert stage.line(QUIET) == ""
    for _ in range(3):  # faster than the echo
        os.write(keyboard, key)
        assert stage.line() == str(number)
    os.write(keyboard, b"\x1a")
    assert stage.line() == "stopped 20"


@pytest.mark.parametrize("keyboard", ["signal.set_wakeup_fd(-1)"], indirect=True)
def test_keys_reach_a_runner_once_that_is_not_heard(stage: Stage, keyboard: int) -> None:
    os.write(keyboard, b"\x03")
    assert stage.line() == "2"
    assert stage.line(QUIET) == ""


def test_a_closed_terminal_reaches_the_runner_of_a_guardian_that_leads_the_session(stage: Stage) -> None:
    master, slave = pty.openpty()
    body = "import fcntl, termios\nsay('ready', os.getppid(), os.getsid(0))\n" + LISTEN.replace(
        "say(number)", "say(number) or os._exit(4)"
    )
    argv = stage.argv(body)
    argv[2] = argv[2].replace("if __name__", "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\nif __name__")
    process = subprocess.Popen(argv, stdin=slave, pass_fds=[stage.write], start_new_session=True)
    stage.processes.append(process)
    os.close(slave)
    assert stage.line() == f"ready {process.pid} {process.pid}"
    assert stage.line() == "ready"
    os.close(master)
    assert stage.line() == "1"
    assert process.wait(BOUND) == 4


def test_ctrl_z_and_fg(stage: Stage, keyboard: int) -> None:
    for _ in range(2):
        os.write(keyboard, b"\x1a")
        assert stage.line() == f"stopped {int(signal.SIGTSTP)}"
        assert stage.line(QUIET) == ""
        os.write(keyboard, b"fg\n")
        assert stage.line() == "continued"
        os.write(keyboard, b"\x03")
        assert stage.line() == "2"


def test_the_signal_for_the_abandoned_is_free() -> None:
    assert signal.SIGRTMIN < ABANDONED < signal.SIGRTMAX
