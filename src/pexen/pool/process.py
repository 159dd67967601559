"""ProcessPool: callables in worker processes.

One thread, "pexen-process", does everything: it pickles, spawns, writes, reads and posts. `submit` and `cancel` leave a
note and ring a bell if the thread may be asleep: it says so *before* it looks for notes for the last time, and the
note is left *before* the bell is looked at. Posting an outcome usually makes the run submit more, on this very thread,
which is awake, so a stream of tasks rings no bell at all.

**Which worker.** The one with the fewest attempts. At most ``1 + ahead`` each, where ``ahead`` follows how long attempts
take (a moving average that the workers measure): 2 ms of work, none for tasks above 1 ms. That hides the way to the worker
and back, 50 µs, from tasks that are shorter than it.

**Taking back.** An attempt behind one that takes longer than all before is taken back after `PATIENCE`, without the
worker's cooperation, and goes to whoever is free; so does what was sent to a worker that is still starting when another
one idles.

**Death** is a pidfd that becomes readable. What has already arrived counts; then the attempt that had taken a token has
``crashed``, and those that had not are sent elsewhere, uncharged. Nobody can prove that somebody has not written into
the eventfd, therefore an attempt that heads the queue of a third dead worker is charged all the same.

**Starting** is bounded: with no worker alive, `TRIES` failures in a row, further apart each time, break the pool. While
others work, a worker that cannot be started (no descriptors, no processes, no memory) is only tried again later.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from pexen.errors import PoolError, nearest
from pexen.model.event import Broken, Reported, Returned
from pexen.model.result import Failure, Outcome, Output, Pickled, Report, Status
from pexen.pool import wire
from pexen.pool.base import Survivors, failure_of, told, usable_cpus
from pexen.pool.member import Member
from pexen.pool.ship import CannotShip, Shipper, settings
from pexen.pool.start import STARTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.pool.base import Mailbox

PATIENCE = 0.005
"""Seconds an attempt may run before those sent behind it are taken back."""
WORK_AHEAD = 0.002
"""Seconds of work a worker has waiting, if its tasks are short."""
MOST_AHEAD = 64
LONG = 0.001
"""Seconds above which nothing is sent ahead of time."""
TRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
SUSPICIONS = 2
"""How often an attempt may head the queue of a dead worker without a sign that it had begun."""
GRACE = 1.0
"""Seconds for a worker to end by itself, when it was told to or has closed its socket."""


class ProcessPool:
    """Runs callables in ``workers`` processes (default: the usable CPUs), each of which can be killed.

    ``start`` is how processes are started, ``"exec"`` or ``"forkserver"``, see `pexen.pool.start`. ``spare`` attempts are
    sent ahead of time, all workers together; by default that adapts. ``output`` is a folder for what tasks print, a
    file each; without it they print where the runner prints.
    """

    def __init__(
        self, workers: int | None = None, *, spare: int | None = None, start: str = "exec", output: str | None = None
    ) -> None:
        if start not in STARTERS:
            raise PoolError(f"start is 'exec' or 'forkserver', not {start!r}", hint=nearest(str(start), STARTERS))
        self.workers = workers or usable_cpus()
        self.start = start
        self.output = None if output is None else os.path.abspath(output)
        self._spare = spare
        self._hands: _Hands | None = None

    @property
    def capacity(self) -> int:
        """Attempts in flight: workers + spare."""
        hands = self._hands
        if self._spare is not None or hands is None:
            return self.workers + (self._spare or 0)
        return self.workers * (1 + hands.ahead)

    def open(self, mailbox: Mailbox) -> None:
        """Start the pool's thread; workers start with the first attempts."""
        if self._hands is not None:
            raise PoolError("the pool is open already", hint="a pool serves one run at a time")
        self._hands = _Hands(self.workers, self._spare, self.start, self.output, mailbox)

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt. From any thread."""
        if self._hands is None:
            raise PoolError("the pool is not open")
        self._hands.submit(attempt)

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """End an attempt that has not begun; set the cancel token of a running one, or kill its worker. Any thread."""
        attempt.cancelled = True
        if self._hands is not None:
            self._hands.note(partial(self._hands.cancel, attempt, force=force))

    def close(self) -> Survivors:
        """End all workers and wait until they are gone. From any thread, also from within a post."""
        hands, self._hands = self._hands, None
        if hands is not None:
            hands.close()
        return Survivors()


class _Hands:
    """An open pool: its thread, its workers and what they have to do."""

    def __init__(self, workers: int, spare: int | None, start: str, output: str | None, mailbox: Mailbox) -> None:
        self.ahead = 1 if spare is None else -(-spare // workers)
        self._workers = workers
        self._adapts = spare is None
        self._typical = -1.0
        self._output = output
        self._mailbox = mailbox
        self._starter = STARTERS[start]()
        self._shipper = Shipper()
        self._queue: deque[Attempt] = deque()
        self._notes: deque[Callable[[], None]] = deque()
        self._news: list[Event] = []
        self._members: list[Member] = []
        self._dirty: set[Member] = set()
        self._suspected: dict[int, int] = {}
        self._failures = 0
        self._try_again = 0.0
        self._broken = ""
        self._asleep = False
        self._closing = False
        self._ended = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.epoll()
        self._poll.register(self._bell, select.EPOLLIN)
        self._does: dict[int, Callable[[int], None]] = {self._bell: self._rung}
        self._thread = threading.Thread(target=self._work, name="pexen-process", daemon=True)
        self._thread.start()

    # -- called from any thread -----------------------------------------------------------------------------------------

    def submit(self, attempt: Attempt) -> None:
        self._queue.append(attempt)
        if self._asleep:
            self._wake()

    def note(self, what: Callable[[], None]) -> None:
        self._notes.append(what)
        if self._asleep:
            self._wake()

    def close(self) -> None:
        if threading.get_ident() == self._thread.ident:
            self._end()
            return
        self.note(self._end)
        self._thread.join()

    def _wake(self) -> None:
        self._asleep = False
        try:
            os.eventfd_write(self._bell, 1)
        except OSError:  # closed meanwhile
            pass

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._ended:
            self._settle()
            if not self._ended:
                self._wait()

    def _settle(self) -> None:
        """Do everything that can be done without waiting."""
        while True:
            while self._notes:
                self._notes.popleft()()
            if self._ended:
                return
            self._dispatch()
            if not self._news:
                return
            self._post()

    def _post(self) -> None:
        news, self._news = self._news, []
        self._mailbox.post_all(news)

    def _wait(self) -> None:
        """Sleep until something happens, and read what it is."""
        self._asleep = True
        timeout = 0.0 if self._queue_moves() or self._notes else self._pause()
        events = self._poll.poll(timeout)
        self._asleep = False
        for fd, event in events:
            does = self._does.get(fd)
            if does is not None:
                does(event)
        self._look_at_clocks()
