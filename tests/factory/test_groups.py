"""What a tree says about groups: tables, pexenfiles, and which mistakes are told with which line."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import pexen
from pexen.errors import DefinitionError
from pexen.factory import here
from pexen.factory.collect import collect
from pexen.factory.groups import Grouping, check, from_group, from_table, merged
from pexen.model.modules import TREE_MODULES
from pexen.pool.local import LocalPool
from tests.factory.trees import isolate, plant


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(here, "_PACKAGES", {})
    before, entered = set(sys.modules), set(TREE_MODULES)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for name in set(TREE_MODULES) - entered:
        del TREE_MODULES[name]


def at(*keys):
    return "file:" + ".".join(keys)


def test_a_table_says_all_there_is():
    table = {"pool": "thread", "workers": 100, "spare": 0, "ordered": True}
    assert from_table("syscalls", table, at) == Grouping("syscalls", "file:", "thread", 100, 0, ordered=True)
    assert from_table("vms", {}, at) == Grouping("vms", "file:", "", None, None, ordered=False)


@pytest.mark.parametrize(
    ("table", "headline", "key", "hint"),
    [
        ({"pool": "tread"}, "there is no pool 'tread'", "pool", "did you mean 'thread'?"),
        ({"pool": 3}, "there is no pool 3", "pool", "thread, process, async, inline"),
        ({"pool": ["thread"]}, "there is no pool ['thread']", "pool", ""),
        ({"workers": 0}, "workers must be a whole number from 1, not 0", "workers", ""),
        ({"workers": True}, "workers must be a whole number from 1, not True", "workers", ""),
        ({"workers": 1.5}, "workers must be a whole number from 1, not 1.5", "workers", ""),
        ({"workers": 2, "pool": "inline"}, "inline runs one task at a time", "workers", ""),
        ({"spare": -1}, "spare must be a whole number from 0, not -1", "spare", ""),
        ({"spare": 1, "pool": "async"}, "the pool 'async' has no spare", "spare", "thread and process have"),
        ({"ordered": "yes"}, "ordered must be true or false, not 'yes'", "ordered", ""),
        ({"worker": 3}, "unknown key 'worker'", "worker", "did you mean 'workers'?"),
        ({"tasks": []}, "unknown key 'tasks'", "tasks", ""),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_the_line_of_the_key(table, headline, key, hint):
    with pytest.raises(DefinitionError) as caught:
        from_table("g", table, at)
    assert (caught.value.headline, caught.value.where) == (f"group 'g': {headline}", f"file:{key}")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("pool", "described"),
    [
        (None, ("", None, None)),
        (pexen.ThreadPool(100, spare=3), ("thread", 100, 3)),
        (pexen.ProcessPool(5), ("process", 5, None)),
        (pexen.ProcessPool(5, spare=0), ("process", 5, 0)),
        (pexen.AsyncPool(7), ("async", 7, None)),
        (pexen.InlinePool(), ("inline", None, None)),
        (LocalPool(3), ("thread", 3, None)),
        (LocalPool(3, callables="process"), ("process", 3, None)),
        (LocalPool(3, callables=pexen.ThreadPool(9, spare=1)), ("thread", 3, 1)),
    ],
)
def test_pools_of_pexen_are_described(pool, described):
    group = pexen.Group("g", pool=pool, ordered=True)
    assert from_group(group, "g", at) == Grouping("g", "file:g", *described, ordered=True)


class Own(pexen.ThreadPool):
    """It may do anything."""


@pytest.mark.parametrize("pool", [Own(2), LocalPool(callables=Own(2)), pexen.CommandPool(2), object()])
def test_other_pools_are_refused(pool):
    with pytest.raises(DefinitionError, match="a tree cannot have") as caught:
        from_group(pexen.Group("g", pool=pool), "g", at)
    assert "thread, process, async, inline" in caught.value.hint


def test_executors_and_fork_servers_are_refused():
    with ThreadPoolExecutor(1) as executor:
        group = pexen.Group("g", pool=pexen.ExecutorPool(executor))
        with pytest.raises(DefinitionError, match="a tree cannot have ExecutorPool for a group"):
            from_group(group, "g", at)
    with pytest.raises(DefinitionError, match="worker processes started by 'forkserver'"):
        from_group(pexen.Group("g", pool=pexen.ProcessPool(2, start="forkserver")), "g", at)


def test_two_places_are_one_too_many():
    one, other = Grouping("g", "a:1", workers=2), Grouping("g", "b:7", workers=2)
    assert merged([one], [one]) == {"g": one}, "a tree that is collected twice"
    with pytest.raises(DefinitionError) as caught:
        merged([one], [other])
    assert caught.value.where == "b:7"
    assert ("and at", "a:1") in caught.value.facts


def test_who_is_in_a_group_that_nobody_describes_is_told_with_its_line():
    tasks = [pexen.Task(print, "a", group="g"), pexen.Task(print, "b", group="grup")]
    check(tasks[:1], {"g": Grouping("g")}, {})
    with pytest.raises(DefinitionError, match="b: there is no group 'grup'") as caught:
        check(tasks, {"group": Grouping("group"), "g": Grouping("g")}, {"b": "file:3"})
    assert (caught.value.where, caught.value.hint) == ("file:3", "did you mean 'group'?")


TREE = {
    "pexenfile.py": """
        import pexen

        @pexen.task
        def one(): pass

        other = pexen.Task(print, "other", tags="t")

        @pexen.task(group="late")
        def third(): pass

        GROUPS = [
            pexen.Group("solo", [one, other], pool=pexen.ThreadPool(3, spare=0)),
            pexen.Group("late", ordered=True),
        ]
    """,
    "below/pexenfile.py": """
        GROUPS = {
            "vms": {"pool": "process", "workers": 5},
        }
        defaults = dict(group="vms")
    """,
    "below/run.sh": "#!/bin/sh\n",
}


@pytest.mark.parametrize("child", [isolate, None], ids=["in a child", "here"])
def test_pexenfiles_describe_groups_and_say_who_is_in_them(tmp_path, child):
    found = collect(plant(tmp_path, TREE), isolate=child)
    assert list(found.groups) == [
        Grouping("solo", f"{tmp_path}/pexenfile.py:12", "thread", 3, 0),
        Grouping("late", f"{tmp_path}/pexenfile.py:13", ordered=True),
        Grouping("vms", f"{tmp_path}/below/pexenfile.py:2", "process", 5),
    ]
    assert {task.name: task.group for task in found.tasks} == {
        "one": "solo", "other": "solo", "third": "late", "below/run.sh": "vms"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "headline", "line"),
    [
        ("GROUPS = 3", "GROUPS has 3, which is no group", 2),
        ("GROUPS = 'abc'", "GROUPS has 'abc', which is no group", 2),
        ("GROUPS = [{'name': 'x'}]", "GROUPS has {'name': 'x'}, which is no group", 2),
        ("GROUPS = {'x': 3}", "the group 'x' must be a table", 2),
        ("GROUPS = {\n  'x': {\n    'worker': 3}}", "group 'x': unknown key 'worker'", 4),
        ("GROUPS = {'': {}}", "a group needs a name", 2),
        ("GROUPS = {'y': pexen.Group('x')}", "the group 'x' stands under 'y'", 2),
        ("GROUPS = [pexen.Group('x'),\n  pexen.Group('x')]", "two groups are named 'x'", 2),
        ("GROUPS = [pexen.Group('x', [print])]", "the group 'x' has a member that is no task of this file", 2),
        ("import os\nGROUPS = [pexen.Group('x', pool=os)]", "group 'x': a tree cannot have module for a group", 3),
        ("GROUPS = {'x': {}, 'vms': {}}", "two groups are named 'vms'", None),
    ],
)
def test_mistakes_in_pexenfiles_have_file_and_line(tmp_path, text, headline, line):
    plant(tmp_path, {"pexenfile.py": f"import pexen\n{text}\n", "z/pexenfile.py": "GROUPS = {'vms': {}}\n"})
    with pytest.raises(DefinitionError) as caught:
        collect(tmp_path, isolate=isolate)
    where = f"{tmp_path}/pexenfile.py:{line}" if line else f"{tmp_path}/z/pexenfile.py:1"
    assert (caught.value.headline, caught.value.where) == (headline, where)


def test_groups_stand_at_the_root_of_the_configuration(tmp_path):
    plant(tmp_path, {"pexen.toml": "", "below/pexen.toml": "[groups.x]\nworkers = 1\n"})
    with pytest.raises(DefinitionError, match="unknown key 'groups'") as caught:
        collect(tmp_path)
    assert "belongs to the root" in caught.value.hint
