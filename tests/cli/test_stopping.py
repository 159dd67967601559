"""How a run ends before its time: failures that are enough, signals, terminals that close, pipes that nobody reads.

Nothing here waits for a span of time. What must be gone at the end has held a `Line`.
"""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pexen.cli.guardian import ECHO
from tests.cli.tools import (
    DEADLINE,
    GATED,
    Line,
    environment,
    gated,
    is_up,
    make_gate,
    open_gate,
    script,
    terminal,
    write,
)  # fmt: skip

PROMISE = 2.0
"""Seconds within which everything of a run has gone when somebody has lost patience."""
QUIET = 3 * ECHO
"""Seconds after which a signal would have been passed on."""
HOLD = "exec 9>line"
"""At the beginning of a script: whatever it starts has the line as well."""
ASKED = "trap 'echo asked >&9; read line <&3; exit $line' TERM"
STUBBORN = """\
trap '' TERM INT HUP
( trap '' TERM INT HUP; echo child >&9; sleep 600 & wait; sleep 600 ) &
( setsid sh -c 'trap "" TERM INT HUP; echo daemon >&9; sleep 600' & )
"""
"""Something that does not stop, with a child in the background and one that has left the session."""
TIDY = "cleanup = true\nafter = "


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    return tmp_path


@pytest.fixture
def line(tree):
    line = Line(tree / "line")
    yield line
    line.close()


def ended(it):
    """The tasks in the order of their lines, path to status."""
    found = [re.match(r"([a-z]+) +(?:[\d.]+m?s)?  ([\w/.]+)(?::|$)", text) for text in it.screen]
    return {match[2]: match[1] for match in found if match}


def said(it, pattern):
    return any(re.search(pattern, text) for text in it.screen)


# -- enough failures ----------------------------------------------------------------------------------------------


def test_x_starts_nothing_more_lets_finish_and_cleans_up(tree):
    gated(tree, "bad", meta="priority = -2")
    gated(tree, "long", meta="priority = -1")
    script(tree / "never.sh", "touch ran")
    script(tree / "tidy_bad.sh", meta=TIDY + '["/bad.sh"]')
    script(tree / "tidy_long.sh", meta=TIDY + '["/long.sh"]')
    script(tree / "tidy_never.sh", meta='cleanup = true\nrequires = ["/never.sh"]')
    with terminal("run", "-x", "-j2", cwd=tree) as it:
        is_up(tree, "bad")
        is_up(tree, "long")
        open_gate(tree, "bad", 1)
        it.until(r"failed.* bad\.sh")
        it.until(r"passed.* tidy_bad\.sh")  # while the other one still runs
        open_gate(tree, "long")
        assert it.ended() == 1
    assert not (tree / "ran").exists()
    assert ended(it) == {
        "bad.sh": "failed", "never.sh": "cancelled", "tidy_never.sh": "skipped", "tidy_bad.sh": "passed",
        "long.sh": "passed", "tidy_long.sh": "passed",
    }  # fmt: skip
    assert said(it, r"^cancelled +1  stopped: enough tasks have failed: never\.sh$")
    assert said(it, r"^skipped +1  never\.sh was cancelled: tidy_never\.sh$")
    assert re.match(r"6 tasks in .*3 passed, 1 skipped, 1 cancelled, 1 failed", it.screen[-1])


def test_maxfail_2_starts_others_after_the_first_failure_only(tree):
    gated(tree, "bad1", meta="priority = -4")
    gated(tree, "bad2", meta="priority = -3")
    gated(tree, "next", meta="priority = -2")
    script(tree / "never.sh", "touch ran")
    script(tree / "tidy.sh", meta=TIDY + '["/next.sh"]')
    with terminal("run", "--maxfail", "2", "-j2", cwd=tree) as it:
        is_up(tree, "bad1")
        is_up(tree, "bad2")
        open_gate(tree, "bad1", 1)
        is_up(tree, "next")
        open_gate(tree, "bad2", 1)
        it.until(r"cancelled.* never\.sh")
        open_gate(tree, "next")
        assert it.ended() == 1
    assert not (tree / "ran").exists()
    assert ended(it) == {
        "bad1.sh": "failed", "bad2.sh": "failed", "never.sh": "cancelled", "next.sh": "passed", "tidy.sh": "passed"
    }  # fmt: skip
    assert said(it, r"^cancelled +1  stopped: enough tasks have failed: never\.sh$")


