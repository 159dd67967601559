"""Console: a line for each finished task, what runs at the bottom of a terminal, and a summary to act upon.

Lines are collected and written at `moment`, so that thousands of tasks a second cost a few writes. With a ``live`` terminal
the last line shows what is running; it is drawn with automatic wrapping switched off, so it never takes two, and erased
in the same write that brings new lines: nothing flickers. Without one, a line every minute says what is running, since
silent jobs get killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pexen.model.result import BAD, Failure, Result, Status
from pexen.model.task import Task, held_by
from pexen.report.base import Flight, Look, Plan, Summary
from pexen.report.text import counted, first_line, sized, some_of, spoken, style, visible, visible_lines

TAIL = 20
"""Lines of output shown of each failure."""
TRACE = 12
"""Lines of traceback."""
EVIDENCE = 30
"""Lines of what a task was doing when it had to be ended."""
ARTIFACTS = 5
"""Files named of those that a task has left."""
HEARTBEAT = 60.0
"""Seconds of silence."""
_FRAME = 0.1
_ERASE, _NO_WRAP, _WRAP = "\r\x1b[K", "\x1b[?7l", "\x1b[?7h"


class Screen(Protocol):
    """Where the console writes."""

    def write(self, text: str) -> None:
        """Write at once; a screen that is gone takes nothing and says nothing."""

    def width(self) -> int:
        """Return the number of columns."""


class Console:
    """The reporter for people, on ``screen``.

    ``verbosity``: -1 only the summary, 0 a line a task, 1 also what passing tasks print, 2 also requirements.
    ``live`` is for a terminal that shows nothing else. ``clock`` is monotonic.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        colour: bool = False,
        live: bool = False,
        verbosity: int = 0,
        heartbeat: float = HEARTBEAT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._colour = colour
        self._live = live and verbosity >= 0
        self._verbosity = verbosity
        self._heartbeat = heartbeat
        self._clock = clock
        self._plan = Plan(())
        self._tasks: Mapping[str, Task] = {}
        self._lines: list[str] = []
        self._status = ""
        self._counts: dict[str, int] = {}
        self._done = 0
        self._total = 0
        self._written = self._drawn = clock()

    # -- what it is told ----------------------------------------------------------------------------------------------

    def begin(self, plan: Plan) -> None:
        """Show what is run, and where it goes."""
        self._plan = plan
        self._total = len(plan.tasks)
        if self._verbosity >= 0:
            words = [counted(self._total, "task"), counted(plan.jobs, "job")]
            words += [f"timeout {_span(plan.timeout)}"] if plan.timeout else []
            words += [f"output in {visible(plan.folder)}"] if plan.folder else []
            self._lines.append(f"{visible(plan.title)}: {', '.join(words)}")
        self._flush()

    def finished(self, result: Result) -> None:
        """Put the task's line on the list."""
        status = result.status
        self._done += 1
        self._counts[status] = self._counts.get(status, 0) + 1
        if self._verbosity < 0 or (result.replayed and self._verbosity < 1):
            return
        spent = spoken(result.duration) if result.start else ""
        self._lines.append(f"{self._status_word(status)} {spent:>7}  {visible(result.path)}{self._why(result)}")
        if self._verbosity > 0:
            self._lines += self._more(result)

    def moment(self, look: Look) -> None:
        """Write what has come; show or tell what is running when it is time."""
        now = self._clock()
        if self._live:
            if self._lines or now - self._drawn >= _FRAME:
                self._drawn = now
                self._flush(self._status_line(look()))
            return
        if self._heartbeat and not self._lines and now - self._written >= self._heartbeat and self._verbosity >= 0:
            self._lines.append(self._heartbeat_line(look()))
        self._flush()

    def note(self, text: str) -> None:
        """Show it at once."""
        self._lines.append(f"note: {visible(text)}")
        self._flush()

    def end(self, summary: Summary) -> None:
        """Show what is to be done about the failures, what was skipped, and the counts."""
        results = list(summary.results.values())
        for result in results:
            if result.status in BAD:
                self._lines += ["", *self._failure(result)]
        for status in (Status.WARNED, Status.SKIPPED, Status.CANCELLED):
            self._lines += self._grouped(status, [one for one in results if one.status is status])
        flaky = [one.path for one in results if one.flaky]
        if flaky:
            told = f"succeeded after it had not: {visible(some_of(flaky, self._most(flaky)))}"
            self._lines += ["", f"flaky     {len(flaky):>7}  {told}"]
        self._lines += [""] * (self._verbosity >= 0) + [self._total_line(results, summary)]
        self._flush()

    # -- lines while it runs ------------------------------------------------------------------------------------------

    def _status_word(self, status: Status) -> str:
        return style(status.value, status.value, on=self._colour) + " " * (9 - len(status.value))

    def _dim(self, text: str) -> str:
        return style(text, "dim", on=self._colour)

    def _why(self, result: Result) -> str:
        """Return in brief why it did not simply pass."""
        about = result.details
        words = []
        if about.earlier:
            words.append(("flaky, " if result.flaky else "") + f"attempt {len(result.attempts)}")
        words += [told] if (told := self._told(result)) else []
        return self._dim(": " + ", ".join(words)) if words else ""

    def _told(self, result: Result) -> str:
        """Return in one line what is to be known of a result besides its status."""
        about = result.details
        if about.waived:
            said = f", {about.reason}" if about.reason else ""
            return first_line(f"{about.waived} ({result.original}{said})")
        if result.status is Status.PASSED:
            return ""
        reported = next((one for one in about.reports if one.status in {"fail", "error", "warn"}), None)
        said = about.reason or (str(about.failure) if about.failure else "")
        if about.failure and result.status is Status.WARNED:  # a teardown; of what is bad the summary shows all
            said = _and_why(result)
        said = said or (f"{reported.name}: {reported.message}" if reported else "")
        said = said or (f"leaked {about.leaked}" if about.leaked else "")
        return first_line(said)

    def _more(self, result: Result) -> list[str]:
        """Return what -v and -vv add to a line."""
        lines = []
        if self._verbosity > 1:
            for wanted, paths in self._plan.requirements(result.task):
                lines.append(f"      requires {visible(wanted)}: {visible(some_of(list(paths))) or 'nothing'}")
            lines += [f"      {one.status} {visible(one.name)}  {first_line(one.message)}" for one in result.reports]
        if result.status not in BAD:  # what failing tasks print is in the summary
            lines += [self._dim("    | ") + line for line in visible_lines(result.output)]
        return lines

    def _heartbeat_line(self, flights: Sequence[Flight]) -> str:
        """Return who is running, for how long, and what it holds."""
        self._tasks = self._tasks or {task.name: task for task in self._plan.tasks}
        told = []
        for path, age in _running(flights):
            task = self._tasks.get(path)
            held = held_by(task) if task else ""
            told.append(f"{visible(path)} for {spoken(age)}" + (f" ({visible(held)})" if held else ""))
        return f"running {self._progress()}: {some_of(told) or 'nothing'}{_up(flights)}"

    def _progress(self) -> str:
        self._total = max(self._total, self._done)  # tasks may have been added on the fly
        return f"[{self._done}/{self._total}]"

    def _status_line(self, flights: Sequence[Flight]) -> str:
        bad = sum(self._counts.get(status, 0) for status in BAD)
        # Whole seconds: what changes ten times a second cannot be read.
        told = ", ".join(f"{visible(path)} {int(age)}s" for path, age in _running(flights)[:20])
        text = f"{self._progress()}{f' {bad} bad' if bad else ''} {told or 'waiting'}{_up(flights)}"
        width = max(20, self._screen.width() - 1)
        return text if len(text) <= width else text[: width - 1] + "…"

    def _flush(self, status: str = "") -> None:
        """Write everything in one go: erase the status line, bring the lines, draw the status line anew."""
        if not self._lines and status == self._status:
            return
        text = "".join([line + "\n" for line in self._lines])
        if self._live:
            text = (_ERASE if self._status else "") + text
            text += f"{_NO_WRAP}{style(status, 'dim', on=self._colour)}{_WRAP}" if status else ""
        if self._lines:
            self._written = self._clock()
        self._lines.clear()
        self._status = status
        self._screen.write(text)

    # -- the summary --------------------------------------------------------------------------------------------------

    def _failure(self, result: Result) -> list[str]:
        """Return everything needed to act on one failure."""
        spent = f" after {spoken(result.duration)}" if result.start else ""
        tries = f", attempt {len(result.attempts)}" if result.details.earlier else ""
        name = style(visible(result.path), "bold", on=self._colour)
        lines = [
            f"{style(result.status.value, result.status.value, on=self._colour)}  {name}{self._dim(spent + tries)}"
        ]
        if result.reason:
            lines += ["  " + line for line in visible_lines(result.reason)[:TRACE]]
        if result.error:
            lines += self._trace(result.error)
        for report in result.reports:
            if report.status in {"fail", "error", "warn"}:
                said = f": {first_line(report.message)}" if report.message else ""
                lines.append(f"  {report.status} {visible(report.name)}{said}")
        if result.leaked:
            lines.append(f"  leaked {visible(result.leaked)}")
        lines += ["  " + line for line in visible_lines(result.evidence)[:EVIDENCE]]
        lines += self._output(result)
        lines += [f"  {self._dim('kept:')} {visible(self._plan.file(file))}" for file in result.artifacts[:ARTIFACTS]]
        if len(result.artifacts) > ARTIFACTS:
            lines.append(f"  {self._dim('kept:')} … {len(result.artifacts) - ARTIFACTS} more files")
        again = self._plan.again(result.path)
        if again:
            lines.append(f"  {self._dim('again:')} {visible(again)}")
        return lines

    def _trace(self, error: Failure) -> list[str]:
        lines = visible_lines(error.traceback) or visible_lines(str(error))
        shown = lines[-TRACE:]
        if len(shown) < len(lines):
            shown.insert(0, f"… {len(lines) - len(shown)} lines above")
        return ["  " + line for line in shown]

    def _output(self, result: Result) -> list[str]:
        output = result.details.output
        if output is None or not output.size:
            return []
        lines = visible_lines(output.tail(TAIL + 1))
        told = f"the last {TAIL} lines of {sized(output.size)} of output" if len(lines) > TAIL else "output"
        head = f"  {self._dim(f'{told}, in')} {visible(self._plan.file(output.path))}"
        return [head, *(f"  {self._dim('|')} {line}" for line in lines[-TAIL:])]

    def _grouped(self, status: Status, results: list[Result]) -> list[str]:
        """Return who was skipped (warned, cancelled), together where the reason is the same."""
        groups: dict[str, list[str]] = {}
        for one in results:
            warnings = [f"{report.name}: {report.message}" for report in one.reports if report.status == "warn"]
            warnings += [f"leaked {one.leaked}"] if one.leaked else []
            told = first_line(one.waived or _and_why(one) or "; ".join(warnings)) or "for no known reason"
            groups.setdefault(told, []).append(one.path)
        lines = [
            f"{self._status_word(status)} {len(paths):>7}  {reason}: {visible(some_of(paths, self._most(paths)))}"
            for reason, paths in groups.items()
        ]
        return ["", *lines] if lines else []

    def _most(self, paths: list[str]) -> int:
        """Return how many of the paths to name."""
        return 5 if self._verbosity < 2 else len(paths)

    def _total_line(self, results: list[Result], summary: Summary) -> str:
        counts: dict[Status, int] = {}
        for one in results:
            counts[one.status] = counts.get(one.status, 0) + 1
        told = [
            style(f"{counts[status]} {status.value}", status.value, on=self._colour)
            for status in Status
            if status in counts
        ]
        stopped = f" ({summary.stopped})" if summary.stopped else ""
        return f"{counted(len(results), 'task')} in {spoken(summary.seconds)}: {', '.join(told) or 'nothing to do'}{stopped}"


def _running(flights: Sequence[Flight]) -> list[tuple[str, float]]:
    """Return what has started, with its age, the oldest first; services that are up are there, and do not run."""
    return sorted(
        ((one.path, one.age) for one in flights if one.age is not None and not one.is_up), key=lambda one: -one[1]
    )


def _up(flights: Sequence[Flight]) -> str:
    """Return which services are up, to be said behind what runs."""
    up = [visible(one.path) for one in flights if one.is_up]
    return f"; up: {some_of(up)}" if up else ""


def _and_why(result: Result) -> str:
    """Return the reason, with the exception behind it where there is one."""
    return ": ".join(text for text in (result.reason, str(result.error or "")) if text)


def _span(seconds: float) -> str:
    """Return a time span as people write it: ``30m``, ``90s``."""
    return f"{seconds / 60:g}m" if seconds >= 60 and not seconds % 60 else f"{seconds:g}s"
