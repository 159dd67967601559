"""The seam between a run and whatever shows or writes down what happens in it.

A reporter is told; it is never asked. Nothing it returns or raises has any influence on the run: one that raises is told
nothing more, and that is said at the end. All verbs are called from one thread, in this order::

    begin (finished* moment | note)* end
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pexen.model.result import Result
from pexen.model.task import Task


class Plan(NamedTuple):  # not a dataclass: a tenth of the time to import, and every run pays it
    """What is about to be run.

    ``title`` names the tree, ``folder`` is where output goes as people should type it. ``again`` returns the command
    line that runs the task at a path alone, empty where there is none, ``file`` a file's path as one would type it,
    ``requirements`` each requirement of a task as text with the paths of the tasks it is bound to. ``timeout`` is the
    limit, in seconds, of tasks that have none of their own. ``began`` is when the run did, in seconds since the epoch: 0 for now.
    """

    tasks: Sequence[Task]
    title: str = ""
    jobs: int = 1
    folder: str = ""
    again: Callable[[str], str] = lambda path: f"pexen run {path} -j1"
    file: Callable[[str], str] = lambda path: path
    requirements: Callable[[Task], Sequence[tuple[str, Sequence[str]]]] = lambda _: ()
    timeout: float | None = None
    began: float = 0.0


class Flight(NamedTuple):
    """A task in flight: ``age`` is seconds since it started, None while it waits for a worker.

    ``is_up`` tells that it is a service which is there for others.
    """

    path: str
    age: float | None
    is_up: bool = False


Look = Callable[[], Sequence[Flight]]
"""Returns what is in flight now; costs something, so it is only called by who needs to know."""


class Summary(NamedTuple):
    """How a run ended: every result by path, seconds it took, and why it ended early (empty when it did not)."""

    results: Mapping[str, Result]
    seconds: float
    stopped: str = ""


class Reporter(Protocol):
    """Is told what happens in one run."""

    def begin(self, plan: Plan) -> None:
        """Hear that the run is about to start."""

    def finished(self, result: Result) -> None:
        """Hear that a task has ended, or will never run. Called very often: do little here, and write in `moment`."""

    def moment(self, look: Look) -> None:
        """Hear that time has passed: after each batch of results and at least once a second."""

    def note(self, text: str) -> None:
        """Hear what people should know at once, such as that the run is being stopped."""

    def end(self, summary: Summary) -> None:
        """Hear that the run is over; nothing comes after it."""


class Observers:
    """Tells several reporters; what goes wrong in one of them is kept in ``broken`` and does not go further."""

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self._reporters = list(reporters)
        self.broken: list[str] = []
        self._lost: list[Reporter] = []

    def has_lost(self, reporters: Iterable[Reporter]) -> bool:
        """Tell whether one of these was disabled."""
        return any(one is lost for one in reporters for lost in self._lost)

    def begin(self, plan: Plan) -> None:
        """Tell all of them."""
        self._tell("begin", plan)

    def finished(self, results: Iterable[Result]) -> None:
        """Tell all of them of each result."""
        for result in results:
            self._tell("finished", result)

    def moment(self, look: Look) -> None:
        """Tell all of them."""
        self._tell("moment", look)

    def note(self, text: str) -> None:
        """Tell all of them."""
        self._tell("note", text)

    def end(self, summary: Summary) -> None:
        """Tell all of them."""
        self._tell("end", summary)

    def _tell(self, verb: str, what: Any) -> None:
        for reporter in self._reporters[:]:
            try:
                getattr(reporter, verb)(what)
            except Exception as error:  # noqa: BLE001 - a reporter may be anybody's
                self._reporters.remove(reporter)
                self._lost.append(reporter)
                self.broken.append(f"{type(reporter).__name__} was disabled: {type(error).__name__} in {verb}: {error}")
