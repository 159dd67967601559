"""What a worker's frames mean. Numbers, text and opaque bytes become events; nothing is unpickled here.

Raises ValueError, or a subclass, for anything a worker of ours would not have sent.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any

from pexen.model.control import understood
from pexen.model.event import Up
from pexen.model.result import Failure, Outcome, Output, Pickled, Status
from pexen.pool import spool, wire

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt


def ending(attempt: Attempt, payload: wire.Bytes, folder: str | None, cap: int) -> tuple[Outcome, int]:
    """Return the outcome that a result frame tells, and its flags. ``folder`` holds the output, of which ``cap`` is kept."""
    try:
        flags, started, duration = wire.END.unpack_from(payload)
    except struct.error as error:
        raise ValueError("a result is cut") from error
    outcome = Outcome(attempt, Status.PASSED, None, started, duration)
    attempt.started = started
    if len(payload) > wire.END.size:
        _complete(outcome, wire.unpack_parts(payload, wire.END.size), folder, cap)
        outcome.deps_ok = bool(flags & wire.DEPS_OK)
        outcome.locks_ok = not flags & wire.LOCKS_BAD
    return outcome, flags


def _complete(outcome: Outcome, parts: dict[int, bytes], folder: str | None, cap: int) -> None:
    text = {number: wire.decoded(data) for number, data in parts.items() if number in _TEXTS}
    outcome.status = Status(text.get(wire.STATUS, "passed"))
    outcome.reason = text.get(wire.REASON, "")
    outcome.value = _pickled(parts.get(wire.VALUE))
    outcome.shared = _pickled(parts.get(wire.SHARED))
    if wire.TYPE in parts:
        outcome.failure = Failure(
            text[wire.TYPE],
            text.get(wire.MESSAGE, ""),
            text.get(wire.TRACEBACK, ""),
            _pickled(parts.get(wire.CARRIED)),
        )
    if wire.OUTPUT in parts and folder is not None:
        size = int.from_bytes(parts[wire.OUTPUT], "little")
        outcome.output = _output(output_file(folder, outcome.attempt.id), size, cap)


_TEXTS = frozenset({wire.STATUS, wire.TYPE, wire.MESSAGE, wire.TRACEBACK, wire.REASON})


def _pickled(data: bytes | None) -> Pickled | None:
    return None if data is None else Pickled(data)


def brought_up(attempt: Attempt, payload: wire.Bytes) -> Up:
    """Return the event that a frame tells which says that a service is up."""
    parts = wire.unpack_parts(payload, 0)
    return Up(attempt, _pickled(parts.get(wire.VALUE)), _pickled(parts.get(wire.SHARED)))


def said(payload: wire.Bytes) -> tuple[str, Any]:
    """Return the verb and the argument that a frame carries. What a worker adds is `Encoded`."""
    found = json.loads(wire.decoded(payload))
    if isinstance(found, dict) and found.keys() == {"encoded"}:
        from pexen.model.added import Encoded  # only for who adds tasks

        if not isinstance(found["encoded"], list) or len(found["encoded"]) != 2:
            raise ValueError("these are no tasks")
        tasks, callables = found["encoded"]
        return "add", Encoded(tasks, callables)
    return understood(found)


def output_file(folder: str, number: int) -> str:
    """Return where attempt ``number`` prints."""
    return f"{folder}/{number}.out"


def _output(file: str, size: int, cap: int) -> Output:
    """Return what is in a file, cut to head and tail when that is too much."""
    return Output(file, size, spool.shortened(file, size, cap))


def output_left(folder: str | None, number: int, cap: int) -> Output | None:
    """Return what an attempt has printed that cannot tell any more; an empty file is removed."""
    if folder is None:
        return None
    file = output_file(folder, number)
    try:
        size = os.stat(file).st_size
        if not size:
            os.unlink(file)
    except OSError:
        return None
    return _output(file, size, cap) if size else None
