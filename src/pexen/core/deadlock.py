"""Deadlocks that services could cause, found when tasks are added.

A service holds what it has taken until the last of its dependants has ended. So it *waits for* all that has to happen before
that: its dependants, and whatever these require or come after, except for what it requires itself, which has happened
before. If one of these needs what another service holds, or comes after that one, the first service waits for the second;
a cycle of that, also of one service alone, can become a deadlock and is refused. Amounts are compared as if all services
were up that hold some and wait for somebody who needs more.

What has ended waits for nobody. Only services that hold something, or that somebody comes ``after``, are looked at, in runs that
have such; each task costs O(such services that wait for it).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pexen.core.locks import CONFLICTS, Lock, Resource
from pexen.core.node import FINAL, Junction, Node
from pexen.core.services import providers_of
from pexen.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from pexen.core.locks import Thing

    Item = Node | Junction
    Edge = tuple[Node, Node, Node, str]
    """A service, the one it waits for, who needs something of that, and what."""


class Deadlocks:
    """Which services wait for whom. ``after`` is the graph's: whose end a task waits for."""

    def __init__(self) -> None:
        self._after: dict[Node, tuple[Node, ...]] = {}
        self._services: dict[Node, set[Item]] = {}
        """Each service with all that it requires itself."""
        self._above: dict[Item, tuple[Node, ...]] = {}
        self._waits: dict[Node, dict[Item, None]] = {}
        """What has to happen before a service can be torn down."""
        self._largest: dict[tuple[Node, Thing], tuple[float, Node]] = {}
        """For a service and a resource, who of those it waits for needs most of it."""
        self._edges: list[Edge] = []
        self._seen: list[Item] = []
        """All that was added before there was anything to look at."""
        self._is_on = False
        self._gate: Callable[[Node], Mapping[Item, bool]] = no_gate

    def admit(
        self,
        items: Iterable[Item],
        after: Mapping[Node, tuple[Node, ...]],
        gate: Callable[[Node], Mapping[Item, bool]],
        regated: Iterable[Node],
    ) -> None:
        """Take in a batch with its own ``after``; raises `DefinitionError` for what could be a deadlock, and forgets it.

        ``gate`` tells what the group of a task waits for, True for what it comes after. For those that are ``regated`` that has
        changed.
        """
        self._gate = gate
        batch = list(items)
        self._after.update(after)
        seen, was_on = self._seen, self._is_on
        if not was_on:
            followed = any(other.near for others in after.values() for other in others)
            if not followed and not any(_holds_something(one) for one in batch):
                seen += batch
                return
            self._is_on, self._seen = True, []
        added: list[tuple[Node, Item]] = []
        edges = self._edges
        try:
            self._take_in([*seen, *batch] if not was_on else batch, added, list(regated))
        except DefinitionError:
            self._is_on, self._seen, self._edges = was_on, seen, edges
            self._forget(batch if was_on else [*seen, *batch], batch, added)
            raise

    def _take_in(self, fresh: list[Item], added: list[tuple[Node, Item]], regated: list[Node]) -> None:
        for item in fresh:
            if item.near and isinstance(item, Node):
                self._services[item] = self._behind([item], (), None)
                self._waits[item] = {}
        for item in fresh:
            for service in self._services_above(item):
                added += [(service, one) for one in self._wait(service, item)]
        looked_at: list[tuple[Node, Item]] = []
        for node in regated:
            for service, waits in self._waits.items():
                if node in waits:
                    looked_at.append((service, node))
                    added += [(service, one) for one in self._wait_for(service, self._behind_all(service, [node]))]
        edges = list(self._edges_of([*added, *looked_at], [one for one in fresh if one in self._services]))
        if edges:
            self._edges = [edge for edge in (*self._edges, *edges) if not any(one.state in FINAL for one in edge[:3])]
            self._refuse_cycles()
        self._refuse_amounts(added)

    def _forget(self, fresh: list[Item], batch: list[Item], added: list[tuple[Node, Item]]) -> None:
        gone = set(fresh)
        for service, one in added:
            self._waits[service].pop(one, None)
        for item in fresh:
            self._above.pop(item, None)
            if isinstance(item, Node):
                self._services.pop(item, None)
                self._waits.pop(item, None)
        for item in batch:
            self._after.pop(item, None)  # type: ignore[arg-type]
        self._largest = {
            key: found for key, found in self._largest.items() if key[0] not in gone and found[1] not in gone
        }

    # -- who waits for whom -------------------------------------------------------------------------------------------

    def _before(self, item: Item) -> tuple[Item, ...]:
        """Return what an item directly waits for."""
        if isinstance(item, Junction):
            return item.members
        return (*item.bound, *self._after.get(item, ()), *self._gate(item))

    def _followed(self, node: Node) -> list[Item]:
        """Return whose end a task waits for."""
        return [*self._after.get(node, ()), *(one for one, is_after in self._gate(node).items() if is_after)]

    def _behind(self, items: Iterable[Item], known: Iterable[Container[Item]], stop: Node | None) -> set[Item]:
        """Return all that has to end before these can start, but what is known, or behind ``stop``."""
        found: set[Item] = set()
        stack = [one for item in items for one in self._before(item)]
        while stack:
            one = stack.pop()
            if one in found or one is stop or one.state in FINAL or any(one in others for others in known):
                continue
            found.add(one)
            stack += self._before(one)
        return found

    def _services_above(self, item: Item) -> tuple[Node, ...]:
        """Return all services that an item requires, transitively."""
        stack = [item]
        while stack:
            one = stack[-1]
            if one in self._above:
                stack.pop()
                continue
            missing = [provider for provider in providers_of(one) if provider not in self._above]
            if missing:
                stack += missing
                continue
            found: dict[Node, None] = {}
            for provider in providers_of(one):
                found.update(dict.fromkeys(self._above[provider]))
                if provider in self._services and isinstance(provider, Node):
                    found[provider] = None
            self._above[one] = tuple(found)
            stack.pop()
        return self._above[item]

    def _wait(self, service: Node, dependant: Item) -> list[Item]:
        """Let a service wait for a dependant and for what that needs; return what is new of that."""
        if dependant in self._waits[service]:
            return []
        return self._wait_for(service, [dependant, *self._behind_all(service, [dependant])])

    def _behind_all(self, service: Node, items: Iterable[Item]) -> list[Item]:
        """Return what these wait for, but what the service waits for already, or has needed itself."""
        found = self._behind(items, (self._waits[service], self._services[service]), service)
        return sorted(found, key=lambda one: one.order)

    def _wait_for(self, service: Node, items: list[Item]) -> list[Item]:
        self._waits[service].update(dict.fromkeys(items))
        return items

    def _edges_of(self, added: Iterable[tuple[Node, Item]], services: Iterable[Node]) -> Iterable[Edge]:
        held = [service for service in self._services if service.state not in FINAL]
        for service, one in added:
            if isinstance(one, Node) and (one.needs or self._followed(one)):
                for other in held:
                    yield from self._edge(service, other, one)
        for other in services:  # what came before it may need what it holds
            for service, waits in self._waits.items():
                for one in waits:
                    if isinstance(one, Node):
                        yield from self._edge(service, other, one)

    def _edge(self, service: Node, other: Node, one: Node) -> Iterable[Edge]:
        """Yield why a service that waits for ``one`` waits for the ``other``, if it does."""
        if one is other:
            return
        if other in self._followed(one):
            yield service, other, one, f"comes after {other.path}"
        held = dict(other.needs or ())
        for thing, want in one.needs or ():
            if isinstance(thing, Lock) and thing in held and CONFLICTS[int(want)] >> int(held[thing]) & 1:
                yield service, other, one, f"needs {thing.name!r}, which {other.path} holds"
            elif isinstance(thing, Resource) and thing in held and not _fits(thing, held[thing] + want):
                yield service, other, one, f"needs more of {thing.name!r} than {other.path} leaves"

    # -- refusing -----------------------------------------------------------------------------------------------------

    def _refuse_cycles(self) -> None:
        after: dict[Node, dict[Node, Edge]] = {}
        for edge in self._edges:
            after.setdefault(edge[0], {}).setdefault(edge[1], edge)
        done: set[Node] = set()
        for start in after:
            path: list[Node] = []
            stack: list[tuple[Node, bool]] = [(start, False)]
            while stack:
                node, is_left = stack.pop()
                if is_left:
                    done.add(path.pop())
                    continue
                if node in path:
                    cycle = [*path[path.index(node) :], node]
                    raise _deadlock([after[one][two] for one, two in pairwise(cycle)])
                if node in done:
                    continue
                path.append(node)
                stack.append((node, True))
                stack += [(other, False) for other in after.get(node, ())]

    def _refuse_amounts(self, added: Iterable[tuple[Node, Item]]) -> None:
        changed = {thing: None for service in self._services for thing in _amounts(service)}
        if not changed:
            return
        for service, one in added:
            for thing, want in _amounts(one).items():
                if want > self._largest.get((service, thing), (0.0,))[0]:
                    self._largest[service, thing] = want, one  # type: ignore[assignment]
        for thing in changed:
            self._refuse_amount(thing)

    def _refuse_amount(self, thing: Thing) -> None:
        kept, most, by = 0.0, 0.0, None
        for service in self._services:
            held = _amounts(service).get(thing)
            if held and service.state not in FINAL and (service, thing) in self._largest:
                kept += held
                want, one = self._largest[service, thing]
                if want > most:
                    most, by = want, one
        if by is not None and not _fits(thing, kept + most):
            raise DefinitionError(
                f"services and their dependants could wait for each other's {thing.name!r} for ever",
                facts=[("services keep", f"{kept:g} while they are up"), ("more is needed by", f"{by.path}: {most:g}")],
                hint="give the run more of it, or let the services hold less",
            )


def _amounts(item: Item) -> dict[Thing, float]:
    needs = item.needs if isinstance(item, Node) else None
    return {thing: want for thing, want in needs or () if isinstance(thing, Resource)}


def _fits(thing: Thing, amount: float) -> bool:
    return isinstance(thing, Resource) and amount - thing.total <= thing.slack


def no_gate(_: Node) -> dict[Item, bool]:
    """Tell that a task is in no group."""
    return {}


def _holds_something(item: Item) -> bool:
    return item.near and isinstance(item, Node) and bool(item.needs)


def _deadlock(edges: list[Edge]) -> DefinitionError:
    lines = [(service.path, f"is kept up for {one.path}, which {what}") for service, _, one, what in edges]
    return DefinitionError(
        "services could wait for each other for ever" if len(edges) > 1 else "a service would wait for itself for ever",
        facts=lines,
        hint="a service keeps what it claims and uses as long as it is up",
    )
