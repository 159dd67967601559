"""Which of the collected tasks run: the chosen ones, what they require, and what cleans up after them.

Names are looked up over everything *collected* (`pexen.model.scope`), the planner will look them up over what is
*selected*. Both must find the same providers. For requirements they do: all providers in the nearest scope come
along, and no nearer scope can have any. An ``after`` whose tasks were not selected is taken out of the (copied) task;
left in, it would be bound to whatever has the same name further out. Names that nobody provides are left in, for the
planner to complain about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pexen.errors import nearest
from pexen.factory.base import copied
from pexen.factory.expression import Parser, is_true
from pexen.model.meta import EMPTY, AllOf, AnyOf, Named
from pexen.model.path import is_below, outward
from pexen.model.scope import Scopes
from pexen.model.task import Task, provided

_WORDS = re.compile(r"""(?P<space>\s+)|(?P<op>[()])|(?P<quoted>'[^']*'|"[^"]*")|(?P<word>[^\s()'"]+)""")
CHOSEN = "selected"
Narrow = Callable[[Sequence[str]], Collection[str]]
"""Given the paths that are chosen, returns those that stay so."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The tasks to run, in the order of collection. ``why`` says for each path why it is among them.

    ``unmatched`` are the paths asked for at which nothing stands.
    """

    tasks: list[Task]
    why: Mapping[str, str]
    unmatched: tuple[str, ...] = ()
    hint: str = ""

    @property
    def chosen(self) -> int:
        """How many were chosen for themselves; 0 means that nothing was selected."""
        return sum(reason == CHOSEN for reason in self.why.values())


class _Entry(NamedTuple):
    path: str
    task: Task


def select(
    tasks: Iterable[Task], *, paths: Sequence[str] = (), keyword: str = "", tags: str = "", deps: bool = True,
    narrow: Narrow | None = None, apart: Sequence[str] = (), elsewhere: bool = False,
) -> Selection:  # fmt: skip
    """Return which tasks run.

    ``paths`` choose what stands at or below them; ``keyword`` is an ``and``/``or``/``not`` expression over parts of
    the path (in any case), ``tags`` one over tags. A task is chosen when all that is given agrees. ``deps=False``
    leaves out what was not chosen, and takes its name out of requirements. ``narrow`` is given the paths of the chosen
    and returns those that are to stay. Raises `DefinitionError` for a malformed expression.

    What stands in a folder of ``apart`` is a catalogue: chosen only by a path in that folder, and not pulled in by
    requirements, which are left for `pexen.factory.providers`. With ``elsewhere`` there is another catalogue, so that
    ``deps=False`` also takes out names that nobody here provides.
    """
    pool = _Pool(tasks, apart, elsewhere=elsewhere)
    wanted = [path.strip("/") for path in paths]
    good = _matcher("-k", keyword, lambda word, entry: word.lower() in entry.path.lower())
    tagged = _matcher("-m", tags, lambda word, entry: word in entry.task.tags)
    why = {
        entry.path: CHOSEN
        for entry in pool.entries
        if any(pool.is_meant(entry.path, path) for path in wanted or [""]) and good(entry) and tagged(entry)
    }
    if narrow is not None and why:
        kept = narrow(list(why))
        why = {path: reason for path, reason in why.items() if path in kept}
    unmatched = tuple(path for path in wanted if path and not pool.scopes.at(path))
    if deps:
        pool.complete(why)
    return Selection(pool.kept(why, deps=deps), why, unmatched, pool.near(unmatched))


def _matcher(option: str, text: str, test: Callable[[str, _Entry], bool]) -> Callable[[_Entry], bool]:
    if not text.strip():
        return lambda _: True
    node = Parser(option, text, _WORDS, _word).parse()
    return lambda entry: is_true(node, lambda word: test(word, entry))


def _word(parser: Parser) -> str:
    token = parser.token
    if token.kind in {"end", "op"} or token.text in {"and", "or"}:
        raise parser.wrong(f"a word is missing before {token.text!r}")
    parser.take()
    return token.text.strip("'\"") if token.kind == "quoted" else token.text


