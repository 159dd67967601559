"""What the runner sends to a worker process, where several threads of the task wait for something of it.

The thread of a service that is up waits for its teardown, others may wait for an answer. Whoever wakes first reads all that
there is, and rings for those whose letter it has found. There is no thread that only reads: some calls, such as `os.setns`
and `os.fork`, want a process without other threads.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see pexen.pool.tidy
import _thread
import os

from pexen.pool import wire

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from typing import NoReturn

CUT_OFF = 71
"""Exit status of a worker whose connection to the runner is gone."""


class Letter:
    """What somebody waits for. ``fd`` becomes readable when another thread has found it; ``payload`` is there then."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.payload: wire.Bytes | None = None

    def has_arrived(self) -> bool:
        """Tell whether it is there."""
        if self.payload is None:
            try:  # noqa: SIM105 - see pexen.pool.capture
                os.eventfd_read(self.fd)  # of a task that writes to all descriptors there are
            except BlockingIOError:
                pass
        return self.payload is not None

    def arrive(self, payload: wire.Bytes) -> None:
        """Take the payload in."""
        self.payload = payload
        os.eventfd_write(self.fd, 1)


class Inbox:
    """Frames from the socket ``sock``. ``frames`` have come and are for the worker itself, ``reader`` cuts them."""

    def __init__(self, sock: int) -> None:
        self.sock = sock
        self.reader = wire.Reader()
        self.frames: list[wire.Frame] = []
        self._awaited: dict[tuple[int, int], Letter] = {}
        self._lock = _thread.allocate_lock()

    def wait_for(self, kind: int, id_: int) -> wire.Bytes:
        """Return the payload of a frame. Others are left for whom they are for."""
        import select

        letter = self.expect(kind, id_)
        try:
            here = select.poll()
            here.register(self.sock, select.POLLIN)
            here.register(letter.fd, select.POLLIN)
            while not letter.has_arrived():
                here.poll()  # a handler may raise here, but not between reading and noting what was read
                self.take_in()
            return letter.payload or b""
        finally:
            self.forget(kind, id_)

    def expect(self, kind: int, id_: int) -> Letter:
        """Return what the frame will be found in, to be followed by `forget`; it may have come already."""
        letter = Letter()
        with self._lock:
            self._awaited[kind, id_] = letter
            for frame in [frame for frame in self.frames if frame[:2] == (kind, id_)]:
                self.frames.remove(frame)
                letter.arrive(frame[2])
        return letter

    def forget(self, kind: int, id_: int) -> None:
        """Wait no more."""
        with self._lock:
            os.close(self._awaited.pop((kind, id_)).fd)

    def take_in(self) -> None:
        """Read what there is, without waiting; the process ends when the runner has gone."""
        import select

        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, range(1, 32))
        try:
            with self._lock:
                here = select.poll()
                here.register(self.sock, select.POLLIN)
                if not here.poll(0):  # somebody else has been faster
                    return
                data = os.read(self.sock, self.reader.wanted)
                for frame in self.reader.feed(data):
                    letter = self._awaited.get(frame[:2])
                    if letter is not None:
                        letter.arrive(frame[2])
                    else:
                        self.frames.append(frame)
        except OSError:
            cut_off()
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        if not data or self.reader.damaged:
            cut_off()


def cut_off() -> NoReturn:
    """End the process: there is nobody to work for."""
    os._exit(CUT_OFF)
