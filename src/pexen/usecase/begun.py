"""How a run was begun, as its record says; and where its tree is now, which may have been moved or copied since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pexen.errors import DefinitionError, StateError
from pexen.usecase.past import home_with

if TYPE_CHECKING:
    from pexen.state.reader import Record

_LAST = 1 << 40
"""Seconds that are no date any more."""


class Begun(NamedTuple):
    """What a record says of how its run was begun: ``at`` is seconds since the epoch, 0 where nothing was recorded.

    ``argv`` are the words that began it, ``root`` and ``cwd`` where it was taken up last, if it was. ``may_restart`` says whether
    it could restart the machine then.
    """

    name: str
    at: float
    argv: list[str]
    root: str
    cwd: str
    may_restart: bool

    @property
    def is_typed(self) -> bool:
        """Whether it was begun by ``pexen run``, so that ``pexen resume`` can take it up."""
        return self.argv[:2] == ["pexen", "run"]


def begun(record: Record) -> Begun:
    """Return how the run of a record was begun. Raises `StateError` for a first record of other types than pexen writes."""
    first = record.header
    last = record.sessions[-1].run if record.sessions else first
    with understood(record.path):
        at = first.get("at", 0.0)
        if not isinstance(at, int | float) or not 0 <= at < _LAST:
            raise TypeError(f"'at' is {at!r}")
        words = _words(last)
        return Begun(
            _text(first, "run") or os.path.basename(record.folder), at, _words(first), _text(last, "root"),
            _text(last, "cwd"), "--reboot" in words[: words.index("--") if "--" in words else None],
        )  # fmt: skip


def is_done(record: Record) -> bool:
    """Tell whether a run went to its end: what has no result then is no task of it any more."""
    return record.end is not None and record.end.get("how") == "done"


def _text(said: Mapping[str, Any], key: str) -> str:
    found = said.get(key, "")
    if not isinstance(found, str):
        raise TypeError(f"{key!r} is {found!r}")
    return found


def _words(said: Mapping[str, Any]) -> list[str]:
    found = said.get("argv", [])
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise TypeError(f"'argv' is {found!r}")
    return found


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Let what goes wrong with records that are whole, and not what pexen writes, be a `StateError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise StateError("the journal cannot be understood", facts=[("at", where), ("record", what)]) from error


def place_now(folder: str, how: Begun) -> tuple[str, str]:
    """Return the root of the tree that the run in ``folder`` is of, and the folder in which its words mean the same as then.

    Where the record lies in another tree than the one it was made in, that was moved or copied, and it is the new one. Raises
    `DefinitionError` when the words meant something outside of the tree.
    """
    root = _root_around(folder)
    if not root or not how.root or _is_of(folder, how.root):
        return how.root, how.cwd
    facts = [("begun in", how.cwd), ("tree then", how.root), ("tree now", root)]
    below = os.path.relpath(how.cwd, how.root)
    if below.partition("/")[0] == "..":
        raise DefinitionError(
            "the tree has been moved or copied, and the run was begun outside of it", facts=facts,
            hint="begin it again: pexen run",
        )  # fmt: skip
    cwd = os.path.normpath(f"{root}/{below}")
    if not os.path.isdir(cwd):
        raise DefinitionError(
            f"the tree has been moved or copied, and there is no {cwd}", facts=facts,
            hint="make that folder, or begin again: pexen run",
        )  # fmt: skip
    return root, cwd


def _root_around(folder: str) -> str:
    """Return the root of the tree in which a record lies; empty for one that is kept elsewhere."""
    from pexen.factory.tree import find_root

    here = find_root(".")
    if _is_of(folder, here):  # as it was found: ``.pexen`` may be a link
        return here
    home = home_with(folder)
    return os.path.dirname(home) if os.path.basename(home) == ".pexen" else ""


def _is_of(folder: str, root: str) -> bool:
    try:
        return os.path.samefile(folder, f"{root}/.pexen/runs/{os.path.basename(folder)}")
    except OSError:
        return False
