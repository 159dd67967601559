"""The planner: a pure state machine that says what may start next.

It is told what happened (`finish`, `free`, `requeue`) and asked what may start (`next`); it never waits, reads no clock
and starts nothing. Same tasks and same order of verbs give the same answers under any hash seed. Every verb costs
O(log n) amortised for each task and edge it touches. None of it is thread safe: whoever owns the planner serialises.

*Invariants*, which `check` asserts: a task is in exactly one state; BLOCKED means ``missing > 0``; READY means it is in
its pool's ready queue or parked on exactly one thing; a thing is held only by tasks that were started and not yet freed;
``unfinished`` counts the tasks that are not final. Every task that was added leaves the planner exactly once: through
`finish`, or in the list of the `Fallen`.

Modelled after CPython's ``graphlib.TopologicalSorter`` (few verbs), h11 (the transition table, in `pexen.core.node`) and
ninja's Plan (critical path weights, four endings of a run).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pexen.core.graph import DEFAULT_POOL, Graph, shown
from pexen.core.locks import Lock, Resource, S, Thing, X
from pexen.core.node import FINAL, UNSTARTED, Junction, Node, State, Waiting
from pexen.errors import InternalError

if TYPE_CHECKING:
    from pexen.core.graph import Batch
    from pexen.core.ready import Entry
    from pexen.model.task import Task

BLOCKED, READY, RUNNING, UP, DONE = State.BLOCKED, State.READY, State.RUNNING, State.UP, State.DONE


@dataclass(frozen=True, slots=True)
class Fallen:
    """A task that left the planner without being run, and why."""

    task: Task
    cancelled: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is not running: its state, and what it waits for, one line each."""

    path: str
    state: str
    waits_for: tuple[str, ...]

    def __str__(self) -> str:
        """Return a line for the state and one for each thing it waits for."""
        return "\n".join([f"{self.path}: {self.state}", *(f"  {line}" for line in self.waits_for)])


