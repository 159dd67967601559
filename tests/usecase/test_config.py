"""What a root's files say there is for tasks to take."""

import pytest

from pexen.errors import DefinitionError
from pexen.usecase.config import resources
from tests.cli.tools import write


def test_resources_are_amounts_or_units(tmp_path):
    write(tmp_path / "pyproject.toml", "[tool.pexen.resources]\ncpu = 4\nram = 1.5\n")
    write(tmp_path / "pexen.toml", '[resources]\ncpu = 8\ngpu = ["0", "1"]\n')
    assert resources(str(tmp_path)) == {"cpu": 8, "ram": 1.5, "gpu": ["0", "1"]}
    write(tmp_path / "pexen.toml", "[resources]\ncpu = true\n")
    with pytest.raises(DefinitionError, match="cpu must be an amount"):
        resources(str(tmp_path))
