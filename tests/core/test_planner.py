"""The planner, fed by hand: each verb, and each sentence about dependencies."""

import pickle

import pytest

from pexen import Task, all_of, any_of, task
from pexen.core.node import TRANSITIONS, Node, State
from pexen.core.planner import Planner
from pexen.errors import DefinitionError, InternalError
from tests.core.hand import Hand, make, nothing

# -- one task's life ---------------------------------------------------------------------------------------------------


def test_a_task_is_ready_runs_and_is_done():
    hand = Hand(make("a"))
    assert hand.state("a") == "ready"
    assert not hand.is_over()
    assert hand.start() == "a"
    assert (hand.state("a"), hand.planner.running) == ("running", 1)
    hand.finish("a")
    assert (hand.state("a"), hand.planner.running, hand.is_over()) == ("done", 0, True)
    assert hand.start() is None


def test_an_empty_planner_is_over():
    assert Hand().is_over()


def test_what_requires_a_task_starts_when_it_has_succeeded():
    hand = Hand(make("last", requires=["/first", "/second"]), make("first"), make("second"))
    assert hand.state("last") == "blocked"
    assert hand.starts() == ["first", "second"]
    hand.finish("first")
    assert hand.starts() == []
    hand.finish("second")
    assert hand.starts() == ["last"]


def test_what_requires_a_failed_task_is_skipped_transitively_and_names_the_culprit():
    hand = Hand(make("a"), make("b", requires="/a"), make("c", requires="/b"), make("beside"))
    hand.starts()
    assert hand.fail("a", status="crashed") == ["b", "c"]
    assert hand.fallen == {"b": "a crashed", "c": "a crashed"}
    assert (hand.state("b"), hand.state("beside")) == ("skipped", "running")
    hand.finish("beside")
    assert hand.is_over()


def test_a_failed_task_whose_dependants_may_run_counts_as_success():
    hand = Hand(make("a"), make("b", requires="/a"))
    hand.start()
    hand.finish("a")  # the run says so: TaskFail(deps_ok=True)
    assert hand.starts() == ["b"]


def test_every_step_that_is_not_in_the_table_raises_and_changes_nothing():
    hand = Hand(make("a"), make("b", requires="/a"))
    planner = hand.planner
    for path in ("a", "b"):
        for verb in (planner.finish, planner.provide, planner.requeue):
            with pytest.raises(InternalError) as caught:
                verb(hand.task(path))
            assert path in str(caught.value)
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    planner.check()
    assert (hand.state("a"), hand.state("b")) == ("ready", "blocked")
    assert hand.start() == "a"
    hand.finish("a")
    with pytest.raises(InternalError):
        planner.finish(hand.task("a"))
    hand.fail(hand.start())
    for verb in (planner.finish, planner.provide, planner.requeue):
        with pytest.raises(InternalError):
            verb(hand.task("b"))
    assert hand.is_over()


def test_the_table_of_transitions_is_exactly_what_happens(monkeypatch):
    """Nothing that is not in it, and all that is."""
    slot, seen = Node.state, {state: set() for state in State}

    class Watched:
        def __get__(self, node, owner):
            return slot.__get__(node, owner)

        def __set__(self, node, state):
            try:
                before = slot.__get__(node)
            except AttributeError:
                assert state is State.BLOCKED, "where a life begins"
            else:
                assert state in TRANSITIONS[before], f"{node.path}: {before} to {state}"
                seen[before].add(state)
            slot.__set__(node, state)

    monkeypatch.setattr(Node, "state", Watched())
    live_as_tasks_do()
    live_as_services_do()
    assert seen == TRANSITIONS


def live_as_tasks_do() -> None:
    hand = Hand(
        make("a", claims="x"), make("b", requires="/a"), make("c", uses="x"), make("d", requires="/b"), make("e"), make("f"),
        make("g", after="/e"), make("h", requires="/e"),
    )  # fmt: skip
    assert hand.starts() == ["a", "e", "f"]
    hand.requeue("f")
    assert hand.starts() == ["f"]
    hand.poison("a")
    hand.fail("a")
    hand.finish("e", "f")
    assert hand.state("g") == "ready"
    hand.cancel("g")
    hand.add(make("k", requires="/h"))
    hand.cancel("k")
    hand.drain()
    hand.add(make("i", after="/h", cleanup=True), make("j", lazy=True))
    assert hand.run() == ["i"]
    assert hand.is_over()


