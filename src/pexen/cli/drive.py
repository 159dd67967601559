"""Driving a run from the command line: the pool, the console, what signals ask for, the exit code."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pexen.cli.guardian import reaper
from pexen.cli.isolate import isolate
from pexen.cli.main import FAILED, GOOD, INTERRUPTED
from pexen.cli.options import resources
from pexen.cli.place import Place
from pexen.cli.screen import Screen, has_colour, is_live
from pexen.factory.collect import asker
from pexen.factory.conditions import gate
from pexen.factory.facts import Facts
from pexen.model.result import BAD, Result, Status
from pexen.model.task import Task
from pexen.pool.local import LocalPool
from pexen.report.base import Flight, Observers, Plan, Summary
from pexen.report.console import Console
from pexen.report.text import counted, quoted, visible
from pexen.sched.sched import Sched

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.cli.run import How, Origin
    from pexen.cli.selection import Chosen
    from pexen.cli.signals import Interrupts
    from pexen.report.base import Reporter
    from pexen.sched.recorder import Changes
    from pexen.sched.run import Run

_GATHER = 0.02
"""Seconds for which results are collected before they are shown."""
_LIVE_TICK, _TICK = 0.25, 1.0
_NAMED = 10
"""How many paths are named in a note."""
_GRACE = 5.0
"""Seconds between asking and killing what was added on the fly; other tasks say it themselves."""


def execute(chosen: Chosen, how: How, interrupts: Interrupts, origin: Origin) -> int:
    """Run the selected tasks and return the exit code."""
    screen = Screen()
    live = is_live(screen, os.environ) and not how.inline
    colour, verbosity = has_colour(how.color, 2), how.verbose - how.quiet
    console = Console(screen, colour=colour, live=live, verbosity=verbosity, heartbeat=how.heartbeat)
    place = Place(chosen.root, origin.folder)
    observers = Observers([console, *(reporter(kind, file, place.folder) for kind, file in _reports(how))])
    try:
        pool = _pool(how, place.output)
        sched = Sched(
            chosen.tasks, pool=pool, resources=resources(chosen.root), maxfail=how.failures,
            backlog=1 if how.inline else 1000, timeout=how.limit, deadline=how.deadline or None,
            retry_last=how.retry_last, reaper=reaper(), gate=gate(Facts(), asker(isolate)),
            journal=place.folder, about=_about(chosen, origin),
        )  # fmt: skip
        place.begin()
        observers.begin(Plan(
            chosen.tasks, chosen.title, pool.workers, "" if how.inline else chosen.shown(place.output), chosen.again,
            lambda file: quoted(chosen.shown(file)), lambda task: _requirements(sched, task), how.limit,
        ))  # fmt: skip
        for note in filter(None, (place.note, how.hint)):
            observers.note(note)
        driver = Driver(sched, chosen, how, observers, interrupts)
        # What has been made so far lasts as long as the run: the collector need not look at it again and again.
        gc.freeze()
        gc.enable()
        started = time.monotonic()
        try:
            driver.drive(_LIVE_TICK if live else _TICK)
        finally:
            observers.end(Summary(sched.results, time.monotonic() - started, driver.stopped))
    finally:
        place.close()
    for broken in observers.broken:
        screen.write(f"note: a report is incomplete: {visible(broken)}\n")
    return verdict(sched.results, strict=how.strict, interrupted=bool(driver.stopped))


_REPORTS = {"junit": ("junit", "JUnit", "xml"), "jsonl": ("jsonl", "JsonLines", "jsonl")}
"""Where reporters are: module, class, and how their files end."""


def _reports(how: How) -> list[tuple[str, str]]:
    """Return kinds and files of what is written: what was asked for, and one of each kind with the run's record."""
    return list(dict.fromkeys((*how.reports, *((kind, "") for kind in _REPORTS))))


def _about(chosen: Chosen, origin: Origin) -> dict[str, Any]:
    """Return what the record says of the run, by which it can be taken up again."""
    return {
        "root": chosen.root,
        "cwd": chosen.start,
        "argv": ["pexen", "run", *origin.words],
        "parameters": dict(chosen.params.given),
    }


