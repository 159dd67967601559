"""``around``: generators that run around every attempt, of Python tasks and executables alike.

They watch what a task does to the machine, and must outlive it when it crashes or is killed. So they run here, in a
thread of the runner for each attempt that has any: what stands before the ``yield`` before the attempt is handed to its
pool, what stands behind it when its outcome has come. Only then is the outcome taken in; until then the attempt holds its
locks and its slot. The ``yield`` gives the status as text. A generator takes no argument, or one: the `Surroundings`.

What goes wrong in one is a report of level error under the task. One that does not come back within `PATIENCE` is left
behind in its thread, which cannot be killed, and the run goes on.
"""

from __future__ import annotations

import inspect
import threading
from contextvars import Context as Variables
from functools import partial
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError, nearest
from pexen.model.command import Command
from pexen.model.context import CURRENT, Context
from pexen.model.event import Reported
from pexen.model.result import Left, Outcome, Report, Status
from pexen.pool.base import failure_of, left_by

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.model.task import Task
    from pexen.sched.timers import Timers

PATIENCE = 60.0
"""Seconds that all the generators of an attempt together may take, before and again after it."""


class Surroundings(Context):
    """What a generator sees of the attempt that it is around: as ``pexen.current()``, and when the attempt itself began."""

    def __init__(self, attempt: Attempt) -> None:
        what = attempt.task.callable
        super().__init__(
            attempt, path=attempt.task.name, attempt=attempt.number, reboots=attempt.reboots, units=attempt.units,
            layers=attempt.shared, folder=what.cwd if isinstance(what, Command) else None,
        )  # fmt: skip
        self._attempt = attempt

    @property
    def started(self) -> float:
        """Monotonic seconds; 0 as long as it has not begun."""
        return self._attempt.started


class Around:
    """The generators around one attempt. ``over`` tells that its outcome is final."""

    def __init__(self, attempt: Attempt, post: Callable[[Event], None], timers: Timers) -> None:
        self.over = False
        self._attempt = attempt
        self._post = post
        self._timers = timers
        self._seen = Surroundings(attempt)
        self._open: list[tuple[str, Generator[None, str, None]]] = []
        self._turn = 0
        self._lock = threading.Lock()

    def begin(self, submit: Callable[[], None]) -> None:
        """Run what stands before the yields, then ``submit``; in a thread."""
        self._go(partial(self._begin, submit), partial(self._refuse, "did not come back before the task could start"))

    def end(self, outcome: Outcome) -> None:
        """Run what stands behind the yields, then post the outcome; in a thread."""
        self._go(partial(self._end, outcome), partial(self._leave, outcome))

    def _go(self, run: Callable[[int], None], late: Callable[[], None]) -> None:
        turn = self._turn
        thread = threading.Thread(target=Variables().run, args=(run, turn), name="pexen-around", daemon=True)
        thread.start()

        import time

        def look(_late: float) -> None:
            if self._is_mine(turn):
                late()

        self._timers.at(time.monotonic() + PATIENCE, look)

    def _is_mine(self, turn: int) -> bool:
        """Tell whether nobody has ended this turn, and end it."""
        with self._lock:
            if self._turn != turn:
                return False
            self._turn += 1
            return True

    def _begin(self, submit: Callable[[], None], turn: int) -> None:
        CURRENT.set(self._seen)
        for what in self._attempt.task.around:
            name = name_of(what)
            try:
                generator = _made(what, self._seen)
                next(generator)
            except StopIteration:
                self._complain(name, "has ended without a yield")
            except BaseException as error:  # noqa: BLE001 - the user's code
                if self._is_mine(turn):
                    self._refuse(f"has raised {failure_of(error)}", name)
                return
            else:
                self._open.append((name, generator))
        if self._is_mine(turn):
            submit()

    def _end(self, outcome: Outcome, turn: int) -> None:
        CURRENT.set(self._seen)
        for name, generator in reversed(self._open):
            try:
                generator.send(str(outcome.status))
            except StopIteration:
                continue
            except BaseException as error:  # noqa: BLE001 - the user's code
                self._complain(name, f"has raised {failure_of(error)}")
            else:
                self._complain(name, "has yielded twice")
        if self._is_mine(turn):
            self._conclude(outcome)

    def _conclude(self, outcome: Outcome) -> None:
        attempt = self._attempt
        if attempt.files is not None:
            before = outcome.left or Left()
            added = left_by(attempt, attempt.files) or Left()
            artifacts = tuple(dict.fromkeys((*before.artifacts, *added.artifacts)))
            if before.killed or artifacts:
                outcome.left = Left(before.killed, artifacts, attempt.files.keeper)
        self.over = True
        self._post(outcome)

    def _leave(self, outcome: Outcome) -> None:
        self._complain("around", f"has not come back within {PATIENCE:g} s and was left behind")
        self._conclude(outcome)

    def _refuse(self, why: str, name: str = "around") -> None:
        self.over = True
        self._post(Outcome(self._attempt, Status.ERROR, reason=f"{name} {why}"))

    def _complain(self, name: str, why: str) -> None:
        self._post(Reported(self._attempt, Report(name, "error", why)))


def _made(what: Any, seen: Surroundings) -> Generator[None, str, None]:
    """Call a generator function with the argument it takes, or none."""
    function = ready_made(what) if isinstance(what, str) else what
    try:
        takes_one = bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        takes_one = False
    made: Generator[None, str, None] = function(seen) if takes_one else function()
    return made


def name_of(what: Any) -> str:
    """Return what an ``around`` is called in reports."""
    return what if isinstance(what, str) else str(getattr(what, "__name__", type(what).__name__))


def ready_made(name: str) -> Callable[..., Any]:
    """Return the generator function that comes with pexen under this name; raises `DefinitionError`."""
    from pexen.sched.checks import CHECKS  # only for tasks that name one

    found: Callable[..., Any] | None = CHECKS.get(name)
    if found is None:
        raise DefinitionError(f"around: there is nothing ready-made named {name!r}", hint=nearest(name, CHECKS))
    return found


def check(task: Task) -> None:
    """Raise `DefinitionError` when something around a task cannot be that."""
    from pexen.model.call import Kind, kind_of

    for what in task.around:
        if isinstance(what, str):
            ready_made(what)
        elif kind_of(what) is not Kind.GENERATOR:
            raise DefinitionError(
                f"{task.name}: around {name_of(what)} is no generator function",
                hint="it yields once, between before and after",
            )
