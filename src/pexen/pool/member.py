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
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from pexen.model.call import Kind
from pexen.model.result import Status
from pexen.pool import spool, start, tree, wire, worker
from pexen.pool.base import OURS
from pexen.pool.cgroup import Cgroup

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
        self.is_up = False
        """Whether its attempt is a service that is up: it is none of the workers any more."""
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
        self.eye: spool.Eye | None = None
        """Looks at what the running attempt prints."""
        self.toll = tree.Toll()
        """Whom we have killed together with it."""
        self.asked_where = False
        """Whether it was asked where its threads are, and nobody has looked at the answer yet."""
        self.seen: list[str] = []
        """What ran below it then."""
        self._told = 0
        self.reader = wire.Reader()
        self._out: list[bytes] = []
        self._rest: memoryview | None = None
        self._tokens = 0
        self._start(starter)
        self._cgroup = Cgroup.make()
        if self._cgroup is not None:
            self.tell(wire.frame(wire.ENCLOSE, 0, wire.encoded(str(self._cgroup.path))))

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
        return not (self.recalled or self.leaving or self.verdict or self.hung_up or self.has_service)

    @property
    def has_service(self) -> bool:
        """Whether it is a service's own: nothing is sent behind one."""
        return bool(self.outstanding) and self.outstanding[0].call.kind is Kind.GENERATOR

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
        keep = max(keep, self.is_up)  # whatever somebody has written into the eventfd: this one has begun
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
        """End the process and all below it now; the running attempt, if any, will have ended like this."""
        if self.verdict is None:
            self.verdict = status, reason
            self.end_tree()

    def end_tree(self) -> None:
        """End the process and all below it; it is given what loses its parents there, so it is the last one to go."""
        process = tree.look(self.process.pid)
        if process is not None and process.is_alive:
            see = partial(tree.recent, process.pid)
            toll = tree.end(tree.Family(process.identity).members, last=process.identity, see=see)
            self.toll = toll._replace(killed=tuple(one for one in toll.killed if one.pid != process.pid))
        if not self.toll.killed:  # somebody else may have killed it meanwhile: its orphans are not below it any more
            self._end_the_rest()
        start.kill_group(self.process)
        if self._cgroup is not None:
            self._cgroup.kill()

    def _end_the_rest(self) -> None:
        """End what a process that has died by itself has left to others; it has not been reaped yet."""
        pid = self.process.pid
        process = tree.look(pid)
        if process is None or self.toll.killed:
            return
        lineage = wire.lineage_of_worker(os.environ.get(wire.LINEAGE, ""), pid)
        family = tree.Family(process.identity, pid, pid, lineage, worker.SLACK + pid % worker.KINDS)
        see = partial(tree.recent, pid)
        if any(one.is_alive for one in family.members(see())):
            self.toll = tree.end(family.members, see=see)
            tree.reap(self.toll.killed)
        if self._cgroup is not None and (hidden := [one for one in map(tree.look, self._cgroup.members()) if one]):
            killed = tuple(tree.Killed(one.pid, one.name, tree.command_line(one.pid)) for one in hidden)
            self.toll = self.toll._replace(killed=self.toll.killed + killed)
            self._cgroup.kill()

    def eye_on(self, file: str) -> spool.Eye | None:
        """Return what looks at a file; None while there is none."""
        if self.eye is not None and self.eye.path != file:
            self.eye.close()
            self.eye = None
        if self.eye is None:
            with suppress(OSError):
                self.eye = spool.Eye(file)
        return self.eye

    def ask_where(self) -> None:
        """Have it write down where its threads are; see `stacks`."""
        self._told = os.lseek(self._words, 0, os.SEEK_END)
        self.signal(worker.STACKS)
        self.asked_where = True
        process = tree.look(self.process.pid)
        members = tree.Family(process.identity).members(tree.recent(process.pid)) if process else []
        own = f"{self.process.pid} "
        self.seen = [
            f"{line[: len(own) + 1]} (worker)" if line.startswith(own) else line for line in tree.drawn(members)
        ]

    def stacks(self) -> str:
        """Return what it has written since it was asked, without its own frames."""
        text = os.pread(self._words, 1 << 16, self._told).decode(errors="backslashreplace")
        return "\n".join(line for line in text.splitlines() if OURS not in line and '"<string>"' not in line)

    def hang_up(self) -> None:
        """Let the process end by itself as soon as it has nothing to do."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def bury(self) -> str:
        """Take note of the process's end, end what is left of it, close everything; return how it ended."""
        if self.verdict is None:
            self._end_the_rest()
        start.kill_group(self.process)
        told = start.told(self.process.reap())
        if self._cgroup is not None:
            self._cgroup.remove()
        self.sock.close()
        for fd in (self.process.pidfd, self.gate, self._words):
            os.close(fd)
        if self.eye is not None:
            self.eye.close()
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
