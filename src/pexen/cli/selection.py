"""From the words of a command line to tasks.

A word is ``KIND:WHAT``, a path (of a file, a folder, or a task that is no file), or the dotted name of a module. A path only
selects in the tree that it belongs to, whose root is found upwards from it; all paths must belong to one tree. ``::`` behind
any of these selects a task by its path there, as ``package.module::suite/login``. Modules and other sources bring all their
tasks, and several sources can be combined as long as no path occurs twice.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pexen.cli.isolate import isolate
from pexen.errors import DefinitionError, nearest
from pexen.factory.collect import Collected, collect, collect_from
from pexen.factory.groups import Grouping, merged
from pexen.factory.groups import check as check_groups
from pexen.factory.params import RESERVED, Params
from pexen.factory.select import CHOSEN, Narrow, Selection, select
from pexen.factory.tree import find_root, place_in
from pexen.model.path import is_below, last_of
from pexen.model.task import Task
from pexen.report.text import quoted, shown
from pexen.usecase import config
from pexen.usecase.catalogue import Catalogue

if TYPE_CHECKING:
    from pexen.core.planner import Planner
    from pexen.factory.providers import Choices

ARGS = "args"
"""The parameter that holds what stands behind ``--``."""
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_KIND = re.compile(r"([a-z]+):(?!:)(.+)", re.DOTALL)
KINDS = ("fs", "module", "tree")
_CHAIN = 20
"""How many services, each for the next one, are followed to a task."""


class Source(NamedTuple):
    """Where tasks come from: ``kind`` of `KINDS`, ``what`` (a folder, or a module's name), and as it is typed."""

    kind: str
    what: str
    typed: str


class Chosen(NamedTuple):
    """What a command line is about: the tasks ``collected`` from ``sources``, and which of them are selected.

    With a catalogue, ``choices`` are the providers chosen there. ``homes`` are the sources of tasks that are not in ``sources``,
    ``aside`` is what would have been asked for and only runs for others, ``written`` are tasks as they were before the choice.
    ``groups`` are all that are described anywhere there, by name.
    """

    root: str
    sources: list[Source]
    collected: list[Task]
    selection: Selection
    where: Mapping[str, str]
    params: Params
    start: str
    extra: Sequence[str] = ()
    choices: Choices | None = None
    homes: Mapping[str, Source] = {}
    aside: Sequence[Task] = ()
    written: Mapping[str, Task] = {}
    groups: Mapping[str, Grouping] = {}

    @property
    def tasks(self) -> list[Task]:
        """The tasks to run."""
        return self.selection.tasks

    def is_chosen(self, task: Task) -> bool:
        """Tell whether a task was chosen for itself, not because another one needs it."""
        return self.selection.why.get(task.name) == CHOSEN

    def planner(self, *, selected: bool = False) -> Planner:
        """Return a planner that has admitted everything collected, or selected: it knows what requirements mean.

        With a catalogue it is what is selected in any case: what others mean depends on what is chosen for them.
        """
        from pexen.core.planner import Planner

        planner = Planner(resources=config.resources(self.root))
        for group in self.groups.values():
            planner.add_group(group.name, is_ordered=group.ordered)
        planner.add(self.tasks if selected or self.choices is not None else self.collected)
        return planner

    def bindings(self, planner: Planner, task: Task) -> list[tuple[Any, list[Task]]]:
        """Return each requirement of one of the planner's tasks as it was written, with the tasks it is bound to."""
        requires = self.written.get(task.name, task).requires
        return [(item, found) for item, (_, found) in zip(requires, planner.bindings(task), strict=True)]

    @property
    def title(self) -> str:
        """What people call it."""
        titles = (os.path.basename(source.what) if source.typed == "." else source.typed for source in self.sources)
        return " ".join(dict.fromkeys(titles)) or "/"

    def shown(self, file: str) -> str:
        """Return a file's path as one would type it where this command was typed."""
        return shown(file, self.start)

    def _sources(self, path: str) -> Sequence[Source]:
        is_added = self.choices is not None and path in self.choices.added
        return [self.homes[path]] if is_added and path in self.homes else self.sources

    def again(self, path: str) -> str:
        """Return the command that runs the task at ``path`` alone, to be typed where this one was typed.

        What runs for others only is run by the first of those that require it.
        """
        path = self._started_by(path)
        words = ["pexen", "run", _word_for(path, self._sources(path), self.start), "-j1", *self.extra]
        return " ".join(quoted(word) for word in words)

    def _started_by(self, path: str) -> str:
        """Return whom to run so that the task at ``path`` is: itself, but for services and lazy ones that somebody requires."""
        planner: Planner | None = None
        for _ in range(_CHAIN):
            task = next((one for one in (*self.tasks, *self.collected) if one.name == path), None)
            if task is None or not (task.is_service or task.lazy):
                break
            planner = planner or self.planner()
            users = (one.name for one in planner.tasks() if any(task in found for _, found in planner.bindings(one)))
            path = next(users, path)
        return path


class Request(NamedTuple):
    """What the command line says about which tasks."""

    words: Sequence[str] = ()
    params: Sequence[tuple[str, str]] = ()
    args: Sequence[str] = ()
    chdir: str | None = None


def chosen(request: Request, *, keyword: str = "", tags: str = "", deps: bool = True) -> Chosen:
    """Collect what the request is about and select from it. Everything wrong raises `DefinitionError`."""
    gathered = Gathered(request)
    return gathered.select(keyword=keyword, tags=tags, deps=deps)


class Gathered:
    """A request that has been understood: where the tasks come from, and which paths are selected there.

    Two steps, since the settings in the root's configuration say what to select unless the command line does.
    """

    def __init__(self, request: Request) -> None:
        self.start = os.getcwd()
        if request.chdir is not None:
            try:
                os.chdir(request.chdir)
            except OSError as error:
                raise DefinitionError(f"cannot change to {request.chdir}: {error.strerror}") from None
        self.request = request
        self.sources: list[Source] = []
        self.groups: list[Grouping] = []
        self.paths: dict[str, str] = {}  # path in the tree: what was typed
        for word in request.words or ["."]:
            self._understand(word)
        tree = next((source for source in self.sources if source.kind != "module"), None)
        self.root = tree.what if tree else find_root(".")

    def _understand(self, word: str) -> None:
        """Note the source and the path that a word means."""
        body, path = word, None
        if "::" in word and not os.path.lexists(word):
            body, _, path = word.partition("::")
        source, place = self._source(body or ".")
        if source not in self.sources:
            if source.kind != "module" and any(one.kind != "module" for one in self.sources):
                others = [one.what for one in self.sources if one.kind != "module"]
                raise DefinitionError(
                    "these paths belong to different trees",
                    facts=[("root", others[0]), ("root", source.what)],
                    hint="run them one after the other",
                )
            self.sources.append(source)
        if path is not None:
            place = path.strip("/")
        elif source.kind == "module":
            place = source.what.rpartition(".")[2]
        self.paths[place] = word

    def _source(self, word: str) -> tuple[Source, str]:
        """Return what a word without ``::`` means: a source, and the path in its tree."""
        match = _KIND.fullmatch(word)
        if match and not os.path.lexists(word):
            kind, what = match.groups()
            if kind not in KINDS:
                raise DefinitionError(
                    f"there is no kind {kind!r} of task source", hint=nearest(kind, KINDS) or ", ".join(KINDS)
                )
            return Source(kind, what if kind == "module" else os.path.abspath(what), word), ""
        if self._is_module(word):
            return Source("module", word, word), ""
        root = find_root(word)
        return Source("path", root, shown(root, self.start)), place_in(root, word)

    def _is_module(self, word: str) -> bool:
        if not _DOTTED.fullmatch(word) or os.path.lexists(word) or (word in sys.stdlib_module_names):
            return False
        from importlib.util import find_spec

        with_cwd()
        try:
            return find_spec(word.partition(".")[0]) is not None
        except (ImportError, ValueError):
            return False

    def select(
        self, *, keyword: str = "", tags: str = "", deps: bool = True, narrow: Narrow | None = None, choose: bool = True
    ) -> Chosen:  # fmt: skip
        """Collect and select. Unless ``choose``, nothing is looked for in a catalogue, and nothing of it set apart."""
        given = dict(self.request.params)
        if self.request.args:
            given[ARGS] = " ".join(quoted(word) for word in self.request.args)
        params = Params(given)
        tasks: list[Task] = []
        where: dict[str, str] = {}
        self.groups = config.groups(self.root)
        for source in self.sources:
            found = _collected(source, params)
            tasks += found.tasks
            where.update(found.where)
            self.groups += found.groups
        homes: dict[str, Source] = {}
        catalogue = Catalogue(self.root, given, lambda word: self._offered(word, params, where, homes))
        self._check(params, catalogue)

        # Modules bring all that they have; only a path behind :: narrows that down.
        which: dict[str, Any] = {"paths": list(self.paths), "keyword": keyword, "tags": tags}
        apart = catalogue.places if choose else ()
        selection = select(tasks, **which, deps=deps, narrow=narrow, apart=apart, elsewhere=bool(catalogue.words))
        for path in selection.unmatched:
            self._check_exists(path, tasks)
        made = Chosen(self.root, self.sources, tasks, selection, where, params, self.start, self._extra(), homes=homes)
        if not (catalogue and choose and deps):
            return self._grouped(made, where)
        asked = select(tasks, **which, deps=False).why if apart else {}
        selection, choices = catalogue.chosen(selection, tasks)
        aside = [task for task in tasks if task.name in asked and selection.why.get(task.name) != CHOSEN]
        written = {task.name: task for task in (*(catalogue.load() if homes else ()), *tasks)}
        made = made._replace(selection=selection, choices=choices, aside=aside, written=written)
        return self._grouped(made, where)

    def _grouped(self, made: Chosen, where: Mapping[str, str]) -> Chosen:
        groups = merged(self.groups)
        for tasks in (made.collected, made.tasks):
            check_groups(tasks, groups, where)
        return made._replace(groups=groups)

    def _offered(
        self, word: str, params: Params, where: dict[str, str], homes: dict[str, Source]
    ) -> list[Task]:  # fmt: skip
        """Return the tasks of a catalogue that is another source; note where they come from."""
        source, place = self._source(word)
        found = _collected(source, params)
        self.groups += [*(config.groups(source.what) if source.kind != "module" else ()), *found.groups]
        tasks = select(found.tasks, paths=[place] if place else ()).tasks
        for task in tasks:
            if task.name in found.where:
                where.setdefault(task.name, found.where[task.name])
            homes.setdefault(task.name, source)
        return tasks

    def _check(self, params: Params, catalogue: Catalogue) -> None:
        if any(name not in params.asked and not name.startswith(RESERVED) for name in params.given):
            catalogue.load()  # whose parameter it may be
        if self.request.args and ARGS not in params.asked:
            raise DefinitionError(
                "nothing here takes the arguments behind --",
                hint='a pexenfile.py asks for them with here.param("args", "")',
            )
        params.check()

    def _check_exists(self, path: str, tasks: Iterable[Task]) -> None:
        """Raise for a path at which there is neither a task nor a file: it must be a slip of the pen."""
        typed = self.paths[path]
        if "::" not in typed and os.path.lexists(os.path.join(self.root, path)):
            return
        raise DefinitionError(
            f"there is nothing at {path!r}",
            facts=[("in", self.root)],
            hint=_near(path, tasks) or "pexen list shows what there is",
        )

    def _extra(self) -> list[str]:
        """Return what must be said again for the tasks to be the same."""
        words = [part for key, value in self.request.params for part in ("-D", f"{key}={value}")]
        if self.request.chdir is not None and any(source.kind != "path" for source in self.sources):
            words += ["-C", self.request.chdir]
        return words + (["--", *self.request.args] if self.request.args else [])


def with_cwd() -> None:
    """Let modules be found in the current folder, as ``python -m`` does."""
    if sys.path[:1] != [""] and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _collected(source: Source, params: Params) -> Collected:
    if source.kind == "module":
        with_cwd()
        return collect_from("pexen.factory.modtree:ModTreeFactory", [source.what], isolate=isolate)
    if source.kind == "fs":
        from pexen.factory.filesystem import FilesystemFactory

        return Collected(list(FilesystemFactory(source.what)()), params)
    return collect(source.what, params, isolate=isolate)


def _near(path: str, tasks: Iterable[Task]) -> str:
    """Return a hint: the nearest path, or one with the nearest last component."""
    places = sorted({place for task in tasks for place in _places(task.name)})
    by_name = {last_of(place): place for place in places}
    from difflib import get_close_matches

    close = get_close_matches(path, places, 1) or [
        by_name[name] for name in get_close_matches(last_of(path), by_name, 1)
    ]
    return f"did you mean {close[0]!r}?" if close else ""


def _places(path: str) -> Iterable[str]:
    """Return a path and the folders around it."""
    while path:
        yield path
        path = path.rpartition("/")[0]


# -- the word that selects one task -------------------------------------------------------------------------------


def _word_for(path: str, sources: Sequence[Source], start: str) -> str:
    """Return the word that means the task at ``path``: a file's path where that is enough, else ``SOURCE::PATH``."""
    for source in sources:
        if source.kind == "module":
            if is_below(path, source.what.rpartition(".")[2]):
                return f"{source.typed}::{path}"
            continue
        if source.kind != "path":
            return f"{source.typed}::{path}"
        if find_root(f"{source.what}/{path}") != source.what or "::" in path or "\\" in path:
            return f"{shown(source.what, start)}::{path}"
        word = shown(f"{source.what}/{path}", start)
        return word if "/" in word and word[0] != "-" and not _KIND.match(word) else f"./{word}"
    return path
