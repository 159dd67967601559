"""Name lookup in a tree: who provides a name, seen from a folder.

A name is looked up like a variable in nested scopes: from the task's own folder outward, the first folder whose subtree
holds any provider, and then all providers in that subtree. The planner binds requirements with it and selection closes
over them; both need the same answer, and neither may know the other, so it is a value of the model.

Cost: a name with one provider takes one dictionary entry, since that provider is the answer from everywhere. A name
with several gets, when first looked up, a list for each folder around each provider: O(depth) a provider, O(depth) a
look-up. Subtrees (``requires="/setup"``) are indexed when somebody first asks for one.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pexen.model.path import folder_of, outward

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence


class HasPath(Protocol):
    """What can be looked up: a task, or whatever stands for one."""

    @property
    def path(self) -> Any:
        """The path it was entered with."""


Item = TypeVar("Item", bound=HasPath)


class Several(Generic[Item]):
    """The providers of one name, and for each folder those in its subtree."""

    __slots__ = ("folders", "found")

    def __init__(self, found: list[Item]) -> None:
        self.found = found
        self.folders: dict[str, list[Item]] | None = None

    def index(self) -> dict[str, list[Item]]:
        """Return the providers in the subtree of each folder."""
        if self.folders is None:
            self.folders = {}
            for item in self.found:
                self.enter(self.folders, item)
        return self.folders

    def append(self, item: Item) -> None:
        """Add one more provider."""
        self.found.append(item)
        if self.folders is not None:
            self.enter(self.folders, item)

    @staticmethod
    def enter(folders: dict[str, list[Item]], item: Item) -> None:
        """List an item under each folder around it."""
        for folder in outward(item.path):
            folders.setdefault(folder, []).append(item)


class Scopes(Generic[Item]):
    """All items by path, and the names they provide. Not thread safe; lists it returns are not to be changed."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.providers: dict[Hashable, Item | Several[Item]] = {}
        self._below: dict[str, list[Item]] | None = None
        self._indexed = 0
        self._first: dict[str, int] = {}

    def add(self, item: Item) -> None:
        """Enter an item; its path must be new."""
        self.items[item.path] = item

    def provide(self, name: Hashable, item: Item) -> None:
        """Enter ``item`` as a provider of ``name``."""
        known = self.providers.get(name)
        if known is None:
            self.providers[name] = item
        elif isinstance(known, Several):
            known.append(item)
        else:
            self.providers[name] = Several([known, item])

    def find(self, name: Hashable, path: str) -> Sequence[Item]:
        """Return the nearest providers of ``name`` for the task at ``path``, in order of addition."""
        known = self.providers.get(name)
        if known is None:
            return ()
        if not isinstance(known, Several):
            return (known,)
        folders = known.index()
        for folder in outward(path):
            if folder in folders:
                return folders[folder]
        return ()

    def at(self, path: str) -> Sequence[Item]:
        """Return the item at ``path``, or all items below it."""
        item = self.items.get(path)
        return (item,) if item is not None else self._subtrees().get(path, ())

    def in_tree_order(self, items: Iterable[Item]) -> list[Item]:
        """Return the items as a walk of the tree meets them: depth first, siblings in order of addition."""
        self._subtrees()

        def key(item: Item) -> list[int]:
            folders = [folder for folder in outward(item.path) if folder]
            return [self._first.get(place, 0) for place in (*reversed(folders), item.path)]

        return sorted(items, key=key)

    def forget(self, items: Sequence[Item], names: Iterable[Hashable]) -> None:
        """Take out what has just been entered, for an addition that turned out wrong."""
        gone = set(map(id, items))
        for item in items:
            self.items.pop(item.path, None)
        for name in set(names):
            known = self.providers.pop(name, None)
            found = known.found if isinstance(known, Several) else [] if known is None else [known]
            for left in found:
                if id(left) not in gone:
                    self.provide(name, left)
        self._below = None

    def _subtrees(self) -> dict[str, list[Item]]:
        if self._below is None:
            self._below, self._indexed, self._first = {}, 0, {}
        if self._indexed < len(self.items):
            fresh = list(islice(reversed(self.items.items()), len(self.items) - self._indexed))  # the last ones
            for path, item in reversed(fresh):
                self._indexed += 1
                self._first.setdefault(path, self._indexed)
                for folder in outward(path):
                    self._below.setdefault(folder, []).append(item)
                    self._first.setdefault(folder, self._indexed)
        return self._below


def suggestions(scopes: Scopes[Item], paths: bool) -> list[str]:
    """Return the names (or the paths, with their folders) to choose the nearest spelling from."""
    if not paths:
        return [name for name in scopes.providers if isinstance(name, str)]
    every = set(scopes.items)
    every.update(folder_of(path) for path in scopes.items)
    return ["/" + path for path in sorted(every) if path]
