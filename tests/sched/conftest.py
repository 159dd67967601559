"""What tests of runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sched.machine import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine that can be booted."""
    return Machine(tmp_path, monkeypatch)
