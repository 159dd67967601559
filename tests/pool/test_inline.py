"""InlinePool: what is queued and has not begun can be taken out again. What holds for every pool is in ``tests/contract``."""

from functools import partial

from pexen import InlinePool, Status
from tests.pool.box import Box


def test_what_is_cancelled_while_it_waits_is_told_at_once_and_never_run() -> None:
    pool, ran = InlinePool(), []
    box = Box(pool)
    pool.open(box)
    first, second = (box.submit(partial(ran.append, number)) for number in (1, 2))
    for _ in range(2):
        pool.cancel(first, force=False)
    assert {attempt.id: outcome.status for attempt, outcome in box.ended().items()} == {first.id: Status.CANCELLED}
    assert not box.ended()[first].started
    while pool.run_queued():
        pass
    assert ran == [2]
    assert box.ended()[second].status is Status.PASSED
    pool.close()


def test_what_runs_or_has_ended_is_only_told_that_it_was_cancelled() -> None:
    pool = InlinePool()
    box = Box(pool)
    pool.open(box)
    attempt = box.submit(lambda: pool.cancel(attempt, force=True))
    assert pool.run_queued()
    assert attempt.cancelled
    assert box.ended()[attempt].status is Status.PASSED
    pool.cancel(attempt, force=False)
    assert len(box.ended()) == 1
    pool.close()