def live_as_services_do() -> None:
    """Die up, leaving and for good; start anew, wanted while leaving, after the end, and in vain."""
    hand = Hand(make("e", service=True), make("h", requires="/e"), make("g", after="/e"))
    assert hand.starts() == ["e"]
    hand.provide("e")
    assert hand.state("h") == "ready"
    hand.restart("e")
    assert (hand.state("h"), hand.starts()) == ("blocked", ["e"])
    hand.provide("e")
    assert hand.starts() == ["h"]
    hand.finish("h")
    assert hand.planner.next_to_leave() is hand.task("e")
    hand.add(make("k", requires="/e"))
    hand.restart("e")
    assert hand.starts() == ["e"]
    hand.provide("e")
    assert hand.starts() == ["k"]
    hand.finish("k")
    assert hand.leave() == ["e"]
    hand.add(make("l", requires="/e"))
    assert hand.starts() == ["e", "g"], "nobody undoes that it was down"
    hand.provide("e")
    hand.fail("e")
    hand.add(make("m", service=True), make("n", requires="/m"), make("o", service=True), make("p", requires="/o"))
    hand.starts()
    hand.provide("m")
    hand.provide("o")
    hand.starts()
    hand.finish("n", "m", "p")
    assert hand.planner.next_to_leave() is hand.task("o")
    hand.fail("o")
    hand.add(make("q", service=True), make("r", requires="/q"))
    hand.starts()
    hand.provide("q")
    hand.starts()
    hand.finish("r")
    hand.leave()
    hand.add(make("s", requires="/q"))
    hand.cancel("s")
    hand.finish("g")
    assert hand.is_over()


def test_cancelling_what_runs_or_has_ended_does_nothing():
    hand = Hand(make("a"), make("b"))
    assert hand.start() == "a"
    assert hand.cancel("a") == []
    hand.finish("a")
    assert hand.cancel("a", "b") == ["b"]


def test_a_requeued_task_is_ready_again_as_often_as_needed():
    hand = Hand(make("a", claims="x"), make("b", requires="/a"))
    for _ in range(3):
        assert hand.start() == "a"
        hand.requeue("a")
        assert hand.state("a") == "ready"
    assert hand.start() == "a"
    hand.finish("a")
    assert hand.run() == ["b"]


def test_a_requeued_task_takes_its_old_place():
    hand = Hand(make("a"), make("b"))
    assert hand.start() == "a"
    hand.requeue("a")
    assert hand.starts() == ["a", "b"]


def test_a_chain_of_a_hundred_thousand_tasks_runs_and_falls():
    """No recursion, in neither direction."""
    tasks = [make("t0"), *(make(f"t{number}", requires=f"/t{number - 1}") for number in range(1, 100_000))]
    for fails in (False, True):
        planner = Planner()
        planner.add(tasks)
        if fails:
            fallen = planner.finish(planner.next(), success=False)
            assert [one.task for one in fallen] == tasks[1:]
        else:
            for expected in tasks:
                found = planner.next()
                assert found is expected
                planner.finish(found)
        assert planner.is_over()


# -- names and scopes --------------------------------------------------------------------------------------------------


def bound(hand, path):
    """Who meets each requirement of a task, by path."""
    return [[str(one.path) for one in found] for _, found in hand.planner.bindings(hand.task(path))]


def test_the_nearest_provider_wins():
    hand = Hand(
        make("a/make", provides="build"), make("b/make", provides="build"),
        make("a/deep/test", requires="build"), make("b/test", requires="build"), make("c/test", requires="build"),
    )  # fmt: skip
    assert bound(hand, "a/deep/test") == [["a/make"]]
    assert bound(hand, "b/test") == [["b/make"]]
    assert bound(hand, "c/test") == [["a/make", "b/make"]]  # seen from the root: both


def test_a_subtree_counts_as_its_folder():
    hand = Hand(
        make("a/x/make", provides="n"), make("a/y/make", provides="n"), make("make", provides="n"),
        make("a/test", requires="n"), make("a/x/deep/test", requires="n"), make("test", requires="n"),
    )  # fmt: skip
    assert bound(hand, "a/test") == [["a/x/make", "a/y/make"]]
    assert bound(hand, "a/x/deep/test") == [["a/x/make"]]
    assert bound(hand, "test") == [["a/x/make", "a/y/make", "make"]]


