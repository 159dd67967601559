"""Threads that wait for a run: for results, or for its end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Sleepers:
    """Where threads sleep until somebody wakes them. Nobody polls, and no wake-up is lost.

    A sleeper announces itself before it looks for the last time whether it has to sleep at all; who has something for it
    makes that visible before it looks for sleepers.
    """

    __slots__ = ("_asleep", "_poked")

    def __init__(self) -> None:
        self._asleep: list[tuple[threading.Lock, bool]] = []
        self._poked = False

    def __bool__(self) -> bool:
        return bool(self._asleep)

    def sleep(self, is_due: Callable[[], object], timeout: float | None = None, *, for_results: bool) -> None:
        """Sleep unless ``is_due()``, until woken or for ``timeout`` seconds. May wake up for no reason."""
        gate = threading.Lock()
        gate.acquire()
        me = (gate, for_results)
        self._asleep.append(me)
        if not self._poked and not is_due():
            gate.acquire(timeout=-1 if timeout is None else timeout)
        self._poked = False
        self._forget(me)

    def wake(self, *, only_for_results: bool = False) -> None:
        """Wake everybody, or only those who wait for results."""
        for me in self._asleep[:]:
            if (me[1] or not only_for_results) and self._forget(me):
                me[0].release()

    def poke(self) -> None:
        """Wake everybody, or whoever goes to sleep next. May be called from a signal handler."""
        self._poked = True
        self.wake()

    def _forget(self, me: tuple[threading.Lock, bool]) -> bool:
        """Take a sleeper out; False when another thread has done so."""
        try:
            self._asleep.remove(me)
        except ValueError:
            return False
        return True
