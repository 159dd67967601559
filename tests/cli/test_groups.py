"""Groups on the command line: who runs with whom and where, what is shown of it, and which mistakes are told."""

import json
import re

import pytest

from tests.cli.test_run import lines_of
from tests.cli.tools import DEADLINE, pexen, script, write

TOML = """\
[groups.calls]
pool = "thread"
workers = 6
spare = 0

[groups.vms]
workers = 2
ordered = true
"""
CALLS = f"""\
import os, threading
import pexen

defaults = dict(group="calls")
barrier = threading.Barrier(6)

def call(url):
    barrier.wait({DEADLINE})
    return [os.getpid(), url]

@pexen.service
def server():
    yield os.getpid()

def tasks(here):
    for number in range(6):
        yield here.task(call, f"call{{number}}", args=[], requires={{"url": "server"}})
"""
VMS = """\
import os
import pexen
defaults = dict(group="vms")

@pexen.task
def second(): print("second"); return os.getpid()

@pexen.task
def first(): pexen.current().add(pexen.command("echo third", path="vms/third"))
"""


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", TOML)
    write(tmp_path / "calls" / "pexenfile.py", CALLS)
    write(tmp_path / "vms" / "pexenfile.py", VMS)
    script(tmp_path / "vms" / "disk.sh", "echo disk")
    script(tmp_path / "free.sh")
    return tmp_path


def test_each_runs_alone_with_its_own_pool_and_workers_whatever_j_says(tree):
    done = pexen("run", "-j1", "-v", cwd=tree)
    assert done.returncode == 0, done.stderr
    order = list(lines_of(done))
    calls = [path for path in order if path.startswith("calls/")]
    vms = ["vms/second", "vms/first", "vms/disk.sh", "vms/third"]
    assert order == ["free.sh", *calls, *vms], "the group that was added first comes first"
    assert sorted(calls) == [*(f"calls/call{number}" for number in range(6)), "calls/server"]
    assert calls[-1] == "calls/server", "its service serves it, and ends with it"
    assert re.search(r"^ +\| second$", done.stderr, re.MULTILINE), "what a worker process of a group prints is kept"
    assert re.search(r"^ +\| third$", done.stderr, re.MULTILINE), "and what a command of a group prints"
    assert done.stdout == ""


def test_a_resumed_run_knows_the_groups(tree):
    script(tree / "vms" / "disk.sh", "exit 1")
    assert pexen("run", "-x", cwd=tree).returncode == 1
    script(tree / "vms" / "disk.sh")
    done = pexen("resume", cwd=tree)
    assert done.returncode == 0, done.stderr
    assert {"vms/disk.sh", "vms/third"} <= set(lines_of(done))


@pytest.mark.parametrize("how", ["-s", "-x"])
def test_groups_in_other_ways_to_run(tree, how):
    write(tree / "calls" / "pexenfile.py", CALLS.replace("barrier.wait", "float"))
    done = pexen("run", how, cwd=tree)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^12 tasks in [\d.]+s: 12 passed$", done.stderr, re.MULTILINE)


def test_coroutines_and_inline_tasks_have_groups(tree):
    write(
        tree / "more" / "pexenfile.py",
        """\
        import asyncio, os
        import pexen

        GROUPS = {"loop": {"pool": "async"}, "here": {"pool": "inline"}}

        arrived, everybody = [], asyncio.Event()

        async def sleeping():
            arrived.append(1)
            if len(arrived) == 20:
                everybody.set()
            await everybody.wait()

        def tasks(here):
            yield here.command("ps -o ppid= -p $$ > command", path="command", group="here")
            yield here.task(inline, "inline", group="here")
            for number in range(20):
                yield here.task(sleeping, f"sleep{number}", group="loop")

        def inline(): open("inline", "w").write(str(os.getpid()))
        """,
    )
    done = pexen("run", "more", cwd=tree)
    assert done.returncode == 0, done.stderr
    assert len(lines_of(done)) == 22
    assert int((tree / "more" / "command").read_text()) == int((tree / "inline").read_text()), "both by the runner"


def test_dry_run_shows_whose_turn_it_is(tree, call):
    code, out, _ = call("run", "--dry-run", "-j1", cwd=tree)
    assert code == 0
    assert out.splitlines() == [
        "free.sh",
        "# group calls (pool thread, 6 workers, 0 spare)",
        "calls/server",
        *(f"calls/call{number}" for number in range(6)),
        "# calls/server would be torn down",
        "# group calls is over",
        "# group vms (2 workers, ordered)",
        "vms/second",
        "vms/first",
        "vms/disk.sh",
        "# group vms is over",
    ]


