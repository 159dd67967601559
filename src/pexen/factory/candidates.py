"""What a catalogue has for requirements that the tasks themselves do not meet: needs, options, and what is against them.

A *need* is a requirement that is not met. Its *options* are what could meet it: for a name each of the nearest providers in
the catalogue, for a path, a task or ``all_of`` all that is meant, together. Which option is taken is decided elsewhere
(`pexen.factory.resolve`); here is what can be said of each of them before anything is chosen.

What many tasks require in the same words, and means the same to them, is one need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pexen.errors import DefinitionError, nearest
from pexen.factory.conditions import holds, missing
from pexen.factory.facts import Facts
from pexen.model.meta import AllOf, AnyOf, Name, Named
from pexen.model.path import last_of
from pexen.model.scope import Scopes, suggestions
from pexen.model.task import Task, provided, shown


class Entry(NamedTuple):
    """A task with the path that it has, or would be given."""

    path: str
    task: Task


class Option(NamedTuple):
    """One way to meet a need: tasks to be added, all of them. ``part`` is that part of the requirement which they meet."""

    entries: tuple[Entry, ...]
    part: Any

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its tasks stand."""
        return tuple(entry.path for entry in self.entries)

    @property
    def preference(self) -> float:
        """The highest one of its tasks."""
        return max(entry.task.preference for entry in self.entries)


@dataclass(eq=False, slots=True)
class Need:
    """A requirement ``text`` that is to be met by one of its ``options``, which are sorted by path.

    ``refused`` are options that are out of the question for it, with reasons. Where ``is_met``, some alternative of an
    ``any_of`` is among the tasks already, and the options are only for the case that it fails.
    """

    text: str
    is_any: bool
    is_met: bool
    options: list[Option]
    refused: list[tuple[Option, str]]
    key: tuple[Any, ...] = ()
    """By what needs are told apart, and sorted: never by who came first."""

    def __post_init__(self) -> None:
        """Make the key, once: it is asked for again and again."""
        self.key = self.text, self.is_any, self.is_met, *(one.paths for one in self.options)


