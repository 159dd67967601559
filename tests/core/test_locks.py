"""Locks, resources, alone, poison and order: every sentence about them."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen import tree_lock
from pexen.core.locks import CONFLICTS, IS, IX, SIX, Resource, S, X
from pexen.core.node import Node
from pexen.core.ready import ReadyQueue
from pexen.errors import DefinitionError
from tests.core.hand import Hand, make
from tests.core.oracle import clashes

# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_claim_is_exclusive_and_uses_are_shared():
    hand = Hand(
        make("u1", uses="x"), make("u2", uses="x"), make("c1", claims="x"), make("u3", uses="x"), make("o", claims="y")
    )
    assert hand.starts() == ["u1", "u2", "u3", "o"]
    hand.finish("u1", "u2", "o")
    assert hand.starts() == []
    hand.finish("u3")
    assert hand.starts() == ["c1"]


def test_everything_is_taken_at_once_and_nothing_is_held_while_waiting():
    hand = Hand(make("ab", claims=["a", "b"]), make("bc", claims=["b", "c"]), make("c", claims="c"))
    assert hand.starts() == ["ab", "c"], "bc waits for b and does not hold c"
    hand.finish("ab")
    assert hand.starts() == []
    hand.finish("c")
    assert hand.starts() == ["bc"]


def test_locks_are_given_back_when_freed_not_when_finished():
    hand = Hand(make("a", claims="x"), make("b", uses="x"))
    hand.starts()
    hand.fail("a", free=False)
    assert hand.starts() == []
    hand.free("a")
    assert hand.starts() == ["b"]
    hand.free("a")
    hand.planner.check()


def test_a_service_keeps_its_locks_while_it_is_up():
    hand = Hand(make("db", claims="x", service=True), make("query", requires="/db"), make("b", claims="x"))
    assert hand.start() == "db"
    hand.provide("db")
    hand.free("db")
    assert hand.starts() == ["query"]
    hand.finish("query")
    assert hand.starts() == []
    assert hand.leave(free=False) == ["db"]
    assert hand.starts() == []
    hand.free("db")
    assert hand.starts() == ["b"]


def test_a_claim_and_a_use_of_the_same_name_are_a_claim():
    hand = Hand(make("a", claims="x", uses="x"), make("b", uses="x"))
    assert hand.starts() == ["a"]


PLACES = ["/", "/p", "/p/q", "/p/q/r", "/p/s", "/s"]


@pytest.mark.parametrize(("one", "other"), list(itertools.product(PLACES, PLACES)))
@pytest.mark.parametrize(
    ("how", "like"), [("claims", "claims"), ("claims", "uses"), ("uses", "claims"), ("uses", "uses")]
)
def test_a_tree_lock_conflicts_with_ancestors_and_descendants(one, other, how, like):
    """For each pair of places: they conflict when one is above the other and one of the tasks claims."""
    tasks = make("a", **{how: tree_lock(one)}), make("b", **{like: tree_lock(other)})
    above = one == other or "/" in {one, other} or one.startswith(other + "/") or other.startswith(one + "/")
    expected = ["a"] if above and "claims" in {how, like} else ["a", "b"]
    assert Hand(*tasks).starts() == expected
    assert bool(clashes(*tasks)) == (len(expected) == 1), "the oracle agrees"


def test_using_a_place_and_claiming_another_below_it_leaves_the_rest_to_others():
    """They may be used by others, and not claimed; neither S nor IX alone would say so."""
    both = make("both", uses=tree_lock("/p"), claims=tree_lock("/p/q"))
    others = {"uses": ["/p/s", "/s"], "claims": ["/s"]}
    for how, places in others.items():
        for place in places:
            assert Hand(both, make("other", **{how: tree_lock(place)})).starts() == ["both", "other"]
    for how, place in (("uses", "/p/q/r"), ("uses", "/p"), ("claims", "/p/s"), ("claims", "/p/s/t"), ("uses", "/")):
        assert Hand(both, make("other", **{how: tree_lock(place)})).starts() == ["both"]


def test_a_name_is_no_place():
    assert Hand(make("a", claims="p"), make("b", claims=tree_lock("/p"))).starts() == ["a", "b"]


locks = st.lists(st.one_of(st.sampled_from("xy"), st.sampled_from(PLACES).map(tree_lock)), max_size=3)
needing = st.fixed_dictionaries({"claims": locks, "uses": locks})


@given(needing, needing)
def test_two_tasks_run_together_unless_they_clash(one, other):
    """Also when a task has several locks in one tree, of which one is above another."""
    tasks = make("a", **one), make("b", **other)
    assert (Hand(*tasks).starts() == ["a", "b"]) == (not clashes(*tasks))


def test_the_modes_are_those_of_gray():
    """The table in "Granularity of Locks", for each pair of modes."""
    compatible = {
        IS: {IS, IX, S, SIX},
        IX: {IS, IX},
        S: {IS, S},
        SIX: {IS},
        X: set(),
    }
    for mode, bits in enumerate(CONFLICTS):
        assert {other for other in compatible if not bits >> other & 1} == compatible[mode]


# -- resources ---------------------------------------------------------------------------------------------------------


def test_amounts_are_never_overdrawn():
    hand = Hand(
        *(make(f"t{n}", resources={"cpu": 3}) for n in range(4)),
        make("one", resources={"cpu": 1}),
        resources={"cpu": 7},
    )
    assert hand.starts() == ["t0", "t1", "one"]
    hand.finish("one")
    assert hand.starts() == []
    hand.finish("t0")
    assert hand.starts() == ["t2"]


def test_named_units_are_told_and_given_back():
    hand = Hand(
        make("a", resources={"gpu": 2}), make("b", resources={"gpu": 1, "cpu": 1}), make("c", resources={"gpu": 2}),
        resources={"gpu": ["g0", "g1", "g2"], "cpu": 2},
    )  # fmt: skip
    assert hand.starts() == ["a", "b"]
    assert hand.planner.units(hand.task("a")) == {"gpu": ("g0", "g1")}
    assert hand.planner.units(hand.task("b")) == {"gpu": ("g2",)}
    hand.finish("a")
    assert hand.starts() == ["c"]
    assert hand.planner.units(hand.task("c")) == {"gpu": ("g0", "g1")}
    hand.finish("b", "c")
    assert hand.is_over()


def test_fractions_add_up():
    """Three times 0.1 fit into 0.3, whatever floats say."""
    hand = Hand(*(make(f"t{n}", resources={"cpu": 0.1}) for n in range(4)), resources={"cpu": 0.3})
    assert hand.starts() == ["t0", "t1", "t2"]
    hand.finish("t0", "t2")
    assert hand.starts() == ["t3"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"cpus": 1}, "did you mean 'cpu'"),
        ({"cpu": 5}, "only 4"),
        ({"gpu": 3}, "only 2"),
        ({"gpu": 1.5}, "named units"),
    ],
)
def test_impossible_amounts_are_refused(wanted, said):
    hand = Hand(make("before"), resources={"cpu": 4, "gpu": ["a", "b"]})
    with pytest.raises(DefinitionError, match=said):
        hand.add(make("a", resources=wanted))
    assert hand.run() == ["before"]


def test_a_small_one_passes_a_large_one_that_does_not_fit():
    hand = Hand(
        make("a", resources={"m": 3}),
        make("large", resources={"m": 4}),
        make("small", resources={"m": 1}),
        resources={"m": 4},
    )
    assert hand.starts() == ["a", "small"]
    hand.finish("a")
    assert hand.starts() == []
    hand.finish("small")
    assert hand.starts() == ["large"]


def test_an_idle_resource_is_whole_again():
    """Fractions taken and given back do not add up to anything."""
    resource, drawn = Resource("r", 1), random.Random(3)
    nodes = [Node(make(f"t{number}"), number, ReadyQueue()) for number in range(3)]
    for _ in range(200):
        for node in nodes:
            resource.take(node, drawn.random() / 3)
        for node in nodes:
            resource.give(node)
        assert resource.free == 1
    assert (resource.fits(1), resource.fits(1.1), resource.is_open()) == (True, False, True)


# -- alone -------------------------------------------------------------------------------------------------------------


def test_alone_means_nothing_else_runs_meanwhile():
    hand = Hand(make("a"), make("b", claims="x"), make("all", alone=True), make("c"), make("d", once=True))
    assert hand.starts() == ["a", "b", "c", "d"]
    hand.finish("a", "b", "c")
    assert hand.starts() == []
    hand.finish("d", free=False)
    assert hand.starts() == [], "its processes are still there"
    hand.free("d")
    assert hand.start() == "all"
    hand.add(make("e"), make("f", claims="x"), make("g", alone=True))
    assert hand.starts() == []
    hand.finish("all")
    assert hand.starts() == ["e", "f"]
    hand.finish("e", "f")
    assert hand.starts() == ["g"]


def test_one_alone_after_the_other_over_all_pools():
    hand = Hand(
        make("a", alone=True), make("b", alone=True, pool="other"), make("c", pool="other"), pools=("default", "other")
    )
    assert (hand.starts(), hand.starts("other")) == (["a"], [])
    hand.finish("a")
    assert (hand.starts(), hand.starts("other")) == ([], ["b"])
    hand.finish("b")
    assert hand.starts("other") == ["c"]


# -- ahead -------------------------------------------------------------------------------------------------------------


def test_only_what_takes_nothing_and_may_be_repeated_is_handed_out_ahead():
    for meta in ({"claims": "x"}, {"uses": "x"}, {"resources": {"cpu": 1}}, {"alone": True}, {"once": True}):
        hand = Hand(make("a", **meta), resources={"cpu": 1})
        assert hand.start(ahead=True) is None
        assert hand.start() == "a"
    hand = Hand(make("a"), make("b", claims="x", priority=1), make("c", priority=2))
    assert hand.start(ahead=True) == "a"
    assert hand.start(ahead=True) is None, "the next worker takes b: c is not the best"
    assert hand.start() == "b"
    assert hand.start(ahead=True) == "c"


def test_nothing_goes_ahead_of_one_that_waits_for_all_to_end():
    hand = Hand(make("all", alone=True), make("a"))
    assert hand.start() == "all"
    assert hand.start(ahead=True) is None


# -- waking ------------------------------------------------------------------------------------------------------------


def test_all_that_fit_are_started_when_something_is_given_back():
    hand = Hand(make("c", claims="x"), *(make(f"u{n}", uses="x") for n in range(5)), make("last", claims="x"))
    assert hand.starts() == ["c"]
    hand.finish("c")
    assert hand.starts() == ["u0", "u1", "u2", "u3", "u4"]


def test_who_is_offered_something_and_then_falls_hands_it_on():
    hand = Hand(make("c", claims="x"), make("a", claims="x"), make("b", claims="x"))
    hand.starts()
    hand.finish("c")
    hand.cancel("a")
    assert hand.starts() == ["b"]


def test_who_is_offered_something_and_lacks_another_hands_it_on():
    hand = Hand(make("x", claims="x"), make("y", claims="y"), make("xy", claims=["x", "y"]), make("only", claims="x"))
    assert hand.starts() == ["x", "y"]
    hand.finish("x")
    assert hand.starts() == ["only"]
    hand.finish("only", "y")
    assert hand.starts() == ["xy"]


def test_who_waits_in_a_pool_without_a_free_worker_keeps_nobody_waiting():
    """The best one is offered the lock, but its pool is full; another pool's does not sleep for that."""
    pools = {"pools": ("default", "full")}
    hand = Hand(
        make("c", claims="x"), make("best", claims="x", pool="full", priority=-1), make("b", claims="x"), **pools
    )
    assert hand.start("full") == "best"
    hand.requeue("best")
    assert hand.start() == "c"
    assert (hand.start("full"), hand.start()) == (None, None)
    hand.finish("c")
    assert hand.start() == "b"
    hand.finish("b")
    assert hand.start("full") == "best"


