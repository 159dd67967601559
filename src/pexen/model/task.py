"""Tasks: a callable, a path and metadata.

A task is a value: nothing that happens in a run is stored in it, except that a task without a path is given one when a
run admits it, and how it is called (``call``, see `pexen.model.call`) is noted then. Only the attributes that every
graph uses are stored for each task; the other metadata is one sparse mapping, shared where there is none (see
`pexen.model.meta`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any, ParamSpec, TypeVar, overload

from pexen.errors import DefinitionError
from pexen.model import meta as m
from pexen.model.command import Command, as_command
from pexen.model.path import check_path, last_of
from pexen.model.ready import readiness
from pexen.model.waiver import Waiver

P = ParamSpec("P")
R = TypeVar("R")


class Task:
    """One thing to run: ``callable`` with metadata, at ``path`` in the tree.

    ``path=None`` takes a name from the callable when the task is added. Every other keyword is metadata, see
    ``docs/metadata.md``; what the callable carries from `pexen.task` is replaced key by key. Tasks compare by identity.
    Raises `DefinitionError` for unknown metadata and wrong types. May be made in any thread.
    """

    __slots__ = ("__weakref__", "call", "callable", "meta", "path", "provides", "requires")

    callable: Callable[..., Any] | Command
    path: str | None
    requires: tuple[Any, ...]
    provides: tuple[m.Name, ...]
    meta: Mapping[str, Any]

    args = m.Field[tuple[Any, ...]]((), m.positional, "never")
    kwargs = m.Field[Mapping[str, Any]](m.EMPTY, m.keywords, "merged")
    after = m.Field[tuple[Any, ...]]((), m.requirements, "together")
    lazy = m.Field(False, m.flag)
    cleanup = m.Field(False, m.flag)
    expand = m.Field(False, m.flag)
    uses = m.Field[tuple[m.Name | m.TreeLock, ...]]((), m.locks, "together")
    claims = m.Field[tuple[m.Name | m.TreeLock, ...]]((), m.locks, "together")
    resources = m.Field[Mapping[str, float]](m.EMPTY, m.amounts, "merged")
    alone = m.Field(False, m.flag)
    priority = m.Field[float](0, m.number)
    estimate = m.Field[float | None](None, m.duration)
    group = m.Field[str | None](None, m.text)
    pool = m.Field[str | None](None, m.text)
    when = m.Field[str | Callable[..., Any] | None](None, m.condition)
    host = m.Field[tuple[str, ...]]((), m.texts, "together")
    conflicts = m.Field[tuple[m.Name, ...]]((), m.names, "together")
    preference = m.Field[float](0, m.number)
    timeout = m.Field[float | None](None, m.duration)
    idle_timeout = m.Field[float | None](None, m.duration)
    grace = m.Field[float](5.0, m.duration)
    retries = m.Field[int](0, m.count)
    retry_on = m.Field[tuple[str, ...]](("failed", "error", "timeout", "crashed", "lost"), m.texts)
    retry_delay = m.Field[float](0.0, m.duration)
    xfail = m.Field[str | bool](False, m.verdict)
    waivers = m.Field[tuple[Waiver, ...]]((), m.waived, "together")
    around = m.Field[tuple[str | Callable[..., Any], ...]]((), m.surroundings, "together")
    tap = m.Field(False, m.flag)
    once = m.Field(False, m.flag)
    volatile = m.Field(False, m.flag)
    service = m.Field(False, m.flag, "never")
    ready = m.Field[str | None](None, readiness, "never")
    teardown = m.Field[str | None](None, m.text, "never")
    restarts = m.Field[int](0, m.count, "never")
    tags = m.Field[tuple[str, ...]]((), m.texts, "together")
    inputs = m.Field[tuple[str, ...]]((), m.paths)
    outputs = m.Field[tuple[str, ...]]((), m.paths)

    def __init__(
        self,
        callable: Callable[..., Any] | Command,  # noqa: A002 - the word of the field
        path: str | None = None,
        *,
        requires: Any = None,
        provides: Any = None,
        **meta: Any,
    ) -> None:
        carried = getattr(callable, "__pexen__", None)
        self.callable = callable
        self.call: Any = None
        self.path = path if path is None else check_path(path)
        self.requires = () if requires is None else m.requirements("requires", requires)
        self.provides = () if provides is None else m.names("provides", provides)
        self.meta = m.normalise(meta) if meta else m.EMPTY
        if carried.__class__ is dict:
            self._complete(carried, requires is None, provides is None)
        elif not isinstance(callable, Command) and not _is_callable(callable):
            raise DefinitionError(f"a task needs a callable or a pexen.command, not {type(callable).__name__}")

    def _complete(self, carried: dict[str, Any], requires: bool, provides: bool) -> None:
        """Fill in what a decorated function carries and the constructor was not given."""
        rest = dict(carried)
        self.path = rest.pop("path", None) if self.path is None else self.path
        carried_requires, carried_provides = rest.pop("requires", None) or (), rest.pop("provides", None) or ()
        if requires:
            self.requires = carried_requires
        if provides:
            self.provides = carried_provides
        rest.pop("path", None)
        if rest or self.meta:
            self.meta = {**rest, **self.meta}

    @property
    def is_service(self) -> bool:
        """Whether it is up for its dependants, and torn down after them. An executable with a ``teardown`` is one."""
        return bool(self.meta) and bool(self.meta.get("service") or self.meta.get("teardown"))

    @property
    def name(self) -> str:
        """The path, or what it would be made from."""
        return self.path or default_name(self.callable)

    def replace(self, **changes: Any) -> Task:
        """Return a copy with other metadata (``path``, ``callable`` and any key); ``None`` takes a key's default."""
        copy = Task.__new__(Task)
        copy.callable = changes.pop("callable", self.callable)
        copy.call = None
        path = changes.pop("path", self.path)
        copy.path = path if path is None else check_path(path)
        given = m.normalise({**self.meta, "requires": self.requires, "provides": self.provides, **changes})
        copy.requires, copy.provides = given.pop("requires") or (), given.pop("provides") or ()
        copy.meta = {key: value for key, value in given.items() if value is not None} or m.EMPTY
        return copy

    def inheriting(self, defaults: Mapping[str, Any]) -> Task:
        """Return the task as it stands below a folder with these defaults (in normal form)."""
        own = dict(self.meta)
        for key, value in (("requires", self.requires), ("provides", self.provides)):
            if value:
                own[key] = value
        return self.replace(**m.inherited(defaults, own)) if defaults else self

    def __repr__(self) -> str:
        """Show the path; never the callable's own ``repr``."""
        return f"<Task {self.name}>"


