"""The tree: one walk with everything that can configure it. Also what pexenfiles may hold."""

import os
import sys

import pytest

from pexen.errors import DefinitionError
from pexen.factory import here
from pexen.factory.facts import Facts
from pexen.factory.params import Params
from pexen.factory.tree import TreeFactory, find_root, place_in
from pexen.model.command import Command
from pexen.model.modules import TREE_MODULES
from pexen.model.task import Task
from tests.factory.trees import paths, plant


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(here, "_PACKAGES", {})
    before, entered = set(sys.modules), set(TREE_MODULES)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for name in set(TREE_MODULES) - entered:
        del TREE_MODULES[name]


@pytest.fixture
def tree(tmp_path):
    """Plant a tree and return its tasks by path."""

    def grow(files, **more) -> dict[str, Task]:
        plant(tmp_path, files)
        return {task.path: task for task in TreeFactory(tmp_path, **more)()}

    return grow


@pytest.fixture
def wrong(tree, tmp_path):
    """Plant a tree that is wrong; return the error and where it is, relative to the root."""

    def grow(files, problem, **more):
        with pytest.raises(DefinitionError, match=problem) as caught:
            tree(files, **more)
        return caught.value.where.removeprefix(f"{tmp_path}/"), str(caught.value)

    return grow


def test_a_folder_without_any_configuration(tree, tmp_path):
    found = tree({"b.sh": "", "a/c.sh": "", "a/data": "", "a.sh": "", ".x/y.sh": ""})
    assert list(found) == ["a/c.sh", "a.sh", "b.sh"]
    task = found["a/c.sh"]
    assert task.callable == Command((f"{tmp_path}/a/c.sh",), f"{tmp_path}/a")
    assert task.meta is found["b.sh"].meta
    assert not task.meta


def test_order_within_a_folder(tree):
    found = tree(
        {
            "pexenfile.py": """
                import pexen
                @pexen.task
                def zulu(): pass
                def tasks(here):
                    yield here.command("true", path="yankee")
                @pexen.task
                def alpha(): pass
            """,
            "b.sh": "",
            "m.pexen.toml": "[tasks.z]\nrun = 'a'\n[tasks.y]\nrun = 'a'\n",
            "z/pexenfile.py": "import pexen\n@pexen.task\ndef x(): pass\n",
            "a/b.sh": "",
        }
    )
    assert list(found) == ["zulu", "alpha", "yankee", "a/b.sh", "b.sh", "z", "y", "z/x"]


def test_defaults_are_inherited_along_the_folders(tree):
    found = tree(
        {
            "pexen.toml": "[defaults]\ntimeout = '1m'\ntags = ['all']\nuses = ['net']\n",
            "a/pexenfile.py": """
                import pexen
                defaults = dict(timeout=5, tags={"a"}, requires="db", resources={"cpu": 2})
                @pexen.task(tags="own", timeout=None)
                def f(db): pass
                @pexen.task(requires=None, tags=None)
                def free(): pass
            """,
            "a/x.sh": "# /// pexen\n# tags = ['x']\n# requires = 'more'\n# resources = {gpu = 1}\n# ///\n",
            "a/b/pexen.toml": "[defaults]\ntags = 'b'\n",
            "a/b/y.sh": "",
            "a/b/t.pexen.toml": "[defaults]\ntimeout = 7\n[tasks.t]\nrun = 'true'\ntags = 't'\n",
            "z.sh": "",
        }
    )
    assert found["z.sh"].tags == ("all",)
    assert found["a/f"].tags == ("all", "a", "own")
    assert found["a/f"].timeout is None
    assert (found["a/f"].requires, found["a/free"].requires, found["a/free"].tags) == (("db",), (), ())
    assert found["a/x.sh"].tags == ("all", "a", "x")
    assert found["a/x.sh"].requires == ("db", "more")
    assert found["a/x.sh"].resources == {"cpu": 2, "gpu": 1}
    assert found["a/x.sh"].uses == ("net",)
    assert found["a/b/y.sh"].tags == ("all", "a", "b")
    assert (found["a/b/y.sh"].timeout, found["a/b/t"].timeout) == (5, 7)
    assert found["a/b/t"].tags == ("all", "a", "b", "t")


