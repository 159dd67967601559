"""The writer is killed with -9 at any step: what was told is there, in order, and the rest is a prefix or nothing."""

import os
import random
import signal
import sys
from pathlib import Path

import pytest

from pexen.state import appender
from pexen.state.disk import Steps
from pexen.state.journal import Journal
from pexen.state.reader import read
from tests.state.hand import Deadly, run
from tests.state.test_journal import numbers

RECORDS = 12
LARGE = 5


def write(folder: str, told: int, last: int, part: float, durability: str) -> None:
    """Write a journal until killed; what is committed is told through a pipe. Runs in a process of its own."""
    with Journal(
        folder, durability=durability, committed=lambda seq: os.write(told, b"%d\n" % seq), steps=Deadly(last, part),
        gather=0.0,
    ) as journal:  # fmt: skip
        journal.append(run())
        for number in range(RECORDS):
            journal.append({"kind": "note", "n": number}, b"x" * 99 if number % LARGE == 0 else b"")
            if number % 2:
                journal.push()
            if number % 3 == 0:
                journal.flush()


def killed_at(folder: Path, last: int, part: float, durability: str) -> tuple[int, bool]:
    """Have a writer killed at step ``last``; return the last number that it told, and whether it was killed at all."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            write(str(folder), writing, last, part, durability)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - nothing of pytest may run in a fork of it
            print(repr(error), file=sys.__stderr__, flush=True)
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().split()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, -signal.SIGKILL}
    assert [int(seq) for seq in said] == sorted({int(seq) for seq in said})
    return (int(said[-1]) if said else 0), code != 0


def check(folder: Path, told: int, before: int = 0) -> int:
    """Look at what a killed writer has left; return the number of its last record."""
    record = read(folder)
    assert record.last >= told
    assert len(record.notices) <= (2 if record.last == 0 else 1)
    for seq in range(before + 1, record.last + 1):
        number = (seq - before - 2) if seq > before + 1 else -1
        if number >= 0 and number % LARGE == 0:
            assert (folder / "values" / f"{seq}.json").read_bytes() == b"x" * 99
    return record.last


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("durability", ["full", "process"])
def test_killed_at_any_step_and_again_at_any_step_of_going_on(tmp_path: Path, durability: str, part: float) -> None:
    step, chance = 0, random.Random(5)
    while True:
        folder = tmp_path / str(step)
        folder.mkdir()
        told, was_killed = killed_at(folder, step, part, durability)
        if not was_killed:
            assert told == RECORDS + 1
            break
        if (folder / appender.FILE).exists():
            last = check(folder, told)
            assert numbers(folder) == list(range(last - 1 if last else 0))
            again, _ = killed_at(folder, chance.randrange(40), part, durability)
            end = check(folder, max(told, again), last)
            assert numbers(folder) == list(range(max(0, last - 1))) + list(range(end - last - 1))
            with Journal(folder, durability=durability) as journal:
                assert journal.append(run()) == end + 1
            assert read(folder).notices == []
        step += 1
    assert step > 15


class Forgetting(Steps):
    """Knows which bytes would have survived a power cut: those that were there at the last sync."""

    def __init__(self) -> None:
        self.synced = 0

    def fdatasync(self, fd):
        os.fdatasync(fd)
        self.synced = os.fstat(fd).st_size


@pytest.mark.parametrize("seed", range(3))
def test_of_what_was_not_synced_any_prefix_may_be_left(tmp_path: Path, seed: int) -> None:
    steps, told, chance = Forgetting(), [], random.Random(seed)
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        seen.append((told[-1] if told else 0, steps.synced, os.path.getsize(tmp_path / appender.FILE)))

    with Journal(tmp_path, steps=steps, committed=told.append, gather=0.0) as journal:
        journal.append(run())
        for number in range(60):
            journal.append({"kind": "note", "n": number})
            look()
            if chance.random() < 0.2:
                journal.flush()
                look()
    whole = (tmp_path / appender.FILE).read_bytes()
    for promised, synced, size in seen:
        for left in {synced, size, chance.randint(min(synced, size), max(synced, size))}:
            for tail in (b"", bytes(chance.randrange(1, 5000))):
                (tmp_path / appender.FILE).write_bytes(whole[:left] + tail)
                assert read(tmp_path).last >= promised


def test_the_sweep_would_notice_a_journal_that_tells_too_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The promise broken on purpose: called back before it is written."""

    class Early(appender.Appender):
        def write(self, queue):
            told.append(self.last + len(queue))
            super().write(queue)

    told: list[int] = []
    monkeypatch.setattr("pexen.state.journal.Appender", Early)
    steps = Steps()

    def fail(fd, data):
        raise OSError(28, "No space left on device")

    with Journal(tmp_path, steps=steps) as journal:
        steps.write = fail
        journal.append(run())
        assert not journal.flush()
    with pytest.raises(AssertionError):
        check(tmp_path, told[-1])
