"""The mailbox: a combining queue. One lock owns all decisions, no thread does.

Whoever posts an event while nobody is deciding takes the lock and decides, for its own event and for all that arrive
meanwhile; whoever finds the lock taken leaves its event and goes. So a worker that has just finished a task takes its
next one itself, without a thread switch. After (Hendler, Incze, Shavit, Tzafrir: "Flat combining", 2010), with a
deque in the place of the publication list.

*No event is lost*: a poster appends first and tries the lock second; the decider releases first and looks at the queue
second. Whichever of them comes last sees the other's step. Under the lock only ``decide`` runs, which is pexen's own
code and takes no other lock; what it returns is carried out after unlocking, by the same thread.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from pexen.model.context import OVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pexen.model.event import Event


class Mailbox:
    """Takes events from any thread and has them decided one batch at a time.

    ``decide(inbox)`` empties the inbox and returns what to do; ``carry_out(commands)`` does it, outside of the lock.
    ``broken(error)`` is told of an exception in either: a bug of ours, which must end the run and not a pool's thread.
    """

    def __init__(
        self,
        decide: Callable[[deque[Any]], Any],
        carry_out: Callable[[Any], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._broken = broken
        self._inbox: deque[Any] = deque()
        self.lock = threading.Lock()
        self.held = Held(self)
        self._decide = decide
        self._carry_out = carry_out

    def post(self, event: Event) -> None:
        """Take one event; decide, unless another thread is deciding."""
        self._inbox.append(event)
        self._deal_with_all()

    def look(self) -> None:
        """Decide about what has come while the lock was held for something else."""
        self._deal_with_all()

    def _deal_with_all(self) -> None:
        """Decide until the inbox is empty or somebody else decides."""
        inbox, lock = self._inbox, self.lock
        while inbox and lock.acquire(False):
            commands = None
            try:
                commands = self._decide(inbox)
            except BaseException as error:  # noqa: BLE001 - see the class
                self._broken(error)
            finally:
                lock.release()
            if commands:
                try:
                    self._carry_out(commands)
                except BaseException as error:  # noqa: BLE001 - see the class
                    self._broken(error)

    def retire(self) -> None:
        """Forget every event from now on, and the run: it is closed. Who asks for something is told so."""
        with self.lock:
            self._decide = _turn_away
            self._carry_out = self._broken = _ignore

    def post_all(self, events: Iterable[Event]) -> None:
        """Take several events at once."""
        self._inbox.extend(events)
        self._deal_with_all()


class Held:
    """The mailbox's lock, for those who do not decide: what was posted meanwhile is dealt with when they let go of it."""

    __slots__ = ("_mailbox",)

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def __enter__(self) -> None:
        """Take the lock."""
        self._mailbox.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._mailbox.lock.release()
        self._mailbox.look()


def _turn_away(inbox: deque[Any]) -> None:
    """Forget what has come; tell whoever waits for an answer."""
    while inbox:
        answer = getattr(inbox.popleft(), "answer", None)
        if answer is not None:
            answer(OVER)


def _ignore(_: object) -> None:
    """Do nothing."""
