"""TreeFactory: one walk over a folder that collects everything a tree can say. The command line uses it.

The walk keeps a stack of generators instead of recursing (a path can be two thousand folders deep). In each folder,
in this order: ``pexen.toml``, then ``pexenfile.py`` are read for ``defaults``, ``files`` and ``ignore``; then come
the pexenfile's tasks; then everything else sorted by name: executables with their comment blocks and sidecars, task
files, folders.

*Inheritance.* A folder's defaults are completed by those of the folder around it (`pexen.model.meta.inherited`), so a
task is completed once, from one mapping; executables without metadata of their own share the result.

*At the end*, when all is known: an executable that some task wraps (its command, tear-down or readiness check *is* that
file) is dropped, two tasks at one path are an error that names both places, and requirements on `pexen.Task` values are
made to name the tasks in the tree.

An executable costs one ``stat``, one ``open``/``read``/``close``, and a few objects.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from pexen.errors import DefinitionError
from pexen.factory import conditions, toml
from pexen.factory.base import Factory, joined, relink
from pexen.factory.facts import Facts
from pexen.factory.filesystem import (
    Folder,
    LinkCount,
    Listing,
    Patterns,
    executable,
    is_task_file,
    listing,
    patterns_of,
    visible,
)
from pexen.factory.groups import GROUPS, Grouping, in_module, merged, refuse_strangers
from pexen.factory.here import PEXENFILE, Home, Importer, assigned, made_by, package_of
from pexen.factory.params import Params
from pexen.factory.taskfile import ENDING, Defined, comment_block, sidecar, task_file, wrapped_by
from pexen.model.meta import EMPTY, FIELDS, inherited, normalise
from pexen.model.task import Task
from pexen.model.waiver import Waiver

CONFIG = "pexen.toml"
PYPROJECT = "pyproject.toml"
_CONFIG_KEYS = ("files", "ignore", "defaults", "root")
_ROOT_KEYS = (*_CONFIG_KEYS, "run", "resources", "catalogue", "providers", "groups")


class TreeFactory(Factory):
    """Everything below the folder ``root``, configured by its own files. Paths of tasks are relative to ``root``.

    ``params`` are the values of ``-D``; given as a mapping, unknown names are an error. With ``collector`` (see
    `pexen.factory.collect.Isolate`) no code of the tree runs in this process. Everything wrong raises
    `DefinitionError`. After a call, ``params.asked`` says which parameters there are.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        params: Params | Mapping[str, str] | None = None,
        facts: Facts | None = None,
        collector: Callable[[str, str, float], str] | None = None,
        importer: Importer | None = None,
    ) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.params = params if isinstance(params, Params) else Params(params)
        self.facts = facts or Facts()
        self._checks = not isinstance(params, Params)
        self._collector = collector
        self._importer = importer or Importer()

    def __call__(self) -> Iterator[Task]:
        """Walk the tree and return its tasks: depth first, sorted by name, a pexenfile's own tasks first."""
        if self._collector is not None:
            from pexen.factory.collect import collect  # which needs this module

            found = collect(self.root, self.params, isolate=self._collector, facts=self.facts).tasks
        else:
            found = self.walk().tasks
        if self._checks:
            self.params.check()
        return iter(found)

    def walk(self) -> Walk:
        """Walk the tree and return all that was learned."""
        walk = Walk(self.root, self.params, self.facts, self._importer)
        walk.run()
        return walk


class Origin(NamedTuple):
    """Where a task written in Python comes from: the pexenfile of ``home``, by number and own path."""

    home: Home
    number: int
    name: str


class Scope(NamedTuple):
    """What holds in a folder: configuration of its own and of those around it."""

    defaults: Mapping[str, Any]
    files: Patterns | None
    ignore: tuple[Patterns, ...]

    def skips(self, place: str) -> bool:
        """Tell whether a file, or a folder (with a slash at the end), is ignored."""
        return any(patterns.match(place) for patterns in self.ignore)


class _Found(NamedTuple):
    task: Task
    where: str
    file: str | None = None


