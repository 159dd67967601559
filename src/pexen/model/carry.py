"""Tasks as JSON, so that they can be collected in one process, scheduled in a second and run in a third.

The collecting child runs the user's code; the runner must not; a worker will. So a callable travels as an *address*:

- ``module`` and ``names``: import it (with the entries of `TREE_MODULES` that this takes);
- ``by``, ``maker`` and ``steps``, for lambdas, closures and whatever else has no name: let the same pexenfile, or the same
  factory, make its tasks once more, take the same one, and from that what ``steps`` say;
- ``pickled``, for what a running task adds and has no name: what cloudpickle has made of it, opened only where it runs.

`pexen.model.carried.Carried` is the callable that stands for an address in the runner. It answers what can be asked
without the user's code (name, signature, kind, place in the source, digest of the source) and finds the real one when
it is first called, in a worker. Arguments that JSON cannot carry stay with their maker: such a task is made again
with them *baked in*.

Requirements on functions and tasks become paths here, since those objects stay behind; for a function that is a task at
several places they become a name that all of these then provide.
"""

from __future__ import annotations

import inspect
import itertools
import linecache
import sys
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from pexen.errors import DefinitionError, located
from pexen.model.call import kind_of, where_defined
from pexen.model.carried import Carried
from pexen.model.command import Command
from pexen.model.meta import EMPTY, AllOf, AnyOf, Named, TreeLock
from pexen.model.modules import TREE_MODULES
from pexen.model.path import last_of
from pexen.model.result import Pickled
from pexen.model.scope import Scopes, Several
from pexen.model.task import Task, provided
from pexen.model.waiver import Waiver, waiver

Json = Any
_PLAIN = (str, int, float, bool, type(None))
_TAGS: dict[type, tuple[str, Callable[[Any], Iterable[Any]]]] = {
    list: ("list", iter),
    AnyOf: ("any", lambda item: item.alternatives),
    AllOf: ("all", lambda item: (item.of,)),
    Named: ("named", lambda item: (item.parameter, item.requirement)),
    TreeLock: ("tree", lambda item: item.parts),
    Waiver: ("waiver", lambda item: (item.applies, item.reason, item.until and item.until.isoformat())),
}
_MAKES: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "any": AnyOf,
    "all": lambda parts: AllOf(*parts),
    "named": lambda parts: Named(*parts),
    "tree": TreeLock,
    "waiver": lambda parts: waiver(parts[1], until=parts[2])(parts[0]),
    "pickled": lambda data: Pickled(b64decode(data)),
}


# -- describing a callable ----------------------------------------------------------------------------------------


def address_of(what: Any, via: str | None = None) -> dict[str, Json] | None:
    """Return how to import a callable, or None when it has no name that leads to it."""
    if not isinstance(what, FunctionType | BuiltinFunctionType | MethodType | type):
        return None
    module, names = getattr(what, "__module__", None), what.__qualname__
    found: Any = sys.modules.get(module or "")
    if module in {None, "__main__"} or found is None:
        return None
    for name in names.split("."):
        found = getattr(found, name, None)
    if found is not what and not (isinstance(what, MethodType) and found == what):
        return None
    return named_address(module, names, via)


def named_address(module: str, names: str, via: str | None = None) -> dict[str, Json]:
    """Return the address of something imported, with what `TREE_MODULES` says about the modules involved."""
    needed = [name for each in (module, via or "") for name in itertools.accumulate(each.split("."), "{}.{}".format)]
    return {
        "module": module,
        "names": names,
        "modules": {name: TREE_MODULES[name] for name in needed if name in TREE_MODULES},
        "via": None if via == module else via,
    }


def summary_of(what: Any, baked: tuple[int, tuple[str, ...]] = (0, ())) -> dict[str, Json]:
    """Return what can be asked of a callable elsewhere; ``baked`` arguments are no longer parameters."""
    try:
        parameters: Any = list(inspect.signature(what).parameters.values())
    except (ValueError, TypeError):
        parameters = None
    if parameters is not None:
        count, words = baked
        by_position = [each.name for each in parameters if each.kind <= each.POSITIONAL_OR_KEYWORD][:count]
        gone = {*by_position, *words}
        parameters = [
            [each.name, each.kind.name, each.default is not each.empty] for each in parameters if each.name not in gone
        ]
    return {
        "name": getattr(what, "__name__", None) or type(what).__name__,
        "kind": kind_of(what).value,
        "parameters": parameters,
        "where": where_defined(what),
        "doc": (inspect.getdoc(what) or "").partition("\n")[0] if hasattr(what, "__code__") else "",
        "digest": _digest(what),
    }


