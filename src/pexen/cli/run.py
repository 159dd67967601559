"""``pexen run``: collects, selects and runs; shows what happens; says with its exit code how it went."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pexen.cli.isolate import isolate
from pexen.cli.main import FAILED, GOOD, INTERRUPTED, NOTHING
from pexen.cli.options import CONTEXT, resolved, resources, selecting, setting
from pexen.cli.screen import Screen, has_colour, is_live, write_out
from pexen.cli.selection import Chosen, Gathered, Request
from pexen.cli.signals import Interrupts
from pexen.model.result import BAD, Result, Status
from pexen.report.base import Flight, Observers, Plan, Summary
from pexen.report.console import Console
from pexen.report.text import counted, first_line, quoted, visible

if TYPE_CHECKING:
    from pexen.sched.sched import Sched

_GATHER = 0.02
"""Seconds for which results are collected before they are shown."""
_LIVE_TICK, _TICK = 0.25, 1.0
_GRACE = 5.0
"""Seconds between asking and killing what was added on the fly; tasks say it themselves."""


@click.command("run", context_settings=CONTEXT)
@selecting
@setting("deps")
@setting("jobs")
@click.option("-x", "--exitfirst", is_flag=True, help="Start nothing more after the first failure.")
@setting("maxfail")
@click.option("--dry-run", is_flag=True, help="Show the order in which tasks would start.")
@click.option("--co", "--collect-only", "collect_only", is_flag=True, help="Show what would be run.")
@click.option("-s", "--no-capture", "attached", is_flag=True, help="One task at a time, with your terminal.")
@click.option("--pdb", "debug", is_flag=True, help="As -s, and debug the exceptions of Python tasks.")
@setting("strict")
@click.option("-v", "--verbose", count=True, help="Also what passing tasks print; -vv also requirements.")
@click.option("-q", "--quiet", count=True, help="Only the summary.")
@setting("heartbeat")
@click.pass_context
def command(context: click.Context, /, words: tuple[str, ...], **given: Any) -> int:
    """Run tasks, in the right order and in parallel.

    PATH selects what is there and below in its tree; what the selected tasks require is run as well.
    """
    request = Request(words, given.pop("params"), context.obj or (), given.pop("chdir"))
    with Interrupts() as interrupts:
        gathered = Gathered(request)
        how = How(**{**given, **resolved(given, gathered.root)})
        chosen = gathered.select(keyword=how.keyword, tags=how.tags, deps=how.deps)
        if not chosen.selection.chosen:
            return _nothing(chosen, how)
        if how.collect_only:
            from pexen.cli.list import show

            show(chosen, colour=has_colour(how.color, 1))
            return GOOD
        if how.dry_run:
            return _dry_run(chosen, how)
        return _execute(chosen, how, interrupts)


@dataclass(slots=True)
class How:
    """How to run: the options, with the settings resolved."""

    keyword: str
    tags: str
    color: str
    deps: bool
    jobs: int
    exitfirst: bool
    maxfail: int
    dry_run: bool
    collect_only: bool
    attached: bool
    debug: bool
    strict: bool
    verbose: int
    quiet: int
    heartbeat: float

    @property
    def inline(self) -> bool:
        """Whether tasks have the terminal, one at a time."""
        return self.attached or self.debug

    @property
    def failures(self) -> int | None:
        """After how many failures to stop."""
        return 1 if self.exitfirst else self.maxfail or None


def _nothing(chosen: Chosen, how: How) -> int:
    """Say that nothing was selected, and what may be the matter."""
    told = f"no task selected out of {len(chosen.collected)} in {chosen.title}"
    if how.keyword.isdigit():
        told += f"\n  hint: -k selects by path; pexen keeps going after failures anyway, which is -k {how.keyword} in ninja"
    elif not chosen.collected:
        told += "\n  hint: every executable file is a task; chmod +x?"
    print("\n".join(map(visible, told.split("\n"))), file=sys.stderr)
    return NOTHING


# -- the run ------------------------------------------------------------------------------------------------------


def _execute(chosen: Chosen, how: How, interrupts: Interrupts) -> int:
    """Run the tasks and return the exit code."""
    from pexen.cli.place import Place
    from pexen.factory.collect import asker
    from pexen.factory.conditions import gate
    from pexen.factory.facts import Facts
    from pexen.sched.sched import Sched

    screen = Screen()
    live = is_live(screen, os.environ) and not how.inline
    console = Console(
        screen, colour=has_colour(how.color, 2), live=live, verbosity=how.verbose or -how.quiet, heartbeat=how.heartbeat
    )
    observers = Observers([console])
    place = Place(chosen.root)
    try:
        pool = _pool(how, place.output)
        sched = Sched(
            chosen.tasks, pool=pool, resources=resources(chosen.root), maxfail=how.failures,
            backlog=1 if how.inline else 1000, gate=gate(Facts(), asker(isolate)),
        )  # fmt: skip
        notes = [place.note] if place.note else []
        if how.keyword.isdigit():
            notes.append(f"-k selects by path; to keep going after failures, which is -k {how.keyword} in ninja, needs no option")
        place.begin()
        folder = "" if how.inline else chosen.shown(place.output)
        observers.begin(Plan(
            chosen.tasks, chosen.title, pool.workers, folder, chosen.again,
            lambda file: quoted(chosen.shown(file)), lambda task: sched.bindings(task.name),
        ))  # fmt: skip
        for note in notes:
            observers.note(note)
        started = time.monotonic()
        driver = _Driver(sched, chosen, observers, interrupts, how, _LIVE_TICK if live else _TICK)
        try:
            driver.drive()
        finally:
            ended = time.monotonic()
        observers.end(Summary(sched.results, ended - started, driver.stopped))
    finally:
        place.close()
    for broken in observers.broken:
        screen.write(f"note: a report is incomplete: {visible(broken)}\n")
    return _verdict(sched.results, how, interrupted=bool(driver.stopped))


def _pool(how: How, output: str) -> Any:
    from pexen.pool.local import LocalPool

    if how.inline:
        from pexen.pool.inline import InlinePool

        return LocalPool(1, callables=InlinePool(), capture=False)
    workers = how.jobs or None
    if how.failures:
        from pexen.pool.process import ProcessPool

        # Nothing is sent ahead: what has not started when the last allowed failure comes never does.
        return LocalPool(workers, callables=ProcessPool(workers, spare=0, output=output), output=output)
    return LocalPool(workers, callables="process", output=output)


class _Driver:
    """Stays with a run to its end: shows results as they come, and does what signals ask for."""

    def __init__(
        self, sched: Sched, chosen: Chosen, observers: Observers, interrupts: Interrupts, how: How, tick: float
    ) -> None:
        self.stopped = ""
        self._sched = sched
        self._observers = observers
        self._interrupts = interrupts
        self._how = how
        self._chosen = chosen
        self._tick = tick
        self._heard = 0
        self._kill_at: float | None = None

    def drive(self) -> None:
        """Run everything."""
        run = self._run = self._sched.open()
        self._interrupts.tell(run.wake)
        gather = 0.0 if self._how.inline else _GATHER
        try:
            while (results := run.take(self._tick, gather=gather)) is not None:
                self._observers.finished(results)
                self._observers.moment(self._look)
                if self._how.inline:
                    self._attend(results)
                self._heed()
        finally:
            run.close()

    def _look(self) -> list[Flight]:
        with self._run.lock:
            return [Flight(one.path, one.age) for one in self._run.in_flight()]

    def _heed(self) -> None:
        """Do what signals have asked for, and kill what does not stop in time."""
        count = self._interrupts.count
        if count > self._heard:
            self._heard = count
            self.stopped = "interrupted"
            if count == 1:
                flights = self._look()
                paths = {one.path for one in flights}
                self._kill_at = time.monotonic() + max(
                    (task.grace for task in self._chosen.tasks if task.name in paths), default=_GRACE
                )
                self._run.cancel()
                self._observers.note(f"interrupted: stopping {counted(len(flights), 'task')}; once more kills what still runs")
            else:
                self._kill("interrupted again: killing what still runs; once more leaves at once")
        elif self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill("killing what did not stop in time")

    def _kill(self, told: str) -> None:
        self._kill_at = None
        self._observers.note(told)
        self._run.cancel(force=True)

    def _attend(self, results: list[Result]) -> None:
        """Leave the terminal as the next task should find it; debug what has failed."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for result in results if self._how.debug else ():
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