def reporter(kind: str, file: str, folder: str) -> Reporter:
    """Return what writes a report of some kind; without a file it goes to the run's folder."""
    from importlib import import_module

    module, name, ending = _REPORTS[kind]
    found: Reporter = getattr(import_module(f"pexen.report.{module}"), name)(
        os.path.abspath(file) if file else f"{folder}/report.{ending}"
    )
    return found


def _requirements(sched: Sched, task: Task) -> list[tuple[str, list[str]]]:
    """Return each requirement of a task in words, with the paths it is bound to."""
    from pexen.cli.list import worded  # only asked for with -vv

    return [(worded(item), paths) for item, (_, paths) in zip(task.requires, sched.bindings(task.name), strict=True)]


def _pool(how: How, output: str) -> LocalPool:
    if how.inline:
        from pexen.pool.inline import InlinePool

        return LocalPool(1, callables=InlinePool(output=output), output=output, capture=False)
    workers = how.jobs or None
    if how.failures:
        from pexen.pool.process import ProcessPool

        # Nothing is sent ahead: what has not started when the last allowed failure comes never does.
        callables = ProcessPool(workers, spare=0, output=output, capture=True)
        return LocalPool(workers, callables=callables, output=output, capture=True)
    return LocalPool(workers, callables="process", output=output, capture=True)


class Driver:
    """Stays with a run to its end: shows results as they come, and does what signals ask for.

    ``stopped`` is why it ended early, afterwards.
    """

    def __init__(
        self, sched: Sched, chosen: Chosen, how: How, observers: Observers, interrupts: Interrupts
    ) -> None:  # fmt: skip
        self.stopped = ""
        self._sched = sched
        self._chosen = chosen
        self._how = how
        self._observers = observers
        self._interrupts = interrupts
        self._heard = 0
        self._kill_at: float | None = None
        self._run: Run
        self._wake: Callable[[], None] = lambda: None

    def drive(self, tick: float) -> None:
        """Run everything; look up at least every ``tick`` seconds."""
        # From here on no signal raises, so nothing can be left running.
        self._interrupts.tell(lambda: self._wake())  # noqa: PLW0108 - it is another one when the run has been opened
        run = self._run = self._sched.open()
        self._wake = run.wake
        for text in told(self._sched.changes):
            self._observers.note(text)
        gather = 0.0 if self._how.inline else _GATHER
        try:
            self._heed()
            while (results := run.take(tick, gather=gather)) is not None:
                self._observers.finished(results)
                while run.notices:
                    self._observers.note(run.notices.popleft())
                self._observers.moment(self._look)
                if self._how.inline:
                    self._attend(results)
                self._heed()
        finally:
            run.close()

    def _look(self) -> list[Flight]:
        with self._run.lock:
            return [Flight(one.path, one.age) for one in self._run.in_flight()]

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
        asked = (task for task in self._chosen.tasks if task.name in paths and not task.cleanup)
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

    # -- inline -------------------------------------------------------------------------------------------------------

    def _attend(self, results: list[Result]) -> None:
        """Leave the terminal as the next task should find it; debug what has failed."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError):  # there is none, or nobody reads it any more
                stream.flush()
        for result in results if self._how.debug and not self._interrupts.count else ():
            error = result.error.exception if result.status in BAD and result.error else None
            if error is not None and error.__traceback__ is not None:
                self._debug(error)

    def _debug(self, error: BaseException) -> None:
        import pdb  # noqa: T100 - it is what was asked for

        with self._interrupts.suspended():
            try:
                pdb.post_mortem(error.__traceback__)
            except KeyboardInterrupt:
                self._interrupts.count += 1


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


def verdict(results: Mapping[str, Result], *, strict: bool, interrupted: bool) -> int:
    """Return the exit code for these results."""
    if interrupted:
        return INTERRUPTED
    for one in results.values():
        if one.status in BAD or one.status is Status.CANCELLED:
            return FAILED
        # A lazy task that nobody needed is no test that did not happen.
        if strict and (one.status is Status.WARNED or (one.status is Status.SKIPPED and not one.task.lazy)):
            return FAILED
    return GOOD
