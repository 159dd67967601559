"""What pexen costs around tasks that do nothing, beside what people use today for the same work.

Each case and each of its peers runs in fresh processes, in turn (we, they, we, they, …), on the same machine with the
same interpreter; graph building and the start of the workers are part of every time. Shown are medians with the least
and the most in brackets, the ratio of the medians (our time / theirs: below 1 we are faster), and the median of the
ratios of neighbouring runs, which a machine that grows busy in between disturbs less. ``must`` is what pexen promises,
``aim`` what we want; README.md beside this file says what exactly is compared.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trees
from measure import TEMPORARY, FailedError, fresh, is_installed, machine, median, prepare, table


@dataclass(frozen=True)
class Peer:
    """Somebody else's way: what people call it, its case in `peers`, what it needs, and the ratios we must and want."""

    label: str
    case: str
    must: float
    aim: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """Some work: its case in `ours`, how many tasks (few with ``--quick``), and the folder it happens in."""

    told: str
    ours: str
    n: int
    quick: int
    peers: tuple[Peer, ...] = ()
    tree: Callable[[Path, int], None] | None = None
    needs: tuple[str, ...] = ()
    tenth: float | None = None
    """What a task may cost at most, compared with a tenth as many of them."""
    bytes: tuple[int, int] | None = None
    """What a task must and should take of memory at most."""


EXECUTOR = "ThreadPoolExecutor, as_completed"
GRAPHLIB = "graphlib + ThreadPoolExecutor"

CASES = {
    "independent": Case(
        "{n} no-ops, 2 threads", "independent", 20_000, 200, (Peer(EXECUTOR, "independent_executor", 0.7, 0.4),)
    ),
    "sleeps": Case("{n} coroutines that sleep 10 ms", "sleeps", 10_000, 100, (Peer("asyncio.gather", "sleeps_gather", 5, 3),)),
    "layers": Case(
        "{n} no-ops, layers of 100, 3 requirements", "layers_of_100", 20_000, 400,
        (
            Peer(GRAPHLIB, "layers_graphlib", 1.0, 0.7),
            Peer("dask.threaded.get", "layers_dask", 0.1, 0.1, ("import dask",)),
        ),
    ),
    "chain": Case("a chain of {n}", "chain", 5_000, 100, (Peer(GRAPHLIB, "chain_graphlib", 0.2, 0.08),)),
    "one-lock": Case(
        "{n} on one lock", "one_lock", 20_000, 200,
        (Peer("threading.Lock in ThreadPoolExecutor", "one_lock_executor", 0.6, 0.35),), tenth=1.5,
    ),
    "random-pairs": Case(
        "{n} over 100 locks in random pairs", "random_pairs", 20_000, 200,
        (Peer("ordered locks in ThreadPoolExecutor", "random_pairs_executor", 0.6, 0.35),),
    ),
    "processes": Case(
        "{n} no-ops, 2 processes", "processes", 5_000, 50,
        (
            Peer("multiprocessing.Pool.imap_unordered", "processes_pool", 1.5, 1.0),
            Peer("ProcessPoolExecutor", "processes_executor", 0.5, 0.2),
        ),
    ),
    "commands": Case(
        "/bin/true {n} times, from the library", "commands", 2_000, 20,
        (Peer("make -j2", "commands_make", 1.35, 1.1, ("make",)),), trees.makefile,
    ),
    "tree": Case(
        "pexen run -j2, {n} executables", "tree", 2_000, 20,
        (Peer("ninja -j2", "tree_ninja", 0.9, 0.7, ("ninja",)),), trees.executables, ("pexen",),
    ),
    "output": Case(
        "pexen run -j2, {n} scripts that print", "tree", 300, 20,
        (Peer("ctest -j2", "talkers_ctest", 1.0, 0.8, ("ctest",)),), trees.talkers, ("pexen",),
    ),
    "million": Case(
        "{n} no-ops in layers, really run", "million", 1_000_000, 2_000,
        (Peer("ninja -n", "million_ninja", 1.5, 1.1, ("ninja",)),), trees.layers, bytes=(1200, 900),
    ),
    "help": Case(
        "pexen --help", "start", 10, 2,
        (Peer("python -I -c pass", "help_python", 5, 4),), trees.one, ("pexen",),
    ),
    "single": Case(
        "pexen run, one executable", "single", 5, 1,
        (Peer("lit", "single_lit", 1.0, 0.7, ("lit",)),), trees.one, ("pexen",),
    ),
}  # fmt: skip


