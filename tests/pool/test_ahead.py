"""How many attempts are sent ahead of time."""

import pytest

from pexen.pool.ahead import MOST, Ahead, Fixed


def after(*durations: float) -> int:
    ahead = Ahead()
    for duration in durations:
        ahead.note(duration)
    return ahead.count


def test_one_while_nothing_is_known() -> None:
    assert after() == 1


@pytest.mark.parametrize(
    ("duration", "count"),
    [(0.0, MOST), (1e-6, MOST), (0.002 / 64, MOST), (0.0001, 20), (0.0005, 4), (0.00099, 2), (0.001, 0), (600.0, 0)],
)
def test_two_milliseconds_of_short_tasks_and_none_of_long_ones(duration: float, count: int) -> None:
    assert after(duration) == count
    assert after(*[duration] * 100) == count


def test_one_long_task_ends_it_and_short_ones_bring_it_back() -> None:
    assert after(*[1e-6] * 100, 1.0) == 0
    assert after(*[1e-6] * 100, 1.0, *[1e-6] * 30) == 0
    assert after(*[1e-6] * 100, 1.0, *[1e-6] * 100) == MOST


def test_one_short_task_among_long_ones_changes_nothing() -> None:
    assert after(*[0.01] * 100, 1e-6) == 0


@pytest.mark.parametrize(("spare", "workers", "count"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2)])
def test_a_given_number_stays(spare: int, workers: int, count: int) -> None:
    fixed = Fixed(spare, workers)
    fixed.note(1e-6)
    assert fixed.count == count
