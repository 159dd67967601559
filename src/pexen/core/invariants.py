"""What is always true of a planner. For tests, which ask after every verb: it looks at everything.

*Counts*: what ``missing`` says of a blocked task or junction is the number of things it still waits for; ``unfinished``,
``running``, the amounts held and free add up. *Places*: a task that is ready is in the ready queue, or parked on exactly
one thing, or has ended an attempt and waits for `free` or `again`; nobody else is parked or holds anything before it has
started. *Nobody sleeps*: where a parked task could be granted what it was refused, one of its pool is on its way to take
it.
"""

# ruff: noqa: SLF001 - it is a part of the planner

from __future__ import annotations

from typing import TYPE_CHECKING

from pexen.core.locks import Resource, Thing
from pexen.core.node import FINAL, UNSTARTED, Junction, Node, State
from pexen.errors import InternalError

if TYPE_CHECKING:
    from pexen.core.planner import Planner

_OPEN = frozenset({State.BLOCKED, State.READY, State.RUNNING, State.LEAVING})
_ACTIVE = frozenset({State.RUNNING, State.UP, State.LEAVING})


def check(planner: Planner) -> None:
    """Raise `InternalError` that names what is not as it must be."""
    nodes = list(planner._nodes.values())
    _check_counts(planner, nodes)
    for node in nodes:
        _check_missing(planner, node)
    for junction in _junctions(nodes):
        _check_junction(junction)
    queued = {id(entry[3]) for queue in planner._queues.values() for entry in queue.entries()}
    for node in nodes:
        _check_place(planner, node, id(node) in queued)
    for thing in planner._things():
        _check_thing(planner, thing, nodes)
    _sure(planner._later.parked == len(planner._later.nodes), "how many wait to be tried again")
    barrier = planner._barrier
    if barrier is not None:
        _sure(barrier.state is State.READY and barrier.waiting is not None, "the barrier does not wait")
    for thing in planner._things():
        _sure(
            thing.barrier is (barrier if thing in dict(barrier.needs or ()) else None)
            if barrier
            else thing.barrier is None,
            f"{thing.name} is kept for the wrong task",
        )


def _is_open(item: Node | Junction) -> bool:
    """Tell whether a requirement is neither met nor lost; a service that has been torn down can be revived."""
    return item.state in _OPEN or (item.near and item.state is State.DONE and isinstance(item, Node))


def _check_counts(planner: Planner, nodes: list[Node]) -> None:
    world = planner._world
    active = [node for node in nodes if node.state in _ACTIVE]
    bare = sum(node.needs is None for node in active)
    others = sum(
        world not in dict(node.needs or ()) and node.state not in {State.UP, State.LEAVING} for node in planner._unfreed
    )
    _sure(planner.unfinished == sum(node.state not in FINAL for node in nodes), "unfinished")
    _sure(planner.running == len(active), "running")
    _sure(set(planner._services.up) == {node for node in active if node.state is State.UP}, "up")
    _sure(world.running == bare + others, f"{world.running} run, and not {bare} + {others}")
    for node in active:
        _sure(node.needs is None or node in planner._unfreed, f"{node} holds nothing")
    for node in planner._graph.dormant:
        _sure(node.state is State.BLOCKED, f"{node} sleeps")


def _check_missing(planner: Planner, node: Node) -> None:
    """See that a blocked task waits for as much as is open, and a ready one for nothing."""
    if node.state not in UNSTARTED:  # what has gone down since it started is missed when it is tried again
        _sure(node.state in FINAL or not node.missing, f"{node} misses {node.missing}")
        return
    if node.state in _ACTIVE:  # what it needs may be gone since it started
        _sure(node.missing == 0, f"{node} has started, and misses {node.missing}")
        return
    graph = planner._graph
    left = sum(map(_is_open, node.bound))
    after = graph.after.get(node, ())
    waits = [one for one in after if node in graph.followers.get(one, ())]  # not for a service that was revived since
    _sure(all(one in waits or one.state in FINAL or one.near for one in after), f"{node} forgot whom it comes after")
    left += len(waits) + (node in graph.dormant) + planner._groups.is_gated(node)
    _sure(node.missing == left, f"{node} misses {node.missing}, not {left}")
    _sure(node.state is not State.BLOCKED or left > 0, f"{node} is blocked by nothing")
    for one in node.bound:
        told = (one.dependants or []).count(node)
        _sure(not _is_open(one) or told == node.bound.count(one), f"{one!r} would tell {node} {told} times")


def _check_junction(junction: Junction) -> None:
    left = sum(map(_is_open, (*junction.members, *junction.grown)))
    if junction.state is State.BLOCKED:
        _sure(junction.missing == left > 0, f"{junction} misses {junction.missing}, not {left}")
    elif junction.state is State.FAILED:
        _sure(not (junction.any and left), f"{junction} has {left} left")
    elif junction.any:
        _sure(junction.chosen in junction.members, f"{junction} has chosen nobody")
    else:
        _sure(not left, f"{junction} is met too early")


def _check_place(planner: Planner, node: Node, is_queued: bool) -> None:
    thing = node.waiting.thing if node.waiting is not None else None
    later = planner._later
    _sure(later.is_parked(node) == (node in later.nodes), f"{node} is to be tried again, or not")
    if node.state is not State.READY:
        _sure(node.waiting is None, f"{node} waits")
    elif thing is later:
        _sure(planner._barrier is not node, f"{node} is the barrier, and waits to be tried again")
    elif thing is None:
        lives = node in planner._unfreed
        _sure(is_queued or lives, f"{node} is lost")
        # An old entry of a task that ran alone may stand there, but nothing starts while it holds the world.
        _sure(not (is_queued and lives) or node in planner._world.holders, f"{node} could start beside itself")
    else:
        _sure(
            any(entry[3] is node for queue in thing.waiting.values() for entry in queue.entries()),
            f"{node} is parked nowhere",
        )
        _sure(thing in dict(node.needs or ()), f"{node} is parked on {thing.name}")


def _check_thing(planner: Planner, thing: Thing, nodes: list[Node]) -> None:
    for holder in thing.holders:
        # While its last processes live, one that is to be tried again may miss a service, and a service may sleep.
        is_put_off = holder.short > 0 or holder in planner._graph.dormant
        _sure(holder.state is not State.BLOCKED or is_put_off, f"{thing.name} is held by {holder}")
    parked = [node for node in nodes if thing.is_parked(node)]
    _sure(thing.parked == len(parked), f"{thing.name}: {thing.parked} parked, found {len(parked)}")
    if isinstance(thing, Resource):
        held = sum(thing.holders.values())
        _sure(abs(thing.free + held - thing.total) <= thing.slack, f"{thing.name}: {thing.free} free, {held} held")
        _sure(not thing.names or len(thing.units) == thing.free, f"{thing.name}: units")
    for queue in thing.grantable():
        entry = queue.first()
        pool = entry and entry[3].queue
        offered = [
            node for node in nodes if node.waiting is not None and node.waiting.offered is thing and node.queue is pool
        ]
        _sure(
            any(node.waiting and node.waiting.thing is None for node in offered),
            f"{thing.name} is free, {entry} sleeps",
        )


def _junctions(nodes: list[Node]) -> list[Junction]:
    found: dict[Junction, None] = {}
    stack = [one for node in nodes for one in node.bound if isinstance(one, Junction)]
    while stack:
        junction = stack.pop()
        if junction not in found:
            found[junction] = None
            stack += [one for one in junction.members if isinstance(one, Junction)]
    return list(found)


def _sure(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise InternalError(f"an invariant of the planner is broken: {otherwise}")
