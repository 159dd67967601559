"""Groups: sets of tasks that run alone, one set at a time.

A group's members are held back by a *gate*, one more thing that each of them is missing, until it is the group's *turn*::

    waiting ── what its members require outside is decided ──▶ ready ── chosen ──▶ clearing ── nothing else runs ──▶
    opening ── its pool is open ──▶ open ── all members have ended ──▶ closing ── its pool is closed ──▶ over

A turn is a `Node` of its own, that stands among the dependants and followers of what it waits for, and in a queue of ready
turns: the group counts as one node of the graph. It is chosen when no ungrouped task is ready whose priority is as good, and
not all that is left of it sleeps. Then nothing else starts but services that its members need, and those are torn down that
they do not (see `pexen.core.services`).

Who is added while the turn goes on joins it, if what it requires outside is decided; the others have another turn later. So have
sleepers that nobody needed. *No turn waits for itself*: what its members require outside, transitively, must not be one
of them, or wait for one; `plan` looks at everything that is unfinished behind a turn's new requirements.
"""

# ruff: noqa: SLF001 - it is a part of the planner

from __future__ import annotations

from enum import Enum, auto
from itertools import pairwise
from typing import TYPE_CHECKING

from pexen.core.deadlock import no_gate
from pexen.core.node import FINAL, Junction, Node, State, tell
from pexen.core.ready import ReadyQueue
from pexen.errors import DefinitionError, InternalError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pexen.core.graph import Batch
    from pexen.core.planner import Planner

    Item = Node | Junction


class Phase(Enum):
    """Where the turn of a group is that was chosen."""

    CLEARING = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()


class Crowd:
    """A group: where its members queue, and the turn they wait for if they do."""

    __slots__ = ("is_ordered", "last", "name", "pool", "queue", "rest", "turn")

    def __init__(self, name: str, *, is_ordered: bool) -> None:
        self.name = name
        self.pool = f"group {name}"
        self.is_ordered = is_ordered
        self.queue = ReadyQueue()
        self.turn: Turn | None = None
        self.last: Node | None = None
        self.rest: list[Node] = []
        """Sleepers that nobody needed in the turn before."""


class Turn(Node):
    """One time that a group runs.

    ``outside`` is what it waits for, True for those whose end; ``left`` is how many of its members are not final.
    """

    __slots__ = ("crowd", "left", "members", "needed", "outside")

    def __init__(self, crowd: Crowd, order: int, queue: ReadyQueue) -> None:
        super().__init__(None, order, queue)  # type: ignore[arg-type]  # nobody asks a turn for its task
        self.crowd = crowd
        self.members: list[Node] = []
        self.outside: dict[Item, bool] = {}
        self.needed: set[Node] = set()
        self.left = 0
        self.priority = float("inf")

    @property
    def path(self) -> str:
        """What to call it."""
        return f"group {self.crowd.name!r}"

    def __repr__(self) -> str:
        """Show group and state."""
        return f"<Turn {self.crowd.name} {self.state.name}>"


class Plan:
    """What a batch means for the turns: who joins which, and what they wait for; carried out when it is committed."""

    def __init__(self) -> None:
        self.turns: dict[Node, Turn] = {}
        self.fresh: list[Turn] = []
        self.waits: list[tuple[Turn, Item, bool]] = []
        self.last: dict[Crowd, Node] = {}


