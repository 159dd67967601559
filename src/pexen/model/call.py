"""The calling convention: which value goes to which parameter, decided once per task when it is added.

For each parameter, in this order: what ``kwargs`` (by name) and ``args`` (by position) say; the task's ``shared`` dict
for a parameter named ``shared``; the value of the requirement of that name; the parameter's own default. What is left
is a `DefinitionError`. Works for functions, partials, bound and static methods, callable objects, classes, builtins
and coroutines; builtins without a signature get ``args`` and ``kwargs`` as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import FunctionType
from typing import Any

from pexen.errors import DefinitionError
from pexen.model.command import Command
from pexen.model.meta import AllOf, AnyOf, Named
from pexen.model.path import last_of
from pexen.model.task import Task


class Kind(Enum):
    """How a callable is run."""

    FUNCTION = "function"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    COMMAND = "command"


SHARED = -2
CONSTANT = -1


@dataclass(frozen=True, slots=True)
class Source:
    """Where an argument comes from: requirement number ``index``, or `SHARED`, or the ``constant``."""

    index: int
    constant: Any = None


@dataclass(frozen=True, slots=True)
class Call:
    """How to call one task: sources for positional and keyword arguments."""

    kind: Kind
    positional: tuple[Source, ...] = ()
    keyword: tuple[tuple[str, Source], ...] = ()

    @property
    def wants(self) -> tuple[int, ...]:
        """Numbers of the requirements whose values are needed."""
        sources = (*self.positional, *(source for _, source in self.keyword))
        return tuple(source.index for source in sources if source.index >= 0)


PLAIN = Call(Kind.FUNCTION)
"""A function called without arguments; shared, so recognisable by identity."""
EXECUTE = Call(Kind.COMMAND)
_PLAIN_COROUTINE = Call(Kind.COROUTINE)
_OF_SERVICES = frozenset({"ready", "teardown", "restarts"})

_SPECIAL = frozenset({"args", "kwargs", "expand", "service"})
_VARIES = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE
_VARIES |= inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE


def call_of(task: Task) -> Call:
    """Return how to call ``task``; raise `DefinitionError` when a parameter cannot be filled."""
    what = task.callable
    if task.meta and not _OF_SERVICES.isdisjoint(task.meta):
        _check_service(task)
    if type(what) is FunctionType:
        code = what.__code__
        if not (code.co_argcount or code.co_kwonlyargcount or code.co_flags & _VARIES & ~inspect.CO_COROUTINE):
            if not task.meta or _SPECIAL.isdisjoint(task.meta):
                return _PLAIN_COROUTINE if code.co_flags & inspect.CO_COROUTINE else PLAIN
    if isinstance(what, Command):
        return EXECUTE
    kind = kind_of(what)
    if kind is Kind.GENERATOR and not task.service:
        raise DefinitionError(
            f"{task.name} is a generator function",
            facts=[("defined", where_defined(what))],
            hint="a plain task returns its value; a generator that sets up and tears down is a @pexen.service",
        )
    if kind is Kind.GENERATOR and task.expand:
        raise DefinitionError(
            f"{task.name} is a service, and cannot expand: its value is what it yields", facts=_facts(task)
        )
    if kind is not Kind.GENERATOR and task.service:
        raise DefinitionError(
            f"{task.name} is a service, and no generator function",
            facts=[("defined", where_defined(what))],
            hint="it sets up, yields its value once, and tears down after that",
        )
    try:
        parameters = list(inspect.signature(what).parameters.values())
    except (ValueError, TypeError):
        return _constant(kind, task)
    return _fill(task, kind, parameters)


def _check_service(task: Task) -> None:
    """Raise `DefinitionError` for metadata of services that does not fit what the task is."""
    if not isinstance(task.callable, Command):
        for key in ("ready", "teardown"):
            if task.meta.get(key):
                hint = "a generator function that is a @pexen.service yields when it is up, and tears down after that"
                raise DefinitionError(f"{task.name}: {key!r} is for executables", hint=hint)
    elif task.ready and not task.service:
        raise DefinitionError(f"{task.name}: 'ready' is for services", hint="service = true")
    if task.restarts and not task.is_service:
        raise DefinitionError(f"{task.name}: 'restarts' is for services", hint="service = true")


def parameter_of(requirement: Any) -> str | None:
    """Return the parameter that receives a requirement's value, or None for a name that cannot be a parameter."""
    if isinstance(requirement, str):
        return last_of(requirement)
    if isinstance(requirement, Named):
        return requirement.parameter
    if isinstance(requirement, AllOf):
        return parameter_of(requirement.of)
    if isinstance(requirement, AnyOf):
        return parameter_of(requirement.alternatives[0]) if len(requirement.alternatives) == 1 else None
    if isinstance(requirement, Task):
        return last_of(requirement.name)
    return getattr(requirement, "__name__", None)