class Walk:
    """One walk over a tree; `run` it once, then look at ``tasks``, ``where`` (path to ``file:line``) and ``groups``.

    For whoever must find callables again in another process: ``origins`` (path of a task to what made it), ``pieces``
    (id of a callable in metadata to steps that lead to it) and ``references`` (id of a callable to module and name).
    """

    def __init__(self, root: str, params: Params, facts: Facts, importer: Importer) -> None:
        self.root = root
        self.params, self.facts, self.importer = params, facts, importer
        self.tasks: list[Task] = []
        self.groups: list[Grouping] = []
        """Those of pexenfiles."""
        self.origins: dict[str, Origin] = {}
        self.where: dict[str, str] = {}
        self.references: dict[int, tuple[str, str]] = {}
        self.pieces: dict[int, tuple[Home, tuple[Any, ...]]] = {}
        self._found: list[_Found] = []
        self._wrapped: set[str] = set()
        self._pairs: list[tuple[Any, Task]] = []
        self._links = LinkCount()

    def run(self) -> None:
        """Walk."""
        scope = Scope(EMPTY, None, ())
        stack = [self._folder(Folder(self.root, ""), scope)]
        while stack:
            below = next(stack[-1], None)
            if below is None:
                stack.pop()
            else:
                stack.append(self._folder(*below))
        self._settle()

    def _settle(self) -> None:
        """Drop what is wrapped, refuse what is twice, connect references."""
        relink(self._pairs)
        for found in self._found:
            if found.file is not None and found.file in self._wrapped:
                continue
            path = found.task.path or ""
            if path in self.where:
                raise DefinitionError(
                    f"two tasks have the path {path!r}",
                    where=found.where,
                    facts=[("and at", self.where[path])],
                    hint="a path is unique; give one of them another name, or path='…'",
                )
            self.where[path] = found.where
            self.tasks.append(found.task)

    # -- one folder -----------------------------------------------------------------------------------------------

    def _folder(self, folder: Folder, scope: Scope) -> Iterator[tuple[Folder, Scope]]:
        """Collect a folder, and yield the folders in it at the moment when their tasks are due."""
        self._links.enter(folder)
        held = listing(folder.path, gone_ok=folder.parent is not None)
        here = folder.path[len(self.root) + 1 :]
        scope = self._configured(folder, here, held, scope)
        if PEXENFILE in held.files and not scope.skips(joined(here, PEXENFILE)):
            scope = self._pexenfile(folder, Home(package_of(self.root), self.root, here), scope)
        shared = _Shared(scope.defaults)
        for name in held.names:
            place = f"{here}/{name}" if here else name
            if scope.ignore and scope.skips(place + "/" if name in held.folders else place):
                continue
            if name in held.folders:
                below = folder.inside(name, link=held.folders[name])
                if below is not None:
                    yield below, scope
            elif name.endswith(ENDING) and name != ENDING:
                self._toml(folder, here, name, held, scope)
            elif name in held.executables and is_task_file(name) and (scope.files is None or scope.files.match(place)):
                self._executable(folder, name, held, shared)

    def _configured(self, folder: Folder, here: str, held: Listing, scope: Scope) -> Scope:
        """Return the scope as ``pexen.toml`` changes it; at the root also ``[tool.pexen]``."""
        for name, table in ((PYPROJECT, ("tool", "pexen")), (CONFIG, ())):
            if name not in held.files or (name == PYPROJECT and (here or not _mentions_us(f"{folder.path}/{name}"))):
                continue
            document = toml.read(f"{folder.path}/{name}")
            data = document.table(*table)
            if here:
                document.known(
                    _CONFIG_KEYS,
                    other="a folder's pexen.toml has files, ignore, [defaults]; the rest belongs to the root",
                )
            where = {key: document.where(*table, key) for key in _CONFIG_KEYS if key in data}
            scope = _narrowed(scope, here, data, where)
            if "defaults" in data:
                defaults = toml.metadata(document, *table, "defaults")
                _refuse_own(defaults, lambda key: document.where(*table, "defaults", key))  # noqa: B023 - called at once
                scope = _with_defaults(scope, defaults)
            if not here:
                document.known(_ROOT_KEYS, *table, other=", ".join(_ROOT_KEYS))
        return scope

    def _pexenfile(self, folder: Folder, home: Home, scope: Scope) -> Scope:
        """Load a pexenfile, collect its tasks, and return the scope as it changes it."""
        module = self.importer.pexenfile(home)
        file = f"{home.path}/{PEXENFILE}"
        values = {key: getattr(module, key) for key in ("files", "ignore") if hasattr(module, key)}
        scope = _narrowed(scope, home.folder, values, {key: assigned(file, key) for key in values})
        scope = self._waivers(module, home, self._defaults(module, home, file, scope))
        groups, members = in_module(module, lambda *words: assigned(file, GROUPS, *words))
        self.groups = list(merged(self.groups, groups).values())
        for index, own in enumerate(made_by(home, module, self.params, self.facts)):
            task, kept = own.task, _own(own.task)
            if id(own.original) in members:
                kept["group"] = members.pop(id(own.original))
            conditions.check(task.when, task.host, own.where)
            name = task.name
            task.path = path = joined(folder.place, name)
            _complete(task, kept, scope.defaults)
            self._wrapped.update(wrapped_by(task.callable, task.meta, home.path))
            self._pairs.append((own.original, task))
            self.origins[path] = Origin(home, index, name)
            self._locate(home, ("task", index, name), kept)
            self._found.append(_Found(task, own.where))
        refuse_strangers(members, assigned(file, GROUPS))
        return scope

    def _defaults(self, module: ModuleType, home: Home, file: str, scope: Scope) -> Scope:
        defaults = getattr(module, "defaults", None)
        if defaults is None:
            return scope
        if not isinstance(defaults, Mapping):
            raise DefinitionError("defaults must be a dict", where=assigned(file, "defaults"))
        normal = {}
        for key, value in defaults.items():
            normal.update(normalise({str(key): value}, assigned(file, "defaults", str(key))))
        _refuse_own(normal, lambda key: assigned(file, "defaults", key))
        conditions.check(
            normal.get("when"),
            normal.get("host") or (),
            assigned(file, "defaults", "when" if "when" in normal else "host"),
        )
        self._locate(home, ("defaults",), normal)
        return _with_defaults(scope, normal)

    def _waivers(self, module: ModuleType, home: Home, scope: Scope) -> Scope:
        """Return the scope with the waivers that a pexenfile has by name."""
        found = {name: value for name, value in vars(module).items() if isinstance(value, Waiver)}
        self.references |= {id(one.applies): (home.module, name) for name, one in found.items()}
        return _with_defaults(scope, {"waivers": tuple(found.values())}) if found else scope

    def _locate(self, home: Home, steps: tuple[Any, ...], values: Mapping[str, Any]) -> None:
        """Remember how to find the callables in metadata again, in a process that has loaded the same pexenfile."""
        if callable(values.get("when")):
            self.pieces.setdefault(id(values["when"]), (home, (*steps, "when")))
        for number, item in enumerate(values.get("around") or ()):
            self.pieces.setdefault(id(item), (home, (*steps, "around", number)))

    # -- its files ------------------------------------------------------------------------------------------------

    def _executable(self, folder: Folder, name: str, held: Listing, shared: _Shared) -> None:
        task = executable(folder.path, name, joined(folder.place, visible(name)))
        file = task.callable.argv[0]  # type: ignore[union-attr]
        own = comment_block(file)
        if name + ENDING in held.files:
            own = {**(own or EMPTY), **sidecar(file + ENDING)}
        if own:
            _complete(task, own, shared.defaults)
            self._wrapped.update(wrapped_by(None, own, folder.path))
        else:
            task.requires, task.meta = shared.requires, shared.meta
        self._found.append(_Found(task, file, file))

    def _toml(self, folder: Folder, here: str, name: str, held: Listing, scope: Scope) -> None:
        """Collect a task file. A sidecar was, or will be, read with its executable."""
        beside = name.removesuffix(ENDING)
        if beside in held.executables:
            return
        file = f"{folder.path}/{name}"
        if beside in held.files:
            raise DefinitionError(
                f"{beside!r} is not executable, so its metadata is for nothing", where=file, hint=f"chmod +x {beside}"
            )
        for defined in task_file(file):
            home = Home(package_of(self.root), self.root, here)
            task = Task(self._callable(defined, home), joined(folder.place, defined.name))
            _complete(task, {**_own(task), **defined.meta}, scope.defaults)
            self._wrapped.update(wrapped_by(task.callable, task.meta, folder.path))
            self._found.append(_Found(task, defined.where))

    def _callable(self, defined: Defined, home: Home) -> Any:
        if not isinstance(defined.callable, str):
            return defined.callable
        found, module = self.importer.function(home, defined.callable, defined.where)
        self.references[id(found)] = (module, defined.callable.partition(":")[2])
        return found


