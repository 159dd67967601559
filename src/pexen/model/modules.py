"""Modules of a tree: Python files that no search path leads to, under stable synthetic names.

``pexenfile.py`` in the folder ``kernel/fs`` is the module ``pexen_tree.kernel.fs.pexenfile``, in the runner and in its workers
alike, so its functions and classes travel by name. ``pexen_tree.kernel.fs`` is the folder: a package without code, in which
``from .helpers import check`` finds the file beside. So no pexenfile runs another, and no function of one is hidden behind
a folder of the same name. Names above a known one that nobody entered are empty packages.

No byte code is kept for these files: one that is edited twice within a second would be run in its old form.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in pexen.model.running
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

TREE_MODULES: dict[str, str] = {}
"""Synthetic module name to file or folder. Entered by factories before they load it, and in workers by the pool."""


class TreeFinder:
    """Finds the modules of `TREE_MODULES`, before anything else may find their files under other rules."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG004 - the import system's
        """Return how to load a module of a tree, or None for all others."""
        place = TREE_MODULES.get(name)
        if place is None:
            return None
        if os.path.isdir(place):
            return _package(name, [place])
        from importlib.machinery import SourceFileLoader
        from importlib.util import spec_from_file_location

        loader = SourceFileLoader(name, place)
        loader.path_stats = _unknown_age  # type: ignore[method-assign]  # importlib then neither reads nor writes byte code
        return spec_from_file_location(name, place, loader=loader)


class ParentFinder:
    """Finds the packages above the modules of `TREE_MODULES`, when nobody else does."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG004 - the import system's
        """Return an empty package for a name above a known one."""
        return _package(name, []) if any(known.startswith(name + ".") for known in TREE_MODULES) else None


def _package(name: str, folders: list[str]) -> ModuleSpec:
    from importlib.machinery import ModuleSpec

    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec


def _unknown_age(path: object) -> dict[str, int]:
    raise OSError(path)


def install() -> None:
    """Let ``import`` find the modules of trees; once is enough, more do no harm."""
    if TreeFinder not in sys.meta_path:
        sys.meta_path.insert(0, TreeFinder)
        sys.meta_path.append(ParentFinder)


def load(name: str) -> ModuleType:
    """Import the module ``name`` of `TREE_MODULES`, or return it when that was done before.

    Raises what the file's own code raises, `ModuleNotFoundError` for a name that nobody entered. Any thread may call it.
    """
    install()
    __import__(name)
    return sys.modules[name]
