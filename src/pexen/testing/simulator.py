"""What would happen: the real planner in virtual time, on imagined workers. Nothing runs.

For asking what a change of the graph, of priorities, locks or the number of workers would bring, and for testing the
planner's promises about them. Workers that are free at the same instant take tasks in their order, all that ends at one
instant is taken in before anything starts: the same tasks give the same trace always.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pexen.core.planner import Planner
from pexen.errors import DefinitionError, InternalError
from pexen.model.result import Status
from pexen.model.task import Task, as_task
from pexen.testing.scripted import seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pexen.core.planner import Fallen
    from pexen.testing.scripted import Durations


class Span(NamedTuple):
    """A task on a worker (from 0), from ``start`` to ``end`` in virtual seconds."""

    path: str
    start: float
    end: float
    worker: int
    status: Status


@dataclass(slots=True)
class Simulation:
    """What would have happened: what ran where and when, in order of start, and what became of every task.

    ``reasons`` says of the tasks that did not run why.
    """

    trace: tuple[Span, ...] = ()
    results: dict[str, Status] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def makespan(self) -> float:
        """Virtual seconds until the last task had ended."""
        return max((span.end for span in self.trace), default=0.0)


def simulate(
    tasks: Iterable[Any],
    workers: int = 2,
    *,
    durations: Durations | None = None,
    failures: Mapping[str, Status | str] | None = None,
    resources: Mapping[str, float | Sequence[str]] | None = None,
    informed: bool = True,
) -> Simulation:
    """Return what would happen if these tasks ran on so many workers, one task at a time on each.

    ``durations`` (a mapping or a callable) says how long a path takes; what it does not know takes its ``estimate``, or
    1 second. The planner knows them, too, as if from earlier runs, unless ``informed`` is False. ``failures`` are the
    statuses of those that do not pass. Tasks of all pools share the workers. Raises `DefinitionError` for wrong tasks.
    """
    if workers < 1:
        raise DefinitionError(f"nothing ever happens on {workers} workers")
    items = [as_task(item) for item in tasks]
    verdicts = {path: Status(status) for path, status in (failures or {}).items()}
    pools = list(dict.fromkeys(["default", *(task.pool for task in items if task.pool)]))
    planner = Planner(
        resources=resources,
        pools=pools,
        durations=(lambda path: seconds_of(path, None, durations)) if informed and durations else None,
    )
    simulator = _Simulator(planner, pools, workers, durations, verdicts)
    return simulator.run(items)


class _Simulator:
    def __init__(
        self,
        planner: Planner,
        pools: list[str],
        workers: int,
        durations: Durations | None,
        verdicts: Mapping[str, Status],
    ) -> None:
        self._planner = planner
        self._pools = pools
        self._durations = durations
        self._verdicts = verdicts
        self._idle = list(range(workers))
        self._ends: list[tuple[float, int, Task]] = []
        self._spans: list[Span] = []
        self._done = Simulation()

    def run(self, tasks: list[Task]) -> Simulation:
        """Go from end to end until nothing is left."""
        self._note(self._planner.add(tasks))
        now = 0.0
        while True:
            for task in self._next():
                self._start(task, now)
            self._note(self._planner.take_fallen())
            if not self._ends:
                break
            now = self._ends[0][0]
            while self._ends and self._ends[0][0] == now:
                _, number, task = heapq.heappop(self._ends)
                self._end(self._spans[number], task)
        over = self._planner.is_over()
        self._note(self._planner.take_fallen())
        if not over:
            raise InternalError("the simulation is stuck")
        self._done.trace = tuple(self._spans)
        return self._done

    def _next(self) -> Iterator[Task]:
        for pool in self._pools:
            while self._idle and (task := self._planner.next(pool)) is not None:
                yield task

    def _start(self, task: Task, now: float) -> None:
        path = task.name
        end = now + seconds_of(path, task.estimate, self._durations)
        span = Span(path, now, end, heapq.heappop(self._idle), self._verdicts.get(path, Status.PASSED))
        heapq.heappush(self._ends, (end, len(self._spans), task))
        self._spans.append(span)

    def _end(self, span: Span, task: Task) -> None:
        self._done.results[span.path] = span.status
        self._note(self._planner.finish(task, success=span.status.is_success, status=span.status))
        self._planner.free(task)
        heapq.heappush(self._idle, span.worker)

    def _note(self, fallen: Iterable[Fallen]) -> None:
        for one in fallen:
            self._done.results[one.task.name] = Status.CANCELLED if one.cancelled else Status.SKIPPED
            self._done.reasons[one.task.name] = one.reason