def test_list_explain_and_graph_show_groups_and_services(tree, call):
    _, out, _ = call("list", cwd=tree)
    assert "├── server  service  group calls" in out
    assert "disk.sh  group vms" in out
    listed = json.loads(call("list", "--json", cwd=tree)[1])
    assert listed["groups"] == [
        {
            "name": "calls",
            "where": f"{tree}/pexen.toml:1",
            "pool": "thread",
            "workers": 6,
            "spare": 0,
            "ordered": False,
        },
        {"name": "vms", "where": f"{tree}/pexen.toml:6", "pool": "", "workers": 2, "ordered": True},
    ]
    metas = {task["path"]: task["meta"] for task in listed["tasks"]}
    assert metas["calls/server"] == {"group": "calls", "service": True}
    _, out, _ = call("explain", "vms/disk.sh", cwd=tree)
    assert "  group: vms  2 workers, ordered" in out.splitlines()
    assert "  after: vms/first" in out.splitlines(), "one by one"
    _, out, _ = call("explain", "::calls/server", cwd=tree)
    assert {"  service: yes", "  group: calls  pool thread, 6 workers, 0 spare"} <= set(out.splitlines())
    _, out, _ = call("graph", cwd=tree)
    assert '[label="server (service, group calls)"];' in out
    assert '[label="free.sh"];' in out


def test_a_group_that_nobody_describes(tree, call):
    script(tree / "z.sh", meta='group = "cals"')
    for words in (["run"], ["list"], ["graph"], ["explain", "z.sh"]):
        code, _, err = call(*words, cwd=tree)
        assert code == 4
        assert err.splitlines() == [
            "error: z.sh: there is no group 'cals'", f"  at: {tree}/z.sh", "  hint: did you mean 'calls'?"
        ]  # fmt: skip


def test_mistakes_in_the_configuration(tree, call):
    write(tree / "pexen.toml", TOML + '[groups.more]\npool = "treads"\n')
    code, _, err = call("run", cwd=tree)
    assert code == 4
    assert err.splitlines() == [
        "error: group 'more': there is no pool 'treads'", f"  at: {tree}/pexen.toml:10", "  hint: did you mean 'thread'?"
    ]  # fmt: skip


def test_twice_in_both_places(tree, call):
    write(tree / "pexenfile.py", "\nGROUPS = {'vms': {}}\n")
    code, _, err = call("run", cwd=tree)
    assert code == 4
    assert err.splitlines()[:3] == [
        "error: two groups are named 'vms'", f"  at: {tree}/pexenfile.py:2", f"  and at: {tree}/pexen.toml:6"
    ]  # fmt: skip


def test_pyproject_has_groups_as_well(tree, call):
    (tree / "pexen.toml").unlink()
    write(tree / "pyproject.toml", re.sub(r"\[groups", "[tool.pexen.groups", TOML))
    _, out, _ = call("explain", "vms/disk.sh", cwd=tree)
    assert "  group: vms  2 workers, ordered" in out.splitlines()


def test_a_module_uses_the_groups_of_the_folder(tree):
    write(tree / "mod.py", "import pexen\n@pexen.task(group='vms')\ndef one(): pass\n")
    done = pexen("run", "mod", cwd=tree)
    assert done.returncode == 0, done.stderr
    assert lines_of(done) == {"mod/one": "passed"}


def test_tasks_of_a_catalogue_bring_their_groups_along(tree):
    write(tree / "other" / "pexen.toml", "[groups.theirs]\nworkers = 1\n")
    write(
        tree / "other" / "pexenfile.py",
        """\
        import pexen
        GROUPS = {"more": {}}
        @pexen.task(group="theirs", provides="one")
        def one(): pass
        @pexen.task(group="more", provides="two")
        def two(): pass
        """,
    )
    write(tree / "main" / "pexen.toml", 'catalogue = "../other"\n')
    script(tree / "main" / "a.sh", meta='requires = ["one", "two"]')
    done = pexen("run", cwd=tree / "main")
    assert done.returncode == 0, done.stderr
    assert lines_of(done) == {"one": "passed", "two": "passed", "a.sh": "passed"}