def test_x_lets_python_tasks_finish_and_clean_up(tree):
    for name in ("bad", "long"):
        make_gate(tree, name)
    write(
        tree / "pexenfile.py",
        GATED
        + """\
@pexen.task(priority=-2)
def bad():
    wait("bad")
@pexen.task(priority=-1)
def long():
    wait("long")
@pexen.task
def never():
    open("ran", "w").close()
@pexen.task(after="/bad", cleanup=True)
def tidy_bad():
    pass
@pexen.task(after="/long", cleanup=True)
def tidy_long():
    pass
""",
    )
    with terminal("run", "-x", "-j2", cwd=tree) as it:
        is_up(tree, "bad")
        is_up(tree, "long")
        open_gate(tree, "bad", 1)
        it.until(r"failed.* bad")
        it.until(r"passed.* tidy_bad")
        open_gate(tree, "long")
        assert it.ended() == 1
    assert not (tree / "ran").exists()
    assert ended(it) == {
        "bad": "failed", "never": "cancelled", "tidy_bad": "passed", "long": "passed", "tidy_long": "passed"
    }  # fmt: skip


# -- Ctrl-C once --------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tree, line):
    """A task that says that it was asked to stop, one behind it, and what cleans up after each."""
    gated(tree, "a", f"{HOLD}; {ASKED}")
    script(tree / "b.sh", "touch ran", meta='requires = ["/a.sh"]')
    script(tree / "tidy_a.sh", "echo tidied", meta=TIDY + '["/a.sh"]')
    script(tree / "tidy_b.sh", meta='cleanup = true\nrequires = ["/b.sh"]')
    return tree


def is_stopped_in_order(it, tree):
    """What holds whenever the run above was asked to stop, once, while ``a`` was running."""
    assert not (tree / "ran").exists()
    assert ended(it) == {"b.sh": "cancelled", "tidy_b.sh": "skipped", "a.sh": "cancelled", "tidy_a.sh": "passed"}
    assert said(it, r"^cancelled +1  interrupted: b\.sh$")
    assert it.screen[-2].startswith("4 tasks in")
    assert it.screen[-2].endswith("(interrupted)")
    assert it.screen[-1] == "to go on: pexen resume"
    assert "interrupted again" not in it.raw


def test_once_asks_to_stop_waits_and_cleans_up(two, line):
    with terminal("run", cwd=two) as it:
        is_up(two, "a")
        it.type("\x03")
        it.until("interrupted: waiting for 1 task to stop; once more kills")
        assert line.heard("asked")
        open_gate(two, "a", 3)
        assert it.ended() == 2
        assert line.is_dead(0)
    is_stopped_in_order(it, two)


def test_once_leaves_a_clean_up_alone_that_runs(tree, line):
    script(tree / "first.sh", meta="priority = -1")
    gated(tree, "tidy", f"{HOLD}; {ASKED}", meta=TIDY + '["/first.sh"]\ngrace = "10m"')
    gated(tree, "a", "trap '' TERM", meta='grace = "50ms"')
    with terminal("run", "-j2", cwd=tree) as it:
        is_up(tree, "a")
        is_up(tree, "tidy")
        it.type("\x03")
        it.until("interrupted: waiting")
        it.until("killing what has not stopped in time")
        it.until(r"cancelled.* a\.sh")
        open_gate(tree, "tidy")
        assert it.ended() == 2
    assert ended(it) == {"first.sh": "passed", "a.sh": "cancelled", "tidy.sh": "passed"}
    assert line.raw == b""


