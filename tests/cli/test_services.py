"""Services in runs of the command line: stopped by signals, killed, taken up again."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cli.test_stopping import ended, said
from tests.cli.tools import Line, gated, is_up, open_gate, pexen, script, terminal, write

SERVER = """\
exec 9>line
trap 'echo down >&9; echo down >> story; exit 0' TERM
echo up >> story
echo up >&9
echo '{"ready": true}' >&$PEXEN_CONTROL
while :; do sleep 600 & wait $!; done
"""
SERVES = 'service = true\nready = "control"\ngrace = "10s"'


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    script(tmp_path / "server.sh", SERVER, SERVES)
    gated(tmp_path, "a", meta='requires = ["/server.sh"]\ngrace = "10s"')
    script(tmp_path / "b.sh", "echo b >> story", 'requires = ["/server.sh", "/a.sh"]')
    return tmp_path


@pytest.fixture
def line(tree):
    line = Line(tree / "line")
    yield line
    line.close()


def story(tree):
    return (tree / "story").read_text().split()


def test_it_is_up_for_its_dependants_and_down_at_the_end(tree, line):
    with terminal("run", "-j1", cwd=tree) as it:
        is_up(tree, "a")
        open_gate(tree, "a")
        assert it.ended() == 0
    assert story(tree) == ["up", "b", "down"]
    assert ended(it) == {"a.sh": "passed", "b.sh": "passed", "server.sh": "passed"}
    assert line.is_dead(5)


def test_once_tears_down_in_order(tree, line):
    script(tree / "tidy.sh", "echo tidy >> story", 'cleanup = true\nafter = ["/a.sh"]\nrequires = ["/server.sh"]')
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        it.type("\x03")
        assert it.ended() == 2
        assert line.is_dead(5)
    assert story(tree) == ["up", "tidy", "down"]
    assert ended(it)["b.sh"] == "cancelled"
    assert "Traceback" not in it.raw


def test_twice_kills(tree, line):
    script(tree / "server.sh", SERVER.replace("echo down >&9; echo down >> story; exit 0", "echo asked >&9"), SERVES)
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        it.type("\x03")
        assert line.heard("asked")
        it.type("\x03")
        assert it.ended() == 2
        assert line.is_dead(5)
    assert "Traceback" not in it.raw


@pytest.mark.parametrize("what", ["runner", "guardian"])
def test_killed_while_it_is_up_the_next_run_starts_it_again_and_finishes(tree, line, what):
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        pid = it.pid if hasattr(it, "pid") else it.process.pid
        if what == "runner":
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                pid = int(file.read().split()[0])
        os.kill(pid, signal.SIGKILL)
        it.ended()
        assert line.is_dead(5)
    before = story(tree)
    assert before in (["up"], ["up", "down"]), "a runner whose guardian is gone may be quick enough to take it down"
    with terminal("resume", cwd=tree) as it:
        is_up(tree, "a")
        open_gate(tree, "a")
        assert it.ended() == 0
    assert story(tree) == [*before, "up", "b", "down"]
    done = pexen("resume", cwd=tree)
    assert done.returncode == 0
    assert story(tree) == [*before, "up", "b", "down"]


def test_one_that_dies_fails_the_run_and_says_who_relied_on_it(tree, line):
    script(tree / "server.sh", "echo '{\"ready\": true}' >&$PEXEN_CONTROL\nread x < dies", SERVES)
    os.mkfifo(tree / "dies")
    with terminal("run", cwd=tree) as it:
        is_up(tree, "a")
        with open(tree / "dies", "w") as file:
            file.write("x\n")
        it.until(r"failed.* server\.sh")
        open_gate(tree, "a")
        assert it.ended() == 1
    assert ended(it) == {"server.sh": "failed", "a.sh": "warned", "b.sh": "skipped"}
    assert said(it, "it has died")
