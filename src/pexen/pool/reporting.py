"""Reports on their way from a worker to the runner. Imported when a task first asks for its context."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pexen.pool import wire

if TYPE_CHECKING:
    from pexen.model.result import Report


def reported(report: Report) -> bytes:
    """Return a report as a frame carries it; data that JSON does not know goes as text."""
    fields = [report.name, report.status, report.message, dict(report.data), list(report.files)]
    try:
        text = json.dumps(fields, default=str)
    except (TypeError, ValueError, RecursionError):
        fields[3] = {str(key): str(value) for key, value in report.data.items()}
        text = json.dumps(fields)
    return wire.encoded(text)
