"""How other threads wake the one that sleeps in epoll."""

from __future__ import annotations

import os


class Bell:
    """An eventfd. Closed with the last reference to it, since another thread may be just about to ring."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Make `fd` readable."""
        os.eventfd_write(self.fd, 1)

    def hush(self, event: int) -> None:
        """Make it quiet again."""
        os.eventfd_read(self.fd)

    def __del__(self) -> None:
        os.close(self.fd)
