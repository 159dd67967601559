"""``pexen run`` as people use it: on a terminal, with keys pressed. Nothing here waits for a span of time."""

import os
import re

import pytest

from tests.cli.tools import gated, is_up, open_gate, script, terminal, write


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    return tmp_path


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
