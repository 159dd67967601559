"""Callables that live in another process: found by their address when somebody calls them there.

Workers import this module, so it imports next to nothing; `pexen.factory.carry` makes the addresses and says what is
in them.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in pexen.model.running
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping
    from typing import Any

    from pexen.model.task import Task

    Json = Any

_MADE: dict[str, list[Task]] = {}
"""What pexenfiles and factories have made in this process, by maker."""


class Carried:
    """A callable that lives elsewhere: found at its ``address`` when it is first called.

    ``summary`` answers what can be asked without importing it. Picklable; equal to nothing but itself.
    """

    __slots__ = ("__name__", "_found", "address", "summary")

    def __init__(self, address: Mapping[str, Json], summary: Mapping[str, Json]) -> None:
        self.address = address
        self.summary = summary
        self.__name__: str = summary["name"]
        self._found: Callable[..., Any] | None = None

    @property
    def pexen_where(self) -> str:
        """``file:line`` of the definition, or an empty string."""
        return str(self.summary["where"])

    @property
    def pexen_kind(self) -> str:
        """What it is: ``function``, ``coroutine`` or ``generator``."""
        return str(self.summary["kind"])

    @property
    def digest(self) -> str:
        """A hash of the source, or an empty string: it changes when the function's own lines do."""
        return str(self.summary["digest"])

    @property
    def doc(self) -> str:
        """The first line of the documentation."""
        return str(self.summary["doc"])

    @property
    def __signature__(self) -> inspect.Signature:
        """The parameters, with None in place of the defaults."""
        if self.summary["parameters"] is None:
            raise AttributeError("__signature__")
        from inspect import Parameter, Signature

        return Signature(
            [
                Parameter(name, getattr(Parameter, kind), default=None if has_default else Parameter.empty)
                for name, kind, has_default in self.summary["parameters"]
            ]
        )

    def resolve(self) -> Callable[..., Any]:
        """Return the callable itself; imports what the user wrote, and raises what that raises."""
        if self._found is None:
            self._found = _resolved(self.address)
        return self._found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.resolve()(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the address."""
        return (Carried, (self.address, self.summary))

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Carried {self.__name__}>"


def _resolved(address: Mapping[str, Json]) -> Any:
    from pexen.model import modules

    modules.TREE_MODULES.update(address.get("modules", {}))
    modules.install()
    if "maker" in address:
        return _made(address["maker"], address["steps"])
    for module in (address["via"], address["module"]):
        if module:
            __import__(module)
    found: Any = sys.modules[address["module"]]
    for name in address["names"].split("."):
        found = getattr(found, name)
    return found


def _made(maker: Mapping[str, Json], steps: list[Any]) -> Any:
    """Let the maker make everything once more and return the part that the steps lead to."""
    if steps[0] == "defaults":
        from pexen.factory.here import Home, Importer
        from pexen.model.meta import normalise

        found: Any = normalise(Importer().pexenfile(Home(*maker["home"])).defaults)
        rest = steps[1:]
    else:
        _, index, path, *rest = steps
        task = tasks_of(maker)[index]
        if task.name != path:
            from pexen.errors import DefinitionError

            hint = "a factory makes the same tasks in the same order each time it is called"
            raise DefinitionError(f"{task.name!r} was made where {path!r} was made before", hint=hint)
        found = {**task.meta, "callable": task.callable, "baked": _baked(task)}
    for step in rest:
        found = found[step]
    return found


def _baked(task: Task) -> Callable[..., Any]:
    return lambda *args, **kwargs: task.callable(*task.args, *args, **task.kwargs, **kwargs)  # type: ignore[operator]


def tasks_of(maker: Mapping[str, Json]) -> list[Task]:
    """Return the tasks that a pexenfile or a factory makes; they are made once in a process."""
    key = repr(maker)
    if key not in _MADE:
        if "home" in maker:
            from pexen.factory.facts import Facts
            from pexen.factory.here import Home, Importer, made_by
            from pexen.factory.params import Params

            home = Home(*maker["home"])
            made = made_by(home, Importer().pexenfile(home), Params(maker["params"]), Facts())
            _MADE[key] = [own.task for own in made]
        else:
            _MADE[key] = list(factory_of(maker)())
    return _MADE[key]


def factory_of(maker: Mapping[str, Json]) -> Callable[[], Any]:
    """Return the factory that ``{"factory": "module:Class", "arguments": […]}`` describes."""
    module, _, name = maker["factory"].partition(":")
    __import__(module)
    found: Callable[[], Any] = getattr(sys.modules[module], name)(*maker["arguments"])
    return found
