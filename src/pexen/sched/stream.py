"""Streams: the results of a run for several consumers at once, each result for one of them.

The decider *tells* a stream results, under the run's lock: they are put into a queue that consumers take from without it. A
result that was taken is *held* until its consumer *acknowledges* it, by asking for the next one or by closing its reader.
Whoever goes away in any other way (an exception, ``break``, the end of its process) hands it back, and somebody else gets
it, marked ``redelivered``. That it was left by ``break`` cannot be told from an exception here, and of the two mistakes one
loses results. So a stream ends for its consumers when the run has ended *and* everything is acknowledged: as long as
somebody holds a result, it may come back.

What counts against ``maxsize`` is what is told and not acknowledged. Nobody takes the run's lock to acknowledge; whoever
makes room, or finds nothing to read, posts `WAKE` where nothing starts for lack of room. The decider says that nothing starts
before it looks, a consumer acknowledges before it looks, so one of them sees the other.

Other processes are served by `pexen.sched.serve`, and read by `pexen.sched.remote`. A fork has a copy of the stream: in it
reading means to be another process, and what it needs for that is made before anybody forks.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, Self

from pexen.errors import PexenError
from pexen.model.running import CURRENT
from pexen.sched.remote import inside
from pexen.sched.sleep import Sleepers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pexen.model.result import Result
    from pexen.sched.remote import RemoteStream


class Source(Protocol):
    """What a stream needs of its run. From any thread."""

    def go_on(self) -> None:
        """Start what may start, if nothing has been started lately for lack of room."""

    def is_inside(self, what: Any) -> bool:
        """Tell whether that is an attempt in flight, its context, or its task's path."""

    def serve(self, stream: Stream) -> RemoteStream:
        """Return the stream as other processes read it."""

    def leave(self, stream: Stream) -> None:
        """Tell the stream nothing more. It is closed."""


