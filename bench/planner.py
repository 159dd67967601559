"""What the planner alone costs a task: microseconds and bytes, and how both grow with the number of tasks.

Every case runs in a process of its own and drives the planner as a run does: a few tasks are in flight, `next` is asked
until it says None, then the oldest task finishes and is freed. ``make`` is what building the `Task` values takes,
``add`` their admission, ``run`` all the rest, ``total`` the sum. ``bytes`` is the memory the process has in use
afterwards above that before the first task was made. ``growth`` is the total for a task divided by that at the size
before: 1.0 is linear. ``later`` and ``run`` compare adding all tasks at the start with adding them one by one: in the
planner alone, and in a whole run.
"""

import argparse
import json
import sys
from collections import deque
from itertools import islice
from time import perf_counter, process_time

from graphs import FAN, LOCKS, layers, pairs
from measure import FailedError, fresh, machine, resident, table

from pexen.core.planner import Planner
from pexen.model.task import Task

SIZES = [10_000, 100_000, 1_000_000]
LATER = 100_000
QUICK = [200, 2_000]
WIDTH = 100


def noop():
    """Never called: a planner runs nothing."""


def independent(n):
    return [Task(noop, path=f"t{number}") for number in range(n)]


def layered(n):
    tasks, above = [], []
    for number, size in enumerate(layers(n, WIDTH)):
        row = [
            Task(noop, path=f"{number}/{place}", requires=[above[place - left] for left in FAN] if above else None)
            for place in range(size)
        ]
        tasks += row
        above = row
    return tasks


def one_lock(n):
    return [Task(noop, path=f"t{number}", claims="lock") for number in range(n)]


def random_pairs(n):
    locks = [f"lock{number}" for number in range(LOCKS)]
    return [
        Task(noop, path=f"t{number}", claims=[locks[first], locks[second]])
        for number, (first, second) in enumerate(pairs(n))
    ]


def chain(n):
    tasks = [Task(noop, path="t0")]
    for number in range(1, n):
        tasks.append(Task(noop, path=f"t{number}", requires=tasks[-1]))
    return tasks


CASES = {
    "independent": independent,
    "layers": layered,
    "one-lock": one_lock,
    "random-pairs": random_pairs,
    "chain": chain,
}
TOLD = {
    "independent": "independent",
    "layers": f"layers of {WIDTH}, three requirements each",
    "one-lock": "all on one lock",
    "random-pairs": f"{LOCKS} locks in random pairs",
    "chain": "one chain",
}


def drive(planner, flying, width):
    """Run until nothing is left to start and nothing is in flight; return how many tasks that were."""
    begin_next, finish, free = planner.next, planner.finish, planner.free
    count = 0
    while True:
        while len(flying) < width:
            task = begin_next()
            if task is None:
                break
            flying.append(task)
        if not flying:
            return count
        task = flying.popleft()
        finish(task)
        free(task)
        count += 1


def at_the_start(case, n, width):
    """Add all tasks at once, then run them."""
    pairs(n)  # so that neither clock nor memory sees the drawing of them
    memory, begin = resident(), perf_counter()
    tasks = CASES[case](n)
    made = perf_counter()
    planner = Planner()
    planner.add(tasks)
    added, most = perf_counter(), resident()
    count = drive(planner, deque(), width)
    ended = perf_counter()
    if count != n or not planner.is_over():
        raise FailedError(f"{case}: {count} of {n} tasks were run")
    used = max(most, resident()) - memory
    return {"make": made - begin, "add": added - made, "run": ended - added, "bytes": used}


def one_at_a_time(case, n, width):
    """Add the tasks one by one while earlier ones run: each time one was added, one may start and one may end."""
    memory, begin = resident(), perf_counter()
    tasks = CASES[case](n)
    made = perf_counter()
    planner = Planner()
    planner.hold()
    flying, count, adding = deque(), 0, 0.0
    for task in tasks:
        before = perf_counter()
        planner.add((task,))
        adding += perf_counter() - before
        if (started := planner.next()) is not None:
            flying.append(started)
        if len(flying) >= width:
            ended = flying.popleft()
            planner.finish(ended)
            planner.free(ended)
            count += 1
    planner.release()
    count += drive(planner, flying, width)
    total = perf_counter() - made
    if count != n or not planner.is_over():
        raise FailedError(f"{case}: {count} of {n} tasks were run")
    return {"make": made - begin, "add": adding, "run": total - adding, "bytes": resident() - memory}


