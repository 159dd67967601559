"""Which values a journal can keep: those that JSON gives back equal and of equal type, and no others.

A tuple would come back as a list, a dict's key 1 as ``"1"``, NaN not at all. A task that asked for the value after a
restart would be given another one than before, so such a value is not stored, and it is said why. Looking at a value runs
nobody's code: types are compared by identity, subclasses are refused, and what a worker process has sent is opened by
`pexen.model.result.Pickled.plain`, which knows the built-in types only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from pexen.model.result import Pickled
from pexen.state import codec

DEEPEST = 100
"""Lists and dicts within each other. Every reader of JSON has a limit; this is far below all of them."""
MOST = 2_000_000
"""Items of a value. They are counted one by one, and a value may hold the same list a thousand times a thousand times."""
_BITS = 4096
"""Of an integer; from some 14,000 on Python refuses to read it as text."""


@dataclass(frozen=True, slots=True)
class Unstorable:
    """Stands in a result for a value that was not stored; ``why`` is for people."""

    why: str


def snapshot(value: Any) -> tuple[Any, int, str]:
    """Return a copy of a value that can be stored and how many bytes of JSON that is at least; else None, 0 and why not.

    Never raises. A copy, since the value is the user's, who may go on changing it.
    """
    if value is None or value is True or value is False:
        return value, 5, ""
    try:
        if issubclass(type(value), Pickled):  # isinstance() would ask the object as well
            value = value.plain()
        why = unstorable(value)
        if why:
            return None, 0, why
        if type(value) is int or type(value) is float:
            return value, 20, ""
        using = codec.fastest()
        data = using.encode(value)
        copy = using.decode(data)
        if copy != value:
            return None, 0, "it has text that JSON cannot tell"
        return copy, len(data), ""
    except Exception as error:  # noqa: BLE001 - opaque to us, or changed by another thread while it was looked at
        return None, 0, str(error)[:200] or type(error).__name__


def unstorable(value: Any) -> str:
    """Return why JSON would not give a value back as it is; empty when it would."""
    if value is None or type(value) in _CHECKS:
        return _atom(value)
    if type(value) is not list and type(value) is not dict:
        return f"it is {_named(value)}"
    left = MOST
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for outer in level:
            left -= len(outer)
            if left < 0:
                return f"it has more than {MOST:,} items"
            why = _items(outer, below)
            if why:
                return why
        if not below:
            return ""
        level = below
    return f"it is nested more than {DEEPEST} deep"


def _items(outer: Any, below: list[Any]) -> str:
    """Check the items of a list or dict; add those that are lists and dicts themselves to ``below``."""
    if type(outer) is dict:
        for key in outer:
            if type(key) is not str:
                return f"it has a dict with {_named(key)} as a key"
        items: Any = outer.values()
    else:
        items = outer
    for item in items:
        kind = type(item)
        if kind is list or kind is dict:
            below.append(item)
        elif kind not in _CHECKS:
            return f"it has {_named(item)} in it"
        elif kind is float or kind is int:
            why = _atom(item)
            if why:
                return why
    return ""


def _atom(value: Any) -> str:
    if type(value) is float and not isfinite(value):
        return f"it is or has the number {value}"
    if type(value) is int and value.bit_length() > _BITS:
        return f"it is or has an integer of more than {_BITS} bits"
    return ""


_CHECKS = frozenset({type(None), bool, int, float, str})


def _named(value: Any) -> str:
    """Return ``a tuple``; from the type alone."""
    name = type.__dict__["__qualname__"].__get__(type(value))
    return f"{'an' if name[:1].lower() in set('aeiou') else 'a'} {name}"
