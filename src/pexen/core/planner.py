"""The planner: a pure state machine that says what may start next.

It is told what happened (`finish`, `free`, `requeue`, `again`) and asked what may start (`next`); it never waits, reads
no clock and starts nothing. Same tasks and same order of verbs give the same answers under any hash seed. Every verb
costs O(log n) amortised for each task and edge it touches. None of it is thread safe: whoever owns the planner serialises.

*Invariants*, which `check` asserts: a task is in exactly one state; BLOCKED means ``missing > 0``; READY means it is in
its pool's ready queue, or parked on exactly one thing, or has ended an attempt and waits for `free` or `again`; a thing
is held only by tasks that were started and not yet freed; ``unfinished`` counts the tasks that are not final. Every task
that was added leaves the planner exactly once: through `finish`, or in the list of the `Fallen`.

Modelled after CPython's ``graphlib.TopologicalSorter`` (few verbs), h11 (the transition table, in `pexen.core.node`) and
ninja's Plan (critical path weights, four endings of a run).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pexen.core.graph import DEFAULT_POOL, Graph, shown
from pexen.core.groups import Groups, Phase, Turn
from pexen.core.locks import Later, Lock, Resource, S, Thing, X
from pexen.core.node import FINAL, UNSTARTED, Junction, Node, State, Waiting
from pexen.core.services import Services, is_met
from pexen.errors import InternalError

if TYPE_CHECKING:
    from pexen.core.explain import Explanation
    from pexen.core.graph import Batch
    from pexen.core.ready import Entry, ReadyQueue
    from pexen.model.task import Task

BLOCKED, READY, RUNNING, UP, DONE = State.BLOCKED, State.READY, State.RUNNING, State.UP, State.DONE
LEAVING = State.LEAVING


@dataclass(frozen=True, slots=True)
class Fallen:
    """A task that left the planner without being run, and why."""

    task: Task
    cancelled: bool
    reason: str


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
        self._later = Later()
        self._durations = durations
        self.fallen: list[Fallen] = []
        self.replaced: list[str] = []  # which fallbacks were woken, in words, until somebody takes them out
        self._barrier: Node | None = None
        self._unfreed: set[Node] = set()
        self._waited = 0
        self._draining = False
        self._spares_cleanups = True
        self._reasons: dict[Node | Junction, str] = {}
        self._holds = 0
        self.unfinished = 0
        self.running = 0
        self._services = Services(self)
        self._groups = Groups(self)
        self._relied_on, self._turns = self._services.open, self._groups.turns
        """Their own, here at hand: empty in runs that have none."""

    # -- the verbs ------------------------------------------------------------------------------------------------

    def add(self, tasks: Iterable[Task], maker: Callable[[str], str | None] | None = None) -> list[Fallen]:
        """Admit tasks, before or during the run; return those among them that can never run.

        A ``maker`` tells by path who has made a task: the dependants of one with ``expand`` wait for what it makes as well.
        Raises `DefinitionError` for anything wrong with any of them, and then nothing has changed.
        """
        batch = self._graph.admit(tasks, self._durations, maker)
        self.unfinished += len(batch.nodes)
        services = self._services
        if batch.has_services or services.users:
            services.admit(batch)
        nodes = batch.nodes
        if len(nodes) > 1:
            self._make_all_ready(nodes)
        elif nodes and not nodes[0].missing:  # what adding on the fly mostly is
            node = nodes[0]
            node.state = READY
            node.queue.push((node.priority, -node.weight, node.order, node))
        if batch.junctions or batch.doomed:
            self._settle(batch)
        if self._draining:
            self._cancel(batch.nodes, "the run is ending", spare_cleanups=self._spares_cleanups)
        if self._graph.dormant:
            self._demand_for(batch.nodes)
            for junction in filter(self._is_awaited, batch.made):
                junction.wanted = False
                self._demand(junction)
        if services.users:
            self._call_for(batch.nodes)
        return self.take_fallen() if self.fallen else []

    def _make_all_ready(self, nodes: list[Node]) -> None:
        """Let those of a batch be ready that miss nothing."""
        fresh: dict[int, list[Entry]] = {}
        for node in nodes:
            if not node.missing:
                node.state = READY
                entries = fresh.get(id(node.queue))
                if entries is None:
                    entries = fresh[id(node.queue)] = []
                entries.append((node.priority, -node.weight, node.order, node))
        if fresh:
            for queue in self._queues.values():
                queue.extend(fresh.get(id(queue), []))

    def _call_for(self, nodes: Iterable[Node]) -> None:
        """Call the services that are all that these lack; give up those that cannot be revived."""
        services = self._services
        while services.hopeless:
            node, culprit = services.hopeless.pop()
            if node in services.revived:
                self._fall(node, self._reasons[culprit])
        for node in nodes:
            if node.short and node not in self._graph.dormant:
                services.look(node)

    def add_group(self, name: str, *, is_ordered: bool = False) -> str:
        """Make a group, and return the name of its pool; raises `DefinitionError` when there is one of that name."""
        crowd = self._groups.add(name, is_ordered=is_ordered)
        self._graph.groups = self._groups
        self._queues[crowd.pool] = crowd.queue
        return crowd.pool

    def group_step(self) -> tuple[str, str] | None:
        """Return "open" or "close" and the name of a group's pool, when that is to be done with it now; each once.

        To be asked whenever something has changed; `opened` and `closed` say that it was done.
        """
        return self._groups.step() if self._groups.crowds else None

    def opened(self) -> None:
        """Note that the pool of the group is open whose turn it is: its members may start."""
        self._groups.opened()

    def closed(self) -> None:
        """Note that the pool of the group is closed whose turn it was: others may start."""
        self._groups.closed()

    def next(self, pool: str = DEFAULT_POOL, *, ahead: bool = False) -> Task | None:
        """Return the best task that may start now in ``pool``, its locks and resources taken; or None.

        ``ahead`` is for an attempt that a pool only keeps in reserve: a task that takes anything, or is to run at most
        once, is not handed out for that. Tasks found to be unable to run any more are put among the fallen.
        """
        queue = self._queues[pool]
        turn = self._groups.current
        if turn is not None and queue is not turn.crowd.queue:
            return self._next_service(queue)
        run, heap = queue.run, queue.heap
        world = self._world
        while run or heap:
            node = run[0][3] if run and not (heap and heap[0] < run[0]) else heap[0][3]
            needs = node.needs
            if node.state is not READY or (node.waiting is not None and node.waiting.thing is not None):
                queue.pop()  # cancelled, or parked, since it came here
                continue
            if world.mask or (world.barrier is not None and node is not world.barrier):
                awaited = None if ahead else self._awaited(queue)
                if awaited is None:
                    return None
                if self._take(awaited, awaited.needs or ()):
                    return awaited.task
                continue
            if needs is None:
                if heap:
                    queue.pop()
                else:
                    run.popleft()
                node.state = RUNNING
                self.running += 1
                world.running += 1
                if world.lines:
                    self._raise_barrier(world.overtaken(node, S))
                return node.task
            if ahead:
                return None
            queue.pop()
            if self._take(node, needs):
                return node.task
            if len(needs) == 1 and run and run[0][3].needs is needs:
                self._park_twins(node, needs[0], queue)
        if self._graph.dormant and self.running <= len(self._services.up) and self._give_up_sleepers():
            return self.next(pool, ahead=ahead)
        return None

    def _next_service(self, queue: ReadyQueue) -> Task | None:
        """Return a service that members of the group need whose turn it is."""
        may_start, unfreed = self._groups.may_start, self._unfreed
        ready = [
            entry for entry in queue.entries() if entry[3].near and may_start(entry[3]) and entry[3] not in unfreed
        ]
        for *_, node in sorted(ready):
            if _is_offered(node):
                queue.remove(node)
                if self._take(node, node.needs or ()):
                    return node.task
        return None

    def _is_ready_by(self, priority: float) -> bool:
        """Tell whether a task outside of groups is ready that has this priority, or a better one, or a service starts."""
        if self._services.is_starting():
            return True  # it would be torn down before those can start that it is started for
        for queue in self._queues.values():
            while (entry := queue.first()) is not None and not _is_offered(entry[3]):
                queue.pop()
            if entry is not None and entry[0] <= priority:
                return True
        parked = [queue for thing in self._things() if thing.parked for queue in thing.waiting.values()]
        return any(entry[0] <= priority and entry[3].state is READY for queue in parked for entry in queue.entries())

    def _look(self, node: Node) -> None:
        """Look at a blocked task that may lack nothing any more, or nothing but services."""
        if node.state is BLOCKED and node.missing == node.short:
            if node.short:
                self._services.look(node)
            else:
                self._make_ready(node)

    def provide(self, task: Task) -> None:
        """Note that a running service is up: its dependants may start."""
        node = self._expect(task, RUNNING, "provide")
        node.state = UP
        self._world.running -= 1
        if self._world.parked:
            self._world.offer()
        self._services.came_up(node)
        self._succeed(node)
        for user in self._services.waiting_users(node):
            if user in self._unfreed:
                user.queue.remove(user)  # `free` puts it back

    def next_to_leave(self, *, everybody: bool = False) -> Task | None:
        """Return a service that is to be torn down now, once; its end is told by `finish`, or by `restart`.

        With ``everybody`` also those leave that are needed; without, nobody does while somebody holds the run.
        """
        services = self._services
        if not services.up or (self._holds and not everybody):
            return None
        node = services.next_to_leave(everybody=everybody)
        return None if node is None else node.task

    def went_down(self, task: Task) -> None:
        """Note that a service that was up has died, before its end is told: nobody starts who needs it."""
        self._go_down(self._expect(task, UP, "went_down"))

    def _go_down(self, node: Node) -> None:
        node.state = LEAVING
        self._services.died(node)

    def may_start_again(self, task: Task) -> bool:
        """Tell whether nothing that a running task requires is lost for good, as a service that has died may be."""
        return not self._services.users or self._services.lost(self._nodes[task.path]) is None  # type: ignore[index]

    def is_wanted(self, task: Task) -> bool:
        """Tell whether tasks are left that need a service."""
        return self._services.is_wanted(self._nodes[task.path])  # type: ignore[index]

    def is_needed_but_by(self, task: Task, paths: Collection[str | None]) -> bool:
        """Tell whether a service is needed by somebody who is not at one of these paths."""
        return self._services.is_needed_but_by(self._nodes[task.path], paths)  # type: ignore[index]

    def running_users(self, task: Task) -> list[Task]:
        """Return the tasks that run and rely on a service."""
        return [node.task for node in self._services.running_users(self._nodes[task.path])]  # type: ignore[index]

    def restart(self, task: Task, *, free: bool = True) -> None:
        """Let a service that was up start anew when somebody needs it: it has died, or was torn down meanwhile."""
        node = self._nodes[task.path]  # type: ignore[index]
        services = self._services
        if node.state is UP:
            self._go_down(node)
        elif node.state is not LEAVING:
            raise InternalError(f"restart: {node.path} is {node.state.name}")
        services.ended(node)
        self._world.running += 1  # it has counted as running nothing while it was up
        self._put_back(node, free=free, later=False)
        if node.state in UNSTARTED:
            self._put_to_sleep(node)
            services.wake_for_users(node)

    def finish(
        self, task: Task, *, success: bool = True, status: str = "failed", free: bool = False
    ) -> Sequence[Fallen]:
        """Note that a running task has ended; return the tasks that can now never run, with reasons.

        ``success`` says whether what requires it may run; ``status`` is the word for it in the reasons; ``free`` does in
        the same step what the verb `free` does.
        """
        node = self._nodes[task.path]  # type: ignore[index]
        if node.state is not RUNNING:
            if node.state is not UP and node.state is not LEAVING:
                raise InternalError(f"finish: {node.path} is {node.state.name}")
            return self._finish_service(node, success, status, free)
        self.running -= 1
        self.unfinished -= 1
        if success:
            node.state = DONE
            if node.dependants is not None:
                self._succeed(node)
        else:
            node.state = State.FAILED
            reason = self._reasons[node] = f"{node.path} {status}"
            self._doom([(node, reason)])
        if self._graph.followers:
            self._let_followers(node)
        if self._relied_on:
            self._services.ended(node)
        if self._turns:
            self._groups.ended(node)
        if node.needs is None:
            self._world.running -= 1
            if self._world.parked:
                self._world.offer()
        elif free:
            self._release(node)
        return self.take_fallen() if self.fallen else ()

    def _finish_service(self, node: Node, success: bool, status: str, free: bool) -> Sequence[Fallen]:
        """Note the end of a service that was up: who needs it and has not started waits no more, but falls."""
        services = self._services
        if node.state is UP:
            self._go_down(node)
        is_lost = not success or services.is_wanted(node)
        self.running -= 1
        self.unfinished -= 1
        self._world.running += 1
        node.state = DONE if success else State.FAILED
        if is_lost:
            reason = self._reasons[node] = f"{node.path} {status}"
            self._doom([(node, reason)])
        if self._graph.followers:
            self._let_followers(node)
        services.ended(node)
        if self._groups.turns:
            self._groups.ended(node)
        if free:
            self._release(node)
        return self.take_fallen() if self.fallen else ()

    def recall(self, ended: Iterable[tuple[Task, bool, str]]) -> list[Fallen]:
        """Let tasks leave that have ended before this run: each with its ``success`` and ``status``, as for `finish`.

        They must not have been handed out, and take nothing. Those among them that require one another stay what they are;
        the others that can now never run are returned.
        """
        nodes = []
        for task, success, status in ended:
            node = self._nodes[task.path]  # type: ignore[index]
            if node.state in UNSTARTED:
                self._leave(node, DONE if success else State.FAILED)
                nodes.append((node, success, status))
        for node, success, status in nodes:
            if not success:
                reason = self._reasons[node] = f"{node.path} {status}"
                self._doom([(node, reason)])
            elif node.dependants is not None:
                self._succeed(node)
            if self._graph.followers:
                self._let_followers(node)
            if self._services.open:
                self._services.ended(node)
            if self._groups.turns:
                self._groups.ended(node)
        return self.take_fallen()

    def free(self, task: Task) -> None:
        """Note that the process tree of an attempt that has ended is proven gone: release what it held."""
        node = self._nodes[task.path]  # type: ignore[index]
        if node.state in _ACTIVE or node not in self._unfreed:
            return
        self._release(node)
        if node.state is READY and not self._later.is_parked(node):
            node.queue.push(node.key())

    def requeue(self, task: Task, *, free: bool = True, later: bool = False) -> None:
        """Put a running task back to ready, for another attempt; what it held is released.

        With ``free=False`` processes of the last attempt may still live: it keeps all it holds, and starts again only
        after the verb `free`. With ``later`` it starts again only after the verb `again`; with both, after both.
        """
        self._put_back(self._expect(task, RUNNING, "requeue"), free=free, later=later)

    def _put_back(self, node: Node, *, free: bool, later: bool) -> None:
        self.running -= 1
        node.state = READY
        if node.needs is None:
            free = True
            self._world.running -= 1
            if self._world.parked:
                self._world.offer()
        elif free:
            self._release(node)
        if later:
            self._later.park(node)
        if self._draining and not (self._spares_cleanups and node.task.cleanup):
            self._cancel([node], "the run is ending")
            return
        if self._services.users and node.bound and self._is_put_off(node):
            return
        if free and not later:
            node.queue.push(node.key())

    def _is_put_off(self, node: Node) -> bool:
        """Tell whether a task that is to start anew lacks services that it had; if it can have them no more, it falls."""
        culprit = self._services.lost(node)
        if culprit is not None:
            self._fall(node, self._reasons[culprit])
            return True
        return self._services.unmet_again(node)

    def again(self, task: Task) -> bool:
        """Let a task that was requeued for ``later`` be offered; for one that does not wait for that, do nothing: False."""
        node = self._nodes[task.path]  # type: ignore[index]
        if not self._later.is_parked(node):
            return False
        self._later.unpark(node)
        node.waiting = None
        if node not in self._unfreed and node.state is READY:
            node.queue.push(node.key())
        return True

    def hold(self) -> None:
        """Somebody may still add tasks: the run is not over before `release`."""
        self._holds += 1

    def release(self) -> None:
        """Undo one `hold`."""
        if not self._holds:
            raise InternalError("release: nobody holds the run")
        self._holds -= 1

    def isolate(self, task: Task) -> None:
        """Let a task that has not been offered yet run alone, whatever its metadata says."""
        node = self._nodes[task.path]  # type: ignore[index]
        if node.state not in UNSTARTED or node.waiting is not None:
            raise InternalError(f"isolate: {node.path} is {node.state.name}")
        node.needs = (*(one for one in node.needs or () if one[0] is not self._world), (self._world, X))

    def cancel(self, tasks: Iterable[Task], reason: str = "cancelled") -> list[Fallen]:
        """Take out those of the tasks that have not started, and what requires them; return all of these."""
        self._cancel([self._nodes[task.path] for task in tasks], reason)  # type: ignore[index]
        return self.take_fallen()

    def drain(self, reason: str = "the run was stopped", *, cleanups: bool = True) -> list[Fallen]:
        """Start nothing more but clean-ups (or nothing at all); return the tasks that fall for it."""
        self._draining = True
        self._spares_cleanups = self._spares_cleanups and cleanups
        self._cancel(self._nodes.values(), reason, spare_cleanups=self._spares_cleanups)
        return self.take_fallen()

    def poison(self, task: Task) -> list[Fallen]:
        """Mark everything the task claimed as not sane: whoever needs it is skipped. Call before `free`."""
        node = self._nodes[task.path]  # type: ignore[index]
        for thing, _ in node.needs or ():
            if isinstance(thing, Lock) and thing is not self._world and node in thing.holders:
                thing.poison(node)
                parked = [entry[3] for queue in thing.waiting.values() for entry in queue.entries()]
                for waiter in (*parked, *self._later.nodes):
                    want = dict(waiter.needs or ()).get(thing)
                    if want is not None and (thing.is_parked(waiter) or self._later.is_parked(waiter)):
                        culprit = thing.culprit(want)
                        if culprit is not None:
                            self._fall(waiter, _poisoned(thing, culprit))
        return self.take_fallen()

    def explain(self, task: Task) -> Explanation:
        """Return why the task is not running, or where it stands."""
        from pexen.core.explain import explained

        return explained(self, self._nodes[task.path])  # type: ignore[index]

    # -- questions ------------------------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """Tell whether every task has left and nobody holds the run; lazy tasks nobody wanted leave here."""
        if self.unfinished and not self.running and not self._holds and self.unfinished == len(self._graph.dormant):
            for node in list(self._graph.dormant):
                if node.state is BLOCKED:  # else it fell with one that it requires
                    self._fall(node, NOT_NEEDED_SERVICE if node.near else NOT_NEEDED)
        return not self.unfinished and not self._holds and self._groups.current is None

    def is_stuck(self, *, asked: bool = False) -> bool:
        """Tell whether nothing runs and nothing can be started although tasks are left: a bug of ours.

        ``asked`` tells that `next` has just said no for every pool, so what is in the ready queues counts for nothing.
        """
        if self.is_over() or self.running > len(self._services.up) or self._holds or self.fallen or self._later.parked:
            return False
        if self._services.due or self._groups.phase in _BUSY or any(node.state is not UP for node in self._unfreed):
            return False
        return asked or not self._has_queued()

    def is_waiting(self) -> bool:
        """Tell whether nothing will start before `again`, if `next` has just said no for every pool.

        So no attempt runs (services that are up count for nothing: what keeps them up is among what waits), and no ready
        task waits for the processes of one that has ended. Whoever holds the run may still add tasks.
        """
        if not self._later.parked or self.running > len(self._services.up) or self._services.due or self.fallen:
            return False
        if all(node.state is UP for node in self._unfreed):
            return True
        return not any(node.state is READY and not self._later.is_parked(node) for node in self._nodes.values())

    @property
    def is_draining(self) -> bool:
        """Whether nothing starts any more but clean-ups."""
        return self._draining

    @property
    def waiting_to_be_tried(self) -> int:
        """How many tasks wait for `again`."""
        return self._later.parked

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

    def running_tasks(self) -> list[Task]:
        """Return every task that was handed out and has not ended, in order of addition."""
        return [node.task for node in self._nodes.values() if node.state is RUNNING]

    def is_final(self, task: Task) -> bool:
        """Tell whether a task has left."""
        return self._nodes[task.path].state in FINAL  # type: ignore[index]

    def providers(self, task: Task, index: int) -> list[Task]:
        """Return the tasks that met requirement number ``index``, in tree order."""
        bound = self._nodes[task.path].bound[index]  # type: ignore[index]
        return [node.task for node in self._behind(bound)]

    def made(self, task: Task) -> list[Task]:
        """Return the tasks that one with ``expand`` has made, in order."""
        grown = self._graph.expansions[self._nodes[task.path]].grown  # type: ignore[index]
        return [(one if isinstance(one, Node) else one.maker).task for one in grown]  # type: ignore[union-attr]

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
        return [(shown(item), [one.task for one in members_of(bound)]) for item, bound in pairs]

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
        if node.near:
            for dependant in dependants:
                dependant.short -= 1
        for dependant in dependants:
            dependant.missing -= 1
            if dependant.__class__ is Junction:
                if dependant.state is BLOCKED and (dependant.any or not dependant.missing):
                    dependant.state = DONE
                    if dependant.any:
                        dependant.chosen = node
                    self._succeed(dependant)  # as deep as junctions nest, which is as deep as any_of() is written
                elif dependant.short:
                    self._services.look(dependant)
            elif dependant.missing == dependant.short and dependant.state is BLOCKED:
                if dependant.short:
                    self._services.look(dependant)
                    continue
                dependant.state = READY
                dependant.queue.push((dependant.priority, -dependant.weight, dependant.order, dependant))  # type: ignore[arg-type, union-attr]

    def _doom(self, stack: list[tuple[Node | Junction, str]]) -> None:
        """Skip everything that requires what is on the stack, naming the culprit. The turn of a group only waits for news."""
        while stack:
            node, reason = stack.pop()
            dependants, node.dependants = node.dependants, None
            for dependant in dependants or ():
                dependant.short -= node.near
                self._fail_one(dependant, reason, stack)

    def _fail_one(self, dependant: Node | Junction, reason: str, stack: list[tuple[Node | Junction, str]]) -> None:
        if isinstance(dependant, Node):
            if dependant.__class__ is Turn:
                dependant.missing -= 1
                self._look(dependant)
            elif dependant.state is BLOCKED:
                self._fall(dependant, reason, stack=stack)
            return
        dependant.missing -= 1
        if dependant.state is not BLOCKED:
            return
        if dependant.any and dependant.missing:
            if dependant.wanted and self._graph.dormant:
                woken = self._preferred(dependant)
                if not any(one.near for one in woken):
                    self.note_replaced(dependant, woken, reason)
                self._demand(*woken)
            if dependant.short:
                self._services.failed(dependant, reason)
            return
        dependant.state = State.FAILED
        if dependant.any:
            reason = f"none is left of {dependant.told}: {reason}"
        self._reasons[dependant] = reason
        stack.append((dependant, reason))

    def note_replaced(self, junction: Junction, woken: Sequence[Node | Junction], reason: str) -> None:
        """Note that others are started instead of one that has failed."""
        if woken:
            names = ", ".join(node.path for one in woken for node in members_of(one))
            self.replaced.append(f"{reason}: {names} is started instead, for {junction.told}")

    def _fall(
        self,
        node: Node,
        reason: str,
        *,
        cancelled: bool = False,
        stack: list[tuple[Node | Junction, str]] | None = None,
    ) -> None:
        """Let an unstarted task leave, and what requires it."""
        if node in self._services.revived:  # it has a result of its life before this one
            self._services.revived.discard(node)
            self._leave(node, DONE)
        else:
            self._leave(node, State.CANCELLED if cancelled else State.SKIPPED)
            self.fallen.append(Fallen(node.task, cancelled, reason))
        mine = [] if stack is None else stack
        if cancelled:
            reason = f"{node.path} was cancelled"
        self._reasons[node] = reason
        mine.append((node, reason))
        if stack is None:
            self._doom(mine)
        if self._graph.followers:
            self._let_followers(node)
        if self._relied_on:
            self._services.ended(node)
        if self._turns:
            self._groups.ended(node)

    def _make_ready(self, node: Node) -> None:
        node.state = READY
        if node not in self._unfreed:
            node.queue.push(node.key())

    def _make_blocked(self, node: Node) -> None:
        """Take a ready task out of wherever it waits to start: it lacks something again."""
        waiting = node.waiting
        if waiting is None:
            node.queue.remove(node)
        else:
            if self._later.is_parked(node):
                self._later.unpark(node)
            elif waiting.thing is not None:
                waiting.thing.unpark(node)
            else:
                node.queue.remove(node)
            self._no_longer_waits(node, waiting)
        node.state = BLOCKED

    def _put_to_sleep(self, node: Node) -> None:
        """Let a service that nobody needs any more sleep until it is called again."""
        if node.state is READY:
            self._make_blocked(node)
        node.missing += 1
        self._graph.dormant[node] = None

    def _leave(self, node: Node, state: State) -> None:
        """Take an unstarted task out of wherever it waits."""
        waiting = node.waiting
        if waiting is not None:
            if waiting.thing is not None:
                waiting.thing.unpark(node)
            self._no_longer_waits(node, waiting)
        node.state = state
        self.unfinished -= 1
        self._graph.dormant.pop(node, None)

    def _let_followers(self, node: Node) -> None:
        for follower in self._graph.followers.pop(node, ()):
            follower.missing -= 1
            self._look(follower)

    def _settle(self, batch: Batch) -> None:
        """Deal with requirements that were decided before the batch was added."""
        for junction in batch.junctions:
            if junction.any:
                junction.chosen = next((one for one in junction.members if is_met(one)), None)
            elif junction.missing or any(one.state in _LOST for one in junction.members):
                continue
            if junction.state is BLOCKED and (junction.chosen is not None or not junction.any):
                junction.state = DONE
                self._succeed(junction)
        for dependant, culprit in batch.doomed:
            reason = self._reasons[culprit]
            stack: list[tuple[Node | Junction, str]] = []
            if isinstance(dependant, Junction):
                dependant.missing += 1
                self._fail_one(dependant, reason, stack)
            elif dependant.state in UNSTARTED:  # if it is in the ready queue already, its state takes it out
                self._fall(dependant, reason, stack=stack)
            self._doom(stack)

    def _cancel(self, nodes: Iterable[Node], reason: str, *, spare_cleanups: bool = False) -> None:
        """Take unstarted tasks out: first all of them, so that none is said to be skipped for another."""
        stack: list[tuple[Node | Junction, str]] = []
        for node in list(nodes):
            if node.state in UNSTARTED and not (spare_cleanups and node.task.meta and node.task.cleanup):
                self._fall(node, reason, cancelled=True, stack=stack)
        self._doom(stack)

    # -- lazy providers -------------------------------------------------------------------------------------------

    def _demand_for(self, nodes: Iterable[Node]) -> None:
        dormant = self._graph.dormant
        for node in nodes:
            if node.bound and node.state is BLOCKED and node not in dormant:
                self._demand(*node.bound)

    def _demand(self, *items: Node | Junction) -> None:
        """Wake lazy providers: all that are needed, or of an ``any`` the preferred one when nobody is awake.

        Not services, which are called when they are all that somebody lacks.
        """
        dormant = self._graph.dormant
        stack = list(reversed(items))
        while stack and dormant:
            item = stack.pop()
            if isinstance(item, Junction):
                if item.state is BLOCKED and not item.wanted:
                    item.wanted = True
                    stack.extend(self._preferred(item) if item.any else reversed([*item.members, *item.grown]))
            elif item in dormant and not item.near:
                del dormant[item]
                item.missing -= 1
                if self._groups.turns:
                    self._groups.woken(item)
                if item.state is BLOCKED:
                    if item.short:
                        self._services.look(item)
                    elif not item.missing:
                        self._make_ready(item)
                stack.extend(reversed(item.bound))

    def _is_awaited(self, junction: Junction) -> bool:
        """Tell whether somebody awake waits for what a task with ``expand`` makes."""
        stack: list[Node | Junction] = [junction]
        for item in stack:  # the list grows while it is walked
            if isinstance(item, Junction):
                stack += item.dependants or ()
            elif item.state is BLOCKED and item not in self._graph.dormant:
                return True
        return False

    def _preferred(self, junction: Junction) -> list[Node | Junction]:
        """Return the member of an ``any`` to wake, if there is none that may succeed without."""
        left = [one for one in junction.members if one.state in _OPEN]
        if left and all(self._sleeps(one) for one in left):
            return [max(left, key=lambda one: max(node.task.preference for node in members_of(one)))]
        return []

    def _sleeps(self, item: Node | Junction) -> bool:
        """Tell whether an open requirement can only be met when somebody is woken."""
        if isinstance(item, Node):
            return item in self._graph.dormant
        asleep = (self._sleeps(one) for one in item.members if one.state in _OPEN)
        return all(asleep) if item.any else any(asleep)

    def _give_up_sleepers(self) -> bool:
        """Let lazy tasks leave that others only wait for the end of (``after``), when nothing else can happen."""
        if self._holds or self._later.parked or self._services.due or self._has_queued():
            return False
        if self._groups.phase not in {None, Phase.OPEN}:
            return False
        if any(node.state is not UP for node in self._unfreed):
            return False
        dormant, followers = self._graph.dormant, self._graph.followers
        found = [
            node
            for node in dormant
            if any(one.state is BLOCKED and one not in dormant for one in followers.get(node, ()))
        ]
        for node in found:
            if node in dormant:
                self._fall(node, NOT_NEEDED_SERVICE if node.near else NOT_NEEDED)
        return bool(found)

    def _has_queued(self) -> bool:
        may_start = self._groups.may_start
        queues = self._queues.values()
        return any(entry[3].state is READY and may_start(entry[3]) for queue in queues for entry in queue.entries())

    # -- locks and resources --------------------------------------------------------------------------------------

    def _take(self, node: Node, needs: tuple[tuple[Thing, float], ...]) -> bool:
        """Take all a node needs, or park it on the first thing it lacks."""
        for thing, want in needs:
            if thing.poisoned is not None:
                culprit = thing.culprit(want)
                if culprit is not None:
                    self._fall(node, _poisoned(thing, culprit))
                    return False
            if not thing.admits(node, want):
                self._park(node, thing, want)
                return False
        late = self._overtaken(node, needs) if self._waited else None
        world = self._world
        world.running += 1
        for thing, want in needs:
            thing.take(node, want)
            if thing is world:
                world.running -= 1
        node.state = RUNNING
        self.running += 1
        self._unfreed.add(node)
        if node.waiting is not None:
            node.waiting = None
            if self._barrier is node:
                self._lift_barrier(node)
        if late is not None:
            self._raise_barrier(late)
        for thing, _ in needs:
            if thing.parked and thing.is_open():
                thing.offer(node.queue)
        return True

    def _overtaken(self, node: Node, needs: tuple[tuple[Thing, float], ...]) -> Node | None:
        """Count the start of a node that is about to take these; return who was overtaken too often."""
        late: Node | None = None
        world = self._world
        if world.lines and not any(thing is world for thing, _ in needs):
            late = world.overtaken(node, S)
        for thing, want in needs:
            if thing.lines:
                other = thing.overtaken(node, want)
                if other is not None and (late is None or other.waiting.first < late.waiting.first):  # type: ignore[union-attr]
                    late = other
        return late

    def _awaited(self, queue: ReadyQueue) -> Node | None:
        """Return the task for which the run is kept free, if it waits in this pool's queue."""
        node = self._world.barrier
        if node is None or self._world.mask or node.queue is not queue:
            return None
        return node if node.waiting is not None and node.waiting.thing is None else None

    def _park(self, node: Node, thing: Thing, want: float) -> None:
        waiting = node.waiting
        if waiting is None:
            self._waited += 1
            waiting = node.waiting = Waiting(self._waited, thing, want)
            thing.park(node, want)
            for wanted, amount in node.needs or ():
                wanted.line_up(node, waiting, amount)
            return
        waiting.thing, waiting.want = thing, want
        offered, waiting.offered = waiting.offered, None
        thing.park(node, want)
        if offered is not None and offered.parked:
            offered.offer(node.queue)

    def _park_twins(self, node: Node, need: tuple[Thing, float], queue: ReadyQueue) -> None:
        """Park those that stand next in the ready queue and need just what ``node`` has been refused.

        Nothing can have changed for them; twenty thousand tasks with one lock would otherwise be asked one by one.
        """
        thing, want = need
        waiting = node.waiting
        if waiting is None or waiting.thing is not thing or waiting.first != self._waited or thing.barrier is not None:
            return
        run, heap, needs, count = queue.run, queue.heap, node.needs, self._waited
        twins: list[Entry] = []
        while run and not (heap and heap[0] < run[0]):
            twin = run[0][3]
            if twin.needs is not needs or twin.waiting is not None or twin.state is not READY:
                break
            count += 1
            twin.waiting = Waiting(count, thing, want)
            twins.append(run.popleft())
        self._waited = count
        thing.park_all(twins, want, queue)

    def _release(self, node: Node) -> None:
        """Give back what a node holds, and offer it on."""
        self._unfreed.discard(node)
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

    def _raise_barrier(self, late: Node | None) -> None:
        """Let one that was overtaken too often be the next that gets what it needs; one at a time."""
        if late is None or self._barrier is not None or not self._groups.may_start(late):
            return
        self._barrier = self._world.kept = late
        for wanted, amount in late.needs or ():
            wanted.barrier, wanted.barrier_want = late, amount
        if late.waiting is not None and late.waiting.thing is not None:
            late.waiting.thing.offer()  # it may be free, and offered to somebody who has to stand back now

    def _lift_barrier(self, node: Node) -> None:
        world = self._world
        self._barrier = world.kept = None
        for thing, _ in node.needs or ():
            thing.barrier = None
        for thing, _ in (*(node.needs or ()), (world, S)):
            if thing.parked:
                thing.offer()

    def _no_longer_waits(self, node: Node, waiting: Waiting) -> None:
        """Clean up after a waiting task that leaves unstarted."""
        node.waiting = None
        if self._barrier is node:
            self._lift_barrier(node)
        if waiting.offered is not None and waiting.offered.parked:
            waiting.offered.offer()

    # -- checks ----------------------------------------------------------------------------------------

    def _behind(self, bound: Node | Junction) -> list[Node]:
        """Return the tasks that met a requirement: the chosen one of an ``any``, else all, in tree order."""
        if isinstance(bound, Node):
            return [bound]
        if bound.maker is not None:
            return [bound.maker]
        if bound.any:
            return [] if bound.chosen is None else self._behind(bound.chosen)
        return self._graph.scopes.in_tree_order(bound.nodes())

    def check(self) -> None:
        """Assert every invariant (see `pexen.core.invariants`); O(n), for tests."""
        from pexen.core.invariants import check

        check(self)

    def _things(self) -> list[Thing]:
        return [self._world, *self._graph.locks.values(), *self._graph.resources.values()]

    def _expect(self, task: Task, state: State, verb: str) -> Node:
        node = self._nodes[task.path]  # type: ignore[index]
        if node.state is not state:
            raise InternalError(f"{verb}: {node.path} is {node.state.name}, not {state.name}")
        return node


def _poisoned(thing: Thing, culprit: Node) -> str:
    return f"{thing.name!r} is not sane any more: {culprit.path} left it so"


NOT_NEEDED = "nothing needed it (lazy)"
NOT_NEEDED_SERVICE = "nothing needed it"
MET = frozenset({UP, DONE})
_LOST = frozenset({State.FAILED, State.SKIPPED, State.CANCELLED})
_OPEN = frozenset({BLOCKED, READY, RUNNING, LEAVING})
_BUSY = frozenset({Phase.OPENING, Phase.CLOSING})
_ACTIVE = frozenset({RUNNING, UP, LEAVING})


def _is_offered(node: Node) -> bool:
    """Tell whether an entry in a ready queue counts: its task was neither cancelled nor parked since."""
    return node.state is READY and (node.waiting is None or node.waiting.thing is None)


def members_of(bound: Node | Junction) -> list[Node]:
    """Return the tasks that a requirement is bound to."""
    return [bound] if isinstance(bound, Node) else bound.nodes()
