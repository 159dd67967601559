"""What an attempt ended with (`Outcome`) and what the user is given (`Result`).

An `Outcome` is the event a pool posts when an attempt has ended. A `Result` is made from the last one; the usual case,
a task that simply passed, keeps six words and no more, everything else goes into `Details`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pexen.errors import TasksFailed

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.model.task import Task


class Status(StrEnum):
    """How a task ended; ``docs/results.md`` says what each means."""

    PASSED = "passed"
    UPTODATE = "uptodate"
    WARNED = "warned"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ERROR = "error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    LOST = "lost"

    @property
    def is_success(self) -> bool:
        """Whether what requires the task may run."""
        return self in _SUCCESS


_SUCCESS = frozenset({Status.PASSED, Status.WARNED, Status.UPTODATE})
_SEVERITY = {status: rank for rank, status in enumerate(Status)}
BAD = frozenset({Status.FAILED, Status.ERROR, Status.TIMEOUT, Status.CRASHED, Status.LOST})
"""Statuses that make a run fail."""

LEVELS = ("pass", "info", "warn", "fail", "error", "skip")
_LEVEL_MEANS = {"warn": Status.WARNED, "fail": Status.FAILED, "error": Status.ERROR}


@dataclass(frozen=True, slots=True)
class Report:
    """One of the many results a task may give while it runs. ``status`` is one of `LEVELS`."""

    name: str
    status: str = "pass"
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as text, and as the exception where it could be carried (an object, or `Pickled`)."""

    type: str
    message: str
    traceback: str = ""
    carried: Any = None

    @property
    def exception(self) -> BaseException | None:
        """The exception itself, unpickled on first access, or None where only the text could be carried."""
        found = self.carried
        if isinstance(found, Pickled):
            try:
                found = found.load()
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - its own unpickling may raise anything; the text is left
                return None
        return found if isinstance(found, BaseException) else None

    def __str__(self) -> str:
        """Return type and message."""
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True)
class Pickled:
    """An opaque value from another process. Nobody but the user, or a worker, calls `load`."""

    data: bytes

    def load(self) -> Any:
        """Unpickle; raises whatever the value's own code raises."""
        return pickle.loads(self.data)  # noqa: S301 - made by our own worker in this run, never read from disk

    def plain(self) -> Any:
        """Return the value if it is made of built-in types; runs no code of anybody's. Raises `pickle.UnpicklingError`."""
        return _Plain(io.BytesIO(self.data)).load()


