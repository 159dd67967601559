"""Making again, in a worker, what a pexenfile or a factory has made where it was collected and what has no name of its own.

An address of such a callable (see `pexen.model.carry`) names `made` as the one that finds it. Workers import this module, so
it imports next to nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in pexen.model.running
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pexen.model.task import Task

    Json = Any

FOUND_BY = "pexen.factory.remade:made"
"""How an address names `made`."""
_MADE: dict[str, list[Task]] = {}
"""What pexenfiles and factories have made in this process, by maker."""


def made(address: Mapping[str, Json]) -> Any:
    """Let the maker make everything once more and return the part that the steps lead to."""
    maker, steps = address["maker"], address["steps"]
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