class Stream:
    """The results of a run, each for one consumer; made by `Run.stream`.

    Iterate it from any number of threads. It can be pickled, for processes on this machine that are started in any way;
    a fork reads it as it is. See the module for who gets what, and when it ends.
    """

    def __init__(self, source: Source, so_far: Iterable[Result], maxsize: int | None) -> None:
        self.maxsize = maxsize
        self.ring: Any = None
        """Wakes who serves other processes, if anybody does."""
        self._source = source
        self._waiting = deque(so_far)
        self._told = len(self._waiting)
        self._done = 0
        self._lock = threading.Lock()
        self._sleepers = Sleepers()
        self._is_hungry = False
        self._is_over = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._owner = os.getpid()
        self._remote: RemoteStream | None = None

    # -- for users ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Result]:
        """Return a reader. Raises `PexenError` inside a task of the same run, which would wait for itself."""
        if os.getpid() != self._owner:
            return self._in_a_fork()
        self.check()
        return Reader(self)

    def close(self) -> None:
        """Read no more, and hold nothing back: for all readers it ends, wherever they are. May be called again."""
        if os.getpid() == self._owner:
            self._is_closed = True
            self._waiting.clear()
            self._wake()
            self._source.leave(self)
            self._waiting.clear()  # of what was told meanwhile

    def __enter__(self) -> Self:
        """Return self; leaving the block closes the stream."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what other processes read."""
        return self._for_others().__reduce__()

    def offer(self) -> None:
        """Have forks of this process find what they need to read it."""
        _LIVE.add(self)

    # -- for the decider, under the run's lock -----------------------------------------------------------------------

    def tell(self, results: Sequence[Result]) -> None:
        """Take results."""
        self._told += len(results)  # first: nobody may have acknowledged more than was told
        self._waiting.extend(results)
        if self._sleepers:
            self._sleepers.wake()
        if self._is_hungry:
            self._is_hungry = False
            self._ring()

    def is_full(self, coming: int) -> bool:
        """Tell whether no more should be started, with that many results on their way."""
        return self.maxsize is not None and self._told - self._done + coming >= self.maxsize

    def end(self, error: BaseException | None) -> None:
        """Note that the run is over; whoever has read everything gets the error."""
        self._error = error
        self._is_over = True
        self._wake()

    # -- for readers: from any thread, without a lock that anybody could hold for long -----------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether nothing will ever be to read any more."""
        return self._is_closed or (self._is_over and self._told == self._done)

    @property
    def error(self) -> BaseException | None:
        """What the run has ended with, for who has read everything."""
        return None if self._is_closed else self._error

    def check(self) -> None:
        """Raise `PexenError` inside a task of the same run."""
        here = CURRENT.get()
        if here is not None and self._source.is_inside(here):
            raise inside()

    def take(self) -> Result | None:
        """Return the next result to read, waiting for it; None at the end."""
        while True:
            try:
                return self._waiting.popleft()
            except IndexError:
                if self.is_settled:
                    return None
                if self.maxsize is not None:
                    self._source.go_on()
                self._sleepers.sleep(self._is_due, for_results=True)

    def take_some(self, most: int) -> list[Result]:
        """Return what can be read at once, if that is anything; otherwise `ring` is called when it is."""
        waiting = self._waiting
        for _ in range(2):
            found: list[Result] = []
            with suppress(IndexError):
                while len(found) < most:
                    found.append(waiting.popleft())
            if found:
                return found
            self._is_hungry = True  # before looking once more, since the decider looks here after it has told
        if self.maxsize is not None:
            self._source.go_on()
        return []

    def take_all(self) -> list[Result]:
        """Return everything that can be read, waiting for it; nothing at the end."""
        first = self.take()
        return [] if first is None else [first, *self.take_some(len(self._waiting))]

    def acknowledge(self, count: int) -> None:
        """Note that results are dealt with."""
        with self._lock:
            self._done += count
        if self.is_settled:
            self._wake()
        elif self.maxsize is not None:
            count = self._told - self._done
            if count <= self.maxsize // 2 or (count < self.maxsize and not self._waiting):
                self._source.go_on()

    def give_back(self, results: Sequence[Result]) -> None:
        """Have somebody else read these, first of all. Takes no lock: it is also called by finalizers."""
        if not self._is_closed:
            self._waiting.extendleft(reversed(results))
        self._wake()

    def share(self, most: int, consumers: int) -> int:
        """Return how many results one of so many consumers should get, so that the others get some as well."""
        return min(most, max(1, len(self._waiting) // consumers))

    # -- inside ---------------------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        return bool(self._waiting) or self.is_settled

    def _wake(self) -> None:
        self._sleepers.wake()
        self._ring()

    def _ring(self) -> None:
        ring = self.ring
        if ring is not None:
            ring()

    def _for_others(self) -> RemoteStream:
        if self._remote is None:
            self._remote = self._source.serve(self)
        return self._remote

    def _in_a_fork(self) -> Iterator[Result]:
        if self._remote is not None:
            return iter(self._remote)
        if self.is_settled:
            return iter(())
        raise PexenError("this process was forked in a way that Python does not know of", hint="pickle the stream")


class Reader:
    """One consumer of a stream in this process, for one thread. `close` acknowledges what it holds; see `Stream`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held: Result | None = None

    def __iter__(self) -> Self:
        """Return self."""
        return self

    def __next__(self) -> Result:
        """Acknowledge the last result and return the next one, waiting for it."""
        if CURRENT.get() is not None:
            self._stream.check()
        self.close()
        result = self._stream.take()
        if result is None:
            if self._stream.error is not None:
                raise self._stream.error
            raise StopIteration
        self._held = result
        return result

    def close(self) -> None:
        """Acknowledge what is held. The reader may go on."""
        if self._held is not None:
            self._held = None
            self._stream.acknowledge(1)

    def __del__(self) -> None:
        held = self._held
        if held is not None:
            self._stream.give_back([held.but(redelivered=True)])


_LIVE: weakref.WeakSet[Stream] = weakref.WeakSet()


def _before_fork() -> None:
    for stream in [one for one in _LIVE if not one.is_settled]:
        with suppress(OSError, PexenError):  # whoever reads it in the fork is told
            stream._for_others()  # noqa: SLF001 - a function of this module


os.register_at_fork(before=_before_fork)