def in_a_run(n, width, *, from_the_loop):
    """Run tasks that do nothing in this thread, all there at the start, or but for the first ones added from the loop.

    In seconds of the processor: all of it is one thread.
    """
    from pexen import InlinePool, Sched

    begin = process_time()
    tasks = (Task(noop, path=f"t{number}") for number in range(n))
    sched = Sched(islice(tasks, width if from_the_loop else n), pool=InlinePool())
    count = 0
    for _ in sched.run():
        count += 1
        if from_the_loop and (task := next(tasks, None)) is not None:
            sched.add([task])
    if count != n:
        raise FailedError(f"{count} of {n} tasks were run")
    return {"total": process_time() - begin}


def total(measured):
    return measured["make"] + measured["add"] + measured["run"]


def figures(measured, n):
    """Return the columns that all tables share, a task."""
    times = [measured["make"], measured["add"], measured["run"], total(measured)]
    return [*(f"{1e6 * seconds / n:.2f}" for seconds in times), f"{measured['bytes'] / n:,.0f}"]


HEADER = ["make µs", "add µs", "run µs", "total µs", "bytes"]


def growth_table(cases, sizes, width, found):
    """Return the table of all cases at all sizes."""
    rows = []
    for case in cases:
        before = None
        for n in sizes:
            measured = fresh("planner.py", "--one", case, n, "--flying", width)
            found.append({"case": case, "n": n, **measured})
            growth = f"{total(measured) / total(before[1]) / (n / before[0]):.2f}" if before else ""
            rows.append([TOLD[case], f"{n:,}", *figures(measured, n), growth])
            before = n, measured
    return table(["a task, in the planner", "tasks", *HEADER, "growth"], rows)


def later_table(cases, n, width, found):
    """Return the table of adding one at a time beside adding all at the start."""
    rows = []
    for case in cases:
        seconds = []
        for how, told in (("--one", "at the start"), ("--later", "one at a time")):
            measured = fresh("planner.py", how, case, n, "--flying", width)
            found.append({"case": case, "n": n, "added": told, **measured})
            seconds.append(total(measured))
            ratio = "" if how == "--one" else f"{seconds[1] / seconds[0]:.2f}"
            rows.append([f"{TOLD[case]}, added {told}", f"{n:,}", *figures(measured, n), ratio])
    return table(["a task, in the planner", "tasks", *HEADER, "ratio"], rows)


def loop_table(n, width, found):
    """Return the table of a whole run, its tasks added from its loop, each when one has ended, beside all at the start."""
    rows, seconds = [], []
    for told in ("at the start", "from the loop"):
        measured = fresh("planner.py", "--run", told, n, "--flying", width)
        found.append({"case": "run", "n": n, "added": told, **measured})
        seconds.append(measured["total"])
        ratio = f"{seconds[1] / seconds[0]:.2f}" if seconds[1:] else ""
        rows.append([f"independent, added {told}", f"{n:,}", f"{1e6 * seconds[-1] / n:.2f}", ratio])
    return table(["a task, in a run with InlinePool", "tasks", "total µs", "ratio"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=lambda text: [int(float(size)) for size in text.split(",")], metavar="N,N…")
    parser.add_argument("--cases", type=lambda text: text.split(","), metavar="CASE,CASE…",
                        default=[*CASES, "later", "run"], help=f"of {', '.join(CASES)}, later, run")  # fmt: skip
    parser.add_argument("--flying", type=int, default=4, metavar="N", help="tasks in flight (default 4)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it still work?")
    parser.add_argument("--json", action="store_true", help="the figures for a program, in seconds and bytes")
    parser.add_argument("--one", metavar="CASE", help=argparse.SUPPRESS)
    parser.add_argument("--later", metavar="CASE", help=argparse.SUPPRESS)
    parser.add_argument("--run", metavar="HOW", help=argparse.SUPPRESS)
    parser.add_argument("n", nargs="?", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(at_the_start(options.one, options.n, options.flying)))
        return
    if options.later:
        print(json.dumps(one_at_a_time(options.later, options.n, options.flying)))
        return
    if options.run:
        print(json.dumps(in_a_run(options.n, options.flying, from_the_loop=options.run == "from the loop")))
        return
    unknown = set(options.cases) - {*CASES, "later", "run"}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    show(options)


def show(options):
    """Measure what was asked for and print it."""
    sizes = options.sizes or (QUICK if options.quick else SIZES)
    cases = [case for case in options.cases if case in CASES]
    found, tables = [], []
    if cases:
        tables.append(growth_table(cases, sizes, options.flying, found))
    later = QUICK[-1] if options.quick else LATER
    if "run" in options.cases:
        tables.append(loop_table(later, options.flying, found))
    if "later" in options.cases:
        tables.append(later_table(["independent", "layers"], later, options.flying, found))
    print(json.dumps(found) if options.json else "\n\n".join([machine(), *tables]))


if __name__ == "__main__":
    try:
        main()
    except FailedError as error:
        sys.exit(f"bench/planner.py: {error}")