def test_sidecars_win_over_comment_blocks_key_by_key(tree):
    found = tree(
        {
            "x.sh": "#!/bin/sh\n# /// pexen\n# timeout = 3\n# tags = 'block'\n# provides = 'p'\n# ///\n",
            "x.sh.pexen.toml": "tags = 'sidecar'\n",
        }
    )
    task = found["x.sh"]
    assert (task.timeout, task.tags, task.provides) == (3, ("sidecar",), ("p",))


def test_a_sidecar_of_what_is_not_executable_is_an_error(wrong):
    where, text = wrong({"x.py": "", "x.py.pexen.toml": "tags = 'a'\n"}, "'x.py' is not executable")
    assert where == "x.py.pexen.toml"
    assert "chmod +x x.py" in text


def test_files_and_ignore_apply_below_the_folder_that_says_so(tree):
    found = tree(
        {
            "pexen.toml": "ignore = ['lib/*']\n",
            "lib/x.sh": "",
            "lib/pexenfile.py": "raise SystemExit",
            "a/pexenfile.py": "files = ['*.py']\nignore = {'skip*'}\n",
            "a/y.sh": "",
            "a/z.py": "#!/usr/bin/env python3\n",
            "a/lib/z.py": "#!/usr/bin/env python3\n",
            "a/skip.py": "#!/usr/bin/env python3\n",
            "a/b/pexen.toml": "files = ['*.sh']\n",
            "a/b/y.sh": "",
            "a/b/skip.sh": "",
            "b/y.sh": "",
        }
    )
    assert list(found) == ["a/b/y.sh", "a/lib/z.py", "a/z.py", "b/y.sh"]


def test_tool_pexen_configures_the_root_and_other_keys_belong_to_others(tree, wrong):
    found = tree(
        {
            "pyproject.toml": "[tool.pexen]\nignore = ['x.sh']\n[tool.pexen.run]\njobs = 4\n[tool.pexen.defaults]\ntags = 't'\n",
            "x.sh": "",
            "y.sh": "",
            "sub/pyproject.toml": "this is [ not for us",
        }
    )
    assert list(found) == ["y.sh"]
    assert found["y.sh"].tags == ("t",)
    where, _ = wrong({"pyproject.toml": "[tool.pexen.defaults]\n\ntgas = 't'\n"}, "unknown metadata 'tgas'")
    assert where == "pyproject.toml:3"


@pytest.mark.parametrize(
    ("files", "problem", "where"),
    [
        ({"pexen.toml": "ignore = 3\n"}, "ignore must be a list", "pexen.toml:1"),
        ({"pexen.toml": "root = true\n[defaults]\ntiemout = 3\n"}, "unknown metadata 'tiemout'", "pexen.toml:3"),
        ({"pexen.toml": "catalog = 'services'\n"}, "did you mean 'catalogue'", "pexen.toml:1"),
        (
            {"pyproject.toml": "[tool.pexen]\nroot = true\n[tool.pexen.provider]\n"},
            "unknown key 'provider'",
            "pyproject.toml:3",
        ),
        ({"pexen.toml": "[defaults]\nprovides = 'x'\n"}, "'provides' is never inherited", "pexen.toml:2"),
        ({"pexen.toml": "defaults = 3\n"}, "defaults must be a table", "pexen.toml:1"),
        ({"a/pexen.toml": "jobs = 3\n"}, "unknown key 'jobs'", "a/pexen.toml:1"),
        ({"a/pexen.toml": "ignroe = []\n"}, "did you mean 'ignore'", "a/pexen.toml:1"),
        (
            {"pexenfile.py": "\ndefaults = dict(\n    timeout=3,\n    tgas='x')\n"},
            "unknown metadata 'tgas'",
            "pexenfile.py:4",
        ),
        ({"pexenfile.py": "defaults = {'timeout': 'soon'}\n"}, "timeout must be a duration", "pexenfile.py:1"),
        ({"pexenfile.py": "\ndefaults = 3\n"}, "defaults must be a dict", "pexenfile.py:2"),
        ({"pexenfile.py": "\ndefaults = {'args': [1]}\n"}, "'args' is never inherited", "pexenfile.py:2"),
        ({"pexenfile.py": "\ndefaults = {3: 1}\n"}, "unknown metadata '3'", "pexenfile.py:2"),
        ({"pexenfile.py": "x = 1\ndefaults = dict(\n  when='oss')\n"}, "no fact 'oss'", "pexenfile.py:3"),
        ({"pexenfile.py": "\n\nfiles = 3\n"}, "files must be a list", "pexenfile.py:3"),
        ({"x.sh": "# /// pexen\n# tgas = 'x'\n# ///\n"}, "unknown metadata 'tgas'", "x.sh:2"),
        ({"x.sh": "# /// pexen\n# when = 'oss'\n# ///\n"}, "no fact 'oss'", "x.sh:2"),
        ({"x.sh": "", "x.sh.pexen.toml": "\ntgas = 'x'\n"}, "unknown metadata 'tgas'", "x.sh.pexen.toml:2"),
        ({"a/t.pexen.toml": "[tasks.x]\n"}, "either run or python", "a/t.pexen.toml:1"),
        ({"a/t.pexen.toml": "[tasks.x]\npython = 'no.py:f'\n"}, "there is no file 'no.py'", "a/t.pexen.toml:1"),
        ({"t.pexen.toml": "[tasks.x]\npython = 'json:dmups'\n"}, "did you mean 'dumps'", "t.pexen.toml:1"),
        ({"t.pexen.toml": "[tasks.x]\npython = 'json:__name__'\n"}, "no callable but str", "t.pexen.toml:1"),
        ({"t.pexen.toml": "[tasks.x]\npython = 'nothere:f'\n"}, "No module named 'nothere'", "t.pexen.toml:1"),
        ({"t.pexen.toml": "[tasks.x]\npython = 'h.py:f'\n", "h.py": "\n1/0"}, "ZeroDivisionError", "h.py:2"),
    ],
)
def test_mistakes_have_file_and_line(wrong, files, problem, where):
    assert wrong(files, problem)[0] == where


