"""The examples do what they say: each runs as its reader would run it, and leaves the machine as it was."""

import hashlib
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import pexen

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SYSTEM = EXAMPLES / "system"
BLOCK = re.compile(r"^# /// pexen\n((?:#.*\n)+?)# ///$", re.MULTILINE)

SERVERS = ["services/nginx.sh", "services/python.py"]
if not shutil.which("nginx"):
    SERVERS.reverse()
SHELLS = [name for name in ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "yash") if shutil.which(name)]

# Executables that are no task by themselves: what a factory makes several tasks of, and the server that is not chosen.
HELPERS = {"files/digest/compare.py", "text/samples/count.sh", SERVERS[1]}
OTHER_TASKS = {
    *(f"db/sqlite/{name}" for name in ("create", "totals", "rollback", "drop")),
    *(f"files/digest/{name}" for name in ("sha256", "blake2b")),
    *(f"files/folder/{name}" for name in ("create", "deposit", "withdraw", "audit", "second_audit", "remove")),
    *(f"net/http/{name}" for name in ("answers", "modern")),
    *(f"net/port/{name}" for name in ("choose", "echo", "occupied")),
    *(f"process/threads/{name}" for name in ("folder", "whole", *(f"writer{number}" for number in range(8)))),
    *(f"text/coreutils/{name}" for name in ("cut", "join", "encode")),
    *(f"text/samples/{name}" for name in ("czech", "unfinished")),
    *(f"text/shells/{name}" for name in SHELLS),
    *(f"vcs/git/{name}" for name in ("create", "archive", "merge", "remove")),
}
WARNED = {"net/http/modern", "process/daemons/leaks.sh"}


def files_below(folder: Path) -> Iterator[Path]:
    """All files but those that git ignores."""
    for path in sorted(folder.rglob("*")):
        if not {".pexen", "__pycache__"} & set(path.relative_to(folder).parts) and not path.is_dir():
            yield path


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    """What `git status` would look at: names, modes and contents."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files_below(folder)
    }


EXECUTABLES = [path for path in files_below(SYSTEM) if path.stat().st_mode & stat.S_IXUSR]
TASKS = sorted({path.relative_to(SYSTEM).as_posix() for path in EXECUTABLES} - HELPERS | OTHER_TASKS)


def processes_with(variable: str) -> list[str]:
    """The command lines of all living processes that have ``variable`` (``NAME=value``) in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (OSError, ProcessLookupError):  # it ended while we looked, or is none of ours
            pass
    return found


