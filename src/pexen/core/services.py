"""Services: up as long as somebody needs them, started as late as that allows.

*Started* when the first dependant could run. An item (a task, or the junction of a requirement) counts in ``short`` how much of
what it is ``missing`` are services only. When both numbers are equal, services are all it lacks, and they are *called*: woken
like lazy providers. A junction of which that is true is `near` itself, as a service is, and counts among the ``short`` of
its dependants.

*Torn down* after the last dependant has ended, transitively: who requires what was made with the help of a service
relies on it. An item is *settled* when it has ended, or sleeps, and all its dependants are settled; each item at or below a
service counts those of its dependants that are not. When none is left of an up service, it is due. That is O(1) amortised
for each edge and end.

*In reverse order of start, one at a time*: of those that are due the last one started leaves first, and the next only
when it is down. While somebody holds the run nobody leaves: he may add dependants.

*A service has several lives.* It may die and be restarted, be put down for a group that does not need it, or be needed by
somebody who is added when it has been torn down already: then it is *unmet* for all who have not started, or revived.

None of this costs anything in a run without services.
"""

# ruff: noqa: SLF001 - it is a part of the planner

from __future__ import annotations

from typing import TYPE_CHECKING

from pexen.core.node import FINAL, UNSTARTED, Junction, Node, State, tell

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pexen.core.graph import Batch
    from pexen.core.planner import Planner

    Item = Node | Junction

SETTLED = -1