def _verdict(results: Mapping[str, Result], how: How, *, interrupted: bool) -> int:
    """Return the exit code for these results."""
    if interrupted:
        return INTERRUPTED
    for one in results.values():
        if one.status in BAD or one.status is Status.CANCELLED:
            return FAILED
        if how.strict and (one.status is Status.WARNED or (one.status is Status.SKIPPED and not one.task.lazy)):
            return FAILED
    return GOOD


# -- without running --------------------------------------------------------------------------------------------


def _dry_run(chosen: Chosen, how: How) -> int:
    """Show the order in which tasks would start if each took the same time and passed."""
    from collections import deque

    from pexen.core.planner import Planner
    from pexen.factory.conditions import gate
    from pexen.factory.facts import Facts
    from pexen.pool.base import usable_cpus

    planner = Planner(resources=resources(chosen.root))
    skip = gate(Facts(), lambda when: True)
    fallen = planner.add(chosen.tasks)
    running: deque[Any] = deque()
    lines: list[str] = []
    while True:
        while len(running) < (how.jobs or usable_cpus()) and (task := planner.next()) is not None:
            reason = skip(task)
            if reason is None:
                lines.append(_dry_line(task, how))
                running.append((task, True))
            else:
                lines.append(f"# {visible(task.name)} would be skipped: {first_line(reason)}")
                running.append((task, False))
        if not running:
            break
        task, good = running.popleft()
        fallen += planner.finish(task, success=good, status="skipped")
        planner.free(task)
    lines += [f"# {visible(one.task.name)} would be skipped: {first_line(one.reason)}" for one in fallen]
    write_out("".join(line + "\n" for line in lines))
    return GOOD


def _dry_line(task: Any, how: How) -> str:
    from pexen.model.command import Command

    if not how.verbose:
        return visible(task.name)
    what = str(task.callable) if isinstance(task.callable, Command) else quoted(task.name)
    return f"{visible(task.name)}: {visible(what)}"
