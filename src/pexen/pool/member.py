"""One worker process as its pool sees it: what it was sent and has not answered, and how it can be taken back.

No policy here. The pool's thread calls; nothing blocks; what the socket does not take at once waits in a buffer.

Attempts are answered in the order in which they were sent, so ``outstanding`` is a queue: the first one is running or
about to, those behind it were sent ahead of time. Tokens (see `pexen.pool.worker`) say which of them have begun.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING

from pexen.model.result import Status
from pexen.pool import start, wire

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt

_QUOTED = 4096


class Member:
    """A worker process, from its start to its burial. Raises OSError when it cannot be started."""

    def __init__(self, starter: start.Starter, generation: int) -> None:
        self.outstanding: deque[Attempt] = deque()
        self.functions: set[int] = set()
        self.generation = generation
        self.settings = b""
        self.ready = False
        self.leaving = False
        self.recalled = False
        self.verdict: tuple[Status, str] | None = None
        """How the running attempt ends when we have ended the process ourselves."""
        self.since = monotonic()
        """When the first outstanding attempt may have begun, or the last one ended."""
        self.hung_up = 0.0
        """When the socket was closed from the other side; 0 while it is not."""
        self.is_waiting = False
        """Whether something is left to send until the socket takes more."""
        self.unfreed: Attempt | None = None
        """The attempt that has ended here and left something behind."""
        self.last = 0
        """Id of the last attempt that has ended here."""
        self.reader = wire.Reader()
        self._out: list[bytes] = []
        self._rest: memoryview | None = None
        self._tokens = 0
        self._start(starter)

    def _start(self, starter: start.Starter) -> None:
        with ExitStack() as undo, ExitStack() as lent:
            self.sock, theirs = socket.socketpair()
            undo.callback(self.sock.close)
            lent.enter_context(theirs)
            self.gate = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, self.gate)
            self._words = os.memfd_create("pexen-start")
            undo.callback(os.close, self._words)
            stderr = os.dup(lent.enter_context(start.standard(2)))
            lent.callback(os.close, stderr)
            self.process = starter.start(start.Inherited(theirs.fileno(), self.gate, stderr, self._words))
            undo.pop_all()
        self.sock.setblocking(False)

    # -- sending ------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it may be sent attempts."""
        return not (self.recalled or self.leaving or self.verdict or self.hung_up)

    @property
    def going(self) -> float:
        """Since when it should end by itself; 0 if it should not."""
        return self.hung_up or (self.since if self.leaving else 0.0)

    @property
    def is_ahead(self) -> bool:
        """Whether attempts wait behind a running one and may be taken back."""
        return len(self.outstanding) > 1 and self.ready and self.is_open

    def give(self, attempt: Attempt, data: bytes) -> None:
        """Enqueue an attempt and its frame; `flush` sends."""
        if not self.outstanding and self.ready:
            self.since = attempt.started = monotonic()
        self.outstanding.append(attempt)
        self._out.append(data)
        self._tokens += 1

    def tell(self, data: bytes) -> None:
        """Enqueue a frame; `flush` sends."""
        self._out.append(data)

    def flush(self) -> bool:
        """Send what is enqueued, as far as the socket takes it; return whether something is left to send."""
        if self._tokens:
            with suppress(BlockingIOError):  # full of tokens that somebody has forged
                os.eventfd_write(self.gate, self._tokens)  # before the attempts themselves: see pexen.pool.worker
            self._tokens = 0
        while True:
            if self._rest is None:
                if not self._out:
                    return False
                self._rest = memoryview(self._out[0] if len(self._out) == 1 else b"".join(self._out))
                self._out.clear()
            try:
                sent = self.sock.send(self._rest)
            except BlockingIOError:
                return True
            except OSError:  # it has died; the pidfd says so as well
                self._rest = None
                self._out.clear()
                return False
            self._rest = self._rest[sent:] if sent < len(self._rest) else None

    def take_back(self, keep: int) -> list[Attempt]:
        """Take back attempts that have not begun, all but the first ``keep`` outstanding ones; return them in order."""
        self.flush()
        taken: list[Attempt] = []
        while len(self.outstanding) > keep and self._take_token():
            attempt = self.outstanding.pop()
            attempt.started = 0.0
            taken.append(attempt)
        if taken:
            self.recalled = True
            self.tell(wire.frame(wire.RECALL, 0))
        taken.reverse()
        return taken

    def _take_token(self) -> bool:
        try:
            os.eventfd_read(self.gate)
        except BlockingIOError:
            return False
        return True

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self) -> list[wire.Frame] | None:
        """Return the frames that have arrived, None when nothing has; notes when the other side has hung up."""
        try:
            data = self.sock.recv(self.reader.wanted)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.hung_up = self.hung_up or monotonic()
            return []
        return self.reader.feed(data)

    # -- ending -------------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send the process itself a signal."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process.pidfd, number)

    def kill(self, status: Status, reason: str) -> None:
        """End the process and its group now; the running attempt, if any, will have ended like this."""
        self.verdict = self.verdict or (status, reason)
        start.kill_group(self.process)

    def hang_up(self) -> None:
        """Let the process end by itself as soon as it has nothing to do."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def bury(self) -> str:
        """Take note of the process's end, end what is left of its group, close everything; return how it ended."""
        start.kill_group(self.process)
        told = start.told(self.process.reap())
        self.sock.close()
        for fd in (self.process.pidfd, self.gate, self._words):
            if fd >= 0:
                os.close(fd)
        return told

    def last_words(self) -> str:
        """Return the end of what a worker that did not come up has said, or an empty string."""
        size = os.lseek(self._words, 0, os.SEEK_END)
        text = os.pread(self._words, _QUOTED, max(0, size - _QUOTED)).decode(errors="backslashreplace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def come_up(self) -> None:
        """Note that it is ready: nobody will ask for its last words."""
        self.ready = True
        self.since = monotonic()
        if self.outstanding:
            self.outstanding[0].started = self.since
        if self._words >= 0:
            os.close(self._words)
            self._words = -1
