"""Everything that can be seen of a planner, as plain values to compare: did a verb that raised change anything?"""

from __future__ import annotations

from typing import Any

from pexen.core.node import Node
from pexen.core.planner import Planner
from pexen.model.scope import Several


def snapshot(planner: Planner) -> dict[str, Any]:
    """Return the planner's state, deep enough that an addition half undone shows."""
    graph = planner._graph
    nodes = graph.nodes
    return {
        "tasks": [(path, id(node.task), node.task.path, node.state.name) for path, node in nodes.items()],
        "edges": [(path, node.missing, told(node.dependants), told(node.bound)) for path, node in nodes.items()],
        "keys": [(node.priority, node.weight, node.order) for node in nodes.values()],
        "names": {name: providers(found) for name, found in graph.scopes.providers.items()},
        "queues": {pool: sorted(entry[2] for entry in queue.entries()) for pool, queue in graph.queues.items()},
        "parked": {
            thing.name: (thing.parked, told(thing.holders))
            for thing in planner._things()
            if thing.parked or thing.holders
        },
        "after": [(node.path, told(found)) for node, found in graph.after.items()],
        "followers": [(node.path, told(found)) for node, found in graph.followers.items()],
        "dormant": told(graph.dormant),
        "junctions": len(graph._junctions),
        "numbers": {base: number for base, number in graph._numbers.items() if number > 1},
        "counts": (graph.count, planner.unfinished, planner.running, planner._holds, planner._draining),
        "unfreed": sorted(told(planner._unfreed)),
        "services": (
            [(told([item]), told(users)) for item, users in planner._services.users.items()],
            [(told([item]), count) for item, count in planner._services.open.items()],
            told(planner._services.up),
            told(planner._services.due),
            sorted(told(planner._services.revived)),
            [(path, node.short, node.near) for path, node in nodes.items()],
        ),
        "deadlocks": (
            graph.deadlocks._is_on,
            told(graph.deadlocks._services),
            [(one.path, told(waits)) for one, waits in graph.deadlocks._waits.items()],
            [(told(edge[:3]), edge[3]) for edge in graph.deadlocks._edges],
            sorted(told(one for one, found in graph.deadlocks._above.items() if found)),
            sorted(told(graph.deadlocks._seen)),
            sorted(
                (key[0].path, key[1].name, found[0], found[1].path) for key, found in graph.deadlocks._largest.items()
            ),
        ),
        "groups": (
            [
                (crowd.name, repr(crowd.turn), crowd.last and crowd.last.path, told(crowd.rest))
                for crowd in planner._groups.crowds.values()
            ],
            [
                (node.path, repr(turn), turn.missing, turn.left, turn.priority, told(turn.outside))
                for node, turn in planner._groups.turns.items()
            ],
            len(planner._groups.ready),
            repr(planner._groups.current),
            planner._groups.phase,
        ),
        "later": told(planner._later.nodes),
        "barrier": planner._barrier and planner._barrier.path,
        "fallen": [one.task.path for one in planner.fallen],
    }


def told(nodes: Any) -> list[str]:
    return [node.path if isinstance(node, Node) else repr(node) for node in nodes or ()]


def providers(found: Any) -> Any:
    """Return who provides a name, also as seen from each folder."""
    if not isinstance(found, Several):
        return found.path
    return told(found.found), {folder: told(inside) for folder, inside in found.index().items()}