def test_the_last_pool_may_be_asked_first():
    hand = Hand(
        make("a", resources={"r": 1}, pool="p"),
        make("b", resources={"r": 1}),
        resources={"r": 1},
        pools=("default", "p"),
    )
    assert (hand.start("p"), hand.start()) == ("a", None)
    hand.finish("a")
    assert hand.start() == "b"


# -- order -------------------------------------------------------------------------------------------------------------


def test_lower_priority_first_then_the_longest_path_then_order_of_addition():
    hand = Hand(
        make("last", priority=1), make("b"), make("long", estimate=5), make("c"), make("first", priority=-1),
        make("chain"), make("link", requires="/chain"),
    )  # fmt: skip
    assert hand.starts() == ["first", "long", "chain", "b", "c", "last"]


def test_the_remaining_path_is_in_seconds():
    """Estimates, else what is known of earlier runs, else 1."""
    known = {"h1": 4.0, "h2": 2.0, "e": 100.0}
    tasks = [
        make("t"), make("h1"), make("h2"), make("h2/tail", requires="/h2", estimate=3), make("e", estimate=0.5),
        make("a", after="/t"),
    ]  # fmt: skip
    assert Hand(*tasks, durations=known.get).starts() == ["h2", "h1", "t", "e"]


def test_a_path_leads_through_several_providers_and_alternatives():
    hand = Hand(
        make("plain", estimate=3), make("p/1", provides="p"), make("p/2", provides="p"), make("x", requires="p", estimate=2.5),
        make("y", requires="/x"),
    )  # fmt: skip
    assert hand.starts() == ["p/1", "p/2", "plain"]


