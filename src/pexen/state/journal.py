"""The journal: what a run has to remember, one line a record, in order, and no sooner told than it is safe.

**Who does what.** `append` encodes a record, numbers and enqueues it, in the thread that has it: 2 µs. What is queued is
written in groups, and ``committed(seq)`` then says that every record up to that one is as safe as `durability` promises:

- ``"full"``: on the disk. The journal's own thread waits until `GATHER` seconds have passed or `ENOUGH` records have come,
  writes them with one ``write`` and one ``fdatasync``, and calls back. What comes meanwhile is the next group.
- ``"process"``: with the kernel, which survives the end of this process. The same thread does it, without the sync, but only
  after `QUIET` seconds in which nobody has pushed: waking it costs more than writing.

`push` is for whoever has something to wait for: "full" is then written without waiting for more, "process" at once by the
caller itself, unless somebody is just writing, who then takes these records as well. Like the mailbox: append first,
try the lock second, and look at the queue after giving it back, so that no record is left behind.

**Put aside.** Who has many small things to record need not make a record of each: ``aside()`` tells how many there are, and
the thread calls ``collect()``, which appends them in as few records as it likes, before it writes. Whoever puts something
aside compares its number with `wanted` afterwards, and calls `wake` where that is reached.

**When it fails** (no space, a quota, a limit, a failing disk) nothing is tried again: after an fsync that failed nobody knows
what is on the disk. What was half written is cut off, so that the file can be read, and read on after a restart; the error
is kept in `failure` and told once to ``failed``; from then on nothing is taken and nothing called back.

**Callbacks** come one at a time, in order, from the journal's thread or whoever pushes. They may append and push, not flush
or close.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, Self

from pexen.errors import InternalError, PexenError, StateError
from pexen.state import codec
from pexen.state.appender import FILE, Appender, cannot
from pexen.state.disk import STEPS, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GATHER = 0.003
"""Seconds that records wait for company."""
QUIET = 0.01
"""With "process": seconds in which nobody writes before the thread does."""
ENOUGH = 64
"""Records that are company enough."""
_BUSY = 1 << 62
"""How many records the thread waits for while it does not wait."""
_NONE = 1 << 61
"""And while no number of them is to wake it."""


class Journal:
    """The journal in ``folder``, for writing; made where there is none, else continued behind its last whole line.

    ``committed(seq)`` is told up to where all is safe, ``failed(error)`` once that no more will be. With ``damaged_ok`` a
    journal with damage in its middle is continued. ``last`` is the number of the last record; ``cut`` how many bytes of a
    torn line were removed; ``forgets`` the kind of a file system that keeps nothing over a reboot, else empty.

    Raises `StateError` when somebody else is writing it (naming who), when it is damaged, or cannot be opened.
    All methods may be called from any thread.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durability: Literal["full", "process"] = "full",
        committed: Callable[[int], None] | None = None,
        failed: Callable[[PexenError], None] | None = None,
        aside: Callable[[], int] | None = None,
        collect: Callable[[], None] | None = None,
        damaged_ok: bool = False,
        steps: Steps = STEPS,
        gather: float | None = None,
    ) -> None:
        if durability not in {"full", "process"}:
            raise StateError(f"durability is 'full' or 'process', not {durability!r}")
        self.folder = os.path.abspath(folder)
        self.path = f"{self.folder}/{FILE}"
        self.durability = durability
        self.failure: PexenError | None = None
        self._sync = durability == "full"
        self._tell_committed = committed or _ignore
        self._tell_failed = failed or _ignore
        self._aside = aside or int
        self._collect = collect or _do_nothing
        self._gather = gather or (GATHER if self._sync else QUIET)
        self._encode = codec.fastest().encode
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._closed = False
        self._file = Appender(self.folder, sync=self._sync, damaged_ok=damaged_ok, steps=steps)
        self.cut, self.forgets = self._file.cut, self._file.forgets
        self.last = self.committed = self._file.last
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        """For the numbers, the queue, and whether anybody sleeps. Held for a handful of steps."""
        self._writing = threading.Lock()
        """For the file. Held by who writes, also while calling back."""
        self._writer = 0
        """The thread that is calling back."""
        self._waiting: list[tuple[int, threading.Lock]] = []
        self._hurry = 0
        self._bell = threading.Lock()
        self._bell.acquire()
        self.wanted = _BUSY
        """How many records in the queue, or put aside, wake the journal's thread."""
        _OPEN.add(self)
        self._thread = threading.Thread(target=self._work, name="pexen-journal", daemon=True)
        self._thread.start()

    # -- for everybody ------------------------------------------------------------------------------------------------

    def append(self, record: Mapping[str, Any], beside: bytes = b"") -> int:
        """Take a record; return its number, or 0 when the journal has failed or is closed.

        ``beside`` is what is too large for a line, see `pexen.state.records`; it is in its file before the line is written.
        Raises TypeError or ValueError for what is no JSON, and nothing has happened then.
        """
        body = self._encode(record)
        with self._lock:
            if self.failure or self._closed:
                return 0
            self.last = seq = self.last + 1
            queue = self._queue
            queue.append((body, beside))
            if len(queue) >= self.wanted:
                self._ring()
        return seq

    def wake(self) -> None:
        """Have the thread look at what was put aside, if it sleeps."""
        with self._lock:
            if self.wanted != _BUSY:
                self._ring()

    def push(self) -> None:
        """See that what was appended is committed without waiting for more; "process" writes it here and now."""
        if self._sync:
            with self._lock:
                self._hurry = self.last
                if self.wanted != _BUSY:
                    self._ring()
            return
        self._write_if_nobody_does()

    def flush(self) -> bool:
        """Wait until everything appended so far is committed; False when it will never be. Not from a callback."""
        self._not_from_a_callback("flush")
        with self._lock:
            if self.failure or self.committed >= self.last:
                return not self.failure
            done = threading.Lock()
            done.acquire()
            self._waiting.append((self.last, done))
        self.push()
        done.acquire()
        return not self.failure

    def close(self) -> None:
        """Commit what was appended, end the thread and let others write. Not from a callback. May be called twice."""
        self._not_from_a_callback("close")
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.flush()
        self.wake()
        self._thread.join()
        with self._writing:
            try:
                if not self.failure:
                    self._file.look()
            except (OSError, StateError) as error:
                self._fail(error)
            finally:
                self._writer = 0
                self._file.close()
            _OPEN.discard(self)

    def __enter__(self) -> Self:
        """Return self; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Show where it is and how far."""
        return f"<Journal {self.path} {self.committed}/{self.last}>"

    def _not_from_a_callback(self, verb: str) -> None:
        if self._writer == get_ident():
            raise InternalError(f"{verb}() was called from a callback of the journal")

    def _ring(self) -> None:
        """Wake the thread, which sleeps; the lock is held."""
        self.wanted = _BUSY
        self._bell.release()

    # -- the journal's thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while self._sleep_until_there_is_something():
            before = self.committed
            self._sleep_until_there_is_more()
            if not self._sync and self.committed != before:
                continue  # others write, and what has come since has not waited for long
            try:
                self._collect()
            except BaseException as error:  # noqa: BLE001 - as in `_commit`
                with self._writing:
                    self._fail(error)
                    self._writer = 0
            if self._sync:
                with self._writing:
                    self._commit()
            else:
                self._write_if_nobody_does()

    def _sleep_until_there_is_something(self) -> bool:
        """Wait for records; False when the journal is closed and there are none left."""
        with self._lock:
            self.wanted = 1  # first: who puts something aside looks at this afterwards
            idle = not self._queue and (self._closed or self.failure is not None or not self._aside())
            if not idle or self._closed:
                self.wanted = _BUSY
                return not idle
        self._bell.acquire()
        return True

    def _sleep_until_there_is_more(self) -> None:
        """Wait for company of what there is."""
        with self._lock:
            self.wanted = ENOUGH if self._sync else _NONE
            if (
                len(self._queue) + self._aside() >= self.wanted
                or self._closed
                or self._hurry > self.committed
                or self.failure
            ):
                self.wanted = _BUSY
                return
        if not self._bell.acquire(timeout=self._gather):
            with self._lock:
                if self.wanted == _BUSY:
                    self._bell.acquire()  # somebody has rung since
                self.wanted = _BUSY

    def _write_if_nobody_does(self) -> None:
        """Write what is queued; whoever is writing already takes it as well."""
        queue, writing = self._queue, self._writing
        while not self.failure and (queue or self.committed < self._file.last) and writing.acquire(False):
            try:
                self._commit()
            finally:
                writing.release()

    # -- writing; who does it holds the lock of that name -------------------------------------------------------------

    def _commit(self) -> None:
        """Write one group of what is queued, and tell that it is safe."""
        if self.failure:
            return
        try:
            if self._queue:
                self._file.write(self._queue)
            seq = self._file.last
            if seq > self.committed:
                self._writer = get_ident()
                self._tell_committed(seq)
                with self._lock:
                    self.committed = seq
                    if self._waiting:
                        self._wake_waiting(seq)
        except KeyboardInterrupt:
            raise  # of a main thread that pushes; nothing has changed
        except BaseException as error:  # noqa: BLE001 - a thread that just ended would leave everybody waiting
            self._fail(error)
        finally:
            self._writer = 0

    def _fail(self, error: BaseException) -> None:
        """Note that no more will be written, and tell it."""
        if isinstance(error, OSError):
            failure: PexenError = cannot("written", error, self.path)
        elif isinstance(error, PexenError):
            failure = error
        else:
            failure = InternalError(f"the journal broke: {type(error).__name__}: {error}")
        failure.__cause__ = error if failure is not error else error.__cause__
        with self._lock:
            self.failure = failure
            self._queue.clear()
            self._wake_waiting(self.last)
        self._writer = get_ident()
        with suppress(Exception):  # there is nobody left to tell
            self._tell_failed(failure)

    def _wake_waiting(self, seq: int) -> None:
        for wanted, done in self._waiting:
            if wanted <= seq:
                done.release()
        self._waiting = [one for one in self._waiting if one[0] > seq]

    def _abandon(self) -> None:
        self.failure = self.failure or StateError("the run was abandoned")
        self._queue.clear()

    def _forget(self) -> None:
        """Be closed, in a child that was forked: file and lock are the parent's."""
        self._lock, self._writing, self._closed = threading.Lock(), threading.Lock(), True
        self.failure = StateError("a forked child does not write its parent's journal")
        self._queue.clear()
        self._file.forget()
        _OPEN.discard(self)


def abandon() -> None:
    """Write nothing more in this process: what it sees from now on is its own end, such as that everything is killed."""
    for journal in list(_OPEN):
        journal._abandon()  # noqa: SLF001 - our own class


def _ignore(_: object) -> None:
    """Do nothing."""


def _do_nothing() -> None:
    """Do nothing."""


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forget_all() -> None:
    for journal in list(_OPEN):
        journal._forget()  # noqa: SLF001 - our own class


os.register_at_fork(after_in_child=_forget_all)
