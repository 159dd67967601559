"""What watching costs: /bin/true with watchdog, guardian, capture and a timeout on each, beside the same without them.

Each run is a fresh process, in turn (watched, bare, peer, watched, …), on two workers. It prints the seconds from the
first task to the last result, without the interpreter's start, so the guardian costs what it costs while tasks run.
Shown are medians with the least and the most in brackets, and the median of the ratios of neighbouring runs; ``must`` is
what pexen promises. Then one task that reports a hundred thousand times: reports a second, and how much more memory the
runner has at its peak than after a thousand reports.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

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
    import pexen

    tasks = [pexen.command(["/bin/true"], path=f"t{number}", **meta) for number in range(count)]
    started = time.perf_counter()
    results = pexen.Sched(tasks, pool=pool).wait()
    seconds = time.perf_counter() - started
    assert results.ok
    return seconds


def watched(count):
    import pexen
    from pexen.cli.guardian import guarded

    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            pool = pexen.CommandPool(2, capture=True, output=folder)
            print(json.dumps([timed(pool, count, timeout="30m")]), flush=True)
        return 0

    sys.exit(guarded(run))


def bare(count):
    import pexen

    print(json.dumps([timed(pexen.CommandPool(2), count)]))


def xargs(count):
    started = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input="\n".join(map(str, range(count))), text=True, check=True)
    print(json.dumps([time.perf_counter() - started]))


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
    import pexen

    started = time.perf_counter()
    result = pexen.Sched([task], pool=pool).wait()["a"]
    assert result.ok, result.reason
    assert len(result.reports) == min(count, 1001)
    print(json.dumps([time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


CHILDREN = {each.__name__: each for each in (watched, bare, xargs, executable, worker)}


# -- in the parent ----------------------------------------------------------------------------------------------------


def fresh(what, count):
    """Run a child and return what it has measured."""
    argv = [sys.executable, __file__, "--child", what, "--tasks", str(count)]
    return json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)


def shown(seconds, count):
    each = [one / count * 1e6 for one in seconds]
    return f"{statistics.median(each):8.0f} us [{min(each):.0f} … {max(each):.0f}]"


def verdict(value, must):
    return f"must {must:g}: {'ok' if value <= must else 'MISS'}"


def compare(count, runs):
    kinds = ("watched", "bare", "xargs")
    times = {kind: [] for kind in kinds}
    for _ in range(runs):
        for kind in kinds:
            times[kind] += fresh(kind, count)
    print(f"{count} x /bin/true, 2 workers, {runs} runs")
    for kind in kinds:
        print(f"  {kind:8} {shown(times[kind], count)}")
    ratio = statistics.median(ours / theirs for ours, theirs in zip(times["watched"], times["bare"], strict=True))
    beside = statistics.median(ours / theirs for ours, theirs in zip(times["watched"], times["xargs"], strict=True))
    print(f"  watched / bare {ratio:.2f}, {verdict(ratio, MUST)}; watched / xargs {beside:.2f}")


def flood(count, runs):
    few = min(1000, count)
    print(f"{count} reports from one task, {runs} runs")
    for kind in ("executable", "worker"):
        measured = [(fresh(kind, count), fresh(kind, few)) for _ in range(runs)]
        rate = statistics.median(count / seconds for (seconds, _), _ in measured)
        grown = statistics.median(most - least for (_, most), (_, least) in measured)
        print(f"  {kind:10} {rate:9.0f} a second, {grown:5.1f} MiB more than {few}, {verdict(grown, MUST_GROW)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000, help="how many /bin/true")
    parser.add_argument("--reports", type=int, default=100_000, help="how many reports")
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child](given.tasks)
        return
    if given.quick:
        given.tasks, given.reports, given.runs = 20, 2000, 1
    compare(given.tasks, given.runs)
    flood(given.reports, given.runs)


if __name__ == "__main__":
    main()