def test_clean_ups_have_their_own_time(tree):
    gated(tree, "a", "trap 'exit 0' TERM", meta='grace = "1ms"')
    gated(tree, "tidy", meta=TIDY + '["/a.sh"]')
    script(tree / "tidier.sh", meta=TIDY + '["/tidy.sh"]')
    with terminal("run", cwd=tree, TERM="dumb", PEXEN_HEARTBEAT="0.01") as it:
        is_up(tree, "a")
        it.type("\x03")
        is_up(tree, "tidy")
        for _ in range(2):  # the second one is said after another look, long after the grace
            it.until(r"running \[.*tidy\.sh for")
        open_gate(tree, "tidy")
        assert it.ended() == 2
    assert ended(it)["tidy.sh"] == ended(it)["tidier.sh"] == "passed"
    assert "killing" not in it.raw


def test_once_in_python_sets_the_cancel_token_and_cleans_up(tree):
    make_gate(tree, "a")
    write(
        tree / "pexenfile.py",
        """\
        import os, signal
        import pexen
        @pexen.task
        def a():
            signals, told = os.pipe()
            os.set_blocking(told, False)
            signal.set_wakeup_fd(told)
            with open("a.up", "w") as up:
                up.write("up\\n")
            assert os.read(signals, 1) == bytes([signal.SIGTERM])
            signal.set_wakeup_fd(-1)
            assert pexen.current().cancelled
        @pexen.task(requires={a})
        def b():
            open("ran", "w").close()
        @pexen.task(after="/a", cleanup=True)
        def tidy():
            assert not pexen.current().cancelled
        """,
    )
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        it.type("\x03")
        it.until("interrupted: waiting for 1 task to stop")
        assert it.ended() == 2
    assert not (tree / "ran").exists()
    assert ended(it) == {"b": "cancelled", "a": "passed", "tidy": "passed"}


def test_once_with_s_ends_the_task_and_cleans_up(tree):
    make_gate(tree, "a")
    write(
        tree / "pexenfile.py",
        GATED
        + """\
@pexen.task
def a():
    wait("a")
@pexen.task(requires={a})
def b():
    open("ran", "w").close()
@pexen.task(after="/a", cleanup=True)
def tidy():
    print("tidied")
""",
    )
    with terminal("run", "-s", cwd=tree) as it:
        is_up(tree, "a")
        it.type("\x03")
        it.until("tidied")
        assert it.ended() == 2
    assert not (tree / "ran").exists()
    assert said(it, "error .*a: KeyboardInterrupt")
    assert ended(it)["tidy"] == "passed"
    assert said(it, r"\(interrupted\)$")


def test_once_while_it_drains_after_a_failure(tree, line):
    gated(tree, "bad", meta="priority = -2")
    gated(tree, "a", f"{HOLD}; {ASKED}", meta="priority = -1")
    script(tree / "b.sh", "touch ran")
    script(tree / "tidy.sh", meta=TIDY + '["/a.sh"]')
    with terminal("run", "-x", "-j2", cwd=tree) as it:
        is_up(tree, "bad")
        is_up(tree, "a")
        open_gate(tree, "bad", 1)
        it.until(r"cancelled.* b\.sh")
        it.type("\x03")
        assert line.heard("asked")
        open_gate(tree, "a", 1)
        assert it.ended() == 2
    assert ended(it) == {"bad.sh": "failed", "b.sh": "cancelled", "a.sh": "cancelled", "tidy.sh": "passed"}
    assert said(it, r"^cancelled +1  stopped: enough tasks have failed: b\.sh$")


def test_once_while_collecting(tree, line):
    make_gate(tree, "import")
    write(tree / "pexenfile.py", GATED + 'line = open("line", "w")\nwait("import")\n')
    with terminal("run", cwd=tree) as it:
        is_up(tree, "import")
        it.type("\x03")
        assert it.ended() == 2
        assert it.screen == ["interrupted"]
        assert line.is_dead(0)


# -- twice --------------------------------------------------------------------------------------------------------


