import re
import sys
from types import ModuleType

import pytest

from pexen.errors import DefinitionError
from pexen.factory.module import ModuleFactory
from tests.factory.trees import paths, plant


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write modules and make them importable; forget them afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield lambda files: plant(tmp_path, files)
    for name in set(sys.modules) - before:
        del sys.modules[name]


SUITE = """
    from functools import partial
    import pexen
    from other import imported, TASK as THEIRS
    from third import *
    import other

    @pexen.task
    def zulu(): pass

    @pexen.task(path="sub/alpha", requires=zulu, tags="t")
    def alpha(): pass

    def test_plain(): pass
    def helper(): pass
    def _hidden(): pass

    instance = pexen.Task(helper, timeout=3)
    named = pexen.Task(helper, path="own")
    shell = pexen.command("make check")
    alias = zulu
    half = partial(helper)

    class Odd:
        def __getattr__(self, name):
            raise RuntimeError("outside of its context")
    odd = Odd()

    @pexen.task
    class Callable:
        pass
"""
OTHERS = {
    "other.py": "import pexen\n@pexen.task\ndef imported(): pass\nTASK = pexen.Task(imported)\n",
    "third.py": "import pexen\nSTAR = pexen.command('true')\n",
}


def test_tasks_defined_in_a_module_in_order_of_definition(modules):
    modules({"suite.py": SUITE, **OTHERS})
    found = list(ModuleFactory("suite")())
    wanted = ["zulu", "sub/alpha", "instance", "own", "shell", "Callable"]
    assert paths(found) == [f"suite/{name}" for name in wanted]
    zulu, alpha, instance = found[:3]
    assert alpha.requires == (zulu.callable,)
    assert alpha.tags == ("t",)
    assert instance.timeout == 3
    module = sys.modules["suite"]
    assert instance is not module.instance
    assert module.instance.path is None


@pytest.mark.parametrize(
    ("match", "extra"),
    [
        ("test_*", ["test_plain"]),
        (re.compile("test"), ["test_plain"]),
        (lambda name: name in {"helper", "half"}, ["helper", "half"]),
        ("imported", []),
        ("_h*", ["_hidden"]),
    ],
)
def test_match_takes_plain_callables_too(modules, match, extra):
    modules({"suite.py": SUITE, **OTHERS})
    found = paths(ModuleFactory("suite", match=match, path="")())
    assert [path for path in found if path not in paths(ModuleFactory("suite", path="")())] == extra


def test_a_module_object_and_another_place(modules):
    modules({"pkg/suite.py": SUITE, **OTHERS})
    import pkg.suite

    assert isinstance(pkg.suite, ModuleType)
    assert paths(ModuleFactory(pkg.suite)())[0] == "suite/zulu"
    assert paths(ModuleFactory(pkg.suite, path="a/b")())[0] == "a/b/zulu"
    assert paths(ModuleFactory("pkg.suite", path="")())[0] == "zulu"


def test_every_call_gives_new_tasks_with_references_to_each_other(modules):
    modules({"suite.py": "import pexen\ndef f(): pass\na = pexen.Task(f)\nb = pexen.Task(f, requires=a)\n"})
    factory = ModuleFactory("suite")
    (a, b), (c, d) = factory(), factory()
    assert b.requires == (a,)
    assert d.requires == (c,)
    assert a is not c


@pytest.mark.parametrize(
    ("source", "problem", "line"),
    [
        ("x = 1\nx = (\n", "raised SyntaxError", 2),
        ("import pexen\n\nraise SystemExit(3)\n", "raised SystemExit: 3", 3),
        ("import pexen\n@pexen.task(tiemout=3)\ndef f(): pass\n", "unknown metadata 'tiemout'", 2),
        ("import json\njson.loads('{')\n", "raised JSONDecodeError", None),
    ],
)
def test_errors_have_file_and_line(modules, source, problem, line):
    root = modules({"broken.py": source})
    with pytest.raises(DefinitionError) as caught:
        ModuleFactory("broken")()
    assert problem in str(caught.value)
    assert caught.value.where
    if line:
        assert caught.value.where == f"{root}/broken.py:{line}"
    assert "broken" not in sys.modules


def test_a_missing_module_is_named_once(modules):
    modules({"lacking.py": "import nothere\n", "suite.py": ""})
    with pytest.raises(DefinitionError, match="there is no module 'siute'"):
        ModuleFactory("siute")()
    with pytest.raises(DefinitionError, match="No module named 'nothere'") as caught:
        ModuleFactory("lacking")()
    assert caught.value.where.endswith("lacking.py:1")
