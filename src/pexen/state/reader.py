"""Reading a journal back: what a run was to do, what became of it, and where it stopped; of a live run as well.

One pass over the lines. Of each task its records are kept as the bytes they are, and decoded when somebody asks, so a
million lines take about as much memory as they take on the disk, and reading one takes 3 µs. Kinds and fields that are
not known are passed over.

**One result a task.** The first one recorded is the result; only an ``again`` record (the task has changed, or what it did
does not outlive a reboot) lets another one take its place. **Every attempt that was started and not heard of again** is
either in flight, in a live run, or was so when the run died: `Record.unfinished`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pexen.errors import DefinitionError, StateError
from pexen.state import codec, plan, records
from pexen.state.appender import FILE, VALUES
from pexen.state.disk import above_streams
from pexen.state.lines import Scanner

if TYPE_CHECKING:
    from pexen.model.result import Result
    from pexen.model.task import Task

_NOTHING: Mapping[str, Any] = {}


def read(path: str | os.PathLike[str], *, damaged_ok: bool = False) -> Record:
    """Return what a journal (the file, or its folder) has recorded, up to its last whole line.

    Raises `StateError` when there is none, when it was written by a newer version, and for damage in its middle, naming line
    and byte; with ``damaged_ok`` that is a notice, and what is damaged is passed over.
    """
    record = Record(path, damaged_ok=damaged_ok)
    record.catch_up()
    return record


class Start(NamedTuple):
    """An attempt that was started: ``pid`` and ``start`` (ticks since boot) are its process, 0 when it was not told."""

    path: str
    attempt: int
    id: int
    at: float
    pid: int = 0
    start: int = 0


class Session:
    """One process that wrote the journal: the run itself, or a resume of it.

    ``run`` is its first record, ``end`` its last one or None, ``reboots`` its requests for a restart, ``stopped`` why it was
    told to stop. ``left`` are the attempts that were in flight when it ended, or that are so now.
    """

    __slots__ = ("end", "left", "reboots", "run", "stopped")

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.run = run
        self.left: dict[str, Start] = {}
        self.end: Mapping[str, Any] | None = None
        self.reboots: dict[str, Mapping[str, Any]] = {}
        self.stopped = ""


class Story:
    """What the journal has on one task.

    ``status`` is that of its result, empty without one; ``again`` why it is to run again although it has one; ``seq`` the
    number of the result's record, ``place`` its place in there; ``attempts`` how often it was started and not returned;
    ``by`` who added it on the fly, no more once that task is to run again. ``reboots`` is how often the machine was restarted
    for it, ``rebooted`` the last request for that, ``crashes`` how often it was alone when the machine went down unannounced;
    ``is_suspect`` tells that it ran then, alone or not. What is ``raw`` are records as they were read, without what others
    share with it.
    """

    __slots__ = (
        "again", "anew", "attempts", "by", "crashes", "fingerprint", "is_added", "is_suspect", "path", "place", "raw_ends",
        "raw_plan", "raw_reports", "raw_result", "rebooted", "reboots", "seq", "status",
    )  # fmt: skip

    def __init__(self, path: str) -> None:
        self.path = path
        self.fingerprint = self.status = self.again = self.by = ""
        self.attempts = self.crashes = self.reboots = self.seq = self.place = 0
        self.is_added = self.is_suspect = False
        self.rebooted: Mapping[str, Any] = _NOTHING
        self.anew: Story | None = None
        """What is recorded since it is to run again, as long as its first result stands."""
        self.raw_plan = self.raw_result = b""
        self.raw_ends: tuple[bytes, ...] | list[bytes] = ()
        self.raw_reports: tuple[bytes, ...] | list[bytes] = ()

    def drop(self, number: int) -> None:
        """Forget what an attempt said that was not charged: another one has its number. Not what led to a restart."""
        kept = self.rebooted.get("attempt") == number
        self.raw_ends = [one for one in self.raw_ends if _decoded(one)["attempt"] != number]
        self.raw_reports = [one for one in self.raw_reports if kept or _decoded(one)["attempt"] != number]

    def start_anew(self, *, keep: bool) -> None:
        """Forget what is known of an older version of the task; ``keep`` what belongs to its result."""
        self.crashes = self.reboots = 0
        self.is_suspect, self.rebooted = False, _NOTHING
        if not keep:
            self.raw_ends, self.raw_reports = (), ()

    @property
    def is_finished(self) -> bool:
        """Whether it has a result that stands."""
        return bool(self.status) and not self.again

    @property
    def plan(self) -> Mapping[str, Any]:
        """Its ``task`` or ``added`` record; only its path where that is missing."""
        if not self.raw_plan:
            return {"path": self.path, "what": {"name": self.path}}
        record = _decoded(self.raw_plan)
        return record if "path" in record else {**record, "path": self.path}  # shared with others

    @property
    def ends(self) -> list[Mapping[str, Any]]:
        """The ends of its attempts but for the one that the result includes."""
        return [_decoded(body) for body in self.raw_ends]

    @property
    def reports(self) -> list[Mapping[str, Any]]:
        """Its ``report`` records, of all attempts, in order."""
        return [_decoded(body) for body in self.raw_reports]

    @property
    def result(self) -> Mapping[str, Any] | None:
        """Its ``result`` record, or None."""
        if not self.raw_result:
            return None
        record = _decoded(self.raw_result)
        return records.passed_from(record) if isinstance(record, list) else record


class Record:
    """What a journal has recorded so far; `catch_up` reads on. To be used from one thread.

    ``stories`` are the tasks by path, in the order in which they were planned. ``last_id`` is the highest attempt id.
    """

    def __init__(self, path: str | os.PathLike[str], *, damaged_ok: bool = False) -> None:
        given = os.path.abspath(path)
        self.path = f"{given}/{FILE}" if os.path.isdir(given) else given
        self.folder = os.path.dirname(self.path)
        self.stories: dict[str, Story] = {}
        self.sessions: list[Session] = []
        self.last_id = 0
        self.restarts = 0
        """How often the machine was restarted between two sessions, announced or not."""
        self.duplicates = 0
        """Results that came after the first one and do not count."""
        self._heirs: dict[str, list[Story]] = {}
        """By the path of who has added them."""
        self._damaged_ok = damaged_ok
        self._scanner = Scanner(damaged_ok=damaged_ok)
        self._identity = (0, 0)

    # -- what it says -------------------------------------------------------------------------------------------------

    @property
    def header(self) -> Mapping[str, Any]:
        """The record that the run began with; empty when not even that was written."""
        return self.sessions[0].run if self.sessions else _NOTHING

    @property
    def last(self) -> int:
        """The number of the last record."""
        return self._scanner.seq

    @property
    def end(self) -> Mapping[str, Any] | None:
        """How the run ended (``how``, ``counts``), or None: it is still going, or was killed."""
        return self.sessions[-1].end if self.sessions else None

    @property
    def unfinished(self) -> list[Start]:
        """The attempts that were started and not heard of again, in the last session."""
        return list(self.sessions[-1].left.values()) if self.sessions else []

    @property
    def counts(self) -> dict[str, int]:
        """How many results there are, by status."""
        counts: dict[str, int] = {}
        for story in self.stories.values():
            if story.status:
                counts[story.status] = counts.get(story.status, 0) + 1
        return counts

    @property
    def notices(self) -> list[str]:
        """What is to be said about the journal itself, in words."""
        found = [f"damaged: {one}" for one in self._scanner.damage]
        if self._scanner.torn:
            found.append(f"the last {self._scanner.torn} bytes are part of a record that was not written to its end")
        if not self.sessions:
            found.append("nothing was recorded before it stopped")
        return found

    def result(self, path: str, what: Task | None = None) -> Result | None:
        """Return the result of the task at ``path``, or None. What was not stored of it is said in its place.

        ``what`` is the task, if there is one; else what the plan says of it.
        """
        story = self.stories.get(path)
        record = story and story.result
        if not story or not record:
            return None
        try:
            beside = self._beside(story.seq, record["beside"]) if "beside" in record else None
            return records.result_from(
                what or plan.task_from(story.plan), record, ends=story.ends, reports=story.reports, beside=beside,
                folder=self.folder,
            )  # fmt: skip
        except _UNKNOWN as error:
            raise _no_record(error, f"the records of {path}") from error

    def results(self) -> Iterator[Result]:
        """Yield all results in the order in which they were recorded."""
        for story in sorted((s for s in self.stories.values() if s.status), key=lambda s: (s.seq, s.place)):
            found = self.result(story.path)
            if found is not None:
                yield found

    def _beside(self, seq: int, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what is stored beside a record, or None when it is not what was stored."""
        try:
            fd = above_streams(os.open(f"{self.folder}/{VALUES}/{seq}.json", _FLAGS))
            with open(fd, "rb") as file:
                data = file.read(int(told["size"]) + 1)
        except OSError:
            return None
        if len(data) != told["size"] or records.checksum(data) != told["crc"]:
            return None
        found: Mapping[str, Any] = _decoded(data)
        return found

    # -- reading ------------------------------------------------------------------------------------------------------

    def catch_up(self) -> bool:
        """Read what has been added; return whether there was anything. Raises `StateError` as `read` does."""
        before = self._scanner.number
        try:
            fd = above_streams(os.open(self.path, _FLAGS))
        except OSError as error:
            raise StateError(f"cannot read the journal: {error.strerror}", facts=[("journal", self.path)]) from error
        try:
            self._check_same(fd)
            for body in self._scanner.records(fd, self.path):
                self._take(body)
        except _UNKNOWN as error:
            raise _no_record(error, f"{self.path}:{self._scanner.number}") from error
        except OSError as error:
            raise StateError(f"cannot read the journal: {error.strerror}", facts=[("journal", self.path)]) from error
        finally:
            os.close(fd)
        return self._scanner.number != before

    def _check_same(self, fd: int) -> None:
        status = os.fstat(fd)
        identity = (status.st_dev, status.st_ino)
        if self._identity not in {(0, 0), identity} or status.st_size < self._scanner.end:
            raise StateError("the journal has been replaced or cut since", facts=[("journal", self.path)])
        self._identity = identity

    def _take(self, body: bytes) -> None:
        record = _decoded(body)
        kind = record["kind"]
        if not self.sessions and kind != "run" and not self._damaged_ok:
            raise ValueError(f"a journal begins with a 'run' record, not {kind!r}")
        taker = self._TAKERS.get(kind)
        if taker is not None:
            taker(self, record, body)

    def _story(self, path: str) -> Story:
        story = self.stories.get(path)
        if story is None:
            story = self.stories[path] = Story(path)
        return story

    def _take_run(self, record: Mapping[str, Any], _body: bytes) -> None:
        if record["schema"] > records.SCHEMA:
            raise StateError(
                "the journal was written by a newer version of pexen",
                facts=[
                    ("journal", self.path),
                    ("written by", f"pexen {record.get('version')}, schema {record['schema']}"),
                    ("read here", f"up to schema {records.SCHEMA}"),
                ],
                hint="read it with that version, or a later one",
            )
        self.note_boot(record)
        self.sessions.append(Session(record))

    def note_boot(self, record: Mapping[str, Any]) -> None:
        """Take in the ``run`` record of the session that goes on, as `catch_up` would."""
        if self.sessions:
            self._note_restart(self.sessions[-1], record)

    def _note_restart(self, before: Session, record: Mapping[str, Any]) -> None:
        """See whether the machine has been restarted since the session before, as somebody wanted or by itself."""
        boots = before.run.get("boot"), record.get("boot")
        if boots[0] == boots[1] or not all(boots):
            return
        self.restarts += 1
        for path, wish in before.reboots.items():
            story = self._unfinished(path)
            story.reboots += 1
            story.rebooted = wish
        if before.end is None and not before.reboots:
            for path in before.left:
                story = self._unfinished(path)
                story.is_suspect = True
                story.crashes += len(before.left) == 1

    def _unfinished(self, path: str) -> Story:
        """Return the story of a task's next result: of one that runs again, what is recorded since."""
        story = self._story(path)
        return story.anew or story

    def _take_task(self, record: Mapping[str, Any], body: bytes) -> None:
        if "paths" in record:
            body = codec.fastest().encode({key: value for key, value in record.items() if key != "paths"})
        for path in record["paths"] if "paths" in record else [record["path"]]:
            story = self._story(path)
            if story.fingerprint not in {"", record["fingerprint"]}:
                self._disown(path)
                self._unfinished(path).start_anew(keep=bool(story.status and not story.anew))
            story.fingerprint, story.raw_plan = record["fingerprint"], body
            if record["kind"] == "added":
                self._take_heir(story, record.get("by", ""))

    def _take_heir(self, story: Story, by: str) -> None:
        story.is_added, story.by = True, by
        if by:
            self._heirs.setdefault(by, []).append(story)

    def _disown(self, path: str) -> None:
        """Forget what a task has added that is to run again: it is its own again if that adds it again."""
        for story in self._heirs.pop(path, ()):
            if story.by == path:
                story.by = ""

    def _take_again(self, record: Mapping[str, Any], _body: bytes) -> None:
        story = self._story(record["path"])
        if story.status:
            self._disown(story.path)
            story.again = record["why"] or "asked for"
            story.anew = story.anew or Story(story.path)

    def _take_started(self, record: Mapping[str, Any], _body: bytes) -> None:
        self._start(
            Start(
                record["path"], record["attempt"], record["id"], record["at"], record.get("pid", 0),
                record.get("start", 0),
            )
        )  # fmt: skip

    def _take_starts(self, record: Mapping[str, Any], _body: bytes) -> None:
        for path, number, id_, at in record["attempts"]:
            self._start(Start(path, number, id_, at))

    def _start(self, start: Start) -> None:
        session = self._session()
        session.left[start.path] = start
        session.reboots.pop(start.path, None)  # nothing came of it
        self._story(start.path).attempts += 1
        story = self._unfinished(start.path)
        if story.raw_ends or story.raw_reports:
            story.drop(start.attempt)
        self.last_id = max(self.last_id, start.id)

    def _take_returned(self, record: Mapping[str, Any], _body: bytes) -> None:
        if self._session().left.pop(record["path"], None) is not None:
            self._story(record["path"]).attempts -= 1

    def _take_report(self, record: Mapping[str, Any], body: bytes) -> None:
        story = self._unfinished(record["path"])
        story.raw_reports = _added(story.raw_reports, body)

    def _take_ended(self, record: Mapping[str, Any], body: bytes) -> None:
        story = self._unfinished(record["path"])
        self._session().left.pop(story.path, None)
        self._session().reboots.pop(story.path, None)
        story.raw_ends = _added(story.raw_ends, body)

    def _take_result(self, record: Mapping[str, Any], body: bytes) -> None:
        self._finish(record["path"], record["status"], body, elided="id" in record)
        self.last_id = max(self.last_id, record.get("id", 0))

    def _take_results(self, record: Mapping[str, Any], _body: bytes) -> None:
        encode = codec.fastest().encode
        for place, row in enumerate(record["passed"]):
            path, _start, _duration, *_value = row
            self._finish(path, "passed", encode(row), place, elided=True)
        self.last_id = max(self.last_id, record.get("id", 0))

    def _finish(self, path: str, status: str, raw: bytes, place: int = 0, *, elided: bool) -> None:
        story = self._story(path)
        self._session().reboots.pop(path, None)
        if self._session().left.pop(path, None) is None and elided:
            story.attempts += 1  # the record of its start was left out
        if story.is_finished:
            self.duplicates += 1
            return
        if story.anew is not None:
            story.raw_ends, story.raw_reports, story.anew = story.anew.raw_ends, story.anew.raw_reports, None
        story.status, story.again, story.seq, story.raw_result = status, "", self.last, raw
        story.place = place

    def _take_reboot(self, record: Mapping[str, Any], _body: bytes) -> None:
        session = self._session()
        session.reboots[record["path"]] = record
        session.left.pop(record["path"], None)

    def _take_stopped(self, record: Mapping[str, Any], _body: bytes) -> None:
        self._session().stopped = record["why"]

    def _take_end(self, record: Mapping[str, Any], _body: bytes) -> None:
        self._session().end = record

    def _session(self) -> Session:
        """Return the last session; one without a first record when that was damaged."""
        if not self.sessions:
            self.sessions.append(Session(_NOTHING))
        return self.sessions[-1]

    _TAKERS: ClassVar[Mapping[str, Callable[[Record, Mapping[str, Any], bytes], None]]] = {
        "run": _take_run,
        "task": _take_task,
        "added": _take_task,
        "again": _take_again,
        "started": _take_started,
        "starts": _take_starts,
        "returned": _take_returned,
        "report": _take_report,
        "ended": _take_ended,
        "result": _take_result,
        "results": _take_results,
        "reboot": _take_reboot,
        "stopped": _take_stopped,
        "end": _take_end,
    }
    """What is done with each kind of record."""


_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_UNKNOWN = (KeyError, TypeError, ValueError, AttributeError, DefinitionError)
"""What a line raises that is whole and still no record of ours."""


def _no_record(error: Exception, where: str) -> StateError:
    what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
    return StateError("the journal cannot be understood", facts=[("at", where), ("record", what)])


def _added(bodies: tuple[bytes, ...] | list[bytes], body: bytes) -> list[bytes]:
    """Return them with one more; most tasks have none and share an empty tuple."""
    if isinstance(bodies, tuple):
        return [body]
    bodies.append(body)
    return bodies


def _decoded(body: bytes) -> Any:
    return codec.fastest().decode(body)
