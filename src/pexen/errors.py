"""One tree of exceptions, arranged by whose fault it is.

Every error is a *headline*, then labelled *facts* (often ``file:line``), then a *hint*: what to type or where to look.
The objects concerned are attributes; the text is made in ``__str__``. All of them survive pickling unchanged.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class PexenError(Exception):
    """Root of everything pexen raises on purpose.

    ``facts`` are ``(label, text)`` pairs printed below the headline, ``hint`` is the last line.
    """

    def __init__(self, headline: str, *, facts: Iterable[tuple[str, str]] = (), hint: str = "") -> None:
        super().__init__(headline)
        self.headline = headline
        self.facts = tuple(facts)
        self.hint = hint

    def __str__(self) -> str:
        """Return headline, facts and hint, a line each."""
        lines = [self.headline, *(f"  {label}: {text}" for label, text in self.facts)]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by class, ``args`` and attributes: no subclass has to repeat its keyword arguments."""
        return (_rebuild, (type(self), self.args, self.__dict__))


class DefinitionError(PexenError):
    """The tasks or their metadata are wrong; raised before anything runs, and nothing has changed.

    ``where`` is ``"file:line"`` when the definition was read from a file.
    """

    def __init__(
        self, headline: str, *, where: str = "", facts: Iterable[tuple[str, str]] = (), hint: str = ""
    ) -> None:
        super().__init__(headline, facts=[("at", where), *facts] if where else facts, hint=hint)
        self.where = where

    @classmethod
    def read(cls, text: str) -> DefinitionError:
        """Return the error whose text that is, as it came from somewhere else."""
        headline, *lines = text.split("\n")
        pairs = [line.strip().partition(": ")[::2] for line in lines]
        return cls(
            headline, facts=[pair for pair in pairs if pair[0] != "hint"],
            hint="".join(said for label, said in pairs if label == "hint"),
        )  # fmt: skip


class TaskFail(PexenError):
    """Raised by a task to fail in a controlled way.

    ``deps_ok`` says that what requires the task may run all the same; ``locks_ok`` that what it claimed is sane.
    """

    def __init__(self, *args: object, deps_ok: bool = False, locks_ok: bool = True) -> None:
        super().__init__(" ".join(map(str, args)))
        self.args = args
        self.deps_ok = deps_ok
        self.locks_ok = locks_ok


class TaskSkip(PexenError):
    """Raised by a task to say that it cannot be run here; its result is ``skipped`` with this reason."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)


class Leaving(BaseException):
    """Unwinds a task that has asked for a restart of the machine, see `pexen.model.context.Context.reboot`.

    Not a `PexenError`, so that ``except Exception`` in the task does not stop it.
    """


class TasksFailed(PexenError):
    """Raised by ``Results.check()``: some results are not a success; ``results`` holds them."""

    def __init__(self, headline: str, results: tuple[Any, ...] = (), **kw: Any) -> None:
        super().__init__(headline, **kw)
        self.results = results


class PoolError(PexenError):
    """A pool cannot do its work at all: its workers do not start, or it was used wrongly."""


class StateError(PexenError):
    """A record on disk cannot be read: damaged, or written by a newer version."""


class InternalError(PexenError):
    """A bug of pexen, never of a task."""

    def __init__(self, headline: str, *, facts: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(headline, facts=facts, hint="this is a bug in pexen; please report it with the text above")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the known word closest to ``word``, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def located(error: DefinitionError, where: str) -> DefinitionError:
    """Return the error with ``where``, unless it already says where."""
    if error.where or not where:
        return error
    return DefinitionError(error.headline, where=where, facts=error.facts, hint=error.hint)


def _rebuild(kind: type[PexenError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PexenError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