class _Pool:
    """Everything collected, and who provides what in it."""

    def __init__(self, tasks: Iterable[Task], apart: Sequence[str], *, elsewhere: bool) -> None:
        self.apart, self.elsewhere = apart, elsewhere
        self.entries = [_Entry(task.name, task) for task in tasks]
        self.scopes: Scopes[_Entry] = Scopes()
        for entry in self.entries:
            self.scopes.add(entry)
            for name in provided(entry.task):
                self.scopes.provide(name, entry)
            if hasattr(entry.task.callable, "__pexen__"):
                self.scopes.provide(id(entry.task.callable), entry)

    def is_meant(self, path: str, by: str) -> bool:
        """Tell whether a path on the command line means a task; what is apart only from inside."""
        if not is_below(path, by):
            return False
        around = [folder for folder in self.apart if is_below(path, folder)]
        return not around or any(is_below(by, folder) for folder in around)

    def is_apart(self, path: str) -> bool:
        """Tell whether a task belongs to the catalogue."""
        return any(is_below(path, folder) for folder in self.apart)

    def complete(self, why: dict[str, str]) -> None:
        """Add what the chosen require, and what cleans up after any of them, until nothing is missing."""
        if len(why) == len(self.entries):
            return
        cleaners = [entry for entry in self.entries if entry.task.cleanup and not self.is_apart(entry.path)]
        watched = [(entry, self._around(entry)) for entry in cleaners]
        waiting = [self.scopes.items[path] for path in why]
        while waiting:
            while waiting:
                entry = waiting.pop()
                for item in entry.task.requires:
                    for found in self._bound(entry, item):
                        if found.path not in why and not self.is_apart(found.path):
                            why[found.path] = f"required by {entry.path}"
                            waiting.append(found)
            for entry, others in watched:
                first = next((other for other in others if other.path in why), None)
                if first is not None and entry.path not in why:
                    why[entry.path] = f"cleans up after {first.path}"
                    waiting.append(entry)

    def _around(self, entry: _Entry) -> list[_Entry]:
        """Return all that an entry requires or comes after."""
        return [found for item in (*entry.task.requires, *entry.task.after) for found in self._bound(entry, item)]

    def _bound(self, entry: _Entry, item: Any) -> Iterator[_Entry]:
        """Yield the tasks that a requirement means; every branch of an ``any_of``."""
        if isinstance(item, AnyOf):
            for part in item.alternatives:
                yield from self._bound(entry, part)
        elif isinstance(item, AllOf | Named):
            yield from self._bound(entry, item.of if isinstance(item, AllOf) else item.requirement)
        elif isinstance(item, Task):
            yield from self.scopes.at(item.name) if item.name in self.scopes.items else ()
        elif isinstance(item, str) and item.startswith("/"):
            yield from self.scopes.at(item[1:])
        else:
            yield from self.scopes.find(item if isinstance(item, str | tuple) else id(item), entry.path)

    def kept(self, why: Mapping[str, str], *, deps: bool) -> list[Task]:
        """Return the selected tasks, without the names of tasks that were not."""
        if len(why) == len(self.entries) and (deps or not self.elsewhere):
            return [entry.task for entry in self.entries]
        return [self._trimmed(entry, why, deps=deps) for entry in self.entries if entry.path in why]

    def _trimmed(self, entry: _Entry, why: Mapping[str, str], *, deps: bool) -> Task:
        task = entry.task
        requires = task.requires if deps else self._left(entry, task.requires, why, deps=False)
        after = self._left(entry, task.after, why, deps=deps)
        if requires == task.requires and after == task.after:
            return task
        meta = {key: value for key, value in task.meta.items() if key != "after"} | ({"after": after} if after else {})
        trimmed = copied(task, entry.path, meta or EMPTY)
        trimmed.requires = requires
        return trimmed

    def _left(self, entry: _Entry, items: tuple[Any, ...], why: Mapping[str, str], *, deps: bool) -> tuple[Any, ...]:
        left = (self._remaining(entry, item, why, deps=deps) for item in items)
        return tuple(item for item in left if item is not None)

    def _remaining(self, entry: _Entry, item: Any, why: Mapping[str, str], *, deps: bool) -> Any:
        """Return what remains of a requirement when only some tasks are there; None when nothing does."""
        if isinstance(item, AnyOf):
            alternatives = self._left(entry, item.alternatives, why, deps=deps)
            return AnyOf(alternatives) if alternatives else None
        found = list(self._bound(entry, item))
        if not found:
            return item if deps or not self.elsewhere else None
        return item if any(one.path in why or (deps and self.is_apart(one.path)) for one in found) else None

    def near(self, unmatched: Sequence[str]) -> str:
        """Return a hint for paths at which nothing stands."""
        if not unmatched:
            return ""
        places = {place for entry in self.entries for place in (entry.path, *outward(entry.path)) if place}
        return nearest(unmatched[0], sorted(places))
