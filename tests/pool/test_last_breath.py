"""Who is about to end by himself when the process of a task has ended was not left behind."""

from __future__ import annotations

import pytest

import pexen
from pexen.pool import tree


@pytest.mark.parametrize(("seconds", "status"), [(30.0, "passed"), (0.0, "warned")])
def test_a_child_that_ends_a_moment_later_has_not_leaked(monkeypatch, seconds, status):
    monkeypatch.setattr(tree, "LAST_BREATH", seconds)
    result = pexen.run([pexen.command("sleep 0.1 & exit 0", path="brief")])["brief"]
    assert result.status == status
    assert bool(result.leaked) == (status == "warned")


def test_who_stays_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(tree, "LAST_BREATH", 0.01)
    result = pexen.run([pexen.command("sleep 1000 & exit 0", path="daemon")])["daemon"]
    assert result.leaked == "1 process (sleep)"


def test_who_was_asked_to_end_gets_no_time(monkeypatch):
    monkeypatch.setattr(tree, "LAST_BREATH", 30.0)
    task = pexen.command("sleep 1000 & wait", path="asked", timeout=0.2)
    result = pexen.run([task])["asked"]
    assert (result.status, result.duration < 20) == ("timeout", True)
