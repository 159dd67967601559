"""One execution of a task, as it is handed to a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pexen.model.context import Context
from pexen.model.meta import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pexen.model.call import Call
    from pexen.model.event import Event
    from pexen.model.task import Task


class Attempt:
    """One execution of ``task``: everything a pool needs to carry it out.

    ``id`` is unique in the run. ``args`` and ``kwargs`` may hold `Pickled` values, which whoever runs the callable
    unpickles; ``rest`` sets them and what else is declared below. ``shared`` are the layers of the task's shared dict.
    ``post`` takes events, from any thread.
    ``started`` (monotonic seconds) is set by the pool when the task's own code begins, ``cancelled`` by `Pool.cancel`.
    """

    # Defaults of the class: most attempts never set these, and there are a million of them.
    number: int = 1
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = EMPTY
    shared: tuple[Any, ...] = ()
    units: Mapping[str, tuple[str, ...]] = EMPTY
    started: float = 0.0
    cancelled: bool = False
    struck: str = ""
    """Why the watchdog has asked it to end."""
    made: Context | None = None
    lane: Any = None
    """The run's own note of which pool it gave the attempt to."""

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
            self.made = Context(
                path=self.task.name,
                attempt=self.number,
                units=self.units,
                layers=self.shared,
                report=lambda report: self.post(Reported(self, report)),
                is_cancelled=lambda: self.cancelled,
            )
        return self.made

    def __repr__(self) -> str:
        """Show task and number."""
        return f"<Attempt {self.task.name} #{self.number}>"


from pexen.model.event import Reported  # noqa: E402 - attempt and event name each other
