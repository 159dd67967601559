"""One execution of a task, as it is handed to a pool."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from pexen.errors import PexenError
from pexen.model.command import Command
from pexen.model.context import Context
from pexen.model.meta import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pexen.model.call import Call
    from pexen.model.event import Event
    from pexen.model.result import Report
    from pexen.model.task import Task


class Files(Protocol):
    """Where attempts keep what they leave behind, see `pexen.pool.files`."""

    def make(self, id: int) -> str:  # noqa: A002 - the attempt's
        """Return the folder of an attempt, which is there now."""

    def keep(self, id: int, file: str, name: str) -> str:  # noqa: A002 - the attempt's
        """Copy a file to the attempt's folder; return the copy."""

    def left(self, id: int) -> tuple[str, ...]:  # noqa: A002 - the attempt's
        """Return what is in the attempt's folder."""

    @property
    def keeper(self) -> Any:
        """What must stay alive as long as the files are wanted."""


class Attempt:
    """One execution of ``task``: everything a pool needs to carry it out.

    ``id`` is unique in the run. ``args`` and ``kwargs`` may hold `Pickled` values, which whoever runs the callable
    unpickles; ``rest`` sets them and what else is declared below. ``shared`` are the layers of the task's shared dict,
    ``values`` what an executable is given, by name. ``post`` takes events, from any thread.
    ``started`` (monotonic seconds) is set by the pool when the task's own code begins, ``cancelled`` by `Pool.cancel`.
    """

    # Defaults of the class: most attempts never set these, and there are a million of them.
    number: int = 1
    reboots: int = 0
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = EMPTY
    shared: tuple[Any, ...] = ()
    values: Mapping[str, Any] = EMPTY
    units: Mapping[str, tuple[str, ...]] = EMPTY
    started: float = 0.0
    heard: float = 0.0
    """When it last gave a sign of life other than output; monotonic seconds."""
    printed: str = ""
    """The file with what it prints, where that is captured."""
    cancelled: bool = False
    struck: str = ""
    """Why the watchdog has asked it to end."""
    evidence: str = ""
    """What it was doing then, shortened; set by `Pool.examine`."""
    made: Context | None = None
    files: Files | None = None
    lane: Any = None
    """The run's own note of which pool it gave the attempt to."""
    around: Any = None
    """The run's own note of the generators around it."""
    watch: Any = None
    """The watchdog's own note of its limits."""
    is_up: bool = False
    """Set by the run when it has heard that a service is up: its lane does not count it any more."""
    is_leaving: bool = False
    """Set by the run before it has a service torn down."""
    condemned: str = ""
    """Why the run has asked it to end, where that is an error of the task's."""
    adds: int = 0
    """The run's own note of how often it has asked to add tasks and was not heard yet."""
    loop: int = 0
    """The thread with the event loop it runs on, where nothing else may wait."""
    settled: bool = False
    """The run's own note that it has passed, and that its result says so."""

    def __init__(
        self,
        task: Task,
        id: int,  # noqa: A002 - the word of the field
        call: Call,
        post: Callable[[Event], None],
        **rest: Any,
    ) -> None:
        self.task = task
        self.id = id
        self.call = call
        self.post = post
        if rest:
            self.__dict__.update(rest)

    def context(self) -> Context:
        """Return what the task's own code sees of its attempt; made for whoever asks first."""
        if self.made is None:
            what = self.task.callable
            self.made = Context(
                self, path=self.task.name, attempt=self.number, reboots=self.reboots, units=self.units, layers=self.shared,
                folder=what.cwd if isinstance(what, Command) else None,
            )  # fmt: skip
        return self.made

    # -- the line of its context, see `pexen.model.context.Line` ------------------------------------------------------

    def say_report(self, report: Report) -> None:
        """Deliver a report."""
        self.heard = monotonic()
        self.post(Reported(self, report))

    def say_limit(self, what: str, seconds: float) -> None:
        """Deliver a change of the timeout."""
        self.post(Limited(self, what, seconds))

    def say_heartbeat(self) -> None:
        """Note a sign of life."""
        self.heard = monotonic()

    def say_reboot(self, by: str, within: float, shared: Mapping[str, Any] | None) -> str:
        """Deliver the wish for a restart; return when it may happen, or why it may not."""
        if self.loop == threading.get_ident():
            raise PexenError(
                "this would stop the event loop, and with it the coroutines that are to end first",
                hint="await asyncio.to_thread(pexen.current().reboot)",
            )
        own = None if shared is None else dict(shared)
        return self._answered(lambda answer: RebootWanted(self, by, within, own, answer))

    def say_add(self, tasks: list[Task]) -> str:
        """Deliver tasks that are to be added; return nothing when they are, or why they are not."""
        return self._answered(lambda answer: AddWanted(self, tasks, answer))

    def _answered(self, event: Callable[[Callable[[str], None]], Event]) -> str:
        """Post an event, and wait for the answer to it."""
        answered = threading.Event()
        answers: list[str] = []

        def answer(text: str) -> None:
            answers.append(text)
            answered.set()

        self.post(event(answer))
        answered.wait()
        return answers[0]

    def keep_file(self, file: str, name: str) -> str:
        """Copy a file to the attempt's folder; return the copy."""
        return self._kept_by().keep(self.id, file, name)

    def make_dir(self) -> str:
        """Return the attempt's folder, which is there now."""
        return self._kept_by().make(self.id)

    def _kept_by(self) -> Files:
        if self.files is None:
            raise PexenError("this pool keeps no files")
        return self.files

    def is_cancelled(self) -> bool:
        """Tell whether the attempt was asked to stop."""
        return self.cancelled

    def __repr__(self) -> str:
        """Show task and number."""
        return f"<Attempt {self.task.name} #{self.number}>"


from pexen.model.event import AddWanted, Limited, RebootWanted, Reported  # noqa: E402 - attempt and event name each other
