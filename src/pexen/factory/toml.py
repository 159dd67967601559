"""TOML with line numbers: every complaint about a key names the line that the key stands on.

`tomllib` keeps no positions, so the line is looked for when there is something to complain about: the text is scanned
for the key below the header of its table. Multi-line strings that look like headers can mislead it, by some lines;
the file is right in any case.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from pexen.errors import DefinitionError, nearest
from pexen.factory import conditions
from pexen.model import meta as m

_FIELDS = m.FIELDS
_POSITION = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_TUPLES = frozenset({"requires", "after", "provides", "uses", "claims", "conflicts"})
_PYTHON_ONLY = {
    "path": "the path comes from where the file or the table stands",
    "args": 'write them into a task of its own: run = ["./x", "--flag"]',
    "kwargs": "they are for Python callables",
    "around": "it takes Python functions: put it into the defaults of a pexenfile.py",
}


class Document(NamedTuple):
    """A parsed text: where it comes from, and the number of its first line there."""

    file: str
    text: str
    data: dict[str, Any]
    first: int = 1

    def where(self, *keys: str) -> str:
        """Return ``file:line`` of the last of the keys, each inside the table before it."""
        return f"{self.file}:{self.first + _line(self.text, keys)}"

    def table(self, *keys: str) -> Mapping[str, Any]:
        """Return the table at ``keys``, empty where there is none; raise when it is something else."""
        found: Any = self.data
        for depth, key in enumerate(keys):
            found = found.get(key, {})
            if not isinstance(found, dict):
                raise DefinitionError(f"{key} must be a table", where=self.where(*keys[: depth + 1]))
        result: Mapping[str, Any] = found
        return result

    def known(self, keys: Collection[str], *table: str, other: str = "") -> None:
        """Raise for the first key of a table that is not one of ``keys``."""
        for key in self.table(*table):
            if key not in keys:
                raise DefinitionError(
                    f"unknown key {key!r}", where=self.where(*table, key), hint=nearest(key, keys) or other
                )


def parse(file: str, text: str, first: int = 1) -> Document:
    """Return the document; a mistake in it is a `DefinitionError` with its line, counted from ``first``."""
    try:
        return Document(file, text, tomllib.loads(text), first)
    except tomllib.TOMLDecodeError as error:
        match = _POSITION.search(str(error))
        line = int(match[1]) if match and match[1] else text.count("\n") + 1
        message = _POSITION.sub("", str(error))
        raise DefinitionError(f"not valid TOML: {message}", where=f"{file}:{first + line - 1}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of more than 4,300 digits
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DefinitionError(f"not usable TOML: {problem}", where=f"{file}:{first}") from None


def read(file: str) -> Document:
    """Return the document in a file."""
    try:
        with open(file, "rb") as opened:
            data = opened.read()
    except OSError as error:
        raise DefinitionError(f"cannot read the file: {error.strerror}", where=file) from None
    try:
        return parse(file, data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DefinitionError("not valid TOML: it must be UTF-8", where=f"{file}:{line}") from None


def metadata(document: Document, *table: str, extra: Collection[str] = ()) -> dict[str, Any]:
    """Return the metadata of a table in normal form, but for the keys in ``extra``; errors have the key's line."""
    found: dict[str, Any] = {}
    for key, value in document.table(*table).items():
        if key in extra:
            continue
        if key not in _FIELDS or key in _PYTHON_ONLY:
            known = [each for each in _FIELDS if each not in _PYTHON_ONLY]
            hint = _PYTHON_ONLY.get(key) or nearest(key, [*known, *extra]) or "docs/metadata.md lists all keys"
            problem = f"{key!r} cannot be used here" if key in _FIELDS else f"unknown metadata {key!r}"
            raise DefinitionError(problem, where=document.where(*table, key), hint=hint)
        try:
            found.update(m.normalise({key: _meant(key, value) if key in _TUPLES else value}))
            if key in {"when", "host"}:
                conditions.check(
                    found.get("when") if key == "when" else None, found.get("host", ()) if key == "host" else ()
                )
        except DefinitionError as error:
            where = document.where(*table, key)
            raise DefinitionError(error.headline, where=where, facts=error.facts, hint=error.hint) from None
    return found


_SAYS: dict[str, Callable[..., Any]] = {
    "any_of": lambda value: m.any_of(*(value if isinstance(value, list) else [value])),
    "all_of": m.all_of,
    "tree_lock": m.tree_lock,
}


def _meant(key: str, value: Any) -> Any:
    """Return what a TOML value stands for: ``["disk", 1]`` in a list is a tuple, ``{any_of = […]}`` is a call."""
    if isinstance(value, list):
        return [_meant(key, tuple(item) if isinstance(item, list) else item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in _SAYS:
            (word, inner), *_ = value.items()
            return _SAYS[word](_meant(key, inner))
        return {name: _meant(key, item) for name, item in value.items()}
    return value


# -- finding lines ------------------------------------------------------------------------------------------------


def _line(text: str, keys: tuple[str, ...]) -> int:
    """Return the number (from 0) of the line of a key, or of the nearest thing around it that is found."""
    table: tuple[str, ...] = ()
    best, depth = 0, 0
    for number, line in enumerate(text.split("\n")):
        header = _HEADER.match(line)
        key = None if header else _KEY.match(line)
        if header:
            here = table = _parts(header[1])
        elif key:
            here = table + _parts(key[1])
        else:
            continue
        matching = len(here) if here == keys[: len(here)] else 0
        if here[: len(keys)] == keys:
            return number
        if matching > depth:
            best, depth = number, matching
    return best


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
