"""What ten times as many tasks cost: counted in executed lines of the planner, not in seconds.

Every line of `pexen.core` and of name lookup that is executed counts one. Ten times the tasks may cost ten times that, and
a little for the logarithm; what is quadratic would cost a hundred times.
"""

import random
import sys
from collections import deque

import pytest

from pexen import any_of, tree_lock
from pexen.core.planner import Planner
from tests.core.hand import make

SMALL = 150
LINEAR = 13.0


def lines(action, *args):
    """Return how many lines of the planner an action executes."""
    count = 0

    def local(_frame, event, _arg):
        nonlocal count
        count += event == "line"
        return local

    def calls(frame, _event, _arg):
        name = frame.f_code.co_filename
        return local if "/pexen/core/" in name or name.endswith("/model/scope.py") else None

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        action(*args)
    finally:
        sys.settrace(before)
    return count


def drive(
    planner, *, width=4, pools=("default",), finish=lambda planner, task, number: planner.finish(task, free=True)
):
    """Run until nothing is left, ``width`` tasks at a time in each pool."""
    flying = deque()
    count = 0
    while True:
        for pool in pools:
            while len(flying) < width * len(pools) and (task := planner.next(pool)) is not None:
                flying.append(task)
        if not flying:
            break
        finish(planner, flying.popleft(), count)
        count += 1
    assert planner.is_over(), [str(planner.explain(task)) for task in planner.tasks()][:5]


def batch(make_tasks, **options):
    """Return the work for a graph that is added at once."""

    def work(n):
        planner = Planner(**options)
        tasks = make_tasks(n)
        return lambda: (planner.add(tasks), drive(planner))

    return work


def one_by_one(make_tasks, **options):
    """Return the work for a graph whose tasks are added one at a time, while it runs."""

    def work(n):
        planner = Planner(**options)
        tasks = make_tasks(n)

        def act():
            planner.hold()
            flying = deque()
            for task in tasks:
                planner.add([task])
                if (started := planner.next()) is not None:
                    flying.append(started)
                if len(flying) > 3:
                    planner.finish(flying.popleft(), free=True)
            planner.release()
            while flying:
                planner.finish(flying.popleft(), free=True)
            drive(planner)

        return act

    return work


def independent(n):
    return [make(f"t{number}") for number in range(n)]