class Candidates:
    """The tasks, the catalogue, and who in it can be had for what. Nothing here changes a task."""

    def __init__(
        self, tasks: Iterable[Task], catalogue: Iterable[Task], pins: Mapping[Name, str], facts: Facts, *, same_tree: bool
    ) -> None:  # fmt: skip
        self.tasks = [Entry(task.name, task) for task in tasks]
        self.given = scopes_of(self.tasks)
        offered = [Entry(task.name, task) for task in catalogue]
        self.offered = [entry for entry in offered if not same_tree or entry.path not in self.given.items]
        self.catalogue = scopes_of(self.offered)
        if len(self.catalogue.items) < len(self.offered):
            twice = next(path for path, count in Counter(one.path for one in self.offered).items() if count > 1)
            raise DefinitionError(f"two tasks of the catalogue stand at {twice!r}", hint="give each a path of its own")
        self._both = scopes_of([*self.tasks, *self.offered]) if same_tree else None
        self._facts, self._pins = facts, pins
        self._needs: dict[int, list[tuple[int, Need]]] = {}
        self._lacking: dict[int, list[tuple[int, Any]]] = {}
        self._offers: dict[tuple[int, int], tuple[list[Option], list[tuple[Option, str]]]] = {}
        self._known: dict[tuple[Any, ...], Need] = {}
        self._forced: dict[str, frozenset[str]] = {}
        self._bad: dict[str, str] = {}
        self._rivals = _Rivals(self.offered), _Rivals(self.tasks)
        self._check_pins()
        self._inevitable = self._reached(self.tasks)

    # -- what is needed -----------------------------------------------------------------------------------------------

    def needs(self, entry: Entry) -> list[tuple[int, Need]]:
        """Return what a task requires and does not have: the number of the requirement, and the need."""
        found = self._needs.get(id(entry.task))
        if found is None:
            found = [(number, self._need(entry, number, item)) for number, item in self._unmet(entry)]
            self._needs[id(entry.task)] = found
        return found

    def _unmet(self, entry: Entry) -> list[tuple[int, Any]]:
        found = self._lacking.get(id(entry.task))
        if found is None:
            found = self._lacking[id(entry.task)] = [
                (number, item)
                for number, item in enumerate(entry.task.requires)
                if not all(self.is_given(entry, part) for part in parts_of(item))
            ]
        return found

    def is_given(self, entry: Entry, part: Any) -> bool:
        """Tell whether a part of a requirement is met by the tasks."""
        return bool(self.meant(entry, part)[0])

    def meant(self, entry: Entry, part: Any) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return what a part of a requirement means: among the tasks, and, unless that is enough, in the catalogue."""
        inner = inner_of(part)
        if self._both is not None:
            found = found_in(self._both, entry, inner)
            ours = [one for one in found if one.path in self.given.items]
            return ours, () if ours else found
        ours = list(found_in(self.given, entry, inner))
        return ours, () if ours else found_in(self.catalogue, entry, inner)

    def stranger(self, entry: Entry) -> Any:
        """Return the first of all that a task requires which neither the tasks nor the catalogue have; None if there is none."""
        for _, item in self._unmet(entry):
            for part in parts_of(item):
                if not any(self.meant(entry, part)):
                    return part
        return None

    def _need(self, entry: Entry, number: int, item: Any) -> Need:
        """Return the need for a requirement; one that anybody has had before, where it is the same."""
        options, refused = self._options(entry, number, item)
        good = [one for one in options if not any(entry.path in self.forced(each) for each in one.entries)]
        refused = refused + [(one, f"requires {entry.path} itself") for one in options if one not in good]
        is_met = any(self.is_given(entry, part) for part in parts_of(item))
        made = Need(shown(unnamed(item)), isinstance(unnamed(item), AnyOf), is_met, good, refused)
        return self._known.setdefault(made.key, made)

    def _options(self, entry: Entry, number: int, item: Any) -> tuple[list[Option], list[tuple[Option, str]]]:
        """Return the options for a requirement by path, and those that are pinned away."""
        known = self._offers.get((id(entry.task), number))
        if known is None:
            known = self._offers[id(entry.task), number] = self._offered(entry, item)
        return known

    def _offered(self, entry: Entry, item: Any) -> tuple[list[Option], list[tuple[Option, str]]]:
        options: dict[tuple[str, ...], Option] = {}
        refused = []
        for part in parts_of(item):
            found = sorted((one for one in self.meant(entry, part)[1] if one.path != entry.path), key=_path)
            is_one_of = not isinstance(unnamed(part), AllOf) and not is_place(inner_of(part))
            pin = self._pins.get(inner_of(part)) if isinstance(inner_of(part), str | tuple) else None
            for one in (
                [Option((each,), part) for each in found] if is_one_of else [Option(tuple(found), part)] * bool(found)
            ):
                if pin is not None and is_one_of and not _answers(one.entries[0], pin):
                    refused.append((one, f"pinned to {pin}"))
                else:
                    options.setdefault(one.paths, one)
        return sorted(options.values(), key=lambda one: one.paths), refused

    # -- what comes with it -------------------------------------------------------------------------------------------

    def forced(self, entry: Entry) -> frozenset[str]:
        """Return the paths that a task of the catalogue brings along in any case, its own among them."""
        known = self._forced.get(entry.path)
        if known is None:
            known = self._forced[entry.path] = frozenset({entry.path, *self._reached([entry])})
        return known

    def _reached(self, entries: Iterable[Entry]) -> set[str]:
        """Return what tasks require where there is but one option, and what that requires."""
        reached: set[str] = set()
        waiting = list(entries)
        while waiting:
            entry = waiting.pop()
            for number, item in self._unmet(entry):
                if any(self.is_given(entry, part) for part in parts_of(item)):
                    continue
                options = self._options(entry, number, item)[0]
                for one in options[0].entries if len(options) == 1 else ():
                    if one.path not in reached:
                        reached.add(one.path)
                        waiting.append(one)
        return reached

    # -- what is against it -------------------------------------------------------------------------------------------

    def flaw(self, path: str) -> str:
        """Return why a task of the catalogue cannot be had, whatever is chosen; empty when nothing is against it.

        What is required in any case is not refused for what the machine lacks: it is skipped when its time comes, and
        the tasks that need it with it.
        """
        known = self._bad.get(path)
        if known is None:
            entry = self.catalogue.items[path]
            known = self._bad[path] = self._odd(entry) or self._clashing(entry) or self._unfit(entry)
        return known

    def _odd(self, entry: Entry) -> str:
        if entry.path in self.given.items:
            return "another task of the run stands at its path"
        part = self.stranger(entry)
        return "" if part is None else f"requires {shown(part)}, which nobody provides"

    def _clashing(self, entry: Entry) -> str:
        foe = next(iter(self._rivals[1].of(entry)), None)
        return clash(entry, foe) if foe is not None else ""

    def _unfit(self, entry: Entry) -> str:
        task = entry.task
        if entry.path in self._inevitable or not ("host" in task.meta or "when" in task.meta):
            return ""
        lacks = missing(task.host, self._facts)
        if not lacks and isinstance(task.when, str):
            lacks = [reason for good, reason in [holds(task.when, self._facts)] if not good]
        return "; ".join(lacks)

    def foes(self, entry: Entry) -> list[Entry]:
        """Return what in the catalogue cannot be had together with a task of it, sorted by path."""
        return self._rivals[0].of(entry)

    def quarrels(self) -> Iterator[tuple[Entry, Entry]]:
        """Yield the pairs of tasks that were given and conflict, of which neither is lazy."""
        for entry in self.tasks:
            if entry.task.conflicts and not entry.task.lazy:
                yield from ((entry, foe) for foe in self._rivals[1].of(entry) if not foe.task.lazy)

    # -- what is wrong with it ----------------------------------------------------------------------------------------

    def unknown(self, entry: Entry, part: Any) -> DefinitionError:
        """Return the error for what neither the tasks nor the catalogue have."""
        inner = inner_of(part)
        place = is_place(inner)
        known = [*suggestions(self.given, paths=place), *suggestions(self.catalogue, paths=place)]
        return DefinitionError(
            f"{entry.path} requires {shown(part)}, which neither the tasks nor the catalogue have",
            hint=nearest(inner if isinstance(inner, str) else shown(inner), known),
        )

    def _check_pins(self) -> None:
        """Raise for a pin on a name that nobody provides, or to somebody who does not provide it."""
        for name, what in self._pins.items():
            found = [entry for entry in (*self.offered, *self.tasks) if name in provided(entry.task)]
            if not found:
                known = [*suggestions(self.catalogue, paths=False), *suggestions(self.given, paths=False)]
                raise DefinitionError(
                    f"nobody provides {name!r}, for which {what!r} is wanted", hint=nearest(str(name), known)
                )
            if not any(_answers(entry, what) for entry in found):
                words = sorted({word for entry in found for word in _words(entry)} - {name})
                some = ", ".join(sorted(entry.path for entry in found)[:5])
                raise DefinitionError(
                    f"{what!r} does not provide {name!r}", facts=[("who does", some)], hint=nearest(what, words)
                )


class _Rivals:
    """Who conflicts with whom among some tasks."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._providing: dict[Name, list[Entry]] = {}
        self._refusing: dict[Name, list[Entry]] = {}
        for entry in entries:
            for name in provided(entry.task):
                self._providing.setdefault(name, []).append(entry)
            for name in entry.task.conflicts:
                self._refusing.setdefault(name, []).append(entry)

    def of(self, entry: Entry) -> list[Entry]:
        """Return those that a task conflicts with, sorted by path."""
        found = {one.path: one for name in entry.task.conflicts for one in self._providing.get(name, ())}
        found |= {one.path: one for name in provided(entry.task) for one in self._refusing.get(name, ())}
        found.pop(entry.path, None)
        return [found[path] for path in sorted(found)]


