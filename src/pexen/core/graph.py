"""Admission: from tasks to nodes with bound requirements, all or nothing.

A batch is admitted in passes over lists, without recursion: enter paths and provided names; bind each requirement to its
nearest providers; work out locks and resources; check for cycles; weigh. Nodes of the batch are worked on in place,
everything older is only touched at the very end, so an error in between is undone by forgetting the batch.

*Cycles.* A new task may depend on old ones but never the reverse (names bind once and for good), so only the batch is
checked. If every provider was added before its dependants, order of addition is itself the proof that there is no cycle;
only otherwise is Kahn's algorithm run. *Weights*: the longest remaining path in seconds (``estimate``, else what is
known of earlier runs, else 1), one pass in reverse topological order over the batch.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pexen.core.deadlock import Deadlocks, no_gate
from pexen.core.locks import IS, IX, SIX, Lock, Resource, S, Thing, World, X
from pexen.core.node import FINAL, Junction, Node, State, tell
from pexen.core.ready import ReadyQueue
from pexen.errors import DefinitionError, nearest
from pexen.model.call import EXECUTE, PLAIN, call_of
from pexen.model.command import Command
from pexen.model.meta import AllOf, AnyOf, Named, TreeLock
from pexen.model.scope import Scopes, suggestions
from pexen.model.task import Task, default_name, provided
from pexen.model.task import shown as shown

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from pexen.core.groups import Crowd, Groups, Plan
    from pexen.model.meta import Name

Needs = tuple[tuple[Thing, float], ...]
DEFAULT_POOL = "default"


class Graph:
    """All nodes of a run, and the things they lock."""

    def __init__(
        self, resources: Mapping[str, float | Sequence[str]] | None = None, pools: Iterable[str] = (DEFAULT_POOL,)
    ) -> None:
        self.scopes: Scopes[Node] = Scopes()
        self.nodes = self.scopes.items
        self.queues = {pool: ReadyQueue() for pool in pools}
        self.world = World()
        self.resources = {name: Resource(name, total) for name, total in sorted((resources or {}).items())}  # type: ignore[arg-type]
        self.locks: dict[Name | tuple[str, TreeLock] | Crowd, Lock] = {}
        self.followers: dict[Node, list[Node]] = {}
        self.after: dict[Node, tuple[Node, ...]] = {}
        self.dormant: dict[Node, None] = {}
        self.expansions: dict[Node, Junction] = {}
        """For each task that makes others, what its dependants require: itself and all it has made."""
        self.groups: Groups | None = None
        """The planner's, where there are any."""
        self.has_services = False
        self.deadlocks = Deadlocks()
        self._needs: dict[Any, Needs] = {}
        self._junctions: dict[Any, Junction] = {}
        self._numbers: dict[str, int] = {}
        self._count = 0

    def admit(
        self,
        tasks: Iterable[Task],
        durations: Callable[[str], float | None] | None,
        maker: Callable[[str], str | None] | None = None,
    ) -> Batch:
        """Return the batch of nodes for the tasks; on an error nothing has changed.

        A ``maker`` tells who has made the task at a path: the dependants of one with ``expand`` wait for that as well.
        """
        batch = Batch(self, durations)
        try:
            batch.enter(tasks)
            if batch.expanding:
                batch.make_expansions()
            batch.bind()
            if batch.members:
                batch.put_in_order(maker)
            batch.order()
            if self.groups is not None:
                batch.plan_turns(self.groups)
            if maker is not None:
                batch.join_expansions(maker)
            if batch.has_services or self.has_services:
                batch.refuse_deadlocks()  # the last that may refuse anything: only by itself is it undone
        except BaseException:
            batch.undo()
            raise
        batch.commit()
        self._count += len(batch.nodes)
        return batch

    @property
    def count(self) -> int:
        """How many tasks were ever admitted: the next order of addition."""
        return self._count

    def order_of(self, crowd: Crowd) -> Lock:
        """Return the lock that lets the members of an ordered group run one by one."""
        lock = self.locks.get(crowd)
        if lock is None:
            lock = self.locks[crowd] = Lock(f"group {crowd.name}")
        return lock

    def grow(self, junction: Junction, nodes: list[Node]) -> None:
        """Let an expansion wait for these as well. Not for services, which are there for whoever requires them."""
        made = [self.expansions.get(node, node) for node in nodes if not node.near]
        junction.grown += made
        if junction.state is State.BLOCKED:
            for item in made:
                if item.state in _PENDING:
                    junction.missing += 1
                    tell(item, junction)

    def free_path(self, task: Task, before: list[tuple[str, int]]) -> str:
        """Return a path from the callable's name, numbered where it repeats; note in ``before`` how to undo that."""
        base = default_name(task.callable)
        path, number = base, self._numbers.get(base, 1)
        before.append((base, number))
        while path in self.nodes:
            number += 1
            path = f"{base}#{number}"
        self._numbers[base] = number
        return path

    def needs_of(self, task: Task) -> Needs | None:
        """Return what the task takes when it starts; None for nothing."""
        meta = task.meta
        if not ("claims" in meta or "uses" in meta or "resources" in meta or "alone" in meta or "once" in meta):
            return None
        key: Any = (meta.get("claims"), meta.get("uses"), meta.get("alone"))
        amounts = meta.get("resources")
        if amounts:
            key = (*key, tuple(amounts.items()))
        known = self._needs.get(key)
        if known is None:
            known = self._needs[key] = self._work_out(task)
        return known if known or task.once else None

    def _work_out(self, task: Task) -> Needs:
        meta = task.meta
        wanted: dict[Thing, float] = {}
        for lock in meta.get("uses") or ():
            self._want(wanted, lock, S, IS)
        for lock in meta.get("claims") or ():
            self._want(wanted, lock, X, IX)
        for name, amount in (meta.get("resources") or {}).items():
            wanted[self._resource(task, name, amount)] = amount
        if meta.get("alone"):
            wanted[self.world] = X
        return tuple(wanted.items())

    def _want(self, wanted: dict[Thing, float], name: Name | TreeLock, mode: int, intention: int) -> None:
        """Add a lock in a mode, and the intention on everything above it; the stronger of two modes counts."""
        if isinstance(name, TreeLock):
            for depth in range(len(name.parts)):
                self._strengthen(wanted, self._lock(("tree", TreeLock(name.parts[:depth]))), intention)
            self._strengthen(wanted, self._lock(("tree", name)), mode)
        else:
            self._strengthen(wanted, self._lock(name), mode)

    @staticmethod
    def _strengthen(wanted: dict[Thing, float], lock: Lock, mode: int) -> None:
        before = wanted.get(lock)
        if before is not None and {before, mode} == {IX, S}:
            mode = SIX  # the only pair of which neither covers the other
        wanted[lock] = mode if before is None else max(before, mode)

    def _lock(self, name: Name | tuple[str, TreeLock]) -> Lock:
        lock = self.locks.get(name)
        if lock is None:
            shown = str(name[1]) if isinstance(name, tuple) and isinstance(name[-1], TreeLock) else str(name)
            lock = self.locks[name] = Lock(shown)
        return lock

    def _resource(self, task: Task, name: str, amount: float) -> Resource:
        resource = self.resources.get(name)
        if resource is None:
            raise DefinitionError(
                f"{task.path} needs the resource {name!r}, which this run does not have",
                hint=nearest(name, self.resources) or f"Sched(resources={{{name!r}: …}})",
            )
        if amount > resource.total:
            raise DefinitionError(
                f"{task.path} needs {amount:g} of {name!r}, and the run has only {resource.total:g}",
                hint="it could never start",
            )
        if resource.names and amount != int(amount):
            raise DefinitionError(f"{task.path} needs {amount:g} of {name!r}, which comes in named units")
        return resource


