"""Callables that live in another process: found by their address when somebody calls them there.

Workers import this module, so it imports next to nothing; `pexen.model.carry` makes the addresses and says what is
in them.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in pexen.model.running
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping
    from typing import Any

    Json = Any


class Carried:
    """A callable that lives elsewhere: found at its ``address`` when it is first called.

    ``summary`` answers what can be asked without importing it. Picklable; equal to nothing but itself.
    """

    __slots__ = ("__name__", "_found", "address", "summary")

    def __init__(self, address: Mapping[str, Json], summary: Mapping[str, Json]) -> None:
        self.address = address
        self.summary = summary
        self.__name__: str = summary["name"]
        self._found: Callable[..., Any] | None = None

    @property
    def pexen_where(self) -> str:
        """``file:line`` of the definition, or an empty string."""
        return str(self.summary["where"])

    @property
    def pexen_kind(self) -> str:
        """What it is: ``function``, ``coroutine`` or ``generator``."""
        return str(self.summary["kind"])

    @property
    def digest(self) -> str:
        """A hash of the source, or an empty string: it changes when the function's own lines do."""
        return str(self.summary["digest"])

    @property
    def doc(self) -> str:
        """The first line of the documentation."""
        return str(self.summary["doc"])

    @property
    def __signature__(self) -> inspect.Signature:
        """The parameters, with None in place of the defaults."""
        if self.summary["parameters"] is None:
            raise AttributeError("__signature__")
        from inspect import Parameter, Signature

        return Signature(
            [
                Parameter(name, getattr(Parameter, kind), default=None if has_default else Parameter.empty)
                for name, kind, has_default in self.summary["parameters"]
            ]
        )

    def resolve(self) -> Callable[..., Any]:
        """Return the callable itself; imports what the user wrote, and raises what that raises."""
        if self._found is None:
            self._found = _resolved(self.address)
        return self._found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.resolve()(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the address."""
        return (Carried, (self.address, self.summary))

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Carried {self.__name__}>"


def _resolved(address: Mapping[str, Json]) -> Any:
    from pexen.model import modules

    modules.TREE_MODULES.update(address.get("modules", {}))
    modules.install()
    if "by" in address:
        return _imported(*address["by"].split(":"))(address)
    if "pickled" in address:
        from base64 import b64decode
        from pickle import loads

        return loads(b64decode(address["pickled"]))  # noqa: S301 - here it runs: whoever made it could have run anything
    for module in (address["via"], address["module"]):
        if module:
            __import__(module)
    return _imported(address["module"], address["names"])


def _imported(module: str, names: str) -> Any:
    __import__(module)
    found: Any = sys.modules[module]
    for name in names.split("."):
        found = getattr(found, name)
    return found
