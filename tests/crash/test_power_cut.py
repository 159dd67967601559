"""The power is cut at every moment of a run, and any part of what was not synced is gone: nothing told is lost or repeated.

The disk is one that a strict reading of POSIX allows: of a file there is what was there at its last sync; a name is there, or
has changed, when its folder was synced since; and of what was added to the journal since its last sync any prefix may be left,
with NULs behind it. Nothing is really synced, so this is quick. What a prefix ends in the middle of a line is cut off by whoever
reads it, so every byte is read, and the run is taken up once for each line.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pexen
from pexen.errors import StateError
from pexen.state import appender, journal, records
from pexen.state.appender import FILE
from pexen.state.disk import Steps
from pexen.state.reader import read
from pexen.state.values import Unstorable
from tests.crash.test_sweep import ALL, PATHS, SERVICES, STATUSES, counts, graph
from tests.state import hand

TOLD = {path: STATUSES.get(path, "passed") for path in PATHS} | {"mail": "passed"}
pytestmark = pytest.mark.timeout(0 if ALL else 240)


class Moment(NamedTuple):
    """What the disk has for certain, what the journal may have beyond that, and what has been told and done."""

    names: dict[str, dict[str, int]]
    bytes: dict[int, bytes]
    journal: bytes
    told: dict[str, str]
    mailed: int


class Forgetful(Steps):
    """The disk, and everything that has happened, in its order."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.names: dict[str, dict[str, int]] = {}
        self.bytes: dict[int, bytes] = {}
        self.told: dict[str, str] = {}
        self.mailed = 0
        self.moments: list[Moment] = []
        for folder, _, files in os.walk(base):  # what is there in the beginning has survived something
            self._note_names(folder)
            for name in files:
                self._note_bytes(f"{folder}/{name}")

    def fdatasync(self, fd):
        self._look()
        self._note(os.readlink(f"/proc/self/fd/{fd}"))

    fsync = fdatasync

    def replace(self, source, target):
        self._look()
        super().replace(source, target)

    def _note(self, path: str) -> None:
        if os.path.isdir(path):
            self._note_names(path)
        else:
            self._note_bytes(path)

    def _note_names(self, folder: str) -> None:
        if folder.startswith(str(self.base)):
            self.names = {**self.names, folder: {one.name: one.inode() for one in os.scandir(folder)}}

    def _note_bytes(self, file: str) -> None:
        self.bytes = {**self.bytes, os.stat(file).st_ino: Path(file).read_bytes()}

    def _look(self) -> None:
        """Note how things stand just before something more is certain."""
        file = self.base / "above" / "run" / FILE
        there = file.read_bytes() if file.exists() else b""
        self.moments.append(Moment(self.names, self.bytes, there, dict(self.told), self.mailed))

    def end(self) -> list[Moment]:
        self._look()
        return self.moments


class Careless(Steps):
    """A disk for which nobody waits."""

    def fdatasync(self, fd):
        pass

    fsync = fdatasync


TORN = [b"", b"", bytes(99), b'{"seq":']
"""What may stand behind the last whole line."""
NOW: list[Forgetful] = []
"""The disk of the run that is going on; global, since a task is known again by its function and what that refers to."""


def tasks(notes: Path) -> list[pexen.Task]:
    """Return those of the sweep, and one that must not be run twice whatever happens."""

    def mail() -> None:
        for one in NOW:
            one.mailed += 1
        with open(f"{notes}/mail", "a") as file:
            file.write("x")

    return [pexen.Task(mail, "mail", once=True, after=["/setup"]), *graph(str(notes))]


def live(run: Path, notes: Path, steps: Steps, told: dict[str, str]) -> None:
    """Run it, or take it up, to its end."""
    made = appender.Appender
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "Appender", lambda at, **options: made(at, **{**options, "steps": steps}))
        patch.setattr(records, "INLINE", 0)  # all values go into files of their own
        *planned, first, second = tasks(notes)
        sched = pexen.Sched([pexen.Group("alone"), *planned], journal=run, pool=pexen.ThreadPool(2))
        for result in sched.run():
            if result.path == "grow":
                sched.add([first, second])
            told[result.path] = str(result.status)


