"""Services by hand: when they are called, who keeps them up, what their death does, and what is refused."""

from __future__ import annotations

import pytest

from pexen.errors import DefinitionError
from pexen.model.meta import any_of
from tests.core.hand import Hand, make


def service(path: str, **meta: object):
    return make(path, service=True, **meta)


def test_a_service_starts_when_the_first_that_requires_it_could_run():
    hand = Hand(
        service("db"), make("slow"), make("a", requires=["/db", "/slow"]), make("b", requires="/db", after="/slow")
    )
    assert hand.starts() == ["slow"]
    hand.finish("slow")
    assert hand.starts() == ["db"]
    hand.provide("db")
    assert hand.starts() == ["a", "b"]


def test_services_of_services_are_called_one_after_the_other():
    hand = Hand(service("net"), service("db", requires="/net"), make("a", requires="/db"))
    assert hand.starts() == ["net"]
    hand.provide("net")
    assert hand.starts() == ["db"]
    hand.provide("db")
    hand.finish(hand.start())
    assert hand.leave() == ["db", "net"]
    assert hand.is_over()


def test_who_relies_on_it_through_others_keeps_it_up():
    hand = Hand(
        service("db"), make("schema", requires="/db"), make("other"), make("query", requires=["/schema", "/other"])
    )
    hand.starts()
    hand.provide("db")
    hand.finish("other", hand.start())
    assert hand.leave() == []
    hand.finish(hand.start())
    assert hand.leave() == ["db"]


def test_one_that_nobody_needs_is_not_started_and_one_that_nobody_needs_any_more_goes():
    hand = Hand(service("idle"), service("db"), make("a", requires="/db"), make("b"))
    hand.start()
    hand.starts()
    hand.cancel("a")
    hand.provide("db")
    assert hand.leave() == ["db"]
    hand.finish("b")
    assert hand.is_over()
    assert hand.fallen["idle"].startswith("nothing needed it")


def test_one_that_is_called_and_not_needed_any_more_goes_back_to_sleep():
    hand = Hand(service("db"), make("a", requires="/db"))
    hand.cancel("a")
    assert hand.starts() == []
    hand.add(make("b", requires="/db"))
    assert hand.starts() == ["db"]


def test_they_leave_in_reverse_order_of_start_and_not_while_somebody_holds_the_run():
    hand = Hand(service("one"), service("two"), make("a", requires=["/one", "/two"]), make("b", requires="/two"))
    hand.starts()
    hand.provide("two")
    hand.provide("one")
    hand.finish(*hand.starts())
    hand.planner.hold()
    assert hand.leave() == []
    hand.planner.release()
    assert hand.leave() == ["one", "two"]


def test_who_fails_to_start_takes_its_dependants_along_and_an_alternative_is_called():
    hand = Hand(service("one"), service("two"), make("a", requires=any_of("one", "two")), make("b", requires="/one"))
    assert hand.starts() == ["one"]
    assert hand.fail("one") == ["b"]
    assert hand.planner.replaced
    assert hand.starts() == ["two"]
    hand.provide("two")
    assert hand.starts() == ["a"]


def test_when_it_dies_those_that_wait_fall_and_those_that_run_are_named():
    hand = Hand(service("db"), *(make(name, requires="/db", claims="x") for name in "ab"), make("c", requires="/b"))
    hand.starts()
    hand.provide("db")
    assert hand.start() == "b"
    assert [task.path for task in hand.planner.running_users(hand.task("db"))] == ["b"]
    hand.fail("db", status="crashed")
    assert hand.fallen == {"a": "db crashed"}
    assert not hand.planner.may_start_again(hand.task("b"))
    hand.finish("b")
    assert hand.starts() == ["c"], "what it was needed for is done"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_who_is_tried_again_waits_for_a_service_that_has_died_meanwhile(free, later):
    hand = Hand(service("db"), make("a", requires="/db", claims="x"))
    hand.starts()
    hand.provide("db")
    assert hand.start() == "a"
    hand.restart("db")
    assert hand.starts() == []
    hand.requeue("a", free=free, later=later)
    assert hand.starts() == ["db"]
    hand.provide("db")
    hand.free("a")
    hand.again("a")
    assert hand.starts() == ["a"]


