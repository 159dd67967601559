"""Bounded overtaking: a waiting task tolerates so many conflicting starts, and not one more.

Each test is a stream without end: there is always one more task that conflicts with the one that waits, and always a free
worker for it. Without fairness the waiting one would starve.
"""

import itertools

import pytest

from pexen import tree_lock
from pexen.core.locks import OVERTAKES
from pexen.model.meta import TreeLock
from tests.core.hand import Hand, make


def overtakes(hand, waiting, more, running):
    """Let one more task come and the oldest one end, again and again; return how many start before ``waiting``."""
    numbers, count = itertools.count(), 0
    assert hand.start() is None, f"{waiting} is refused"
    while True:
        hand.add(more(next(numbers)))
        started = hand.start()
        if started == waiting:
            return count
        if started is not None:
            running.append(started)
            count += 1
        assert count <= 10 * OVERTAKES, f"{waiting} starves"
        if running:
            hand.finish(running.pop(0))


STREAMS = {
    "many users and one claimant": ({"uses": "x"}, {"claims": "x"}, {"uses": "x"}),
    "many claimants and one user": ({"claims": "x"}, {"uses": "x"}, {"claims": "x", "estimate": 9}),
    "many claimants and one more": ({"claims": "x"}, {"claims": "x"}, {"claims": "x", "estimate": 9}),
    "small amounts and a large one": ({"resources": {"r": 1}}, {"resources": {"r": 4}}, {"resources": {"r": 1}}),
    "large amounts and a small one": (
        {"resources": {"r": 4}},
        {"resources": {"r": 1}},
        {"resources": {"r": 4}, "estimate": 9},
    ),
    "plain tasks and one alone": ({}, {"alone": True}, {}),
    "locked tasks and one alone": ({"claims": "y"}, {"alone": True}, {"uses": "x"}),
    "claims below a place": ({"claims": tree_lock("/p/q")}, {"uses": tree_lock("/p")}, {"claims": tree_lock("/p/#")}),
}


def numbered(meta, number):
    """Return the metadata with a place of its own for each number."""
    return {**meta, "claims": TreeLock(("p", str(number)))} if isinstance(meta.get("claims"), TreeLock) else meta


def waiting_behind(hold, waiting, **options):
    """Return a planner in which one task waits for what another one holds, and the list of what runs."""
    hand = Hand(hold, **options)
    running = hand.starts()
    hand.add(waiting)
    assert hand.start() is None, f"{waiting} is refused"
    return hand, running