@pytest.mark.parametrize(
    ("source", "problem", "line"),
    [
        ("x = 1\nx = (\n", "SyntaxError", 2),
        ("\n1 / 0\n", "pexenfile.py raised ZeroDivisionError: division by zero", 2),
        ("\nimport sys\nsys.exit(3)\n", "raised SystemExit: 3", 3),
        ("def f():\n    raise GeneratorExit\nf()\n", "raised GeneratorExit", 2),
        ("class Own(BaseException): pass\nraise Own('x')\n", "raised Own: x", 2),
        ("import pexen\n\n@pexen.task(tiemout=3)\ndef f(): pass\n", "unknown metadata 'tiemout'", 3),
        ("import pexen\n@pexen.task(when='oss')\ndef f(): pass\n", "no fact 'oss'", 2),
        ("import pexen\n\nx = pexen.Task(print, host='rot')\n", "host: 'rot' is not known", 3),
        ("import pexen\n@pexen.task(path='../x')\ndef f(): pass\n", "not a valid task path", 2),
        ("import nothere\n", "No module named 'nothere'", 1),
        ("import json\njson.loads('{')\n", "JSONDecodeError", 2),
        ("class Bad(Exception):\n  def __str__(self): 1/0\nraise Bad\n", "raised Bad: .its message", 3),
        ("def tasks(here):\n    yield 1\n", "yielded int", 2),
        ("def tasks(here):\n    return None\n", "returned NoneType", None),
        ("def tasks():\n    yield 1\n", "must take one argument", 1),
        ("def tasks(here):\n    yield here.comand('x')\n", "AttributeError", 2),
        ("def tasks(here):\n    yield here.command(3)\n", "a command is a string", 2),
        ("def tasks(here):\n    yield here.command('x', tiemout=1)\n", "unknown metadata", 2),
        ("def tasks(here):\n    yield here.command('x', path='../x')\n", "not a valid task path", 2),
        ("def tasks(here):\n    here.param('n', 1)\n    1 / 0\n    yield\n", "tasks.here. raised ZeroDivisionError", 3),
        ("def tasks(here):\n    here.param('n')\n    yield\n", "'n' must be given", 2),
        ("null\0 = 1\n", "null byte|source code string", None),
    ],
)
def test_mistakes_in_a_pexenfile(wrong, source, problem, line):
    where, _ = wrong({"a/pexenfile.py": source}, problem)
    if line:
        assert where == f"a/pexenfile.py:{line}"
    if "def tasks" not in source and "rot" not in source and "oss" not in source and "../x" not in source:
        assert not [name for name in sys.modules if name.startswith("pexen_tree.a.")]


