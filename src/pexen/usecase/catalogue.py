"""The catalogue of a tree: where ``pexen.toml`` says that providers come from, and what is chosen there for a selection.

A path in the tree itself sets a part of it apart: its tasks run for others only, or when they are named. Everything else is
another source, which is not looked at unless something is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from pexen.errors import DefinitionError, nearest
from pexen.factory.params import RESERVED
from pexen.factory.providers import Choices, choose_providers, lack
from pexen.factory.select import Selection
from pexen.factory.tree import place_in
from pexen.model.meta import Name
from pexen.model.path import is_below
from pexen.model.task import Task
from pexen.usecase.config import catalogue, pins

Load = Callable[[str], Iterable[Task]]
"""Returns the tasks of a source; paths in it are absolute."""


class Catalogue:
    """What a root's configuration says of providers. ``places`` are its folders in the tree, ``words`` its other sources.

    ``given`` are all parameters; those for providers win over ``[providers]``. ``load`` is called at most once for each word.
    """

    def __init__(self, root: str, given: Mapping[str, str], load: Load) -> None:
        self.places: list[str] = []
        self.words: list[str] = []
        self._load = load
        self._loaded: list[Task] | None = None
        self.pins: dict[Name, str] = dict(pins(root, given).items())
        for word, where in catalogue(root):
            self._understand(root, word, where)
        if self.pins and not self:
            name, what = next(iter(self.pins.items()))
            raise DefinitionError(
                f"{RESERVED}{name}={what}: there is no catalogue to choose from",
                hint='catalogue = "services" in pexen.toml says where providers are',
            )

    def _understand(self, root: str, word: str, where: str) -> None:
        path = os.path.normpath(os.path.join(root, word))
        if not os.path.lexists(path):
            if word.startswith((".", "/")) or "/" in word.partition(":")[0]:
                raise DefinitionError(f"the catalogue {word!r} does not exist", where=where)
            kind, colon, what = word.partition(":")
            is_folder = kind in {"fs", "tree"}
            if not colon and not _is_module(root, word):
                hint = nearest(word, [entry.name for entry in os.scandir(root) if entry.is_dir()])
                raise DefinitionError(f"the catalogue {word!r} does not exist", where=where, hint=hint)
            self.words.append(f"{kind}:{os.path.join(root, what)}" if colon and is_folder else word)
        elif path == root or path.startswith(root.rstrip("/") + "/"):
            self.places.append(place_in(root, path))
        else:
            self.words.append(path)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.places or self.words)

    def load(self) -> list[Task]:
        """Return the tasks of the other sources."""
        if self._loaded is None:
            self._loaded = [task for word in self.words for task in self._load(word)]
        return self._loaded

    def chosen(self, selection: Selection, collected: Sequence[Task]) -> tuple[Selection, Choices]:
        """Return the selection with what it requires and lacks, and what was decided."""
        own = [task for task in collected if task.name not in selection.why and self._is_apart(task)]

        def offered() -> list[Task]:
            return [*own, *(self.load() if lack([*selection.tasks, *own]) else ())]

        tasks, choices = choose_providers(selection.tasks, offered, pins=self.pins, same_tree=bool(self.places))
        why = {**selection.why, **choices.added}
        return Selection(tasks, why, selection.unmatched, selection.hint), choices

    def _is_apart(self, task: Task) -> bool:
        return any(is_below(task.name, place) for place in self.places)


def _is_module(root: str, word: str) -> bool:
    """Tell whether a word may name a module or package, here or below the root; nothing is imported."""
    from importlib.util import find_spec

    top = word.partition(".")[0]
    if not top.isidentifier():
        return False
    if any(os.path.exists(f"{folder}/{top}{suffix}") for folder in (".", root) for suffix in ("", ".py")):
        return True
    try:
        return find_spec(top) is not None
    except (ImportError, ValueError):
        return False
