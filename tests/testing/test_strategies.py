"""What the strategies draw is accepted where they promise it, and covers what they promise."""

from hypothesis import given, settings

from pexen.core.planner import Planner
from pexen.model.meta import AllOf, AnyOf, Named
from pexen.testing import simulate
from pexen.testing.strategies import RESOURCES, batches, graphs, leaves


@settings(max_examples=60)
@given(graphs())
def test_graphs_are_accepted_and_run_to_their_end(tasks):
    done = simulate(tasks, workers=3, resources=RESOURCES)
    assert {one.path for one in tasks} == set(done.results)


@settings(max_examples=60)
@given(graphs(pools=("default", "other")), batches(pools=("default", "other")))
def test_no_path_is_missing(tasks, others):
    assert all(one.path for one in [*tasks, *others])
    Planner(resources=RESOURCES, pools=("default", "other")).add(tasks)


def test_everything_comes_up():
    """Each kind of requirement and each key of metadata is drawn sooner or later."""
    seen = set()

    @settings(max_examples=200, database=None)
    @given(graphs())
    def look(tasks):
        for one in tasks:
            seen.update(key for key, value in one.meta.items() if value is not None)
            seen.update(type(item) for item in one.requires)
            seen.update(type(leaf) for item in one.requires for leaf in leaves(item))
            seen.add(one.path.count("/"))

    look()
    keys = {
        "after",
        "lazy",
        "cleanup",
        "claims",
        "uses",
        "resources",
        "alone",
        "once",
        "priority",
        "estimate",
        "preference",
    }
    assert keys <= seen
    assert {AnyOf, AllOf, Named, str, tuple} <= seen
    assert {0, 1, 2, 3} <= seen
