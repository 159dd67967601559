"""What tests of programs share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _forgets_modules_of_trees() -> Iterator[None]:
    """A suite in this process imports the files of its tree; other tests look whether a collection has left any."""
    yield
    for name in [name for name in sys.modules if name.startswith("pexen_tree")]:
        del sys.modules[name]
