"""Tasks of a package and of every module below it, or of all modules in a folder.

The modules are found by walking folders, not by importing packages and asking them, so that a folder without
``__init__.py`` is walked as well. Each is then imported under its ordinary name. For a folder that name begins with the
outermost folder that still has an ``__init__.py`` around it (what pytest does, too), or with the folder's own name; its
parent is on ``sys.path`` only meanwhile. The modules are entered in `TREE_MODULES`, so that workers find them by name.

When one of them raises, every module imported since the call began and lying below the folder is taken out of
``sys.modules`` again: none is left that half knows the others.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from pexen.errors import DefinitionError
from pexen.factory.base import Factory, joined, relink
from pexen.factory.module import Match, imported, items_of, name_of, named
from pexen.model.modules import TREE_MODULES
from pexen.model.task import Task


class ModTreeFactory(Factory):
    """The tasks of a package (by name) or a folder (a path, or a name with a slash) and of all modules below.

    ``kernel/fs/quota.py`` in the package ``suite`` gives ``suite/kernel/fs/quota/<task>``; tasks of an
    ``__init__.py`` stand at their package. ``path`` replaces the first component. A folder's own modules come first,
    sorted by name, then the folders below it. ``__main__.py`` and what cannot be a module's name are left alone.
    ``match`` as for `ModuleFactory`.
    """

    def __init__(self, place: str | os.PathLike[str], *, match: Match = None, path: str | None = None) -> None:
        self.place = place
        self.match = match
        self.path = path

    def make(self) -> Iterator[Task]:
        """Import the modules, all of them first, and yield their tasks."""
        made = [
            (item, named(item, joined(level, name_of(item, name))))
            for module, level in self._modules()
            for name, item in items_of(module, self.match)
        ]
        relink(made)
        yield from (task for _, task in made)

    def _modules(self) -> list[tuple[ModuleType, str]]:
        place = os.fspath(self.place)
        if isinstance(self.place, str) and "/" not in place:
            with nothing_left_behind(place):
                top = imported(place)
                return self._below(place, [os.path.abspath(folder) for folder in getattr(top, "__path__", [])])
        folder = os.path.abspath(place)
        if not os.path.isdir(folder):
            raise DefinitionError(f"not a folder: {place}")
        root, name = importable(folder)
        known = sys.modules.get(name)
        if known is not None and folder not in map(os.path.abspath, getattr(known, "__path__", ())):
            raise DefinitionError(
                f"a package {name} is already loaded from elsewhere", where=folder, hint="rename the folder"
            )
        with _on_path(root), nothing_left_behind(name):
            return self._below(name, [folder])

    def _below(self, top: str, folders: list[str]) -> list[tuple[ModuleType, str]]:
        first = top.rpartition(".")[2] if self.path is None else self.path
        found = []
        if not folders:  # a plain module was named
            found.append((imported(top), first))
        for folder in folders:
            for name, file in _files(top, folder):
                module = imported(name)
                if _differs(module, file):
                    raise DefinitionError(
                        f"the module {name} is already loaded from {module.__file__}",
                        where=file,
                        hint="rename one of them",
                    )
                TREE_MODULES.setdefault(name, file)
                found.append((module, joined(first, name[len(top) + 1 :].replace(".", "/"))))
        return found


def importable(folder: str) -> tuple[str, str]:
    """Return the folder that ``sys.path`` needs, and the dotted name that ``folder`` then has."""
    outermost = folder
    while os.path.isfile(os.path.join(os.path.dirname(outermost), "__init__.py")):
        outermost = os.path.dirname(outermost)
    root = os.path.dirname(outermost)
    return root, os.path.relpath(folder, root).replace(os.sep, ".")


def _files(name: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yield dotted name and file of each module in a folder and below, the package itself first."""
    waiting = [(name, folder)]
    while waiting:
        name, folder = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DefinitionError(f"cannot read the folder: {error.strerror}", where=folder) from None
        if any(entry.name == "__init__.py" for entry in entries):
            yield name, os.path.join(folder, "__init__.py")
        else:
            TREE_MODULES.setdefault(name, folder)
        below = []
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)
            if not stem.isidentifier() or stem in {"__init__", "__main__", "__pycache__"}:
                continue
            if ending == ".py" and entry.is_file():
                yield f"{name}.{stem}", entry.path
            elif not ending and entry.is_dir(follow_symlinks=False):
                below.append((f"{name}.{stem}", entry.path))
        waiting += reversed(below)


def _differs(module: ModuleType, file: str) -> bool:
    loaded = getattr(module, "__file__", None)
    return loaded is not None and os.path.exists(loaded) and not os.path.samefile(loaded, file)


@contextmanager
def _on_path(root: str) -> Iterator[None]:
    sys.path.insert(0, root)
    importlib.invalidate_caches()  # folders may be younger than what the path finder remembers of them
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(root)


@contextmanager
def nothing_left_behind(top: str) -> Iterator[None]:
    """Take modules at and below ``top`` out of ``sys.modules`` again when the block raises."""
    before = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in set(sys.modules) - before:
            if name == top or name.startswith(top + "."):
                del sys.modules[name]
                TREE_MODULES.pop(name, None)
        raise