class Planner:
    """Decides what may start, for the pools named ``pools`` and the amounts or units in ``resources``."""

    def __init__(
        self,
        *,
        resources: Mapping[str, float | Sequence[str]] | None = None,
        pools: Iterable[str] = (DEFAULT_POOL,),
        durations: Callable[[str], float | None] | None = None,
    ) -> None:
        self._graph = Graph(resources, pools)
        self._nodes = self._graph.nodes
        self._queues = self._graph.queues
        self._world = self._graph.world
        self._durations = durations
        self.fallen: list[Fallen] = []
        self._barrier: Node | None = None
        self._unfreed: set[Node] = set()
        self._waited = 0
        self._draining = False
        self._holds = 0
        self.unfinished = 0
        self.running = 0

    # -- the verbs ------------------------------------------------------------------------------------------------

    def add(self, tasks: Iterable[Task]) -> list[Fallen]:
        """Admit tasks, before or during the run; return those among them that can never run.

        Raises `DefinitionError` for anything wrong with any of them, and then nothing has changed.
        """
        batch = self._graph.admit(tasks, self._durations)
        self.unfinished += len(batch.nodes)
        fresh: dict[int, list[Entry]] = {}
        for node in batch.nodes:
            if not node.missing:
                node.state = READY
                entries = fresh.get(id(node.queue))
                if entries is None:
                    entries = fresh[id(node.queue)] = []
                entries.append((node.priority, -node.weight, node.order, node))
        if fresh:
            for queue in self._queues.values():
                queue.extend(fresh.get(id(queue), []))
        self._settle(batch)
        if self._graph.dormant:
            self._demand_for(batch.nodes)
        if self._draining:
            self._cancel(batch.nodes, "the run is ending", spare_cleanups=True)
        return self.take_fallen()

    def next(self, pool: str = DEFAULT_POOL, *, ahead: bool = False) -> Task | None:
        """Return the best task that may start now in ``pool``, its locks and resources taken; or None.

        ``ahead`` is for an attempt that a pool only keeps in reserve: a task that takes anything, or is to run at most
        once, is not handed out for that. Tasks found to be unable to run any more are put among the fallen.
        """
        queue = self._queues[pool]
        run, heap = queue.run, queue.heap
        world = self._world
        while run or heap:
            node = run[0][3] if run and not (heap and heap[0] < run[0]) else heap[0][3]
            needs = node.needs
            if node.state is not READY or (node.waiting is not None and node.waiting.thing is not None):
                queue.pop()  # cancelled, or parked, since it came here
                continue
            if (world.mask or world.barrier is not None) and node is not world.barrier:
                return None
            if needs is None:
                if heap:
                    queue.pop()
                else:
                    run.popleft()
                node.state = RUNNING
                self.running += 1
                world.running += 1
                if world.parked:
                    self._count(world, node, S)
                return node.task
            if ahead:
                return None
            queue.pop()
            if self._take(node, needs):
                return node.task
        return None

    def provide(self, task: Task) -> None:
        """Note that a running service is up: its dependants may start."""
        node = self._expect(task, RUNNING, "provide")
        node.state = UP
        self._succeed(node)

    def finish(self, task: Task, *, success: bool = True, status: str = "failed") -> Sequence[Fallen]:
        """Note that a running task has ended; return the tasks that can now never run, with reasons.

        ``success`` says whether what requires it may run; ``status`` is the word for it in the reasons.
        """
        node = self._nodes[task.path]  # type: ignore[index]
        if node.state is not RUNNING and node.state is not UP:
            raise InternalError(f"finish: {node.path} is {node.state.name}")
        was_up = node.state is UP
        self.running -= 1
        self.unfinished -= 1
        if success:
            node.state = DONE
            if not was_up and node.dependants is not None:
                self._succeed(node)
        else:
            node.state = State.FAILED
            self._doom([(node, f"{node.path} {status}")])
        if self._graph.followers:
            self._let_followers(node)
        if node.needs is None:
            self._world.running -= 1
            if self._world.parked:
                self._world.offer()
        return self.take_fallen() if self.fallen else ()

    def free(self, task: Task) -> None:
        """Note that the task's process tree is proven gone: release what it held."""
        node = self._nodes[task.path]  # type: ignore[index]
        if node.needs is not None and node.state is not READY:
            self._release(node)

    def requeue(self, task: Task) -> None:
        """Put a running task back to ready, for another attempt; what it held is released."""
        node = self._expect(task, RUNNING, "requeue")
        self.running -= 1
        if node.needs is None:
            self._world.running -= 1
        else:
            self._release(node)
        if self._draining and not node.task.cleanup:
            node.state = READY
            self._cancel([node], "the run is ending")
            return
        node.state = READY
        node.queue.push(node.key())
        if self._world.parked:
            self._world.offer()

    def hold(self) -> None:
        """Somebody may still add tasks: the run is not over before `release`."""
        self._holds += 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._holds -= 1

    def cancel(self, tasks: Iterable[Task], reason: str = "cancelled") -> list[Fallen]:
        """Take out those of the tasks that have not started, and what requires them; return all of these."""
        self._cancel([self._nodes[task.path] for task in tasks], reason)  # type: ignore[index]
        return self.take_fallen()

    def drain(self, reason: str = "the run was stopped", *, cleanups: bool = True) -> list[Fallen]:
        """Start nothing more but clean-ups (or nothing at all); return the tasks that fall for it."""
        self._draining = True
        self._cancel(self._nodes.values(), reason, spare_cleanups=cleanups)
        return self.take_fallen()

    def poison(self, task: Task) -> list[Fallen]:
        """Mark everything the task claimed as not sane: whoever needs it is skipped. Call before `free`."""
        node = self._nodes[task.path]  # type: ignore[index]
        for thing, want in node.needs or ():
            if isinstance(thing, Lock) and want == X and thing is not self._world and node in thing.holders:
                thing.poisoned = node
                for queue in thing.waiting.values():
                    for *_, waiter in queue.entries():
                        if thing.is_parked(waiter):
                            self._fall(waiter, self._poisoned(thing))
        return self.take_fallen()

    def explain(self, task: Task) -> Explanation:
        """Return why the task is not running, or where it stands."""
        node = self._nodes[task.path]  # type: ignore[index]
        return Explanation(node.path, node.state.name.lower(), tuple(self._obstacles(node)))

    # -- questions ------------------------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """Tell whether every task has left and nobody holds the run; lazy tasks nobody wanted leave here."""
        if self.unfinished and not self.running and not self._holds and self.unfinished == len(self._graph.dormant):
            for node in list(self._graph.dormant):
                self._fall(node, "nothing needed it (lazy)")
        return not self.unfinished and not self._holds

    def is_stuck(self) -> bool:
        """Tell whether nothing runs and nothing can be started although tasks are left: a bug of ours."""
        if self.is_over() or self.running or self._holds or self.fallen:
            return False
        return not any(entry[3].state is READY for queue in self._queues.values() if (entry := queue.first()))

    def take_fallen(self) -> list[Fallen]:
        """Return the tasks that have fallen since the last time anybody asked, in order."""
        fallen, self.fallen = self.fallen, []
        return fallen

    def state(self, task: Task) -> State:
        """Return the state of a task."""
        return self._nodes[task.path].state  # type: ignore[index]

    def find(self, path: str) -> Task | None:
        """Return the task at a path."""
        node = self._nodes.get(path)
        return None if node is None else node.task

    def tasks(self) -> list[Task]:
        """Return every task, in order of addition."""
        return [node.task for node in self._nodes.values()]

    def is_final(self, task: Task) -> bool:
        """Tell whether a task has left."""
        return self._nodes[task.path].state in FINAL  # type: ignore[index]

    def providers(self, task: Task, index: int) -> list[Task]:
        """Return the tasks that met requirement number ``index``, in tree order."""
        bound = self._nodes[task.path].bound[index]  # type: ignore[index]
        return [node.task for node in self._behind(bound)]

    def all_providers(self, task: Task) -> list[Task]:
        """Return the tasks that met any requirement, in tree order, each once."""
        found: dict[Node, None] = {}
        for bound in self._nodes[task.path].bound:  # type: ignore[index]
            found.update(dict.fromkeys(self._behind(bound)))
        return [node.task for node in self._graph.scopes.in_tree_order(found)]

    def bindings(self, task: Task) -> list[tuple[str, list[Task]]]:
        """Return each requirement as text with the tasks it is bound to."""
        node = self._nodes[task.path]  # type: ignore[index]
        pairs = zip(node.task.requires, node.bound, strict=True)
        return [(shown(item), [one.task for one in _members(bound)]) for item, bound in pairs]

    def followed(self, task: Task) -> list[Task]:
        """Return the tasks whose final status it waits for (``after``)."""
        return [node.task for node in self._graph.after.get(self._nodes[task.path], ())]  # type: ignore[index]

    def units(self, task: Task) -> dict[str, tuple[str, ...]]:
        """Return the named units the running task was given, by resource."""
        node = self._nodes[task.path]  # type: ignore[index]
        return {
            thing.name: thing.given[node]
            for thing, _ in node.needs or ()
            if isinstance(thing, Resource) and node in thing.given
        }

    # -- success and failure spread -------------------------------------------------------------------------------

    def _succeed(self, node: Node | Junction) -> None:
        """Tell the dependants, and theirs where a junction is met by it. No recursion."""
        dependants = node.dependants
        if dependants is None:
            return
        node.dependants = None
        for dependant in dependants:
            dependant.missing -= 1
            if dependant.__class__ is Junction:
                if dependant.state is BLOCKED and (dependant.any or not dependant.missing):
                    dependant.state = DONE
                    if dependant.any:
                        dependant.chosen = node if isinstance(node, Node) else None
                    self._succeed(dependant)  # as deep as junctions nest, which is as deep as any_of() is written
            elif not dependant.missing and dependant.state is BLOCKED:
                dependant.state = READY
                dependant.queue.push((dependant.priority, -dependant.weight, dependant.order, dependant))  # type: ignore[arg-type, union-attr]

    def _doom(self, stack: list[tuple[Node | Junction, str]]) -> None:
        """Skip everything that requires what is on the stack, naming the culprit."""
        while stack:
            node, reason = stack.pop()
            dependants, node.dependants = node.dependants, None
            for dependant in dependants or ():
                self._fail_one(dependant, reason, stack)

    def _fail_one(self, dependant: Node | Junction, reason: str, stack: list[tuple[Node | Junction, str]]) -> None:
        if isinstance(dependant, Node):
            if dependant.state is BLOCKED:
                self._fall(dependant, reason, stack=stack)
            return
        if dependant.state is not BLOCKED:
            return
        dependant.missing -= 1
        if dependant.any and any(member.state in _OPEN for member in dependant.members):
            self._demand(dependant)
            return
        dependant.state = State.FAILED
        stack.append((dependant, reason if not dependant.any else f"none is left of {dependant.told}: {reason}"))

    def _fall(
        self,
        node: Node,
        reason: str,
        *,
        cancelled: bool = False,
        stack: list[tuple[Node | Junction, str]] | None = None,
    ) -> None:
        """Let an unstarted task leave, and what requires it."""
        waiting = node.waiting
        if waiting is not None:
            if waiting.thing is not None:
                waiting.thing.unpark(node)
            self._no_longer_waits(node, waiting)
        node.state = State.CANCELLED if cancelled else State.SKIPPED
        self.unfinished -= 1
        self._graph.dormant.pop(node, None)
        self.fallen.append(Fallen(node.task, cancelled, reason))
        mine = [] if stack is None else stack
        mine.append((node, f"{node.path} was cancelled" if cancelled else reason))
        if stack is None:
            self._doom(mine)
        if self._graph.followers:
            self._let_followers(node)

    def _let_followers(self, node: Node) -> None:
        for follower in self._graph.followers.pop(node, ()):
            follower.missing -= 1
            if not follower.missing and follower.state is BLOCKED:
                follower.state = READY
                follower.queue.push(follower.key())

    def _settle(self, batch: Batch) -> None:
        """Deal with requirements that were decided before the batch was added."""
        for junction in batch.junctions:
            met = any(member.state in _MET for member in junction.members)
            if junction.state is BLOCKED and (met if junction.any else not junction.missing):
                doomed = not junction.any and any(member.state in _LOST for member in junction.members)
                if not doomed:
                    junction.state = DONE
                    if junction.any:
                        junction.chosen = next((one for one in _members(junction) if one.state in _MET), None)
                    self._succeed(junction)
        for dependant, culprit in batch.doomed:
            stack: list[tuple[Node | Junction, str]] = []
            told = culprit.path if isinstance(culprit, Node) else culprit.told
            dependant.missing += isinstance(dependant, Junction)
            if dependant.__class__ is Junction or dependant.state in UNSTARTED:
                if dependant.state is READY:
                    dependant.state = BLOCKED  # it is still in the ready queue, where its state takes it out
                self._fail_one(dependant, f"{told} did not succeed earlier in this run", stack)
                self._doom(stack)

    def _cancel(self, nodes: Iterable[Node], reason: str, *, spare_cleanups: bool = False) -> None:
        for node in list(nodes):
            if node.state in UNSTARTED and not (spare_cleanups and node.task.meta and node.task.cleanup):
                self._fall(node, reason, cancelled=True)

    # -- lazy providers -------------------------------------------------------------------------------------------

    def _demand_for(self, nodes: Iterable[Node]) -> None:
        dormant = self._graph.dormant
        for node in nodes:
            if node.bound and node not in dormant:
                for bound in node.bound:
                    self._demand(bound)

    def _demand(self, item: Node | Junction) -> None:
        """Wake lazy providers: all of them, or the first one that is left of an ``any``."""
        dormant = self._graph.dormant
        stack = [item]
        while stack and dormant:
            item = stack.pop()
            if isinstance(item, Junction):
                if item.any and item.state is BLOCKED:
                    left = [one for one in item.members if one.state in _OPEN]
                    if all(one in dormant for one in left):
                        stack += sorted(left, key=lambda one: -one.task.preference)[:1]  # type: ignore[union-attr]
                elif not item.any:
                    stack += item.members
            elif item in dormant:
                del dormant[item]
                item.missing -= 1
                if not item.missing and item.state is BLOCKED:
                    item.state = READY
                    item.queue.push(item.key())
                stack += item.bound

    # -- locks and resources --------------------------------------------------------------------------------------

    def _take(self, node: Node, needs: tuple[tuple[Thing, float], ...]) -> bool:
        """Take all a node needs, or park it on the first thing it lacks."""
        for thing, want in needs:
            if thing.poisoned is not None:
                self._fall(node, self._poisoned(thing))
                return False
            if not thing.admits(node, want):
                self._park(node, thing, want)
                return False
        world = self._world
        world.running += 1
        for thing, want in needs:
            thing.take(node, want)
            if thing is world:
                world.running -= 1
            if thing.parked:
                self._count(thing, node, want)
        node.state = RUNNING
        self.running += 1
        self._unfreed.add(node)
        if world.parked and node not in world.holders:
            self._count(world, node, S)
        if node.waiting is not None:
            node.waiting = None
            if self._barrier is node:
                self._lift_barrier(node)
        for thing, _ in needs:
            if thing.parked and thing.is_open():
                thing.offer()
        return True

    def _park(self, node: Node, thing: Thing, want: float) -> None:
        waiting = node.waiting
        if waiting is None:
            self._waited += 1
            node.waiting = Waiting(self._waited, thing, want)
            thing.park(node, want)
            return
        waiting.thing, waiting.want, waiting.since = thing, want, thing.grants
        offered, waiting.offered = waiting.offered, None
        thing.park(node, want)
        if offered is not None and offered is not thing:
            offered.offer()

    def _release(self, node: Node) -> None:
        """Give back what a node holds, and offer it on."""
        if node not in self._unfreed:
            return
        self._unfreed.remove(node)
        needs = node.needs or ()
        world = self._world
        if node not in world.holders:
            world.running -= 1
        for thing, _ in needs:
            thing.give(node)
        for thing, _ in needs:
            if thing.parked:
                thing.offer()
        if world.parked:
            world.offer()

    def _count(self, thing: Thing, node: Node, want: float) -> None:
        """Count a grant against who waits for the thing; make a barrier of one that was overtaken too often."""
        late = thing.overtook(node, want)
        if late is None or self._barrier is not None:
            return
        self._barrier = late
        for wanted, amount in late.needs or ():
            wanted.barrier, wanted.barrier_want = late, amount

    def _lift_barrier(self, node: Node) -> None:
        self._barrier = None
        for thing, _ in node.needs or ():
            thing.barrier = None
        for thing, _ in node.needs or ():
            if thing.parked:
                thing.offer()

    def _no_longer_waits(self, node: Node, waiting: Waiting) -> None:
        """Clean up after a waiting task that leaves unstarted."""
        node.waiting = None
        if self._barrier is node:
            self._lift_barrier(node)
        if waiting.offered is not None and waiting.offered.parked:
            waiting.offered.offer()

    @staticmethod
    def _poisoned(thing: Thing) -> str:
        culprit = thing.poisoned
        return f"{thing.name!r} is not sane any more: {culprit.path if culprit else '?'} left it so"

    # -- explain and check ----------------------------------------------------------------------------------------

    def _behind(self, bound: Node | Junction) -> list[Node]:
        """Return the tasks that met a requirement: the chosen one of an ``any``, else all, in tree order."""
        if isinstance(bound, Node):
            return [bound]
        if bound.any:
            met = [member for member in bound.members if member.state in _MET]
            return [bound.chosen] if bound.chosen else self._behind(met[0]) if met else []
        return self._graph.scopes.in_tree_order(bound.nodes())

    def _obstacles(self, node: Node) -> Iterable[str]:
        if node.state is BLOCKED:
            if node in self._graph.dormant:
                yield "it is lazy, and nothing needs it yet"
            for item, bound in zip(node.task.requires, node.bound, strict=True):
                if bound.state not in _MET:
                    open_ones = [one for one in _members(bound) if one.state not in _MET]
                    told = ", ".join(f"{one.path} ({one.state.name.lower()})" for one in open_ones[:5])
                    yield f"requires {shown(item)}: {told}" + (" …" if len(open_ones) > 5 else "")
            for provider in self._graph.after.get(node, ()):
                if provider.state not in FINAL:
                    yield f"runs after {provider.path} ({provider.state.name.lower()})"
        elif node.state is READY:
            yield from self._lacks(node)

    def _lacks(self, node: Node) -> Iterable[str]:
        for thing, want in node.needs or ():
            if thing.admits(node, want):
                continue
            if thing.barrier not in {None, node}:
                yield f"{thing.name!r} is kept for {thing.barrier.path}, which has waited longest"
            holders = ", ".join(holder.path for holder in list(thing.holders)[:5]) or "tasks that run"
            kind = (
                f"resource {thing.name!r} ({want:g} wanted, {thing.free:g} free)"
                if isinstance(thing, Resource)
                else f"lock {thing.name!r}"
            )
            yield f"waits for {kind}, held by {holders}"
        if node.waiting is None or node.waiting.thing is None:
            pool = next(name for name, queue in self._queues.items() if queue is node.queue)
            yield f"ready: the next free worker of pool {pool!r} takes the best of {len(node.queue)}"

    def check(self) -> None:
        """Assert every invariant; O(n), for tests."""
        nodes = list(self._nodes.values())
        _sure(self.unfinished == sum(node.state not in FINAL for node in nodes), "unfinished")
        active = [node for node in nodes if node.state in {RUNNING, UP}]
        _sure(self.running == len(active), "running")
        bare = sum(node.needs is None for node in active)
        _sure(
            self._world.running == bare + sum(self._world not in dict(one.needs or ()) for one in self._unfreed),
            "world",
        )
        in_queue = {id(entry[3]) for queue in self._queues.values() for entry in queue.entries()}
        for node in nodes:
            parked = node.waiting is not None and node.waiting.thing is not None
            _sure(node.missing >= 0, f"{node} misses {node.missing}")
            _sure((node.state is not BLOCKED) or node.missing > 0, f"{node} is blocked by nothing")
            if node.state is READY:
                _sure(not node.missing, f"{node} is ready too early")
                _sure(parked or id(node) in in_queue, f"{node} is lost")
                if parked:
                    thing = node.waiting.thing  # type: ignore[union-attr]
                    mine = [entry[3] for queue in thing.waiting.values() for entry in queue.entries()]  # type: ignore[union-attr]
                    _sure(node in mine, f"{node} is parked nowhere")
            if node.state is not READY:
                _sure(not parked, f"{node} is parked")
        for thing in self._things():
            self._check_thing(thing)
        if self._barrier is not None:
            _sure(self._barrier.state is READY, "the barrier does not wait")

    def _check_thing(self, thing: Thing) -> None:
        for holder in thing.holders:
            _sure(holder.state not in UNSTARTED, f"{thing.name} is held by {holder}")
        parked = {
            id(entry[3]): entry[3]
            for queue in thing.waiting.values()
            for entry in queue.entries()
            if thing.is_parked(entry[3])
        }
        _sure(thing.parked == len(parked), f"{thing.name}: {thing.parked} parked, found {len(parked)}")
        if isinstance(thing, Resource):
            _sure(abs(thing.free + sum(thing.holders.values()) - thing.total) < 1e-6, f"{thing.name}: amounts")
        offered = any(node.waiting is not None and node.waiting.offered is thing for node in self._nodes.values())
        _sure(
            offered or thing.grantable() is None or self._barrier is not None,
            f"{thing.name} is free and nobody was told",
        )

    def _things(self) -> list[Thing]:
        return [self._world, *self._graph.locks.values(), *self._graph.resources.values()]

    def _expect(self, task: Task, state: State, verb: str) -> Node:
        node = self._nodes[task.path]  # type: ignore[index]
        if node.state is not state:
            raise InternalError(f"{verb}: {node.path} is {node.state.name}, not {state.name}")
        return node


_MET = frozenset({UP, DONE})
_LOST = frozenset({State.FAILED, State.SKIPPED, State.CANCELLED})
_OPEN = frozenset({BLOCKED, READY, RUNNING})


def _sure(claim: bool, told: str) -> None:
    """Raise for a broken invariant, also under ``python -O``."""
    if not claim:
        raise InternalError(f"invariant broken: {told}")


def _members(bound: Node | Junction) -> list[Node]:
    return [bound] if isinstance(bound, Node) else bound.nodes()
