"""Ctrl-C once, twice, three times. SIGTERM and SIGHUP mean the same as Ctrl-C.

While a run goes on, a handler only counts and wakes the loop, which does the rest. Before that it raises
`KeyboardInterrupt`, and so it does in the middle of a task that runs inline. The third time it leaves at once, because
then somebody has lost patience and the loop has had two chances; what this process has started is killed first.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from pexen.pool import base, files
from pexen.usecase.screen import last_words

_LISTENED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEFT = 130
"""The exit code for leaving now."""


class Interrupts:
    """Counts the requests to stop, inside a ``with`` block. Does nothing in a thread that may not have handlers."""

    def __init__(self) -> None:
        self.count = 0
        self._wake: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers; a signal that is ignored (nohup) stays ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in _LISTENED:
                if signal.getsignal(number) not in {signal.SIG_IGN, None}:  # None: the handler is not Python's
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def tell(self, wake: Callable[[], None]) -> None:
        """From now on call ``wake`` instead of raising."""
        self._wake = wake

    def ask(self) -> None:
        """Request to stop once more, without a signal and never by leaving. From any thread."""
        self.count += 1
        if self._wake is not None:
            self._wake()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let Ctrl-C raise `KeyboardInterrupt` in the block, for a debugger."""
        wake, self._wake = self._wake, None
        try:
            yield
        finally:
            self._wake = wake

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._wake is None:
            raise KeyboardInterrupt
        self.count += 1
        if self.count >= 3:
            leave()
        self._wake()
        if _is_in_task(frame):
            raise KeyboardInterrupt


def _is_in_task(frame: FrameType | None) -> bool:
    """Tell whether a task's own code runs here, called by the inline pool: an exception then is the task's."""
    while frame is not None and frame.f_back is not None:
        ours, theirs = frame.f_back.f_code, frame.f_code
        is_caller = ours.co_filename == base.__file__ and ours.co_name in {"execute", "_call"}
        if is_caller and theirs.co_filename != base.__file__:
            return True
        frame = frame.f_back
    return False


def leave() -> None:
    """Kill the process groups of our children and exit, whatever else is going on."""
    for pid in _children():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
    files.remove_all()
    last_words(("\x1b[?7h\r\n" if os.isatty(2) else "") + "left without waiting\n")
    os._exit(LEFT)


def _children() -> list[int]:
    """Return our children. Pools may reap one meanwhile; its number is not given away again so soon."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found
