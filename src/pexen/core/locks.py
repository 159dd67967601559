"""Locks and resources: things of which a task takes what it needs, all at once, when it starts.

*Locks* have four modes after J. Gray, "Granularity of Locks in a Shared Data Base" (1975): a task that claims a place in
a tree takes X there and an intention (IX) on every place above; one that uses it takes S and IS. Plain claims and uses
are X and S on a lock without a tree. Whether a mode can be granted is one ``and`` of two bit masks.

*Resources* are amounts, or named units of which the task is told the ones it got (the first free ones).

A task that is refused is *parked* in the queue of the first thing it lacks. When something of a thing is given back, the
best parked task that now fits is *offered* it: it goes back to the ready queue, and when it then starts, or is refused
something else, the thing is offered to the next. So each release costs O(kinds of want x log waiting), nothing is
rescanned, and no task sleeps while what it lacks is free.

*Fairness.* Each grant to a task that came later, or has lower priority, counts as an overtake of the task that has been
parked longest, if the two conflict. After `OVERTAKES` of them that task is the *barrier*: until it has started, nothing
that conflicts with it is granted. One barrier at a time, oldest first.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pexen.core.ready import ReadyQueue

if TYPE_CHECKING:
    from pexen.core.node import Node

OVERTAKES = 64
"""Conflicting starts that a waiting task tolerates."""

IS, IX, S, X = range(4)
CONFLICTS = (1 << X, 1 << S | 1 << X, 1 << IX | 1 << X, 1 << IS | 1 << IX | 1 << S | 1 << X)
"""For each mode the bits of the modes it cannot share the lock with."""


class Thing:
    """What locks and resources have in common: who waits, and whose turn it is."""

    __slots__ = ("barrier", "barrier_want", "grants", "holders", "name", "oldest", "parked", "poisoned", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.holders: dict[Node, float] = {}
        self.waiting: dict[float, ReadyQueue] = {}
        self.parked = 0
        self.oldest: deque[Node] = deque()
        self.grants = 0
        self.barrier: Node | None = None
        self.barrier_want: float = 0
        self.poisoned: Node | None = None

    def is_open(self) -> bool:
        """Tell whether there is anything left that a parked task could be granted."""
        raise NotImplementedError

    def fits(self, want: float) -> bool:
        """Tell whether this much is free, the barrier aside."""
        raise NotImplementedError

    def conflicts(self, want: float, other: float) -> bool:
        """Tell whether granting ``want`` could delay somebody who waits for ``other``."""
        raise NotImplementedError

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
        queue = self.waiting.get(want)
        if queue is None:
            queue = self.waiting[want] = ReadyQueue()
        queue.push((node.priority, -node.weight, node.order, node))
        self.oldest.append(node)
        self.parked += 1

    def unpark(self, node: Node) -> None:
        """Forget a node that waited here; its entries in the queues are dropped when they come up."""
        waiting = node.waiting
        assert waiting is not None  # noqa: S101 - for the type checker
        waiting.overtaken += self.grants - waiting.since
        waiting.thing = None
        self.parked -= 1
        if not self.parked:
            self.oldest.clear()

    def is_parked(self, node: Node) -> bool:
        """Tell whether a node waits here."""
        return node.waiting is not None and node.waiting.thing is self

    def grantable(self) -> ReadyQueue | None:
        """Return the queue whose first node could be granted what it wants now, the best of them."""
        found, best = None, None
        for want, queue in self.waiting.items():
            entry = queue.first()
            while entry is not None:
                waiting = entry[3].waiting
                if waiting is not None and waiting.thing is self and waiting.want == want:
                    break
                queue.pop()  # it left, or waits elsewhere
                entry = queue.first()
            if entry is not None and (best is None or entry < best) and self.admits(entry[3], want):
                found, best = queue, entry
        return found

    def offer(self) -> None:
        """Bring the best parked task that now fits back to its ready queue."""
        queue = self.grantable()
        if queue is None:
            return
        entry = queue.pop()
        node = entry[3]
        waiting = node.waiting
        assert waiting is not None  # noqa: S101 - for the type checker
        waiting.overtaken += self.grants - waiting.since
        waiting.thing, waiting.offered = None, self
        self.parked -= 1
        if not self.parked:
            self.oldest.clear()
        node.queue.push(entry)

    def overtook(self, node: Node, want: float) -> Node | None:
        """Count a grant against those who wait; return one who has been overtaken too often."""
        queue = self.oldest
        while queue:
            first = queue[0]
            waiting = first.waiting
            if waiting is not None and waiting.thing is self:
                break
            queue.popleft()
        else:
            return None
        mine = node.waiting
        if (mine is not None and mine.first < waiting.first) or node.priority < first.priority:
            return None  # it came first, or may go first
        if not self.conflicts(want, waiting.want):
            return None
        self.grants += 1
        return first if waiting.overtaken + self.grants - waiting.since >= OVERTAKES else None


class Lock(Thing):
    """A lock with the modes `IS`, `IX`, `S`, `X`."""

    __slots__ = ("counts", "mask")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.counts = [0, 0, 0, 0]
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

    __slots__ = ("free", "given", "names", "total", "units")

    def __init__(self, name: str, total: float | list[str] | tuple[str, ...]) -> None:
        super().__init__(name)
        self.names: tuple[str, ...] = () if isinstance(total, int | float) else tuple(total)
        self.units: list[str] = list(self.names)
        self.total: float = total if isinstance(total, int | float) else len(total)
        self.free = self.total
        self.given: dict[Node, tuple[str, ...]] = {}

    def is_open(self) -> bool:
        """Tell whether anything is left."""
        return self.free > 0

    def fits(self, want: float) -> bool:
        """Tell whether this much is left."""
        return want <= self.free

    def conflicts(self, want: float, other: float) -> bool:
        """Tell whether too little would be left for ``other``, were everything else given back."""
        return want + other > self.total or self.free - want < other

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
    """The lock behind ``alone``: every running task uses it, without the cost of saying so."""

    __slots__ = ("running",)

    def __init__(self) -> None:
        super().__init__("the whole run")
        self.running = 0

    def fits(self, want: float) -> bool:
        """Tell whether nothing runs."""
        return not self.running and not self.mask

    def admits(self, node: Node, want: float) -> bool:
        """Tell whether nothing runs, and nobody else has waited longer for that."""
        return self.fits(want) and self.barrier in {None, node}
