"""Driving a run: results are told as they come, and what signals ask for is done."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pexen.errors import PexenError
from pexen.report.base import Flight, Summary
from pexen.report.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pexen.model.result import Result
    from pexen.report.base import Observers, Plan
    from pexen.sched.resume import Changes
    from pexen.sched.run import Run
    from pexen.sched.sched import Sched
    from pexen.usecase.signals import Interrupts

_GATHER = 0.02
"""Seconds for which results are collected before they are shown."""
_NAMED = 10
"""How many paths are named in a note."""
_GRACE = 5.0
"""Seconds between asking and killing what was added on the fly; other tasks say it themselves."""


class Driver:
    """Stays with a run to its end. Each result is told to the observers first, then to ``heard``, which may raise.

    With ``inline``, tasks run in the thread that drives. ``stopped`` is why the run ended early, afterwards.
    """

    def __init__(
        self,
        sched: Sched,
        observers: Observers,
        interrupts: Interrupts,
        heard: Callable[[Result], object],
        *,
        inline: bool = False,
    ) -> None:
        self.stopped = ""
        self._sched = sched
        self._observers = observers
        self._interrupts = interrupts
        self._heard_of = heard
        self._inline = inline
        self._plan: Plan
        self._heard = 0
        self._kill_at: float | None = None
        self._run: Run
        self._wake: Callable[[], None] = lambda: None

    def drive(self, plan: Plan, notes: Iterable[str], tick: float) -> None:
        """Run everything; look up at least every ``tick`` seconds. Raises what the run and ``heard`` raise."""
        self._plan = plan
        # From here on no signal raises, so nothing can be left running.
        self._interrupts.tell(lambda: self._wake())  # noqa: PLW0108 - it is another one when the run has been opened
        began = time.monotonic()
        run = self._run = self._sched.open()
        self._wake = run.wake
        try:
            # Not before: nobody's reports are touched when somebody else writes the journal.
            self._observers.begin(plan)
            for text in (*notes, *self._sched.notices, *told(self._sched.changes)):
                self._observers.note(text)
            self._stay(tick)
        except PexenError as error:  # reports do not look as if that were all
            self.stopped = self.stopped or error.headline
            raise
        finally:
            try:
                run.close()
            finally:
                self._observers.end(Summary(self._sched.results, time.monotonic() - began, self.stopped))
        run.wait()  # raises what has gone wrong since: the last record could not be written

    def _stay(self, tick: float) -> None:
        run, gather = self._run, 0.0 if self._inline else _GATHER
        self._heed()
        while (results := run.take(tick, gather=gather)) is not None:
            self._observers.finished(results)
            while run.notices:
                self._observers.note(run.notices.popleft())
            self._observers.moment(self._look)
            if self._inline:
                _flush()
            for result in results:
                self._heard_of(result)
            self._heed()

    def _look(self) -> list[Flight]:
        with self._run.lock:
            return [Flight(one.path, one.age, one.is_up) for one in self._run.in_flight()]

    # -- signals ------------------------------------------------------------------------------------------------------

    def _heed(self) -> None:
        """Do what signals have asked for, and kill what does not stop in time."""
        count, heard = self._interrupts.count, self._heard
        if count > heard:
            self._heard = count
            if not heard:
                self._stop()
            if count > 1:
                self._kill()
        elif self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            if self._run.stop(self.stopped, force=True):
                self._observers.note("killing what has not stopped in time")

    def _stop(self) -> None:
        """Start nothing more but clean-ups, and ask all else that runs to stop."""
        self.stopped = "interrupted"
        flights = self._look()
        paths = {one.path for one in flights if one.age is not None} or {one.path for one in flights}
        asked = (task for task in self._plan.tasks if task.name in paths and not task.cleanup)
        grace = max((task.grace for task in asked), default=_GRACE)
        self._kill_at = time.monotonic() + grace
        self._run.stop(self.stopped)
        told = f"waiting for {counted(len(paths), 'task')} to stop; once more kills" if paths else "nothing was running"
        self._observers.note(f"interrupted: {told}")

    def _kill(self) -> None:
        """Start nothing more at all, and end what runs."""
        self._kill_at = None
        self._run.stop(self.stopped, force=True, cleanups=False)
        self._observers.note("interrupted again: killing what still runs; once more leaves at once")


def _flush() -> None:
    """Leave the terminal as the next task should find it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # there is none, or nobody reads it any more
            stream.flush()


def told(changes: Changes | None) -> list[str]:
    """Return in words how the tasks differ from those of the run that is taken up again."""
    if changes is None:
        return []
    lines = [f"taken up again: {counted(changes.finished, 'result')} from before"]
    for word, paths in (("new", changes.new), ("changed", changes.changed), ("removed", changes.removed)):
        if paths:
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            lines.append(f"{word}: {', '.join(paths[:_NAMED])}{more}")
    lines += [f"again: {path}, {why}" for path, why in changes.again[:_NAMED]]
    return lines
