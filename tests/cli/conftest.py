"""What tests of the command line share."""

import sys

import pytest

from pexen.cli.main import main


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "pexen.toml").write_text("")
    return tmp_path


@pytest.fixture
def home(tree):
    (tree / ".pexen" / "runs").mkdir(parents=True)
    return tree / ".pexen"


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command line in this process, for commands that run no tasks; return exit code, output and errors."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PEXEN_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def it(*words, cwd=None):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        code = main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return it
