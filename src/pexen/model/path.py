"""Paths: where a task stands in the tree, as plain strings with ``/`` between the levels.

A path is relative to the tree's root, has no empty, ``.`` or ``..`` component and no NUL or newline, so it can be a file
name below a folder and one line of any report. Everything else is allowed; consoles make odd characters visible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pexen.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 4096
"""Characters; what Linux allows for a file's path."""


def check_path(path: str) -> str:
    """Return ``path`` when it is a valid task path; raise `DefinitionError` otherwise."""
    if not isinstance(path, str):
        raise DefinitionError(f"a task's path must be a string, not {type(path).__name__}")
    if path and path[0] not in "/." and path[-1] != "/" and path.isprintable() and len(path) <= LONGEST:
        if "/." not in path and "//" not in path:  # the fast way out for a million ordinary paths
            return path
    for part in path.split("/"):
        if not part or part in {".", ".."}:
            raise DefinitionError(
                f"not a valid task path: {path!r}",
                hint="a path is relative to the root of the tree: 'kernel/fs/quota.sh', no '.', '..' or empty part",
            )
    if "\0" in path or "\n" in path:
        raise DefinitionError(f"a task's path cannot hold NUL or newline: {path!r}")
    if len(path) > LONGEST:
        raise DefinitionError(f"a task's path is longer than {LONGEST} characters: {path[:60]!r}…")
    return path


def folder_of(path: str) -> str:
    """Return the folder a path stands in; ``""`` is the root."""
    return path.rpartition("/")[0]


def last_of(path: str) -> str:
    """Return the last component of a path."""
    return path.rpartition("/")[2]


def outward(path: str) -> Iterator[str]:
    """Yield the folders around ``path``, nearest first; the last one is the root ``""``."""
    while path:
        path = folder_of(path)
        yield path


def is_below(path: str, folder: str) -> bool:
    """Tell whether ``path`` is ``folder`` or lies in its subtree."""
    return not folder or path == folder or path.startswith(folder + "/")