def run(*command: str | Path, folder: Path, timeout: float = 50, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a temporary folder of its own, and check that it left no process and no file behind."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environ = {**os.environ, **environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert processes_with(f"TMPDIR={temporary}") == [], done.stderr
    assert sorted(path.name for path in temporary.iterdir()) == [], done.stderr
    return done


def test_library_shows_values_failures_and_tasks_added_on_the_fly(tmp_path):
    done = run(sys.executable, EXAMPLES / "library.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    *lines, summary = done.stdout.splitlines()
    said = {words[1]: (words[0], " ".join(words[2:])) for words in map(str.split, lines)}
    assert said.pop("broken") == ("failed", "AssertionError: we are not rich")
    status, reason = said.pop("celebrate")
    assert status == "skipped"
    assert "broken" in reason
    assert said == {
        "read": ("passed", "[30, -10, 5]"),
        "add_up": ("passed", "25"),
        "greet": ("passed", ""),
        "book/0": ("passed", ""),
        "book/1": ("passed", ""),
        "book/2": ("passed", ""),
    }
    assert summary == "8 results, 25 booked, 25 expected"


def test_pipeline_prints_the_same_table_every_time(tmp_path):
    done = run(sys.executable, EXAMPLES / "pipeline.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    stations = [line.split()[0] for line in done.stdout.splitlines()]
    assert stations == ["south", "north", "summit"], done.stdout
    assert re.fullmatch(r"(\w+ +mean +-?[\d.]+ from +-?[\d.]+ to +-?[\d.]+\n){3}", done.stdout), done.stdout


PEXEN = (sys.executable, "-m", "pexen")


def results_in(file: Path) -> dict[str, dict]:
    """What a report of kind jsonl says of each task."""
    lines = map(json.loads, file.read_text().splitlines())
    return {line["path"]: line for line in lines if line["kind"] == "result"}


def reports_of(result: dict) -> dict[str, str]:
    return {report["name"]: report["status"] for report in result["reports"]}


@pytest.fixture
def tree(tmp_path):
    """A copy of examples/system, so that several test sessions can run it at the same time."""
    return shutil.copytree(SYSTEM, tmp_path / "system", ignore=shutil.ignore_patterns(".pexen", "__pycache__"))


def test_the_suite_of_this_machine_passes_and_leaves_nothing_behind(tree, tmp_path):
    before = state_of(tree)
    done = run(*PEXEN, "run", tree, "-j", "4", "--report", "jsonl:results", folder=tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert state_of(tree) == before

    lines = {path: number for path in TASKS for number, line in enumerate(output.splitlines()) if names(line, path)}
    assert sorted(lines) == TASKS
    assert re.search(r"^warned +[\d.]+s  net/http/modern: compression: gzip was offered", output, re.MULTILINE)
    assert re.search(r"^warned +[\d.]+s  process/daemons/leaks.sh: leaked 1 process \(sleep\)$", output, re.MULTILINE)
    if platform.machine() != "s390x":
        assert "skip" in output.splitlines()[lines["process/proc/big_endian.py"]].lower()

    results = results_in(tmp_path / "results")
    assert sorted(results) == TASKS
    assert {path for path, result in results.items() if result["status"] == "warned"} == WARNED
    assert {path for path, result in results.items() if result["leaked"]} == {"process/daemons/leaks.sh"}
    answers = results["net/http/answers"]
    assert reports_of(answers) == dict.fromkeys(
        ("the page", "no such page", "the first ten bytes", "another version", "not modified"), "pass"
    )
    (kept,) = answers["artifacts"]
    assert "headers.json" in json.dumps(kept)
    assert reports_of(results["net/http/modern"]) == {"compression": "warn"}

    order = list(results)
    assert order.index(SERVERS[0]) > max(order.index(path) for path in order if path.startswith("net/http/"))
    first = min(order.index(path) for path in order if "/writer" in path)
    assert all("/writer" in path for path in order[first : first + 8]), "the group runs alone"


def test_who_serves_is_chosen_and_can_be_said(tree, tmp_path):
    """Where there is nginx it is nginx; this one only has to be found."""
    nginx = tmp_path / "bin" / "nginx"
    nginx.parent.mkdir()
    nginx.write_text("#!/bin/sh\nexit 1\n")
    nginx.chmod(0o755)
    path = f"{nginx.parent}:{os.environ['PATH']}"
    done = run(*PEXEN, "list", tree / "net", "--providers", folder=tmp_path, PATH=path)
    assert "chosen: services/nginx.sh  (preference 1)" in done.stdout
    done = run(*PEXEN, "run", tree / "net/http/clients", "-D", "provider.httpd=python", "--report", "jsonl:results",
               folder=tmp_path, PATH=path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    clients = [f"net/http/clients/{name}" for name in ("get_range.py", "many.py", "raw.sh")]
    assert sorted(results_in(tmp_path / "results")) == [*clients, "services/python.py"]


@pytest.mark.parametrize("installed", [True, False])
def test_a_script_gives_several_results_with_pexen_in_path_and_without(tree, tmp_path, installed):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    pexen_in_path = bin_folder / "pexen"
    answer = f'exec "{sys.executable}" -m pexen "$@"' if installed else "exit 127"
    pexen_in_path.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/asked"\n{answer}\n')
    pexen_in_path.chmod(0o755)
    path = f"{bin_folder}:{os.environ['PATH']}"
    script = tree / "process/daemons/several.sh"
    done = run(*PEXEN, "run", script, "--report", "jsonl:results", folder=tmp_path, PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "asked").read_text() == "shell-helper\n"
    (result,) = results_in(tmp_path / "results").values()
    assert result["status"] == "passed"
    steps = dict.fromkeys(("started", "takes signals", "ended by TERM", "is gone"), "pass")
    assert reports_of(result) == {**steps, "kernel": "info"}


def names(line: str, path: str) -> bool:
    """Whether a line of output names the task at ``path``, and not one whose path merely starts or ends so."""
    return bool(re.search(rf"(?<![\w/.-]){re.escape(path)}(?![\w/-]|\.\w)", line))


def test_the_tree_is_large_and_deep_enough_to_be_an_example():
    assert 60 <= len(TASKS) <= 90
    assert sum(path.count("/") >= 2 for path in TASKS) >= 40


@pytest.mark.parametrize("path", EXECUTABLES, ids=lambda path: path.relative_to(SYSTEM).as_posix())
def test_every_executable_says_what_it_proves_and_has_valid_metadata(path):
    text = path.read_text()
    shebang, purpose, *_ = text.splitlines()
    assert shebang in {"#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env python3"}
    assert purpose.startswith(("# ", '"""'))
    assert len(purpose) > 30
    if path.suffix == ".sh":
        subprocess.run([shebang.removeprefix("#!"), "-n", path], check=True)
    else:
        compile(text, path, "exec")
    for block in BLOCK.findall(text):
        pexen.command([path], **tomllib.loads(re.sub(r"^# ?", "", block, flags=re.MULTILINE)))


@pytest.mark.parametrize("path", sorted(SYSTEM.rglob("*.pexen.toml")), ids=lambda path: path.name)
def test_every_sidecar_and_task_file_has_valid_metadata(path):
    content = tomllib.loads(path.read_text())
    if path.with_name(path.name.removesuffix(".pexen.toml")).exists():
        pexen.command("true", **content)
        return
    assert set(content) <= {"defaults", "tasks"}
    for task in content["tasks"].values():
        pexen.command(task.pop("run"), **{**content["defaults"], **task})
