"""The same work with pexen, as its documentation shows it; see `peers` for what the clock covers.

``python bench/ours.py CASE N [FOLDER]`` does the work once and prints its seconds; FOLDER is what `trees` has written.
"""

import json
import sys
from pathlib import Path
from time import perf_counter

from graphs import FAN, layers, pairs
from measure import executable, peak, resident, since, whole_process
from trees import forget

import pexen
from pexen import LocalPool, ProcessPool, Sched, Task, ThreadPool

FOLDER = Path(sys.argv[3] if len(sys.argv) > 3 else ".")


def noop():
    """Do nothing."""


def run(begin, tasks, pool):
    """Read the results as they come, as the peers do."""
    sched = Sched(tasks, pool=pool)
    count = sum(result.status == "passed" for result in sched.run())
    return since(begin, len(tasks), count)


def independent(n):
    begin = perf_counter()
    tasks = [Task(noop, path=f"t{number}") for number in range(n)]
    return run(begin, tasks, ThreadPool(2))


def sleeps(n):
    import asyncio

    async def sleeper():
        await asyncio.sleep(0.01)

    begin = perf_counter()
    return run(begin, [Task(sleeper, path=f"t{number}") for number in range(n)], pexen.AsyncPool())


def layered(n, width):
    tasks, above = [], []
    for number, size in enumerate(layers(n, width)):
        row = [
            Task(noop, path=f"{number}/{place}", requires=[above[place - left] for left in FAN] if above else None)
            for place in range(size)
        ]
        tasks += row
        above = row
    return tasks


def layers_of_100(n):
    begin = perf_counter()
    return run(begin, layered(n, 100), ThreadPool(2))


def chain(n):
    begin = perf_counter()
    tasks = [Task(noop, path="t0")]
    for number in range(1, n):
        tasks.append(Task(noop, path=f"t{number}", requires=tasks[-1]))
    return run(begin, tasks, ThreadPool(2))


def one_lock(n):
    begin = perf_counter()
    tasks = [Task(noop, path=f"t{number}", claims="lock") for number in range(n)]
    return run(begin, tasks, ThreadPool(2))


def random_pairs(n):
    wanted = pairs(n)
    locks = [f"lock{number}" for number in range(100)]
    begin = perf_counter()
    tasks = [
        Task(noop, path=f"t{number}", claims=[locks[first], locks[second]])
        for number, (first, second) in enumerate(wanted)
    ]
    return run(begin, tasks, ThreadPool(2))


def processes(n):
    begin = perf_counter()
    tasks = [Task(noop, path=f"t{number}") for number in range(n)]
    return run(begin, tasks, ProcessPool(2))


def commands(n):
    begin = perf_counter()
    tasks = [pexen.command(["/bin/true"], path=f"t{number}") for number in range(n)]
    return run(begin, tasks, LocalPool(2))


def million(n):
    """Keep every result; ``bytes`` is for each task, above an interpreter that has imported pexen."""
    before = resident()
    begin = perf_counter()
    results = pexen.run(layered(n, 1000), workers=2)
    measured = since(begin, n, len(results))
    assert results.ok
    return {**measured, "bytes": (peak() - before) / n}


def tree(n):
    return whole_process([executable("pexen"), "run", "tree", "-j2"], FOLDER, expect=str(n))


def start(n):
    return whole_process([executable("pexen"), "--help"], FOLDER, expect="usage: pexen", repeat=n)


def single(n):
    return whole_process([executable("pexen"), "run", "tree"], FOLDER, repeat=n)


if __name__ == "__main__":
    forget(FOLDER)
    print(json.dumps(globals()[sys.argv[1]](int(sys.argv[2]))))