m.DIRECT.add(Task)
for _key, _field in (
    ("path", m.Field[str | None](None, m.place, "never")),
    ("requires", m.Field[tuple[Any, ...]]((), m.requirements, "together")),
    ("provides", m.Field[tuple[m.Name, ...]]((), m.names, "never")),
):
    # Stored in slots of their own, but keys like all others to whoever reads metadata from a file.
    _field.name = _key
    m.FIELDS[_key] = _field


def default_name(what: Callable[..., Any] | Command) -> str:
    """Return the name a task without a path gets from its callable."""
    if isinstance(what, Command):
        return what.name
    inner = what
    while isinstance(inner, partial):
        inner = inner.func
    found = getattr(inner, "__name__", None) or type(inner).__name__
    return last_of(str(found)).replace("<", "").replace(">", "").lstrip(".") or "task"


@overload
def task(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def task(**meta: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def task(function: Callable[P, R] | None = None, /, **meta: Any) -> Any:
    """Attach metadata to a function and return the function itself.

    Used bare or with metadata: ``@pexen.task(requires="db", timeout="1m")``. The function stays what it was, can be
    called, imported, pickled and used in many tasks. Raises `DefinitionError` for unknown metadata.
    """
    carried = m.normalise(meta)

    def attach(function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function):
            raise DefinitionError(f"@pexen.task decorates a function, not {type(function).__name__}")
        function.__pexen__ = carried  # type: ignore[attr-defined]
        return function

    return attach if function is None else attach(function)


@overload
def service(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def service(**meta: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def service(function: Callable[P, R] | None = None, /, **meta: Any) -> Any:
    """Attach metadata to a generator function that sets something up, yields its value, and tears it down again.

    Asynchronous ones as well. It is started when the first task that requires it could run, and resumed after the last of
    these has ended. It provides its own name unless told otherwise. As `task` in all else.
    """
    decorator: Any = task(**{**meta, "service": True})
    return decorator if function is None else decorator(function)


def provided(task: Task) -> tuple[m.Name, ...]:
    """Return the names a task provides; a service provides its own name unless it says otherwise."""
    return task.provides or ((last_of(task.name),) if task.is_service else ())


def as_task(item: Any) -> Task:
    """Return ``item`` when it is a task, else the task made from a callable."""
    if isinstance(item, Task):
        return item
    if callable(item):
        return Task(item)
    raise DefinitionError(
        f"neither a task nor a callable: {type(item).__name__}", hint="pexen.Task(callable), pexen.command('make')"
    )


_is_callable = callable


def command(
    argv: str | PathLike[str] | Sequence[str | PathLike[str]],
    path: str | None = None,
    *,
    cwd: str | PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    **meta: Any,
) -> Task:
    """Return a task that executes ``argv`` (a list), or a string through ``/bin/sh -c``.

    Exit status 0 is ``passed``, 77 ``skipped``, anything else ``failed``. ``env`` is added to the environment.
    """
    return Task(as_command(argv, cwd, env), path, **meta)


def held_by(task: Task) -> str:
    """Return what a running task holds, in words: ``claims disk, uses net, 2 cpu``."""
    if not task.meta:
        return ""
    meta = task.meta
    words = [f"{verb} {', '.join(map(_shown, meta[verb]))}" for verb in ("claims", "uses") if meta.get(verb)]
    words += [f"{amount:g} {name}" for name, amount in (meta.get("resources") or m.EMPTY).items()]
    return ", ".join(words + ["alone"] * bool(meta.get("alone")))


def _shown(lock: Any) -> str:
    return ":".join(map(str, lock)) if isinstance(lock, tuple) else str(lock)


def shown(item: Any) -> str:
    """Return a requirement as a user would write it."""
    if isinstance(item, str | tuple):
        return repr(item)
    if isinstance(item, Task):
        return item.name
    if isinstance(item, m.Named):
        return f"{item.parameter}={shown(item.requirement)}"
    if isinstance(item, m.AllOf):
        return f"all_of({shown(item.of)})"
    if isinstance(item, m.AnyOf):
        return f"any_of({', '.join(map(shown, item.alternatives))})"
    return str(getattr(item, "__name__", type(item).__name__))