def layered(n):
    """Rows of ten; each task requires two of the row above."""
    above = [[f"/{row}/{(place + step) % 10}" for step in (0, 3)] for row in range(n // 10) for place in range(10)]
    return [make(f"{k // 10}/{k % 10}", requires=above[k - 10] if k >= 10 else None) for k in range(n)]


def chain(n):
    return [make(f"t{number}", requires=f"/t{number - 1}" if number else None) for number in range(n)]


def backwards(n):
    """A chain added last task first, so that order of addition proves nothing."""
    return list(reversed(chain(n)))


def after_chain(n):
    return [make(f"t{number}", after=f"/t{number - 1}" if number else None) for number in range(n)]


def one_lock(n):
    return [make(f"t{number}", claims="x") for number in range(n)]


def one_lock_shuffled(n):
    drawn = random.Random(1)
    return [make(f"t{number}", claims="x", estimate=drawn.random(), priority=number % 3) for number in range(n)]


def a_priority_each(n):
    return [make(f"t{number}", claims="x", priority=number * 7919 % n) for number in range(n)]


def users_and_claimants(n):
    return [make(f"t{number}", **({"claims": "x"} if number % 5 else {"uses": "x"})) for number in range(n)]


def pairs(n):
    drawn = random.Random(2)
    return [make(f"t{number}", claims=drawn.sample([f"l{k}" for k in range(100)], 2)) for number in range(n)]


def own_and_common(n):
    """Each task has a lock of its own besides one that all share: as many kinds of needs as tasks."""
    return [make(f"t{number}", claims=["x", f"own{number}"]) for number in range(n)]


def places(n):
    return [make(f"t{number}", claims=tree_lock(f"/a/{number % 7}/{number % 3}/{number}")) for number in range(n)]


def places_and_their_roots(n):
    return [make(f"t{number}", claims=tree_lock(f"/a/{number}" if number % 10 else "/a")) for number in range(n)]


def amounts(n):
    return [make(f"t{number}", resources={"r": number % 3 + 1}) for number in range(n)]


def alone(n):
    return [make(f"t{number}", alone=number % 5 == 0) for number in range(n)]


def fan(n):
    """Half of them provide a name that the other half requires."""
    return [make(f"p{k}", provides="n") for k in range(n // 2)] + [make(f"c{k}", requires="n") for k in range(n // 2)]


def fan_of_alternatives(n):
    return [make(f"p{k}", provides="n") for k in range(n // 2)] + [
        make(f"c{k}", requires=any_of("n")) for k in range(n // 2)
    ]


def nearest(n):
    """Each folder has its own provider of the same name."""
    return [
        make(f"f{k // 2}/{'make' if k % 2 else 'use'}", **({"provides": "n"} if k % 2 else {"requires": "n"}))
        for k in range(n)
    ]


def subtrees(n):
    return [make(f"setup/{k}") if k < n // 2 else make(f"t{k}", requires="/setup") for k in range(n)]


def growing_subtree(n):
    """Each task requires all that stand in a folder which grows meanwhile: asked for after each addition."""
    return [make("setup/0"), *(make(f"t{k}", after="/setup") if k % 2 else make(f"other/{k}") for k in range(1, n))]


def lazy(n):
    return [
        make(f"l{k}", lazy=True) if k % 2 else make(f"t{k}", requires=f"/l{k + 1}" if k % 4 else None)
        for k in range(n - n % 4)
    ]


WORK = {
    "independent": batch(independent),
    "independent, one by one": one_by_one(independent),
    "layered": batch(layered),
    "layered, one by one": one_by_one(layered),
    "chain": batch(chain),
    "chain backwards": batch(backwards),
    "chain of after": batch(after_chain),
    "one lock": batch(one_lock),
    "one lock, one by one": one_by_one(one_lock),
    "one lock, weights and priorities": batch(one_lock_shuffled),
    "one lock, a priority each": batch(a_priority_each),
    "users and claimants": batch(users_and_claimants),
    "a hundred locks in random pairs": batch(pairs),
    "a common lock and one of its own": batch(own_and_common),
    "places": batch(places),
    "places and their roots": batch(places_and_their_roots),
    "amounts": batch(amounts, resources={"r": 4}),
    "alone": batch(alone),
    "several providers": batch(fan),
    "alternatives": batch(fan_of_alternatives),
    "nearest providers": batch(nearest),
    "subtrees": batch(subtrees),
    "a growing subtree": one_by_one(growing_subtree),
    "lazy": batch(lazy),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_ten_times_the_tasks_cost_ten_times_the_work(work):
    small, large = lines(work(SMALL)), lines(work(10 * SMALL))
    assert large < LINEAR * small, f"{small / SMALL:.0f} lines a task, then {large / SMALL / 10:.0f}"


def failing(planner, task, number):
    planner.finish(task, success=False, free=True)


def one_of_many(n):
    return [*(make(f"p{k}", provides="n") for k in range(n)), make("c", requires=any_of("n"))]


@pytest.mark.parametrize("tasks", [chain, fan, one_of_many, fan_of_alternatives], ids=lambda one: one.__name__)
def test_failures_spread_in_linear_work(tasks):
    def work(n):
        planner = Planner()
        planner.add(tasks(n))
        return lambda: drive(planner, finish=failing)

    small, large = lines(work(SMALL)), lines(work(10 * SMALL))
    assert large < LINEAR * small


def test_retries_and_cancels_are_linear():
    def work(n):
        planner = Planner()
        planner.add(one_lock_shuffled(n))

        def again(planner, task, number):
            if number % 3 == 0:
                planner.requeue(task)
            else:
                planner.cancel([planner.tasks()[number % n]]) if number % 50 == 0 else None
                planner.finish(task, free=True)

        return lambda: drive(planner, finish=again)

    small, large = lines(work(SMALL)), lines(work(10 * SMALL))
    assert large < LINEAR * small


def test_trying_again_later_is_linear():
    """However many wait for it, and are told so one by one."""

    def work(n):
        planner = Planner()
        planner.add(one_lock_shuffled(n))

        def act():
            late = deque()
            while (task := planner.next()) is not None:
                planner.requeue(task, later=True)
                late.append(task)
            while late:
                assert planner.is_waiting()
                planner.again(late.popleft())
                planner.finish(planner.next(), free=True)
            assert planner.is_over()

        return act

    small, large = lines(work(SMALL)), lines(work(10 * SMALL))
    assert large < LINEAR * small


def test_fifty_thousand_providers_and_as_many_dependants():
    """Through one junction: two edges a task, and never 2,500,000,000 of them."""
    n = 50_000
    planner = Planner()
    planner.add([make(f"p{k}", provides="n") for k in range(n)] + [make(f"c{k}", requires="n") for k in range(n)])
    edges = sum(len(node.dependants or ()) for node in planner._nodes.values())
    assert edges == n
    providers = [planner.next() for _ in range(n)]
    assert planner.next() is None
    for task in providers:
        planner.finish(task)
    assert planner.next().path == "c0"


def test_memory_is_given_back():
    """What waits for locks leaves nothing behind, however often it is refused and offered again."""
    planner = Planner()
    planner.add(one_lock_shuffled(400))
    drive(planner)
    for thing in planner._things():
        left = sum(len(queue) for queue in thing.waiting.values())
        left += sum(len(line.queue) for lines in thing.lines.values() for _, line in lines)
        assert left <= 20, f"{thing.name}: {left}"
        assert not thing.holders
    assert not planner._unfreed
