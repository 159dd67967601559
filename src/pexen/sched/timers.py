"""Timers: calls at monotonic times, by one thread that exists only while there is something to wait for.

The thread sleeps until the earliest time. A timer that fires late tells how late: the machine stalled or the runner was
stopped, and then what has happened meanwhile must be looked at before anybody is blamed for being slow.
"""

from __future__ import annotations

import threading
import time
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timers:
    """Calls functions at given times, each with its lateness in seconds; from one thread, outside of any lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, when: float, call: Callable[[float], None]) -> None:
        """Call ``call(lateness)`` at the monotonic time ``when``. From any thread; after `close` nothing is called."""
        with self._changed:
            if self._closed:
                return
            heappush(self._heap, (when, next(self._order), call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pexen-timers", daemon=True)
                self._thread.start()
            elif self._heap[0][0] == when:
                self._changed.notify()

    def close(self) -> None:
        """Forget all timers and end the thread."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def fire(self) -> float | None:
        """Call what is due now; return when the next one is. The thread does this; tests do it with a clock of theirs."""
        while True:
            with self._changed:
                now = self._clock()
                if not self._heap or self._heap[0][0] > now:
                    return self._heap[0][0] if self._heap else None
                when, _, call = heappop(self._heap)
            call(now - when)

    def _run(self) -> None:
        while True:
            self.fire()
            with self._changed:
                if self._closed:
                    return
                due = self._heap[0][0] - self._clock() if self._heap else None
                if due is None or due > 0:
                    self._changed.wait(due)
