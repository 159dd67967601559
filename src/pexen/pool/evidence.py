"""What an attempt was doing when it had to be ended: for people, so as text.

All of it goes to ``evidence.txt`` in the attempt's folder, its most telling lines into the result. Gathered before the
attempt is asked to stop, because that changes what it does.
"""

from __future__ import annotations

import gc
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pexen.model.attempt import Attempt

FILE = "evidence.txt"
LINES = 20
"""Lines of output quoted."""
_SHORT = 40
"""Lines of each part that go into the result."""


def gathered(*, processes: Iterable[str] = (), stacks: str = "", output: str = "") -> list[tuple[str, list[str]]]:
    """Return what is known as parts with a title each."""
    parts = {"processes": list(processes), "stacks": stacks.splitlines(), "last output": output.splitlines()}
    return [(title, lines) for title, lines in parts.items() if lines]


def save(attempt: Attempt, parts: list[tuple[str, list[str]]]) -> None:
    """Write the parts to the attempt's folder, and shortened to the attempt."""
    if not parts:
        return
    attempt.evidence = _text(parts, _SHORT)
    try:
        with open(f"{attempt.make_dir()}/{FILE}", "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{attempt.struck}\n\n{_text(parts)}" if attempt.struck else _text(parts))
    except OSError:  # the disk is full: what matters is in the result
        return


def _text(parts: list[tuple[str, list[str]]], most: int | None = None) -> str:
    return "\n".join(f"{title}:\n" + "".join(f"  {line}\n" for line in _cut(lines, most)) for title, lines in parts)


def _cut(lines: list[str], most: int | None) -> list[str]:
    """Return the lines, or the first and the last of them and how many are missing."""
    if most is None or len(lines) <= most:
        return lines
    half = most // 2
    return [*lines[:half], f"… {len(lines) - 2 * half} lines", *lines[-half:]]


def stack_of(ident: int) -> str:
    """Return where a thread of this process is, the outermost call first; empty when it has ended."""
    # A garbage collection in the middle of that may wait for ever for a thread that begins or ends, and that one for it, with
    # the interpreter's lock (CPython issue 106883).
    was_on = gc.isenabled()
    gc.disable()
    try:
        frame = sys._current_frames().get(ident)  # noqa: SLF001 - documented, for exactly this
    finally:
        if was_on:
            gc.enable()
    return "".join(traceback.format_stack(frame)) if frame is not None else ""


def stack_of_awaits(awaitable: Any) -> str:
    """Return what a suspended coroutine is waiting in, the outermost call first; it may go on meanwhile."""
    frames = []
    while awaitable is not None:
        frame = _first(awaitable, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaitable = _first(awaitable, "cr_await", "gi_yieldfrom", "ag_await")
    return "".join(traceback.StackSummary.extract(iter(frames)).format())


def _first(what: Any, *names: str) -> Any:
    return next((getattr(what, name) for name in names if hasattr(what, name)), None)