def test_a_name_provided_once_is_seen_everywhere():
    hand = Hand(make("deep/down/here", provides=("disk", 1)), make("far/away", requires={("disk", 1)}))
    assert bound(hand, "far/away") == [["deep/down/here"]]


def test_all_providers_must_succeed():
    tasks = [make(f"cc/{number}", provides="objects") for number in range(50)]
    hand = Hand(*tasks, make("link", requires="objects"), make("other", requires="objects"))
    started = hand.starts()
    hand.finish(*started[:-1])
    assert hand.starts() == []
    hand.finish(started[-1])
    assert hand.starts() == ["link", "other"]
    again = Hand(*tasks, make("link", requires="objects"))
    again.starts()
    assert again.fail("cc/7") == ["link"]
    assert again.fallen["link"] == "cc/7 failed"
    again.finish(*(path for path in started if path != "cc/7"))
    assert again.is_over()


def test_names_bind_when_a_task_is_admitted_over_all_that_is_added_with_it_and_for_good():
    hand = Hand(make("early", requires="n"), make("x/make", provides="n"))
    hand.add(make("make", provides="n"), make("late", requires="n"))
    assert bound(hand, "early") == [["x/make"]]
    assert bound(hand, "late") == [["x/make", "make"]]
    assert hand.starts() == ["x/make", "make"]
    hand.finish("x/make")
    assert hand.starts() == ["early"]


def test_a_name_twice_is_one_provider():
    hand = Hand(make("a", provides=["n", "n"]), Task(lambda n: n, "b", requires=["n", "n"]))
    assert bound(hand, "b") == [["a"], ["a"]]
    assert hand.run() == ["a", "b"]


def test_a_path_is_that_task_or_the_whole_subtree():
    tasks = [make("setup/db"), make("setup/net/a"), make("setup/net/b"), make("other")]
    hand = Hand(
        *tasks, make("one", requires="/setup/db"), make("all", requires="/setup"), make("net", requires="/setup/net/")
    )
    assert bound(hand, "one") == [["setup/db"]]
    assert bound(hand, "all") == [["setup/db", "setup/net/a", "setup/net/b"]]
    assert bound(hand, "net") == [["setup/net/a", "setup/net/b"]]


def test_a_task_and_a_decorated_function_can_be_required():
    @task
    def db():
        pass

    one = make("one")
    hand = Hand(one, Task(db, "setup/db"), make("x", requires=[one, db]))
    assert bound(hand, "x") == [["one"], ["setup/db"]]


def test_a_function_in_many_tasks_means_the_nearest_of_them():
    @task
    def db():
        pass

    hand = Hand(Task(db, "a/db"), Task(db, "b/db"), make("a/x", requires={db}), make("x", requires={db}))
    assert bound(hand, "a/x") == [["a/db"]]
    assert bound(hand, "x") == [["a/db", "b/db"]]


def test_a_task_is_required_by_its_path():
    """Factories hand out copies of what the user wrote."""
    original = make("one")
    hand = Hand(original.replace(tags="copy"), make("x", requires=original))
    assert bound(hand, "x") == [["one"]]


# -- any_of ------------------------------------------------------------------------------------------------------------


def test_any_of_is_bound_by_the_first_success():
    hand = Hand(
        make("n", provides="nginx"), make("a", provides="apache"), make("x", requires=any_of("nginx", "apache"))
    )
    hand.starts()
    hand.finish("a")
    assert hand.starts() == ["x"]
    hand.finish("n")
    [provider] = hand.planner.providers(hand.task("x"), 0)
    assert provider.path == "a", "the first success binds it, for good"


def test_any_of_fails_only_when_none_is_left():
    hand = Hand(
        make("n", provides="nginx"), make("a", provides="apache"), make("x", requires=any_of("nginx", "apache"))
    )
    hand.starts()
    assert hand.fail("n") == []
    assert hand.fail("a") == ["x"]
    assert "a failed" in hand.fallen["x"]
    assert "any_of('nginx', 'apache')" in hand.fallen["x"]


