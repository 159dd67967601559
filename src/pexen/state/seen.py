"""What a run has seen of its tasks, as history keeps it: from a journal or from a row; and what a number of such says.

Rows come from a file without checksums, which may say anything: what cannot be is taken for nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from pexen.model.result import BAD, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pexen.state.reader import Record, Story

RECENT = 10
"""How many durations an estimate is made from."""

_MOST = 1e15
"""Seconds that are no time any more."""
_SUCCESS = frozenset(status for status in Status if status.is_success)
_TIMED = frozenset({Status.PASSED, Status.WARNED})


class Ran(NamedTuple):
    """A run. ``at`` and ``ended`` are seconds since the epoch, ``ended`` 0 where it was killed, which ``how`` says then."""

    name: str
    at: float
    ended: float
    how: str
    host: str
    arch: str
    version: str
    stepwise: bool
    tasks: int


class Seen(NamedTuple):
    """What a run has seen of a task.

    ``status`` is the one people saw, ``original`` the one before a waiver; both are empty for a task that the run has not got
    to. ``duration`` is that of the last attempt in seconds, None where there was none, and for services: how long they were up is
    how long others took. ``fell`` says that it was not run for
    the sake of another one. ``at`` is when, in seconds since the epoch, ``run`` the name of the run.
    """

    status: str
    original: str
    duration: float | None
    attempts: int
    fingerprint: str
    fell: bool
    at: float
    run: str = ""

    @property
    def is_verdict(self) -> bool:
        """Whether it says something about the task itself."""
        return self.status not in {"", Status.CANCELLED} and not self.fell

    @property
    def is_bad(self) -> bool:
        """Whether it makes a run fail."""
        return self.status in BAD

    @property
    def is_good(self) -> bool:
        """Whether it counts as a success for people."""
        return self.status in _SUCCESS

    @property
    def seconds(self) -> float | None:
        """How long a success took; None for anything else."""
        return self.duration if self.original in _TIMED else None


# -- what a journal comes to ------------------------------------------------------------------------------------------


def ran(record: Record, name: str) -> Ran:
    """Return what a journal says of its run."""
    header, end = record.header, record.end
    host = header.get("host") or {}
    words = [str(word) for word in header.get("argv", ())]
    options = words[: words.index("--")] if "--" in words else words
    return Ran(
        name, _number(header.get("at")), _number(end and end.get("at")), str(end["how"]) if end else "killed",
        str(host.get("name", "")), str(host.get("arch", "")), str(header.get("version", "")),
        bool({"--sw", "--stepwise"}.intersection(options)), len(record.stories),
    )  # fmt: skip


def seen(record: Record, name: str) -> dict[str, Seen]:
    """Return what a journal says of its tasks, by path."""
    began = _number(record.header.get("at"))
    return {path: _of_story(record, story, began, name) for path, story in record.stories.items()}


def _of_story(record: Record, story: Story, began: float, run: str) -> Seen:
    result = story.result or {}
    last = result.get("ended") or {}
    original = _original(story)
    fell = bool(result) and not last and _has_fallen(record, story)
    duration = None if _is_service(story) else _sane(last.get("duration"))
    at = _number(last.get("start")) or began
    return Seen(story.status, original, duration, story.attempts, story.fingerprint, fell, at, run)


def _is_service(story: Story) -> bool:
    if (
        b'"service"' not in story.raw_plan and b'"teardown"' not in story.raw_plan
    ):  # almost always, and not decoded for that
        return False
    meta = story.plan.get("meta", {})
    return bool(meta.get("service") or meta.get("teardown"))


def _has_fallen(record: Record, story: Story) -> bool:
    """Tell whether a task that was not started lacks something that another one should have given it."""
    needed = (record.stories.get(path) for edge in story.plan.get("requires", ()) for path in edge["paths"])
    return any(one is not None and _original(one) not in _SUCCESS for one in needed)


def _original(story: Story) -> str:
    """Return the status that dependants follow: the one before a waiver."""
    return str((story.result or {}).get("original") or story.status)


# -- what many of them say ---------------------------------------------------------------------------------------------


def median(values: Iterable[float]) -> float:
    """Return the middle one of some values. Not of `statistics`, which takes 12 ms to import."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def typical(values: Sequence[float]) -> tuple[float, float]:
    """Return the median of some values, and how far they are usually away from it: 1.4826 x the median deviation.

    For values of a normal distribution that is their standard deviation, and one that is far out does not change it.
    """
    middle = median(values)
    return middle, 1.4826 * median(abs(one - middle) for one in values)


def durations(found: Iterable[Seen]) -> list[float]:
    """Return how long the last successes took, the newest first; where there are none, the last failures."""
    ended = [one for one in found if one.is_verdict and one.duration is not None][::-1]
    good = [one.duration for one in ended if one.seconds is not None]
    bad = [one.duration for one in ended if one.is_bad and one.status != Status.LOST]
    return [one for one in (good or bad)[:RECENT] if one is not None]


def flakiness(found: Iterable[Seen]) -> tuple[int, int]:
    """Return how often a task went from good to bad or back though it was the same, and how often it could have."""
    told = (one for one in found if one.is_good or one.is_bad)
    same = [one.is_bad != other.is_bad for one, other in pairwise(told) if one.fingerprint == other.fingerprint]
    return sum(same), len(same)


def bad_since(found: Iterable[Seen]) -> Seen | None:
    """Return the first of the bad verdicts that a task has had without a good one since; None if the last one was good."""
    first = None
    for one in found:
        if one.is_verdict:
            first = (first or one) if one.is_bad else None
    return first


# -- rows --------------------------------------------------------------------------------------------------------------


def ran_from(row: Sequence[Any]) -> Ran:
    """Return the run of a row with the columns of `Ran`."""
    name, at, ended, how, host, arch, version, stepwise, tasks = row
    return Ran(
        text(name), _number(at), _number(ended), text(how), text(host), text(arch), text(version), bool(stepwise),
        int(_number(tasks)),
    )  # fmt: skip


def seen_from(row: Sequence[Any]) -> Seen:
    """Return what a row with the columns of `Seen` says; the run may be missing."""
    status, original, duration, attempts, fingerprint, fell, at, *run = row
    return Seen(
        text(status), text(original), _sane(duration), int(_number(attempts)), text(fingerprint), bool(fell),
        _number(at), text(run[0]) if run else "",
    )  # fmt: skip


def stored(name: str) -> str | bytes:
    """Return a text as SQLite takes it: what names of files may hold and UTF-8 cannot say, as bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")
    return name


def text(kept: Any) -> str:
    """Return a text as it was before `stored`."""
    if not isinstance(kept, bytes):
        return str(kept)
    try:
        return kept.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return kept.decode("utf-8", "backslashreplace")


def _number(value: Any) -> float:
    return _sane(value) or 0.0


def _sane(value: Any) -> float | None:
    return float(value) if is_sane(value) else None


def is_sane(value: Any) -> TypeGuard[float]:
    """Tell whether that is a number of seconds."""
    return isinstance(value, int | float) and 0 <= value < _MOST
