"""Modules of a tree: Python files that no search path leads to, under stable synthetic names.

``pexenfile.py`` in the folder ``kernel/fs`` is the module ``pexen_tree.kernel.fs``, in the runner and in its workers
alike, so its functions and classes travel by name. Names above a known one that have no file of their own are empty
packages; a known one is imported before what is below it, as with any package.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in pexen.model.running
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

TREE_MODULES: dict[str, str] = {}
"""Synthetic module name to file. Entered by factories before they load the file, and in workers by the pool."""


class TreeFinder:
    """Finds the modules of `TREE_MODULES` and the empty packages above them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return how to load a module of a tree, or None for all others."""
        file = TREE_MODULES.get(name)
        if file is not None:
            from importlib.util import spec_from_file_location

            return spec_from_file_location(name, file, submodule_search_locations=[])
        if any(known.startswith(name + ".") for known in TREE_MODULES):
            from importlib.machinery import ModuleSpec

            return ModuleSpec(name, None, is_package=True)
        return None


def install() -> None:
    """Let ``import`` find the modules of trees; once is enough, more do no harm."""
    if TreeFinder not in sys.meta_path:
        sys.meta_path.append(TreeFinder)


def load(name: str) -> ModuleType:
    """Import the module ``name`` of `TREE_MODULES`, or return it when that was done before.

    Raises what the file's own code raises, `ModuleNotFoundError` for a name that nobody entered. Any thread may call it.
    """
    install()
    __import__(name)
    return sys.modules[name]