class _Plain(pickle.Unpickler):
    """Finds no class and no function: nothing but what the format itself knows."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} is no built-in type")


class Left(NamedTuple):
    """What an attempt has left: the processes that were killed, in words, and its files; `Details.keeper` says the rest."""

    killed: str = ""
    artifacts: tuple[str, ...] = ()
    keeper: Any = None


class Outcome:
    """How an attempt ended: the event that a pool posts.

    ``started`` and ``duration`` are seconds of the monotonic clock. ``shared`` is the task's dict (or `Pickled`) when
    it may have been written to. ``freed`` is False while processes of the attempt may still live; a `Freed` event
    follows then, and locks are held until it comes. ``rest`` sets whatever is declared below.
    """

    # Defaults of the class: a task that simply passed sets none of these, and there are a million of them.
    failure: Failure | None = None
    reason: str = ""
    shared: Any = None
    output: Output | None = None
    left: Left | None = None
    deps_ok: bool = False
    locks_ok: bool = True
    freed: bool = True

    def __init__(
        self,
        attempt: Attempt,
        status: Status,
        value: Any = None,
        started: float = 0.0,
        duration: float = 0.0,
        **rest: Any,
    ) -> None:
        self.attempt = attempt
        self.status = status
        self.value = value
        self.started = started
        self.duration = duration
        if rest:
            self.__dict__.update(rest)

    def __repr__(self) -> str:
        """Show the attempt and its status."""
        return f"<Outcome {self.attempt!r} {self.status} {self.reason}>"


@dataclass(frozen=True, slots=True)
class Output:
    """What a task printed: ``size`` bytes in the file ``path``, of which head and tail are kept when ``cut``.

    ``keeper`` is whatever must stay alive as long as the file is wanted.
    """

    path: str
    size: int = 0
    cut: bool = False
    keeper: Any = None

    def read(self) -> bytes:
        """Return the bytes kept; empty when the file is gone."""
        try:
            return Path(self.path).read_bytes()
        except OSError:
            return b""

    def tail(self, lines: int) -> str:
        """Return the last ``lines`` lines without reading more than 64 KiB."""
        try:
            with Path(self.path).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 65536))
                text = file.read().decode(errors="backslashreplace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""


@dataclass(frozen=True, slots=True)
class Ended:
    """One attempt that is over, as `Result.attempts` shows it. ``start`` is seconds since the epoch."""

    number: int
    status: Status
    start: float
    duration: float
    failure: Failure | None = None
    reason: str = ""
    output: Output | None = None
    reports: tuple[Report, ...] = ()
    leaked: str = ""
    evidence: str = ""
    artifacts: tuple[str, ...] = ()


@dataclass(slots=True)
class Details:
    """What most results do not have."""

    failure: Failure | None = None
    reason: str = ""
    reports: tuple[Report, ...] = ()
    earlier: tuple[Ended, ...] = ()
    shared: tuple[Any, ...] = ()
    output: Output | None = None
    leaked: str = ""
    evidence: str = ""
    artifacts: tuple[str, ...] = ()
    original: Status | None = None
    waived: str = ""
    replayed: bool = False
    redelivered: bool = False
    posted: Mapping[str, Result] | None = None
    keeper: Any = None
    """Whatever must stay alive as long as the artifacts are wanted."""


_NOTHING = Details()


class Result:
    """What became of a task. Always picklable; may be read from any thread.

    ``start`` is seconds since the epoch, ``duration`` seconds of the monotonic clock; both 0 when it never started.
    """

    __slots__ = ("_details", "_value", "duration", "start", "status", "task")

    def __init__(
        self, task: Task, status: Status, value: Any = None, start: float = 0.0, duration: float = 0.0,
        details: Details | None = None,
    ) -> None:  # fmt: skip
        self.task = task
        self.status = status
        self._value = value
        self.start = start
        self.duration = duration
        self._details = details

    @property
    def path(self) -> str:
        """The task's path."""
        return self.task.name

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return self.status.is_success

    @property
    def value(self) -> Any:
        """What the callable returned; unpickled on first access when it came from another process."""
        if isinstance(self._value, Pickled):
            self._value = self._value.load()
        return self._value

    @property
    def carried(self) -> Any:
        """The value as the runner carries it: not unpickled."""
        return self._value

    @property
    def details(self) -> Details:
        """Everything that most results do not have."""
        return self._details or _NOTHING

    @property
    def error(self) -> Failure | None:
        """The exception's type name, message and traceback, or None."""
        return self.details.failure

    @property
    def reason(self) -> str:
        """Why it was skipped, cancelled, or could not be started."""
        return self.details.reason

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports it made, in order."""
        return self.details.reports

    @property
    def original(self) -> Status:
        """The status before anybody has waived it or had expected it; dependants go by this one."""
        return self.details.original or self.status

    @property
    def waived(self) -> str:
        """Why the status is another one than the original; empty when it is not."""
        return self.details.waived

    @property
    def flaky(self) -> bool:
        """Whether it succeeded after attempts that did not."""
        return self.original.is_success and any(one.status in BAD for one in self.details.earlier)

    @property
    def replayed(self) -> bool:
        """Whether it is of a run before that was taken up again; nothing was run for it now."""
        return self.details.replayed

    @property
    def redelivered(self) -> bool:
        """Whether a stream has given it to somebody before who was gone before it was dealt with, see `Run.stream`."""
        return self.details.redelivered

    @property
    def posted(self) -> Mapping[str, Result]:
        """How the stages of post-processing that are done with it ended, by name, see `Run.post`. The status is apart."""
        return self.details.posted or {}

    @property
    def leaked(self) -> str:
        """The processes that it had left behind, in words: ``2 processes (sleep, sh)``. They have been killed."""
        return self.details.leaked

    @property
    def evidence(self) -> str:
        """What it was doing when it had to be ended: stacks, processes, last output; shortened."""
        return self.details.evidence

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The files in its own folder: what it has attached or put there, and evidence."""
        return self.details.artifacts

    @property
    def shared(self) -> dict[str, Any]:
        """The task's shared dict as its dependants see it."""
        return merge_shared(self.details.shared)

    @property
    def attempts(self) -> tuple[Ended, ...]:
        """Every attempt, the last one included; empty when the task never started."""
        if not self.start:
            return self.details.earlier
        about = self.details
        last = Ended(
            len(about.earlier) + 1, self.original, self.start, self.duration, about.failure, about.reason, about.output,
            about.reports, about.leaked, about.evidence, about.artifacts,
        )  # fmt: skip
        return (*about.earlier, last)

    @property
    def output(self) -> str:
        """What it printed, as text; undecodable bytes as ``\\xNN``."""
        return self.output_bytes.decode(errors="backslashreplace")

    @property
    def output_bytes(self) -> bytes:
        """What it printed, exactly (head and tail when there was too much)."""
        output = self.details.output
        return output.read() if output else b""

    def but(self, **changes: Any) -> Result:
        """Return a copy with other details."""
        return Result(self.task, self.status, self._value, self.start, self.duration, replace(self.details, **changes))

    def note_posted(self, name: str, outcome: Result) -> None:
        """Attach how a stage of post-processing ended. One at a time."""
        self._details = replace(self.details, posted={**self.posted, name: outcome})

    def __repr__(self) -> str:
        """Show path and status; never the value's own ``repr``."""
        return f"<Result {self.path} {self.status}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what can be pickled: path and metadata instead of the callable, text instead of odd objects."""
        about = self._details
        if about is not None:
            failure = about.failure and replace(about.failure, carried=_carry(about.failure.carried))
            output = about.output and replace(about.output, keeper=None)
            about = replace(
                about,
                failure=failure,
                reports=_carry_reports(about.reports),
                earlier=tuple(
                    replace(one, failure=None, output=None, reports=_carry_reports(one.reports))
                    for one in about.earlier
                ),
                shared=tuple(_carry(layer) or _carry_items(layer) for layer in about.shared),
                output=output,
                keeper=None,
            )
        return (restored, (self.path, str(self.status), _carry(self._value), self.start, self.duration, about))


