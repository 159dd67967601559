"""How a worker gets the callable that `pexen.pool.ship` has described."""

from __future__ import annotations

import sys

from pexen.pool import wire

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_Function: Any = type(lambda: None)


def _by_name(module: str, qualname: str, file: str | None) -> Any:
    """Import a callable; from its file where no search path leads to its module."""
    try:
        __import__(module)
    except ModuleNotFoundError as error:
        if file is None or error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        from pexen.model import modules

        modules.TREE_MODULES[module] = file
        modules.load(module)
    found = sys.modules[module]
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def _from_code(
    code: Any,
    name: str,
    qualname: str,
    defaults: Any,
    annotations: dict[str, Any],
    constants: dict[str, Any],
    imports: Any,
) -> Any:
    """Make a function that refers to nothing but constants and things with a name."""
    import builtins

    namespace = {"__builtins__": builtins, **constants}
    for word, module, inner, file in imports:
        namespace[word] = _by_name(module, inner, file) if inner else _module(module)
    function = _Function(code, namespace, name, defaults)
    function.__qualname__ = qualname
    function.__annotations__ = annotations
    return function


def _module(name: str) -> Any:
    __import__(name)
    return sys.modules[name]


FORMS: dict[str, Callable[..., Any]] = {"name": _by_name, "code": _from_code, "pickle": wire.loads}
