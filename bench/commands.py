"""What watching costs: /bin/true with watchdog, guardian, capture and a timeout on each, beside the same without them.

Each run is a fresh process, in turn (watched, bare, peer, watched, …), on two workers. It prints the seconds from the
first task to the last result, without the interpreter's start, so the guardian costs what it costs while tasks run.
Shown are medians with the least and the most in brackets, the ratio of the medians, and the median of the ratios of
neighbouring runs; ``must`` is what pexen promises of the first. Then one task that reports a hundred thousand times:
reports a second, and how much more memory the runner has at its peak than after a thousand reports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time

from measure import TEMPORARY, FailedError, fresh, machine, median, peak, prepare

MUST = 1.25
MUST_GROW = 8.0
"""MiB."""
SCRIPT = """
import os, sys
fd = int(os.environ["PEXEN_CONTROL"])
line = b'{"report": {"name": "sub", "status": "pass", "message": "fine"}}\\n'
with open(fd, "wb") as control:
    for _ in range(int(sys.argv[1])):
        control.write(line)
"""


# -- in the child -----------------------------------------------------------------------------------------------------


def timed(pool, count, **meta):
    """Return the seconds that so many /bin/true take."""
    from pexen import Sched, command  # before the clock starts

    tasks = [command(["/bin/true"], path=f"t{number}", **meta) for number in range(count)]
    started = time.perf_counter()
    results = Sched(tasks, pool=pool).wait()
    seconds = time.perf_counter() - started
    assert len(results) == count
    assert results.ok
    return {"seconds": seconds}


def watched(count):
    from pexen import CommandPool
    from pexen.cli.guardian import guarded, reaper

    def run() -> int:
        assert reaper(), "there is no guardian"
        with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
            print(json.dumps(timed(CommandPool(2, capture=True, output=folder), count, timeout="30m")), flush=True)
        return 0

    sys.exit(guarded(run))


def bare(count):
    from pexen import CommandPool

    print(json.dumps(timed(CommandPool(2, capture=False), count)))


def xargs(count):
    started = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input="\n".join(map(str, range(count))), text=True, check=True)
    print(json.dumps({"seconds": time.perf_counter() - started}))


def executable(count):
    import pexen

    reports(pexen.command([sys.executable, "-c", SCRIPT, str(count)], path="a"), pexen.CommandPool(1), count)


def speak(count):
    import pexen

    here = pexen.current()
    for _ in range(count):
        here.report("sub", "pass", "fine")


def worker(count):
    import pexen

    reports(pexen.Task(speak, "a", args=[count]), pexen.ProcessPool(1), count)


def reports(task, pool, count):
    """Print the seconds, and the most memory this process has had, in MiB."""
    from pexen import Sched

    started = time.perf_counter()
    result = Sched([task], pool=pool).wait()["a"]
    seconds = time.perf_counter() - started
    assert result.ok, result.reason
    assert len(result.reports) == min(count, 1001)
    print(json.dumps({"seconds": seconds, "memory": peak() / 2**20}))


CHILDREN = {each.__name__: each for each in (watched, bare, xargs, executable, worker)}


# -- in the parent ----------------------------------------------------------------------------------------------------


def child(what, count):
    return fresh("commands.py", "--child", what, "--tasks", count)


def spread(values, digits=0):
    return f"{median(values):.{digits}f} [{min(values):.{digits}f} … {max(values):.{digits}f}]"


def ratios(ours, theirs):
    """Return the ratio of the medians, and the median of the ratios of neighbouring runs."""
    return median(ours) / median(theirs), median([one / other for one, other in zip(ours, theirs, strict=True)])


def verdict(value, must):
    return f"must {must:g}: {'ok' if value <= must else 'MISS'}"


def compare(count, runs):
    """Return lines to show, and the same for a program."""
    kinds = ("watched", "bare", "xargs")
    times = {kind: [] for kind in kinds}
    for _ in range(runs):
        for kind in kinds:
            times[kind].append(child(kind, count)["seconds"])
    lines = [f"{count} x /bin/true, 2 workers, {runs} runs"]
    lines += [f"  {kind:8} {spread([one / count * 1e6 for one in times[kind]])} us" for kind in kinds]
    objects = []
    for peer, must in (("bare", MUST), ("xargs", None)):
        ratio, pairwise = ratios(times["watched"], times[peer])
        held = f", {verdict(ratio, must)}" if must else ""
        lines.append(f"  watched / {peer} {ratio:.2f}, pairwise {pairwise:.2f}{held}")
        objects.append(
            {"case": "watched", "peer": peer, "ours": times["watched"], "theirs": times[peer], "value": ratio,
             "pairwise": pairwise, "must": must}
        )  # fmt: skip
    return lines, objects


def flood(count, runs):
    """Return lines to show, and the same for a program."""
    few = min(1000, count)
    lines, objects = [f"{count} reports from one task, {runs} runs"], []
    for kind in ("executable", "worker"):
        measured = [(child(kind, count), child(kind, few)) for _ in range(runs)]
        rates = [count / many["seconds"] for many, _ in measured]
        grown = [many["memory"] - less["memory"] for many, less in measured]
        held = verdict(median(grown), MUST_GROW)
        lines.append(f"  {kind:10} {spread(rates)} a second, {spread(grown, 1)} MiB more than {few}, {held}")
        objects.append(
            {"case": "reports", "from": kind, "rates": rates, "grown": grown, "value": median(grown), "must": MUST_GROW}
        )
    return lines, objects


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000, help="how many /bin/true")
    parser.add_argument("--reports", type=int, default=100_000, help="how many reports")
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON object for each comparison")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child](given.tasks)
        return 0
    if given.quick:
        given.tasks, given.reports, given.runs = 20, 2000, 1
    prepare()
    failed = False
    if not given.json:
        print(machine())
    for part, count in ((compare, given.tasks), (flood, given.reports)):
        try:
            lines, objects = part(count, given.runs)
        except FailedError as error:
            print(f"failed: {error}", file=sys.stderr)
            failed = True
        else:
            print("\n".join(map(json.dumps, objects) if given.json else lines), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
