"""Which attempt this code runs in. Apart from `pexen.model.context`, so that a worker process imports next to nothing."""

from __future__ import annotations

from contextvars import ContextVar

TYPE_CHECKING = False  # typing itself would take a worker as long to import as everything else together
if TYPE_CHECKING:
    from typing import Protocol

    from pexen.model.context import Context

    class HasContext(Protocol):
        """An attempt, or the context itself."""

        def context(self) -> Context:
            """Return the context."""


CURRENT: ContextVar[HasContext | None] = ContextVar("pexen_current", default=None)
