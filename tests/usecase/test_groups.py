"""Groups in a program of one's own: those of its tree, and those that it gives."""

import os
import threading

import pytest

import pexen
from pexen.errors import DefinitionError
from pexen.usecase import Suite
from pexen.usecase.config import groups
from tests.cli.tools import DEADLINE, script, write


@pytest.fixture
def tree(tmp_path, monkeypatch):
    write(tmp_path / "pexen.toml", "[groups.own]\nworkers = 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(suite):
    return {path: result.value for path, result in suite.results.items()}


def test_the_roots_files_describe_groups(tree):
    write(tree / "pyproject.toml", "[tool.pexen.groups.more]\nordered = true\n")
    assert [(one.name, one.where, one.ordered) for one in groups(str(tree))] == [
        ("more", f"{tree}/pyproject.toml:1", True), ("own", f"{tree}/pexen.toml:1", False)
    ]  # fmt: skip
    write(tree / "pexen.toml", "groups = 3\n")
    with pytest.raises(DefinitionError, match="groups must be a table"):
        groups(str(tree))


def test_a_tree_brings_its_groups(tree, capfd):
    script(tree / "a.sh", "echo hello", meta='group = "own"')
    write(
        tree / "pexenfile.py",
        """\
        import os
        import pexen
        @pexen.task
        def one(): return os.getpid()
        GROUPS = [pexen.Group("threads", [one], pool=pexen.ThreadPool(2))]
        """,
    )
    suite = Suite(".", verbosity=1)
    assert suite.run() == 0, capfd.readouterr().err
    assert names(suite) == {"a.sh": None, "one": os.getpid()}
    out, err = capfd.readouterr()
    assert (out, "    | hello" in err.splitlines()) == ("", True)


def test_groups_are_given_among_the_tasks_or_beside_them(tree, capfd):
    barrier = threading.Barrier(3)

    def call():
        barrier.wait(DEADLINE)
        return threading.current_thread().name.startswith("pexen-")

    several = [pexen.Task(call, f"call{number}") for number in range(3)]
    suite = Suite(
        tasks=[pexen.Group("calls", [*several, pexen.command("echo hello", path="cmd")], pool=pexen.ThreadPool(3)), os.getpid],
        groups=[pexen.Group("alone", [pexen.Task(os.getppid, "child")])],
        jobs=1, verbosity=1,
    )  # fmt: skip
    assert suite.run() == 0, capfd.readouterr().err
    found = names(suite)
    assert found.pop("child") == os.getpid(), "by default in a worker process, as others"
    del found["getpid"]
    assert found == {"call0": True, "call1": True, "call2": True, "cmd": None}
    assert capfd.readouterr().out == "", "what commands of groups print is kept, too"


def test_inline_is_inline_in_groups_as_well(tree):
    mine = threading.get_ident()
    given = pexen.Group("threads", [threading.get_ident], pool=pexen.ThreadPool(3))
    suite = Suite(tasks=[given, pexen.Task(threading.get_ident, "b", group="own")], inline=True)
    assert suite.run() == 0
    assert names(suite) == {"get_ident": mine, "b": mine}


def test_groups_may_be_changed(tree):
    class Mine(Suite):
        def groups(self):
            return [*super().groups(), pexen.Group("late", pool=pexen.ThreadPool(1))]

    suite = Mine(tasks=[pexen.Task(os.getpid, "a", group="late")])
    assert suite.run() == 0
    assert names(suite) == {"a": os.getpid()}


def test_a_group_of_the_program_and_one_of_the_tree_do_not_go_together(tree, capsys):
    assert Suite(tasks=[os.getpid], groups=[pexen.Group("own")]).run() == 4
    assert "two groups are named 'own'" in capsys.readouterr().err
