"""How callables, arguments and settings leave the runner for its worker processes.

A callable goes once to each worker and is known by a number from then on. There are three forms, the first that fits:

``name``
    Functions and classes that importing their module gives again. ``__main__`` never counts: importing it there would
    run the user's script a second time.
``code``
    A function that refers only to constants and to things with a name: most of what people write in ``__main__``. Its
    marshalled code saves both sides the import of cloudpickle, 30 ms, which is more than starting a worker takes.
``pickle``
    Everything else, by cloudpickle: lambdas that close over something, local classes, partials, bound methods.

Pickling runs user code, so all of this belongs into the pool's thread, and whatever it raises, `CannotShip` says of what.
"""

from __future__ import annotations

import marshal
import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from pexen.model.call import PLAIN, SHARED, Kind
from pexen.model.modules import TREE_MODULES
from pexen.model.result import Failure, Pickled
from pexen.pool import wire
from pexen.pool.base import failure_of
from pexen.pool.worker import Opaque, Shared

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.model.call import Source

MANY = 4096
"""Callables remembered. When there are more, all are forgotten, here and in the workers, and sent again if needed."""
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
_ABOUT_THE_MODULE = frozenset({"__name__", "__package__", "__file__"})
"""Globals that import statements in a function, and its own ``__module__``, depend on."""


class Receiver(Protocol):
    """What a worker has been told so far."""

    functions: set[int]
    generation: int
    settings: bytes


class CannotShip(Exception):
    """What could not be pickled, and the exception that its own code raised."""

    def __init__(self, what: str, error: BaseException) -> None:
        super().__init__(what)
        self.what, self.error = what, error

    def failure(self) -> Failure:
        """Return it as the failure of the attempt."""
        found = failure_of(self.error)
        message = f"{self.what} cannot be pickled: {type(self.error).__name__}: {found.message}"
        return Failure("pickle.PicklingError", message, found.traceback)


class Shipper:
    """Makes the frames for attempts. To be used from one thread.

    ``base`` is the folder for what attempts leave behind, ``captures`` whether what they print goes there as well.
    """

    def __init__(self, base: str = "", *, captures: bool = False) -> None:
        self._base = base
        self._captures = captures
        # By identity: callables may be unhashable, or hostile in __eq__. The reference keeps the identity theirs.
        self._numbers: dict[int, tuple[Any, int]] = {}
        self._functions: dict[int, bytes] = {}
        self._next = 1
        self._looked: Any = None
        self._settings = b""
        self.generation = 0

    def frames(self, attempt: Attempt, receiver: Receiver) -> bytes:
        """Return what has the receiver run the attempt, with all it must know before; raises `CannotShip`."""
        function = attempt.task.callable
        known = self._numbers.get(id(function))
        number = known[1] if known is not None else self._enter(function)
        run = _attempt(attempt, number)
        if receiver.generation == self.generation and number in receiver.functions:
            return run
        return self._introduction(receiver, number) + run

    def _enter(self, function: Any) -> int:
        """Return a number for a new callable."""
        try:
            recipe = marshal.dumps(_recipe(function))
        except BaseException as error:
            raise CannotShip("the callable", error) from None
        if len(self._numbers) >= MANY:
            self._numbers.clear()
            self._functions.clear()
            self.generation += 1
        number, self._next = self._next, self._next + 1
        self._functions[number] = wire.frame(wire.FUNCTION, number, recipe)
        self._numbers[id(function)] = (function, number)
        return number

    def _introduction(self, receiver: Receiver, number: int) -> bytes:
        """Return what tells the receiver how things are now and what the number means."""
        frames = []
        if receiver.generation != self.generation:
            receiver.generation = self.generation
            receiver.functions.clear()
            frames.append(wire.frame(wire.FORGET, 0))
        self._look_around()
        if receiver.settings is not self._settings:
            receiver.settings = self._settings
            frames.append(self._settings)
        receiver.functions.add(number)
        frames.append(self._functions[number])
        return b"".join(frames)

    def _look_around(self) -> None:
        """Make the frame with the settings anew if they have changed."""
        looked = (list(sys.path), len(TREE_MODULES))
        if looked != self._looked:
            self._looked = looked
            self._settings = wire.frame(wire.SETTINGS, 0, _settings(self._base, self._captures))


def _settings(base: str, captures: bool) -> bytes:
    import resource

    return marshal.dumps(
        {
            "path": [str(entry) for entry in sys.path],
            "argv": [str(word) for word in getattr(sys, "argv", ())],
            "modules": dict(TREE_MODULES),
            "base": base,
            "captures": captures,
            "limits": [resource.getrlimit(number) for number in range(16)],
        }
    )


