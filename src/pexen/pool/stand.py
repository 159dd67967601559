"""A service in its worker process, between setup and teardown, see `pexen.pool.service`."""

from __future__ import annotations

import os

from pexen.pool import wire

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from typing import Any

    from pexen.pool.worker import Held


class Stand:
    """Where the service ``held`` is up."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._inbox = held.worker.inbox

    def come_up(self, value: Any) -> None:
        """Send that it is up; raises when the value, or the shared dict, cannot be carried."""
        if os.getpid() != self._held.worker.pid:  # a fork of the task has come back to here
            os._exit(0)
        from pexen.pool.describe import given

        self._held.send(wire.UP, wire.pack_parts(given(self._held, value)))

    def wait(self) -> None:
        """Return when it is to be torn down."""
        self._inbox.wait_for(wire.TEAR_DOWN, self._held.id)

    async def until_torn_down(self) -> None:
        """Return when it is to be torn down; meanwhile the event loop goes on."""
        import asyncio

        loop, torn_down = asyncio.get_running_loop(), asyncio.Event()
        letter = self._inbox.expect(wire.TEAR_DOWN, self._held.id)

        def look() -> None:
            self._inbox.take_in()
            if letter.has_arrived():
                torn_down.set()

        fds = (self._inbox.sock, letter.fd)
        for fd in fds:
            loop.add_reader(fd, look)
        try:
            await torn_down.wait()
        finally:
            for fd in fds:
                loop.remove_reader(fd)
            self._inbox.forget(wire.TEAR_DOWN, self._held.id)
