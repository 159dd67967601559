"""Factories: callables without arguments that yield tasks, and the class that makes them easy to write.

Everybody accepts any such callable. `Factory` adds what most of them want: `Factory.level` puts what is yielded
meanwhile below a level of the tree, `Factory.run` runs another factory inside, and the tasks are new ones at each
call, so a factory may be called again, inside itself and from several threads.

What the user's `make` yields is never changed: tasks are copied on their way out, since a path is given to the copy,
and somebody may yield one task at two levels. A requirement that names an original task is then made to name its
copy: the nearest one, by the rule for names (see `pexen.model.scope`). Requirements on functions need no such care,
the planner looks them up by the same rule.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from pexen.errors import DefinitionError
from pexen.errors import located as located
from pexen.model.meta import AllOf, AnyOf, Named
from pexen.model.path import check_path
from pexen.model.scope import Scopes
from pexen.model.task import Task, as_task

AnyFactory = Callable[[], Iterable[Any]]
"""What every user of factories accepts: anything that can be called and gives tasks or functions."""

_LEVELS: ContextVar[str] = ContextVar("pexen_levels", default="")
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep


class Yielded(NamedTuple):
    """One thing that a factory's `make` has yielded, the level it belongs to, and ``file:line`` of the ``yield``."""

    item: Any
    level: str
    where: str


class Factory:
    """Derive from it and write `make`, a generator of tasks or functions; then call an instance to get the tasks.

    Errors of `make`, whatever they are, become one `DefinitionError` with file and line: in the folder ``within``, if
    any line of it is involved.
    """

    within = ""
    _told = ""

    def make(self) -> Iterable[Any]:
        """Yield `pexen.Task` values, or functions to make tasks of; written by users."""
        raise NotImplementedError(f"{type(self).__name__} needs a make() that yields tasks")

    def __call__(self) -> Iterator[Task]:
        """Return the tasks: new ones, with the paths they have below their levels."""
        taken: set[str] = set()
        made = [(one.item, placed(one, taken)) for one in self.yielded()]
        relink(made)
        return iter([task for _, task in made])

    @contextmanager
    def level(self, name: str) -> Iterator[None]:
        """Put what is yielded inside the ``with`` block below ``name`` (which may hold slashes)."""
        outer = _LEVELS.get()
        _LEVELS.set(joined(outer, check_path(name)))
        try:
            yield
        finally:
            _LEVELS.set(outer)

    def run(self, factory: AnyFactory, level: str = "") -> Iterator[Any]:
        """Yield what another factory makes, below the present level: ``yield from self.run(other, "gcc")``."""
        if not level:
            yield from factory()
            return
        with self.level(level):
            yield from factory()

    def yielded(self) -> list[Yielded]:
        """Return what `make` yields, as it is; the path of each is still to be put below its level."""
        told = self._told or f"{type(self).__name__}.make()"
        outer, found = _LEVELS.get(), []
        _LEVELS.set("")
        try:
            found = list(_watched(self.make(), told))
        except DefinitionError as error:
            raise located(error, blame(error, self.within)) from error.__cause__
        except (Exception, SystemExit) as error:
            raise raised(told, error, self.within) from error
        finally:
            _LEVELS.set(outer)
        return found


def _watched(made: Any, what: str) -> Iterator[Yielded]:
    """Yield what a generator yields with level and line; its ``with`` blocks are closed here, also after an error."""
    if not isinstance(made, Iterable):
        raise DefinitionError(
            f"{what} returned {type(made).__name__}", hint="it yields tasks, or returns a list of them"
        )
    try:
        for item in made:
            frame = getattr(made, "gi_frame", None)
            where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
            if not (isinstance(item, Task) or callable(item)):
                raise DefinitionError(
                    f"{what} yielded {type(item).__name__}, which is neither a task nor a callable", where=where
                )
            yield Yielded(item, _LEVELS.get(), where)
    finally:
        if hasattr(made, "close"):
            made.close()


# -- paths and references -----------------------------------------------------------------------------------------


def joined(level: str, path: str) -> str:
    """Return ``path`` below ``level``."""
    return f"{level}/{path}" if level and path else level or path


