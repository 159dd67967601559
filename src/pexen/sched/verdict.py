"""Verdicts: what the end of an attempt means; and for people what was expected to fail, and what somebody has waived.

Neither of these changes what dependants do: those go by the original status, which stays beside the verdict. An expected failure
(``xfail``) is ``passed``, and ``warned`` when it did not come. A failure that a waiver applies to is ``warned``.

A waiver is a user's function on the result and the facts of the machine, so it runs outside of any lock. One that
raises waives nothing, and says so.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError
from pexen.model.result import BAD, Result, Status
from pexen.model.waiver import Waiver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pexen.model.attempt import Attempt
    from pexen.model.result import Outcome

_NO_VERDICT = frozenset({Status.LOST, Status.CANCELLED, Status.SKIPPED})
"""What says nothing about the task."""


def expected(result: Result) -> Result:
    """Return the result as ``xfail`` has people see it."""
    why = result.task.xfail
    if not why or result.status in _NO_VERDICT:
        return result
    reason = f": {why}" if isinstance(why, str) else ""
    if result.status in BAD:
        return changed(result, Status.PASSED, f"failed as expected{reason}")
    return changed(result, Status.WARNED, f"was expected to fail and did not{reason}")


class Judge:
    """Asks the waivers about failures. From any thread, outside of any lock."""

    def __init__(self, waivers: Sequence[Waiver], facts: Callable[[], Any], notice: Callable[[str], None]) -> None:
        self._waivers = tuple(waivers)
        self._facts = facts
        self._notice = notice
        self._expired: set[str] = set()

    def verdict(self, result: Result) -> Result:
        """Return the result as waived by the first waiver that applies, the task's own first, or as it is."""
        today = dt.datetime.now().astimezone().date()
        for one in (*result.task.waivers, *self._waivers):
            if not one.holds(today):
                self._tell_expired(one)
                continue
            try:
                applies = bool(one(result, self._facts()))
            except BaseException as error:  # noqa: BLE001 - it is the user's code, on a thread that others need
                self._notice(f"the waiver {one.name} has raised {type(error).__name__}: {error}")
                continue
            if applies:
                return changed(result, Status.WARNED, f"waived: {one.reason}")
        return result

    def _tell_expired(self, one: Waiver) -> None:
        if one.name not in self._expired:
            self._expired.add(one.name)
            self._notice(f"the waiver {one.name} has expired on {one.until}: {one.reason}")


def changed(result: Result, status: Status, why: str) -> Result:
    """Return the result with another verdict, the original one beside it."""
    details = replace(result.details, original=result.original, waived=why)
    return Result(result.task, status, result.carried, result.start, result.duration, details)


def checked(waivers: Any) -> list[Waiver]:
    """Return the waivers; raises `DefinitionError` for anything else."""
    found = list(waivers)
    for one in found:
        if not isinstance(one, Waiver):
            raise DefinitionError(
                f"waivers holds {type(one).__name__}, which is no waiver", hint='decorate it: @pexen.waiver("reason")'
            )
    return found


def verdict_of(outcome: Outcome, attempt: Attempt, killed: str) -> tuple[Status, str, str]:
    """Return status, reason and what has leaked; an attempt that had ended before it was struck was in time."""
    status, reason = outcome.status, outcome.reason
    if attempt.condemned and status is Status.CANCELLED:
        status, reason = Status.ERROR, attempt.condemned
    if attempt.struck and not (status is Status.PASSED and not attempt.cancelled):
        status, reason = Status.TIMEOUT, reason if "still runs" in reason else attempt.struck
        if attempt.watch is not None and attempt.watch.is_forced and "still runs" not in reason:
            reason += "; it did not stop when asked and was killed"
    if not killed:
        return status, reason, ""
    if attempt.cancelled:
        return status, f"{reason}; killed {killed}", ""
    return status, reason, killed


SAID = {
    Status.ERROR: "ended in an error",
    Status.TIMEOUT: "timed out",
    Status.LOST: "was lost",
    Status.SKIPPED: "was skipped",
    Status.CANCELLED: "was cancelled",
}
"""How the reason for a skip tells of its culprit."""
UNCONTROLLED = frozenset({Status.ERROR, Status.TIMEOUT, Status.CRASHED, Status.LOST})