def test_twice_kills_and_nothing_of_it_is_left(tree, line):
    gated(tree, "a", f"{HOLD}\n{STUBBORN}", 'grace = "10m"')
    script(tree / "b.sh", "touch ran", meta='after = ["/a.sh"]')
    script(tree / "tidy.sh", "touch ran", meta=TIDY + '["/a.sh"]')
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        assert line.heard("child", "daemon")
        it.type("\x03")
        it.until("interrupted: waiting for 1 task to stop; once more kills")
        it.type("\x03")
        it.until("interrupted again: killing what still runs; once more leaves at once")
        assert it.ended() == 2
        assert line.is_dead(0)
    assert not (tree / "ran").exists()
    assert ended(it) == {"b.sh": "cancelled", "a.sh": "cancelled", "tidy.sh": "cancelled"}
    assert said(it, r"killed on request.*: a\.sh$")


def test_twice_kills_clean_ups_as_well(tree, line):
    gated(tree, "tidy", f"{HOLD}\n{STUBBORN}", meta="cleanup = true")
    script(tree / "tidier.sh", "touch ran", meta=TIDY + '["/tidy.sh"]')
    with terminal("run", cwd=tree) as it:
        is_up(tree, "tidy")
        assert line.heard("child", "daemon")
        it.type("\x03")
        it.until("interrupted: ")
        it.type("\x03")
        it.until("interrupted again")
        assert it.ended() == 2
        assert line.is_dead(0)
    assert not (tree / "ran").exists()
    assert ended(it) == {"tidier.sh": "cancelled", "tidy.sh": "cancelled"}


def test_twice_kills_python_tasks(tree, line):
    make_gate(tree, "a")
    script(tree / "stubborn", f"{HOLD}\n{STUBBORN}\nwait")
    write(
        tree / "pexenfile.py",
        GATED
        + """\
import signal, subprocess
files = ["no"]
@pexen.task(grace="10m")
def a():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["./stubborn"])
    wait("a")
""",
    )
    with terminal("run", "a", cwd=tree) as it:
        is_up(tree, "a")
        assert line.heard("child", "daemon")
        it.type("\x03")
        it.until("interrupted: waiting for 1 task")
        it.type("\x03")
        it.until("interrupted again")
        assert it.ended() == 2
        assert line.is_dead(0)
    assert ended(it) == {"a": "cancelled"}


# -- three times --------------------------------------------------------------------------------------------------


@pytest.fixture
def deaf(tree, line):
    """A task that nothing ends but SIGKILL, and a pool that never sends it: as if stuck in the kernel."""
    patch = "import pexen.pool.running as r; r.Running.ask = lambda *a, **k: None"
    write(tree / "site" / "sitecustomize.py", f"import sys\nif 'pexen' in sys.orig_argv: {patch}\n")
    gated(tree, "a", f"{HOLD}\n{STUBBORN}", 'grace = "10m"')
    return tree


def test_three_times_leaves_at_once_and_kills_what_it_started(deaf, line):
    with terminal("run", "a.sh", cwd=deaf, PYTHONPATH=str(deaf / "site")) as it:
        is_up(deaf, "a")
        assert line.heard("child", "daemon")
        it.type("\x03")
        it.until("interrupted: waiting")
        it.type("\x03")
        it.until("interrupted again")
        it.type("\x03")
        assert line.is_dead(PROMISE)
        it.until("left without waiting")
        assert it.ended() == 130