@dataclass
class Row:
    """One comparison. ``ours`` and ``theirs`` are seconds of runs that were made in turn, or bytes."""

    case: str
    peer: str
    ours: list[float]
    theirs: list[float] = field(default_factory=list)
    must: float | None = None
    aim: float | None = None
    unit: str = "s"
    note: str = ""

    @property
    def value(self) -> float | None:
        """What is held against ``must`` and ``aim``: the ratio of the medians, or a task's bytes."""
        if self.unit == "bytes":
            return median(self.ours)
        return median(self.ours) / median(self.theirs) if self.ours and self.theirs else None

    @property
    def pairwise(self) -> float | None:
        """The median of the ratios of neighbouring runs."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=False)]
        return median(ratios) if ratios else None

    @property
    def verdict(self) -> str:
        """``ok`` or ``MISS``, or why there is none."""
        if self.value is None or self.must is None:
            return self.note or "-"
        if self.value > self.must:
            return "MISS"
        return "ok" if self.aim is None or self.value > self.aim else "ok, aim"

    def cells(self) -> list[str]:
        """Return the row as it is shown."""
        return [
            self.case, self.peer, spread(self.ours, self.unit), spread(self.theirs, self.unit),
            "" if self.unit == "bytes" else short(self.value), short(self.pairwise),
            short(self.must), short(self.aim), self.verdict,
        ]  # fmt: skip

    def as_json(self) -> dict[str, object]:
        """Return the row for a program."""
        return {
            "case": self.case, "peer": self.peer, "unit": self.unit, "ours": self.ours, "theirs": self.theirs,
            "value": self.value, "pairwise": self.pairwise, "must": self.must, "aim": self.aim, "verdict": self.verdict,
        }  # fmt: skip


HEADER = ["case", "beside", "ours", "theirs", "ratio", "pairwise", "must", "aim", "verdict"]


def short(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}".removesuffix("0")


def spread(values: list[float], unit: str) -> str:
    """Return the median, and the least and the most in brackets."""
    if not values:
        return ""
    if unit == "bytes":
        return f"{median(values):,.0f} bytes"
    factor, name, digits = (1e3, "ms", 0) if median(values) < 10 else (1, "s", 1)
    if median(values) < 0.1:
        digits = 1
    least, middle, most = (f"{factor * value:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} {name} ({least}-{most})"


def measure(case: Case, n: int, runs: int) -> list[Row]:
    """Return a case's comparisons: we and each peer in turn, ``runs`` times."""
    told = case.told.format(n=f"{n:,}")
    missing = {what for what in case.needs if not is_installed(what)}
    if missing:
        return [Row(told, peer.label, [], note=f"{' '.join(missing)} not installed") for peer in case.peers]
    peers = {peer: all(map(is_installed, peer.needs)) for peer in case.peers}
    ours, small, memory = [], [], []
    theirs: dict[Peer, list[float]] = {peer: [] for peer in peers}
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as temporary:
        folder = Path(temporary).resolve() / "work"
        folder.mkdir()
        if case.tree is not None:
            case.tree(folder, n)
        for _ in range(runs):
            measured = fresh("ours.py", case.ours, n, folder)
            ours.append(measured["seconds"])
            memory.append(measured.get("bytes", 0))
            for peer, there in peers.items():
                if there:
                    theirs[peer].append(fresh("peers.py", peer.case, n, folder)["seconds"])
            if case.tenth is not None:
                small.append(fresh("ours.py", case.ours, n // 10, folder)["seconds"])
    rows = [
        Row(told, peer.label, ours, theirs[peer], peer.must, peer.aim, note="" if there else "not installed")
        for peer, there in peers.items()
    ]
    if case.tenth is not None:
        a_task = [[1000 * one / n for one in ours], [1000 * one / (n // 10) for one in small]]
        rows.append(Row(f"  1,000 of them at {n:,}", f"1,000 of them at {n // 10:,}", *a_task, must=case.tenth))
    if case.bytes is not None:
        rows.append(Row("  bytes a task", "", memory, must=case.bytes[0], aim=case.bytes[1], unit="bytes"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(CASES), metavar="CASE,CASE…",
                        help=f"of {', '.join(CASES)}")  # fmt: skip
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="how many times each (default 7)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run: does it still work?")
    parser.add_argument("--json", action="store_true", help="one JSON object for each comparison")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    prepare()
    rows, failed = [], []
    for name in options.cases:
        case = CASES[name]
        if sys.stderr.isatty():
            print(f"\r{name}\033[K", end="\r", file=sys.stderr, flush=True)
        try:
            rows += measure(case, case.quick if options.quick else case.n, 1 if options.quick else options.runs)
        except FailedError as error:
            failed.append(f"{name}: {error}")
    if options.json:
        for row in rows:
            print(json.dumps(row.as_json()))
    elif rows:
        print(f"{machine()}, {1 if options.quick else options.runs} runs each\n")
        print(table(HEADER, [row.cells() for row in rows], left=2))
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