def recorded(base: Path, notes: Path) -> list[Moment]:
    """Run on a forgetful disk; return all moments at which the power may be cut."""
    run = base / "above" / "run"
    steps = Forgetful(base)
    run.mkdir(parents=True, exist_ok=True)
    NOW.append(steps)
    try:
        live(run, notes, steps, steps.told)
    finally:
        NOW.clear()
    return steps.end()


def left(moment: Moment, base: Path, tail: bytes | None, now: Path) -> Path:
    """Make what is left after a power cut, with ``tail`` in the journal behind what is certain; return the run's folder."""
    shutil.rmtree(now, ignore_errors=True)

    def make(folder: str, to: Path) -> None:
        to.mkdir()
        for name, inode in moment.names.get(folder, {}).items():
            if f"{folder}/{name}" in moment.names:
                make(f"{folder}/{name}", to / name)
            elif inode in moment.bytes:
                (to / name).write_bytes(moment.bytes[inode])

    make(str(base), now)
    run = now / "above" / "run"
    run.mkdir(parents=True, exist_ok=True)
    if tail:
        with (run / FILE).open("ab") as file:
            file.write(tail)
    return run


def has_journal(moment: Moment, base: Path) -> bool:
    """Tell whether the journal's name is certain, and those of all folders above."""
    steps = [(base, "above"), (base / "above", "run"), (base / "above" / "run", FILE)]
    return all(name in moment.names.get(str(folder), {}) for folder, name in steps)


def certain(moment: Moment, base: Path) -> bytes:
    """Return what the journal has for certain."""
    inode = moment.names[str(base / "above" / "run")][FILE] if has_journal(moment, base) else 0
    return moment.bytes.get(inode, b"")


