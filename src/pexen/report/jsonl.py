"""JSON lines: a report for programs, one JSON object a line, written as results come.

====================== ===================================================================================================
``"kind": "run"``      the first line: ``schema``, ``title``, ``tasks`` (how many so far), ``jobs``, ``start``
``"kind": "result"``   one for each task: ``path``, ``status``, ``original``, ``waived``, ``flaky``, ``start``,
                       ``duration``, ``reason``, ``error``, ``reports``, ``attempts``, ``leaked``, ``evidence``,
                       ``artifacts``, ``output``
``"kind": "end"``      the last line: ``tasks``, ``counts`` by status, ``seconds``, ``stopped``; without it the run was killed
====================== ===================================================================================================

``start`` is seconds since the epoch, 0 of what never started. ``error`` is null or has ``type``, ``message`` and
``traceback``; ``output`` is null or has ``path``, ``size`` and ``cut``. A report has ``name``, ``status``, ``message``,
``data`` and ``files``. ``attempts`` has every attempt, the last one included, with its ``number`` and what a result has.
Values are not written. Within one ``schema`` keys may be added, none is taken away or changes its meaning.

All lines are ASCII, so any text survives: what is no character (a lone surrogate) is escaped as JSON escapes characters.
The file has its name from the first line on: whoever follows it sees whole lines, whoever has opened an older one keeps that.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pexen.model.result import Ended, Failure, Output, Report, Result
from pexen.report.base import Look, Plan, Summary
from pexen.report.files import Draft, begun, synced

SCHEMA = 1
MANY = 100_000
"""Items of one report's data that are written; the same list may be in itself a thousand times."""
_DEEP = 50
"""Levels of lists in lists."""
MORE = "…"
"""Stands for what is left out."""
_LONGEST = 10_000
"""Characters of what is no JSON, as text."""
_WIDEST = 4096
"""Bits of a number; Python reads no more than some 14,000 back, others much less."""


