"""Admission: all or nothing, what is refused and in which words, what it costs in edges."""

from graphlib import CycleError, TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen import Task, any_of, task
from pexen.errors import DefinitionError
from pexen.testing.strategies import RESOURCES, batches, graphs
from tests.core.hand import Hand, make, nothing
from tests.core.oracle import Oracle, Refused
from tests.core.snapshot import snapshot

BEFORE = (
    make("a/make", provides="build"), make("b/make", provides="build"), make("lazy", lazy=True), make("x", requires="build"),
)  # fmt: skip

WRONG = {
    "unknown name": ([make("t", requires="biuld")], "nobody provides it", "did you mean 'build'"),
    "unknown path": ([make("t", requires="/a/maek")], "no such path", "did you mean '/a/make'"),
    "a path without slash": ([make("t", requires="a/make")], "nobody provides it", "write '/a/make'"),
    "unknown name in after": ([make("t", after="biuld")], "t after 'biuld'", "did you mean 'build'"),
    "unknown alternative": ([make("t", requires=any_of("build", "nobody"))], "'nobody'", "nobody provides it"),
    "unknown tuple": ([make("t", requires={("disk", 1)})], "('disk', 1)", "nobody provides it"),
    "a task that is not there": ([make("t", requires=make("elsewhere"))], "elsewhere", "not part of the run"),
    "a function that is not there": ([make("t", requires=task(lambda: 1))], "<lambda>", "nobody provides it"),
    "the same path twice": ([make("t"), make("t")], "two tasks have the path 't'", "path='…'"),
    "a path that is taken": ([make("x")], "two tasks have the path 'x'", "path='…'"),
    "itself by name": ([make("t", provides="t", requires="t")], "requires itself", "'t'"),
    "itself by path": ([make("t", requires="/t")], "requires itself", "'/t'"),
    "itself by its folder": ([make("t/1", requires="/t"), make("t/2")], "t/1 requires itself", "'/t'"),
    "itself among alternatives": ([make("t", requires=any_of("build", "/t"))], "requires itself", "'/t'"),
    "itself in after": ([make("t", after="/t")], "requires itself", "'/t'"),
    "a cycle": ([make("t", requires="/u"), make("u", requires="/t")], "a cycle of 2 tasks", "waits for"),
    "a cycle through after": ([make("t", requires="/u"), make("u", after="/t")], "a cycle of 2 tasks", "waits for"),
    "no such pool": ([make("t", pool="cup")], "no pool 'cup'", "did you mean 'cpu'"),
    "no such resource": ([make("t", resources={"gpus": 1})], "does not have", "did you mean 'gpu'"),
    "too much": ([make("t", resources={"gpu": 3})], "has only 2", "never start"),
    "a parameter that nothing fills": ([Task(lambda db: db, "t")], "nothing fills the parameter 'db'", "require something"),
    "several values for one": ([Task(lambda build: 1, "t", requires="build")], "providers", "all_of('build')"),
    "a generator": ([Task((lambda: (yield)), "t")], "generator function", "service"),
}  # fmt: skip


@pytest.mark.parametrize(("tasks", "said", "more"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("position", ["first", "last"])
def test_what_is_wrong_is_refused_in_words_and_nothing_has_changed(tasks, said, more, position):
    hand = Hand(*BEFORE, pools=("default", "cpu"), resources={"gpu": 2})
    hand.start()
    unnamed = Task(nothing)
    fine = [make("fine/1", provides=["build", "new"]), make("fine/2", requires="new", claims="z"), unnamed]
    before = snapshot(hand.planner)
    with pytest.raises(DefinitionError) as caught:
        hand.planner.add([*tasks, *fine] if position == "first" else [*fine, *tasks])
    assert said in str(caught.value)
    assert more in str(caught.value)
    assert snapshot(hand.planner) == before
    assert unnamed.path is None
    hand.add(*fine)
    assert unnamed.path == "nothing"


def test_an_iterable_that_raises_half_way_changes_nothing():
    def broken():
        yield make("t", provides="build", requires="/a")
        raise OSError("disk")

    hand = Hand(*BEFORE)
    before = snapshot(hand.planner)
    with pytest.raises(OSError, match="disk"):
        hand.planner.add(broken())
    assert snapshot(hand.planner) == before


def test_a_cycle_is_spelled_out_in_order():
    tasks = [
        make("before"), make("a", requires=["/before", "/b"]), make("b", requires="n"), make("p1", provides="n"),
        make("p2", provides="n", after="/c"), make("c", requires="/a"), make("behind", requires="/c"),
    ]  # fmt: skip
    with pytest.raises(DefinitionError) as caught:
        Hand(*tasks)
    assert caught.value.headline == "a cycle of 4 tasks: none of them could ever start"
    assert caught.value.facts == (
        ("a", "waits for b"), ("b", "waits for p2"), ("p2", "waits for c"), ("c", "waits for a"),
    )  # fmt: skip


def test_a_large_cycle_is_found_without_recursion():
    tasks = [make(f"t{number}", requires=f"/t{(number + 1) % 20_000}") for number in range(20_000)]
    with pytest.raises(DefinitionError, match="a cycle of 20000 tasks"):
        Hand(*tasks)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda edge: edge[0] != edge[1]), max_size=20))
