"""When to try again to start a worker."""

from pexen.pool.hiring import LONGEST_PAUSE, TRIES, Hiring


def test_tries_are_further_apart_each_time() -> None:
    hiring, pauses = Hiring(), []
    for _ in range(8):
        hiring.note_failure(100.0, others_work=True)
        pauses.append(round(hiring.next_try - 100.0, 3))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_it_ends_when_nobody_works() -> None:
    hiring = Hiring()
    assert [hiring.note_failure(0, others_work=False) for _ in range(TRIES + 1)] == [False] * (TRIES - 1) + [True] * 2


def test_it_never_ends_while_others_work() -> None:
    hiring = Hiring()
    assert not any(hiring.note_failure(0, others_work=True) for _ in range(10_000))
    assert hiring.next_try == LONGEST_PAUSE
    assert hiring.note_failure(0, others_work=False)


def test_a_success_starts_it_over() -> None:
    hiring = Hiring()
    for _ in range(3):
        assert not any(hiring.note_failure(7, others_work=False) for _ in range(TRIES - 1))
        hiring.note_success()
        assert hiring.next_try == 0
