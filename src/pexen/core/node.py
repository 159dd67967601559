"""What the planner keeps for each task, and for each requirement that has more than one provider.

The theory of a task's life, as one table. Every arrow is one verb; what is not in the table raises `InternalError` and
changes nothing.

    BLOCKED ──▶ READY ──▶ RUNNING ──▶ UP ──▶ (DONE | FAILED)      a requirement met, next, provide, finish
       │         │ ▲         │
       │         │ └─────────┤                                    requeue: a retry, or a prefetched attempt came back
       │         │           └──▶ (DONE | FAILED)                 finish
       └─────────┴──▶ (SKIPPED | CANCELLED)                       a culprit, poison, cancel, drain

DONE means that what requires the task may run, FAILED that it may not: a task that has started and then says that it is
to be skipped, or is cancelled, is FAILED here, and the run knows the word for it.

A ready task that was refused a lock is still READY: it is *parked*, in the queue of the first thing it lacks instead of
the ready queue. So is one that was requeued to be tried again *later*: it is parked in `pexen.core.locks.Later`, where
nothing is ever offered to it, until the verb `again`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pexen.core.locks import Thing
    from pexen.core.ready import Entry, ReadyQueue
    from pexen.model.task import Task


class State(Enum):
    """Where a task is in its life."""

    BLOCKED = auto()
    READY = auto()
    RUNNING = auto()
    UP = auto()
    LEAVING = auto()
    DONE = auto()
    FAILED = auto()
    SKIPPED = auto()
    CANCELLED = auto()


TRANSITIONS: dict[State, frozenset[State]] = {
    State.BLOCKED: frozenset({State.READY, State.SKIPPED, State.CANCELLED, State.DONE}),
    State.READY: frozenset({State.RUNNING, State.BLOCKED, State.SKIPPED, State.CANCELLED}),
    State.RUNNING: frozenset({State.UP, State.READY, State.DONE, State.FAILED}),
    State.UP: frozenset({State.LEAVING}),
    State.LEAVING: frozenset({State.READY, State.DONE, State.FAILED}),
    State.DONE: frozenset({State.BLOCKED}),
    State.FAILED: frozenset(),
    State.SKIPPED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""Every transition there is."""

FINAL = frozenset({State.DONE, State.FAILED, State.SKIPPED, State.CANCELLED})
UNSTARTED = frozenset({State.BLOCKED, State.READY})


class Waiting:
    """What is known of a task since it was first refused something: for fairness, and to offer things again.

    ``first`` counts first refusals. ``thing`` is where it is parked now (None: it is back in the ready queue), for want of
    ``want``; ``offered`` the thing whose release brought it back to the ready queue.
    """

    __slots__ = ("first", "offered", "thing", "want")

    def __init__(self, first: int, thing: Thing, want: float) -> None:
        self.first = first
        self.thing: Thing | None = thing
        self.want = want
        self.offered: Thing | None = None


class Node:
    """One task in the graph.

    ``missing`` counts requirements (and ``after``) not yet met; ``dependants`` are told when the task succeeds or can
    no longer; ``bound`` are the providers, one for each item of ``task.requires``; ``needs`` is None for a task that
    takes nothing, else pairs of a thing and how much of it (empty: nothing, but never hand it out ahead of time).
    ``short`` is how much of what is ``missing`` is only a service that nobody has started yet, ``near`` whether it is one
    itself (see `pexen.core.services`).
    """

    __slots__ = (
        "bound", "dependants", "missing", "near", "needs", "order", "priority", "queue", "short", "state", "task",
        "waiting", "weight",
    )  # fmt: skip

    def __init__(self, task: Task, order: int, queue: ReadyQueue) -> None:
        self.task = task
        self.order = order
        self.queue = queue
        self.state = State.BLOCKED
        self.missing = 0
        self.short = 0
        self.near = False
        self.dependants: list[Node | Junction] | None = None
        self.bound: tuple[Node | Junction, ...] = ()
        self.needs: tuple[tuple[Thing, float], ...] | None = None
        self.weight: float = 1
        self.priority: float = 0
        self.waiting: Waiting | None = None

    @property
    def path(self) -> str:
        """The task's path."""
        return self.task.path  # type: ignore[return-value]

    def key(self) -> Entry:
        """Return the place in a ready queue: best first, unique by order of addition."""
        return (self.priority, -self.weight, self.order, self)

    def __lt__(self, other: Node) -> bool:
        """Let two entries of one node, of which one is dead, meet in a queue."""
        return False

    def __repr__(self) -> str:
        """Show path and state."""
        return f"<Node {self.task.path} {self.state.name}>"


def tell(provider: Node | Junction, dependant: Node | Junction) -> None:
    """Have a dependant told when a provider succeeds, or can no longer."""
    if provider.dependants is None:
        provider.dependants = [dependant]
    else:
        provider.dependants.append(dependant)


class Junction:
    """A requirement with several providers: met when all of them succeeded, or with ``any``, when one has.

    It stands between P providers and C dependants, so that they cost P + C edges and not P x C. ``members`` are in
    order of addition, or of choice; ``chosen`` is the member that met an ``any``. ``wanted`` tells that somebody awake
    waits for it, so that lazy members are woken; ``near`` that services are all it lacks, and ``is_called`` that
    they were woken for somebody; ``several`` that more than one task may stand behind it. ``found`` is
    the list it was made from: its id is the junction's key. One that stands behind a ``maker``, a task with ``expand``,
    has in ``grown`` what that has made.
    """

    __slots__ = (
        "any", "chosen", "dependants", "found", "grown", "is_called", "maker", "members", "missing", "near", "order", "several",
        "short",
        "state", "told", "wanted", "weight",
    )  # fmt: skip

    def __init__(self, members: Sequence[Node | Junction], *, any: bool, told: str) -> None:  # noqa: A002
        self.members = tuple(members)
        self.found = members
        self.any = any
        self.several: bool = not any or True in {isinstance(one, Junction) and one.several for one in self.members}
        self.told = told
        last = max(member.order for member in self.members)
        # Just after the last member and before the next task, so that order of addition covers junctions, too.
        self.order: float = (last + int(last) + 1) / 2
        self.weight: float = 0
        self.missing = 0
        self.dependants: list[Node | Junction] | None = []
        self.state = State.BLOCKED
        self.chosen: Node | Junction | None = None
        self.wanted = False
        self.short = 0
        self.near = False
        self.is_called = False
        self.maker: Node | None = None
        self.grown: list[Node | Junction] = []

    def nodes(self) -> list[Node]:
        """Return the tasks behind it."""
        found: list[Node] = []
        stack: list[Node | Junction] = list(reversed(self.members))
        while stack:
            member = stack.pop()
            if isinstance(member, Node):
                found.append(member)
            else:
                stack.extend(reversed([*member.members, *member.grown]))
        return found

    def __repr__(self) -> str:
        """Show what it stands for."""
        return f"<Junction {self.told} {self.state.name}>"
