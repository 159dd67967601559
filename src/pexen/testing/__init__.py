"""For tests, yours and pexen's own: time that jumps, a pool that does what a script says, runs without running anything.

Nothing else of pexen imports this. `strategies` needs Hypothesis, so it is a module of its own and imported by nobody
here. Names are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pexen.testing.clock import VirtualClock
    from pexen.testing.scripted import ScriptedPool, Step
    from pexen.testing.simulator import Simulation, Span, simulate

_HOMES = {
    "VirtualClock": "clock",
    "ScriptedPool": "scripted",
    "Step": "scripted",
    "Simulation": "simulator",
    "Span": "simulator",
    "simulate": "simulator",
}

__all__ = ["ScriptedPool", "Simulation", "Span", "Step", "VirtualClock", "simulate"]


def __getattr__(name: str) -> Any:
    """Import a name from the module it lives in."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pexen.testing' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"pexen.testing.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