class JsonLines:
    """The reporter for programs, writing ``file``. ``clock`` is seconds since the epoch."""

    def __init__(self, file: str, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._draft: Draft | None = None
        self._whole = 0
        """Bytes of whole lines."""
        self._waiting: list[Result] = []
        self._told: set[str] = set()

    def begin(self, plan: Plan) -> None:
        """Write the first line, and give the file its name."""
        draft = self._draft = begun(self._file)
        first = {
            "schema": SCHEMA, "kind": "run", "title": plan.title, "tasks": len(plan.tasks), "jobs": plan.jobs,
            "start": _number(plan.began or self._clock()),
        }  # fmt: skip
        self._write([first])
        try:
            draft.publish()
        except OSError:
            draft.drop()
            raise

    def finished(self, result: Result) -> None:
        """Keep it until the next moment."""
        self._waiting.append(result)

    def moment(self, look: Look) -> None:
        """Write what has come."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._write(self._news(waiting))

    def note(self, text: str) -> None:
        """Leave it to others; why a run was stopped is in the last line."""

    def end(self, summary: Summary) -> None:
        """Write whatever is missing, and the last line."""
        counts: dict[str, int] = {}
        for result in summary.results.values():
            counts[result.status.value] = counts.get(result.status.value, 0) + 1
        waiting, self._waiting = self._waiting, []
        self._write(self._news(waiting))
        self._write(self._news(summary.results.values()))
        self._write([{
            "kind": "end", "tasks": len(summary.results), "counts": counts, "seconds": _number(summary.seconds),
            "stopped": summary.stopped,
        }])  # fmt: skip
        if self._draft is not None:
            with self._draft.opened as opened:
                synced(opened)

    def _news(self, results: Iterable[Result]) -> Iterable[dict[str, Any]]:
        """Yield each result that has not been written yet."""
        for result in results:
            if result.path not in self._told:
                self._told.add(result.path)
                yield of_result(result)

    def _write(self, things: Iterable[Mapping[str, Any]]) -> None:
        """Write lines; a file that takes no more is closed behind its last whole line: nobody will come back to it."""
        if self._draft is None:
            return
        opened = self._draft.opened
        try:
            for thing in things:
                opened.write(line(thing))
            opened.flush()
        except BaseException:
            self._draft.drop(self._whole)
            raise
        if self._draft.is_ours:
            self._whole = opened.tell()


def line(thing: Mapping[str, Any]) -> bytes:
    """Return one line, its end included."""
    return json.dumps(thing, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def of_result(result: Result) -> dict[str, Any]:
    """Return a result as it is written."""
    return {
        "kind": "result",
        "path": result.path,
        "status": result.status.value,
        "original": result.original.value,
        "waived": result.waived,
        "flaky": result.flaky,
        **_times(result),
        "reason": result.reason,
        "error": _of_failure(result.error),
        "reports": [of_report(one) for one in result.reports],
        "attempts": [_of_attempt(one) for one in result.attempts],
        "leaked": result.leaked,
        "evidence": result.evidence,
        "artifacts": list(result.artifacts),
        "output": _of_output(result.details.output),
    }


def of_report(report: Report) -> dict[str, Any]:
    """Return a report as it is written."""
    return {
        "name": report.name,
        "status": report.status,
        "message": report.message,
        "data": plain(report.data),
        "files": list(report.files),
    }


def _of_attempt(attempt: Ended) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "status": attempt.status.value,
        **_times(attempt),
        "reason": attempt.reason,
        "error": _of_failure(attempt.failure),
        "reports": [of_report(one) for one in attempt.reports],
        "leaked": attempt.leaked,
        "evidence": attempt.evidence,
        "artifacts": list(attempt.artifacts),
        "output": _of_output(attempt.output),
    }


def _times(one: Result | Ended) -> dict[str, float]:
    return {"start": _number(one.start), "duration": _number(one.duration)}


def _of_failure(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {"type": failure.type, "message": failure.message, "traceback": failure.traceback}


def _of_output(output: Output | None) -> dict[str, Any] | None:
    return None if output is None else {"path": output.path, "size": output.size, "cut": output.cut}


def _number(seconds: float) -> float:
    return round(seconds, 6) if math.isfinite(seconds) else 0.0


# -- the data of reports ----------------------------------------------------------------------------------------------


def plain(data: Any) -> Any:
    """Return data made of what JSON knows: tuples as lists, anything else as text, what is too much as `MORE`.

    Runs the ``repr`` of whatever a task has put there; one that raises is replaced by the name of its type.
    """
    return _Plain().of(data, _DEEP)


class _Plain:
    """Makes one report's data plain. Counts items, since data that refers to itself is endless."""

    def __init__(self) -> None:
        self._left = MANY

    def of(self, value: Any, levels: int) -> Any:
        """Return one value with whatever is in it."""
        self._left -= 1
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int and value.bit_length() <= _WIDEST:
            return value
        if kind is float and math.isfinite(value):
            return value
        return self._within(value, levels - 1) if isinstance(value, list | tuple | Mapping) else as_text(value)

    def _within(self, value: Any, levels: int) -> Any:
        if levels < 0:
            return MORE
        try:
            if isinstance(value, Mapping):
                return self._pairs(self._some(value.items(), (MORE, MORE)), levels)
            return [self.of(item, levels) for item in self._some(value, MORE)]
        except Exception:  # noqa: BLE001 - a mapping of the task's own may raise anything
            return as_text(value)

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], levels: int) -> dict[str, Any]:
        """Return pairs by their keys as text; of two that look the same the second is called ``key#2``."""
        made: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for key, item in pairs:
            name = text = as_text(key)
            while name in made:
                counts[text] = counts.get(text, 1) + 1
                name = f"{text}#{counts[text]}"
            made[name] = self.of(item, levels)
        return made

    def _some(self, items: Iterable[Any], more: Any) -> Iterable[Any]:
        """Yield the items as far as there is room, and what says that there are more."""
        for item in items:
            if self._left < 0:
                yield more
                return
            yield item


def as_text(value: Any) -> str:
    """Return anything as text; raises nothing."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool) and int.bit_length(value) > _WIDEST:
        return int.__format__(value, "#x")
    try:
        text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else repr(value)
    except Exception:  # noqa: BLE001 - the repr of anybody's object
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text) - _LONGEST} more characters)"