class Batch:
    """Tasks on their way into a graph."""

    __slots__ = (
        "_durations", "_edges", "_forward", "_junction_keys", "_named", "_numbers", "after", "doomed", "dormant", "expanding",
        "first", "graph", "has_services", "junctions", "last", "made", "members", "nodes", "plan", "topological",
    )  # fmt: skip

    def __init__(self, graph: Graph, durations: Callable[[str], float | None] | None) -> None:
        self.graph = graph
        self.first = graph.count
        self.nodes: list[Node] = []
        self.junctions: list[Junction] = []
        self.doomed: list[tuple[Node | Junction, Node | Junction]] = []
        self.dormant: list[Node] = []
        self._durations = durations
        self._named: list[Task] = []
        self._numbers: list[tuple[str, int]] = []
        self._junction_keys: list[Hashable] = []
        self._edges: list[tuple[Node | Junction, Node | Junction]] = []
        self.after: dict[Node, tuple[Node, ...]] = {}
        self._forward = True
        self.has_services = False
        self.topological: Sequence[Node | Junction] = ()
        self.members: dict[Node, Crowd] = {}
        self.last: dict[Crowd, Node] = {}
        self.plan: Plan | None = None
        self.expanding: list[Node] = []
        self.made: dict[Junction, list[Node]] = {}

    # -- enter ----------------------------------------------------------------------------------------------------

    def enter(self, tasks: Iterable[Task]) -> None:
        """Make the nodes; enter their paths and what they provide."""
        graph, nodes, order = self.graph, self.nodes, self.first
        items, provide, default = graph.nodes, graph.scopes.provide, graph.queues[DEFAULT_POOL]
        for task in tasks:
            path = task.path
            if path is None:
                path = task.path = graph.free_path(task, self._numbers)
                self._named.append(task)
            elif path in items:
                raise DefinitionError(
                    f"two tasks have the path {path!r}", hint="a path is unique in a run; give one of them path='…'"
                )
            node = items[path] = Node(task, order, default)
            order += 1
            nodes.append(node)
            for name in task.provides:
                provide(name, node)
            what = task.callable
            if hasattr(what, "__pexen__"):
                provide(id(what), node)
            elif what.__class__ is Command:
                node.needs = ()  # never ahead of time: a command takes a place of its own
            if task.meta:
                self._look_at(node, task)

    def _look_at(self, node: Node, task: Task) -> None:
        """Take over the metadata that planning needs."""
        graph, meta = self.graph, task.meta
        node.priority = meta.get("priority") or 0
        group = meta.get("group")
        if group is not None:
            self._look_at_member(node, group)
        estimate = meta.get("estimate")
        if estimate is not None:
            node.weight = estimate
        pool = meta.get("pool")
        if pool is not None and group is None:
            queue = graph.queues.get(pool)
            if queue is None:
                raise DefinitionError(
                    f"{task.path}: there is no pool {pool!r}",
                    hint=nearest(pool, graph.queues) or f"Sched(pools={{{pool!r}: …}})",
                )
            node.queue = queue
        needs = graph.needs_of(task)
        if needs is not None:
            node.needs = needs
        if task.expand:
            self.expanding.append(node)
        if task.is_service:
            self._look_at_service(node, task)
        elif meta.get("lazy"):
            node.missing += 1
            self.dormant.append(node)

    def _look_at_member(self, node: Node, group: str) -> None:
        """Let a task wait for the turn of its group. Its pool is the group's."""
        groups = self.graph.groups
        if groups is None:
            raise DefinitionError(
                f"{node.path}: there is no group {group!r}", hint=f"Sched(groups=[pexen.Group({group!r})])"
            )
        crowd = groups.find(group, node.path)
        self.members[node] = crowd
        node.queue = crowd.queue
        node.missing += 1

    def _look_at_service(self, node: Node, task: Task) -> None:
        if task.meta.get("alone"):
            raise DefinitionError(f"{task.path}: a service cannot run alone, since its dependants run beside it")
        if not task.provides:
            for name in provided(task):
                self.graph.scopes.provide(name, node)
        if node.needs is None:
            node.needs = ()  # never ahead of time: it has its worker for itself
        node.near = True
        node.missing += 1
        self.dormant.append(node)
        self.has_services = True

    def make_expansions(self) -> None:
        """Put something in front of each task that makes others, which waits for these as well."""
        for node in self.expanding:
            junction = self._junction(("expansion", id(node)), (node,), node.path, any=False)
            junction.maker = node
            self.graph.expansions[node] = junction

    # -- bind -----------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Bind every requirement to its providers, and decide how each task is called."""
        names, items, first = self.graph.scopes.providers, self.graph.nodes, self.first
        expansions = self.graph.expansions
        plain: Any = None
        for node in self.nodes:
            task = node.task
            if task.requires:
                order, missing, bound = node.order, 0, []
                for item in task.requires:
                    kind = item.__class__
                    provider: Any = items.get(item.path) if kind is Task else names.get(item) if kind is str else None
                    if provider.__class__ is not Node or provider is node or provider in expansions:
                        provider = self._one(node, item)
                        provider = expansions.get(provider, provider)
                    bound.append(provider)
                    at = provider.order
                    if at < first:
                        self._edge_to_old(provider, node)
                        continue
                    missing += 1
                    edges = provider.dependants
                    if edges is None:
                        provider.dependants = [node]
                    else:
                        edges.append(node)
                    if at > order:
                        self._forward = False
                node.bound = tuple(bound)
                node.missing += missing
            if task.meta:
                after = task.meta.get("after")
                if after:
                    self._follow(node, after)
            elif task.callable is plain:
                task.call = PLAIN
                continue
            call = task.call = call_of(task)
            if call is PLAIN:
                plain = task.callable
            elif call is not EXECUTE:
                self._check_values(node)
        for junction in self.junctions:
            self._join(junction)

    def put_in_order(self, maker: Callable[[str], str | None] | None) -> None:
        """Let each member of an ordered group come after the one before; services are up for several of them.

        What a member has made comes after that, and before whoever requires that. No two of all these run at once.
        """
        groups = self.graph.groups
        last: dict[tuple[Crowd, Node | None], Node] = {}
        for node, crowd in self.members.items():
            if crowd.is_ordered and not node.near:
                by = self.graph.nodes.get(maker(node.path) or "") if maker is not None else None
                if by is None or groups is None or not groups.is_member(by, crowd):
                    by = None
                before = last.get((crowd, by), by or crowd.last)
                if before is not None:
                    self.after[node] = tuple(dict.fromkeys((*self.after.get(node, ()), before)))
                last[crowd, by] = node
                node.needs = (*(node.needs or ()), (self.graph.order_of(crowd), X))
                if by is None:
                    self.last[crowd] = node

    def _join(self, junction: Junction) -> None:
        """Connect a new junction to its members."""
        for member in junction.members:
            if member.order < self.first:
                self._edge_to_old(member, junction)
            else:
                junction.missing += 1
                tell(member, junction)

    def _edge_to_old(self, provider: Node | Junction, dependant: Node | Junction) -> None:
        """Let ``dependant`` wait for something older than the batch, or note what has become of it."""
        if provider.state in _PENDING or (
            provider.near and provider.state is State.DONE and provider.__class__ is Node
        ):
            dependant.missing += 1
            self._edges.append((provider, dependant))
        elif provider.state not in _MET:
            self.doomed.append((dependant, provider))

    def _one(self, node: Node, item: Any) -> Node | Junction:
        """Return the provider for one requirement: a node, or a junction where there are several."""
        graph = self.graph
        if type(item) is str and item[0] != "/":
            known = graph.scopes.find(item, node.task.path)  # type: ignore[arg-type]
        else:
            if isinstance(item, Named):
                return self._one(node, item.requirement)
            if isinstance(item, AllOf):
                return self._one(node, item.of)
            if isinstance(item, AnyOf):
                return self._any(node, item)
            known = self._providers(node, item)
        if len(known) == 1:
            found = known[0]
            if found is node:
                raise self._itself(node, item)
            return found
        if not known:
            raise self._unknown(node, item, "requires")
        at = bisect_left(known, node.order, key=_order)
        if at < len(known) and known[at] is node:
            raise self._itself(node, item)
        return self._junction((id(known), len(known)), known, shown(item), any=False)

    def _junction(self, key: Hashable, members: Sequence[Node | Junction], told: str, *, any: bool) -> Junction:  # noqa: A002
        """Return the junction for these members, made once: it keeps alive what the key has the id of."""
        made = self.graph._junctions  # noqa: SLF001 - a batch is the graph's other half
        known = made.get(key)
        if known is None:
            if self.graph.expansions:
                members = [self.graph.expansions.get(one, one) for one in members]  # type: ignore[arg-type]
            known = made[key] = Junction(members, any=any, told=told)
            self._junction_keys.append(key)
            self.junctions.append(known)
        return known

    def _providers(self, node: Node, item: Any) -> Sequence[Node]:
        """Return the providers for a name, a path, a task or a function."""
        scopes, path = self.graph.scopes, node.task.path or ""
        if isinstance(item, Task):
            found = scopes.items.get(item.path) if item.path else None
            if found is None:
                raise DefinitionError(
                    f"{path} requires the task {item.name}, which is not part of the run",
                    hint="add both, in one call or before",
                )
            return (found,)
        if isinstance(item, str) and item.startswith("/"):
            return scopes.at(item[1:])
        if isinstance(item, str | tuple):
            return scopes.find(item, path)
        return scopes.find(id(item), path)

    def _any(self, node: Node, item: AnyOf) -> Junction:
        """Return a junction met by the first success; one name means its providers."""
        members: list[Node | Junction] = [self._one(node, part) for part in item.alternatives]
        only = members[0] if len(members) == 1 and not isinstance(item.alternatives[0], AllOf) else None
        if isinstance(only, Junction) and not only.any:
            return self._junction(("one of", id(only)), only.members, shown(item), any=True)
        return self._junction(("any", *map(id, members)), members, shown(item), any=True)

    def _follow(self, node: Node, after: tuple[Any, ...]) -> None:
        """Let a node wait for the final status of others."""
        found: dict[Node, None] = {}
        for item in after:
            inner = item.requirement if isinstance(item, Named) else item.of if isinstance(item, AllOf) else item
            parts = inner.alternatives if isinstance(inner, AnyOf) else (inner,)
            for part in parts:
                known = self._providers(node, part)
                if not known:
                    raise self._unknown(node, part, "after")
                found.update(dict.fromkeys(known))
        if node in found:
            raise self._itself(node, after[0])
        self.after[node] = tuple(found)
        self._forward = self._forward and all(provider.order < node.order for provider in found)

    def _check_values(self, node: Node) -> None:
        """Refuse several providers for one parameter, except with all_of."""
        for index in node.task.call.wants:
            item = node.task.requires[index]
            inner = item.requirement if isinstance(item, Named) else item
            provider = node.bound[index]
            if isinstance(provider, Junction) and provider.several and not isinstance(inner, AllOf):
                if provider.maker is not None:
                    continue
                paths = list(dict.fromkeys(one.path for one in provider.nodes()))
                raise DefinitionError(
                    f"{node.path}: the parameter for {shown(item)} has {len(paths)} providers",
                    facts=[("for example", ", ".join(paths[:3]))],
                    hint=f"require all_of({shown(inner)}) to get the list of their values",
                )

    def _itself(self, node: Node, item: Any) -> DefinitionError:
        return DefinitionError(f"{node.path} requires itself, through {shown(item)}")

    def _unknown(self, node: Node, item: Any, how: str) -> DefinitionError:
        is_path = isinstance(item, str) and item.startswith("/")
        text = item if isinstance(item, str) else shown(item)
        hint = nearest(text, suggestions(self.graph.scopes, is_path))
        if not is_path and not hint and isinstance(item, str) and item in self.graph.nodes:
            hint = f"{item!r} is the path of a task; to require a task by its path write '/{item}'"
        what = "there is no such path" if is_path else "nobody provides it"
        return DefinitionError(f"{node.path} {how} {shown(item)}, but {what}", hint=hint)

    # -- order ----------------------------------------------------------------------------------------------------

    def order(self) -> None:
        """Check for cycles and give every node its weight."""
        topological: Sequence[Node | Junction] = self.nodes
        if not self._forward:
            topological = self._kahn()
        elif self.junctions:
            topological = sorted((*self.nodes, *self.junctions), key=lambda item: item.order)
        durations = self._durations
        if durations is not None:
            for node in self.nodes:
                if node.task.meta.get("estimate") is None:
                    known = durations(node.path)
                    node.weight = 1 if known is None else known
        self.topological = topological
        if len(self.nodes) > 1 or self.junctions:
            self._weigh(topological)

    def plan_turns(self, groups: Groups) -> None:
        """Plan the turns of groups."""
        self.plan = groups.plan(self)
        self.plan.last = self.last

    def refuse_deadlocks(self) -> None:
        """Refuse services that could wait for each other for ever."""
        groups = self.graph.groups
        gate, regated = groups.gates(self.plan) if groups is not None and self.plan is not None else (no_gate, ())
        self.graph.deadlocks.admit(self.topological, self.after, gate, regated)

    def join_expansions(self, maker: Callable[[str], str | None]) -> None:
        """Let who requires a task that makes others wait for what it has made now; it must not wait for them."""
        graph = self.graph
        for node in self.nodes:
            by = graph.nodes.get(maker(node.path) or "")
            if by in graph.expansions:
                self.made.setdefault(graph.expansions[by], []).append(node)
        for junction, nodes in self.made.items():
            self._refuse_round(junction, nodes)

    def _refuse_round(self, junction: Junction, nodes: list[Node]) -> None:
        groups, made = self.graph.groups, self.made
        gate, _ = groups.gates(self.plan) if groups and self.plan else (no_gate, ())
        seen: set[Node | Junction] = set()
        stack: list[Node | Junction] = list(nodes)
        while stack:
            item = stack.pop()
            if item is junction:
                raise DefinitionError(
                    f"what {junction.told} makes would wait for itself",
                    facts=[("made", ", ".join(node.path for node in nodes[:5]))],
                    hint=f"it must not require what requires {junction.told}",
                )
            if item not in seen and item.state not in FINAL:
                seen.add(item)
                if isinstance(item, Junction):
                    stack += (*item.members, *item.grown, *made.get(item, ()))
                else:
                    stack += (*item.bound, *gate(item), *(self.after.get(item) or self.graph.after.get(item, ())))

    def _weigh(self, topological: Sequence[Node | Junction]) -> None:
        """Add to each node's own weight the greatest of its dependants."""
        first, after = self.first, self.after
        behind: list[float] = [0] * len(self.nodes)
        for node in reversed(topological):
            if node.__class__ is Node:
                weight = node.weight = node.weight + behind[node.order - first]
                providers: Iterable[Node | Junction] = node.bound
                if after and node in after:
                    providers = (*providers, *after[node])
            else:
                weight, providers = node.weight, node.members  # type: ignore[union-attr]
            for provider in providers:
                at = provider.order - first
                if at >= 0:
                    if provider.__class__ is Node:
                        if behind[at] < weight:  # type: ignore[index]
                            behind[at] = weight  # type: ignore[index]
                    elif provider.weight < weight:
                        provider.weight = weight

    def _kahn(self) -> list[Node | Junction]:
        """Return a topological order of the batch; raise `DefinitionError` that spells a cycle out."""
        first = self.first
        fresh = set(self.junctions)
        waiting: dict[Node | Junction, int] = {}
        behind: dict[Node | Junction, list[Node | Junction]] = {}
        every: list[Node | Junction] = [*self.nodes, *self.junctions]
        for item in every:
            count = 0
            for provider in self._before(item):
                if provider in fresh or (provider.__class__ is Node and provider.order >= first):
                    behind.setdefault(provider, []).append(item)
                    count += 1
            waiting[item] = count
        found = [item for item in every if not waiting[item]]
        for item in found:  # the list grows while it is walked
            for dependant in behind.get(item, ()):
                waiting[dependant] -= 1
                if not waiting[dependant]:
                    found.append(dependant)
        if len(found) < len(every):
            raise self._cycle({item for item in every if waiting[item]})
        return found

    def _before(self, item: Node | Junction) -> Iterable[Node | Junction]:
        if isinstance(item, Junction):
            return item.members
        return (*item.bound, *self.after.get(item, ())) if self.after else item.bound

    def _cycle(self, left: set[Node | Junction]) -> DefinitionError:
        """Walk backwards inside what is left until a task comes round again."""
        item: Node | Junction = min((one for one in left if isinstance(one, Node)), key=lambda one: one.order)
        seen: dict[Node | Junction, int] = {}
        walk: list[Node | Junction] = []
        while item not in seen:
            seen[item] = len(walk)
            walk.append(item)
            item = next(provider for provider in self._before(item) if provider in left)
        round_trip = [one for one in walk[seen[item] :] if isinstance(one, Node)]
        lines = [
            (one.path, f"waits for {round_trip[(index + 1) % len(round_trip)].path}")
            for index, one in enumerate(round_trip)
        ]
        return DefinitionError(f"a cycle of {len(round_trip)} tasks: none of them could ever start", facts=lines)

    # -- commit or undo -------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make the batch part of the graph; cannot fail."""
        graph = self.graph
        for provider, dependant in self._edges:
            tell(provider, dependant)
        for node, providers in self.after.items():
            for provider in providers:
                if provider.state not in FINAL:
                    node.missing += 1
                    graph.followers.setdefault(provider, []).append(node)
        if self.after:
            graph.after.update(self.after)
        if self.dormant:
            graph.dormant.update(dict.fromkeys(self.dormant))
        if self.plan is not None and graph.groups is not None:
            graph.groups.commit(self.plan)
        graph.has_services = graph.has_services or self.has_services
        for junction, nodes in self.made.items():
            graph.grow(junction, nodes)

    def undo(self) -> None:
        """Forget everything the batch has entered."""
        graph = self.graph
        names: list[Any] = [name for node in self.nodes for name in provided(node.task)]
        graph.scopes.forget(self.nodes, [*names, *(id(node.task.callable) for node in self.nodes)])
        for key in self._junction_keys:
            graph._junctions.pop(key, None)  # noqa: SLF001 - a batch is the graph's other half
        for base, number in reversed(self._numbers):
            graph._numbers[base] = number  # noqa: SLF001
        for task in self._named:
            task.path = None
        for node in self.expanding:
            graph.expansions.pop(node, None)


_order = attrgetter("order")  # lists of providers are sorted by it
_PENDING = frozenset({State.BLOCKED, State.READY, State.RUNNING, State.LEAVING})
_MET = frozenset({State.UP, State.DONE})
