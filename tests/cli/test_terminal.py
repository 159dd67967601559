"""``pexen run`` as people use it: on a terminal, with keys pressed. Nothing here waits for a span of time."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.tools import Terminal, script, terminal, write


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    return tmp_path


def gated(tree: Path, name: str, body: str = "", meta: str = "") -> Path:
    """Write a script that says when it is up and goes on when the gate is opened."""
    os.mkfifo(tree / f"{name}.up")
    os.mkfifo(tree / f"{name}.gate")
    script(tree / f"{name}.sh", f"{body}\necho up > {name}.up\nread line < {name}.gate\nexit $line", meta)
    return tree


def is_up(tree: Path, name: str) -> None:
    assert (tree / f"{name}.up").read_text() == "up\n"


def open_gate(tree: Path, name: str, status: int = 0) -> None:
    (tree / f"{name}.gate").write_text(f"{status}\n")


# -- the live line ------------------------------------------------------------------------------------------------


def test_the_last_line_shows_what_runs_and_the_end_does_not(tree):
    gated(tree, "a")
    gated(tree, "b")
    with terminal("run", "-j2", cwd=tree) as it:
        is_up(tree, "a")
        is_up(tree, "b")
        it.until(r"\[0/2\] [ab]\.sh \d+s, [ab]\.sh \d+s")
        open_gate(tree, "a")
        it.until(r"passed.* a\.sh")
        it.until(r"\[1/2\] b\.sh \d+s")
        open_gate(tree, "b", 3)
        assert it.ended() == 1
        assert not [line for line in it.screen if line.startswith("[")]
        assert it.screen[-1].startswith("2 tasks in")
        assert it.raw.count("\x1b[?7l") == it.raw.count("\x1b[?7h")


@pytest.mark.parametrize("env", [{"CI": "true"}, {"TERM": "dumb"}])
def test_there_is_no_live_line_where_it_would_not_work(env, tree):
    gated(tree, "a")
    with terminal("run", cwd=tree, **env) as it:
        is_up(tree, "a")
        open_gate(tree, "a")
        assert it.ended() == 0
        assert "\r\x1b[K" not in it.raw
        assert ("\x1b[32m" in it.raw) is ("CI" in env)


def test_the_live_line_never_wraps(tree):
    gated(tree, "a")
    (tree / "deep").mkdir()
    gated(tree / "deep", "日本語" * 20)
    with terminal("run", "-j2", cwd=tree, columns=40) as it:
        is_up(tree, "a")
        is_up(tree / "deep", "日本語" * 20)
        line = it.until(r"\x1b\[\?7l.*?\[0/2\][^\r\n]*?\x1b\[\?7h")
        assert len(re.sub(r"\x1b\[[?0-9;]*[a-z]", "", line)) < 40
        open_gate(tree, "a")
        open_gate(tree / "deep", "日本語" * 20)
        assert it.ended() == 0


def test_colour_on_a_terminal_unless_told_otherwise(tree):
    script(tree / "a.sh")
    with terminal("run", cwd=tree) as it:
        assert it.ended() == 0
        assert "\x1b[32mpassed\x1b[0m" in it.raw
    with terminal("run", cwd=tree, NO_COLOR="1") as it:
        assert it.ended() == 0
        assert "\x1b[32m" not in it.raw


def test_hostile_output_does_not_reach_the_terminal(tree):
    script(tree / "a.sh", r"printf '\033]0;owned\007\033[2J\n'; exit 1")
    with terminal("run", cwd=tree) as it:
        assert it.ended() == 1
        assert "\x1b]0;" not in it.raw
        assert "\x1b[2J" not in it.raw
        assert "  | \\x1b]0;owned\\x07\\x1b[2J" in it.screen


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


def test_once_asks_to_stop_and_waits(tree):
    gated(tree, "a", "trap 'echo bye; exit 0' TERM")
    script(tree / "b.sh", meta='requires = ["/a.sh"]')
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        it.type("\x03")
        it.until("interrupted: waiting for 1 task to stop; once more kills")
        assert it.ended() == 2
        assert any(re.match(r"cancelled .*b\.sh", line) for line in it.screen)
        assert it.screen[-1].endswith("(interrupted)")


def test_twice_kills(tree):
    gated(tree, "a", "trap '' TERM", 'grace = "10m"')
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        it.type("\x03")
        it.until("interrupted: waiting")
        it.type("\x03")
        it.until("interrupted again: killing what still runs")
        assert it.ended() == 2
        assert any("killed on request" in line for line in it.screen)


def test_three_times_leaves_at_once_and_kills_what_it_started(tree):
    # Nothing survives SIGKILL, so the pool is made to ignore requests: as if the process were stuck in the kernel.
    deaf = "import pexen.pool.command as c; c._Running.ask = lambda *a, **k: None"
    write(tree / "sitecustomize.py", f"import sys\nif 'pexen' in sys.orig_argv: {deaf}\n")
    gated(tree, "a", "trap '' TERM; echo $$ > pid", 'grace = "10m"')
    with terminal("run", cwd=tree, PYTHONPATH=str(tree)) as it:
        is_up(tree, "a")
        it.type("\x03")
        it.until("interrupted: waiting")
        it.type("\x03")
        it.until("interrupted again")
        it.type("\x03")
        it.until("left without waiting")
        assert it.ended() == 130
    assert not is_alive((tree / "pid").read_text().strip())


def test_a_closed_terminal_stops_the_run(tree):
    gated(tree, "a", "trap 'echo bye > said; exit 0' TERM")
    it = Terminal("run", cwd=tree)
    is_up(tree, "a")
    os.close(it.master)
    it.process.wait(timeout=30)
    assert it.process.returncode == 2
    assert (tree / "said").read_text() == "bye\n"


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


# -- your terminal ------------------------------------------------------------------------------------------------


def test_with_s_tasks_have_the_terminal_one_at_a_time(tree):
    script(tree / "a.sh", 'echo "name?"; read name; echo "hello $name"; test -t 1')
    script(tree / "b.sh", "echo second")
    with terminal("run", "-s", "-j4", cwd=tree) as it:
        it.until(r"name\?")
        it.type("world\n")
        it.until("hello world")
        it.until(r"passed.* a\.sh")
        it.until("second")
        assert it.ended() == 0
        assert "\r\x1b[K" not in it.raw


def test_with_s_python_tasks_run_here_and_ctrl_c_ends_the_one(tree):
    write(
        tree / "pexenfile.py",
        """\
        import pexen
        @pexen.task
        def a():
            print("up", flush=True)
            open("gate").read()
        @pexen.task(requires={a})
        def b():
            pass
        """,
    )
    os.mkfifo(tree / "gate")
    with terminal("run", "-s", cwd=tree) as it:
        it.until("up")
        it.type("\x03")
        assert it.ended() == 2
        assert any(re.search("error .*a: KeyboardInterrupt", line) for line in it.screen)
        assert any(line.endswith("(interrupted)") for line in it.screen)


def test_pdb_stops_where_the_exception_was_raised(tree):
    write(
        tree / "pexenfile.py",
        """\
        import pexen
        @pexen.task
        def a():
            answer = 41
            raise ValueError(answer)
        @pexen.task(priority=2)
        def b():
            print("b runs")
        """,
    )
    script(tree / "c.sh", "touch ran", meta="priority = 1")
    with terminal("run", "--pdb", cwd=tree) as it:
        it.until(r"\(Pdb\) ")
        assert "-> raise ValueError(answer)" in it.raw
        assert "b runs" not in it.raw
        it.type("p answer + 1\n")
        it.until("42")
        assert not (tree / "ran").exists()  # nothing goes on behind the debugger's back
        it.type("q\n")
        it.until("b runs")
        assert it.ended() == 1