def placed(one: Yielded, taken: set[str], *, always: bool = False) -> Task:
    """Return a copy of a yielded task at its place; ``taken`` are the paths made up so far.

    A task without a path that stands at no level keeps none, and the run will name it, unless ``always``.
    """
    try:
        task = as_task(one.item)
        path = task.path
        if path is None and (one.level or always):
            path = _free(joined(one.level, task.name), taken)
        elif path is not None and one.level:
            path = check_path(joined(one.level, path))
    except DefinitionError as error:
        raise located(error, one.where) from None
    return copied(task, path)


def _free(path: str, taken: set[str]) -> str:
    """Return a path for a task that has none of its own: numbered where the callable's name repeats."""
    free, number = path, 1
    while free in taken:
        number += 1
        free = f"{path}#{number}"
    taken.add(free)
    return check_path(free)


def copied(task: Task, path: str | None, meta: Any = None) -> Task:
    """Return a copy of a task at another path, with other metadata (in normal form) unless None."""
    copy = Task.__new__(Task)
    copy.callable, copy.path = task.callable, path
    copy.requires, copy.provides = task.requires, task.provides
    copy.meta = task.meta if meta is None else meta
    return copy


class _Copies(NamedTuple):
    path: str
    task: Task


def relink(made: Sequence[tuple[Any, Task]]) -> None:
    """Make requirements on original tasks name their copies. ``made`` are pairs of original and copy."""
    wanting = [copy for _, copy in made if _names_tasks(copy.requires) or _names_tasks(copy.meta.get("after") or ())]
    if not wanting:
        return
    scopes: Scopes[_Copies] = Scopes()
    for original, copy in made:
        if isinstance(original, Task):
            scopes.provide(id(original), _Copies(copy.path or copy.name, copy))
    for copy in wanting:
        copy.requires = tuple(_relinked(item, copy, scopes) for item in copy.requires)
        if copy.meta.get("after"):
            copy.meta = {**copy.meta, "after": tuple(_relinked(item, copy, scopes) for item in copy.meta["after"])}


def _names_tasks(items: Iterable[Any]) -> bool:
    return any(isinstance(item, Task | AnyOf | AllOf | Named) for item in items)


def _relinked(item: Any, copy: Task, scopes: Scopes[_Copies]) -> Any:
    if isinstance(item, AnyOf):
        return AnyOf(tuple(_relinked(part, copy, scopes) for part in item.alternatives))
    if isinstance(item, AllOf):
        return AllOf(_relinked(item.of, copy, scopes))
    if isinstance(item, Named):
        return Named(item.parameter, _relinked(item.requirement, copy, scopes))
    found = scopes.find(id(item), copy.path or copy.name) if isinstance(item, Task) else ()
    if not found:
        return item
    if len(found) > 1:
        raise DefinitionError(
            f"{copy.name} requires the task {item.name}, which stands at several places",
            facts=[("for example", ", ".join(one.path for one in found[:3]))],
            hint="require it by path ('/…') or by a name it provides",
        )
    return found[0].task


# -- whose line it is ---------------------------------------------------------------------------------------------


def blame(error: BaseException, folder: str = "") -> str:
    """Return ``file:line`` where an error comes from: the deepest frame in ``folder``, else outside of pexen."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno and _is_users(error.filename):
        return f"{error.filename}:{error.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    users = [(file, line) for file, line in frames if _is_users(file)]
    inside = [(file, line) for file, line in users if folder and file.startswith(folder.rstrip("/") + "/")]
    best = (inside or users)[-1:]
    return f"{best[0][0]}:{best[0][1]}" if best else ""


def _is_users(file: str) -> bool:
    return not file.startswith((_HERE, "<frozen"))


def raised(what: str, error: BaseException, folder: str = "", hint: str = "") -> DefinitionError:
    """Return the definition error for an exception of a user's code."""
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = "(its message cannot be shown)"
    name = type(error).__name__
    return DefinitionError(
        f"{what} raised {name}: {text}" if text else f"{what} raised {name}", where=blame(error, folder), hint=hint
    )