def test_graphlib_finds_the_same_cycles_and_accepts_the_order(edges):
    """Plain graphs, in any order of addition: `graphlib` is the oracle."""
    needs = {f"t{number}": {f"t{to}" for at, to in edges if at == number} for number in range(10)}
    tasks = [make(path, requires=sorted("/" + other for other in needed)) for path, needed in needs.items()]
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = set(error.args[1])
        with pytest.raises(DefinitionError, match="cycle") as caught:
            Hand(*tasks)
        named = [path for path, _ in caught.value.facts]
        for (path, told), after in zip(caught.value.facts, [*named[1:], named[0]], strict=True):
            assert told == f"waits for {after}"
            assert after in needs[path]
        assert cycle
        return
    hand = Hand(*tasks)
    running: list[str] = []
    while sorter.is_active():
        ready = set(sorter.get_ready())
        started = set(hand.starts())
        assert started == ready
        running += sorted(started)
        path = running.pop(len(running) // 2)
        hand.finish(path)
        sorter.done(path)
    assert hand.is_over()


@given(graphs())
def test_what_is_valid_is_accepted_in_one_batch(tasks):
    hand = Hand(*tasks, resources=RESOURCES)
    Oracle(RESOURCES, ("default",)).add(tasks)
    assert len(hand.planner.tasks()) == len(tasks)


@given(st.data())
def test_batch_after_batch_the_same_are_refused(data):
    """Only the oracle's verdict and the planner's are compared: the machine does the rest."""
    hand, oracle, known = Hand(resources=RESOURCES), Oracle(RESOURCES, ("default",)), []
    for _ in range(4):
        batch = data.draw(batches(known=known, max_size=4))
        try:
            oracle.add(batch)
        except Refused:
            with pytest.raises(DefinitionError):
                hand.planner.add(batch)
        else:
            hand.add(*batch)
            known += batch
        for one in oracle.all:
            assert hand.planner._nodes[one.path].weight == one.weight


def test_the_same_list_of_providers_is_one_junction_also_across_batches():
    hand = Hand(*(make(f"p{number}", provides="n") for number in range(100)))
    for number in range(100):
        hand.add(make(f"c{number}", requires="n"))
    edges = sum(len(node.dependants or ()) for node in hand.planner._nodes.values())
    assert edges == 100, "100 providers, each with one edge to what stands for all of them"
    hand.finish(*hand.starts())
    assert len(hand.starts()) == 100


def test_a_junction_is_never_taken_for_another_one():
    """Lists of providers are told apart by identity: one that is gone must not lend its own to a new list."""
    hand = Hand(*(make(f"{name}/{number}", provides=name) for name in "ab" for number in range(2)))
    for number in range(200):
        with pytest.raises(DefinitionError):
            hand.planner.add([make("n/1", provides="a"), make("n/2", requires="a"), make("n/3", requires="nobody")])
        with pytest.raises(DefinitionError):
            hand.planner.add([make("m/1", requires="/a"), make("m/2", requires="/b"), make("m/3", requires="nobody")])
        name = "ab"[number % 2]
        hand.add(make(f"c{number}", requires=name), make(f"d{number}", requires=f"/{name}"))
        for path in (f"c{number}", f"d{number}"):
            [(_, found)] = hand.planner.bindings(hand.task(path))
            assert [one.path for one in found] == [f"{name}/0", f"{name}/1"]
            [junction] = hand.planner._nodes[path].bound
            assert [one.path for one in junction.members] == [f"{name}/0", f"{name}/1"]


def test_a_refused_batch_uses_up_no_numbers():
    hand = Hand(Task(nothing))
    for _ in range(3):
        with pytest.raises(DefinitionError):
            hand.planner.add([Task(nothing), Task(nothing), make("x", requires="nobody")])
    more = [Task(nothing), Task(nothing)]
    hand.add(*more)
    assert [one.path for one in more] == ["nothing#2", "nothing#3"]


def test_the_message_of_a_cycle_does_not_depend_on_what_else_is_wrong_with_it():
    """Two cycles: the one that was added first is told."""
    tasks = [make(f"{name}{number}", requires=f"/{name}{1 - number}") for name in "ab" for number in range(2)]
    with pytest.raises(DefinitionError) as caught:
        Hand(*tasks)
    assert caught.value.facts[0] == ("a0", "waits for a1")


def test_a_none_is_a_default():
    """None clears what would be inherited; on its own it is as if nothing had been said."""
    keys = ("claims", "uses", "resources", "alone", "once", "priority", "estimate", "pool", "lazy", "after", "cleanup")
    hand = Hand(make("t", **dict.fromkeys(keys)), make("u", claims="x", uses=None), durations={"t": 7.0}.get)
    assert hand.planner._nodes["t"].weight == 7.0
    assert hand.starts() == ["t", "u"]
