"""Post-processing: a function called with each result of a run, in a pool of its own, while other tasks still run.

A stage is a run of its own, whose tasks come from a stream of the first: so it has everything that runs have, in threads or
processes, and a function that fails, hangs or dies has an outcome of its own. One thread adds, one drives.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError, PexenError
from pexen.model.call import call_of
from pexen.model.result import Result, Results
from pexen.model.task import Task, default_name
from pexen.pool.thread import ThreadPool
from pexen.sched.sched import Sched

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pexen.pool.base import Pool
    from pexen.sched.stream import Stream

_ATTACHING = threading.Lock()
"""Several stages may be done with a result at the same time."""


class Stage:
    """A function that is called with every result of a run; made by `Run.post`. From any thread.

    ``name`` is what its outcomes are called in `Result.posted`. An outcome is a `Result` with the path of the task, and status,
    value and error of the function's call.
    """

    def __init__(
        self, function: Callable[[Result], Any], pool: Pool | None, name: str | None, taken: Collection[str]
    ) -> None:
        self.name = name or default_name(function)
        if self.name in taken:
            raise DefinitionError(f"there is a stage {self.name!r} already", hint="run.post(function, name=…)")
        call_of(_task(function, "result", None))  # says now what is wrong with it
        self._function = function
        self._outcomes: dict[str, Result] = {}
        self._error: PexenError | None = None
        self._is_cancelled = False
        self._finished = threading.Event()
        self._sched = Sched(pool=pool or ThreadPool())
        self._run = self._sched.open()

    @property
    def results(self) -> Results:
        """What became of the calls so far, by the path of the task."""
        return Results(self._outcomes)

    @property
    def errors(self) -> list[Result]:
        """Those of the outcomes that are no success: they change nothing in the run."""
        return self.results.failed

    def wait(self, timeout: float | None = None) -> Results:
        """Wait until the run is over and all its results were dealt with; return the outcomes.

        Raises TimeoutError after ``timeout`` seconds, and `PoolError` when the pool could not work.
        """
        if not self._finished.wait(timeout):
            raise TimeoutError("the stage is not done")
        if self._error is not None:
            raise self._error
        return self.results

    # -- for the run ----------------------------------------------------------------------------------------------

    def begin(self, stream: Stream) -> None:
        """Take the results from there."""
        self._threads = [
            threading.Thread(target=self._feed, args=(stream,), name=f"pexen-post-{self.name}", daemon=True),
            threading.Thread(target=self._drive, name=f"pexen-post-{self.name}", daemon=True),
        ]
        self._held = ExitStack()
        self._held.enter_context(self._run.hold())
        for thread in self._threads:
            thread.start()

    def finish(self, *, cancelled: bool) -> None:
        """Return when everything is done, or, when it was ``cancelled``, what had begun."""
        if cancelled:
            self._is_cancelled = True
            self._run.wake()
        self._finished.wait()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _feed(self, stream: Stream) -> None:
        with self._held:
            try:
                while (results := stream.take_all()) and not self._is_cancelled:
                    self._sched.add(_task(self._function, one.path, one) for one in results)
                    stream.acknowledge(len(results))
            except DefinitionError as error:  # the function's own metadata does not fit
                self._error = error
                stream.close()

    def _drive(self) -> None:
        try:
            while not self._is_cancelled and (outcomes := self._run.take()) is not None:
                self._note(outcomes)
        except PexenError as error:
            self._error = error
        finally:
            self._run.close()
            self._threads[0].join()
            self._note(one for one in self._sched.results.values() if one.path not in self._outcomes)
            self._finished.set()

    def _note(self, outcomes: Iterable[Result]) -> None:
        for one in outcomes:
            result: Result = one.task.args[0]
            outcome = Result(result.task, one.status, one.carried, one.start, one.duration, one.details)
            self._outcomes[result.path] = outcome
            with _ATTACHING:
                result.note_posted(self.name, outcome)


def _task(function: Callable[[Result], Any], path: str, result: Result | None) -> Task:
    return Task(function, path, args=(result,))