class Services:
    """What the planner knows of services. Empty until the first one is added."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self.users: dict[Item, list[Item]] = {}
        """Of each service, and of each junction with one behind it: who requires it."""
        self.open: dict[Item, int] = {}
        """Of each item at or below a service: how many dependants are not settled, or `SETTLED`."""
        self.up: dict[Node, None] = {}
        """In order of start."""
        self.due: dict[Node, None] = {}
        """Those up that nobody needs now."""
        self.leaving: Node | None = None
        self.revived: set[Node] = set()
        """Those that have a result, and were added dependants since, and have not been started for them yet."""

        self.hopeless: list[tuple[Node, Item]] = []
        """Those revived in vain, each with what it requires and cannot have."""

    # -- admission ------------------------------------------------------------------------------------------------

    def admit(self, batch: Batch) -> None:
        """Take in what was added; before anything of it becomes ready."""
        users, open_ = self.users, self.open
        for item in batch.topological:
            is_under = False
            for provider in providers_of(item):
                if provider in open_:
                    is_under = True
                    self._count_on(provider)
                if provider in users:
                    users[provider].append(item)
                    if provider.near and provider.state not in FINAL and provider.state is not State.UP:
                        item.short += 1
            if item.near:
                open_[item], users[item] = 0, []
            elif is_under:
                open_[item] = 0
                if isinstance(item, Junction):
                    self._admit_junction(item)
        dormant = self._planner._graph.dormant
        for item in reversed(batch.topological):
            if open_.get(item) == 0 and (item in dormant or isinstance(item, Junction)):
                self._settle(item)  # nobody requires it yet: a sleeper, or what a task with ``expand`` makes

    def _admit_junction(self, junction: Junction) -> None:
        if any(member in self.users for member in junction.members):
            self.users[junction] = []
        junction.near = junction.state is State.BLOCKED and self._lacks_services(junction)

    def _lacks_services(self, item: Item) -> bool:
        """Tell whether services are all that an item lacks; of an ``any``, what is to be woken next."""
        if not item.short or item.missing == item.short:
            return bool(item.short)
        preferred = self._planner._preferred(item) if isinstance(item, Junction) and item.any else ()
        return any(one.near for one in preferred)

    def _count_on(self, item: Item) -> None:
        """Note one more dependant of an item, and that of what it was settled for before."""
        stack = [(item, True)]
        while stack:
            one, is_direct = stack.pop()
            if self.open[one] == SETTLED:
                self.open[one] = 0
                if is_direct and one.state is State.DONE and one in self.users and isinstance(one, Node):
                    self._revive(one)
                is_direct = is_direct and one.state not in FINAL
                stack += [(provider, is_direct) for provider in providers_of(one) if provider in self.open]
            self.open[one] += 1

    def _revive(self, node: Node) -> None:
        """Let a service that has been torn down be started again when somebody needs it."""
        planner = self._planner
        node.state = State.BLOCKED
        node.missing, node.short = 1, 0
        for provider in node.bound:
            if provider.state in _LOST:
                self.hopeless.append((node, provider))
            elif provider.near and provider.state is not State.UP:
                node.missing += 1
                node.short += 1
                tell(provider, node)
        planner._graph.dormant[node] = None
        planner.unfinished += 1
        self.revived.add(node)

    # -- calling --------------------------------------------------------------------------------------------------

    def look(self, item: Item) -> None:
        """Look at something that may lack nothing but services now."""
        if item.state is not State.BLOCKED or not self._lacks_services(item):
            return
        if isinstance(item, Node):
            self.call(item.bound)
        elif not item.near:
            item.near = True
            for dependant in item.dependants or ():
                dependant.short += 1
                self.look(dependant)

    def call(self, items: Iterable[Item]) -> None:
        """Wake the services behind these items; of those of an ``any``, the preferred one."""
        planner = self._planner
        dormant = planner._graph.dormant
        stack = list(items)[::-1]
        while stack:
            item = stack.pop()
            if not item.near or item.state is not State.BLOCKED:
                continue
            if isinstance(item, Junction):
                item.is_called = True
                stack += planner._preferred(item) if item.any else item.members[::-1]
            elif item in dormant:
                del dormant[item]
                item.missing -= 1
                planner._demand(*item.bound)
                if item.missing == item.short:
                    if item.short:
                        stack += item.bound[::-1]
                    else:
                        planner._make_ready(item)

    def wake_for_users(self, node: Node) -> None:
        """Call a service that has gone to sleep if somebody waits who lacks nothing else."""
        for user in list(self.users.get(node, ())):
            self.look(user)
            if isinstance(user, Junction) and user.near:
                for dependant in list(user.dependants or ()):
                    self.look(dependant)

    def failed(self, junction: Junction, reason: str) -> None:
        """Note that one of the services of an ``any`` will not come: the next one is called if one was."""
        if junction.is_called and self.open.get(junction, 0) > 0:
            self._planner.note_replaced(junction, self._planner._preferred(junction), reason)
            self.call([junction])
        self.look(junction)

    # -- up and down ----------------------------------------------------------------------------------------------

    def came_up(self, node: Node) -> None:
        """Note that a service is up; nobody may need it any more by now."""
        self.up[node] = None
        self.revived.discard(node)
        turn = self._planner._groups.current
        if not self.open[node] or (turn is not None and node not in turn.needed):
            self.due[node] = None

    def is_starting(self) -> bool:
        """Tell whether one is on its way up that somebody needs."""
        return any(node.near and node.state is State.RUNNING and self.open[node] for node in self.users)

    def put_down(self, *, but: Collection[Node]) -> None:
        """Have all go that are up but these, whoever needs them later."""
        self.due.update((node, None) for node in self.up if node not in but)

    def ended(self, node: Node) -> None:
        """Note that a task is final."""
        self.due.pop(node, None)
        self.up.pop(node, None)
        if self.leaving is node:
            self.leaving = None
        if self.open.get(node) == 0:
            self._settle(node)

    def _settle(self, item: Item) -> None:
        dormant = self._planner._graph.dormant
        stack = [item]
        while stack:
            settled = stack.pop()
            self.open[settled] = SETTLED
            for provider in providers_of(settled):
                left = self.open.get(provider, SETTLED)
                if left == SETTLED:
                    continue
                self.open[provider] = left - 1
                if left > 1:
                    continue
                if isinstance(provider, Junction) or provider.state in FINAL:
                    stack.append(provider)
                elif provider.state is State.UP:
                    self.due[provider] = None
                elif provider.state in UNSTARTED:
                    if provider.near and provider not in dormant:
                        self._planner._put_to_sleep(provider)
                    if provider in dormant:
                        stack.append(provider)

    def next_to_leave(self, *, everybody: bool) -> Node | None:
        """Return the service to be torn down now, which then counts as leaving; None if it is nobody's turn."""
        if self.leaving is not None:
            return None
        last = next((node for node in reversed(self.up) if everybody or self._is_due(node)), None)
        if last is None:
            return None
        self.due.pop(last, None)
        del self.up[last]
        self.leaving = last
        last.state = State.LEAVING
        self.unmeet(last)
        return last

    def _is_due(self, node: Node) -> bool:
        """Tell whether a service is to go. One that is needed goes for the turn of a group only, when all others have ended."""
        if node not in self.due or not self.open[node]:
            return node in self.due
        planner = self._planner
        turn = planner._groups.current
        if turn is None or node in turn.needed:
            del self.due[node]
            return False
        return planner.running == len(self.up)

    def unmeet(self, item: Item) -> None:
        """Let those who have not started wait for an item anew: it is met no more, or not now."""
        item.dependants = []
        for user in self.users.get(item, ()):
            if isinstance(user, Node):
                if user.state in UNSTARTED:
                    item.dependants.append(user)
                    user.missing += 1
                    user.short += item.near
                    if user.state is State.READY:
                        self._planner._make_blocked(user)
                continue
            item.dependants.append(user)
            user.missing += 1
            user.short += item.near
            if user.state is State.DONE and (not user.any or user.chosen is item):
                user.chosen = next(filter(is_met, user.members), None) if user.any else None
                if user.chosen is not None:
                    continue
                user.state = State.BLOCKED
                user.near = user.missing == user.short
                self.unmeet(user)

    def died(self, node: Node) -> None:
        """Note that a service is up no more, and was not asked to be."""
        self.due.pop(node, None)
        del self.up[node]
        self.unmeet(node)

    def lost(self, node: Node) -> Item | None:
        """Return what a task requires and can never have again."""
        return next((one for one in node.bound if one.state in _LOST), None)

    def unmet_again(self, node: Node) -> bool:
        """Let a task that is to start anew wait for what it requires and is met no more; tell whether there is such."""
        for provider in node.bound:
            if provider.state not in {State.UP, State.DONE}:
                tell(provider, node)
                node.missing += 1
                node.short += provider.near
        if node.missing and node.state is State.READY:
            self._planner._make_blocked(node)
            if not node.near:
                self._planner._demand(*node.bound)
                self.look(node)
        return node.missing > 0

    def is_wanted(self, node: Node) -> bool:
        """Tell whether somebody is left who needs a service."""
        return self.open.get(node, 0) > 0

    def is_needed_but_by(self, node: Node, paths: Collection[str | None]) -> bool:
        """Tell whether one of those that require a service is not final, and not at one of these paths."""
        stack, seen = list(self.users.get(node, ())), set()
        while stack:
            user = stack.pop()
            if user in seen:
                continue
            seen.add(user)
            if isinstance(user, Junction):
                stack += self.users.get(user, ())
            elif user.state not in FINAL and user.task.path not in paths:
                return True
        return False

    def running_users(self, node: Node) -> list[Node]:
        """Return the tasks that run with the help of a service: its dependants, also through junctions."""
        return self._users(node, State.RUNNING)

    def waiting_users(self, node: Node) -> list[Node]:
        """Return the dependants of a service that are ready."""
        return self._users(node, State.READY)

    def _users(self, node: Node, state: State) -> list[Node]:
        found: dict[Node, None] = {}
        stack = list(self.users.get(node, ()))
        while stack:
            user = stack.pop()
            if isinstance(user, Node):
                if user.state is state:
                    found[user] = None
            elif not user.any or user.chosen is None or user.chosen is node:
                stack += self.users.get(user, ())
        return sorted(found, key=lambda one: one.order)


_LOST = frozenset({State.FAILED, State.SKIPPED, State.CANCELLED})


def is_met(item: Item) -> bool:
    """Tell whether a requirement is met by this; a service that has been torn down meets none."""
    return item.state is State.UP or (item.state is State.DONE and not (item.near and isinstance(item, Node)))


def providers_of(item: Item) -> tuple[Item, ...]:
    """Return what an item requires."""
    return item.bound if isinstance(item, Node) else item.members
