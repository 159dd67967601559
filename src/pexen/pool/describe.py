"""How a worker tells what became of an attempt that did more than return None.

Values and exceptions are pickled and unpickled here, where whatever their code does happens to the attempt. What does
not survive that is said: as an error for a value, as text alone for an exception.
"""

from __future__ import annotations

from pexen.pool import wire

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from typing import Any

    from pexen.pool.worker import Held

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose pickles surely load again."""


class _Uncarried(Exception):
    """A part of the result, ``what``, does not survive the round trip."""

    def __init__(self, what: str, error: BaseException) -> None:
        super().__init__()
        self.what, self.error = what, error


def described(held: Held) -> tuple[int, bytes]:
    """Return flags and parts of an attempt that did more than return None. Lets no exception escape."""
    try:
        if isinstance(held.error, _Uncarried):  # of a service that has come up, and was torn down since
            flags, parts = 0, _uncarried(held.error)
        else:
            flags, parts = _failed(held, held.error) if held.error is not None else _passed(held)
        packed = wire.pack_parts(parts)
        if len(packed) > wire.LONGEST - wire.END.size:
            packed = wire.pack_parts(
                _error("OverflowError", f"a result of {len(packed)} bytes is too large to be sent")
            )
    except BaseException as error:  # no memory, no descriptors to import with: say at least what it was
        kind = type(held.error if held.error is not None else error)
        return 0, wire.pack_parts(_error(kind.__name__, ""))
    return flags, packed


def _error(kind: str, message: str, traceback: str = "") -> list[tuple[int, bytes]]:
    return _texts({wire.STATUS: "error", wire.TYPE: kind, wire.MESSAGE: message, wire.TRACEBACK: traceback})


def _texts(parts: dict[int, str]) -> list[tuple[int, bytes]]:
    return [(number, wire.encoded(text)) for number, text in parts.items() if text]


def _passed(held: Held) -> tuple[int, list[tuple[int, bytes]]]:
    """Return flags and parts for value and shared dict."""
    try:
        return 0, given(held, held.value)
    except _Uncarried as problem:
        return 0, _uncarried(problem)


def given(held: Held, value: Any) -> list[tuple[int, bytes]]:
    """Return the parts for a value and the shared dict; raises when one of them does not survive."""
    parts = [] if value is None else [(wire.VALUE, _carried(value, "return value"))]
    return parts + _shared(held)


def _uncarried(problem: _Uncarried) -> list[tuple[int, bytes]]:
    from pexen.pool.base import failure_of

    failure = failure_of(problem.error)
    message = f"{problem.what} cannot be pickled: {type(problem.error).__name__}: {failure.message}"
    return _error("pickle.PicklingError", message, failure.traceback)


def _failed(held: Held, error: BaseException) -> tuple[int, list[tuple[int, bytes]]]:
    """Return flags and parts for what the task has raised."""
    from pexen.pool.base import outcome_of

    outcome = outcome_of(held, error)  # type: ignore[arg-type] # it asks no more of the attempt than to be there
    said = {wire.STATUS: str(outcome.status), wire.REASON: outcome.reason or held.reason}
    parts = []
    if outcome.failure is not None:
        said[wire.TYPE], said[wire.MESSAGE] = outcome.failure.type, outcome.failure.message
        said[wire.TRACEBACK] = outcome.failure.traceback
        parts = _exception(error)
    try:
        parts += _shared(held)
    except _Uncarried as problem:  # what has failed keeps its verdict; its dependants may be allowed to run
        said[wire.REASON] = f"{problem.what} cannot be pickled: {type(problem.error).__name__}"
    flags = (wire.DEPS_OK if outcome.deps_ok else 0) | (0 if outcome.locks_ok else wire.LOCKS_BAD)
    return flags, _texts(said) + parts


def _carried(value: Any, what: str) -> bytes:
    """Return a value's pickle, which is known to load; raises `_Uncarried`."""
    try:
        data = wire.dumps(value)
        if type(value) not in _PLAIN:
            wire.loads(data)
    except BaseException as error:
        raise _Uncarried(what, error) from None
    return data


def _exception(error: BaseException) -> list[tuple[int, bytes]]:
    """Return the exception's own pickle if it survives the round trip, else nothing: its text is sent in any case."""
    try:
        data = wire.dumps(error)
        return [(wire.CARRIED, data)] if isinstance(wire.loads(data), BaseException) else []
    except BaseException:
        return []


def _shared(held: Held) -> list[tuple[int, bytes]]:
    """Return the part for the shared dict, if the task has asked for it; raises `_Uncarried` for the value at fault."""
    if held.written is None:
        return []
    try:
        return [(wire.SHARED, _carried(held.written, "shared"))]
    except _Uncarried:
        for key, value in held.written.items():
            _carried(value, f"shared value {key!r}")
        raise
