import sys

import pytest

from pexen.errors import DefinitionError
from pexen.factory.modtree import ModTreeFactory
from pexen.model.modules import TREE_MODULES
from tests.factory.trees import paths, plant

TASK = "import pexen\n@pexen.task\ndef {}(): pass\n"


@pytest.fixture(autouse=True)
def _forget():
    before, entered = set(sys.modules), set(TREE_MODULES)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for name in set(TREE_MODULES) - entered:
        del TREE_MODULES[name]


def package(tmp_path, top="suite"):
    return plant(
        tmp_path,
        {
            f"{top}/__init__.py": TASK.format("top"),
            f"{top}/zulu.py": TASK.format("z"),
            f"{top}/alpha.py": "from suite.kernel.fs.quota import q\n" + TASK.format("a"),
            f"{top}/kernel/__init__.py": "",
            f"{top}/kernel/fs/quota.py": TASK.format("q"),
            f"{top}/kernel/mm.py": "def test_plain(): pass\n",
            f"{top}/__main__.py": "raise SystemExit\n",
            f"{top}/not-a-module.py": "raise SystemExit\n",
            f"{top}/.hidden/x.py": "raise SystemExit\n",
            f"{top}/data.txt": "",
        },
    )


WANTED = ["suite/top", "suite/alpha/a", "suite/zulu/z", "suite/kernel/fs/quota/q"]


def test_a_package_and_everything_below(tmp_path, monkeypatch):
    package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert paths(ModTreeFactory("suite")()) == WANTED
    assert paths(ModTreeFactory("suite", path="x")())[-1] == "x/kernel/fs/quota/q"
    assert paths(ModTreeFactory("suite.kernel", match="test_*")()) == ["kernel/mm/test_plain", "kernel/fs/quota/q"]


def test_the_same_by_folder_without_touching_the_path(tmp_path):
    package(tmp_path)
    before = list(sys.path)
    assert paths(ModTreeFactory(tmp_path / "suite")()) == WANTED
    assert sys.path == before
    assert sys.modules["suite.kernel.fs.quota"].q.__module__ == "suite.kernel.fs.quota"
    assert TREE_MODULES["suite.kernel.fs.quota"] == str(tmp_path / "suite/kernel/fs/quota.py")


def test_a_folder_inside_a_package_is_imported_as_part_of_it(tmp_path):
    package(tmp_path)
    (found,) = ModTreeFactory(tmp_path / "suite/kernel")()
    assert found.callable.__module__ == "suite.kernel.fs.quota"


def test_a_plain_folder_is_imported_by_its_own_name(tmp_path):
    plant(
        tmp_path, {"plain/one.py": TASK.format("f"), "plain/sub/two.py": "from plain.one import f\n" + TASK.format("g")}
    )
    assert paths(ModTreeFactory(str(tmp_path / "plain"))()) == ["plain/one/f", "plain/sub/two/g"]


def test_a_single_module_is_a_tree_too(tmp_path, monkeypatch):
    plant(tmp_path, {"lone.py": TASK.format("f")})
    monkeypatch.syspath_prepend(tmp_path)
    assert paths(ModTreeFactory("lone")()) == ["lone/f"]


@pytest.mark.parametrize("by_folder", [False, True])
def test_no_half_imported_module_stays_after_an_error(tmp_path, monkeypatch, by_folder):
    package(tmp_path)
    plant(tmp_path, {"suite/kernel/zz.py": "import suite.alpha\n\n1 / 0\n"})
    if not by_folder:
        monkeypatch.syspath_prepend(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    with pytest.raises(DefinitionError, match="raised ZeroDivisionError") as caught:
        ModTreeFactory(tmp_path / "suite" if by_folder else "suite")()
    assert caught.value.where == f"{tmp_path}/suite/kernel/zz.py:3"
    assert not {name for name in set(sys.modules) - before if name.startswith("suite")}
    assert sys.path == path
    assert not [name for name in TREE_MODULES if name.startswith("suite.")]
    (tmp_path / "suite/kernel/zz.py").write_text(TASK.format("mended"))
    assert "suite/kernel/zz/mended" in paths(ModTreeFactory(tmp_path / "suite")())


def test_a_folder_named_like_something_loaded_is_refused(tmp_path):
    plant(tmp_path, {"a/twin/one.py": TASK.format("f"), "b/twin/one.py": TASK.format("g")})
    assert paths(ModTreeFactory(tmp_path / "a/twin")()) == ["twin/one/f"]
    with pytest.raises(DefinitionError, match="already loaded from elsewhere"):
        ModTreeFactory(tmp_path / "b/twin")()
    plant(tmp_path, {"json/one.py": TASK.format("f")})
    import json  # noqa: F401 - the one that is in the way

    with pytest.raises(DefinitionError, match="already loaded"):
        ModTreeFactory(tmp_path / "json")()


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DefinitionError, match="not a folder"):
        ModTreeFactory(tmp_path / "none")()
    with pytest.raises(DefinitionError, match="there is no module 'no'"):
        ModTreeFactory("no.such")()