class _Shared:
    """What executables without metadata of their own get from the folder's defaults, made once."""

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        self.defaults = defaults
        self.requires, _, self.meta = _parts(inherited(defaults, EMPTY))


def _own(task: Task) -> dict[str, Any]:
    """Return all metadata of a task, those in slots of their own included, and a ``requires=None`` that clears."""
    slots = {"requires": task.requires, "provides": task.provides}
    own = {**task.meta, **{key: value for key, value in slots.items() if value}}
    carried = getattr(task.callable, "__pexen__", None)
    if not task.requires and carried.__class__ is dict and carried.get("requires", ()) is None:
        own["requires"] = None
    return own


def _parts(meta: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]]:
    rest = {key: value for key, value in meta.items() if value is not None}
    return rest.pop("requires", ()), rest.pop("provides", ()), rest or EMPTY


def _complete(task: Task, own: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Give a new task its own metadata, completed by the defaults around it."""
    task.requires, task.provides, task.meta = _parts(inherited(defaults, own) if defaults else own)


def _with_defaults(scope: Scope, defaults: Mapping[str, Any]) -> Scope:
    return Scope(inherited(scope.defaults, defaults), scope.files, scope.ignore)


def _narrowed(scope: Scope, here: str, data: Mapping[str, Any], where: Mapping[str, str]) -> Scope:
    """Return the scope with a folder's own ``files`` and ``ignore``."""
    try:
        key = "files"
        files = patterns_of(key, data[key], here) if key in data else scope.files
        key = "ignore"
        ignore = (*scope.ignore, patterns_of(key, data[key], here)) if key in data else scope.ignore
    except DefinitionError as error:
        raise DefinitionError(error.headline, where=where[key], hint=error.hint) from None
    return Scope(scope.defaults, files, ignore)


def _refuse_own(defaults: Mapping[str, Any], where: Callable[[str], str]) -> None:
    for key in defaults:
        if FIELDS[key].inherit == "never":
            raise DefinitionError(f"{key!r} is never inherited, so it cannot be a default", where=where(key))


# -- the root of a tree -------------------------------------------------------------------------------------------


def find_root(path: str | os.PathLike[str]) -> str:
    """Return the root of the tree that ``path`` belongs to: the nearest folder upward that is marked as one.

    Marks are ``pexen.toml`` (unless it says ``root = false``), ``[tool.pexen]`` in ``pyproject.toml``, and ``.git``.
    Without any it is the folder itself, or the one a file stands in. ``path`` need not exist.
    """
    start = os.path.abspath(os.fspath(path))
    while not os.path.isdir(start):
        start = os.path.dirname(start)
    folder = start
    while not _is_root(folder):
        if folder == os.path.dirname(folder):
            return start
        folder = os.path.dirname(folder)
    return folder


def _is_root(folder: str) -> bool:
    if os.path.exists(f"{folder}/.git"):
        return True
    for name in (CONFIG, PYPROJECT):
        file = f"{folder}/{name}"
        if os.path.isfile(file) and (name == CONFIG or _mentions_us(file)):
            try:
                data = toml.read(file).data
            except DefinitionError:
                return name == CONFIG  # whoever collects from here will say what is wrong
            if name == CONFIG and data.get("root") is not False:
                return True
            if name == PYPROJECT and isinstance(data.get("tool"), dict) and "pexen" in data["tool"]:
                return True
    return False


def _mentions_us(file: str) -> bool:
    """Tell whether a ``pyproject.toml`` may configure pexen; those of others may be as broken as they like."""
    try:
        with open(file, "rb") as opened:
            return b"pexen" in opened.read()
    except OSError:
        return False


def place_in(root: str, path: str | os.PathLike[str]) -> str:
    """Return the path that a file, a folder, or whatever may have a task stands at in the tree of ``root``."""
    relative = os.path.relpath(os.path.abspath(os.fspath(path)), root)
    if relative == ".." or relative.startswith("../"):
        raise DefinitionError(f"{os.fspath(path)} is not below the root {root}")
    return "" if relative == "." else visible(relative)