def test_who_is_tried_again_falls_with_a_service_that_is_dead():
    hand = Hand(service("db"), make("a", requires="/db"))
    hand.starts()
    hand.provide("db")
    hand.start()
    hand.fail("db")
    hand.requeue("a")
    assert hand.fallen == {"a": "db failed"}
    assert hand.is_over()


def test_who_is_added_later_has_it_started_again_and_nobody_pays_with_a_second_result_for_nothing():
    hand = Hand(service("db"), make("a", requires="/db"))
    hand.starts()
    hand.provide("db")
    hand.finish(hand.start())
    hand.leave()
    hand.add(make("b", requires="/db"))
    assert hand.cancel("b") == ["b"]
    assert hand.is_over()
    assert "db" not in hand.fallen
    hand.add(make("c", requires="/db"))
    assert hand.starts() == ["db"]


@pytest.mark.parametrize("tasks", [
    [service("db", claims="x"), make("a", requires="/db", uses="x")],
    [service("db", uses="x"), make("t", claims="x"), make("a", requires="/db", after="/t")],
    [service("db"), make("a", requires="/db", after="/db")],
    [service("one", claims="x"), service("two", claims="x", requires="/one"), make("a", requires="/two")],
    [service("one", claims="x"), service("two", claims="x"), make("a", requires=["/one", "/two"])],
    [service("one", claims="x"), service("two", claims="y"), make("a", requires="/one", uses="y"),
     make("b", requires="/two", uses="x")],
    [service("one", resources={"cpu": 3}), make("a", requires="/one", resources={"cpu": 2})],
    [service("one", resources={"cpu": 2}), service("two", resources={"cpu": 1}), make("a", requires="/one", resources={"cpu": 2}),
     make("b", requires="/two", resources={"cpu": 1})],
])  # fmt: skip
def test_what_could_end_in_all_waiting_for_all_is_refused(tasks):
    with pytest.raises(DefinitionError, match="for ever") as caught:
        Hand(*tasks, resources={"cpu": 4})
    assert caught.value.facts


@pytest.mark.parametrize("tasks", [
    [service("one", claims="x"), service("two", claims="x"), make("a", requires="/one"), make("b", requires="/two")],
    [service("one", claims="x"), make("a", requires="/one"), make("b", claims="x")],
    [service("one", claims="x"), service("two", claims="y"), make("a", requires="/one", uses="y"), make("b", requires="/two")],
    [service("one", resources={"cpu": 4}), service("two", resources={"cpu": 4}), make("a", requires="/one"),
     make("b", requires="/two")],
    [make("t", claims="x"), service("one", claims="x", requires="/t"), make("a", requires="/one")],
    [service("one", uses="x"), make("a", requires="/one", uses="x")],
])  # fmt: skip
def test_what_is_harmless_is_not(tasks):
    hand = Hand(*tasks, resources={"cpu": 4})
    for _ in range(20):
        for path in hand.starts():
            if hand.task(path).is_service:
                hand.provide(path)
            else:
                hand.finish(path)
        hand.leave()
    assert hand.is_over()
    assert hand.fallen == {}


def test_a_service_cannot_be_alone_and_does_not_disturb_who_is():
    with pytest.raises(DefinitionError, match="alone"):
        Hand(service("db", alone=True))
    hand = Hand(service("db"), make("a", requires="/db", alone=True))
    hand.starts()
    hand.provide("db")
    assert hand.starts() == ["a"]


def test_one_that_nobody_needs_any_more_sleeps_while_its_last_processes_live():
    hand = Hand(service("db", claims="x"), make("a", requires="/db"))
    hand.starts()
    hand.requeue("db", free=False)
    hand.cancel("a")
    hand.planner.check()
    hand.add(make("b", requires="/db"))
    assert hand.starts() == []
    hand.free("db")
    assert hand.starts() == ["db"]
