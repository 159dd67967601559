"""An attempt as an executor is given it: something to call, which may or may not be pickled on its way.

Nobody can ask an executor whether its workers are threads or processes. So the work tells by itself: called where it was
made, it runs the attempt as any thread of ours would. When it is pickled it becomes what another process can run: callable
and arguments as bytes, opened there where whatever their code does happens to the attempt. The answer is then bytes as
well, in which values stay closed (see `pexen.pool.describe`).
"""

from __future__ import annotations

from contextvars import Context as Variables
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from pexen.errors import PexenError
from pexen.model.attempt import Attempt
from pexen.model.call import Kind
from pexen.model.context import CURRENT
from pexen.model.task import Task
from pexen.pool import wire
from pexen.pool.base import called, execute
from pexen.pool.describe import described

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pexen.model.result import Outcome, Report
    from pexen.pool.files import Files


class Work:
    """An attempt to be called once. ``thread`` is where it runs, 0 where that is not in this process."""

    def __init__(self, attempt: Attempt, files: Files) -> None:
        self.thread = 0
        self._attempt = attempt
        self._files = files

    def __call__(self) -> Outcome:
        """Run the attempt here."""
        self.thread = get_ident()
        return Variables().run(execute, self._attempt, self._files)

    def __reduce__(self) -> tuple[type[FarWork], tuple[bytes, bytes]]:
        """Become what runs in another process, which is about to begin."""
        attempt = self._attempt
        about = {
            "number": attempt.number, "reboots": attempt.reboots, "args": attempt.args, "kwargs": dict(attempt.kwargs),
            "shared": attempt.shared, "units": dict(attempt.units),
        }  # fmt: skip
        function = _dumped("the callable", attempt.task.callable)
        rest = _dumped("an argument", (attempt.task.name, attempt.id, attempt.call, about))
        attempt.started = monotonic()
        return FarWork, (function, rest)


def _dumped(what: str, value: Any) -> bytes:
    try:
        return wire.dumps(value)
    except BaseException as error:
        from pexen.pool.ship import CannotShip  # the other process does not need it

        raise CannotShip(what, error) from None


class FarWork:
    """An attempt that has left its process."""

    def __init__(self, function: bytes, rest: bytes) -> None:
        self._function = function
        self._rest = rest
        self.value: Any = None
        self.error: BaseException | None = None
        self.written: dict[str, Any] | None = None
        self.reason = ""

    def __call__(self) -> bytes:
        """Run the attempt here; return how it has ended as `pexen.pool.answer.ending` reads it. Lets no exception escape."""
        started = monotonic()
        Variables().run(self._run)
        duration = monotonic() - started
        flags, parts = described(self)  # type: ignore[arg-type] # it asks for no more than there is
        return wire.END.pack(flags, started, duration) + parts

    def _run(self) -> None:
        attempt: Attempt | None = None
        try:
            self.reason = "the worker could not load the callable"
            function = wire.loads(self._function)
            self.reason = "the worker could not unpickle an argument"
            path, number, call, about = wire.loads(self._rest)
            self.reason = ""
            attempt = FarAttempt(Task(function, path), number, call, _nobody, **about)
            CURRENT.set(attempt)
            value = called(attempt)
            if call.kind is Kind.COROUTINE:
                import asyncio

                value = asyncio.run(value)
            self.value = value
        except BaseException as error:
            self.error = error
        if attempt is not None and attempt.made is not None:
            self.written = attempt.made.written


class FarAttempt(Attempt):
    """The attempt as its own code sees it in another process, from where nothing can be said."""

    def say_report(self, report: Report) -> None:
        """Refuse."""
        _nobody()

    def say_limit(self, what: str, seconds: float) -> None:
        """Refuse."""
        _nobody()

    def say_heartbeat(self) -> None:
        """Refuse."""
        _nobody()

    def say_reboot(self, by: str, within: float, shared: Mapping[str, Any] | None) -> str:
        """Refuse."""
        _nobody()

    def say_add(self, tasks: list[Task]) -> str:
        """Refuse."""
        _nobody()

    def keep_file(self, file: str, name: str) -> str:
        """Refuse."""
        _nobody()

    def make_dir(self) -> str:
        """Refuse."""
        _nobody()


def _nobody(*_: object) -> NoReturn:
    raise PexenError(
        "from a process of an executor nothing can be said to the run", hint="return it, or use pexen.ProcessPool"
    )
