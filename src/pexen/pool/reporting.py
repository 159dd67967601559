"""What tasks say, on its way from a worker to the runner. Imported when a task first asks for its context."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pexen.pool import wire

if TYPE_CHECKING:
    from pexen.model.result import Report


def reported(report: Report) -> bytes:
    """Return a report as a frame carries it; data that JSON does not know goes as text."""
    fields = {
        "name": report.name, "status": report.status, "message": report.message, "data": dict(report.data),
        "files": list(report.files),
    }  # fmt: skip
    try:
        return said("report", fields)
    except (TypeError, ValueError, RecursionError):
        fields["data"] = {str(key): str(value) for key, value in report.data.items()}
        return said("report", fields)


def said(verb: str, what: Any) -> bytes:
    """Return any verb as a frame carries it."""
    return wire.encoded(json.dumps({verb: what}, default=str))
