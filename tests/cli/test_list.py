"""``pexen list``: what is there, as a tree, as JSON, as parameters."""

import json

import pytest

from tests.cli.tools import script, write


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    script(tmp_path / "a.sh", meta='tags = ["smoke", "fast"]')
    script(
        tmp_path / "net" / "b.sh",
        meta='requires = ["/a.sh", "db"]\nafter = ["/net/c.sh"]\nclaims = ["disk"]\ntimeout = "5s"',
    )
    script(tmp_path / "net" / "c.sh", meta='provides = ["db"]\nhost = ["cmd:no-such-command"]')
    script(tmp_path / "net" / "d.sh", meta="when = \"os == 'plan9'\"")
    return tmp_path


def test_a_tree_with_tags_and_what_would_be_skipped(tree, call):
    code, out, err = call("list", cwd=tree)
    assert code == 0
    assert out.splitlines() == [
        tree.name,
        "├── a.sh  [smoke, fast]",
        "└── net",
        "    ├── b.sh",
        "    ├── c.sh  would be skipped: needs the command no-such-command",
        "    └── d.sh  would be skipped: needs os == 'plan9' (os is linux)",
    ]
    assert err == "4 tasks\n"


def test_a_terminal_without_unicode_gets_ascii(tree):
    from tests.cli.tools import pexen

    done = pexen("list", cwd=tree, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout.splitlines()[1:4] == ["|-- a.sh  [smoke, fast]", "`-- net", "    |-- b.sh"]


def test_what_is_listed_is_what_was_asked_for_without_requirements(tree, call):
    code, out, err = call("list", "net", "-k", "b or c", cwd=tree)
    assert (code, err) == (0, "2 of 4 tasks\n")
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["net", "b.sh", "c.sh"]


def test_nothing_selected_is_said_and_is_exit_code_5(tree, call):
    code, _, err = call("list", "-k", "nowhere", cwd=tree)
    assert (code, err) == (5, "0 of 4 tasks\n")


def test_hostile_names_are_made_visible(tmp_path, call):
    write(tmp_path / "x\x1b[31m\u202e.sh", "#!/bin/sh\n", executable=True)
    _, out, _ = call("list", cwd=tmp_path)
    assert out.splitlines()[1] == "└── x\\x1b[31m\\u202e.sh"


def test_a_tree_as_deep_as_they_come(tmp_path, call):
    write(
        tmp_path / "pexenfile.py",
        "import pexen\ndef tasks(here):\n    yield here.command('true', path='/'.join(['d'] * 1500))\n",
    )
    code, out, _ = call("list", cwd=tmp_path)
    assert code == 0
    assert len(out.splitlines()) == 1501


def test_json_says_everything_with_a_schema_version(tree, call):
    code, out, _ = call("list", "--json", cwd=tree)
    told = json.loads(out)
    assert code == 0
    assert (told["schema"], told["root"]) == (1, str(tree))
    tasks = {task["path"]: task for task in told["tasks"]}
    assert list(tasks) == ["a.sh", "net/b.sh", "net/c.sh", "net/d.sh"]
    assert tasks["net/b.sh"] == {
        "path": "net/b.sh",
        "where": f"{tree}/net/b.sh",
        "command": [f"{tree}/net/b.sh"],
        "folder": f"{tree}/net",
        "requires": [{"name": "/a.sh", "tasks": ["a.sh"]}, {"name": "db", "tasks": ["net/c.sh"]}],
        "provides": [],
        "after": ["net/c.sh"],
        "skip": None,
        "meta": {"claims": ["disk"], "timeout": 5.0},
    }
    assert tasks["net/c.sh"]["skip"] == "needs the command no-such-command"
    assert tasks["a.sh"]["meta"]["tags"] == ["smoke", "fast"]


def test_json_of_what_json_does_not_have(tmp_path, call):
    write(
        tmp_path / "pexenfile.py",
        """\
        import pexen
        def around(): yield
        @pexen.task(provides=[("disk", 1), "x"], claims=[pexen.tree_lock("/proc")], around=around, kwargs={"n": {"a": [1]}})
        def provider(n): pass
        @pexen.task(requires=[pexen.any_of("x", "y"), pexen.all_of(("disk", 1)), provider])
        def user(provider, disk=None): pass
        @pexen.task(provides="y")
        def other(): pass
        """,
    )
    code, out, err = call("list", "--json", cwd=tmp_path)
    assert code == 0, err
    tasks = {task["path"]: task for task in json.loads(out)["tasks"]}
    assert tasks["provider"]["provides"] == [["disk", 1], "x"]
    assert tasks["provider"]["meta"]["claims"] == [{"tree_lock": "/proc"}]
    assert tasks["provider"]["meta"]["around"] == ["around"]
    assert tasks["provider"]["callable"] == "provider"
    wanted = [one["name"] for one in tasks["user"]["requires"]]
    assert wanted == [{"any_of": ["x", "y"]}, {"all_of": ["disk", 1]}, "/provider"]


def test_parameters(tmp_path, call):
    write(
        tmp_path / "pexenfile.py",
        """\
        import datetime
        def tasks(here):
            day = here.param("day", datetime.date(2025, 1, 31), help="the day to look at")
            here.param("size", 4)
            yield here.command(["echo", str(day)], path="show")
        """,
    )
    code, out, _ = call("list", "--params", cwd=tmp_path)
    assert code == 0
    assert out.splitlines() == [
        f"day: date, default 2025-01-31  the day to look at  ({tmp_path}/pexenfile.py:3)",
        f"size: int, default 4  ({tmp_path}/pexenfile.py:4)",
    ]
    told = json.loads(call("list", "--params", "--json", "-D", "size=9", cwd=tmp_path)[1])
    assert told["schema"] == 1
    assert [one["name"] for one in told["params"]] == ["day", "size"]


def test_a_callable_condition_is_decided_elsewhere_and_its_error_is_told(tmp_path, call):
    write(
        tmp_path / "pexenfile.py",
        """\
        import os, pexen
        def never(facts): return False
        def broken(facts): raise RuntimeError("condition")
        @pexen.task(when=never)
        def a(): pass
        @pexen.task(when=broken)
        def b(): pass
        """,
    )
    code, out, _ = call("list", cwd=tmp_path)
    assert code == 0
    assert "a  would be skipped: the condition never does not hold" in out
    assert "b  would be skipped: its condition cannot be decided: broken raised RuntimeError: condition" in out


def test_colour_only_when_asked_for(tree, call):
    assert "\x1b[" not in call("list", cwd=tree)[1]
    assert "\x1b[" in call("list", "--color", "always", cwd=tree)[1]
