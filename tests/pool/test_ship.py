"""How callables leave the runner: by name, by code, or pickled, and what tells them apart."""

import collections
import functools
import json
import marshal
import os
import os.path
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pexen.pool import load, ship, start
from tests.contract import deeds


def helper():
    return 1


def decorator(function):
    @functools.wraps(function)
    def wrapper():
        return function()

    return wrapper


@decorator
def decorated():
    return 2


class Outer:
    class Inner:
        def method(self):
            return 3

    @staticmethod
    def static():
        return 4


def of_main(source: str, **more):
    """Return the function ``task`` of a made-up script."""
    namespace = {"__name__": "__main__", **more}
    exec(textwrap.dedent(source), namespace)
    return namespace["task"]


def form_of(function) -> str:
    return ship._recipe(function)[0]


def loaded(function):
    """Return the function as a worker would have it."""
    form, *recipe = marshal.loads(marshal.dumps(ship._recipe(function)))
    return load.FORMS[form](*recipe)


@pytest.mark.parametrize(
    "what", [helper, decorated, Outer, Outer.Inner, Outer.Inner.method, Outer.static, len, os.getpid, json.dumps, dict]
)
def test_what_importing_gives_again_goes_by_name(what) -> None:
    assert form_of(what) == "name"
    assert loaded(what) is what


@pytest.mark.parametrize(
    "what",
    [
        decorated.__wrapped__,
        functools.partial(helper),
        Outer().Inner().method,
        [].append,
        deeds.Thing(),
        deeds.Hostile(),
        functools.wraps(helper)(lambda: None),
    ],
    ids=lambda what: type(what).__name__,
)
def test_what_it_does_not_give_goes_another_way(what) -> None:
    assert form_of(what) != "name"


def test_hostile_names_are_no_names() -> None:
    function = of_main("def task(): return 5")
    for name in (None, 1, "", "no.such.module"):
        function.__module__ = name
        assert form_of(function) != "name"
    function.__module__, function.__qualname__ = "os", "path.no.such"
    assert form_of(function) != "name"


BY_CODE = {
    "nothing": "def task(): pass",
    "lambda": "task = lambda: 5",
    "builtins": "def task(): return sorted(map(str, range(3)))",
    "a default": "def task(a=1, b=('x', None)): return a, b",
    "an annotation": "from __future__ import annotations\ndef task(a: Path = 1) -> None: return a",
    "constants": "LIMIT = 3; NAMES = {'a': [1, 2.5, b'x']}\ndef task(): return LIMIT, NAMES",
    "a module": "import os\ndef task(): return os.path.join('a', 'b')",
    "a package": "import json\ndef task(): return json.dumps([1])",
    "a function of a module": "from os.path import join as j\ndef task(): return j('a', 'b')",
    "a class of a module": "from pathlib import Path\ndef task(): return Path('a')",
    "a nested function": "import math\ndef task():\n  def inner(x): return math.floor(x)\n  return [inner(2.5) for _ in 'ab']",
    "its own name": "def task(): return __name__",
    "an import in it": "def task():\n  import math\n  return math.pi",
}


@pytest.mark.parametrize("source", BY_CODE.values(), ids=BY_CODE)
def test_simple_functions_of_main_go_by_code(source: str) -> None:
    function = of_main(source)
    assert form_of(function) == "code"
    again = loaded(function)
    assert again() == function()
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__annotations__"):
        assert getattr(again, attribute) == getattr(function, attribute)


PICKLED = {
    "another function": "def other(): return 1\ndef task(): return other()",
    "itself": "def task(n=1): return task(n - 1) if n else 0",
    "a class": "class Of: pass\ndef task(): return type(Of()).__name__",
    "a closure": "def make():\n  x = [1]\n  return lambda: x\ntask = make()",
    "a keyword-only default": "def task(*, a=1): return a",
    "an attribute": "def task(): return 1\ntask.mine = 2",
    "an object": "import decimal\nhalf = decimal.Decimal('0.5')\ndef task(): return half",
    "a class for an annotation": "def task(a: int = 1): return a",
    "a large constant": "MANY = list(range(100))\ndef task(): return MANY",
    "a submodule": "import os.path, concurrent.futures\ndef task(): return concurrent.futures.ALL_COMPLETED",
}


@pytest.mark.parametrize("source", PICKLED.values(), ids=PICKLED)
def test_others_are_pickled(source: str) -> None:
    function = of_main(source)
    assert form_of(function) == "pickle"
    assert loaded(function)() == function()


def test_metadata_of_a_task_does_not_matter() -> None:
    function = of_main("def task(): return 1")
    function.__pexen__ = {"timeout": object()}
    assert form_of(function) == "code"


def test_lookalikes_of_constants_are_no_constants() -> None:
    class Text(str):
        __slots__ = ()

    for value in (Text("x"), collections.OrderedDict(), bytearray(b"x"), memoryview(b"x"), [[[[1]]]], {"a": {1}}):
        function = of_main("def task(): return VALUE", VALUE=value)
        assert form_of(function) == "pickle" or loaded(function)() == value
        assert not ship._is_plain(value)


def test_a_relative_import_inside_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_for_ship"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("VALUE = 6")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = of_main("def task():\n  from .other import VALUE\n  return VALUE", __package__="package_for_ship")
    assert form_of(function) == "code"
    assert loaded(function)() == 6
    for name in [name for name in sys.modules if name.startswith("package_for_ship")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_standard_descriptor_that_is_closed(tmp_path: Path) -> None:
    """Workers of a runner without standard output get none either, and no other file in its place."""
    code = textwrap.dedent(f"""
        import os, sys
        sys.path[:0] = [{str(Path(__file__).parents[2])!r}, {start._ROOT!r}]
        from pexen.pool.process import ProcessPool
        from tests.contract.drivers import driving, value_of
        os.closerange(0, 3)
        def task():
            import os
            return [os.readlink(f"/proc/self/fd/{{fd}}") for fd in range(3)]
        with driving(ProcessPool(1)) as drive:
            found = value_of(drive.run(task).value)
        open("found", "w").write(" ".join(found))
    """)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=30, check=True)
    assert (tmp_path / "found").read_text() == "/dev/null /dev/null /dev/null"
