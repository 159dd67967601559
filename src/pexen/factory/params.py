"""Parameters: typed values that factories ask for and users give with ``-D name=value``.

A factory asks (``here.param("day", default, type=date)``), so which parameters exist is known when collecting is
over: then `Params.check` refuses what was given and nobody asked for. Names that begin with ``provider.`` belong to
the choice of providers and are never asked for here.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pexen.errors import DefinitionError, nearest

RESERVED = "provider."
_TRUTH = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}


class _Required:
    """The default of a parameter that has none."""


REQUIRED: Any = _Required()


@dataclass(frozen=True, slots=True)
class Asked:
    """A parameter somebody asked for, as ``pexen list --params`` shows it. ``default`` is None where there is none."""

    name: str
    type: str
    default: str | None
    help: str
    where: str


class Params:
    """The parameters of one collection: what was given, and who asked for what."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.given = dict(given or {})
        self.asked: dict[str, Asked] = {}

    def ask(
        self,
        name: str,
        default: Any = REQUIRED,
        *,
        type: Any = None,  # noqa: A002 - the word users know from argparse
        help: str = "",  # noqa: A002 - as above
        where: str = "",
    ) -> Any:
        """Return the value given for ``name``, converted, or the default.

        ``type`` is int, float, bool, str, date, datetime, Path, an Enum or any callable that takes the text; without it
        the default's own type. Raises `DefinitionError` naming the parameter.
        """
        if not name or name.startswith(RESERVED):
            raise DefinitionError(f"a parameter cannot be called {name!r}", where=where)
        convert = _type_of(default) if type is None else type
        shown = None if default is REQUIRED else _text(default)
        self.asked.setdefault(name, Asked(name, _name(convert), shown, help, where))
        if name in self.given:
            return _converted(name, self.given[name], convert, where)
        if default is REQUIRED:
            raise DefinitionError(
                f"the parameter {name!r} must be given",
                where=where,
                hint=f"-D {name}=… ({_name(convert)}) {help}".rstrip(),
            )
        return default

    def check(self) -> None:
        """Raise `DefinitionError` when something was given that nobody asked for."""
        for name in self.given:
            if name not in self.asked and not name.startswith(RESERVED):
                known = ", ".join(self.asked)
                hint = nearest(name, self.asked) or (f"parameters: {known}" if known else "nothing here has parameters")
                raise DefinitionError(f"there is no parameter {name!r}", hint=hint)


def _type_of(default: Any) -> Callable[[str], Any]:
    if default is REQUIRED or default is None:
        return str
    if isinstance(default, Path):
        return Path
    kind: Callable[[str], Any] = type(default)
    return kind


def _converted(name: str, text: str, convert: Any, where: str) -> Any:
    try:
        return _convert(text, convert)
    except DefinitionError:
        raise
    except Exception as error:
        wanted = _choices(convert)
        facts = [] if wanted else [("because", f"{type(error).__name__}: {error}")]
        raise DefinitionError(
            f"the parameter {name!r} must be {wanted or _name(convert)}, not {text!r}", where=where, facts=facts
        ) from error


def _convert(text: str, convert: Any) -> Any:
    if convert is bool:
        return _TRUTH[text.strip().lower()]
    if convert in (dt.date, dt.datetime):
        return convert.fromisoformat(text)
    if isinstance(convert, enum.EnumMeta):
        members: Mapping[str, Any] = convert.__members__
        if text in members:
            return members[text]
        return next(member for member in members.values() if str(member.value) == text)
    return convert(text)


def _choices(convert: Any) -> str:
    if convert is bool:
        return "yes or no"
    if convert is dt.date:
        return "a date such as 2025-12-31"
    if convert is dt.datetime:
        return "a time such as 2025-12-31T23:59:59"
    if isinstance(convert, enum.EnumMeta):
        return "one of " + ", ".join(convert.__members__)
    return ""


def _name(convert: Any) -> str:
    return str(getattr(convert, "__name__", None) or type(convert).__name__)


def _text(default: Any) -> str:
    return default.name if isinstance(default, enum.Enum) else str(default)
