"""Collecting where it cannot hurt: the user's code is imported in a child process, the runner gets descriptions.

A tree without Python in it is walked here and now. As soon as the walk meets a ``pexenfile.py`` (or a task file that
names a Python function) it is given up, and one child does all of it: `describe` returns the tasks as JSON,
`pexen.model.carry` makes tasks of that whose callables are found in the workers. So the runner never holds a module
that exits, hangs, leaks threads or crashes.

*The seam.* How a child is started and ended is not known here: `Isolate` is handed in. What it cannot know, which
file was being loaded when the child died, comes through a small file that the child keeps up to date: the name of
each file before it is loaded, the lines that `faulthandler` writes after a fatal signal or when the time is up, and
the line that calls ``os._exit``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn, Protocol

from pexen.errors import DefinitionError, StateError
from pexen.factory.base import raised
from pexen.factory.facts import Facts
from pexen.factory.groups import Grouping
from pexen.factory.here import Home, Importer, package_of
from pexen.factory.params import Asked, Params
from pexen.factory.remade import FOUND_BY, factory_of
from pexen.factory.tree import TreeFactory, Walk
from pexen.model.carried import Carried
from pexen.model.carry import Encoder, decoded, named_address
from pexen.model.task import Task

LIMIT = 60.0
_GRACE = 2.0


class Isolate(Protocol):
    """Calls a function in a child process. Handed in by whoever can start processes."""

    def __call__(self, function: str, argument: str, limit: float, /) -> str:
        """Return what ``module:function`` returns for ``argument``, both of them ASCII text.

        The child has the runner's ``sys.path`` and environment, a standard input at its end, and no descriptor whose
        misuse could be taken for an answer: what user code prints goes to standard error. When the call returns or
        raises, the child and its descendants are gone, threads it still has included. Raises `TimeoutError` after
        ``limit`` seconds, and `PexenError` telling how the child ended when it gave no answer.
        """


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection found; ``where`` maps paths to ``file:line``, ``params`` knows which parameters there are.

    ``groups`` are those that pexenfiles describe.
    """

    tasks: list[Task]
    params: Params
    where: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Grouping] = ()


class _NeedsChild(Exception):
    """The tree has Python in it."""


def collect(
    root: str | os.PathLike[str],
    params: Params | Mapping[str, str] | None = None,
    *,
    isolate: Isolate | None = None,
    facts: Facts | None = None,
    limit: float = LIMIT,
) -> Collected:
    """Return the tasks of a tree; with ``isolate`` no code of the tree runs in this process.

    The child gets ``limit`` seconds. Every mistake in the tree, crashes and endless loops included, is one
    `DefinitionError` with file and line. Unknown parameters are an error only when ``params`` is not a `Params`, which
    may serve several collections: then call its ``check()``.
    """
    root = os.path.abspath(os.fspath(root))
    known = params if isinstance(params, Params) else Params(params)
    try:
        importer = Importer() if isolate is None else Importer(_refuse)
        walk = TreeFactory(root, params=known, facts=facts, importer=importer).walk()
        found = Collected(walk.tasks, known, walk.where, walk.groups)
    except _NeedsChild:
        told = {"tree": root, "package": package_of(root), "facts": facts.given() if facts else {}}
        found = _from_child(told, known, isolate, limit, root)  # type: ignore[arg-type]
    if known is not params:
        known.check()
    return found


def collect_from(factory: str, arguments: Sequence[Any] = (), *, isolate: Isolate, limit: float = LIMIT) -> Collected:
    """Return the tasks of a factory named ``module:Class``, made with ``arguments`` (JSON) in a child process."""
    return _from_child({"factory": factory, "arguments": list(arguments)}, Params(), isolate, limit)


def asker(isolate: Isolate, limit: float = LIMIT) -> Callable[[Any], bool]:
    """Return the function that decides callable conditions in a child process; for `pexen.factory.conditions.gate`."""

    def ask(when: Any) -> bool:
        if not isinstance(when, Carried):
            return bool(when(Facts()))
        told = {"address": when.address, "summary": when.summary}
        return bool(_asked("decide", told, isolate, limit, f"the condition {when.__name__}").get("answer"))

    return ask


def _refuse(file: str) -> NoReturn:
    raise _NeedsChild(file)


def _from_child(told: dict[str, Any], params: Params, isolate: Isolate, limit: float, root: str = "") -> Collected:
    what = told.get("factory", root)
    answer = _asked("describe", {**told, "params": params.given}, isolate, limit, what, root)
    try:
        for asked in answer["asked"]:
            params.asked.setdefault(asked["name"], Asked(**asked))
        groups = [Grouping(*each) for each in answer["groups"]]
        return Collected(decoded(answer["tasks"]), params, {each[0]: each[-1] for each in answer["tasks"]}, groups)
    except (LookupError, TypeError, AttributeError) as error:
        raise DefinitionError(f"{what} could not be loaded: its process gave no sensible answer") from error


def _asked(
    function: str, told: dict[str, Any], isolate: Isolate, limit: float, what: str, root: str = ""
) -> dict[str, Any]:
    """Return the child's answer; raise what it says is wrong, or what its end means."""
    fd = os.memfd_create("pexen-collect")  # gone when we are, and no child can take it away
    progress = f"/proc/{os.getpid()}/fd/{fd}"
    try:
        argument = json.dumps({**told, "progress": progress, "limit": limit})
        answer: dict[str, Any] = dict(json.loads(isolate(f"{__name__}:{function}", argument, limit + _GRACE)))
        wrong = DefinitionError(**answer["error"]) if "error" in answer else None
    except (DefinitionError, StateError):
        raise
    except Exception as error:
        raise _end_of_child(error, progress, what, root, limit) from error
    finally:
        os.close(fd)
    if wrong is not None:
        raise wrong
    return answer


