"""Metadata: what may be said about a task, how each key is checked, and how it is inherited.

A task keeps only the keys somebody gave (a million tasks with thirty defaults each would not fit); `Field` is the
descriptor that answers for the others. Each key's normaliser turns what users write (a bare string, a set, ``"5m"``)
into one immutable form, so nothing below this module ever asks what it was given. Sets are sorted here, therefore the
order of everything later is the same under any hash seed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar, overload

from pexen.errors import DefinitionError, nearest
from pexen.model.path import check_path
from pexen.model.waiver import Waiver

T = TypeVar("T")

Name = str | tuple[str | int, ...]
"""What a task provides or locks: a string or a tuple of strings and ints."""

EMPTY: Mapping[str, Any] = {}
"""The metadata of every task that has none; shared, so recognisable by identity."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A requirement that the first success among ``alternatives`` (in this order) satisfies."""

    alternatives: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """A requirement whose value is always the list of all its providers' values, in tree order."""

    of: Any


@dataclass(frozen=True, slots=True)
class Named:
    """A requirement whose value goes to the parameter ``parameter``."""

    parameter: str
    requirement: Any


@dataclass(frozen=True, slots=True)
class TreeLock:
    """A lock on a place in a tree; conflicts with locks on its ancestors and descendants."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        """Return the place as a path."""
        return "/" + "/".join(self.parts)


DIRECT: set[type] = {AnyOf, AllOf, Named}
"""Types that stand for themselves among requirements; `pexen.Task` is the fourth."""


def any_of(*alternatives: Any) -> AnyOf:
    """Return a requirement met by the first success among names, paths, tasks; with one name, among its providers."""
    if not alternatives:
        raise DefinitionError("any_of() needs at least one name")
    return AnyOf(tuple(_requirement("any_of", item) for item in alternatives))


def all_of(name: Any) -> AllOf:
    """Return a requirement on every provider of ``name`` whose value is their list, in tree order."""
    return AllOf(_requirement("all_of", name))


def tree_lock(place: str) -> TreeLock:
    """Return a lock for ``claims`` or ``uses`` that covers ``place`` (as ``/proc/sys/net``) and all below it."""
    if not isinstance(place, str):
        raise DefinitionError(f"tree_lock() takes a path, not {type(place).__name__}")
    return TreeLock(tuple(part for part in place.split("/") if part))


class Field(Generic[T]):
    """One metadata key, read from a task's sparse ``meta``.

    ``inherit`` says what happens below a folder that has the key as a default: ``"nearest"`` definition wins,
    definitions are put ``"together"`` (sequences) or ``"merged"`` (mappings, the nearest wins), or it is ``"never"``
    handed down.
    """

    __slots__ = ("default", "inherit", "name", "normalise")

    def __init__(
        self,
        default: T,
        normalise: Callable[[str, Any], T],
        inherit: Literal["nearest", "together", "merged", "never"] = "nearest",
    ) -> None:
        self.default = default
        self.normalise = normalise
        self.inherit = inherit

    def __set_name__(self, owner: type, name: str) -> None:
        """Enter the key into the table that the class of tasks is."""
        self.name = name
        FIELDS[name] = self

    @overload
    def __get__(self, task: None, owner: type) -> Self: ...
    @overload
    def __get__(self, task: Any, owner: type) -> T: ...
    def __get__(self, task: Any, owner: type) -> T | Self:
        """Return the task's value, or the default."""
        if task is None:
            return self
        value: T | None = task.meta.get(self.name)  # None, too: kept to clear what would be inherited
        return self.default if value is None else value


FIELDS: dict[str, Field[Any]] = {}
"""Every metadata key there is, in the order of the class `pexen.Task`."""