def test_any_of_one_name_is_among_its_providers():
    hand = Hand(make("1", provides="httpd"), make("2", provides="httpd"), make("x", requires=any_of("httpd")))
    hand.starts()
    hand.fail("1")
    hand.finish("2")
    assert hand.starts() == ["x"]
    assert [one.path for one in hand.planner.providers(hand.task("x"), 0)] == ["2"]


def test_an_alternative_with_several_providers_needs_all_of_them():
    def graph():
        return Hand(
            make("p/1", provides="p"),
            make("p/2", provides="p"),
            make("q", provides="q"),
            make("x", requires=any_of("p", "q")),
        )

    hand = graph()
    hand.starts()
    hand.finish("p/1")
    assert hand.starts() == []
    hand.finish("p/2")
    assert hand.starts() == ["x"]
    hand.finish("q")
    assert [one.path for one in hand.planner.providers(hand.task("x"), 0)] == ["p/1", "p/2"]
    hand = graph()
    hand.starts()
    assert hand.fail("p/1") == []
    hand.finish("p/2", "q")
    assert hand.starts() == ["x"]
    assert [one.path for one in hand.planner.providers(hand.task("x"), 0)] == ["q"]


def test_any_of_added_later_is_bound_by_what_is_whole():
    """Of two alternatives the first has one provider that failed; another of its providers passed."""
    hand = Hand(make("p/1", provides="p"), make("p/2", provides="p"), make("q", provides="q"))
    hand.starts()
    hand.finish("p/1", "q")
    hand.fail("p/2")
    hand.add(make("x", requires=any_of("p", "q")))
    assert hand.starts() == ["x"]
    assert [one.path for one in hand.planner.providers(hand.task("x"), 0)] == ["q"]


def test_any_of_nests():
    hand = Hand(make("a"), make("b"), make("c"), make("x", requires=any_of(any_of("/a", "/b"), any_of("/c", "/a"))))
    hand.starts()
    assert hand.fail("a", "b") == []
    hand.finish("c")
    assert hand.starts() == ["x"]


def test_many_dependants_of_one_any_of_share_it():
    providers = [make(f"p{number}", provides="p") for number in range(20)]
    hand = Hand(*providers, *(make(f"c{number}", requires=any_of("p")) for number in range(30)))
    edges = sum(len(node.dependants or ()) for node in hand.planner._nodes.values())
    assert edges <= 3 * 20
    hand.finish(hand.starts()[3])
    assert len(hand.starts()) == 30
    assert {one.path for number in range(30) for one in hand.planner.providers(hand.task(f"c{number}"), 0)} == {"p3"}


def test_a_cycle_through_an_alternative_is_a_cycle():
    with pytest.raises(DefinitionError, match="cycle"):
        Hand(make("a", provides="n", requires="/b"), make("b", requires=any_of("n", "m")), make("m", provides="m"))


# -- lazy --------------------------------------------------------------------------------------------------------------


def test_a_lazy_task_that_nothing_needs_leaves_in_the_end():
    hand = Hand(make("lazy", lazy=True, provides="n"), make("a"))
    assert hand.run() == ["a"]
    assert not hand.fallen
    assert hand.is_over()
    assert hand.fallen == {"lazy": "nothing needed it (lazy)"}


def test_a_lazy_chain_that_nothing_needs_leaves_once():
    hand = Hand(make("l1", lazy=True), make("l2", lazy=True, requires="/l1"), make("l3", lazy=True, after="/l2"))
    assert hand.is_over()
    assert set(hand.fallen) == {"l1", "l2", "l3"}
    assert hand.planner.unfinished == 0


def test_a_lazy_task_starts_when_something_needs_it_and_so_does_what_it_needs():
    hand = Hand(make("l1", lazy=True), make("l2", lazy=True, requires="/l1"), make("x", requires="/l2"))
    assert hand.run() == ["l1", "l2", "x"]
    hand = Hand(make("l1", lazy=True), make("l2", lazy=True, requires="/l1"), make("a"))
    assert hand.starts() == ["a"]
    hand.add(make("x", requires="/l2"))
    assert hand.starts() == ["l1"]


