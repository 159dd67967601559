"""A task that is to be tried again later: it goes back, and is not offered before the verb `again`."""

import pytest

from pexen import any_of
from pexen.core.locks import OVERTAKES
from pexen.errors import InternalError
from tests.core.hand import Hand, make

WAITS = "waits to be tried again"


def queued(hand):
    """Whom `next` will look at."""
    return [str(entry[3].path) for queue in hand.planner._queues.values() for entry in queue.entries()]


def test_it_is_ready_and_not_offered_before_again():
    hand = Hand(make("a"), make("b", requires="/a"))
    for _ in range(3):
        assert hand.start() == "a"
        hand.requeue("a", later=True)
        assert queued(hand) == []
        assert (hand.state("a"), hand.planner.running, hand.planner.unfinished) == ("ready", 0, 2)
        assert hand.is_waiting()
        assert not hand.is_over()
        assert hand.why("a") == f"a: ready\n  {WAITS}"
        assert "a (ready)" in hand.why("b")
        hand.again("a")
    assert hand.run() == ["a", "b"]
    assert hand.is_over()


def test_what_it_held_is_given_to_others_meanwhile():
    hand = Hand(make("a", claims="x"), make("b", claims="x"), make("c"))
    assert hand.starts() == ["a", "c"]
    hand.requeue("a", later=True)
    assert hand.starts() == ["b"]
    hand.again("a")
    assert hand.starts() == []
    assert "held by b" in hand.why("a")
    hand.finish("b", "c")
    assert hand.run() == ["a"]


def test_again_it_takes_its_old_place():
    hand = Hand(make("a"), make("b"), make("c"))
    hand.starts()
    for path in ("b", "a"):
        hand.requeue(path, later=True)
    hand.requeue("c")
    hand.again("b", "a")
    assert hand.starts() == ["a", "b", "c"]


@pytest.mark.parametrize("meta", [{"claims": "x"}, {"once": True}, {"resources": {"r": 1}}, {"alone": True}], ids=str)
@pytest.mark.parametrize("order", ["free first", "again first"])
def test_when_its_processes_may_still_live_it_needs_both_words(meta, order):
    hand = Hand(make("a", **meta), make("b", **meta), resources={"r": 1})
    assert hand.start() == "a"
    hand.requeue("a", free=False, later=True)
    hand.cancel("b")
    assert hand.starts() == []
    assert "not gone yet" in hand.why("a")
    assert WAITS in hand.why("a")
    words = [hand.free, hand.again] if order == "free first" else [hand.again, hand.free]
    last = words[-1]
    for word in words:
        assert hand.starts() == []
        assert not hand.planner.is_stuck(asked=True)
        assert not hand.is_over()
        word("a")
        assert queued(hand) == (["a"] if word is last else [])
    assert hand.starts() == ["a"]
    hand.finish("a")
    assert hand.is_over()


def test_a_task_that_takes_nothing_needs_only_again():
    hand = Hand(make("a"))
    hand.start()
    hand.requeue("a", free=False, later=True)
    hand.again("a")
    assert hand.starts() == ["a"]


def test_again_does_nothing_for_who_does_not_wait_for_it():
    hand = Hand(
        make("run"), make("end"), make("bad"), make("blocked", requires="/run"), make("free", claims="x"),
        make("up", service=True), make("user", requires="/up"),
    )  # fmt: skip
    hand.starts()
    hand.finish("end")
    hand.fail("bad")
    hand.provide("up")
    hand.requeue("free", free=False)
    hand.add(make("ready"), make("out"))
    hand.cancel("out")
    before = {path: hand.state(path) for path in hand.planner._nodes}
    hand.again(*before)
    assert {path: hand.state(path) for path in before} == before
    assert hand.starts() == ["user", "ready"]
    hand.requeue("run", later=True)
    hand.again("run", "run")
    assert hand.starts() == ["run"], "and once"


def test_only_what_runs_is_requeued():
    hand = Hand(make("a"))
    hand.start()
    hand.requeue("a", later=True)
    for verb in (hand.planner.requeue, hand.planner.finish, hand.planner.provide):
        with pytest.raises(InternalError):
            verb(hand.task("a"))
    assert hand.is_waiting()


