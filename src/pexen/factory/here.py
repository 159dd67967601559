"""``pexenfile.py``: Python configuration of a folder and all below, and the ``here`` that its ``tasks(here)`` is given.

A pexenfile is loaded under a synthetic name made of its folder (see `pexen.model.modules`), once in a process unless
the file changes. Its tasks are, in this order: functions decorated with ``@pexen.task`` and `pexen.Task` values, by
definition; then what the generator ``tasks(here)`` yields. All of them stand below the folder, whatever path they ask
for. ``defaults``, ``files`` and ``ignore`` are read by `pexen.factory.tree`.

Importing runs the user's code, which may exit, hang or crash. `Importer` is therefore the only place where it
happens; the command line collects in a child process (`pexen.factory.collect`) and lets the runner's own `Importer`
refuse.
"""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from pexen.errors import DefinitionError, nearest
from pexen.factory.base import Factory, blame, located, placed, raised
from pexen.factory.facts import Facts
from pexen.factory.module import items_of, name_of, named
from pexen.factory.params import REQUIRED, Params
from pexen.factory.taskfile import command_in
from pexen.model import modules
from pexen.model.call import where_defined
from pexen.model.command import Command
from pexen.model.task import Task

PEXENFILE = "pexenfile.py"
_PACKAGES: dict[str, str] = {}
_LOADED: dict[str, tuple[int, int, int]] = {}


def package_of(root: str, known: str = "") -> str:
    """Return the package that stands for a tree: ``pexen_tree``, for further trees in one process one with a number.

    ``known`` is the one that another process has chosen.
    """
    if known:
        _PACKAGES[root] = known
    if root not in _PACKAGES:
        _PACKAGES[root] = f"pexen_tree_{zlib.crc32(os.fsencode(root)):08x}" if _PACKAGES else "pexen_tree"
    return _PACKAGES[root]


def _component(name: str) -> str:
    """Return a folder's name as a component of a module's name; different names stay different."""
    safe = re.sub(r"_x|\W|^\d", lambda match: f"_x{ord(match[0][0]):x}_" + match[0][1:], name, flags=re.ASCII)
    return f"_x{ord(name[0]):x}_{name[1:]}" if safe == "pexenfile" else safe


class Home(NamedTuple):
    """A folder of a tree, to load modules from; ``folder`` is relative to ``root``, by its true name."""

    package: str
    root: str
    folder: str

    @property
    def path(self) -> str:
        """The folder's absolute path."""
        return f"{self.root}/{self.folder}" if self.folder else self.root

    @property
    def module(self) -> str:
        """The name of the pexenfile's module."""
        return self.enter("pexenfile", f"{self.path}/{PEXENFILE}")

    def enter(self, stem: str, file: str) -> str:
        """Enter a file of this folder, and the folders around it, in `TREE_MODULES`; return the module's name."""
        name, place = self.package, self.root
        modules.TREE_MODULES[name] = place
        for part in self.folder.split("/") if self.folder else ():
            name, place = f"{name}.{_component(part)}", f"{place}/{part}"
            modules.TREE_MODULES[name] = place
        modules.TREE_MODULES[f"{name}.{stem}"] = file
        return f"{name}.{stem}"


class Importer:
    """Loads what users wrote. ``before`` is called with a file or module name each time, and may raise."""

    def __init__(self, before: Callable[[str], object] = lambda _: None) -> None:
        self._before = before

    def pexenfile(self, home: Home) -> ModuleType:
        """Return a folder's pexenfile as a module; every error is a `DefinitionError` with file and line."""
        return self._load(home.module, f"{home.path}/{PEXENFILE}", home.root, PEXENFILE)

    def function(self, home: Home, reference: str, where: str) -> tuple[Callable[..., Any], str]:
        """Return the callable that ``module:function`` or ``file.py:function`` means in a folder, and its module."""
        what, _, names = reference.partition(":")
        if what.endswith(".py"):
            file = os.path.normpath(os.path.join(home.path, what))
            if not os.path.isfile(file):
                raise DefinitionError(f"there is no file {what!r}", where=where)
            stem = what.removesuffix(".py")
            name = home.enter(stem if what == PEXENFILE else _component(stem), file)
        else:
            name, file = what, what
        try:
            found: Any = self._load(name, file, home.root, what)
        except DefinitionError as error:
            raise located(error, where) from error.__cause__
        for part in names.split("."):
            if not hasattr(found, part):
                raise DefinitionError(f"{what} has no {names!r}", where=where, hint=nearest(part, dir(found)))
            found = getattr(found, part)
        if not callable(found):
            raise DefinitionError(f"{reference!r} is no callable but {type(found).__name__}", where=where)
        return found, name

    def _load(self, name: str, file: str, root: str, what: str) -> ModuleType:
        self._before(file)
        if os.path.isabs(file):
            _forget_changed(name, file)
        try:
            return modules.load(name)
        except DefinitionError as error:
            raise located(error, blame(error, root)) from error.__cause__
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise raised(what, error, root) from error