def _carry(value: Any) -> Any:
    """Return the value in a form that surely pickles."""
    if value is None or isinstance(value, Pickled):
        return value
    try:
        data = pickle.dumps(value)
        pickle.loads(data)  # noqa: S301 - our own bytes
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a value's own pickling may raise anything
        return None
    return Pickled(data)


def _carry_reports(reports: tuple[Report, ...]) -> tuple[Report, ...]:
    """Return the reports with that of their data which surely pickles."""
    return tuple(replace(one, data=_carry_items(one.data)) for one in reports)


def _carry_items(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return those items that surely pickle; the others stay behind."""
    return {key: value for key, value in items.items() if _carry((key, value))}


def _gone() -> NoReturn:
    raise RuntimeError("the callable of a task does not travel with its pickled result")


def restored(path: str, status: str, value: Any, start: float, duration: float, details: Details | None) -> Result:
    """Return the result that another process has pickled."""
    from pexen.model.task import Task  # the model's modules know each other; results are made more often than pickled

    return Result(Task(_gone, path), Status(status), value, start, duration, details)


def merge_shared(layers: Iterable[Any]) -> dict[str, Any]:
    """Return the dict that the layers (dicts or `Pickled`) make, later ones winning."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer.load() if isinstance(layer, Pickled) else layer)
    return merged


def worst(status: Status, levels: Iterable[str]) -> Status:
    """Return the worse of an attempt's own status and what its reports say, given by their levels."""
    for level in levels:
        said = _LEVEL_MEANS.get(level, Status.PASSED)
        if _SEVERITY[said] > _SEVERITY[status] or (status is Status.SKIPPED and said is Status.WARNED):
            status = said
    return status


class Results(Mapping[str, Result]):
    """The results of a run: a mapping from path to `Result`, in the order in which they came."""

    def __init__(self, results: Mapping[str, Result]) -> None:
        self._results = results

    def __getitem__(self, path: str) -> Result:
        """Return the result of the task at ``path``."""
        return self._results[path]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the paths."""
        return iter(self._results)

    def __len__(self) -> int:
        """Return how many results there are."""
        return len(self._results)

    @property
    def ok(self) -> bool:
        """Whether nothing failed and nothing was kept from running by a failure or a request."""
        return not self.failed

    @property
    def failed(self) -> list[Result]:
        """The results that keep the run from being good, in order."""
        return [one for one in self._results.values() if one.status in BAD or one.status is Status.CANCELLED]

    def check(self) -> Results:
        """Return self when the run is good; raise `TasksFailed`, caused by the first exception, when it is not."""
        bad = self.failed
        if not bad:
            return self
        facts = [
            (one.path, f"{one.status}" + (f": {one.error or one.reason}" if one.error or one.reason else ""))
            for one in bad[:10]
        ]
        more = f"and {len(bad) - 10} more" if len(bad) > 10 else ""
        cause = next((one.error.exception for one in bad if one.error and one.error.exception), None)
        raise TasksFailed(
            f"{len(bad)} of {len(self)} tasks did not succeed", tuple(bad), facts=facts, hint=more
        ) from cause
