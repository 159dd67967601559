"""The planner's promises about time, in a world without any."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pexen
from pexen import Status, Task
from pexen.testing import simulate
from pexen.testing.strategies import RESOURCES, graphs


def nothing():
    raise AssertionError("nothing runs")


def test_the_longest_path_first_beats_the_order_of_addition():
    tasks = [Task(nothing, f"t{number}") for number in range(4)]
    tasks += [Task(nothing, "head"), Task(nothing, "tail", requires="/head")]
    durations = {"head": 2, "tail": 2}
    assert simulate(tasks, 2, durations=durations).makespan == 4  # the optimum: 8 seconds of work on two workers
    by_addition = [task.replace(priority=number) for number, task in enumerate(tasks)]
    assert simulate(by_addition, 2, durations=durations).makespan == 6


def test_what_is_known_of_earlier_runs_decides():
    tasks = [*(Task(nothing, f"t{number}") for number in range(4)), Task(nothing, "long")]
    assert simulate(tasks, 2, durations={"long": 4}).makespan == 4
    assert simulate(tasks, 2, durations={"long": 4}, informed=False).makespan == 6


def test_the_trace_says_what_ran_where_and_when():
    tasks = [Task(nothing, "a", estimate=2), Task(nothing, "b"), Task(nothing, "c", requires={"/a", "/b"})]
    simulation = simulate(tasks, 2, failures={"c": "failed"})
    passed, failed = Status.PASSED, Status.FAILED
    assert simulation.trace == (("a", 0, 2, 0, passed), ("b", 0, 1, 1, passed), ("c", 2, 3, 0, failed))
    assert simulation.results == {"b": passed, "a": passed, "c": failed}
    assert simulate([]).makespan == 0


def test_failures_spread_and_name_the_culprit():
    tasks = [
        Task(nothing, "a"),
        Task(nothing, "b", requires="/a"),
        Task(nothing, "c", after="/b"),
        Task(nothing, "d", lazy=True, provides="x"),
    ]
    simulation = simulate(tasks, failures={"a": Status.CRASHED})
    assert {path: str(status) for path, status in simulation.results.items()} == {
        "a": "crashed", "b": "skipped", "c": "passed", "d": "skipped",
    }  # fmt: skip
    assert simulation.reasons["b"] == "a crashed"


def test_pools_share_the_workers():
    tasks = [Task(nothing, f"t{number}", pool="other" if number % 2 else None) for number in range(6)]
    simulation = simulate(tasks, 3)
    assert (simulation.makespan, len(simulation.trace)) == (2, 6)


@pytest.mark.parametrize(
    ("tasks", "workers"),
    [([Task(nothing, "a", requires="nobody")], 1), ([Task(nothing, "a", requires="/a")], 1), ([nothing], 0), ([3], 1)],
)
def test_a_wrong_definition_is_an_error(tasks, workers):
    with pytest.raises(pexen.DefinitionError):
        simulate(tasks, workers)


@st.composite
def plain_graphs(draw):
    """Tasks that require earlier ones, with durations in eighths: sums of floats are exact."""
    count = draw(st.integers(1, 12))
    eighths = st.integers(0, 40).map(lambda number: number / 8)
    edges = [draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set() for number in range(count)]
    tasks = [
        Task(nothing, f"t{number}", requires=[f"/t{one}" for one in sorted(needed)], claims=draw(st.sets(st.sampled_from("xy"))))
        for number, needed in enumerate(edges)
    ]  # fmt: skip
    return tasks, edges, {f"t{number}": draw(eighths) for number in range(count)}


@given(plain_graphs(), st.integers(1, 4))
def test_the_makespan_is_between_its_bounds(graph, workers):
    tasks, edges, durations = graph
    longest: list[float] = []
    for number, needed in enumerate(edges):
        longest.append(durations[f"t{number}"] + max((longest[one] for one in needed), default=0))
    total = sum(durations.values())
    simulation = simulate(tasks, workers, durations=durations)
    assert max(total / workers, *longest) <= simulation.makespan <= total
    assert set(simulation.results.values()) == {Status.PASSED}
    if workers == 1:
        assert simulation.makespan == total


def overlapping(spans):
    """Yield the pairs that were going on at the same time."""
    for index, one in enumerate(spans):
        for other in spans[index + 1 :]:
            if max(one.start, other.start) < min(one.end, other.end):
                yield one, other


@settings(max_examples=40)
@given(graphs(max_size=10), st.integers(1, 4), st.data())
def test_workers_locks_and_resources_are_never_overdrawn(tasks, workers, data):
    failing = data.draw(st.sets(st.sampled_from([task.name for task in tasks])))
    simulation = simulate(tasks, workers, failures=dict.fromkeys(failing, "failed"), resources=RESOURCES)
    by_path = {task.name: task for task in tasks}
    assert set(simulation.results) == set(by_path), "every task ends in exactly one result"
    assert len({span.path for span in simulation.trace}) == len(simulation.trace)
    for one, other in overlapping(simulation.trace):
        assert one.worker != other.worker
        a, b = by_path[one.path], by_path[other.path]
        assert not a.alone
        assert not b.alone
        for mine, theirs in ((a, b), (b, a)):
            assert not set(mine.claims) & {*theirs.claims, *theirs.uses}
    for span in simulation.trace:
        now = [by_path[one.path] for one in simulation.trace if one.start <= span.start < one.end]
        assert sum(task.resources.get("cpu", 0) for task in now) <= 4
        assert sum(task.resources.get("gpu", 0) for task in now) <= 2


@settings(max_examples=40)
@given(graphs(max_size=10), st.integers(1, 3))
def test_the_same_tasks_give_the_same_trace(tasks, workers):
    assert simulate(tasks, workers, resources=RESOURCES) == simulate(tasks, workers, resources=RESOURCES)