def clash(one: Entry, other: Entry) -> str:
    """Return in words that two tasks conflict, seen from the first; empty when they do not."""
    names = set(one.task.conflicts) & set(provided(other.task)) | set(provided(one.task)) & set(other.task.conflicts)
    return f"conflicts with {other.path} over {shown(min(names, key=str))}" if names and one.path != other.path else ""


# -- reading requirements -----------------------------------------------------------------------------------------------


def parts_of(item: Any) -> Iterator[Any]:
    """Yield the alternatives of a requirement, or the one there is."""
    inner = unnamed(item)
    if isinstance(inner, AnyOf):
        for part in inner.alternatives:
            yield from parts_of(part)
    else:
        yield inner


def inner_of(part: Any) -> Any:
    """Return the name, path, task or function in one part of a requirement."""
    while isinstance(part, Named | AllOf):
        part = part.requirement if isinstance(part, Named) else part.of
    return part


def unnamed(item: Any) -> Any:
    """Return a requirement without the name of its parameter."""
    return unnamed(item.requirement) if isinstance(item, Named) else item


def is_place(item: Any) -> bool:
    """Tell whether a requirement is on a path."""
    return isinstance(item, str) and item.startswith("/")


def _path(entry: Entry) -> str:
    return entry.path


def _words(entry: Entry) -> set[Any]:
    """Return the words that mean a task when they are asked for instead of its path."""
    last = last_of(entry.path)
    return {entry.path, last, last.partition(".")[0], *provided(entry.task)}


def _answers(entry: Entry, what: str) -> bool:
    return what.strip("/") in _words(entry)


def scopes_of(entries: Iterable[Entry]) -> Scopes[Entry]:
    """Return who provides what among some tasks."""
    scopes: Scopes[Entry] = Scopes()
    for entry in entries:
        scopes.add(entry)
        for name in provided(entry.task):
            scopes.provide(name, entry)
        if hasattr(entry.task.callable, "__pexen__"):
            scopes.provide(id(entry.task.callable), entry)
    return scopes


def found_in(scopes: Scopes[Entry], entry: Entry, item: Any) -> Sequence[Entry]:
    """Return what a name, path, task or function means there to a task."""
    if isinstance(item, Task):
        found = scopes.items.get(item.name)
        return () if found is None else (found,)
    if is_place(item):
        return scopes.at(item[1:])
    return scopes.find(item if isinstance(item, str | tuple) else id(item), entry.path)