def test_lazy_alternatives_start_one_by_one_in_order_of_preference():
    lazy = {"lazy": True, "provides": "n"}
    hand = Hand(make("1", **lazy), make("2", **lazy, preference=5), make("3", **lazy), make("x", requires=any_of("n")))
    for path in ("2", "1"):
        assert hand.starts() == [path]
        assert hand.fail(path) == []
    assert hand.starts() == ["3"]
    assert hand.planner.replaced == [
        "2 failed: 1 is started instead, for any_of('n')",
        "1 failed: 3 is started instead, for any_of('n')",
    ]
    hand.finish("3")
    assert hand.run() == ["x"]
    hand = Hand(make("a", lazy=True), make("b", lazy=True), make("x", requires=any_of("/b", "/a")))
    assert hand.run() == ["b", "x"], "the order in which they are written"


def test_a_lazy_alternative_waits_while_another_may_still_succeed():
    hand = Hand(make("busy"), make("lazy", lazy=True), make("x", requires=any_of("/lazy", "/busy")))
    assert hand.starts() == ["busy"]
    hand.fail("busy")
    assert hand.run() == ["lazy", "x"]


def test_an_alternative_with_several_lazy_providers_is_woken_as_a_whole():
    hand = Hand(
        make("p/1", provides="p", lazy=True), make("p/2", provides="p"), make("q", provides="q", lazy=True),
        make("x", requires=any_of("p", "q")),
    )  # fmt: skip
    assert hand.starts() == ["p/1", "p/2"]
    hand.finish("p/1", "p/2")
    assert hand.starts() == ["x"]


def test_what_only_a_sleeper_needs_is_not_woken():
    """The alternatives of a lazy task that nobody needs: one fails, the other is still not needed."""
    hand = Hand(make("bad"), make("reserve", lazy=True), make("lazy", lazy=True, requires=any_of("/bad", "/reserve")))
    hand.starts()
    hand.fail("bad")
    assert hand.starts() == []
    assert hand.is_over()


def test_what_falls_at_once_wakes_nobody():
    hand = Hand(make("bad"), make("lazy", lazy=True))
    hand.fail(hand.start())
    hand.add(make("x", requires=["/bad", "/lazy"]))
    assert hand.fallen == {"x": "bad failed"}
    assert hand.starts() == []


def test_a_required_lazy_task_that_fails_skips_what_needs_it():
    hand = Hand(make("lazy", lazy=True), make("x", requires="/lazy"))
    assert hand.fail(hand.start()) == ["x"]


def test_after_a_lazy_task_waits_for_its_end_or_until_nobody_can_need_it():
    hand = Hand(make("lazy", lazy=True), make("user", requires="/lazy"), make("then", after="/lazy"))
    assert hand.run() == ["lazy", "user", "then"]
    hand = Hand(make("lazy", lazy=True), make("then", after="/lazy"), make("a"))
    assert hand.starts() == ["a"]
    assert "lazy" in hand.why("then")
    hand.finish("a")
    assert hand.starts() == ["then"]
    assert hand.fallen == {"lazy": "nothing needed it (lazy)"}


def test_a_sleeper_stays_while_somebody_may_still_add_what_needs_it():
    hand = Hand(make("lazy", lazy=True), make("then", after="/lazy"))
    hand.planner.hold()
    assert hand.starts() == []
    hand.add(make("x", requires="/lazy"))
    hand.planner.release()
    assert hand.starts() == ["lazy"]


# -- after, cleanup ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["finish", "fail", "cancel"])
def test_after_waits_for_the_final_status_whatever_it_is(how):
    hand = Hand(make("a", priority=1), make("b", after="/a"), make("first"))
    assert hand.start() == "first"
    if how != "cancel":
        assert hand.start() == "a"
        assert hand.start() is None
    getattr(hand, how)("a")
    assert hand.starts() == ["b"]


def test_after_a_skipped_task_and_a_subtree_and_several_providers():
    hand = Hand(
        make("bad"), make("s/1", requires="/bad"), make("s/2", provides="n"), make("s/3", provides="n"),
        make("x", after=["/s", "n"]), make("y", after={"named": any_of("n", "/bad")}),
    )  # fmt: skip
    assert hand.starts() == ["bad", "s/2", "s/3"]
    hand.fail("bad")
    hand.finish("s/2")
    assert hand.starts() == []
    hand.finish("s/3")
    assert hand.starts() == ["x", "y"]


