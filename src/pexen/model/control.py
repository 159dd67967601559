"""What a task may say to the runner while it runs: one JSON object with one verb, the same from everywhere.

======================================================== ============================================================
``{"report": {"name": …, "status": …, "message": …}}``   one of many results; also ``data`` (an object), ``files``
``{"attach": {"file": …, "name": …}}``                   keep a copy of a file; a bare string is the file
``{"timeout": {"set": "5m"}}``                           it may take five minutes from now on
``{"timeout": {"add": 30}}``                             it may take 30 seconds more (or less)
``{"timeout": "pause"}``, ``{"timeout": "resume"}``      what happens in between does not count; may be nested
``{"heartbeat": true}``                                  it is alive, for its ``idle_timeout``
``{"return": …}``                                        its value, for its dependants
``{"shared": {…}}``                                      items of its shared dict
``{"ready": true}``, ``{"ready": {"value": …}}``         the service is up, perhaps with its value
``{"reboot": true}``                                     restart the machine, and enter the task again after that
``{"reboot": {"by": "task", "within": "5m"}}``           the same, but the task does it, when it is told that it may
``{"add": {"tasks": {"check": {"run": "make check"}}}}`` add tasks to the run; the tables of a task file, also ``defaults``
======================================================== ============================================================

An ``id`` beside the verb asks for an answer; that to a report, a reboot or an add comes when it is as safe as the run promises.
In Python these are the methods of `pexen.model.context.Context`.
"""

from __future__ import annotations

from typing import Any

from pexen.errors import DefinitionError, nearest
from pexen.model.meta import duration
from pexen.model.result import LEVELS, Report

VERBS = ("report", "attach", "timeout", "heartbeat", "return", "shared", "ready", "reboot", "add")


class Misunderstood(ValueError):
    """What was said is no such object; the text is for people."""


def understood(said: Any) -> tuple[str, Any]:
    """Return the verb and its checked argument; raises `Misunderstood`.

    The argument is a `Report`, ``(file, name)``, ``(what, seconds)`` for a timeout, a dict for ``shared``, one with a
    ``value`` or without for ``ready``, ``(by, seconds, shared)`` for a reboot, the tables of a task file for ``add``, else any
    value.
    """
    if not isinstance(said, dict):
        raise Misunderstood("not a JSON object")
    verbs = [key for key in said if key != "id"]
    if len(verbs) != 1:
        raise Misunderstood(f"one verb at a time, not {len(verbs)}")
    verb = verbs[0]
    if verb not in VERBS:
        raise Misunderstood(f"unknown verb {verb!r}" + (f"; {hint}" if (hint := nearest(verb, VERBS)) else ""))
    check = _CHECKS.get(verb)
    return verb, check(said[verb]) if check else said[verb]


def _report(said: Any) -> Report:
    fields = {"name": said} if isinstance(said, str) else said
    if not isinstance(fields, dict):
        raise Misunderstood("a report is an object with a name")
    unknown = fields.keys() - {"name", "status", "message", "data", "files"}
    if unknown:
        raise Misunderstood(f"a report has no {min(unknown)!r}")
    name, status, message = fields.get("name"), fields.get("status", "pass"), fields.get("message", "")
    data, files = fields.get("data") or {}, fields.get("files") or ()
    if not isinstance(name, str) or not name:
        raise Misunderstood("a report needs a name")
    if status not in LEVELS:
        raise Misunderstood(f"a report's status is one of {', '.join(LEVELS)}, not {status!r}")
    if not isinstance(data, dict):
        raise Misunderstood("a report's data is an object")
    files = [files] if isinstance(files, str) else files
    if not isinstance(files, list | tuple) or not all(isinstance(file, str) for file in files):
        raise Misunderstood("a report's files are a list of strings")
    return Report(name, status, message if isinstance(message, str) else str(message), data, tuple(files))


def _attach(said: Any) -> tuple[str, str]:
    fields = {"file": said} if isinstance(said, str) else said
    if not isinstance(fields, dict) or fields.keys() - {"file", "name"}:
        raise Misunderstood("attach takes a file, and perhaps a name")
    file, name = fields.get("file"), fields.get("name", "")
    if not isinstance(file, str) or not file or "\0" in file or not isinstance(name, str):
        raise Misunderstood("attach takes a file, and perhaps a name")
    return file, name


def _timeout(said: Any) -> tuple[str, float]:
    if said in {"pause", "resume"} if isinstance(said, str) else False:
        return said, 0.0
    fields = said if isinstance(said, dict) else {"set": said}
    if len(fields) != 1 or not fields.keys() <= {"set", "add"}:
        raise Misunderstood("a timeout is set or added to, or 'pause' or 'resume'")
    ((what, amount),) = fields.items()
    return limited(what, amount)


def limited(what: str, amount: Any) -> tuple[str, float]:
    """Return a change of a limit with its seconds; those to add may be negative. Raises `Misunderstood`."""
    sign = 1.0
    if what == "add" and isinstance(amount, int | float) and not isinstance(amount, bool) and amount < 0:
        sign, amount = -1.0, -amount
    try:
        return what, sign * duration("timeout", amount)
    except DefinitionError as error:
        raise Misunderstood(f"{error.headline} ({error.hint})") from None


def _shared(said: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise Misunderstood("shared takes an object")
    return said


def _ready(said: Any) -> dict[str, Any]:
    if said is True:
        return {}
    if not isinstance(said, dict) or said.keys() - {"value"}:
        raise Misunderstood("ready takes true, or an object with a value")
    return said


def rebooted(said: Any) -> tuple[str, float, dict[str, Any] | None]:
    """Return who restarts the machine, within how many seconds, and the shared dict if it is told. Raises `Misunderstood`."""
    fields = {} if said is True else said
    if not isinstance(fields, dict) or fields.keys() - {"by", "within", "shared"}:
        raise Misunderstood("reboot takes true, or 'by' and perhaps 'within'")
    by = fields.get("by", "pexen")
    if by not in ("pexen", "task"):
        raise Misunderstood(f"the machine is restarted by 'pexen' or by 'task', not {by!r}")
    shared = fields.get("shared")
    try:
        return by, duration("within", fields.get("within", "5m")), None if shared is None else _shared(shared)
    except DefinitionError as error:
        raise Misunderstood(f"{error.headline} ({error.hint})") from None


def _add(said: Any) -> dict[str, Any]:
    if not isinstance(said, dict) or not isinstance(said.get("tasks"), dict):
        raise Misunderstood("add takes an object with 'tasks', and perhaps 'defaults', as a task file has them")
    return said


_CHECKS: dict[str, Any] = {
    "report": _report, "attach": _attach, "timeout": _timeout, "shared": _shared, "ready": _ready, "reboot": rebooted,
    "add": _add,
}  # fmt: skip