def _attempt(attempt: Attempt, number: int) -> bytes:
    """Return the frame that has a worker run the attempt."""
    path = wire.encoded(attempt.task.name)
    call = attempt.call
    plain = call is PLAIN and not attempt.shared and not attempt.units
    arguments = b"" if plain else _arguments(attempt)
    makes = 0 if call is PLAIN else _makes(call.kind) | (wire.EXPANDS if attempt.task.expand else 0)
    head = wire.RUN.pack(number, attempt.number, attempt.reboots, makes, len(path))
    try:
        return wire.frame(wire.RUN_IT, attempt.id, head + path, arguments)
    except ValueError as error:
        raise CannotShip("an argument", error) from None


def _makes(kind: Kind) -> int:
    return wire.COROUTINE if kind is Kind.COROUTINE else wire.GENERATOR if kind is Kind.GENERATOR else 0


def _arguments(attempt: Attempt) -> bytes:
    call = attempt.call
    args = [_argument(source, value) for source, value in zip(call.positional, attempt.args, strict=True)]
    kwargs = {word: _argument(source, attempt.kwargs.get(word)) for word, source in call.keyword}
    layers = [_opaque(layer) for layer in attempt.shared]
    try:
        return wire.dumps((args, kwargs, layers, dict(attempt.units)))
    except BaseException as error:
        raise CannotShip(_culprit(args, kwargs, layers), error) from None


def _argument(source: Source, value: Any) -> Any:
    """Return what travels: opaque values stay closed, also in the list that `all_of` makes."""
    if source.index == SHARED:
        return Shared
    if type(value) is list and any(type(item) is Pickled for item in value):
        return [_opaque(item) for item in value]
    return _opaque(value)


def _opaque(value: Any) -> Any:
    return Opaque(value.data) if type(value) is Pickled else value


def _culprit(args: list[Any], kwargs: dict[str, Any], layers: list[Any]) -> str:
    """Return which argument cannot be pickled."""
    named = [(f"argument {number}", value) for number, value in enumerate(args, 1)]
    named += [(f"argument {word!r}", value) for word, value in kwargs.items()]
    named += [
        (f"shared value {key!r}", value) for layer in layers if type(layer) is dict for key, value in layer.items()
    ]
    for name, value in named:
        try:
            wire.dumps(value)
        except BaseException:
            return name
    return "an argument"


# -- callables --------------------------------------------------------------------------------------------------------


def _recipe(function: Any) -> tuple[Any, ...]:
    named = by_name(function)
    if named is not None:
        return ("name", *named)
    if type(function) is FunctionType:
        simple = from_code(function)
        if simple is not None:
            return ("code", *simple)
    return ("pickle", wire.dumps(function))


def by_name(function: Any) -> tuple[str, str, str | None] | None:
    """Return module, qualified name and file of a function or class that can be imported, else None."""
    if not isinstance(function, FunctionType | BuiltinFunctionType | type):
        return None
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if type(module) is not str or type(qualname) is not str or module in {"__main__", "__mp_main__"}:
        return None
    found: Any = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return (module, qualname, file if type(file) is str else None) if found is function else None


def from_code(function: FunctionType) -> tuple[Any, ...] | None:
    """Return what makes the function again, or None when that takes more than its code and what has a name."""
    if function.__closure__ or function.__kwdefaults__ or not set(function.__dict__) <= {"__pexen__"}:
        return None
    if not _is_plain(function.__defaults__) or not _is_plain(function.__annotations__):
        return None
    names = _names(function.__code__)
    constants: dict[str, Any] = {}
    imports: list[tuple[str, str, str | None, str | None]] = []
    for name in sorted((names | _ABOUT_THE_MODULE) & function.__globals__.keys()):
        value = function.__globals__[name]
        if _is_plain(value):
            constants[name] = value
        elif type(value) is ModuleType:
            if not _is_whole(value, names):
                return None
            imports.append((name, value.__name__, None, None))
        else:
            named = by_name(value)
            if named is None:
                return None
            imports.append((name, *named))
    about = (function.__name__, function.__qualname__, function.__defaults__, function.__annotations__)
    return (function.__code__, *about, constants, imports)


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Tell whether a value is made of constants that marshal keeps as they are, and few of them."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if not depth or not (kind is tuple or kind is list or kind is dict) or len(value) > 16:
        return False
    items = [*value, *value.values()] if kind is dict else value
    return all(_is_plain(item, depth - 1) for item in items)


def _names(code: CodeType) -> set[str]:
    """Return every name that the code, or code in it, may look up among the globals; attributes are among them."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if type(constant) is CodeType:
            names |= _names(constant)
    return names


def _is_whole(module: ModuleType, names: set[str]) -> bool:
    """Tell whether importing the module by its name gives all of it that the code may use."""
    name = module.__name__
    if sys.modules.get(name) is not module or name in {"__main__", "__mp_main__"}:
        return False
    return not (hasattr(module, "__path__") and any(f"{name}.{inner}" in sys.modules for inner in names))