def _forget_changed(name: str, file: str) -> None:
    """Forget a loaded module when its file is not what it was."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise DefinitionError(f"cannot read the file: {error.strerror}", where=file) from None
    version = (status.st_ino, status.st_mtime_ns, status.st_size)
    if _LOADED.get(name) != version and name in sys.modules:
        del sys.modules[name]
    _LOADED[name] = version


# -- what a pexenfile makes ---------------------------------------------------------------------------------------


class Own(NamedTuple):
    """A task of a pexenfile: what it was made from, the task at its path below the folder, and where it was defined."""

    original: Any
    task: Task
    where: str


def made_by(home: Home, module: ModuleType, params: Params, facts: Facts) -> list[Own]:
    """Return the tasks of a loaded pexenfile, with paths relative to its folder, in a fixed order."""
    items = list(items_of(module))
    found = [Own(value, named(value, name_of(value, name)), _where(module, name, value)) for name, value in items]
    if callable(getattr(module, "tasks", None)) and "tasks" not in dict(items):
        taken = {name for name, _ in items}
        made = Here(home, module, params, facts).yielded()
        found += [Own(one.item, placed(one, taken, always=True), one.where) for one in made]
    return found


def _where(module: ModuleType, name: str, value: Any) -> str:
    what = value.callable if isinstance(value, Task) else value
    if isinstance(value, Task) or isinstance(what, Command) or not hasattr(what, "__code__"):
        return assigned(str(module.__file__), name)
    return where_defined(what)


def assigned(file: str, name: str, key: str = "") -> str:
    """Return ``file:line`` where a module assigns to ``name``, or where ``key`` stands after that."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return file
    match = re.search(rf"^{re.escape(name)}\b\s*[:=]", text, re.MULTILINE)
    at = match.start() if match else 0
    if key:
        inner = re.compile(rf"""\b{re.escape(key)}\s*=|["']{re.escape(key)}["']\s*[:\],)]""").search(text, at)
        at = inner.start() if inner else at
    return f"{file}:{text.count(chr(10), 0, at) + 1}"


class Here(Factory):
    """A folder, for the ``tasks(here)`` of its pexenfile: a generator of tasks and functions.

    ``path`` is the folder (absolute), ``facts`` are the machine's. Paths of tasks, and of files in commands, are
    relative to the folder. ``with here.level("gcc"):`` names a level, ``yield from here.run(factory)`` runs another
    factory inside.
    """

    _told = "tasks(here)"

    def __init__(self, home: Home, module: ModuleType, params: Params, facts: Facts) -> None:
        self.path = Path(home.path)
        self.facts = facts
        self.within = home.root
        self._module = module
        self._params = params

    def make(self) -> Iterable[Any]:
        """Run the pexenfile's generator."""
        try:
            return self._module.tasks(self)  # type: ignore[no-any-return]
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise DefinitionError(
                    f"tasks() must take one argument: {error}", where=where_defined(self._module.tasks)
                ) from None
            raise

    def glob(self, pattern: str) -> list[Path]:
        """Return the files and folders that match, sorted, absolute; ``**`` reaches into folders below."""
        return sorted(self.path.glob(pattern))

    def command(
        self,
        argv: Any,
        path: str | None = None,
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        **meta: Any,
    ) -> Task:
        """Return a task that executes ``argv`` (a list), or a string through the shell, in this folder."""
        return Task(command_in(str(self.path), argv, cwd, env), path, **meta)

    def task(self, callable: Callable[..., Any] | Command, path: str | None = None, **meta: Any) -> Task:  # noqa: A002
        """Return a task that calls ``callable``; the same as `pexen.Task`."""
        return Task(callable, path, **meta)

    def param(
        self,
        name: str,
        default: Any = REQUIRED,
        *,
        type: Callable[[str], Any] | None = None,  # noqa: A002 - the word users know from argparse
        help: str = "",  # noqa: A002 - as above
    ) -> Any:
        """Return the parameter that ``-D name=value`` gave, converted by ``type``, or the default."""
        frame = sys._getframe(1)  # noqa: SLF001 - the line that asked, for --params and for errors
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        return self._params.ask(name, default, type=type, help=help, where=where)
