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
