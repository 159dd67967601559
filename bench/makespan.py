"""How soon everything is over: tasks of heavy-tailed durations, listed longest last, on four workers.

What starts the longest one last waits for it alone at the end. Nobody can be done before the longest is, nor before a
quarter of all: the greater of the two is the best there is, and what is shown is how many times that a whole program
takes, start of the interpreter included. The tasks sleep, so that four of them need no four CPUs. pexen knows the
durations from its first run; so does ctest. ninja and pytest-xdist know none. In each round all take their turns, with a
first and a second run of those that learn from it; shown are medians with the least and the most in brackets.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from measure import TEMPORARY, FailedError, executable, fresh, is_installed, machine, median, prepare, whole_process
from trees import forget

MUST, AIM = 1.05, 1.02
WORKERS = 4
ALPHA = 1.2
"""Of the Pareto distribution that the durations are quantiles of: a tenth of the tasks takes more than half of the time."""


def durations(count, seconds):
    """Return ``count`` durations that take ``seconds`` together, the longest last."""
    shape = [(1 - (number + 0.5) / count) ** (-1 / ALPHA) for number in range(count)]
    return [round(one * seconds / sum(shape), 3) for one in shape]


def write(folder, found):
    """Write the tasks for everybody: executables, edges for ninja, tests for ctest and for pytest."""
    edges, tests = ["rule run", "  command = ./$in"], []
    (folder / "tree").mkdir()
    for number, seconds in enumerate(found):
        file = folder / "tree" / f"t{number:02}.sh"
        file.write_text(f"#!/bin/sh\nexec sleep {seconds}\n")
        file.chmod(0o755)
        edges.append(f"build done{number:02}: run tree/{file.name}")
        tests.append(f'add_test("{file.name}" "{file}")')
    (folder / "build.ninja").write_text("\n".join(edges) + "\n")
    (folder / "CTestTestfile.cmake").write_text("\n".join(tests) + "\n")
    (folder / "test_it.py").write_text(
        "import pytest, time\n\n"
        f"@pytest.mark.parametrize('seconds', {found!r})\ndef test_it(seconds):\n    time.sleep(seconds)\n"
    )


class Peer(NamedTuple):
    """What it needs, what is run, what it says when all was run, and the runs that are measured."""

    needs: str
    argv: list[str]
    said: str
    runs: tuple[str, ...] = ("second",)


PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:randomly",
    f"-n{WORKERS}",
    "--basetemp=temporary",
]
PEERS = {
    "pexen": Peer("pexen", [executable("pexen"), "run", "tree", f"-j{WORKERS}"], "{n} passed", ("first", "second")),
    "ninja": Peer("ninja", ["ninja", f"-j{WORKERS}"], "[{n}/{n}]"),
    "ctest": Peer("ctest", ["ctest", f"-j{WORKERS}"], "0 tests failed out of {n}", ("first", "second")),
    "pytest-xdist": Peer("import xdist", PYTEST, "{n} passed"),
}
"""Who learns nothing from a first run is spared it."""


def measured(folder, count, runs):
    """Return the seconds of first and second runs, by name."""
    there = {name: peer for name, peer in PEERS.items() if is_installed(peer.needs)}
    times = {(name, which): [] for name, peer in there.items() for which in peer.runs}
    for _ in range(runs):
        forget(folder)
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        for which, name in (
            (which, name) for which in ("first", "second") for name, peer in there.items() if which in peer.runs
        ):
            found = fresh("makespan.py", "--child", name, "--folder", folder, "--tasks", count)
            times[name, which].append(found["seconds"])
    return times


def compare(count, seconds, runs):
    """Return lines to show, and the same for a program."""
    found = durations(count, seconds)
    best = max(sum(found) / WORKERS, *found)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as name:
        folder = Path(name) / "work"
        folder.mkdir()
        write(folder, found)
        times = measured(folder, count, runs)
    about = f"{count} tasks, {sum(found):.1f} s, the longest {max(found):.2f} s, listed last"
    lines = [f"{about}; {WORKERS} workers, {runs} runs; at best {best:.2f} s"]
    objects = []
    for (name, which), taken in times.items():
        many = [one / best for one in taken]
        held = name == "pexen" and which == "second"
        value = median(many)
        verdict = ("ok, aim" if value <= AIM else "ok" if value <= MUST else "MISS") if held else ""
        told = f", must {MUST:g}, aim {AIM:g}: {verdict}" if held else ""
        lines.append(
            f"  {name:12} {which:6} {median(taken):.2f} s, {value:.3f} [{min(many):.3f} … {max(many):.3f}] x the best{told}"
        )
        objects.append(
            {"case": "makespan", "who": name, "run": which, "seconds": taken, "best": best, "value": value,
             "must": MUST if held else None, "aim": AIM if held else None, "verdict": verdict}
        )  # fmt: skip
    for name, peer in PEERS.items():
        if not is_installed(peer.needs):
            lines.append(f"  {name:12} not installed")
            objects.append({"case": "makespan", "who": name, "run": None, "must": None, "verdict": "not installed"})
    return lines, objects


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=60, help="how many")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they take together")
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON object for each program and run")
    parser.add_argument("--child", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        peer = PEERS[given.child]
        print(json.dumps(whole_process(peer.argv, given.folder, expect=peer.said.format(n=given.tasks))))
        return 0
    if given.quick:
        given.tasks, given.seconds, given.runs = 8, 0.4, 1
    prepare()
    if not given.json:
        print(machine())
    try:
        lines, objects = compare(given.tasks, given.seconds, given.runs)
    except FailedError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(json.dumps, objects) if given.json else lines), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
