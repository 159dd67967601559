"""A run is killed with -9 at every step it takes, so is its resume, and the resume of that: nothing told is lost or repeated.

Steps are writes, syncs, cuts and renames of the journal, and the moments before and after a task is handed to its pool.
`make test-crash` (``PEXEN_CRASH=all``) combines each with some forty pairs of others, shifted from one to the next, so that
every step is every one of the three; by default each is combined with one pair or two: with "process" there are fewer steps.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pexen
from pexen.state import journal
from pexen.state.reader import read
from tests.state.hand import Deadly

ALL = os.environ.get("PEXEN_CRASH") == "all"
PATHS = {
    "setup", "locked/0", "locked/1", "locked/2", "flaky", "bad", "needs_bad", "grow", "grown/0", "grown/1", "last",
    "server", "group/0", "group/1", "adder", "made/0", "made/1", "sum",
}  # fmt: skip
SERVICES = {"server"}
"""What runs again whenever somebody needs it."""
STATUSES = {"bad": "failed", "needs_bad": "skipped"}
pytestmark = pytest.mark.timeout(0 if ALL else 240)  # all of them take half an hour


UP: list[str] = []
RUNNING: set[str] = set()
LOCK = threading.Lock()


def note(notes: str, path: str) -> None:
    """Note that a task has run."""
    fd = os.open(f"{notes}/{path.replace('/', '_')}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, b"x")
    os.close(fd)


@contextmanager
def at_work(path: str) -> Iterator[None]:
    """See that a task runs beside none that it must not run beside, and with the service that it needs."""
    with LOCK:
        assert not path.startswith("group/") or all(one.startswith("group/") for one in RUNNING)
        assert path.startswith("group/") or not any(one.startswith("group/") for one in RUNNING)
        assert path not in {"locked/0", "group/0"} or UP
        RUNNING.add(path)
    try:
        yield
    finally:
        with LOCK:
            RUNNING.discard(path)


def made(notes: str, number: int) -> int:
    """Do what a task does that was added on the fly; it can be imported, so its adder need not run again for it."""
    with at_work(f"made/{number}"):
        note(notes, f"made/{number}")
        return number


def graph(notes: str) -> list[pexen.Task]:
    """Return tasks that note each time they run: with locks, a retry, a failure, values."""

    def noted(path: str, value: object = None, **meta: object):
        def run():
            with at_work(path):
                note(notes, path)
                if path == "flaky" and pexen.current().attempt == 1:
                    raise OSError("the first time")
                assert path != "bad"
                return value

        return pexen.Task(run, path, **meta)

    def server():
        note(notes, "server")
        UP.append("server")
        yield 80
        assert not RUNNING & {"locked/0", "group/0"}
        UP.remove("server")

    def adder():
        with at_work("adder"):
            note(notes, "adder")
            return [pexen.Task(made, f"made/{n}", args=(notes, n)) for n in range(2)]

    def total(adder: list[int]):
        with at_work("sum"):
            note(notes, "sum")
            assert adder == [0, 1]

    return [
        pexen.Task(server, "server", service=True),
        noted("group/0", group="alone", requires="server"),
        noted("group/1", group="alone", requires="/locked/1"),
        pexen.Task(adder, "adder", expand=True),
        pexen.Task(total, "sum", requires="/adder"),
        noted("setup", {"a": 1}).replace(provides="db"),
        *(noted(f"locked/{n}").replace(claims="disk", requires=["db", *["server"][n:]]) for n in range(3)),
        noted("flaky").replace(retries=1),
        noted("bad"),
        noted("needs_bad").replace(requires="/bad"),
        noted("grow", 2).replace(requires="db"),
        noted("last").replace(after=["/locked", "/flaky"]),
        *(noted(f"grown/{n}").replace(claims="disk") for n in range(2)),
    ]


class Stepping(pexen.ThreadPool):
    """Handing an attempt to the pool is a step before and one after."""

    def __init__(self, steps: Deadly) -> None:
        super().__init__(2)
        self._steps = steps

    def submit(self, attempt) -> None:
        self._steps.die_or_go_on()
        super().submit(attempt)
        self._steps.die_or_go_on()


def live(folder: str, notes: str, told: int, last: int, durability: str) -> None:
    """Run or resume until killed at step ``last``; tell each result that the loop is given."""
    steps = Deadly(last, 0.5)
    made = journal.Appender
    journal.Appender = lambda at, **options: made(at, **{**options, "steps": steps})  # type: ignore[assignment, misc]
    *planned, first, second = graph(notes)
    group = pexen.Group("alone", pool=Stepping(steps))
    sched = pexen.Sched([group, *planned], journal=folder, durability=durability, pool=Stepping(steps))
    for result in sched.run():
        if result.path == "grow":
            sched.add([first, second])
        os.write(told, f"{result.path} {result.status}\n".encode())


def life(folder: Path, notes: Path, last: int, durability: str) -> tuple[dict[str, str], bool]:
    """Return what one process has told of results, and whether it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            live(str(folder), str(notes), writing, last, durability)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - nothing of pytest may run in a fork of it
            print(repr(error), file=sys.__stderr__, flush=True)
            os._exit(1)
    os.close(writing)
    with open(reading) as pipe:
        said = [line.split() for line in pipe]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return dict(said), code != 0


