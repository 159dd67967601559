"""What the journal costs: runs with it beside the same without it.

``process``: no-op callables in threads with ``durability="process"``, beside no journal. ``full``: /bin/true with
``durability="full"``, on the disk that the temporary folder is on, beside no journal. Each run is a fresh process, in turn,
on two workers; the clock runs from making the `Sched` to the last result. Shown are medians with the least and the most in
brackets, the ratio of the medians, and the median of the ratios of neighbouring runs.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack

from commands import ratios, spread, verdict
from measure import TEMPORARY, FailedError, fresh, machine, prepare

MUST = {"process": 1.4, "full": 1.3}


# -- in the child -----------------------------------------------------------------------------------------------------


def timed(tasks, pool, durability):
    """Print the seconds that the tasks take, with a journal unless the durability is empty."""
    from pexen import Sched

    with ExitStack() as closing:
        options = {}
        if durability:
            folder = closing.enter_context(tempfile.TemporaryDirectory(prefix=TEMPORARY))
            options = {"journal": folder, "durability": durability}
        started = time.perf_counter()
        results = Sched(tasks, pool=pool, **options).wait()
        seconds = time.perf_counter() - started
    assert len(results) == len(tasks)
    assert results.ok
    print(json.dumps({"seconds": seconds}))


def nothing():
    """Be a task."""


def noops(count, durability):
    from pexen import Task, ThreadPool

    timed([Task(nothing, f"t{number}") for number in range(count)], ThreadPool(2), durability)


def true(count, durability):
    from pexen import CommandPool, command

    timed([command(["/bin/true"], path=f"t{number}") for number in range(count)], CommandPool(2), durability)


CHILDREN = {"process": noops, "full": true}


# -- in the parent ----------------------------------------------------------------------------------------------------


def compare(kind, count, runs):
    """Return lines to show, and the same for a program."""
    times = {durability: [] for durability in (kind, "")}
    for _ in range(runs):
        for durability, found in times.items():
            found.append(fresh("journal.py", "--child", kind, "--durability", durability, "--tasks", count)["seconds"])
    what = "no-op callables, threads" if kind == "process" else "/bin/true"
    lines = [f"{count} x {what}, 2 workers, {runs} runs"]
    lines += [f"  {name or 'none':8} {spread([one / count * 1e6 for one in times[name]])} us" for name in times]
    ratio, pairwise = ratios(times[kind], times[""])
    lines.append(f"  {kind} / none {ratio:.2f}, pairwise {pairwise:.2f}, {verdict(ratio, MUST[kind])}")
    told = {"case": kind, "ours": times[kind], "theirs": times[""], "value": ratio, "pairwise": pairwise}
    return lines, {**told, "must": MUST[kind]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noops", type=int, default=20_000, help="how many no-ops")
    parser.add_argument("--commands", type=int, default=2000, help="how many /bin/true")
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON object for each comparison")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--durability", default="", help=argparse.SUPPRESS)
    parser.add_argument("--tasks", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child](given.tasks, given.durability)
        return 0
    if given.quick:
        given.noops, given.commands, given.runs = 100, 20, 1
    prepare()
    failed = False
    if not given.json:
        print(machine())
    for kind, count in (("process", given.noops), ("full", given.commands)):
        try:
            lines, told = compare(kind, count, given.runs)
        except FailedError as error:
            print(f"failed: {error}", file=sys.stderr)
            failed = True
        else:
            print(json.dumps(told) if given.json else "\n".join(lines), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