# -- leaving while it waits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("free", [True, False])
def test_it_is_cancelled_like_any_that_has_not_started(free):
    hand = Hand(make("a", claims="x"), make("b", requires="/a"), make("c", after="/a"), make("d", claims="x"))
    hand.start()
    hand.requeue("a", free=free, later=True)
    assert hand.cancel("a", reason="enough") == ["a", "b"]
    assert hand.fallen == {"a": "enough", "b": "a was cancelled"}
    assert hand.planner.waiting_to_be_tried == 0
    hand.again("a")
    assert hand.starts() == (["c", "d"] if free else ["c"])
    hand.free("a")
    hand.again("a")
    assert hand.starts() == ([] if free else ["d"])
    hand.finish("c", "d")
    assert hand.is_over()


def test_a_drain_takes_it_out_but_spares_clean_ups_which_keep_waiting():
    hand = Hand(make("a"), make("clean", cleanup=True), make("late"))
    hand.starts()
    hand.requeue("a", later=True)
    hand.requeue("clean", later=True)
    assert hand.drain() == ["a"]
    hand.requeue("late", later=True)
    assert hand.cancelled == {"a", "late"}
    hand.again("a", "late")
    assert hand.is_waiting()
    hand.again("clean")
    assert hand.starts() == ["clean"]
    hand.requeue("clean", later=True)
    assert hand.is_waiting()
    assert hand.drain(cleanups=False) == ["clean"]
    hand.again("clean")
    assert hand.starts() == []
    assert hand.is_over()


def test_poison_on_what_it_needs_skips_it_at_once():
    """It does not wait for an hour to be told so."""
    hand = Hand(make("a", claims="x"), make("b", uses=["x", "z"]), make("c", uses="y"), make("d", requires="/a"))
    assert hand.starts() == ["a", "c"]
    hand.requeue("a", later=True)
    hand.requeue("c", later=True)
    assert hand.starts() == ["b"]
    hand.finish("b")
    hand.add(make("bad", claims=["x", "z"]))
    assert hand.starts() == ["bad"]
    assert hand.poison("bad") == ["a", "d"]
    assert "bad left it so" in hand.fallen["a"]
    assert "bad left it so" in hand.fallen["d"]
    hand.fail("bad")
    hand.again("a")
    assert hand.is_waiting()
    hand.again("c")
    assert hand.run() == ["c"]
    assert hand.is_over()


# -- is that all that is left? -----------------------------------------------------------------------------------------


def test_while_anything_runs_the_rest_does_not_only_wait():
    hand = Hand(make("a"), make("b"))
    assert not hand.planner.is_waiting()
    hand.starts()
    assert not hand.is_waiting()
    hand.requeue("a", later=True)
    assert (hand.planner.waiting_to_be_tried, hand.is_waiting()) == (1, False)
    hand.requeue("b", later=True)
    assert (hand.planner.waiting_to_be_tried, hand.is_waiting()) == (2, True)
    hand.again("a")
    assert hand.start() == "a"
    assert (hand.planner.waiting_to_be_tried, hand.is_waiting()) == (1, False)
    hand.finish("a")
    assert hand.is_waiting()
    hand.cancel("b")
    assert (hand.planner.waiting_to_be_tried, hand.is_waiting(), hand.is_over()) == (0, False, True)


def test_who_is_blocked_by_one_that_waits_waits_too():
    hand = Hand(make("a"), make("b", requires="/a"), make("c", after="/b"), make("d", requires=any_of("/b", "/c")))
    hand.start()
    hand.requeue("a", later=True)
    assert hand.is_waiting()


def test_a_service_that_is_up_for_it_is_not_in_the_way():
    """Nor is who waits for a lock of that service, which comes down when the last that requires it has ended."""
    db = make("db", claims="x", service=True)
    hand = Hand(db, make("a", requires="/db"), make("b", claims="x"), make("c", after="/db"))
    assert hand.starts() == ["db"]
    hand.provide("db")
    assert hand.starts() == ["a"]
    hand.requeue("a", later=True)
    assert (hand.planner.running, hand.is_waiting()) == (1, True)
    hand.again("a")
    hand.finish(hand.start())
    assert hand.leave() == ["db"]
    assert hand.run() == ["b", "c"]
    assert hand.is_over()


