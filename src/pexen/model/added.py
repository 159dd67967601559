"""What a running task adds to its run: from what its code says to tasks that stand alone, and to JSON for another process.

**Paths.** A task without one gets the adder's path, a slash and its name, numbered where that repeats within the attempt. So
an attempt that does again what the one before did says the same paths, and the run knows them again.

**Requirements** on functions and tasks that the attempt has added become paths: where the tasks will run, and in the record of
the run, these objects are not.

**As JSON**, for the runner, which opens nothing that a worker has pickled: callables go as addresses (see
`pexen.model.carry`), each once; those without a name, and arguments that JSON cannot carry, as what cloudpickle makes of
them, to be opened only where the task runs.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from pexen.errors import DefinitionError
from pexen.model.carried import Carried
from pexen.model.carry import Encoder, Unencodable, address_of, by_path, spelled, summary_of, value_from
from pexen.model.command import Command
from pexen.model.path import last_of
from pexen.model.task import Task, as_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Json = Any

SEVERAL = ""
"""In place of the path of a function that is several tasks."""


class Encoded(NamedTuple):
    """Tasks as JSON, and what describes the callables that they refer to by number."""

    tasks: Any
    callables: Any


class Additions:
    """What one attempt, at the task with this ``path``, has added so far. From any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
        self._places: dict[int, tuple[Any, str]] = {}
        """Of tasks and functions that were added: the path, by id, which stays theirs as long as they are kept here."""
        self._lock = threading.Lock()

    def add(self, items: Sequence[Any], say: Callable[[list[Task]], str]) -> tuple[str, list[str]]:
        """Have ``say`` deliver what the items stand for; return its answer, empty when they were added, and their paths.

        Raises `DefinitionError` for what is no task. If they were not added nothing has changed.
        """
        with self._lock:
            numbers, places = dict(self._numbers), dict(self._places)
            tasks = [as_task(item) for item in items]
            paths = [task.path or self._name(task, numbers) for task in tasks]
            for item, task, path in zip(items, tasks, paths, strict=True):
                places[id(item)] = item, path
                what = task.callable
                if hasattr(what, "__pexen__"):
                    before = places.get(id(what), (what, path))[1]
                    places[id(what)] = what, path if before == path else SEVERAL
            refused = say([_standing(task, path, places) for task, path in zip(tasks, paths, strict=True)])
            if not refused:
                self._numbers, self._places = numbers, places
            return refused, paths

    def _name(self, task: Task, numbers: dict[str, int]) -> str:
        base = f"{self._path}/{task.name}"
        number = numbers[base] = numbers.get(base, 0) + 1
        return base if number == 1 else f"{base}#{number}"


def _standing(task: Task, path: str, places: dict[int, tuple[Any, str]]) -> Task:
    """Return the task at its path, with its requirements on others that were added as paths."""

    def place(item: Any) -> Any:
        found = places.get(id(item), (None, None))[1]
        if found is None:
            return item
        name = last_of(item.name if isinstance(item, Task) else getattr(item, "__name__", ""))
        if found == SEVERAL:
            raise DefinitionError(f"{path} requires {name}, which was added several times", hint="require them by path")
        return by_path(name, found)

    changes: dict[str, Any] = {}
    for key, items in (("requires", task.requires), ("after", task.meta.get("after") or ())):
        if not all(isinstance(item, str | tuple) for item in items):
            changes[key] = tuple(spelled(item, place) for item in items)
    return task.replace(path=path, **changes) if changes or task.path != path else task


# -- as JSON ----------------------------------------------------------------------------------------------------------


def encoded(tasks: list[Task]) -> Encoded:
    """Return tasks as JSON. Raises `DefinitionError` for what cannot be carried. Runs code of the user's: it pickles."""
    encoder = _Encoder()
    return Encoded(encoder.each(tasks), encoder.callables)


def tasks_from(said: Encoded) -> list[Task]:
    """Return the tasks that `encoded` described; runs no code of the user's.

    Raises `DefinitionError` for wrong metadata, and LookupError, TypeError, ValueError or AttributeError for what is no such
    description.
    """
    callables = [Carried(each["address"], each["summary"]) for each in said.callables]
    return [_task_from(callables, *each) for each in said.tasks]


def _task_from(
    callables: list[Carried], path: str, what: Json, requires: Json, provides: Json, meta: Json, _where: str
) -> Task:
    def called(of: Json) -> Any:
        return callables[of["at"]]

    if "argv" in what:
        env = tuple((str(key), str(value)) for key, value in what["env"])
        runs: Any = Command(tuple(map(str, what["argv"])), what["cwd"], env, bool(what["shell"]))
    else:
        runs = called(what)
    given = {key: value_from(value, called) for key, value in meta.items()}
    return Task(runs, path, requires=value_from(requires, called), provides=value_from(provides, called), **given)


class _Encoder(Encoder):
    """Describes tasks that are added. What it is not told of is somewhere else, or nowhere."""

    def __init__(self) -> None:
        super().__init__([], {}, {})
        self.callables: list[Json] = []
        self._known: dict[int, tuple[Any, int]] = {}

    def each(self, tasks: list[Task]) -> list[Json]:
        """Return the tasks as JSON."""
        return [self._task(task) for task in tasks]

    def _callable(self, task: Task) -> tuple[Json, dict[str, Json]]:
        args, kwargs = task.args, task.kwargs
        given: dict[str, Json] = {}
        if args:
            given["args"] = [self._argument(task, value) for value in args]
        if kwargs:
            given["kwargs"] = {"$": "dict", "of": {word: self._argument(task, kwargs[word]) for word in kwargs}}
        return self._reference(task.callable, task, "callable"), given

    def _argument(self, task: Task, value: Any) -> Json:
        try:
            return self.value(value, None)
        except (Unencodable, RecursionError):
            return {"$": "pickled", "of": _pickled(value, f"an argument of {task.path}")}

    def _reference(self, what: Any, task: Task, step: str = "") -> Json:
        """Return the number of a callable, described once. Only those of the tasks themselves (``step``) may have no name."""
        known = self._known.get(id(what))
        if known is None:
            if isinstance(what, Carried):
                described: Json = {"address": what.address, "summary": what.summary}
            else:
                address = address_of(what)
                if address is None and not step:
                    name = getattr(what, "__qualname__", type(what).__qualname__)
                    raise Unencodable(f"{name} has no name by which the runner could find it")
                address = address or {"pickled": _pickled(what, f"the callable of {task.path}")}
                described = {"address": address, "summary": summary_of(what)}
            known = self._known[id(what)] = what, len(self.callables)
            self.callables.append(described)
        return {"at": known[1]}

    def _place(self, task: Task, item: Any) -> Any:
        if isinstance(item, Task) and item.path:
            return by_path(last_of(item.path), item.path)
        name = item.name if isinstance(item, Task) else getattr(item, "__name__", type(item).__name__)
        raise DefinitionError(
            f"{task.path} requires {name}, which this task has not added",
            hint="what others have added, or was there from the beginning, is required by path or name: requires='/path'",
        )


def _pickled(what: Any, told: str) -> str:
    import cloudpickle

    try:
        return b64encode(cloudpickle.dumps(what, 5)).decode()
    except Exception as error:  # noqa: BLE001 - whatever the code of what is pickled raises
        raise DefinitionError(f"{told} cannot be pickled: {type(error).__name__}: {_text(error)}") from None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return "(its message cannot be shown)"
