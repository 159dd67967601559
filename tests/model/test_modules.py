import sys
from importlib import import_module

import pytest

from pexen.model.modules import TREE_MODULES, load


@pytest.fixture(autouse=True)
def _forget():
    before, entered = set(sys.modules), dict(TREE_MODULES)
    yield
    TREE_MODULES.clear()
    TREE_MODULES.update(entered)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_under_a_name_that_no_path_leads_to(tmp_path):
    (tmp_path / "anything.py").write_text("x = __name__\n")
    TREE_MODULES["synthetic.deep.name"] = str(tmp_path / "anything.py")
    assert load("synthetic.deep.name").x == "synthetic.deep.name"
    assert load("synthetic.deep.name") is sys.modules["synthetic.deep.name"]
    assert import_module("synthetic.deep").__path__ == []
    with pytest.raises(ModuleNotFoundError):
        load("synthetic.other")


def test_a_folder_is_a_package_in_which_files_find_each_other(tmp_path):
    (tmp_path / "main.py").write_text("from .beside import y\n")
    (tmp_path / "beside.py").write_text("y = 3\n")
    TREE_MODULES.update({"planted": str(tmp_path), "planted.main": str(tmp_path / "main.py")})
    assert load("planted.main").y == 3


def test_no_byte_code_is_written_or_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "changing.py"
    TREE_MODULES["changing_module"] = str(file)
    for number in range(3):
        file.write_text(f"x = {number}\n")
        assert load("changing_module").x == number
        del sys.modules["changing_module"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["changing.py"]


def test_a_module_that_raises_is_not_left_behind(tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    TREE_MODULES["bad_module"] = str(tmp_path / "bad.py")
    with pytest.raises(ZeroDivisionError):
        load("bad_module")
    assert "bad_module" not in sys.modules
