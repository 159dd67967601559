"""What an executable is given by the tasks it requires: a JSON file, named in ``PEXEN_VALUES``.

``{"values": {name: value}, "shared": {…}}``, by the names that parameters of a Python task would have. A value that came
from another process is opaque; it is opened only as far as it is made of built-in types, so nobody's code runs here. What
cannot be said in JSON is left out, and ``"omitted"`` says why: most tasks do not ask for it.

Nearly all are given nothing, and share one file.
"""

from __future__ import annotations

import json
import os
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pexen.model.result import Pickled

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.pool.files import Files

_NOTHING = b'{"values": {}, "shared": {}}\n'


class Values:
    """The files of one opening of a pool. To be used from one thread."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._common = ""
        self._written: dict[int, str] = {}

    def file(self, attempt: Attempt) -> str:
        """Return the file with what the attempt is given; to be followed by `forget`. Raises `OSError`."""
        if not attempt.values and not attempt.shared:
            self._common = self._common or _written(f"{self._files.base}/values.json", _NOTHING)
            return self._common
        path = f"{self._files.base}/{attempt.id}.values.json"
        self._written[attempt.id] = _written(path, content(attempt))
        return path

    def forget(self, id: int) -> None:  # noqa: A002 - the attempt's
        """Remove the file of an attempt that has ended."""
        path = self._written.pop(id, "")
        if path:
            with suppress(OSError):
                os.unlink(path)

    def close(self) -> None:
        """Remove all of them."""
        for path in [*self._written.values(), *([self._common] if self._common else [])]:
            with suppress(OSError):
                os.unlink(path)
        self._written.clear()
        self._common = ""


def content(attempt: Attempt) -> bytes:
    """Return what an attempt is given, as JSON."""
    omitted: dict[str, str] = {}
    values = _sayable(attempt.values, omitted)
    shared: dict[str, Any] = {}
    for layer in attempt.shared:
        opened, why = _opened(layer)
        if why:
            omitted["shared"] = why
        elif isinstance(opened, dict):
            shared.update(_sayable({str(key): value for key, value in opened.items()}, omitted))
    told = {"values": values, "shared": shared}
    return json.dumps({**told, "omitted": omitted} if omitted else told).encode() + b"\n"


def _sayable(items: Any, omitted: dict[str, str]) -> dict[str, Any]:
    """Return those items that JSON can say; note why not for the others."""
    said = {}
    for key, value in items.items():
        opened, why = _opened(value)
        if not why:
            why = _why_not(opened)
        if why:
            omitted[key] = why
        else:
            said[key] = opened
    return said


def _opened(value: Any) -> tuple[Any, str]:
    """Return an opaque value opened, or why that cannot be done here; others as they are."""
    if isinstance(value, list) and any(isinstance(item, Pickled) for item in value):
        opened = [_opened(item) for item in value]
        return [item for item, _ in opened], next((why for _, why in opened if why), "")
    if not isinstance(value, Pickled):
        return value, ""
    try:
        return value.plain(), ""
    except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, ImportError, IndexError, TypeError) as error:
        return None, str(error)


_PLAIN = (str, int, float, bool, type(None))


def _why_not(value: Any, depth: int = 100) -> str:
    """Return why JSON cannot say a value; empty when it can. Types as they are, so that nobody's code is asked."""
    kind = type(value)
    if kind in _PLAIN:
        return "" if kind is not float or value - value == 0 else f"{value} is no JSON"
    if not depth:
        return "nested too deeply"
    if kind is dict:
        if not all(type(key) is str for key in value):
            return "a dict with keys that are no strings is no JSON"
        return next(filter(None, (_why_not(item, depth - 1) for item in value.values())), "")
    if kind is list or kind is tuple:
        return next(filter(None, (_why_not(item, depth - 1) for item in value)), "")
    return f"a {kind.__qualname__} is no JSON"


def _written(path: str, data: bytes) -> str:
    with suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
    return path
