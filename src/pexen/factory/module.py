"""Tasks of a module: what is decorated with ``@pexen.task``, and `pexen.Task` values, in order of definition.

What a module merely imported is another module's business. Functions and classes know where they were defined; a
`pexen.Task` (or a partial) does not, for those the module's import statements are read.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import resolve_name
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from pexen.errors import DefinitionError, nearest
from pexen.factory.base import Factory, copied, joined, raised, relink
from pexen.model.path import check_path
from pexen.model.task import Task

Match = str | re.Pattern[str] | Callable[[str], bool] | None
"""Selects plain callables by their name: a glob, a pattern for the beginning of the name, or a predicate."""


class ModuleFactory(Factory):
    """The tasks defined in one module, given as a module or by name.

    They stand below the module's last component (``pkg.suite`` gives ``suite/login``), or below ``path`` where that
    is given; ``path=""`` puts them at the top. ``match`` also takes callables without ``@pexen.task``, by name.
    """

    def __init__(self, module: ModuleType | str, *, match: Match = None, path: str | None = None) -> None:
        self.module = module
        self.match = match
        self.path = path

    def make(self) -> Iterator[Task]:
        """Import the module and yield its tasks."""
        module = self.module if isinstance(self.module, ModuleType) else imported(self.module)
        level = module.__name__.rpartition(".")[2] if self.path is None else self.path
        yield from tasks_in(module, level, self.match)


def imported(name: str) -> ModuleType:
    """Return the module of that name; whatever goes wrong is a `DefinitionError` with file and line."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise DefinitionError(
                f"there is no module {error.name!r}", hint=nearest(error.name, list(sys.modules))
            ) from None
        raise raised(f"the module {name}", error) from error


def items_of(module: ModuleType, match: Match = None) -> Iterator[tuple[str, Any]]:
    """Yield name and value of every task, decorated function or matching callable that the module defines."""
    by_import: set[str] | None = None
    seen: set[int] = set()
    for name, value in list(vars(module).items()):
        if name.startswith("__") or not (_is_task(value) or (match and callable(value) and matches(match, name))):
            continue
        if isinstance(value, FunctionType | BuiltinFunctionType | type):
            is_own = value.__module__ == module.__name__
        else:
            by_import = _imported_names(module) if by_import is None else by_import
            is_own = name not in by_import and not isinstance(value, ModuleType)
        if is_own and id(value) not in seen:
            seen.add(id(value))
            yield name, value


def tasks_in(module: ModuleType, level: str, match: Match = None) -> list[Task]:
    """Return new tasks for what a module defines, below ``level``, with their requirements on each other."""
    made = [(item, named(item, joined(level, name_of(item, name)))) for name, item in items_of(module, match)]
    relink(made)
    return [task for _, task in made]


def name_of(item: Any, name: str) -> str:
    """Return the path a module's item asks for, or else the ``name`` it is bound to there."""
    path = item.path if isinstance(item, Task) else getattr(item, "__pexen__", {}).get("path")
    return path or name


def named(item: Any, path: str) -> Task:
    """Return a new task at ``path`` made of a task or a callable."""
    return copied(item if isinstance(item, Task) else Task(item), check_path(path))


def matches(match: Match, name: str) -> bool:
    """Tell whether a name is selected."""
    if isinstance(match, str):
        return fnmatch.fnmatchcase(name, match)
    if isinstance(match, re.Pattern):
        return match.match(name) is not None
    return match is not None and bool(match(name))


def _is_task(value: Any) -> bool:
    if isinstance(value, Task):
        return True
    try:
        return getattr(value, "__pexen__", None).__class__ is dict
    except Exception:  # noqa: BLE001 - proxies raise what they like outside of their context
        return False


def _imported_names(module: ModuleType) -> set[str]:
    """Return the names that import statements of the module bind."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                found |= _star(module, node)
    return found


def _star(module: ModuleType, node: ast.ImportFrom) -> set[str]:
    source = "." * node.level + (node.module or "")
    other = sys.modules.get(resolve_name(source, module.__package__ or ""))
    return {name for name, value in vars(other).items() if vars(module).get(name) is value} if other else set()
