"""Who is given a process whose parent has died.

Linux hands an orphan to its nearest living ancestor that is a *subreaper*, otherwise to PID 1. A daemon's usual way out of
its family (fork twice, a session of its own) ends there, so a subreaper never loses sight of what runs below it. Each
process decides that for itself: the mark is not inherited by children, and it survives an exec. In exchange, a subreaper
has to reap what it is given.

Done with the low half of ctypes: importing that costs 0.8 ms instead of 3, which every worker and every ``pexen run``
would pay. The names are CPython's own; where they are missing, ctypes itself is used.
"""

from __future__ import annotations

import os

_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 29, 36, 37


def become_subreaper(*, on: bool = True) -> bool:
    """Have this process given the orphans below it, or no more; return whether the system does that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, int(on)) == 0


def is_subreaper() -> bool:
    """Tell whether this process is given the orphans below it (PID 1 is, whatever this says)."""
    answer = bytearray(4)
    return _prctl(_PR_GET_CHILD_SUBREAPER, answer) == 0 and any(answer)


def set_slack(nanoseconds: int) -> None:
    """Set the timer slack of this thread, and of all that it starts from now on; 0: what it began with. See `pexen.pool.tree`."""
    _prctl(_PR_SET_TIMERSLACK, nanoseconds)


def tell_when_parent_ends(number: int, parent: int) -> bool:
    """Have this process sent a signal when the thread that started it ends; return whether ``parent`` still lives.

    To be called by the child itself. ``parent`` is the process id that it knows its parent by.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent  # it may have ended before it was asked for


def _prctl(option: int, value: int | bytearray) -> int:
    """Call prctl; -1 where it is missing or refused."""
    try:
        import _ctypes

        call, find = _ctypes.call_function, _ctypes.dlsym
        library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None is this program with all its libraries
        if isinstance(value, int):
            return int(call(find(library, "prctl"), (option, value, 0, 0, 0)))
    except (ImportError, AttributeError, OSError):
        pass
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, AttributeError, OSError):
        return -1
    if isinstance(value, int):
        return int(prctl(option, value, 0, 0, 0))
    return int(prctl(option, (ctypes.c_char * len(value)).from_buffer(value), 0, 0, 0))