def where_defined(what: Callable[..., Any]) -> str:
    """Return ``file:line`` of a callable, or its type where that is not known."""
    told = getattr(type(what), "pexen_where", None)
    if told is not None:
        return str(what.pexen_where)  # type: ignore[attr-defined]
    inner: Any = inspect.unwrap(what)
    while isinstance(inner, partial):
        inner = inspect.unwrap(inner.func)
    if not hasattr(inner, "__code__"):
        inner = getattr(type(inner), "__call__", inner) if not isinstance(inner, type) else inner.__init__  # type: ignore[misc]
    code = getattr(inner, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else type(what).__name__


def kind_of(what: Callable[..., Any]) -> Kind:
    """Return how a callable is run. One that stands for another (its type has ``pexen_kind``) says so itself."""
    if hasattr(type(what), "pexen_kind"):
        return Kind(what.pexen_kind)  # type: ignore[attr-defined]
    inner = _innermost(what)
    if inspect.iscoroutinefunction(inner):
        return Kind.COROUTINE
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        return Kind.GENERATOR
    return Kind.FUNCTION


def is_asynchronous(what: Callable[..., Any]) -> bool:
    """Tell whether a callable belongs on an event loop: a coroutine function, or an asynchronous generator function."""
    inner = _innermost(what)
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def _innermost(what: Callable[..., Any]) -> Any:
    """Return the function that a partial or a callable object comes down to."""
    inner: Any = what
    while isinstance(inner, partial):  # not whatever has an attribute ``func``: a mock has all there are
        inner = inner.func
    if not hasattr(inner, "__code__") and not isinstance(inner, type) and not inspect.ismethod(inner):
        inner = getattr(type(inner), "__call__", inner)
    return inner


def _constant(kind: Kind, task: Task) -> Call:
    return Call(
        kind,
        tuple(Source(CONSTANT, value) for value in task.args),
        tuple((word, Source(CONSTANT, value)) for word, value in task.kwargs.items()),
    )


def _fill(task: Task, kind: Kind, parameters: list[inspect.Parameter]) -> Call:
    values: dict[str | None, list[int]] = {}
    for index, item in enumerate(task.requires):
        values.setdefault(parameter_of(item), []).append(index)
    args, kwargs = list(task.args), dict(task.kwargs)
    positional: list[Source] = []
    keyword: list[tuple[str, Source]] = []
    passed_over: list[Source] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += [Source(CONSTANT, value) for value in args]
            args.clear()
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            keyword += [(word, Source(CONSTANT, value)) for word, value in kwargs.items()]
            kwargs.clear()
            continue
        by_position = parameter.kind is not parameter.KEYWORD_ONLY
        if by_position and args and not _is_taken(parameter.name, values):
            positional.append(Source(CONSTANT, args.pop(0)))
            continue
        source = _source(task, parameter, values, kwargs)
        if source is None:
            passed_over.append(Source(CONSTANT, parameter.default))
        elif parameter.kind is parameter.POSITIONAL_ONLY or (by_position and args):
            positional += [*passed_over, source]  # what stands before it cannot be left out
            passed_over.clear()
        else:
            keyword.append((parameter.name, source))
    if args or kwargs:
        extra = f"{len(args)} positional" if args else f"{min(kwargs)!r}"
        raise DefinitionError(f"{task.name} takes no such argument: {extra}", facts=_facts(task))
    if not positional and not keyword and kind is Kind.FUNCTION and not task.expand:
        return PLAIN
    return Call(kind, tuple(positional), tuple(keyword))


def _is_taken(parameter: str, values: dict[str | None, list[int]]) -> bool:
    """Tell whether a parameter is for a requirement or the shared dict, so that ``args`` fill others."""
    return parameter in values or parameter == "shared"


def _source(
    task: Task, parameter: inspect.Parameter, values: dict[str | None, list[int]], kwargs: dict[str, Any]
) -> Source | None:
    """Return where one parameter's value comes from; None leaves it to its default."""
    if parameter.name in kwargs and parameter.kind is not parameter.POSITIONAL_ONLY:
        return Source(CONSTANT, kwargs.pop(parameter.name))
    if parameter.name == "shared":
        return Source(SHARED)
    if parameter.name in values:
        return Source(_only(task, parameter.name, values[parameter.name]))
    if parameter.default is not parameter.empty:
        return None
    raise DefinitionError(
        f"{task.name}: nothing fills the parameter {parameter.name!r}",
        facts=_facts(task),
        hint=f"require something named {parameter.name!r}, or give it in kwargs, or give it a default",
    )


def _only(task: Task, parameter: str, found: list[int]) -> int:
    """Return the one requirement among those for a parameter: the one that names it, else there must not be two."""
    named = [index for index in found if isinstance(task.requires[index], Named)] or found
    first = task.requires[named[0]]
    if any(task.requires[index] is not first and task.requires[index] != first for index in named):
        raise DefinitionError(
            f"{task.name}: the parameter {parameter!r} would receive several values",
            facts=[("requires", str(task.requires[index])) for index in named] + _facts(task),
            hint="name the parameters: requires={'one': …, 'other': …}",
        )
    return named[0]


def _facts(task: Task) -> list[tuple[str, str]]:
    what = task.callable
    return [] if isinstance(what, Command) else [("defined", where_defined(what))]
