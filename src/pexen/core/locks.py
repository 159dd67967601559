"""Locks and resources: things of which a task takes what it needs, all at once, when it starts.

*Locks* have five modes after J. Gray, "Granularity of Locks in a Shared Data Base" (1975): a task that claims a place in
a tree takes X there and an intention (IX) on every place above; one that uses it takes S and IS; one that uses a place
and claims another below it, SIX. Plain claims and uses are X and S on a lock without a tree. Whether a mode can be
granted is one ``and`` of two bit masks.

*Resources* are amounts, or named units of which the task is told the ones it got (the first free ones).

A task that is refused is *parked* in the queue of the first thing it lacks. When something of a thing is given back, the
best parked task of each pool that now fits is *offered* it: it goes back to the ready queue, and when it then starts, or
is refused something, the thing is offered to the next. So each release costs O(kinds of want x log waiting), nothing is
rescanned, and no task sleeps while what it lacks is free.

*Fairness.* From its first refusal on, a task stands in a *line* of each thing it needs, with those of equal priority that
want as much of it. A start is an overtake of the first in a line if the two conflict, the one that starts has no better
priority, and it was refused later or never. After `OVERTAKES` of them on one thing the first in line is the *barrier*:
until it has started, nothing that conflicts with it is granted. One barrier at a time, oldest first. Each start costs
O(lines that it may overtake), for each thing it takes.

*What is not pretty.* Costs grow with the kinds of want: where each of thousands of tasks asks for another amount of one
resource, each release looks at all of these amounts. While a task runs ``alone`` nobody is refused for that, so nobody's
overtakes are counted: others stand in the ready queue, by priority and weight.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

from pexen.core.node import Waiting
from pexen.core.ready import ReadyQueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pexen.core.node import Node
    from pexen.core.ready import Entry

OVERTAKES = 64
"""Conflicting starts that a waiting task tolerates."""

IS, IX, S, SIX, X = range(5)
CONFLICTS = (
    1 << X,
    1 << S | 1 << SIX | 1 << X,
    1 << IX | 1 << SIX | 1 << X,
    1 << IX | 1 << S | 1 << SIX | 1 << X,
    1 << IS | 1 << IX | 1 << S | 1 << SIX | 1 << X,
)
"""For each mode the bits of the modes it cannot share the lock with."""


_priority_of = itemgetter(0)


class Line:
    """Those of one priority that want a thing alike, in the order of their first refusals, and who overtook them.

    ``fresh`` counts starts of tasks never refused, which overtake everybody here; ``later`` those of tasks refused later
    than ``first``, since that is the first. An entry has the value of ``fresh`` when the node came; it is dead when the
    node does not wait any more, or waits anew.
    """

    __slots__ = ("first", "fresh", "later", "queue")

    def __init__(self) -> None:
        self.queue: deque[tuple[Node, Waiting, int]] = deque()
        self.fresh = 0
        self.later = 0
        self.first: Waiting | None = None


class Thing:
    """What locks and resources have in common: who waits, and whose turn it is.

    ``waiting`` has a queue for each amount (or mode) and pool, ``lines`` for each amount those of each priority, sorted.
    """

    __slots__ = ("barrier", "barrier_want", "holders", "lines", "name", "parked", "poisoned", "waiting")
    kind: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.holders: dict[Node, float] = {}
        self.waiting: dict[tuple[float, ReadyQueue], ReadyQueue] = {}
        self.parked = 0
        self.lines: dict[float, list[tuple[float, Line]]] = {}
        self.barrier: Node | None = None
        self.barrier_want: float = 0
        self.poisoned: dict[float, Node] | None = None

    def is_open(self) -> bool:
        """Tell whether there is anything left that a parked task could be granted."""
        raise NotImplementedError

    def fits(self, want: float) -> bool:
        """Tell whether this much is free, the barrier aside."""
        raise NotImplementedError

    def conflicts(self, want: float, other: float) -> bool:
        """Tell whether granting ``want`` could delay somebody who waits for ``other``."""
        raise NotImplementedError

    def culprit(self, want: float) -> Node | None:
        """Return who left something insane that a task which wants this much would need."""
        return None

    def take(self, node: Node, want: float) -> None:
        """Grant it; `fits` has said yes."""
        raise NotImplementedError

    def give(self, node: Node) -> None:
        """Take back what the node holds."""
        raise NotImplementedError

    def admits(self, node: Node, want: float) -> bool:
        """Tell whether the node may have this much now."""
        barrier = self.barrier
        if barrier is not None and barrier is not node and self.conflicts(want, self.barrier_want):
            return False
        return self.fits(want)

    def park(self, node: Node, want: float) -> None:
        """Enter a node that waits here."""
        kind = (want, node.queue)
        queue = self.waiting.get(kind)
        if queue is None:
            queue = self.waiting[kind] = ReadyQueue()
        queue.push((node.priority, -node.weight, node.order, node))
        self.parked += 1

    def park_all(self, entries: list[Entry], want: float, pool: ReadyQueue) -> None:
        """Enter nodes that wait here and need nothing else, after one like them has been entered; sorted."""
        if not entries:
            return
        self.waiting[want, pool].extend(entries)
        self.parked += len(entries)
        line, priority = None, 0.0
        for *_, node in entries:
            if line is None or node.priority != priority:
                priority = node.priority
                line = self._line(priority, want)
            line.queue.append((node, node.waiting, line.fresh))  # type: ignore[arg-type]

    def unpark(self, node: Node) -> None:
        """Forget a node that waited here; its entries in the queues are dropped when they come up."""
        waiting = node.waiting
        assert waiting is not None  # noqa: S101 - for the type checker
        waiting.thing = None
        self.parked -= 1

    def is_parked(self, node: Node) -> bool:
        """Tell whether a node waits here."""
        return node.waiting is not None and node.waiting.thing is self

    def offer(self, pool: ReadyQueue | None = None) -> None:
        """Bring the best parked task that now fits back to its ready queue: one for each pool, or for one."""
        barrier = self.barrier
        if barrier is not None and self.is_parked(barrier) and self.fits(self.barrier_want):
            self._hand(barrier.key())  # whoever stands before it in its queue is not admitted
        if self.parked:
            for queue in self.grantable(pool):
                self._hand(queue.pop())

    def grantable(self, pool: ReadyQueue | None = None) -> Iterable[ReadyQueue]:
        """Return queues whose first node could be granted what it wants now: the best for each pool, or for one."""
        best: dict[ReadyQueue, tuple[Entry, ReadyQueue]] = {}
        empty = None
        for kind, queue in self.waiting.items():
            want, home = kind
            if pool is not None and home is not pool:
                continue
            entry = queue.first()
            while entry is not None:
                waiting = entry[3].waiting
                if waiting is not None and waiting.thing is self and waiting.want == want:
                    break
                queue.pop()  # it left, or waits elsewhere
                entry = queue.first()
            if entry is None:
                empty = [*(empty or ()), kind]
            elif not self.admits(entry[3], want):
                continue
            elif len(self.waiting) == 1:
                return (queue,)
            elif home not in best or entry < best[home][0]:
                best[home] = entry, queue
        if empty is not None:
            for kind in empty:
                del self.waiting[kind]
        return [queue for _, queue in best.values()] if best else ()

    def _hand(self, entry: Entry) -> None:
        node = entry[3]
        waiting = node.waiting
        assert waiting is not None  # noqa: S101 - for the type checker
        waiting.thing, waiting.offered = None, self
        self.parked -= 1
        node.queue.push(entry)

    def line_up(self, node: Node, waiting: Waiting, want: float) -> None:
        """Count from now on who overtakes a node here."""
        line = self._line(node.priority, want)
        line.queue.append((node, waiting, line.fresh))

    def _line(self, priority: float, want: float) -> Line:
        lines = self.lines.get(want)
        if lines is None:
            lines = self.lines[want] = []
        at = bisect_left(lines, priority, key=_priority_of)
        if at == len(lines) or lines[at][0] != priority:
            lines.insert(at, (priority, Line()))
        return lines[at][1]

    def overtaken(self, node: Node, want: float) -> Node | None:
        """Count a start that is about to take this much; return who was overtaken too often, the oldest of them."""
        late, mine, is_done = None, node.waiting, False
        for wanted, lines in self.lines.items():
            if not self.conflicts(want, wanted):
                continue
            for priority, line in lines:
                if priority > node.priority:
                    break
                queue = line.queue
                while queue and queue[0][0].waiting is not queue[0][1]:
                    queue.popleft()
                if not queue:
                    is_done = True
                    continue
                first, waiting, since = queue[0]
                if first is node:
                    continue
                if mine is None:
                    line.fresh += 1
                elif mine.first > waiting.first:
                    if line.first is not waiting:
                        line.first, line.later = waiting, 0
                    line.later += 1
                count = line.fresh - since + (line.later if line.first is waiting else 0)
                if count >= OVERTAKES and (late is None or waiting.first < late.waiting.first):  # type: ignore[union-attr]
                    late = first
        if is_done:
            self._forget_lines(node.priority)
        return late

    def _forget_lines(self, priority: float) -> None:
        """Forget the lines up to a priority in which nobody stands."""
        for want, lines in list(self.lines.items()):
            for at in range(bisect_right(lines, priority, key=_priority_of) - 1, -1, -1):
                if not lines[at][1].queue:
                    del lines[at]
            if not lines:
                del self.lines[want]


class Lock(Thing):
    """A lock with the modes `IS`, `IX`, `S`, `SIX`, `X`."""

    __slots__ = ("counts", "mask")
    kind = "lock"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.counts = [0] * len(CONFLICTS)
        self.mask = 0

    def is_open(self) -> bool:
        """Tell whether no one has it alone."""
        return self.mask < 1 << X

    def fits(self, want: float) -> bool:
        """Tell whether no mode is held that conflicts."""
        return not self.mask & CONFLICTS[want]  # type: ignore[call-overload]

    def admits(self, node: Node, want: float) -> bool:
        """Tell whether the node may have the lock in this mode now."""
        if self.mask & CONFLICTS[want]:  # type: ignore[call-overload]
            return False
        return self.barrier is None or self.barrier is node or not self.conflicts(want, self.barrier_want)

    def conflicts(self, want: float, other: float) -> bool:
        """Tell whether the modes exclude each other."""
        return bool(CONFLICTS[other] >> want & 1)  # type: ignore[call-overload, operator]

    def poison(self, node: Node) -> None:
        """Note that what a node claims here, or below, is not sane any more."""
        mode = self.holders[node]
        if mode in {IX, SIX, X}:
            self.poisoned = self.poisoned or {}
            self.poisoned.setdefault(IX if mode == SIX else mode, node)

    def culprit(self, want: float) -> Node | None:
        """Return who left something insane that a task with this mode would need."""
        for mode, node in (self.poisoned or {}).items():
            if self.conflicts(want, mode):
                return node
        return None

    def take(self, node: Node, want: float) -> None:
        """Hold the lock in this mode."""
        self.holders[node] = want
        self.counts[want] += 1  # type: ignore[call-overload]
        self.mask |= 1 << want  # type: ignore[operator]

    def give(self, node: Node) -> None:
        """Let go."""
        mode = self.holders.pop(node)
        self.counts[mode] -= 1  # type: ignore[call-overload]
        if not self.counts[mode]:  # type: ignore[call-overload]
            self.mask &= ~(1 << mode)  # type: ignore[operator]


class Resource(Thing):
    """An amount, or named units."""

    __slots__ = ("free", "given", "names", "slack", "total", "units")
    kind = "resource"

    def __init__(self, name: str, total: float | list[str] | tuple[str, ...]) -> None:
        super().__init__(name)
        self.names: tuple[str, ...] = () if isinstance(total, int | float) else tuple(total)
        self.units: list[str] = list(self.names)
        self.total: float = total if isinstance(total, int | float) else len(total)
        self.free = self.total
        self.slack = self.total * 1e-9  # three times 0.1 fit into 0.3
        self.given: dict[Node, tuple[str, ...]] = {}

    def is_open(self) -> bool:
        """Tell whether anything is left."""
        return self.free > self.slack

    def fits(self, want: float) -> bool:
        """Tell whether this much is left."""
        return want - self.free <= self.slack

    def conflicts(self, want: float, other: float) -> bool:
        """Tell whether too little would be left for ``other``."""
        return other - (self.free - want) > self.slack

    def take(self, node: Node, want: float) -> None:
        """Hand out this much."""
        self.holders[node] = want
        self.free -= want
        if self.names:
            self.given[node] = tuple(self.units[: int(want)])
            del self.units[: int(want)]

    def give(self, node: Node) -> None:
        """Take it back; amounts may be fractions, so an idle resource is reset to what it was."""
        self.free += self.holders.pop(node)
        if not self.holders:
            self.free = self.total
        if self.names:
            self.units = sorted([*self.units, *self.given.pop(node)], key=self.names.index)


class World(Lock):
    """The lock behind ``alone``: every running task uses it, without the cost of saying so.

    ``kept`` is the barrier, also one that does not want to run alone: who does conflicts with everybody.
    """

    __slots__ = ("kept", "running")

    def __init__(self) -> None:
        super().__init__("the whole run")
        self.running = 0
        self.kept: Node | None = None

    def fits(self, want: float) -> bool:
        """Tell whether nothing runs."""
        return not self.running and not self.mask

    def admits(self, node: Node, want: float) -> bool:
        """Tell whether nothing runs, and nobody else has waited longer for that."""
        return self.fits(want) and (self.kept is None or self.kept is node)


class Later(Thing):
    """Where tasks wait that are to be tried again later: nobody has it, so nothing of it is ever offered.

    To wait here is to be parked, since an old entry of the task may still stand in its ready queue (that of a barrier which
    did not wait for its turn there): `next` drops it as it drops any other that is parked.
    """

    __slots__ = ("nodes",)

    def __init__(self) -> None:
        super().__init__("another attempt")
        self.nodes: dict[Node, None] = {}

    def park(self, node: Node, want: float = 0) -> None:
        """Let a node wait here. It stands in no line: nobody who starts meanwhile overtakes it."""
        node.waiting = Waiting(0, self, want)
        self.nodes[node] = None
        self.parked += 1

    def unpark(self, node: Node) -> None:
        """Forget a node that waited here."""
        super().unpark(node)
        del self.nodes[node]
