"""Why a task is not running: what it waits for, in words."""

# ruff: noqa: SLF001 - it is a part of the planner

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pexen.core.graph import shown
from pexen.core.locks import Resource
from pexen.core.node import FINAL, UNSTARTED, Node, State
from pexen.core.planner import MET, members_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pexen.core.planner import Planner


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is not running: its state, and what it waits for, one line each."""

    path: str
    state: str
    waits_for: tuple[str, ...]

    def __str__(self) -> str:
        """Return a line for the state and one for each thing it waits for."""
        return "\n".join([f"{self.path}: {self.state}", *(f"  {line}" for line in self.waits_for)])


def explained(planner: Planner, node: Node) -> Explanation:
    """Return why a task is not running, or where it stands."""
    return Explanation(node.path, node.state.name.lower(), tuple(_obstacles(planner, node)))


def _obstacles(planner: Planner, node: Node) -> Iterable[str]:
    why = planner._groups.why(node) if planner._groups.crowds and node.state in UNSTARTED else ""
    if why:
        yield why
    if node.state is State.BLOCKED:
        if node in planner._graph.dormant:
            sleeps = "it is a service, and nobody who requires it could run yet"
            yield sleeps if node.near else "it is lazy, and nothing needs it yet"
        for item, bound in zip(node.task.requires, node.bound, strict=True):
            if bound.state not in MET:
                open_ones = [one for one in members_of(bound) if one.state not in MET]
                told = ", ".join(f"{one.path} ({one.state.name.lower()})" for one in open_ones[:5])
                yield f"requires {shown(item)}: {told}" + (" …" if len(open_ones) > 5 else "")
        for provider in planner._graph.after.get(node, ()):
            if provider.state not in FINAL:
                yield f"runs after {provider.path} ({provider.state.name.lower()})"
    elif node.state is State.READY and not why:
        if node in planner._unfreed:
            yield "the processes of its last attempt are not gone yet"
        if planner._later.is_parked(node):
            yield "waits to be tried again"
        elif node not in planner._unfreed:
            yield from _lacks(planner, node)


def _lacks(planner: Planner, node: Node) -> Iterable[str]:
    refused = False
    for thing, want in node.needs or ():
        if thing.admits(node, want):
            continue
        refused = True
        if thing.fits(want) or thing.barrier is not None:
            yield f"{thing.name!r} is kept for {planner._barrier.path}, which has waited longest"  # type: ignore[union-attr]
        if not thing.fits(want):
            holders = ", ".join(holder.path for holder in list(thing.holders)[:5]) or "tasks that run"
            amount = f" ({want:g} wanted, {thing.free:g} free)" if isinstance(thing, Resource) else ""
            yield f"waits for {thing.kind} {thing.name!r}{amount}, held by {holders}"
    if refused:
        return
    world = planner._world
    if world.mask or (world.barrier is not None and world.barrier is not node):
        alone = next(iter(world.holders), world.barrier)
        yield f"waits for {alone.path}, which runs alone"  # type: ignore[union-attr]
    elif node.waiting is not None and node.waiting.thing is not None:
        yield f"waits for {node.waiting.thing.kind} {node.waiting.thing.name!r}, and others are before it"
    else:
        pool = next(name for name, queue in planner._queues.items() if queue is node.queue)
        yield f"ready: the next free worker of pool {pool!r} takes the best of {len(node.queue)}"