def test_after_what_has_ended_already_waits_for_nothing():
    hand = Hand(make("a"), make("b"))
    hand.starts()
    hand.finish("a")
    hand.fail("b")
    hand.add(make("x", after=["/a", "/b"]))
    assert hand.starts() == ["x"]


def test_requires_means_a_service_is_up_and_after_means_it_is_down():
    hand = Hand(make("db", service=True), make("query", requires="/db"), make("report", after="/db"))
    assert hand.starts() == ["db"]
    hand.provide("db")
    assert (hand.state("db"), hand.starts()) == ("up", ["query"])
    hand.add(make("later", after="/db"), make("more", requires="/db"))
    assert hand.starts() == ["more"]
    hand.finish("query", "more")
    assert not hand.is_over()
    assert hand.leave() == ["db"]
    assert hand.starts() == ["report", "later"]
    assert hand.fallen == {}


def test_draining_starts_nothing_but_clean_ups():
    hand = Hand(
        make("running", priority=-1), make("a"), make("b", requires="/a"), make("clean", cleanup=True, after="/a"),
        make("wipe", cleanup=True, requires="/running"), make("needs", cleanup=True, requires="/b"),
    )  # fmt: skip
    assert hand.start() == "running"
    hand.drain(reason="enough")
    assert hand.cancelled == {"a", "b"}
    assert hand.fallen == {"a": "enough", "b": "enough", "needs": "b was cancelled"}
    assert hand.starts() == ["clean"]
    hand.finish("running")
    assert hand.starts() == ["wipe"]
    hand.add(make("new"), make("new/clean", cleanup=True))
    assert "new" in hand.cancelled
    assert hand.starts() == ["new/clean"]
    hand.finish("clean", "wipe", "new/clean")
    assert hand.is_over()


def test_a_hard_drain_starts_nothing_at_all_also_nothing_that_comes_later():
    hand = Hand(make("again", cleanup=True), make("a", cleanup=True))
    assert hand.start() == "again"
    hand.drain(cleanups=False)
    assert hand.cancelled == {"a"}
    hand.add(make("late", cleanup=True))
    hand.requeue("again")
    assert hand.cancelled == {"a", "late", "again"}
    assert hand.is_over()


def test_a_retry_while_draining_does_not_start_again_and_lets_others_go_on():
    hand = Hand(make("a"), make("alone", alone=True, cleanup=True), make("then", after="/a", cleanup=True))
    assert hand.start() == "a"
    assert hand.start() is None
    hand.drain()
    hand.requeue("a")
    assert hand.cancelled == {"a"}
    assert hand.start() == "alone"


def test_cancel_takes_out_what_was_named_and_skips_what_requires_it():
    hand = Hand(make("a"), make("b", requires="/a"), make("c", requires="/b"), make("d"))
    assert set(hand.cancel("a", "b", reason="not today")) == {"a", "b", "c"}
    assert hand.fallen == {"a": "not today", "b": "not today", "c": "b was cancelled"}
    assert hand.cancelled == {"a", "b"}
    assert hand.run() == ["d"]


# -- on the fly --------------------------------------------------------------------------------------------------------


def test_tasks_added_later_depend_on_what_runs_has_passed_or_has_failed():
    hand = Hand(make("done"), make("bad"), make("running"), make("skipped", requires="/bad"))
    hand.starts()
    hand.finish("done")
    hand.fail("bad")
    hand.add(
        make("1", requires="/done"), make("2", requires="/running"), make("3", requires="/bad"),
        make("4", requires="/3"), make("5", requires="/skipped"),
    )  # fmt: skip
    assert {path: reason for path, reason in hand.fallen.items() if path != "skipped"} == {
        "3": "bad failed", "4": "bad failed", "5": "bad failed",
    }  # fmt: skip
    assert hand.starts() == ["1"]
    hand.finish("running")
    assert hand.starts() == ["2"]


def test_a_junction_that_failed_dooms_what_is_added_later_and_names_the_task():
    hand = Hand(make("p/1", provides="p"), make("p/2", provides="p"), make("x", requires="p"))
    hand.starts()
    hand.fail("p/2", status="timeout")
    hand.add(make("y", requires="p"))
    assert hand.fallen["y"] == "p/2 timeout"
    hand.finish("p/1")
    assert hand.is_over()