def test_two_tasks_at_one_path_name_both_places(wrong):
    where, text = wrong(
        {"a/x.sh": "", "a/pexenfile.py": "import pexen\n@pexen.task(path='x.sh')\ndef f(): pass\n"},
        "two tasks have the path 'a/x.sh'",
    )
    assert where == "a/x.sh"
    assert "a/pexenfile.py:2" in text


HERE = """
    import datetime as dt
    import enum
    from pathlib import Path
    import pexen

    class Mode(enum.Enum):
        FAST = 1
        SLOW = 2

    def check(name, *, mode): pass

    @pexen.task
    def db(): pass

    def tasks(here):
        assert here.path == Path(__file__).parent
        assert here.facts.os == "plan9"
        day = here.param("day", dt.date(2025, 1, 1), help="which day")
        mode = here.param("mode", Mode.FAST, type=Mode)
        for source in here.glob("*.c"):
            argv = ["./build.sh", source.name, str(day)]
            yield here.command(argv, path=source.stem, env={"LANG": "C"}, requires=db)
        with here.level("checks"):
            yield here.task(check, args=["a"], kwargs={"mode": mode}, path="a")
            yield check
            yield lambda: None
        yield here.command("make | tail", cwd="sub", teardown="../clean.sh")
        yield from here.run(lambda: [pexen.Task(check, path="inner")], "level")
        yield check
        yield check
"""


def test_what_here_can_do(tree, tmp_path):
    files = {"a/pexenfile.py": HERE, "a/build.sh": "", "a/clean.sh": "", "a/x.c": "", "a/y.c": "", "a/other.sh": ""}
    params = Params({"day": "2025-12-31", "mode": "SLOW"})
    found = tree(files, params=params, facts=Facts.of(os="plan9"))
    wanted = ["db", "x", "y", "checks/a", "checks/check", "checks/lambda", "make", "level/inner", "check", "check#2"]
    assert list(found) == [f"a/{name}" for name in (*wanted, "other.sh")]
    folder = f"{tmp_path}/a"
    assert found["a/x"].callable == Command((f"{folder}/build.sh", "x.c", "2025-12-31"), folder, (("LANG", "C"),))
    assert found["a/make"].callable == Command(("/bin/sh", "-c", "make | tail"), f"{folder}/sub", shell=True)
    assert found["a/x"].requires == (found["a/db"].callable,)
    assert found["a/checks/a"].kwargs["mode"].name == "SLOW"
    assert [(one.name, one.type, one.default, one.help) for one in params.asked.values()] == [
        ("day", "date", "2025-01-01", "which day"),
        ("mode", "Mode", "FAST", ""),
    ]
    assert params.asked["day"].where == f"{folder}/pexenfile.py:18"


def test_unknown_parameters_are_refused_after_collecting(tree, wrong):
    files = {"pexenfile.py": "def tasks(here):\n    here.param('day', 'x')\n    return []\n"}
    assert tree(files, params={"day": "y"}) == {}
    _, text = wrong(files, "no parameter 'dya'", params={"dya": "y"})
    assert "did you mean 'day'" in text
    wrong({"x.sh": ""}, "no parameter", params={"b": "1"})


def test_executables_that_a_task_wraps_are_not_collected_again(tree):
    found = tree(
        {
            "tools/probe.sh": "",
            "tools/free.sh": "",
            "a/pexenfile.py": "def tasks(here):\n    yield here.command(['../tools/probe.sh', '-v'], path='probe')\n",
            "b/t.pexen.toml": "[tasks.w]\nrun = './w.sh --all | tail'\n",
            "b/w.sh": "",
            "b/same.pexen.toml": "[tasks.'w2.sh']\nrun = ['./w2.sh']\n",
            "b/w2.sh": "",
            "c/up.sh": "# /// pexen\n# service = true\n# ready = 'file:up'\n# teardown = 'down.sh'\n# ///\n",
            "c/down.sh": "",
        }
    )
    assert sorted(found) == ["a/probe", "b/w", "b/w2.sh", "c/up.sh", "tools/free.sh"]