def _end_of_child(error: Exception, progress: str, what: str, root: str, limit: float) -> DefinitionError:
    """Return the error for a child that gave no answer, from what it left in its progress file."""
    with contextlib.suppress(OSError), open(progress, encoding="utf-8", errors="surrogateescape") as left:
        lines = left.read().splitlines()
        loading = [line.removeprefix("LOADING ") for line in lines if line.startswith("LOADING ")]
        frames = [(match[1], match[2]) for line in lines if (match := re.match(r'  File "(.*)", line (\d+)', line))]
        users = [each for each in frames if root and each[0].startswith(_dumped(root) + "/")]
        where = f"{users[0][0]}:{users[0][1]}" if users else loading[-1] if loading else ""
        name = os.path.basename(loading[-1]) if loading else what
        if isinstance(error, TimeoutError) or any(line.startswith("Timeout (") for line in lines):
            return DefinitionError(
                f"{name} takes longer than {limit:g} s to load", where=where, hint="what takes long belongs into a task"
            )
        return DefinitionError(f"{name} ended the interpreter", where=where, facts=[("because", str(error))])
    return DefinitionError(f"{what} could not be loaded: {error}")


def _dumped(path: str) -> str:
    """Return a path as `faulthandler` writes it."""
    return path.encode("ascii", "backslashreplace").decode()


# -- in the child -------------------------------------------------------------------------------------------------


def describe(argument: str) -> str:
    """Collect what ``argument`` says and return the tasks, or what is wrong, as JSON. Runs in the child."""
    told = json.loads(argument)
    params = Params(told["params"])

    def answer() -> dict[str, Any]:
        encoder, groups = _tree(told, params) if "tree" in told else (_factory(told), [])
        asked = [asdict(one) for one in params.asked.values()]
        return {"tasks": encoder.all(), "asked": asked, "groups": groups}

    return _answered(told, answer)


def decide(argument: str) -> str:
    """Answer a callable condition. Runs in the child."""
    told = json.loads(argument)
    return _answered(told, lambda: {"answer": bool(Carried(told["address"], told["summary"])(Facts()))})


def _answered(told: dict[str, Any], work: Callable[[], dict[str, Any]]) -> str:
    with _watched(told["progress"], told["limit"]):
        try:
            return json.dumps(work())
        except DefinitionError as error:
            wrong = error
        except BaseException as error:  # noqa: BLE001 - whatever users raise is theirs
            what = told.get("factory") or told.get("summary", {}).get("name") or "the tree"
            wrong = raised(what, error, told.get("tree", ""))
    facts = [fact for fact in wrong.facts if fact != ("at", wrong.where)]
    return json.dumps({"error": {"headline": wrong.headline, "where": wrong.where, "facts": facts, "hint": wrong.hint}})


def _tree(told: dict[str, Any], params: Params) -> tuple[Encoder, list[Grouping]]:
    package_of(told["tree"], told["package"])
    facts = Facts.of(**told["facts"])
    importer = Importer(lambda file: _note(told["progress"], f"LOADING {file}\n"))
    walk = TreeFactory(told["tree"], params=params, facts=facts, importer=importer).walk()
    return encoder_of(walk, params.given), walk.groups


def encoder_of(walk: Walk, given: Mapping[str, str]) -> Encoder:
    """Return the encoder for a walk's tasks."""

    def maker(home: Home, steps: Sequence[Any]) -> dict[str, Any]:
        told = {"home": [home.package, home.root, home.folder], "params": dict(given)}
        return {"by": FOUND_BY, "maker": told, "steps": list(steps)}

    makers = {path: maker(one.home, ("task", one.number, one.name)) for path, one in walk.origins.items()}
    locators = {key: maker(home, steps) for key, (home, steps) in walk.pieces.items()}
    locators |= {key: named_address(*reference) for key, reference in walk.references.items()}
    via = {path: one.home.module for path, one in walk.origins.items()}
    return Encoder(walk.tasks, walk.where, makers, locators, via)


def _factory(told: dict[str, Any]) -> Encoder:
    tasks = list(factory_of(told)())
    maker = {"factory": told["factory"], "arguments": told["arguments"]}
    made: dict[str, Any] = {"by": FOUND_BY, "maker": maker}
    makers = {task.name: {**made, "steps": ["task", index, task.name]} for index, task in enumerate(tasks)}
    for task in tasks:
        task.path = task.name
    return Encoder(tasks, {}, makers)


@contextlib.contextmanager
def _watched(progress: str, limit: float) -> Iterator[None]:
    """Have `faulthandler` and ``os._exit`` write the line that ended us to the progress file."""
    with open(progress, "a", encoding="utf-8") as file:
        faulthandler.enable(file)
        faulthandler.dump_traceback_later(limit, exit=True, file=file)
        leave, ours = os._exit, os.getpid()

        def leaving(status: int) -> NoReturn:
            if os.getpid() == ours:
                frame = sys._getframe(1)  # noqa: SLF001 - the line that leaves
                _note(
                    progress, f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}\n'
                )
            leave(status)

        os._exit = leaving
        try:
            yield
        finally:
            os._exit = leave
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()


def _note(progress: str, text: str) -> None:
    """Append to the progress file; opened each time, users may close every descriptor there is."""
    with contextlib.suppress(OSError), open(progress, "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
