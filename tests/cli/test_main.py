"""The way in: cheap, and every mistake ends in a message and the agreed exit code."""

import subprocess
import sys

import pytest

from pexen.cli.main import COMMANDS
from tests.cli.tools import environment, pexen, script, write

HEAVY = {
    "rich",
    "sqlite3",
    "asyncio",
    "multiprocessing",
    "importlib.metadata",
    "concurrent.futures",
    "unittest",
    "http",
}
CLICK = {"click", "inspect", "dataclasses", "re", "enum", "json", "pathlib", "subprocess"}


def imported(*words, cwd=None):
    """The modules that a command line imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pexen", *words],
        cwd=cwd, env=environment(), capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def bare():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_help_imports_next_to_nothing():
    fresh = imported("--help") - bare()
    assert not fresh & (HEAVY | CLICK)
    assert len(fresh) < 26, fresh  # most of them because of runpy and typing


@pytest.mark.parametrize(
    "words", [("run",), ("list",), ("graph",), ("explain", "a.sh"), ("run", "--help")], ids=" ".join
)
def test_no_command_imports_what_is_heavy(words, tmp_path):
    script(tmp_path / "a.sh")
    # What a run has come to is added to the history when everything else has been done.
    late = {"sqlite3"} if words == ("run",) else set()
    assert not imported(*words, cwd=tmp_path) & (HEAVY - late)


def test_running_an_executable_imports_no_python_worker(tmp_path):
    script(tmp_path / "a.sh")
    fresh = imported("run", cwd=tmp_path)
    assert not fresh & {"cloudpickle", "pexen.pool.process", "pexen.pool.thread", "pexen.cli.list", "pexen.cli.graph"}


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)], ids=" ".join)
def test_help_names_every_command(words):
    done = pexen(*words)
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("words", [("run", "--help"), ("run", "-h"), ("help", "run")], ids=" ".join)
def test_each_command_has_its_own_help(words):
    done = pexen(*words)
    assert done.returncode == 0
    assert "--no-deps" in done.stdout


def test_version():
    done = pexen("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("pexen ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rnu",), "did you mean 'run'?"),
        (("frobnicate",), "pexen --help"),
        (("run", "--jobs=-3"), "is neither a number from 1 nor 'auto'"),
        (("run", "-j"), "requires an argument"),
        (("run", "-n", "4"), "jobs are -j, as in make"),
        (("run", "--colour", "no"), "No such option"),
        (("run", "--color", "mauve"), "'mauve' is not one of"),
        (("run", "-D", "novalue"), "is not KEY=VALUE"),
        (("run", "-C", "/nonexistent"), "cannot change to /nonexistent"),
        (("run", "-k", "and"), "-k: a word is missing"),
        (("explain",), "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_usage_errors_say_what_and_exit_with_4(words, said, tmp_path):
    script(tmp_path / "a.sh")
    done = pexen(*words, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_definition_errors_are_headline_facts_and_hint(tmp_path):
    script(tmp_path / "a.sh", meta='timout = "1s"')
    done = pexen("run", cwd=tmp_path)
    assert done.returncode == 4
    headline, *rest = done.stderr.splitlines()
    assert headline == "error: unknown metadata 'timout'"
    assert rest == [f"  at: {tmp_path}/a.sh:3", "  hint: did you mean 'timeout'?"]


def test_what_a_tree_raises_is_one_error_with_its_line(tmp_path):
    write(tmp_path / "pexenfile.py", 'x = 1\nraise RuntimeError("bad \\x1b[31m day")\n')
    done = pexen("run", cwd=tmp_path)
    assert done.returncode == 4
    assert f"{tmp_path}/pexenfile.py:2" in done.stderr
    assert "bad \\x1b[31m day" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_of_ours_says_so_and_exits_with_3(tmp_path):
    script(tmp_path / "a.sh")
    code = (
        "import sys, pexen.usecase.place as p; p.Place = None; from pexen.cli.main import main; sys.exit(main(['run']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "this is a bug in pexen" in done.stderr
    assert "Traceback" not in done.stderr
    loud = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(PEXEN_DEBUG="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert loud.returncode == 3
    assert "Traceback" in loud.stderr


def test_chdir_may_stand_before_and_behind_the_command(tmp_path):
    script(tmp_path / "below" / "a.sh")
    for words in (("-C", "below", "list"), ("-Cbelow", "list"), ("list", "-C", "below")):
        done = pexen(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "a.sh" in done.stdout


@pytest.mark.parametrize("words", ["list", "graph", "--help", "run --dry-run"])
def test_a_closed_pipe_is_no_error(words, tmp_path):
    for number in range(3000):
        (tmp_path / f"a-long-name-to-fill-the-pipe-with-{number}").touch(0o755)
    line = f"{sys.executable} -m pexen {words} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert "Broken" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_hurt_nothing(closed, tmp_path):
    script(tmp_path / "a.sh", "echo hello")
    line = f"{sys.executable} -m pexen run {closed}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    (out,) = (tmp_path / ".pexen" / "latest" / "output").iterdir()
    assert out.read_text() == "hello\n"