def test_a_task_that_was_refused_keeps_its_place():
    hand = Hand(
        make("c", claims="x"), make("a", claims="x"), make("b", claims="x"), make("urgent", claims="x", priority=-1)
    )
    assert hand.start() == "urgent"
    assert hand.start() is None
    hand.finish("urgent")
    hand.add(make("vip", claims="x", priority=-2))
    for expected in ("vip", "c", "a", "b"):
        assert hand.start() == expected
        assert hand.start() is None
        hand.finish(expected)


# -- poison ------------------------------------------------------------------------------------------------------------


def poisoned(*tasks, **options):
    hand = Hand(make("bad", priority=-9, **options), *tasks)
    assert hand.start() == "bad"
    hand.start()
    hand.poison("bad")
    hand.fail("bad")
    return hand


def test_what_needs_a_poisoned_lock_is_skipped_and_says_so():
    hand = poisoned(
        make("parked", claims="x"), make("later", uses="x", requires="/ok"), make("after", after="/parked"),
        make("dependant", requires="/parked"), make("other", claims="y"), make("ok"), claims=["x", "z"],
    )  # fmt: skip
    assert hand.fallen["parked"] == hand.fallen["dependant"] == "'x' is not sane any more: bad left it so"
    hand.finish("ok")
    assert set(hand.run()) == {"other", "after"}
    assert "'x' is not sane" in hand.fallen["later"]
    hand.add(make("new", uses="z"))
    assert hand.starts() == []
    assert "'z' is not sane" in hand.fallen["new"]
    assert hand.is_over()