def test_the_run_is_not_over_while_somebody_holds_it():
    hand = Hand(make("a"))
    hand.planner.hold()
    hand.planner.hold()
    hand.run()
    assert not hand.is_over()
    assert not hand.planner.is_stuck()
    hand.planner.release()
    assert not hand.is_over()
    hand.planner.release()
    assert hand.is_over()
    with pytest.raises(InternalError):
        hand.planner.release()


def test_after_the_end_a_run_can_go_on():
    hand = Hand(make("a"))
    hand.run()
    assert hand.is_over()
    hand.add(make("b", requires="/a"))
    assert not hand.is_over()
    assert hand.run() == ["b"]


def test_waiting_for_a_process_tree_is_not_being_stuck():
    """A task's result is there, its processes are not gone yet: the lock stays held, and the next one waits."""
    hand = Hand(make("a", claims="x"), make("b", claims="x"))
    assert hand.starts() == ["a"]
    hand.finish("a", free=False)
    assert hand.starts() == []
    assert not hand.planner.is_stuck()
    assert "held by a" in hand.why("b")
    hand.free("a")
    assert hand.starts() == ["b"]


def test_a_late_word_about_an_earlier_attempt_frees_nothing_of_the_next():
    hand = Hand(make("a", claims="x"), make("b", claims="x"))
    hand.start()
    hand.requeue("a")
    assert hand.start() == "a"
    hand.free("a")
    assert hand.starts() == []


def test_a_retry_waits_until_the_last_attempt_is_gone():
    """Its processes may still live: nobody gets its lock, and it does not start beside itself."""
    hand = Hand(make("a", claims="x", retries=1), make("b", claims="x"), make("c", after="/a"))
    assert hand.start() == "a"
    hand.requeue("a", free=False)
    assert hand.starts() == []
    assert "not gone yet" in hand.why("a")
    assert not hand.planner.is_stuck()
    hand.free("a")
    assert hand.starts() == ["a"]
    hand.requeue("a", free=False)
    hand.cancel("a")
    assert hand.starts() == ["c"], "b still waits for what a held"
    hand.free("a")
    assert hand.starts() == ["b"]
    hand.finish("b", "c")
    assert hand.is_over()
    for meta in ({"uses": "x"}, {"once": True}):
        hand = Hand(make("a", **meta))
        hand.start()
        hand.requeue("a", free=False)
        assert hand.starts() == []
        hand.free("a")
        assert hand.starts() == ["a"]


# -- values ------------------------------------------------------------------------------------------------------------


def test_providers_are_given_in_tree_order():
    tasks = [make("b/2", provides="n"), make("a/1", provides="n"), make("b/1", provides="n"), make("c", provides="n")]
    hand = Hand(*tasks, make("x", requires={"all": all_of("n"), "one": "/c"}))
    hand.finish(*hand.starts())
    hand.start()
    assert [one.path for one in hand.planner.providers(hand.task("x"), 0)] == ["b/2", "b/1", "a/1", "c"]
    assert [one.path for one in hand.planner.all_providers(hand.task("x"))] == ["b/2", "b/1", "a/1", "c"]


def test_several_providers_for_one_parameter_are_an_error_unless_all_are_wanted():
    providers = [make("1", provides="n"), make("2", provides="n"), make("q", provides="q")]
    for requires in ("n", {"n": "n"}, {"n": any_of("n", "q")}, {"n": any_of("q", any_of("n", "/1"))}):
        with pytest.raises(DefinitionError, match=r"[23] providers") as caught:
            Hand(*providers, Task(lambda n=None: n, "x", requires=requires))
        assert "all_of" in str(caught.value)
    Hand(*providers, Task(lambda n: n, "x", requires=all_of("n")))
    Hand(*providers, Task(lambda n: n, "x", requires=any_of("n")))
    Hand(*providers, make("x", requires="n"))


# -- explain -----------------------------------------------------------------------------------------------------------


