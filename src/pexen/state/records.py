"""Records: what is written into a journal, made from the model's objects, and the way back.

A record is a dict with its ``kind``; ``docs/journal.md`` shows one of each. What a record does not say is what a reader
takes for granted: empty, None, False. Kinds and fields that a reader does not know it passes over, so only what would
mislead an older one needs a new `SCHEMA`. Those of tasks are made in `pexen.state.plan`.

Nothing here shows, pickles, compares or calls anything of the user's, and nothing read is unpickled.
"""

from __future__ import annotations

import os
import sys
from time import time
from typing import TYPE_CHECKING, Any

from pexen.model.result import Details, Ended, Failure, Output, Report, Result, Status
from pexen.state import codec
from pexen.state.values import Unstorable, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pexen.model.attempt import Attempt
    from pexen.model.task import Task

SCHEMA = 1
INLINE = 1 << 20
"""Bytes of JSON beyond which a value goes into a file of its own."""
NOTHING: Mapping[str, Any] = {}
_EXACT = 1 << 53
"""Up to which every reader of JSON reads an integer exactly."""
_SHORT = 200
"""Characters of a text that is written with many others."""

Json = dict[str, Any]


# -- the run ----------------------------------------------------------------------------------------------------------


def run(
    run_id: str,
    *,
    at: float,
    version: str,
    durability: str,
    runner: tuple[int, int, str],
    root: str = "",
    cwd: str = "",
    argv: Sequence[str] = (),
    python: str = "",
    host: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Json:
    """Return the record that a journal begins with, and each resume of it.

    ``at`` is seconds since the epoch; ``runner`` is this process: number, start in clock ticks since boot, and the boot. What
    JSON cannot say of ``host`` and ``parameters`` is left out, by name.
    """
    pid, start, boot = runner
    record: Json = {
        "kind": "run", "schema": SCHEMA, "run": run_id, "version": version, "at": at, "durability": durability,
        "boot": boot, "pid": pid, "start": start, "root": root, "cwd": cwd, "argv": [str(word) for word in argv],
        "python": python or ".".join(map(str, sys.version_info[:3])),
    }  # fmt: skip
    for key, given in (("host", host), ("parameters", parameters)):
        if given:
            record[key], left_out = storable_items(given)
            note(record, f"{key}_left_out", left_out)
    return record


def stopped(why: str, *, at: float) -> Json:
    """Return the record that the run was told to stop: it drains from now on."""
    return {"kind": "stopped", "why": why, "at": at}


def reboot(attempt: Attempt, *, by: str, at: float, boot: str, shared: Any = None) -> Json:
    """Return the record that a task wants a restart, ``by`` "pexen" or "task"; its attempt ends with it, uncharged."""
    record = {"kind": "reboot", "path": attempt.task.name, "attempt": attempt.number, "by": by, "at": at, "boot": boot}
    if shared is not None:
        value, _, why = snapshot(shared)
        record.update({"shared": value} if not why else {"shared_unstorable": why})
    return record


def end(how: str, counts: Mapping[str, int], *, at: float, why: str = "") -> Json:
    """Return the record that the run is over: ``how`` is done, stopped, interrupted, reboot or error."""
    record: Json = {"kind": "end", "how": how, "counts": {str(status): n for status, n in counts.items()}, "at": at}
    if why:
        record["why"] = why
    return record


# -- attempts ---------------------------------------------------------------------------------------------------------


def started(attempt: Attempt, *, at: float, process: tuple[int, int] | None = None) -> Json:
    """Return the record that an attempt is about to start, in which ``process`` (number, start) if it is known."""
    record = {
        "kind": "started", "path": attempt.task.name, "attempt": attempt.number, "id": attempt.id, "at": at,
    }  # fmt: skip
    if process is not None:
        record["pid"], record["start"] = process
    return record


def starts(attempts: Sequence[Attempt], epoch: float) -> Json:
    """Return the record that attempts are about to start, or have done so; ``epoch`` is that of the monotonic clock."""
    now = time()
    when = [one.started + epoch if one.started else now for one in attempts]
    if len(attempts) == 1:
        return started(attempts[0], at=when[0])
    rows = [[one.task.name, one.number, one.id, at] for one, at in zip(attempts, when, strict=True)]
    return {"kind": "starts", "attempts": rows}


def returned(attempt: Attempt) -> Json:
    """Return the record that an attempt came back unstarted."""
    return {"kind": "returned", "path": attempt.task.name, "attempt": attempt.number, "id": attempt.id}


def report(attempt: Attempt, what: Report) -> Json:
    """Return the record of a report. Items of its data that JSON cannot say are left out, by name."""
    record: Json = {
        "kind": "report", "path": attempt.task.name, "attempt": attempt.number, "name": what.name, "status": what.status,
    }  # fmt: skip
    if what.message:
        record["message"] = what.message
    if what.data:
        data, left_out = storable_items(what.data)
        if data:
            record["data"] = data
        note(record, "left_out", left_out)
    if what.files:
        record["files"] = list(what.files)
    return record


def ended(path: str, attempt: Ended, folder: str = "") -> Json:
    """Return the record of an attempt that is over and was not the last one. Files below ``folder`` are told from there."""
    return {"kind": "ended", "path": path, **_end(attempt, folder)}


def result(what: Result, folder: str = "", *, shared: Any = None, deps_ok: bool = False) -> tuple[Json, bytes]:
    """Return the record of a task's result, which includes the end of its last attempt, and what to store beside it.

    ``shared`` is the task's shared dict where it wrote to it; ``deps_ok`` tells that its dependants may run, though it failed.
    May take long for a large value: not to be called under a lock.
    """
    record: Json = {"kind": "result", "path": what.task.name, "status": str(what.status)}
    _add_details(record, what, folder)
    if deps_ok and not (what.original or what.status).is_success:
        record["deps_ok"] = True
    value = what.carried
    if value is None and shared is None:
        return record, b""
    large = _store(record, "value", "unstorable", value)
    large |= _store(record, "shared", "shared_unstorable", shared)
    if not large:
        return record, b""
    data = codec.fastest().encode(large)
    record["beside"] = {"size": len(data), "crc": checksum(data), "holds": sorted(large)}
    return record, data


def is_simple(value: Any) -> bool:
    """Tell whether a value can be stored as it is, which takes no time to see; most that can are not simple."""
    kind = type(value)
    if kind is int:
        return bool(-_EXACT <= value <= _EXACT)
    return kind is bool or (kind is str and len(value) <= _SHORT and value.isascii())


def passed(results: Sequence[Result], elided: int = 0) -> Json:
    """Return the record of results of which there is nothing to say but that they have passed at the first attempt.

    Their values are None or `is_simple`. ``elided`` is the highest id of attempts whose start was not recorded, or 0.
    """
    rows = [
        (one.task.path, one.start, one.duration)
        if one.carried is None
        else (one.task.path, one.start, one.duration, one.carried)
        for one in results
    ]
    record: Json = passed_from(rows[0]) if len(rows) == 1 else {"kind": "results", "passed": rows}
    if elided:
        record["id"] = elided
    return record


def passed_from(row: Sequence[Any]) -> Json:
    """Return the ``result`` record that a row of ``results`` stands for."""
    path, start, duration, *value = row
    record: Json = {
        "kind": "result", "path": path, "status": "passed",
        "ended": {"attempt": 1, "status": "passed", "start": start, "duration": duration},
    }  # fmt: skip
    return {**record, "value": value[0]} if value else record


def _add_details(record: Json, what: Result, folder: str) -> None:
    about, start = what.details, what.start
    if not (about.failure or about.reason or about.output or about.leaked or about.evidence or about.artifacts):
        if start:
            number = len(about.earlier) + 1
            record["ended"] = {
                "attempt": number, "status": str(about.original or what.status), "start": start,
                "duration": what.duration,
            }  # fmt: skip
    elif start:
        record["ended"] = _end(what.attempts[-1], folder)
    else:
        if about.reason:
            record["reason"] = about.reason
        if about.failure:
            record["failure"] = _failure(about.failure)
    if about.original:
        record["original"] = str(about.original)
    if about.waived:
        record["waived"] = about.waived


def _store(record: Json, key: str, otherwise: str, value: Any) -> Json:
    """Put a value into the record, or why it cannot be; return it by its key where it is too large."""
    if value is None:
        return {}
    stored, size, why = snapshot(value)
    if why:
        record[otherwise] = why
    elif size > INLINE:
        return {key: stored}
    else:
        record[key] = stored
    return {}


def _end(one: Ended, folder: str) -> Json:
    record: Json = {
        "attempt": one.number, "status": str(one.status), "start": one.start, "duration": one.duration,
    }  # fmt: skip
    if one.failure:
        record["failure"] = _failure(one.failure)
    for key in ("reason", "leaked", "evidence"):
        text = getattr(one, key)
        if text:
            record[key] = text
    if one.output:
        record["output"] = {"file": _below(one.output.path, folder), "size": one.output.size}
        if one.output.cut:
            record["output"]["cut"] = True
    if one.artifacts:
        record["artifacts"] = [_below(file, folder) for file in one.artifacts]
    return record


def _failure(what: Failure) -> Json:
    record = {"type": what.type, "message": what.message}
    if what.traceback:
        record["traceback"] = what.traceback
    return record


# -- and back ---------------------------------------------------------------------------------------------------------


def report_from(record: Mapping[str, Any]) -> Report:
    """Return the report that a record tells."""
    return Report(
        record["name"], record["status"], record.get("message", ""), record.get("data", {}),
        tuple(record.get("files", ())),
    )  # fmt: skip


def ended_from(record: Mapping[str, Any], folder: str = "", reports: tuple[Report, ...] = ()) -> Ended:
    """Return the end of an attempt that a record tells; files are looked for below ``folder``."""
    told = record.get("output")
    output = told and Output(_inside(told["file"], folder), int(told["size"]), bool(told.get("cut")))
    return Ended(
        int(record["attempt"]), Status(record["status"]), float(record["start"]), float(record["duration"]),
        _failure_from(record.get("failure")), record.get("reason", ""), output if output and output.path else None,
        reports, record.get("leaked", ""), record.get("evidence", ""),
        tuple(filter(None, (_inside(file, folder) for file in record.get("artifacts", ())))),
    )  # fmt: skip


def result_from(
    what: Task,
    record: Mapping[str, Any],
    *,
    ends: Iterable[Mapping[str, Any]] = (),
    reports: Iterable[Mapping[str, Any]] = (),
    beside: Mapping[str, Any] | None = None,
    folder: str = "",
) -> Result:
    """Return the result that its record tells, with the ``ended`` and ``report`` records of its task.

    ``beside`` is what its own file holds; without that, and for whatever was not stored, a value is an `Unstorable`. An
    exception is text only. Raises KeyError, TypeError or ValueError for what is no such record.
    """
    by_attempt: dict[int, list[Report]] = {}
    for one in reports:
        by_attempt.setdefault(int(one["attempt"]), []).append(report_from(one))
    said = {number: tuple(found) for number, found in by_attempt.items()}
    earlier = tuple(ended_from(one, folder, said.get(int(one["attempt"]), ())) for one in ends)
    status, last = Status(record["status"]), record.get("ended")
    value = _stored(record, "value", "unstorable", beside)
    layer = _stored(record, "shared", "shared_unstorable", beside)
    about = Details(
        _failure_from(record.get("failure")), record.get("reason", ""), (), earlier,
        (layer,) if isinstance(layer, dict) else (), waived=record.get("waived", ""),
        original=Status(record["original"]) if "original" in record else None,
    )  # fmt: skip
    start = duration = 0.0
    if last is not None:
        final = ended_from(last, folder, said.get(int(last["attempt"]), ()))
        start, duration = final.start, final.duration
        about.failure, about.reason, about.reports, about.output = (
            final.failure, final.reason, final.reports, final.output
        )  # fmt: skip
        about.leaked, about.evidence, about.artifacts = final.leaked, final.evidence, final.artifacts
    return Result(what, status, value, start, duration, None if about == Details() else about)


def checksum(data: bytes) -> str:
    """Return the checksum of a file beside the journal."""
    from zlib import crc32

    return f"{crc32(data):08x}"


def _stored(record: Mapping[str, Any], key: str, otherwise: str, beside: Mapping[str, Any] | None) -> Any:
    if key in record:
        return record[key]
    if otherwise in record:
        return Unstorable(str(record[otherwise]))
    if key in record.get("beside", NOTHING).get("holds", ()):
        return beside[key] if beside and key in beside else Unstorable("its file is missing or damaged")
    return None


def _failure_from(record: Mapping[str, Any] | None) -> Failure | None:
    return None if record is None else Failure(record["type"], record["message"], record.get("traceback", ""))


def storable_items(given: Mapping[str, Any]) -> tuple[Json, list[str]]:
    """Return the items that JSON can say, and the keys of the others."""
    kept: Json = {}
    left_out = []
    for key, value in given.items():
        stored, _, why = snapshot(value)
        if why or type(key) is not str:
            left_out.append(key if type(key) is str else f"({type(key).__name__})")
        else:
            kept[key] = stored
    return kept, left_out


def note(record: Json, key: str, left_out: list[str]) -> None:
    """Say in a record what was left out of it."""
    if left_out:
        record[key] = left_out


def _below(file: str, folder: str) -> str:
    """Return a file's name as seen from the run's folder, which may be moved."""
    prefix = f"{folder}/"
    return file[len(prefix) :] if folder and file.startswith(prefix) else file


def _inside(file: str, folder: str) -> str:
    """Return where a file is; empty for a name that leads out of the run's folder."""
    if file.startswith("/") or not folder:
        return file
    path = os.path.normpath(f"{folder}/{file}")
    return path if path.startswith(f"{os.path.normpath(folder)}/") else ""
