"""What `import pexen` promises: its names, its version, and that it costs next to nothing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pexen
import pexen.testing

DEAR = {
    "rich",
    "sqlite3",
    "asyncio",
    "multiprocessing",
    "cloudpickle",
    "inspect",
    "threading",
    "dataclasses",
    "msgspec",
}
HERE = Path(__file__).parents[1]


@pytest.mark.parametrize("package", [pexen, pexen.testing])
def test_every_public_name_can_be_imported(package):
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(package, "no_such_name")  # noqa: B009 - the attribute is not there


def test_the_table_of_homes_says_the_same_as_all():
    assert set(pexen.__all__) == set(pexen._HOME)


def test_importing_pexen_imports_nothing_dear():
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-c", f"import sys; sys.path.insert(0, {str(HERE / 'src')!r}); import pexen"],
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    # Whatever the interpreter's own start (site and its .pth files) has imported is not ours.
    started = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-c", ""], capture_output=True, text=True, timeout=50, check=True
    )
    before = {line.rpartition("|")[2].strip() for line in started.stderr.splitlines()}
    ours = {name for name in lines if name not in before}
    assert "pexen" in ours
    assert not {name.partition(".")[0] for name in ours} & DEAR
    assert not {name for name in ours if name.startswith("pexen.")}


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert pexen.__version__ == project["version"]


def test_it_says_that_it_is_typed():
    assert (Path(pexen.__file__).parent / "py.typed").exists()