class Groups:
    """The groups of a planner, and whose turn it is."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self.crowds: dict[str, Crowd] = {}
        self.turns: dict[Node, Turn] = {}
        """Of every member, the turn it is in, or was."""
        self.ready = ReadyQueue()
        self.current: Turn | None = None
        self.phase: Phase | None = None

    def add(self, name: str, *, is_ordered: bool) -> Crowd:
        """Make a group."""
        if name in self.crowds:
            raise DefinitionError(f"two groups are named {name!r}")
        crowd = self.crowds[name] = Crowd(name, is_ordered=is_ordered)
        return crowd

    def find(self, name: str, path: str | None) -> Crowd:
        """Return the group of that name, for the task at a path."""
        crowd = self.crowds.get(name)
        if crowd is None:
            hint = nearest(name, self.crowds) or f"Sched(groups=[pexen.Group({name!r}, …)])"
            raise DefinitionError(f"{path}: there is no group {name!r}", hint=hint)
        return crowd

    # -- admission ------------------------------------------------------------------------------------------------

    def plan(self, batch: Batch) -> Plan:
        """Return what a batch means for the turns; raises `DefinitionError` for groups that would wait for themselves."""
        plan = Plan()
        for item in batch.topological:
            if isinstance(item, Node):
                self._refuse_foreign_services(item, batch)
                if item in batch.members:
                    self._plan_member(item, batch.members[item], batch, plan)
        touched: dict[Turn, list[Item]] = {}
        for turn, item, _ in plan.waits:
            touched.setdefault(turn, []).append(item)
        for turn, items in touched.items():
            self._refuse_cycle(turn, items, batch, plan)
        return plan

    def _plan_member(self, node: Node, crowd: Crowd, batch: Batch, plan: Plan) -> None:
        current = self.current if self.current is not None and self.current.crowd is crowd else None
        if current is not None and self.phase is not Phase.CLOSING and not self._awaited(node, current, batch, plan):
            plan.turns[node] = current
            return
        turn = crowd.turn or next((one for one in plan.fresh if one.crowd is crowd), None)
        if turn is None:
            turn = Turn(crowd, node.order, self.ready)
            plan.fresh.append(turn)
        plan.turns[node] = turn
        waits = [(turn, item, is_after) for item, is_after in self._awaited(node, turn, batch, plan).items()]
        plan.waits += [one for one in waits if one[1] not in turn.outside]

    def _awaited(self, node: Node, turn: Turn, batch: Batch, plan: Plan) -> dict[Item, bool]:
        """Return what has to be decided outside of a turn before a member can run in it; True for those it comes after."""
        found: dict[Item, bool] = {}
        seen: set[Item] = set()
        stack: list[tuple[Item, bool]] = [(one, False) for one in node.bound]
        stack += [(one, True) for one in self._after(node, batch)]
        while stack:
            item, is_after = stack.pop()
            if item in seen:
                continue
            seen.add(item)
            if isinstance(item, Junction):
                leaves = item.nodes()
                kinds = {leaf.near for leaf in leaves}
                if item.any and len(kinds) > 1:
                    raise DefinitionError(
                        f"{node.path} is in a group, and requires {item.told}, of which some are services and some are not"
                    )
                if True in kinds or any(self._is_in(leaf, turn, plan) for leaf in leaves):
                    stack += [(member, False) for member in item.members]
                elif item.state is State.BLOCKED:
                    found[item] = False
            elif self._is_in(item, turn, plan):
                continue
            elif item.near and not is_after:
                stack += [(one, False) for one in item.bound]
                stack += [(one, True) for one in self._after(item, batch)]
            elif item.state not in FINAL:
                found[item] = is_after
        return found

    def _after(self, node: Node, batch: Batch) -> tuple[Node, ...]:
        return batch.after.get(node) or self._planner._graph.after.get(node, ())

    def _is_in(self, node: Node, turn: Turn, plan: Plan) -> bool:
        return (plan.turns.get(node) or self.turns.get(node)) is turn

    def _refuse_foreign_services(self, node: Node, batch: Batch) -> None:
        """Refuse that a task requires a service of a group it is not in: that is down outside of the group's turn."""
        mine = batch.members.get(node)
        for bound in node.bound:
            for leaf in (bound,) if isinstance(bound, Node) else bound.nodes():
                if leaf.near:
                    turn = self.turns.get(leaf)
                    crowd = batch.members.get(leaf) or (turn.crowd if turn else None)
                    if crowd is not None and crowd is not mine:
                        raise DefinitionError(
                            f"{node.path} requires {leaf.path}, which is a service of the group {crowd.name!r}",
                            hint="the services of a group serve only its members",
                        )

    def _refuse_cycle(self, turn: Turn, items: Iterable[Item], batch: Batch, plan: Plan) -> None:
        """Walk back from what a turn waits for, over all that is not final; it must not come to one of its members."""
        came: dict[Item, Item | None] = dict.fromkeys(items)
        stack = list(came)
        while stack:
            item = stack.pop()
            if isinstance(item, Node) and self._is_in(item, turn, plan):
                raise _round(turn, item, came)
            for before in self._before(item, batch, plan):
                if before not in came and before.state not in FINAL:
                    came[before] = item
                    stack.append(before)

    def _before(self, item: Item, batch: Batch, plan: Plan) -> list[Item]:
        if isinstance(item, Junction):
            return list(item.members)
        turn = plan.turns.get(item) or self.turns.get(item)
        gate: list[Item] = []
        if turn is not None and turn is not self.current:
            gate = [*turn.outside, *(one for planned, one, _ in plan.waits if planned is turn)]
        return [*item.bound, *self._after(item, batch), *gate]

    def gates(self, plan: Plan) -> tuple[Callable[[Node], Mapping[Item, bool]], list[Node]]:
        """Return what tells whom a task's group waits for, and the old members of those that will wait for more."""
        more: dict[Turn, dict[Item, bool]] = {}
        for turn, item, is_after in plan.waits:
            more.setdefault(turn, {})[item] = is_after

        def gate(node: Node) -> Mapping[Item, bool]:
            turn = plan.turns.get(node) or self.turns.get(node)
            if turn is None or turn is self.current:
                return no_gate(node)
            return {**turn.outside, **more[turn]} if turn in more else turn.outside

        return gate, [node for turn in more for node in turn.members]

    def commit(self, plan: Plan) -> None:
        """Carry out what was planned; cannot fail."""
        for turn in plan.fresh:
            self._come_back(turn)
        for node, turn in plan.turns.items():
            self._join(node, turn)
            if turn is self.current:
                node.missing -= self.phase is Phase.OPEN
                turn.needed |= self._needed_by([node])
        for turn, item, is_after in plan.waits:
            if item in turn.outside:
                continue
            turn.outside[item] = is_after
            turn.missing += 1
            if is_after and isinstance(item, Node):
                self._planner._graph.followers.setdefault(item, []).append(turn)
            else:
                tell(item, turn)
        self._planner._demand(*(item for _, item, is_after in plan.waits if not is_after))
        for turn in {turn: None for turn in plan.turns.values() if turn is not self.current}:
            self._look(turn)
        for crowd, node in plan.last.items():
            crowd.last = node

    def _come_back(self, turn: Turn) -> None:
        """Make a turn the next one of its group, with those that slept through the one before."""
        crowd = turn.crowd
        crowd.turn = turn
        rest, crowd.rest = crowd.rest, []
        for node in rest:
            if node.state not in FINAL:  # it may have fallen since
                self._join(node, turn)

    def woken(self, node: Node) -> None:
        """Note that somebody needs a member that sleeps: a group that has had its turn has another one."""
        turn = self.turns.get(node)
        if turn is None or turn is self.current:
            return
        if turn.state is State.DONE:
            turn = Turn(turn.crowd, node.order, self.ready)
            self._come_back(turn)
        self._look(turn)

    def _join(self, node: Node, turn: Turn) -> None:
        self.turns[node] = turn
        turn.members.append(node)
        turn.left += 1
        turn.priority = min(turn.priority, node.priority)

    def _look(self, turn: Turn) -> None:
        """Put a turn into the queue when it waits for nothing, and out of it when it does again."""
        if turn.missing:
            turn.state = State.BLOCKED
        else:
            turn.state = State.READY
            self.ready.push(turn.key())

    # -- whose turn it is -----------------------------------------------------------------------------------------

    def step(self) -> tuple[str, str] | None:
        """Return what is to be done now: "open" or "close", and the name of the group's pool; each once."""
        turn = self.current
        if turn is None:
            turn = self._choose()
            if turn is None:
                return None
            self._begin(turn)
        if self.phase is Phase.CLEARING and self._is_empty(turn):  # all of it was cancelled
            self._end(turn)
            return self.step()
        if self.phase is Phase.CLEARING and self._is_clear(turn):
            self.phase = Phase.OPENING
            return "open", turn.crowd.pool
        if self.phase is Phase.OPEN and self._is_empty(turn):
            self.phase = Phase.CLOSING
            return "close", turn.crowd.pool
        return None

    def opened(self) -> None:
        """Note that the group's pool is open: let its members go."""
        turn = self._expect(Phase.OPENING)
        self.phase = Phase.OPEN
        for node in turn.members:
            if node.state not in FINAL:
                node.missing -= 1
                self._planner._look(node)

    def closed(self) -> None:
        """Note that the group's pool is closed: others may go on."""
        self._end(self._expect(Phase.CLOSING))

    def _expect(self, phase: Phase) -> Turn:
        if self.current is None or self.phase is not phase:
            raise InternalError(f"a group is {self.phase}, not {phase}")
        return self.current

    def _choose(self) -> Turn | None:
        while (entry := self.ready.first()) is not None:
            turn = entry[3]
            if isinstance(turn, Turn) and turn.state is State.READY and turn.priority == entry[0]:
                if not self._is_empty(turn):
                    return None if self._planner._is_ready_by(turn.priority) else turn
            self.ready.pop()
        return None

    def _begin(self, turn: Turn) -> None:
        self.ready.pop()
        turn.state = State.RUNNING
        turn.crowd.turn = None
        self.current, self.phase = turn, Phase.CLEARING
        turn.needed = self._needed_by(turn.members)
        planner = self._planner
        planner._services.put_down(but=turn.needed)
        barrier = planner._barrier
        if barrier is not None and self.turns.get(barrier) is not turn:
            planner._lift_barrier(barrier)

    def _end(self, turn: Turn) -> None:
        turn.state = State.DONE
        self._put_aside(turn, gated=self.phase is not Phase.CLEARING)
        self.current = self.phase = None

    def _put_aside(self, turn: Turn, *, gated: bool) -> None:
        """Keep sleepers that nobody has needed for the next turn of the group."""
        for node in turn.members:
            if node.state is State.BLOCKED:
                node.missing += gated
                turn.crowd.rest.append(node)

    def _needed_by(self, nodes: Iterable[Node]) -> set[Node]:
        """Return the services that these require, transitively."""
        found: set[Node] = set()
        seen: set[Item] = set()
        stack: list[Item] = [one for node in nodes if node.state not in FINAL for one in (node, *node.bound)]
        while stack:
            item = stack.pop()
            if item in seen:
                continue
            seen.add(item)
            if isinstance(item, Junction):
                stack += item.members
                continue
            if item.near and item.state not in FINAL:
                found.add(item)
            stack += item.bound
        return found

    def _is_clear(self, turn: Turn) -> bool:
        """Tell whether nothing runs but services that the turn needs."""
        planner = self._planner
        return planner.running == sum(service in turn.needed for service in planner._services.up)

    def _is_empty(self, turn: Turn) -> bool:
        """Tell whether all members have ended but those that sleep."""
        if not turn.left:
            return True
        dormant = self._planner._graph.dormant
        if turn.left > len(dormant):
            return False
        return all(node.state in FINAL or node in dormant for node in turn.members)

    def ended(self, node: Node) -> None:
        """Note that a task is final; a turn that has not come and of which nobody is left never comes. Who sleeps is left."""
        turn = self.turns.get(node)
        if turn is None:
            return
        turn.left -= 1
        if turn is not self.current and turn.state is not State.DONE and not turn.left:
            turn.state = State.DONE
            if turn.crowd.turn is turn:
                turn.crowd.turn = None

    def is_member(self, node: Node, crowd: Crowd) -> bool:
        """Tell whether a task is in a group."""
        turn = self.turns.get(node)
        return turn is not None and turn.crowd is crowd

    def is_gated(self, node: Node) -> bool:
        """Tell whether a task waits for the turn of its group."""
        turn = self.turns.get(node)
        return turn is not None and not (turn is self.current and self.phase in {Phase.OPEN, Phase.CLOSING})

    def may_start(self, node: Node) -> bool:
        """Tell whether a task may start in the turn that goes on: a member, or a service that members need."""
        turn = self.current
        return turn is None or (self.phase is Phase.OPEN and (self.turns.get(node) is turn or node in turn.needed))

    def why(self, node: Node) -> str:
        """Return why the gate of a member is closed, or why somebody else has to wait; empty when neither is so."""
        mine, turn = self.turns.get(node), self.current
        if turn is not None and mine is not turn:
            return f"waits for the group {turn.crowd.name!r}, which runs alone"
        if mine is None or (mine is turn and self.phase is Phase.OPEN):
            return ""
        if mine is turn:
            return f"its group {mine.crowd.name!r} is next, when what runs has ended"
        undecided = [one.path if isinstance(one, Node) else one.told for one in mine.outside if one.state not in FINAL]
        if undecided:
            return f"its group {mine.crowd.name!r} waits for {', '.join(undecided[:5])}" + " …" * (len(undecided) > 5)
        return f"its group {mine.crowd.name!r} waits for tasks of better or equal priority"


def _round(turn: Turn, item: Item, came: dict[Item, Item | None]) -> DefinitionError:
    """Return the error that tells how a turn waits for itself."""
    walk: list[Node] = []
    one: Item | None = item
    while one is not None:
        if isinstance(one, Node):
            walk.append(one)
        one = came[one]
    walk.reverse()
    lines = [(turn.path, f"waits for {walk[0].path}")]
    lines += [(one.path, f"waits for {other.path}") for one, other in pairwise(walk)]
    lines.append((walk[-1].path, f"is in {turn.path}"))
    return DefinitionError(
        f"the {turn.path} would wait for itself", facts=lines, hint="a group runs at once, as if it were one task"
    )
