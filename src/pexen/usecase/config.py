"""What the configuration at the root of a tree says, beside what is for its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pexen.errors import DefinitionError

if TYPE_CHECKING:
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