def test_explain_names_requirement_lock_holder_resource_pool():
    hand = Hand(
        make("a", claims="x"), make("b", uses="x"), make("c", requires=["/a", "/b"]), make("d", resources={"cpu": 3}),
        make("e", resources={"cpu": 2}), make("f", after="/c"), make("ready", priority=5), make("lazy", lazy=True),
        resources={"cpu": 4},
    )  # fmt: skip
    assert hand.starts() == ["a", "d", "ready"]
    assert "lock 'x', held by a" in hand.why("b")
    assert "requires '/a': a (running)" in hand.why("c")
    assert "requires '/b': b (ready)" in hand.why("c")
    assert "resource 'cpu' (2 wanted, 1 free), held by d" in hand.why("e")
    assert "runs after c (blocked)" in hand.why("f")
    assert "lazy" in hand.why("lazy")
    assert hand.why("a") == "a: running"
    hand = Hand(make("a"))
    assert "pool 'default'" in hand.why("a")


def test_explain_names_who_runs_alone():
    hand = Hand(make("all", alone=True), make("b"), make("c", alone=True))
    assert hand.starts() == ["all"]
    assert "all" in hand.why("b")
    assert "waits for" in hand.why("b")


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_a_task_added_to_a_pool_that_is_not_there_is_refused():
    with pytest.raises(DefinitionError, match="did you mean 'gpu'"):
        Hand(make("a", pool="gpus"), pools=("default", "gpu"))


def test_each_pool_gets_its_own():
    hand = Hand(make("a"), make("b", pool="gpu"), make("c", requires="/b"), pools=("default", "gpu"))
    assert hand.starts("gpu") == ["b"]
    assert hand.starts() == ["a"]
    hand.finish("b")
    assert (hand.starts("gpu"), hand.starts()) == ([], ["c"])


def test_nothing_needs_a_name():
    """Callables without a path get one from their name, numbered where it repeats."""
    tasks = [Task(nothing), Task(nothing), Task(lambda: 1), Task(lambda: 2), Task(nothing)]
    hand = Hand(*tasks)
    assert [one.path for one in tasks] == ["nothing", "nothing#2", "lambda", "lambda#2", "nothing#3"]
    more = Task(nothing)
    hand.add(more)
    assert more.path == "nothing#4"


# -- what has ended before this run -------------------------------------------------------------------------------------


def test_what_has_ended_before_leaves_at_once_and_lets_others_start():
    hand = Hand(
        make("held", claims="lock", priority=-1),
        make("done", claims="lock"),
        make("next", requires="/done"),
        make("after", after="/done"),
    )
    assert hand.start() == "held"
    assert hand.note(hand.planner.recall([(hand.task("done"), True, "passed")])) == []
    assert hand.state("done") == "done"
    assert hand.starts() == ["next", "after"]
    for path in ("held", "next", "after"):
        hand.finish(path)
    assert hand.is_over()


def test_those_that_have_ended_stay_what_they_were_and_others_fall():
    hand = Hand(
        make("bad"), make("kept", requires="/bad"), make("falls", requires="/bad"), make("more", requires="/kept")
    )
    ended = [(hand.task("bad"), False, "failed"), (hand.task("kept"), True, "passed")]
    assert hand.note(hand.planner.recall(ended)) == ["falls"]
    assert hand.fallen == {"falls": "bad failed"}
    assert hand.starts() == ["more"]


def test_a_lazy_one_and_one_of_several_that_have_ended():
    hand = Hand(
        make("a", provides="x", lazy=True), make("b", provides="x", lazy=True), make("user", requires=[any_of("x")])
    )
    assert hand.starts() == ["a"]
    hand.note(hand.planner.recall([(hand.task("b"), True, "passed")]))
    assert hand.starts() == ["user"]
    hand.finish("a")
    hand.finish("user")
    assert hand.is_over()


def test_who_was_handed_out_or_has_left_is_not_recalled():
    hand = Hand(make("a"), make("b", requires="/a"))
    hand.start()
    hand.fail("a")
    assert hand.note(hand.planner.recall([(hand.task("a"), True, "passed"), (hand.task("b"), True, "passed")])) == []
    assert (hand.state("a"), hand.state("b"), hand.is_over()) == ("failed", "skipped", True)


def test_one_that_is_isolated_runs_alone():
    hand = Hand(make("a"), make("suspect", claims="lock", priority=-1), make("b"))
    hand.planner.isolate(hand.task("suspect"))
    assert hand.starts() == ["suspect"]
    hand.finish("suspect")
    assert hand.starts() == ["a", "b"]
    with pytest.raises(InternalError, match="isolate"):
        hand.planner.isolate(hand.task("a"))