def counts(notes: Path) -> dict[str, int]:
    return {path: _size(notes / path.replace("/", "_")) for path in PATHS}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def check(folder: Path, lives: list[int], durability: str) -> int:
    """Have a run killed at these steps, one life after the other, and then let it end; return how often it was killed."""
    notes = folder / "notes"
    notes.mkdir(parents=True)
    run = folder / "run"
    run.mkdir()
    told: dict[str, str] = {}
    kills = 0
    for last in [*lives, 10**9]:
        before = counts(notes)
        said, killed = life(run, notes, last, durability)
        kills += killed
        after = counts(notes)
        for path, status in told.items():
            assert path in SERVICES or after[path] == before[path], (
                f"{path} was told and has run again; killed at {lives}"
            )
            assert said.get(path, status) == status or path in SERVICES
        told.update(said)
    assert not killed
    assert told.keys() == PATHS
    assert told.pop("server") in {"passed", "skipped"}, "who was killed as it went down is not needed any more"
    assert told == {path: STATUSES.get(path, "passed") for path in PATHS - SERVICES}
    record = read(run)
    assert record.duplicates == 0
    assert {path for path, story in record.stories.items() if story.is_finished} == PATHS
    assert len(list(record.results())) == len(PATHS)
    return kills


def steps_of(folder: Path, durability: str) -> int:
    """Return after how many steps nobody is killed any more."""
    low = 10
    while True:
        folder.joinpath(str(low)).mkdir(parents=True)
        (folder / str(low) / "notes").mkdir()
        if not life(folder / str(low), folder / str(low) / "notes", low, durability)[1]:
            return low
        low += 10


@pytest.mark.parametrize("durability", ["full", "process"])
def test_killed_at_every_step_and_while_resuming_and_while_resuming_that(tmp_path, durability):
    most = steps_of(tmp_path / "most", durability)
    assert most > 30
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    kills = 0
    for first in range(most) if ALL else sorted(draw.sample(range(most), 50)):
        others = _many(first, most) if ALL else [_two(draw, most) for _ in range(_PAIRS[durability])]
        for number, (second, third) in enumerate(others):
            kills += check(tmp_path / f"{first}-{number}", [first, second, third], durability)
    assert kills >= 100, f"seed {seed}"


_PAIRS = {"full": 1, "process": 2}


def _many(first: int, most: int) -> list[tuple[int, int]]:
    return [(n, m) for n in range(first % 7, most, 7) for m in range(first % 11, most, 11)]


def _two(draw: random.Random, most: int) -> tuple[int, int]:
    return draw.randrange(most // 2), draw.randrange(most // 2)