def tails(moment: Moment, base: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield everything that the journal may have behind what is certain, and whether that ends with a whole line."""
    if not has_journal(moment, base):
        yield b"", True
        return
    more = moment.journal[len(certain(moment, base)) :]
    for end in range(len(more) + 1):
        yield more[:end], not end or more[end - 1 : end] == b"\n"


def check_read(run: Path, told: dict[str, str]) -> None:
    """Check that all that was told is there, with its value.

    But for what was ``lost``: that follows from its start, which is there, and is found again by whoever looks.
    """
    told = {path: status for path, status in told.items() if status != "lost"}
    if told:
        record = read(run)
        finished = {path: story.status for path, story in record.stories.items() if story.is_finished}
        assert told.items() <= finished.items()
        for path in told:
            found: Any = record.result(path)
            assert not isinstance(found.carried, Unstorable), path
    elif (run / FILE).exists():
        read(run)


def check_taken_up(run: Path, notes: Path, moment: Moment, told: dict[str, str]) -> None:
    """Check what a run that was taken up has told, and left."""
    ran = counts(notes)
    assert {path for path in moment.told.keys() - SERVICES if ran.get(path)} == set(), "what was told has run again"
    mailed = moment.mailed + len(files_of(notes, "mail"))
    assert mailed <= 1, "what may run only once has run again"
    either = {"mail": {"passed", "lost"}, **{path: {"passed", "skipped"} for path in SERVICES}}
    assert told == {**TOLD, **{path: told[path] for path, statuses in either.items() if told[path] in statuses}}
    assert moment.told.items() <= told.items()
    record = read(run)
    assert (record.duplicates, len(record.sessions[-1].left), record.end and record.end["how"]) == (0, 0, "done")


def files_of(notes: Path, name: str) -> str:
    return (notes / name).read_text() if (notes / name).exists() else ""


def emptied(notes: Path) -> Path:
    shutil.rmtree(notes, ignore_errors=True)
    notes.mkdir()
    return notes


def cut_everywhere(
    base: Path, moments: list[Moment], notes: Path, *, share: float, draw: random.Random
) -> list[tuple[Path, int]]:
    """Cut the power at all moments, with all that may be left then; return some of what is left, for more of it."""
    some, now = [], base.parent / f"{base.name}-left"
    for moment in moments:
        safe = certain(moment, base)
        run = left(moment, base, b"", now)
        for tail, is_whole in tails(moment, base):
            for zeros in (b"", bytes(draw.randrange(1, 5000))) if is_whole else (b"",):
                if safe or tail:
                    (run / FILE).write_bytes(safe + tail + zeros)
                check_read(run, moment.told)
        for tail in (tail for tail, is_whole in tails(moment, base) if is_whole and draw.random() < share):
            torn = draw.choice(TORN) if certain(moment, base) else b""
            run = left(moment, base, tail + torn, now)
            if draw.random() < 0.1:
                kept = base.parent / f"{base.name}.{len(some)}"
                shutil.copytree(now, kept)
                some.append((kept, moment.mailed))
            told: dict[str, str] = {}
            live(run, emptied(notes), Careless(), told)
            check_taken_up(run, notes, moment, told)
    return some


def test_the_power_is_cut_at_every_moment(tmp_path):
    notes = tmp_path / "notes"
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    draw = random.Random(seed)
    for number in range(3 if ALL else 1):
        base = tmp_path / str(number)
        base.mkdir()
        moments = recorded(base, emptied(notes))
        assert moments[-1].told == TOLD
        assert len(moments) > 15
        some = cut_everywhere(base, moments, notes, share=1.0 if ALL else 0.3, draw=draw)
        for again in some if ALL else some[:1]:
            told_again(*again, notes, draw)


def told_again(base: Path, mailed: int, notes: Path, draw: random.Random) -> None:
    """Take up what a power cut has left, and cut that everywhere as well."""
    record = base / "above" / "run"
    finished = {}
    if (record / FILE).exists():
        finished = {path: story.status for path, story in read(record).stories.items() if story.is_finished}
    moments = recorded(base, emptied(notes))
    ran = counts(notes)
    assert not [path for path in finished if ran.get(path)]
    later = [one._replace(told={**finished, **one.told}, mailed=one.mailed + mailed) for one in moments]
    cut_everywhere(base, later, notes, share=0.2, draw=draw)


def test_a_start_is_remembered_although_who_found_it_was_killed_before_he_could_say_so(tmp_path):
    """Killed while it runs; so is who takes it up, with nothing written but that he began; and so is the next one."""
    notes = emptied(tmp_path / "notes")
    mail = tasks(notes)[0].replace(after=())
    assert pexen.run([mail], journal=tmp_path / "run")["mail"].status == "passed"
    lines = [json.loads(line) for line in (tmp_path / "run" / FILE).read_text().splitlines()]
    run, task, started, *_ = ({key: one[key] for key in one if key not in {"seq", "crc"}} for one in lines)
    assert (run["kind"], task["kind"], started["kind"]) == ("run", "task", "started")
    hand.written(tmp_path / "run", run, task, started, run, run)
    emptied(notes)
    result = pexen.run([mail], journal=tmp_path / "run")["mail"]
    assert (result.status, files_of(notes, "mail")) == ("lost", "")


def test_what_looks_for_mistakes_finds_them(tmp_path, monkeypatch):
    """Promises broken on purpose, one by one: a sync that is left out."""
    for name, patch in BROKEN.items():
        base = tmp_path / name
        base.mkdir()
        with pytest.MonkeyPatch.context() as broken:
            patch(broken)
            moments = recorded(base, emptied(tmp_path / "notes"))
        with pytest.raises((AssertionError, StateError)):
            for moment in moments:
                for tail, is_whole in tails(moment, base):
                    if is_whole:
                        check_read(left(moment, base, tail, tmp_path / "now"), moment.told)


def _without_folders(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(appender, "sync_folders", lambda steps, folder: None)


def _early(broken: pytest.MonkeyPatch) -> None:
    write = appender.Appender._write_group

    def early(self, queue, taken):
        self._sync = False
        write(self, queue, taken)

    broken.setattr(appender.Appender, "_write_group", early)


def _beside(what: str):
    def patch(broken: pytest.MonkeyPatch) -> None:
        sync = Forgetful.fsync

        def fsync(self, fd):
            path = os.readlink(f"/proc/self/fd/{fd}")
            if not (path.endswith(what) and (what != "/run" or os.path.isdir(f"{path}/values"))):
                sync(self, fd)

        broken.setattr(Forgetful, "fsync", fsync)

    return patch


BROKEN = {
    "folders": _without_folders,
    "journal": _early,
    "value": _beside(".new"),
    "name": _beside("/values"),
    "folder of names": _beside("/run"),
}
"""What is not synced."""