def normalise(given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the given metadata in normal form; `DefinitionError` for unknown keys and wrong types.

    ``where`` is ``file:line`` for the message. ``None`` is kept: it clears what would be inherited.
    """
    checked = {}
    for key, value in given.items():
        field = FIELDS.get(key)
        if field is None:
            raise DefinitionError(f"unknown metadata {key!r}", where=where, hint=nearest(key, FIELDS))
        try:
            checked[key] = None if value is None else field.normalise(key, value)
        except DefinitionError as error:
            if where and not error.where:
                raise DefinitionError(error.headline, where=where, facts=error.facts, hint=error.hint) from None
            raise
    return checked


def inherited(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``inner`` metadata completed by the defaults of the folder around it; both in normal form."""
    merged = {key: value for key, value in outer.items() if FIELDS[key].inherit != "never"}
    for key, value in inner.items():
        before, how = merged.get(key), FIELDS[key].inherit
        if before is None or value is None or how in {"nearest", "never"}:
            merged[key] = value
        elif how == "together":
            merged[key] = before + tuple(item for item in value if item not in before)
        else:
            merged[key] = {**before, **value}
    return merged


# -- normalisers: each takes the key (for the message) and what the user wrote ------------------------------------


def wrong(key: str, value: object, wanted: str) -> DefinitionError:
    """Return the error for a value of the wrong type."""
    return DefinitionError(f"{key} must be {wanted}, not {type(value).__name__} {_shown(value)}")


def flag(key: str, value: Any) -> bool:
    """Accept True and False only: ``"no"`` would be true."""
    if isinstance(value, bool):
        return value
    raise wrong(key, value, "true or false")


def number(key: str, value: Any) -> float:
    """Accept an int or a finite float."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0:
        return value
    raise wrong(key, value, "a number")


def count(key: str, value: Any) -> int:
    """Accept a whole number of 0 or more."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise wrong(key, value, "a whole number of 0 or more")


def text(key: str, value: Any) -> str:
    """Accept a string that is not empty."""
    if isinstance(value, str) and value:
        return str(value)
    raise wrong(key, value, "a string")


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def duration(key: str, value: Any) -> float:
    """Accept seconds or a string such as ``"1h30m"``; return seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
        return float(value)
    if isinstance(value, str):
        parts = _DURATION.findall(value)
        if parts and not _DURATION.sub("", value).strip():
            return float(sum(float(amount) * _UNITS[unit] for amount, unit in parts))
        try:
            return duration(key, float(value))
        except ValueError:
            pass
    raise DefinitionError(
        f"{key} must be a duration, not {_shown(value)}", hint="seconds, or a string like '90s', '5m', '1h30m'"
    )


def name(key: str, value: Any) -> Name:
    """Accept a string without leading slash or a tuple of strings and ints."""
    if isinstance(value, str):
        if value and value[0] != "/":
            return str(value)
        raise DefinitionError(f"{key}: a name is not empty and has no leading slash: {value!r}")
    if isinstance(value, tuple) and value and all(isinstance(part, str | int) for part in value):
        return value
    raise wrong(key, value, "a name (a string, or a tuple of strings and ints)")


def _plain_names(value: Any) -> tuple[str, ...] | None:
    """Return ordinary strings at once: the usual case, and there may be a million of them."""
    kind = value.__class__
    if kind is str:
        return (value,) if value and value[0] != "/" else None
    if kind is not list and kind is not tuple and kind is not set and kind is not frozenset:
        return None
    for item in value:
        if item.__class__ is not str or not item or item[0] == "/":
            return None
    return tuple(value) if kind is list or kind is tuple else tuple(sorted(value))


def names(key: str, value: Any) -> tuple[Name, ...]:
    """Accept one name or several; one that is said twice counts once."""
    found: tuple[Name, ...] | None = _plain_names(value)
    if found is None:
        found = tuple(name(key, item) for item in _several(key, value))
    return found if len(found) < 2 else tuple(dict.fromkeys(found))


def locks(key: str, value: Any) -> tuple[Name | TreeLock, ...]:
    """Accept names and tree locks."""
    plain = _plain_names(value)
    if plain is not None:
        return plain
    return tuple(item if type(item) is TreeLock else name(key, item) for item in _several(key, value))


def texts(key: str, value: Any) -> tuple[str, ...]:
    """Accept one string or several."""
    return tuple(text(key, item) for item in _several(key, value))


def paths(key: str, value: Any) -> tuple[str, ...]:
    """Accept file names: strings or path objects."""
    return tuple(str(item) for item in _several(key, value))


def waived(key: str, value: Any) -> tuple[Waiver, ...]:
    """Accept what `pexen.waiver` makes."""
    items = (value,) if isinstance(value, Waiver) else tuple(_several(key, value))
    for item in items:
        if not isinstance(item, Waiver):
            raise wrong(key, item, 'a waiver: @pexen.waiver("reason")')
    return items


def surroundings(key: str, value: Any) -> tuple[str | Callable[..., Any], ...]:
    """Accept generator functions, and names of those that come with pexen."""
    items = tuple(_several(key, value))
    for item in items:
        if not callable(item) and not (isinstance(item, str) and item):
            raise wrong(key, item, "a generator function, or the name of a ready-made one")
    return items


def condition(key: str, value: Any) -> str | Callable[..., Any]:
    """Accept an expression or a callable on facts."""
    if isinstance(value, str):
        return value
    if callable(value):
        called: Callable[..., Any] = value
        return called
    raise wrong(key, value, "an expression (a string) or a callable on facts")


def verdict(key: str, value: Any) -> str | bool:
    """Accept true, false or a reason."""
    if isinstance(value, str | bool):
        return value
    raise wrong(key, value, "true, false or a reason")


def positional(key: str, value: Any) -> tuple[Any, ...]:
    """Accept the positional arguments as a list or tuple."""
    if isinstance(value, list | tuple):
        return tuple(value)
    raise wrong(key, value, "a list or tuple")


def keywords(key: str, value: Any) -> dict[str, Any]:
    """Accept a mapping with string keys."""
    if isinstance(value, Mapping) and all(isinstance(word, str) for word in value):
        return dict(value)
    raise wrong(key, value, "a mapping from names")


def amounts(key: str, value: Any) -> dict[str, float]:
    """Accept a mapping from resource to amount."""
    wanted = keywords(key, value)
    for resource, amount in wanted.items():
        if not (isinstance(amount, int | float) and not isinstance(amount, bool) and amount > 0):
            raise DefinitionError(f"{key}: the amount of {resource!r} must be above 0, not {_shown(amount)}")
    return dict(sorted(wanted.items()))


def place(key: str, value: Any) -> str:  # noqa: ARG001 - the shape of all normalisers
    """Accept a task path."""
    return check_path(value)


def requirements(key: str, value: Any) -> tuple[Any, ...]:
    """Accept what `requires` and `after` accept: names, paths, tasks, functions, any_of, all_of; or a mapping."""
    kind = type(value)
    if kind in DIRECT:
        return (value,)
    if kind is tuple or kind is list:
        for item in value:
            kind = type(item)
            if kind not in DIRECT and (kind is not str or not item or item[0] == "/"):
                break
        else:
            return tuple(value)
    elif kind is set or kind is frozenset or kind is str:
        plain = _plain_names(value)
        if plain is not None:
            return plain
    elif isinstance(value, Mapping):
        return tuple(Named(text(key, word), _requirement(key, item)) for word, item in value.items())
    return tuple(_requirement(key, item) for item in _several(key, value))


def _requirement(key: str, item: Any) -> Any:
    """Return one requirement in normal form; tasks and functions stay what they are."""
    if isinstance(item, str):
        if item.startswith("/"):
            return "/" + check_path(item.strip("/"))
        return name(key, item)
    if isinstance(item, tuple):
        return name(key, item)
    if type(item) in DIRECT or hasattr(item, "__pexen__"):
        return item
    if callable(item):
        shown = getattr(item, "__qualname__", repr(type(item)))
        raise DefinitionError(
            f"{key}: {shown} is not a task", hint="decorate it with @pexen.task, or require the pexen.Task made from it"
        )
    raise wrong(key, item, "names, paths ('/setup/db'), tasks, functions decorated with @pexen.task, any_of or all_of")


def _several(key: str, value: Any) -> Iterable[Any]:
    """Return the items of a collection, or the one item; sets in a fixed order."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=_order)
    if isinstance(value, list | tuple):
        # A tuple with an int in it can only be one name: ("disk", 1).
        return (value,) if isinstance(value, tuple) and any(isinstance(part, int) for part in value) else value
    if isinstance(value, Mapping) or (isinstance(value, Iterable) and not isinstance(value, str | TreeLock)):
        if type(value) in DIRECT or callable(value):
            return (value,)
        raise wrong(key, value, "one item, or a list, tuple or set of them")
    return (value,)


def _order(item: Any) -> tuple[int, str]:
    """Sort the mixed items of a set without asking for their hash or their repr."""
    if isinstance(item, str):
        return (0, item)
    if isinstance(item, tuple):
        return (1, "\0".join(f"{part}\0{type(part).__name__}" for part in item))
    if isinstance(item, TreeLock):
        return (2, str(item))
    if isinstance(item, AnyOf):
        return (3, "\0".join(_order(part)[1] for part in item.alternatives))
    if isinstance(item, AllOf):
        return (4, _order(item.of)[1])
    return (5, str(getattr(item, "path", None) or getattr(item, "__qualname__", type(item).__qualname__)))


def _shown(value: object) -> str:
    """Return a short picture of a value whose ``repr`` may be hostile."""
    try:
        picture = repr(value)
    except Exception:  # noqa: BLE001 - a user's repr may raise anything
        return "(cannot be shown)"
    return picture if len(picture) <= 60 else picture[:59] + "…"
