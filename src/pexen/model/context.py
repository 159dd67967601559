"""What a task's own code sees of its attempt: ``pexen.current()``, the same verbs in every pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError, PexenError, nearest
from pexen.model.meta import EMPTY
from pexen.model.result import LEVELS, Report, merge_shared
from pexen.model.running import CURRENT as CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Context:
    """The running attempt, for the code of its task.

    ``path``, ``attempt`` (from 1), ``units`` (resource name to the units given to the task). May be used from any
    thread of the task; what is said after the attempt has ended is dropped.
    """

    def __init__(
        self,
        *,
        path: str,
        attempt: int = 1,
        units: Mapping[str, tuple[str, ...]] = EMPTY,
        layers: Sequence[Any] = (),
        report: Callable[[Report], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.units = units
        self._layers = layers
        self._shared: dict[str, Any] | None = None
        self._report = report
        self._is_cancelled = is_cancelled

    def context(self) -> Context:
        """Return self, as an attempt returns its context."""
        return self

    @property
    def shared(self) -> dict[str, Any]:
        """The task's own shared dict; what is written to it goes to the task's dependants."""
        if self._shared is None:
            self._shared = merge_shared(self._layers)
        return self._shared

    @property
    def written(self) -> dict[str, Any] | None:
        """The shared dict if anybody has asked for it, else None."""
        return self._shared

    @property
    def cancelled(self) -> bool:
        """Whether the task has been asked to stop."""
        return self._is_cancelled()

    def report(
        self, name: str, status: str = "pass", message: str = "", *, data: Mapping[str, Any] = EMPTY,
        files: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Give one of many results; it is delivered at once and survives the task's death.

        ``status`` is one of pass, info, warn, fail, error, skip; the worst of them and the task's own end counts.
        """
        if status not in LEVELS:
            raise DefinitionError(
                f"a report's status is one of {', '.join(LEVELS)}, not {status!r}", hint=nearest(str(status), LEVELS)
            )
        self._report(Report(str(name), status, str(message), dict(data), tuple(map(str, files))))


def current() -> Context:
    """Return the context of the task this code runs in; raises `PexenError` outside of one."""
    held = CURRENT.get()
    if held is None:
        raise PexenError("pexen.current() is for code that runs inside a task")
    context = held.context()
    if context is not held:
        CURRENT.set(context)
    return context