def test_what_was_only_used_is_not_poisoned():
    hand = poisoned(make("a", claims="x"), uses="x", claims="y")
    assert hand.run() == ["a"]
    assert hand.fallen == {}


def test_a_poisoned_place_is_all_below_it_and_whoever_covers_it():
    place = {
        "same": "/p/q", "below": "/p/q/r/s", "above": "/p", "root": "/", "beside": "/p/r", "far": "/s",
    }  # fmt: skip
    hand = poisoned(*(make(name, uses=tree_lock(at)) for name, at in place.items()), claims=tree_lock("/p/q"))
    assert hand.state("beside") == "running", "the helper has started one"
    assert hand.run() == ["far"]
    assert set(hand.fallen) == {"same", "below", "above", "root"}


def test_the_culprit_is_the_one_that_claimed_it():
    hand = Hand(
        make("one", claims=tree_lock("/p/q")), make("two", claims=tree_lock("/r")), make("x", uses=tree_lock("/r/s"))
    )
    hand.start(), hand.start()
    hand.poison("one"), hand.poison("two")
    hand.fail("one", "two")
    hand.run()
    assert "two left it so" in hand.fallen["x"]


def test_resources_are_amounts_and_cannot_be_poisoned():
    hand = Hand(
        make("bad", resources={"r": 1}, alone=True),
        make("a", resources={"r": 1}),
        make("b", alone=True),
        resources={"r": 1},
    )
    hand.start()
    hand.poison("bad")
    hand.fail("bad")
    assert hand.run() == ["a", "b"]
