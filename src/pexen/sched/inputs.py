"""Inputs: what a task is given of what its providers have returned and shared, as the runner carries it: unopened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pexen.model.call import EXECUTE, SHARED, Source, parameter_of
from pexen.model.meta import AllOf, Named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pexen.core.planner import Planner
    from pexen.model.attempt import Attempt
    from pexen.model.event import Up
    from pexen.model.result import Outcome, Result
    from pexen.model.task import Task


class Inputs:
    """The values and shared dicts among the ``results``. ``defaults`` are the layers of every task's shared dict.

    ``up`` are the results so far of services that are up.
    """

    def __init__(
        self, planner: Planner, results: Mapping[str, Result], up: Mapping[str, Result], defaults: tuple[Any, ...]
    ) -> None:
        self._planner = planner
        self._results = results
        self._up = up
        self._defaults = defaults

    def values(self, task: Task) -> dict[str, Any]:
        """Return what an executable is given, by the names that parameters would have."""
        found: dict[str, Any] = {}
        for index, item in enumerate(task.requires):
            name = parameter_of(item)
            if name is not None:
                value = self.value(task, Source(index))
                if value is not None:
                    found[name] = value
        return found

    def value(self, task: Task, source: Source) -> Any:
        """Return the value of one argument, as the runner carries it."""
        if source.index < 0:
            return None if source.index == SHARED else source.constant
        item = task.requires[source.index]
        if isinstance(item, Named):
            item = item.requirement
        providers = self._planner.providers(task, source.index)
        values = [value for one in providers for value in self._values_of(one)]
        if isinstance(item, AllOf) or (len(providers) == 1 and providers[0].meta and providers[0].expand):
            return values
        return values[0] if values else None

    def _values_of(self, provider: Task) -> list[Any]:
        """Return a provider's value; those of what it has made, where it is one with ``expand``."""
        if not provider.meta or not provider.expand:
            return [self._of(provider).carried]
        return [value for one in self._planner.made(provider) for value in self._values_of(one)]

    def _of(self, provider: Task) -> Result:
        return self._up.get(provider.name) or self._results[provider.name]

    def layers(self, task: Task) -> tuple[Any, ...]:
        """Return the layers of the task's shared dict: the defaults, then those of its providers in tree order.

        A layer that comes twice counts where it comes last, so their number is bounded by that of the writers.
        """
        if not task.requires:
            return self._defaults
        found = list(self._defaults)
        for provider in self._planner.all_providers(task):
            found += self._of(provider).details.shared
        last = {id(layer): index for index, layer in enumerate(found)}
        return tuple(layer for index, layer in enumerate(found) if last[id(layer)] == index)


def layers_of(attempt: Attempt, outcome: Outcome | Up) -> tuple[Any, ...]:
    """Return the layers of the shared dict that go to dependants; executables only say what they add."""
    if outcome.shared is None:
        return attempt.shared
    return (*attempt.shared, outcome.shared) if attempt.call is EXECUTE else (outcome.shared,)
