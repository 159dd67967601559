"""What the configuration at the root of a tree says, beside what is for its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pexen.errors import DefinitionError
from pexen.factory.params import RESERVED

if TYPE_CHECKING:
    from pexen.factory.groups import Grouping
    from pexen.factory.toml import Document


def tables(root: str, name: str) -> Iterator[tuple[Document, tuple[str, ...]]]:
    """Yield the configuration files of a root that have a table of this name, the stronger one last."""
    from pexen.factory import toml

    for file, table in (("pyproject.toml", ("tool", "pexen", name)), ("pexen.toml", (name,))):
        try:
            with open(f"{root}/{file}", "rb") as opened:
                is_there = b".".join(map(str.encode, table)) in opened.read()  # others' may be as broken as they like
        except OSError:
            continue
        if is_there:
            yield toml.read(f"{root}/{file}"), table


def resources(root: str) -> dict[str, float | list[str]]:
    """Return what there is for tasks to take: amounts, or names of units, from ``[resources]`` in the root's files."""
    found: dict[str, float | list[str]] = {}
    for document, table in tables(root, "resources"):
        for name, value in document.table(*table).items():
            is_amount = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            is_units = isinstance(value, list) and bool(value) and all(isinstance(unit, str) for unit in value)
            if not is_amount and not is_units:
                raise DefinitionError(
                    f"resources: {name} must be an amount or a list of names", where=document.where(*table, name)
                )
            found[name] = value
    return found


def groups(root: str) -> list[Grouping]:
    """Return the groups that ``[groups.NAME]`` in the root's files describe."""
    from pexen.factory.groups import from_table

    return [
        from_table(name, value, partial(document.where, *table, name))
        for document, table in tables(root, "groups")
        for name, value in document.table(*table).items()
    ]


def catalogue(root: str) -> list[tuple[str, str]]:
    """Return where providers may come from: each word of ``catalogue`` in the root's files, with ``file:line``."""
    found: list[tuple[str, str]] = []
    for document, table in _mentioning(root, b"catalogue"):
        value = document.table(*table).get("catalogue")
        if value is None:
            continue
        where = document.where(*table, "catalogue")
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
            raise DefinitionError(
                "catalogue must be a path or KIND:WHAT, or a list of them", where=where, hint='catalogue = "services"'
            )
        found = [(word, where) for word in words]
    return found


def pins(root: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return which provider is wanted for a name: from ``[providers]`` in the root's files, or of the parameters ``given``."""
    found: dict[str, str] = {}
    for document, table in tables(root, "providers"):
        for name, value in document.table(*table).items():
            if not isinstance(value, str) or not value:
                raise DefinitionError(
                    f"providers: {name} must be the path or the name of a provider", where=document.where(*table, name)
                )
            found[name] = value
    return found | {name.removeprefix(RESERVED): value for name, value in given.items() if name.startswith(RESERVED)}


def _mentioning(root: str, word: bytes) -> Iterator[tuple[Document, tuple[str, ...]]]:
    """Yield the configuration files of a root that may say something under a key, with our table, the stronger one last."""
    from pexen.factory import toml

    for file, table in (("pyproject.toml", ("tool", "pexen")), ("pexen.toml", ())):
        try:
            with open(f"{root}/{file}", "rb") as opened:
                text = opened.read()
        except OSError:
            continue
        if word in text and (not table or b"tool.pexen" in text):
            yield toml.read(f"{root}/{file}"), table