@pytest.mark.parametrize(("holding", "waiting", "stream"), STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_waiting_task_is_overtaken_so_often_and_then_comes_first(holding, waiting, stream, workers):
    """64 conflicting starts, as the documentation says; also when more are running at the same time."""
    shared = "uses" in holding or "r" in holding.get("resources", {}) or not holding
    count = workers if shared and holding.get("resources", {}).get("r", 0) < 4 else 1
    hand = Hand(*(make(f"hold{n}", **holding) for n in range(count)), resources={"r": 4})
    running = hand.starts()
    hand.add(make("waiting", **waiting))
    assert overtakes(hand, "waiting", lambda n: make(f"t{n}", **numbered(stream, n)), running) == OVERTAKES


def test_a_better_priority_may_overtake_for_ever():
    hand = Hand(make("hold", uses="x"), make("waiting", claims="x", priority=1))
    hand.start(), hand.start()
    running = ["hold"]
    for number in range(3 * OVERTAKES):
        hand.add(make(f"t{number}", uses="x"))
        running.append(hand.start())
        hand.finish(running.pop(0))
    assert running[0] == f"t{3 * OVERTAKES - 1}"


def test_a_worse_priority_may_not():
    hand, running = waiting_behind(make("hold", uses="x"), make("waiting", claims="x", priority=-1))
    assert overtakes(hand, "waiting", lambda n: make(f"t{n}", uses="x"), running) == OVERTAKES


def test_one_that_waits_with_a_worse_priority_hides_nobody():
    """The one that waits longest has a worse priority than the stream; behind it stands one that has not."""
    hand = Hand(make("hold", uses="x"), make("patient", claims="x", priority=9))
    running = hand.starts()
    hand.add(make("waiting", claims="x"))
    assert overtakes(hand, "waiting", lambda n: make(f"t{n}", uses="x"), running) == OVERTAKES


def test_one_that_waits_for_something_else_hides_nobody():
    """The one that waits longest does not conflict with the stream; behind it stands one that does."""
    hand = Hand(make("hold", uses=["x", "y"]), make("other", claims="y", uses="x"))
    running = hand.starts()
    hand.add(make("waiting", claims="x"))
    assert overtakes(hand, "waiting", lambda n: make(f"t{n}", uses=["x", "y"]), running) <= OVERTAKES + 1


def test_overtaking_counts_also_while_a_task_is_on_its_way():
    """A claimant is offered the lock, but heavier ones that came later stand before it in the ready queue."""
    hand = Hand(make("hold", claims="x"))
    running = hand.starts()
    hand.add(make("waiting", claims="x"))
    assert overtakes(hand, "waiting", lambda n: make(f"t{n}", claims="x", estimate=50), running) == OVERTAKES


def test_a_task_that_needs_two_things_does_not_starve_between_them():
    """Whenever x is free y is not, and the reverse."""
    hand = Hand(make("x", claims="x"), make("y", claims="y"))
    assert hand.starts() == ["x", "y"]
    hand.add(make("both", claims=["x", "y"]))
    assert hand.start() is None
    last = {"x": "x", "y": "y"}
    for number in range(2 * OVERTAKES + 10):
        name = "xy"[number % 2]
        hand.add(make(f"{name}{number}", claims=name))
        hand.finish(last[name])
        started = hand.start()
        if started is None:
            break
        if started == "both":
            raise AssertionError("it cannot start while one of them is held")
        last[name] = started
    assert number <= 2 * OVERTAKES
    hand.finish(last["y" if name == "x" else "x"])
    assert hand.start() == "both"


def test_nothing_that_conflicts_with_the_barrier_starts_and_everything_else_does():
    hand = Hand(make("hold", uses="x"), make("waiting", claims=["x", "y"]))
    running = hand.starts()
    while hand.planner._barrier is None:
        hand.add(make(f"t{hand.planner._graph.count}", uses="x"))
        running.append(hand.start())
        hand.finish(running.pop(0))
    assert hand.planner._barrier.path == "waiting"
    hand.add(
        make("x", uses="x"), make("y", uses="y"), make("urgent", claims="y", priority=-9), make("free"), make("z", claims="z"),
        make("alone", alone=True, estimate=99),
    )  # fmt: skip
    assert hand.starts() == ["free", "z"]
    assert "kept for waiting" in hand.why("x")
    assert "kept for waiting" in hand.why("alone") or "held by" in hand.why("alone")
    hand.finish(*running, "free", "z")
    assert hand.start() == "waiting"
    assert hand.starts() == []
    hand.finish("waiting")
    assert hand.start() == "urgent"


def test_the_next_barrier_is_the_one_that_has_waited_longest():
    hand, running = waiting_behind(make("hold", uses="x"), make("w2", claims="x"))
    for number in (1, 0):
        hand.add(make(f"w{number}", claims="x", estimate=9))
        assert hand.start() is None
    order = []
    for number in range(1000):
        hand.add(make(f"t{number}", uses="x"))
        while (started := hand.start()) is not None:
            running.append(started)
            order.append(started)
        hand.finish(running.pop(0))
        if sum(path[0] == "w" for path in order) == 3:
            break
    waited = [order.index(f"w{n}") for n in (2, 1, 0)]
    assert waited == sorted(waited)
    assert waited[0] == OVERTAKES
    assert waited[2] <= 3 * OVERTAKES + 3


def test_overtakes_of_one_that_has_started_do_not_count_against_the_next():
    """Two stand in line; those that came later overtake the first, and then, from the beginning, the second."""
    hand, running = waiting_behind(make("hold", claims="x"), make("w1", claims="x"))
    hand.add(make("w2", claims="x"))
    hand.start()
    hand.add(*(make(f"later{number}", claims="x", estimate=5) for number in range(OVERTAKES // 2)))
    hand.start()
    order = []
    for _ in range(OVERTAKES // 2):
        hand.finish(*running)
        running = hand.starts()
        order += running
    hand.finish(*running)
    running = hand.starts()
    assert running == ["w1"], "half of what it tolerates, and then nobody was before it"
    hand.add(*(make(f"more{number}", claims="x", estimate=5) for number in range(OVERTAKES * 2)))
    hand.start()
    while running:
        hand.finish(*running)
        running = hand.starts()
        order += running
    assert order.index("w2") - OVERTAKES // 2 == OVERTAKES


@pytest.mark.parametrize("how", ["cancel", "poison"])
def test_a_barrier_that_leaves_lets_the_others_go_on(how):
    hand = Hand(make("hold", uses="x", claims="y"), make("waiting", claims="x", uses="y"))
    running = hand.starts()
    while hand.planner._barrier is None:
        hand.add(make(f"t{hand.planner._graph.count}", uses="x"))
        running.append(hand.start())
        if running[0] != "hold" or len(running) > 3:
            hand.finish(running.pop(1 if running[0] == "hold" else 0))
    hand.add(make("next", uses="x"))
    assert hand.starts() == []
    if how == "cancel":
        hand.cancel("waiting")
    else:
        hand.poison("hold")
        hand.fail(*running)
    assert hand.starts() == ["next"]
    assert hand.state("waiting") == ("cancelled" if how == "cancel" else "skipped")


def test_who_waits_while_others_run_alone_keeps_its_place():
    """Nobody is refused meanwhile, all stand in the ready queue: priority, longest path, order of addition decide."""
    hand = Hand(make("hold", alone=True), make("plain"), make("all", alone=True), make("last"))
    running, order = hand.starts(), []
    for number in range(5):
        hand.add(make(f"t{number}", alone=True))
    while running:
        hand.finish(running.pop(0))
        started = hand.starts()
        running += started
        order += started
    assert order == ["plain", "last", "all", *(f"t{number}" for number in range(5))]


def test_a_barrier_in_another_pool_is_found_wherever_it_stands_in_the_queue():
    """It waits for all to end, in a pool whose queue is full of better ones."""
    hand = Hand(make("hold"), make("all", alone=True, pool="other"), pools=("default", "other"))
    running = [hand.start()]
    assert hand.start("other") is None
    hand.add(*(make(f"heavy{n}", pool="other", estimate=9) for n in range(5)))
    for number in range(OVERTAKES):
        hand.add(make(f"t{number}"))
        running.append(hand.start())
        hand.finish(running.pop(0))
    assert (hand.start(), hand.start("other")) == (None, None)
    hand.finish(*running)
    assert hand.start() is None
    assert hand.start("other") == "all"
    hand.finish("all")
    assert len(hand.starts("other")) == 5


def test_a_barrier_gets_what_was_offered_to_another_just_before():
    """It waits for a lock that is free, but on offer to one that may not start before it any more."""
    hand = Hand(make("hold", claims="x"), make("all", alone=True, claims="x"), pools=("default", "other"))
    assert hand.starts() == ["hold"]
    hand.add(*(make(f"t{number}", pool="other") for number in range(OVERTAKES)), make("heavy", claims="x", estimate=9))
    others = [hand.start("other") for _ in range(OVERTAKES - 1)]
    assert hand.start() is None
    hand.finish("hold")
    others.append(hand.start("other"))
    assert (hand.start(), hand.start("other")) == (None, None)
    hand.finish(*others)
    assert hand.start() == "all"
    hand.finish("all")
    assert hand.start() == "heavy"


def test_a_barrier_that_is_not_the_first_of_its_queue_is_found():
    """All want the same; the others are heavier, but the barrier has waited longest."""
    hand = Hand(make("hold", claims="x"), make("waiting", claims="x"))
    running = hand.starts()
    hand.add(*(make(f"h{n}", claims="x", estimate=5) for n in range(2 * OVERTAKES)))
    order = []
    while running:
        hand.finish(running.pop(0))
        running = hand.starts()
        order += running
    assert order.index("waiting") == OVERTAKES
    assert hand.is_over()