def test_python_in_a_task_file(tree):
    found = tree(
        {
            "a/t.pexen.toml": "[tasks.x]\npython = 'helpers.py:Class.check'\ntags = 'file'\n[tasks.y]\npython = 'os:getpid'\n",
            "a/helpers.py": "import pexen\nclass Class:\n    @pexen.task(tags='own', timeout=3)\n    def check(): return 5\n",
        }
    )
    assert found["a/x"].callable() == 5
    assert (found["a/x"].tags, found["a/x"].timeout) == (("file",), 3)
    assert found["a/y"].callable is os.getpid


def test_pexenfiles_import_their_neighbours(tree):
    found = tree(
        {
            "pexenfile.py": "SHARED = 'root'\n",
            "my-tests/v1.2/pexenfile.py": """
                import pexen
                from .helpers import check
                from ...pexenfile import SHARED

                @pexen.task
                def f(): return check(), SHARED, __name__
            """,
            "my-tests/v1.2/helpers.py": "def check(): return 'helped'\n",
        }
    )
    assert found["my-tests/v1.2/f"].callable() == ("helped", "root", "pexen_tree.my_x2d_tests.v1_x2e_2.pexenfile")


def test_a_function_named_like_a_folder_with_a_pexenfile_stays_a_function(tree):
    task = "import pexen\n@pexen.task\ndef clients(): return 'function'\n"
    tree({"net/pexenfile.py": task, "net/clients/pexenfile.py": task})
    assert sys.modules["pexen_tree.net.pexenfile"].clients() == "function"
    assert sys.modules["pexen_tree.net.clients.pexenfile"].clients() == "function"


def test_no_byte_code_and_the_newest_text(tree, tmp_path):
    source = "import pexen\n@pexen.task\ndef f(): return {}\n"
    first = tree({"pexenfile.py": source.format(1)})["f"]
    again = tree({})["f"]
    assert first.callable is again.callable
    assert first is not again
    file = tmp_path / "pexenfile.py"
    status = file.stat()
    file.write_text(source.format(2))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert tree({})["f"].callable() == 2
    assert not (tmp_path / "__pycache__").exists()


def test_two_trees_in_one_process(tmp_path):
    source = "import pexen\n@pexen.task\ndef f(): return {}\n"
    plant(tmp_path, {"a/pexenfile.py": source.format(1), "b/pexenfile.py": source.format(2)})
    (one,), (two,) = TreeFactory(tmp_path / "a")(), TreeFactory(tmp_path / "b")()
    assert (one.callable(), two.callable()) == (1, 2)
    assert one.callable.__module__ == "pexen_tree.pexenfile"
    assert two.callable.__module__ != one.callable.__module__