def test_who_waits_for_the_processes_of_another_comes_first():
    hand = Hand(make("a"), make("holder", claims="x"), make("next", claims="x"))
    assert hand.starts() == ["a", "holder"]
    hand.requeue("a", later=True)
    hand.finish("holder", free=False)
    assert not hand.is_waiting(), "next may start before"
    hand.free("holder")
    assert hand.starts() == ["next"]
    hand.requeue("next", free=False)
    assert not hand.is_waiting(), "next may start once more"
    hand.free("next")
    assert hand.starts() == ["next"]
    hand.finish("next", free=False)
    assert hand.is_waiting(), "nobody needs what those processes keep"
    hand = Hand(make("a", claims="x"), make("next", claims="x"))
    assert hand.starts() == ["a"]
    hand.requeue("a", free=False, later=True)
    assert not hand.is_waiting(), "its own processes keep the lock that next needs"


def test_what_fell_is_taken_first_since_others_may_start_after_it():
    hand = Hand(make("a"), make("b", priority=1), make("c", after="/b"))
    assert hand.start() == "a"
    hand.requeue("a", later=True)
    hand.planner._cancel([hand.planner._nodes["b"]], "enough")
    assert not hand.planner.is_waiting()
    hand.note(hand.planner.take_fallen())
    assert hand.run() == ["c"]
    assert hand.is_waiting()


def test_sleepers_are_not_given_up_while_it_may_still_fail():
    """The lazy alternative of one that waits is needed when that has failed for good."""
    hand = Hand(
        make("a"), make("lazy", lazy=True), make("then", after="/lazy"), make("x", requires=any_of("/a", "/lazy"))
    )
    assert hand.start() == "a"
    hand.requeue("a", later=True)
    assert hand.is_waiting()
    assert not hand.fallen
    hand.again("a")
    hand.fail(hand.start())
    assert hand.run() == ["lazy", "then", "x"]
    assert hand.is_over()


def test_whoever_holds_the_run_does_not_change_the_answer():
    hand = Hand(make("a"))
    hand.planner.hold()
    hand.start()
    hand.requeue("a", later=True)
    assert hand.is_waiting()
    hand.again("a")
    hand.finish(hand.start())
    assert not hand.is_waiting()
    assert not hand.is_over()
    hand.planner.release()
    assert hand.is_over()


# -- beside locks and fairness -----------------------------------------------------------------------------------------


def test_while_it_waits_it_stands_in_no_line():
    """Nobody overtakes it, however many start; it is refused for the first time after `again`."""
    hand = Hand(make("a", claims="x"))
    hand.start()
    hand.requeue("a", later=True)
    for number in range(2 * OVERTAKES):
        hand.add(make(f"u{number}", uses="x"))
        assert hand.start() == f"u{number}"
    assert hand.planner._barrier is None
    hand.again("a")
    assert hand.start() is None
    for number in range(3 * OVERTAKES):
        hand.add(make(f"v{number}", uses="x", estimate=9))
        if hand.start() is None:
            break
    assert hand.planner._barrier is hand.planner._nodes["a"]
    assert number == OVERTAKES


def test_a_barrier_that_was_found_behind_others_is_not_found_there_again():
    """It started from the middle of its queue, where its entry still stands."""
    hand = Hand(make("hold"), make("all", alone=True, pool="other"), pools=("default", "other"))
    running = [hand.start()]
    assert hand.start("other") is None
    hand.add(*(make(f"heavy{n}", pool="other", estimate=9) for n in range(5)))
    for number in range(OVERTAKES):
        hand.add(make(f"t{number}"))
        running.append(hand.start())
        hand.finish(running.pop(0))
    hand.finish(*running)
    assert hand.start("other") == "all"
    assert hand.planner._nodes["all"] in [entry[3] for entry in hand.planner._queues["other"].entries()]
    hand.requeue("all", later=True)
    heavy = hand.starts("other")
    assert heavy == [f"heavy{n}" for n in range(5)]
    hand.finish(*heavy)
    assert hand.is_waiting()
    hand.again("all")
    assert hand.starts("other") == ["all"]