def test_three_times_leaves_a_main_loop_that_is_stuck(tree, line):
    """Nobody reads what it writes, and it cannot know whether somebody will."""
    gated(tree, "a", f"{HOLD}\n{STUBBORN}\ntrap 'echo asked >&9' TERM", 'grace = "10m"')
    read, full = os.pipe()
    with terminal("run", "a.sh", cwd=tree, stderr=full) as it:
        is_up(tree, "a")
        assert line.heard("child", "daemon")
        filling = os.open(f"/proc/self/fd/{full}", os.O_WRONLY | os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(filling, bytes(4096))
        os.close(filling)
        it.type("\x03")
        assert line.heard("asked")
        # Two at once may be one, and how many have come cannot be seen.
        assert it.press_until_gone("\x03") == 130
        assert line.is_dead(0)
    os.close(read)
    os.close(full)


# -- other signals, and terminals that close ----------------------------------------------------------------------


@pytest.mark.parametrize("whom", ["number", "group"])
@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_signals_for_the_number_that_people_see_are_ctrl_c_once(name, whom, two, line):
    number = signal.Signals[f"SIG{name}"]
    with terminal("run", cwd=two) as it:
        is_up(two, "a")
        if whom == "number":
            it.process.send_signal(number)
        else:
            os.killpg(it.process.pid, number)
        it.until("interrupted: waiting for 1 task to stop; once more kills")
        assert line.heard("asked")
        open_gate(two, "a", 3)
        assert it.ended() == 2
        assert line.is_dead(0)
    is_stopped_in_order(it, two)


def test_a_closed_terminal_is_ctrl_c_once(two, line):
    gated(two, "c", f"{HOLD}\n{STUBBORN}\ntrap 'exit 0' TERM")
    with terminal("run", "-j2", cwd=two) as it:
        is_up(two, "a")
        is_up(two, "c")
        assert line.heard("child", "daemon")
        it.hang_up()
        assert line.heard("asked")
        open_gate(two, "a", 3)
        assert it.end_of_process() == 2
        assert line.is_dead(0)
    assert not (two / "ran").exists()
    assert tidied(two)


def test_a_closed_terminal_is_ctrl_c_once_for_the_job_of_a_shell(two, line):
    """The shell goes at once, so nobody is there to see the exit code; what there was has held the line."""
    held = os.open(two / "line", os.O_WRONLY)
    with terminal("run", cwd=two, shell=True, pass_fds=[held]) as it:
        os.close(held)
        is_up(two, "a")
        it.hang_up()
        assert it.end_of_process() == -signal.SIGHUP
        assert line.heard("asked")
        open_gate(two, "a", 3)
        assert line.is_dead(DEADLINE)
    assert not (two / "ran").exists()
    assert tidied(two)


def tidied(tree: Path) -> bool:
    """Whether the clean-up has run, for want of a terminal to see it on."""
    folder = tree / ".pexen" / "latest" / "output"
    return any(file.read_text() == "tidied\n" for file in folder.iterdir())


def test_a_closed_terminal_while_collecting(tree, line):
    make_gate(tree, "import")
    write(tree / "pexenfile.py", GATED + 'line = open("line", "w")\nwait("import")\n')
    with terminal("run", cwd=tree) as it:
        is_up(tree, "import")
        it.hang_up()
        assert it.end_of_process() == 2
        assert line.is_dead(0)


@contextmanager
def ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("shell", [False, True], ids=["alone", "job"])
def test_a_closed_terminal_stops_nothing_where_that_is_ignored(shell, two, line):
    script(two / "c.sh", "touch c; exit 1", meta='requires = ["/b.sh"]')
    held = os.open(two / "line", os.O_WRONLY)
    with ignored(signal.SIGHUP), terminal("run", cwd=two, shell=shell, pass_fds=[held]) as it:
        os.close(held)
        is_up(two, "a")
        it.hang_up()
        if shell:
            assert it.end_of_process() == -signal.SIGHUP  # so its job has been sent that, too
        assert not line.heard("asked", seconds=QUIET)
        open_gate(two, "a")
        if not shell:
            assert it.end_of_process() == 1
        assert line.is_dead(DEADLINE if shell else 0)
    assert (two / "ran").exists()
    assert (two / "c").exists()
    assert tidied(two)
    assert line.raw == b""


# -- nobody reads any more ----------------------------------------------------------------------------------------


@contextmanager
def unread():
    """A pipe whose reader has gone."""
    read, written = os.pipe()
    os.close(read)
    try:
        yield written
    finally:
        os.close(written)


def bash(line, cwd, **env):
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


@pytest.fixture
def mixed(tree):
    """Thirty tasks, and a last one that fails."""
    for number in range(30):
        script(tree / f"t{number}.sh", f"echo hello; touch ran{number}")
    script(tree / "z.sh", "touch last; exit 1", meta="after = [" + ", ".join(f'"/t{n}.sh"' for n in range(30)) + "]")
    return tree


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["run"], ["run", "-v"]])
def test_a_closed_stdout_changes_nothing_of_a_run(words, unbuffered, mixed):
    with unread() as gone:
        done = subprocess.run(
            [sys.executable, "-m", "pexen", *words], cwd=mixed, env=environment(PYTHONUNBUFFERED=unbuffered),
            stdout=gone, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert len(list(mixed.glob("ran*"))) == 30
    assert "Traceback" not in done.stderr
    assert re.search(r"^31 tasks in .*30 passed, 1 failed$", done.stderr, re.MULTILINE)


def test_a_closed_stdout_does_not_stop_tasks_that_have_it(tree):
    write(
        tree / "pexenfile.py",
        """\
        import pexen
        @pexen.task
        def a():
            print("hello")
        @pexen.task(requires={a})
        def b():
            open("ran", "w").close()
            assert False
        """,
    )
    with unread() as gone:
        done = subprocess.run(
            [sys.executable, "-m", "pexen", "run", "-s"], cwd=tree, env=environment(PYTHONUNBUFFERED=""),
            stdout=gone, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert (tree / "ran").exists()
    assert re.search(r"^2 tasks in .*1 passed, 1 failed$", done.stderr, re.MULTILINE)


def test_head_takes_what_it_wants_and_the_run_goes_on(mixed):
    for redirected in ("", "2>&1"):
        done = bash(f"{sys.executable} -m pexen run -j2 {redirected} | head -1; echo ${{PIPESTATUS[0]}}", mixed)
        assert done.stdout.splitlines()[-1] == "1"
        assert (mixed / "last").exists()
        assert len(list(mixed.glob("ran*"))) == 30
        assert "Traceback" not in done.stderr + done.stdout
        for file in mixed.glob("ran*"):
            file.unlink()
        (mixed / "last").unlink()


@pytest.mark.parametrize("words", ["list", "run --co", "run --dry-run"])
def test_data_that_nobody_wants_is_no_error(words, mixed):
    with unread() as gone:
        done = subprocess.run(
            [sys.executable, "-m", "pexen", *words.split()], cwd=mixed, env=environment(),
            stdout=gone, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def test_a_reader_of_stderr_that_goes_stops_nothing(mixed):
    gated(mixed, "a", meta="priority = -1")
    read, written = os.pipe()
    with terminal("run", "-j1", cwd=mixed, stderr=written) as it:
        is_up(mixed, "a")
        os.close(read)
        os.close(written)
        open_gate(mixed, "a")
        assert it.ended() == 1
    assert len(list(mixed.glob("ran*"))) == 30


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stderr_changes_nothing_of_a_run(closed, mixed):
    done = bash(f"{sys.executable} -m pexen run {closed}", mixed)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert (mixed / "last").exists()
    assert len(list(mixed.glob("ran*"))) == 30


@pytest.mark.parametrize("words", ["run nosuch", "run --nope", "nope"])
def test_errors_have_their_exit_code_although_stderr_is_closed(words, tree):
    done = bash(f"{sys.executable} -m pexen {words} 2>&-", tree)
    assert (done.returncode, done.stdout) == (4, "")


def test_data_is_nothing_else_although_stderr_is_closed(tree):
    script(tree / "a.sh")
    done = bash(f"{sys.executable} -m pexen list 2>&-", tree)
    assert done.returncode == 0
    assert "1 task" not in done.stdout


def test_nothing_selected_is_5_whoever_reads_it(tree):
    with unread() as gone:
        done = subprocess.run(
            [sys.executable, "-m", "pexen", "run"], cwd=tree, env=environment(), stderr=gone, check=False
        )
    assert done.returncode == 5
    done = bash(f"{sys.executable} -m pexen run 2>&-", tree)
    assert (done.returncode, done.stdout) == (5, "")
