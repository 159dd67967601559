"""Results to other processes: a stream beside `multiprocessing.Queue`, and what is lost when consumers are killed.

``queue``: a run of no-op callables in threads, whose results two consumer processes read; beside the same run, whose results
are put into a `multiprocessing.Queue` by the loop over it. Each run is a fresh process, in turn; the clock runs from the start
of the run, when the consumers are there, until both have read the end. Shown are medians with the least and the most in
brackets, the ratio of the medians, and the median of the ratios of neighbouring runs.

``killed``: a consumer is killed, again and again, while it reads; another takes its place. What every consumer was given is
written to a pipe before it asks for more, so what is lost, and what came twice without being marked, can be counted.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from multiprocessing.connection import wait

from commands import ratios, spread, verdict
from measure import FailedError, fresh, machine, prepare

MUST = 1.0
CONSUMERS = 2
SPAWN = multiprocessing.get_context("spawn")


# -- in the consumers -------------------------------------------------------------------------------------------------


def nothing():
    """Be a task."""


def read_stream(stream, told):
    told.send("ready")
    told.send(sum(result.ok for result in stream))


def read_queue(queue, told):
    told.send("ready")
    told.send(sum(result.ok for result in iter(queue.get, None)))


def note_all(stream, told):
    """Write down each result before the next one is asked for."""
    for result in stream:
        os.write(told.fileno(), f"{result.path} {result.redelivered:d}\n".encode())
    os.write(told.fileno(), b"end\n")


# -- in the child -----------------------------------------------------------------------------------------------------


def started(function, source):
    """Start a consumer; return it, and what it says."""
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=function, args=(source, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def begun(count):
    """Return a run in which nothing ends before the gate is open, and the gate."""
    from pexen import Sched, Task, ThreadPool

    gate = threading.Event()
    tasks = [Task(gate.wait, f"gate{number}", priority=-1) for number in range(2)]
    tasks += [Task(nothing, f"t{number}") for number in range(count - 2)]
    return Sched(tasks, pool=ThreadPool(2)).start(), gate


def timed(kind, count):
    """Print the seconds in which two processes have read all results of a run."""
    run, gate = begun(count)
    source = run.stream() if kind == "stream" else SPAWN.Queue()
    function = read_stream if kind == "stream" else read_queue
    consumers = [started(function, source) for _ in range(CONSUMERS)]
    for _, ours in consumers:
        ours.recv()
    begin = time.perf_counter()
    gate.set()
    if kind == "queue":
        for result in run:
            source.put(result)
        for _ in consumers:
            source.put(None)
    total = sum(ours.recv() for _, ours in consumers)
    seconds = time.perf_counter() - begin
    for process, _ in consumers:
        process.join()
    if total != count:
        raise FailedError(f"{total} results of {count}")
    print(json.dumps({"seconds": seconds}))


def killed(count, kills):
    """Kill consumers while they read; print how many there were, and what was lost or came twice unmarked."""
    run, gate = begun(count)
    stream = run.stream()
    consumers = [started(note_all, stream) for _ in range(CONSUMERS)]
    gate.set()
    lines, rests, left = [], {}, kills
    while consumers:
        ready = wait([ours for _, ours in consumers])
        for process, ours in [one for one in consumers if one[1] in ready]:
            data = os.read(ours.fileno(), 4096 if left else 1 << 16)
            *found, rests[ours] = (rests.get(ours, b"") + data).split(b"\n")
            lines += [line for line in found if line != b"end"]
            if not data:
                process.join()
                consumers.remove((process, ours))
            elif left and b"end" not in found and process.is_alive():
                left -= 1
                os.kill(process.pid, signal.SIGKILL)
                consumers.append(started(note_all, stream))
    stream.close()
    told = Counter(line.split()[0] for line in lines)
    unmarked = Counter(line.split()[0] for line in lines if line.endswith(b" 0"))
    print(json.dumps({
        "kills": kills - left, "lost": count - len(told), "redelivered": len(lines) - unmarked.total(),
        "twice": sum(number > 1 for number in unmarked.values()),
    }))  # fmt: skip


# -- in the parent ----------------------------------------------------------------------------------------------------


def compare(count, runs):
    """Return lines to show, and the same for a program."""
    times = {"stream": [], "queue": []}
    for _ in range(runs):
        for kind, found in times.items():
            found.append(fresh("stream.py", "--child", kind, "--results", count)["seconds"])
    lines = [f"{count} results to {CONSUMERS} processes, {runs} runs"]
    lines += [f"  {kind:8} {spread([one / count * 1e6 for one in found], 1)} us" for kind, found in times.items()]
    ratio, pairwise = ratios(times["stream"], times["queue"])
    lines.append(f"  stream / queue {ratio:.2f}, pairwise {pairwise:.2f}, {verdict(ratio, MUST)}")
    told = {"case": "queue", "ours": times["stream"], "theirs": times["queue"], "value": ratio, "pairwise": pairwise}
    return lines, {**told, "must": MUST}


def count_lost(count, kills):
    """Return lines to show, and the same for a program."""
    told = fresh("stream.py", "--child", "killed", "--results", count, "--kills", kills)
    if told["kills"] < kills:
        raise FailedError(f"all {count} results were read after {told['kills']} kills of {kills}")
    words = ", ".join(f"{told[key]} {key}" for key in ("lost", "twice", "redelivered"))
    return [f"{count} results, {kills} consumers killed: {words}"], {"case": "killed", **told, "must": 0}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=100_000, help="how many results")
    parser.add_argument("--kills", type=int, default=100, help="how many consumers to kill")
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON object for each comparison")
    parser.add_argument("--child", choices=["stream", "queue", "killed"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child == "killed":
        killed(given.results, given.kills)
        return 0
    if given.child:
        timed(given.child, given.results)
        return 0
    if given.quick:
        given.results, given.kills, given.runs = 2000, 3, 1
    prepare()
    failed = False
    if not given.json:
        print(machine())
    for measure, arguments in ((compare, (given.results, given.runs)), (count_lost, (given.results, given.kills))):
        try:
            lines, told = measure(*arguments)
        except FailedError as error:
            print(f"failed: {error}", file=sys.stderr)
            failed = True
        else:
            print(json.dumps(told) if given.json else "\n".join(lines), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
