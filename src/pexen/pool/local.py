"""LocalPool: each task in the right pool of this machine, executables here and callables there, `workers` in all.

It only sorts. That no more than ``workers`` run at once over both is the run's doing (see ``Lane`` in
`pexen.sched.decide`): commands are never handed out ahead of time, and while one is in flight nothing else is, so more
than ``workers`` are in flight only when all of them are callables, which their pool knows how to queue.

The two pools are opened with the first attempt for them: a run of commands never imports or starts a worker.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from pexen.errors import PoolError, nearest
from pexen.model.call import EXECUTE
from pexen.model.cpus import workers_of
from pexen.model.result import Outcome, Status
from pexen.pool.base import Survivors

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.pool.base import Mailbox, Pool

KINDS = ("thread", "process")


class LocalPool:
    """Runs commands in a `CommandPool` and callables in another, ``workers`` (default: the usable CPUs) at a time.

    ``callables`` is ``"thread"``, ``"process"``, or a pool, which is opened and closed with this one and whose number of
    workers is then the default. ``output`` and ``capture`` are those of `CommandPool` and `ProcessPool`.
    """

    executes = True

    def __init__(
        self,
        workers: int | None = None,
        *,
        callables: str | Pool = "thread",
        output: str | os.PathLike[str] | None = None,
        capture: bool | None = None,
    ) -> None:
        if isinstance(callables, str) and callables not in KINDS:
            raise PoolError(
                f"callables is 'thread', 'process' or a pool, not {callables!r}", hint=nearest(callables, KINDS)
            )
        given = None if isinstance(callables, str) else callables
        self.workers: int = workers_of(workers, given.workers if given else None)
        self.driven: bool = getattr(given, "driven", False)
        self.callables = callables
        self._output = None if output is None else os.path.abspath(output)
        self._capture = output is not None if capture is None else capture
        self._given = given
        self._commands: Pool | None = None
        self._callables: Pool | None = None
        self._mailbox: Mailbox | None = None
        self._opening = threading.Lock()

    @property
    def capacity(self) -> int:
        """Attempts in flight, when all of them are callables."""
        inner = self._callables or self._given
        return self.workers + (inner.capacity - inner.workers if inner else 1)

    def open(self, mailbox: Mailbox) -> None:
        """Remember where to post; the two pools open with their first attempts."""
        self._mailbox = mailbox

    def submit(self, attempt: Attempt) -> None:
        """Hand an attempt on to the pool for its kind."""
        pool = self._commands if attempt.call is EXECUTE else self._callables
        if pool is None:
            try:
                pool = self._open_commands() if attempt.call is EXECUTE else self._open_callables()
            except OSError as error:
                self._refuse(attempt, f"cannot start: {error}")
                return
        pool.submit(attempt)

    def _refuse(self, attempt: Attempt, reason: str) -> None:
        """Tell the run from another thread: this one is the run, or a worker, in the middle of submitting."""
        told = Outcome(attempt, Status.ERROR, reason=reason)
        threading.Thread(target=self._open_mailbox().post, args=(told,), name="pexen-local").start()

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Ask a running attempt to stop, or with ``force`` end it now."""
        attempt.cancelled = True  # also if its pool is not open yet
        pool = self._commands if attempt.call is EXECUTE else self._callables
        if pool is not None:
            pool.cancel(attempt, force=force)

    def examine(self, attempt: Attempt) -> None:
        """Note what a running attempt is doing."""
        pool = self._commands if attempt.call is EXECUTE else self._callables
        if pool is not None:
            pool.examine(attempt)

    def tear_down(self, attempt: Attempt) -> None:
        """Have a service that is up end in good order."""
        pool = self._commands if attempt.call is EXECUTE else self._callables
        if pool is not None:
            pool.tear_down(attempt)

    def has_queued(self) -> bool:
        """Tell whether `run_queued` has something to do."""
        return self._callables is not None and self._callables.has_queued()  # type: ignore[attr-defined]

    def run_queued(self) -> bool:
        """Run one attempt that an `InlinePool` has queued; return whether there was one."""
        return self._callables is not None and self._callables.run_queued()  # type: ignore[attr-defined]

    def close(self) -> Survivors:
        """Close both."""
        commands, callables = self._commands, self._callables
        survivors = [pool.close() for pool in (commands, callables) if pool is not None]
        self._commands = self._callables = self._mailbox = None
        return Survivors(tuple(attempt for one in survivors for attempt in one.attempts))

    def _open_commands(self) -> Pool:
        from pexen.pool.command import CommandPool

        with self._opening:
            if self._commands is None:
                pool = CommandPool(self.workers, output=self._output, capture=self._capture)
                pool.open(self._open_mailbox())
                self._commands = pool
            return self._commands

    def _open_callables(self) -> Pool:
        with self._opening:
            if self._callables is None:
                pool = self._given or self._make_callables()
                pool.open(self._open_mailbox())
                self._callables = pool
            return self._callables

    def _make_callables(self) -> Pool:
        if self.callables == "thread":
            from pexen.pool.thread import ThreadPool

            return ThreadPool(self.workers, output=self._output)
        from pexen.pool.process import ProcessPool

        return ProcessPool(self.workers, output=self._output, capture=self._capture)

    def _open_mailbox(self) -> Mailbox:
        if self._mailbox is None:
            raise PoolError("the pool is not open")
        return self._mailbox