def _digest(what: Any) -> str:
    """Return a hash of a function's source lines: those that its code covers, read from the file once."""
    code = getattr(inspect.unwrap(what), "__code__", None)
    if code is None:
        return ""
    last = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : last]
    text = "".join(lines).encode(errors="surrogateescape")
    return f"{zlib.crc32(text):08x}{len(text):x}"


# -- tasks as JSON ------------------------------------------------------------------------------------------------


class Unencodable(Exception):
    """A value that JSON cannot carry."""


class Encoder:
    """Turns the tasks of one collection into JSON.

    ``where`` maps paths to ``file:line``; ``makers`` paths to the address of the task itself, without the last step;
    ``locators`` the ids of callables that may have no name to their addresses; ``via`` paths to the module that must be
    imported before the task's callable can be.
    """

    def __init__(
        self,
        tasks: list[Task],
        where: Mapping[str, str],
        makers: Mapping[str, Mapping[str, Json]],
        locators: Mapping[int, Mapping[str, Json]] = EMPTY,  # type: ignore[assignment]
        via: Mapping[str, str] = EMPTY,
    ) -> None:
        self._tasks, self._where, self._makers, self._locators, self._via = tasks, where, makers, locators, via
        self._scopes: Scopes[Task] = Scopes()
        for task in tasks:
            self._scopes.add(task)
            if hasattr(task.callable, "__pexen__"):
                self._scopes.provide(id(task.callable), task)
        several = [key for key, found in self._scopes.providers.items() if isinstance(found, Several)]
        self._names = {key: ("function", number) for number, key in enumerate(several)}

    def all(self) -> list[Json]:
        """Return every task as JSON."""
        return [self._task(task) for task in self._tasks]

    def _task(self, task: Task) -> Json:
        where = self._where.get(task.name, "")
        try:
            return self._encoded(task, where)
        except Unencodable as error:
            raise DefinitionError(f"{task.path}: {error}", where=where) from None
        except DefinitionError as error:
            raise located(error, where) from None

    def _encoded(self, task: Task, where: str) -> Json:
        meta = {
            key: self.value(value, task) for key, value in task.meta.items() if key not in {"args", "kwargs", "after"}
        }
        if task.meta.get("after"):
            meta["after"] = self._requirements(task, task.meta["after"])
        if isinstance(task.callable, Command):
            command = task.callable
            what: Json = {"argv": command.argv, "cwd": command.cwd, "env": command.env, "shell": command.shell}
        else:
            what, given = self._callable(task)
            meta.update(given)
        name = self._names.get(id(task.callable))
        provides = (*provided(task), name) if name else task.provides
        return [task.path, what, self._requirements(task, task.requires), self.value(provides, task), meta, where]

    def _callable(self, task: Task) -> tuple[Json, dict[str, Json]]:
        """Return the callable as JSON, and ``args`` and ``kwargs`` unless they are baked in."""
        try:
            given = {key: self.value(task.meta[key], None) for key in ("args", "kwargs") if task.meta.get(key)}
        except Unencodable as error:
            maker = self._makers.get(task.name)
            if maker is None:
                raise Unencodable(f"its arguments cannot be carried into another process: {error}") from None
            summary = summary_of(task.callable, (len(task.args), tuple(task.kwargs)))
            return {"address": {**maker, "steps": [*maker["steps"], "baked"]}, "summary": summary}, {}
        return self._reference(task.callable, task, "callable"), given

    def _reference(self, what: Any, task: Task, step: str = "") -> Json:
        """Return a callable as JSON; ``step`` leads to it from the task, where that is known."""
        address: Mapping[str, Json] | None = address_of(what, self._via.get(task.name))
        maker = self._makers.get(task.name)
        if address is None and step and maker is not None:
            address = {**maker, "steps": [*maker["steps"], step]}
        address = address or self._locators.get(id(what))
        if address is None:
            name = getattr(what, "__qualname__", type(what).__qualname__)
            raise Unencodable(f"{name} has no name by which another process could find it")
        return {"address": address, "summary": summary_of(what)}

    def value(self, value: Any, task: Task | None) -> Json:
        """Return one value as JSON that says what type it was."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is tuple:
            return [self.value(item, task) for item in value]
        if kind is dict:
            if not all(type(key) is str for key in value):
                raise Unencodable("a dict with keys that are no strings")
            return {"$": "dict", "of": {key: self.value(item, task) for key, item in value.items()}}
        if kind in _TAGS:
            tag, parts = _TAGS[kind]
            return {"$": tag, "of": [self.value(item, task) for item in parts(value)]}
        if task is not None and callable(value):
            return {"$": "callable", "of": self._reference(value, task)}
        raise Unencodable(f"a {kind.__qualname__}")

    # -- requirements become paths --------------------------------------------------------------------------------

    def _requirements(self, task: Task, items: tuple[Any, ...]) -> list[Json]:
        return [self.value(self._named(task, item), task) for item in items]

    def _named(self, task: Task, item: Any) -> Any:
        """Return a requirement with functions and tasks replaced by what names them."""
        return spelled(item, lambda inner: self._place(task, inner))

    def _place(self, task: Task, item: Any) -> Any:
        """Return what names a function or task that is required."""
        name = last_of(item.name if isinstance(item, Task) else getattr(item, "__name__", ""))
        if id(item) in self._names:
            return Named(name, self._names[id(item)])
        found = self._scopes.items.get(item.name) if isinstance(item, Task) else self._scopes.providers.get(id(item))
        if not isinstance(found, Task) or (isinstance(item, Task) and found is not item):
            raise DefinitionError(f"{task.path} requires {name}, which is not among the tasks collected")
        return by_path(name, found.name)


def by_path(name: str, path: str) -> Any:
    """Return the requirement of the task at a path whose value goes to the parameter ``name``."""
    return f"/{path}" if last_of(path) == name else Named(name, f"/{path}")


def spelled(item: Any, place: Callable[[Any], Any]) -> Any:
    """Return a requirement with the functions and tasks in it replaced by what ``place`` returns for each.

    The parameter that receives the value keeps its name, the function's, wherever the function's task stands.
    """
    if isinstance(item, str | tuple):
        return item
    if isinstance(item, Named):
        inner = spelled(item.requirement, place)
        return Named(item.parameter, inner.requirement if isinstance(inner, Named) else inner)
    if isinstance(item, AnyOf | AllOf):
        parts = [spelled(part, place) for part in (item.alternatives if isinstance(item, AnyOf) else (item.of,))]
        bare = tuple(part.requirement if isinstance(part, Named) else part for part in parts)
        made = AnyOf(bare) if isinstance(item, AnyOf) else AllOf(*bare)
        return Named(parts[0].parameter, made) if len(parts) == 1 and isinstance(parts[0], Named) else made
    return place(item)


def decoded(described: list[Json]) -> list[Task]:
    """Return the tasks that an `Encoder` described."""
    return [_decoded_task(*each) for each in described]


def _decoded_task(path: str, what: Json, requires: Json, provides: Json, meta: Json, _where: str) -> Task:
    task = Task.__new__(Task)
    task.path = path
    if "argv" in what:
        env = tuple((key, value) for key, value in what["env"])
        task.callable = Command(tuple(what["argv"]), what["cwd"], env, what["shell"])
    else:
        task.callable = Carried(what["address"], what["summary"])
    task.requires, task.provides = value_from(requires), value_from(provides)
    task.meta = {key: value_from(value) for key, value in meta.items()} or EMPTY
    return task


def value_from(value: Json, called: Callable[[Json], Any] = lambda of: Carried(of["address"], of["summary"])) -> Any:
    """Return the value that `Encoder.value` described; ``called`` makes callables of what describes them."""
    if isinstance(value, list):
        return tuple(value_from(item, called) for item in value)
    if not isinstance(value, dict):
        return value
    kind, of = value["$"], value["of"]
    if kind == "dict":
        return {key: value_from(item, called) for key, item in of.items()}
    if kind == "callable":
        return called(of)
    return _MAKES[kind](value_from(of, called))
