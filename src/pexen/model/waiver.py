"""Waivers: failures that somebody knows about and accepts, as predicates with a reason and perhaps a last day."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.result import Result


class Waiver:
    """A predicate on ``(result, facts)``, the reason for it, and until when it holds (None: for ever).

    Made by `waiver`. It can be called like the function it was made from.
    """

    def __init__(self, applies: Callable[..., Any], reason: str, until: dt.date | None = None) -> None:
        self.applies = applies
        self.reason = reason
        self.until = until

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(getattr(self.applies, "__name__", type(self.applies).__name__))

    def holds(self, day: dt.date) -> bool:
        """Tell whether it has not expired: its last day is ``until``."""
        return self.until is None or day <= self.until

    def __call__(self, result: Result, facts: Any) -> Any:
        """Ask the predicate."""
        return self.applies(result, facts)


def waiver(reason: str, *, until: str | dt.date | None = None) -> Callable[[Callable[..., Any]], Waiver]:
    """Return a decorator that makes a waiver of a predicate: ``@pexen.waiver("bug 123", until="2027-01-31")``.

    The predicate is called with each failed `Result` and the `Facts` of the machine, and returns whether the failure is
    known and accepted. It may run in any thread, and should be quick. Raises `DefinitionError` for a date that is none.
    """
    if not str(reason).strip():
        raise DefinitionError("a waiver needs a reason", hint='@pexen.waiver("bug 123")')
    day = _day(until)

    def attach(applies: Callable[..., Any]) -> Waiver:
        if not callable(applies):
            raise DefinitionError(f"a waiver is a function on (result, facts), not {type(applies).__name__}")
        return Waiver(applies, reason, day)

    return attach


def _day(until: str | dt.date | None) -> dt.date | None:
    if until is None or isinstance(until, dt.date):
        return until
    try:
        return dt.date.fromisoformat(until)
    except (TypeError, ValueError):
        raise DefinitionError(f"until is a day such as '2027-01-31', not {until!r}") from None
