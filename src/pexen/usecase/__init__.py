"""Ready-made programs. Small, because the layers below are right.

Names are imported when first used: the command line takes its exit codes from here, and must start at once.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in pexen/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from pexen.usecase.suite import Suite

__all__ = ["Suite"]


def __getattr__(name: str) -> Any:
    """Import a name from the module it lives in."""
    if name not in __all__:
        raise AttributeError(f"module 'pexen.usecase' has no attribute {name!r}")
    from pexen.usecase.suite import Suite

    globals()[name] = Suite
    return Suite


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
