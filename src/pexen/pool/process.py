"""ProcessPool: callables in worker processes, each of which can be killed.

Here is what the run sees. What happens behind it is in `pexen.pool.crew` (who runs what, and what becomes of it),
`pexen.pool.member` (one worker, seen from here), `pexen.pool.worker` (the worker itself), `pexen.pool.ship` (how callables
get there), `pexen.pool.start` (how workers are started) and `pexen.pool.wire` (what is said between the two).
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from pexen.errors import PoolError, nearest
from pexen.model.cpus import workers_of
from pexen.pool.base import Survivors
from pexen.pool.crew import Crew
from pexen.pool.files import Files
from pexen.pool.spool import CAP
from pexen.pool.start import STARTERS

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.pool.base import Mailbox


class ProcessPool:
    """Runs callables in ``workers`` processes (default: the usable CPUs), each of which can be killed.

    ``start`` is how processes are started, ``"exec"`` or ``"forkserver"``, see `pexen.pool.start`. ``spare`` attempts
    are sent ahead of time, all workers together; by default that adapts. With ``capture``, which naming an ``output``
    folder asks for, what a task prints (to descriptors 1 and 2) goes to ``<output>/<attempt id>.out``, more than
    ``cap`` bytes cut to head and tail; without it tasks print where the runner prints. Without ``output`` files are
    in a private folder that lives as long as the results.
    """

    executes = False

    def __init__(
        self,
        workers: int | None = None,
        *,
        spare: int | None = None,
        start: str = "exec",
        output: str | os.PathLike[str] | None = None,
        capture: bool | None = None,
        cap: int = CAP,
    ) -> None:
        if start not in STARTERS:
            raise PoolError(f"start is 'exec' or 'forkserver', not {start!r}", hint=nearest(str(start), STARTERS))
        self.workers = workers_of(workers)
        self.start = start
        self._output = output
        self._cap = cap if capture or (capture is None and output is not None) else None
        self.spare = spare
        self._crew: Crew | None = None

    @property
    def capacity(self) -> int:
        """Attempts in flight: workers + spare."""
        crew = self._crew
        if self.spare is not None or crew is None:
            return self.workers + (self.spare or 0)
        return self.workers * (1 + crew.ahead.count)

    def open(self, mailbox: Mailbox) -> None:
        """Start the pool's thread; workers start with the first attempts."""
        if self._crew is not None:
            raise PoolError("the pool is open already", hint="a pool serves one run at a time")
        self._crew = Crew(self.workers, self.spare, self.start, Files(self._output), self._cap, mailbox)

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt. From any thread."""
        if self._crew is None:
            raise PoolError("the pool is not open")
        self._crew.submit(attempt)

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """End an attempt that has not begun; set the cancel token of a running one, or kill its worker. Any thread."""
        attempt.cancelled = True
        if self._crew is not None:
            self._crew.note(partial(self._crew.cancel, attempt, force=force))

    def examine(self, attempt: Attempt) -> None:
        """Note what a running attempt is doing, for its ``evidence``. Any thread."""
        if self._crew is not None:
            self._crew.note(partial(self._crew.examine, attempt))

    def tear_down(self, attempt: Attempt) -> None:
        """Have the worker of a service resume it. Any thread."""
        if self._crew is not None:
            self._crew.note(partial(self._crew.tear_down, attempt))

    def close(self) -> Survivors:
        """End all workers and wait until they are gone. From any thread, also from within a post."""
        crew = self._crew
        if crew is not None:
            crew.close()
            self._crew = None
        return Survivors()
