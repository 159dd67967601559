"""The same tasks and the same verbs give the same answers under any hash seed: asked in two interpreters."""

import os
import subprocess
import sys

PROGRAM = """
import random
from pexen import Task, any_of, tree_lock
from pexen.core.planner import Planner

def nothing(): pass

drawn = random.Random(11)
words = [f"name{number}" for number in range(40)]

def some(count):
    return set(drawn.sample(words, drawn.randint(0, count)))

def tasks(first, last):
    made = []
    for number in range(first, last):
        late = number > 90 and number % 9 == 0
        folder = drawn.choice(["a", "b", "a/b", "c"])
        names = [f"name{other}" for other in range(0, min(number, 40), 7)]
        made.append(Task(
            nothing, f"{'z' if late else folder}/t{number}",
            provides={f"name{number % 40}", f"extra{number % 5}"} if number < 40 else None,
            requires=set(drawn.sample(names, min(len(names), drawn.randint(0, 2)))) if number > 60 else None,
            after={any_of(f"name{drawn.randint(0, 39)}"), "/a"} if late else None,
            claims=some(2) | {tree_lock("/p/" + drawn.choice("qrs"))},
            uses=some(2) | {tree_lock("/p")} if number % 4 == 0 else None,
            resources={word: drawn.randint(1, 2) for word in sorted(some(2)) if word < "name2"} or None,
            priority=drawn.randint(0, 2), estimate=drawn.randint(1, 3), lazy=number % 17 == 3, alone=number % 31 == 5,
            pool="other" if number % 6 == 1 else None,
        ))
    return made

planner = Planner(resources={word: 3 for word in words}, pools=("default", "other"))
planner.add(tasks(0, 60))
planner.add(tasks(60, 160))
running, order, late = [], [], []
for step in range(5000):
    if step == 40:
        planner.add(tasks(160, 200))
    for pool in ("default", "other"):
        while len(running) < 6 and (task := planner.next(pool)) is not None:
            running.append(task)
            order.append(task.path)
    if late and (step % 7 == 0 or planner.is_waiting()):
        planner.again(late.pop(drawn.randrange(len(late))))
        continue
    if not running:
        if not planner.fallen:
            break
        order += [f"{one.task.path}!{one.reason}" for one in planner.take_fallen()]
        continue  # what fell may have let others start
    ended = running.pop(drawn.randrange(len(running)))
    verdict = drawn.randint(0, 60)
    if verdict < 4:
        planner.requeue(ended, later=verdict < 2)
        late += [ended] if verdict < 2 else []
        continue
    if verdict == 4:
        planner.poison(ended)
    fallen = planner.finish(ended, success=verdict > 6, free=True)
    order += [f"{one.task.path}!{one.reason}" for one in fallen]
    order += [str(planner.explain(one)) for one in planner.tasks()[:: 20]]
left = [str(planner.explain(one)) for one in planner.tasks() if not planner.is_final(one)]
assert planner.is_over(), (planner.is_stuck(), left)
order += [f"{one.task.path}!{one.reason}" for one in planner.take_fallen()]
assert len(order) > 300
print("\\n".join(order))
"""


def order_under(seed):
    env = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hash_seeds_do_not_change_the_order():
    """Starts, skips, reasons and explanations, with names, locks, resources and requirements given as sets."""
    first, second = order_under(1), order_under(2)
    assert first == second
    assert first.count("\n") > 300