def test_module_names_of_different_folders_differ():
    names = [
        "a",
        "a-b",
        "a_b",
        "a.b",
        "a_x2d_b",
        "_x",
        "__x",
        "x_x",
        "1a",
        "_x31_a",
        "pexenfile",
        "_x70_exenfile",
        "é",
        "a b",
    ]
    names += ["\udcff", "_xdcff_", "é".encode().decode("latin-1")]
    made = [here._component(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(name.isidentifier() and name.isascii() for name in made)
    assert made[0] == "a"


def test_requirements_between_task_values(tree):
    found = tree(
        {
            "a/pexenfile.py": """
                import pexen
                def f(): pass
                db = pexen.Task(f)
                user = pexen.Task(f, requires=db)
                def tasks(here):
                    yield here.task(f, path="late", requires=db, after={user})
            """,
        }
    )
    assert found["a/user"].requires == (found["a/db"],)
    assert found["a/late"].requires == (found["a/db"],)
    assert found["a/late"].after == (found["a/user"],)


def test_every_call_gives_new_tasks(tmp_path):
    plant(tmp_path, {"x.sh": "", "pexenfile.py": "import pexen\n@pexen.task\ndef f(): pass\n"})
    factory = TreeFactory(tmp_path)
    first, second = list(factory()), list(factory())
    assert paths(first) == paths(second) == ["f", "x.sh"]
    assert not set(map(id, first)) & set(map(id, second))


def test_links_to_folders_are_configured_where_they_stand(tmp_path):
    plant(
        tmp_path,
        {"common/x.sh": "", "a/pexen.toml": "[defaults]\ntags = 'a'\n", "b/pexen.toml": "[defaults]\ntags = 'b'\n"},
    )
    for name in "ab":
        (tmp_path / name / "common").symlink_to("../common")
    (tmp_path / "common/up").symlink_to("..")
    found = {task.path: task.tags for task in TreeFactory(tmp_path)()}
    assert found == {"a/common/x.sh": ("a",), "b/common/x.sh": ("b",), "common/x.sh": ()}


def test_configuration_that_is_no_file(tmp_path):
    plant(tmp_path, {"x.sh": ""})
    for name in ("pexenfile.py", "pexen.toml", "x.sh.pexen.toml"):
        os.mkfifo(tmp_path / name, 0o777)
    (tmp_path / "pyproject.toml").mkdir()
    assert paths(TreeFactory(tmp_path)()) == ["x.sh"]


def test_a_pexenfile_in_a_folder_with_an_undecodable_name(tmp_path):
    folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff"))
    os.mkdir(folder)
    with open(f"{folder}/pexenfile.py", "w") as file:
        file.write("import pexen\n@pexen.task\ndef f(): return 3\n")
    (task,) = TreeFactory(tmp_path)()
    assert task.path == r"\xff/f"
    assert task.callable() == 3


# -- the root ---------------------------------------------------------------------------------------------------------


def test_the_root_is_the_nearest_marked_folder(tmp_path):
    plant(
        tmp_path,
        {
            "top/.git/x": "",
            "top/a/pexen.toml": "",
            "top/a/b/c/x.sh": "",
            "top/p/pyproject.toml": "[tool.pexen]\n",
            "top/q/pyproject.toml": "[tool.other]\n# pexen\n",
            "top/r/pyproject.toml": "broken pexen [",
            "top/part/pexen.toml": "root = false\n",
            "top/broken/pexen.toml": "not [ toml",
            "none/x/y.sh": "",
        },
    )
    top = f"{tmp_path}/top"
    for path, root in {
        "top/a/b/c": "a",
        "top/a/b/c/x.sh": "a",
        "top/a/b/not/there": "a",
        "top/p": "p",
        "top/q": "",
        "top/r": "",
        "top/part": "",
        "top/broken": "broken",
        "top": "",
    }.items():
        assert find_root(tmp_path / path) == f"{top}/{root}".rstrip("/"), path


def test_without_marks_it_is_the_folder_itself(tmp_path, monkeypatch):
    plant(tmp_path, {"none/x/y.sh": ""})
    monkeypatch.setattr("pexen.factory.tree._is_root", lambda folder: False)
    assert find_root(tmp_path / "none/x") == f"{tmp_path}/none/x"
    assert find_root(tmp_path / "none/x/y.sh") == f"{tmp_path}/none/x"


def test_places_in_the_tree(tmp_path, monkeypatch):
    root = str(tmp_path)
    assert place_in(root, tmp_path) == ""
    assert place_in(root, f"{root}/a/../b/x.sh") == "b/x.sh"
    monkeypatch.chdir(tmp_path)
    assert place_in(root, "a/b/") == "a/b"
    assert place_in(root, "..a") == "..a"
    with pytest.raises(DefinitionError, match="not below the root"):
        place_in(root, "..")


def test_what_is_said_of_services_arrives_and_is_not_inherited(tree, wrong):
    said = {"service": True, "ready": "port:8080", "teardown": "down.sh", "restarts": 2}
    toml = "service = true\nready = 'port:8080'\nteardown = 'down.sh'\nrestarts = 2\n"
    block = "# /// pexen\n" + "".join(f"# {line}\n" for line in toml.splitlines()) + "# ///\n"
    found = tree(
        {
            "a/up.sh": block,
            "b/up.sh": "",
            "b/up.sh.pexen.toml": toml,
            "c/t.pexen.toml": f"[tasks.up]\nrun = ['./up.sh']\n{toml}",
            "c/up.sh": "",
            "d/pexenfile.py": f"def tasks(here):\n    yield here.command(['./up.sh'], path='up', **{said!r})\n",
            "d/up.sh": "",
            **{f"{folder}/down.sh": "" for folder in "abcd"},
        }
    )
    assert sorted(found) == ["a/up.sh", "b/up.sh", "c/up", "d/up"]
    assert [{key: task.meta.get(key) for key in said} for task in found.values()] == [said] * 4
    wrong({"a.pexen.toml": "[tasks.x]\nrun = 'x'\nservice = true\nready = 'prot:1'\n"}, "unknown check 'prot:1'")
    wrong({"pexenfile.py": "defaults = dict(service=True)\n"}, "'service' is never inherited")
