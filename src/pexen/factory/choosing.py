"""A choice of providers as it comes about: needs are met, fallbacks and clean-ups come along, requirements are made to fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pexen.errors import DefinitionError
from pexen.factory.base import copied
from pexen.factory.candidates import Candidates, Entry, Need, Option, clash, found_in, inner_of, parts_of, scopes_of
from pexen.factory.decided import decided, no_solution
from pexen.factory.providers import Choices
from pexen.factory.resolve import Impossible, rank, solve
from pexen.model.call import parameter_of
from pexen.model.meta import EMPTY, AnyOf, Named
from pexen.model.task import Task, provided


class Choosing:
    """One choice of providers: ``picks`` for needs, ``chosen`` paths, ``spare`` ones that are lazy."""

    def __init__(self, candidates: Candidates, *, same_tree: bool) -> None:
        self.candidates = candidates
        self.same_tree = same_tree
        self.picks: dict[Need, Option] = {}
        self.fallbacks: dict[Need, list[Option]] = {}
        self.chosen: set[str] = set()
        self.spare: set[str] = set()
        self.why: dict[str, str] = {}
        self._friends: set[frozenset[str]] = set()

    def result(self) -> tuple[list[Task], Choices]:
        """Choose, and return the tasks with what was decided."""
        self._check()
        needs = [need for entry in self.candidates.tasks for _, need in self.candidates.needs(entry) if not need.is_met]
        self._add(self._solved(needs, ()), self.chosen)
        self._add_fallbacks()
        self._add_cleaners()
        self._say_why()
        return self._tasks(), Choices(decided(self), self.why)

    def _check(self) -> None:
        for entry in self.candidates.tasks:
            part = self.candidates.stranger(entry)
            if part is not None:
                raise self.candidates.unknown(entry, part)
        for one, other in self.candidates.quarrels():
            raise DefinitionError(
                f"{one.path} and {other.path} cannot both be in one run",
                facts=[(one.path, clash(one, other))],
                hint="select one of them",
            )

    def _solved(self, needs: Iterable[Need], paths: Iterable[str]) -> tuple[set[str], dict[Need, Option]]:
        from pexen.factory.resolve import Impossible, solve

        try:
            return solve(self.candidates, needs, paths, self._friends)
        except Impossible as error:
            raise no_solution(self, error.needs) from None

    def _add(self, solved: tuple[set[str], dict[Need, Option]], kind: set[str]) -> None:
        paths, picks = solved
        kind |= paths - self.chosen - self.spare
        self.picks = {**picks, **self.picks}

    # -- what comes along ---------------------------------------------------------------------------------------------

    def _add_fallbacks(self) -> None:
        """For each ``any_of`` add what else goes with the rest, the next best first."""
        done: set[Need] = set()
        while left := [need for need in self.needs() if need.is_any and need not in done]:
            for need in left:
                done.add(need)
                others = [option for option in need.options if option not in self.taken(need)]
                for option in sorted(others, key=lambda one: rank(self.candidates, one, self.is_in)[1:]):
                    self._add_fallback(need, option)

    def _add_fallback(self, need: Need, option: Option) -> None:
        """Add one more fallback for a need, if it goes with the rest."""
        # It is started when those before it have failed, so it may conflict with them.
        friends = {frozenset({a, b}) for one in self.taken(need) for a in one.paths for b in option.paths}
        try:
            solved = solve(self.candidates, (), {*self.chosen, *self.spare, *option.paths}, self._friends | friends)
        except Impossible:
            return
        if not self._would_close(need, option, solved[1]):
            self._friends |= friends
            self._add(solved, self.spare)
            self.fallbacks.setdefault(need, []).append(option)

    def _would_close(self, need: Need, option: Option, picks: dict[Need, Option]) -> bool:
        """Tell whether a fallback requires somebody who has it for a fallback; that would be a cycle."""
        items = self.candidates.catalogue.items
        seen, waiting = set[str](), list(option.paths)
        while waiting:
            path = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            for _, other in self.candidates.needs(items[path]):
                if other is need:
                    return True
                options = self.taken(other) or ([picks[other]] if other in picks else [])
                waiting += [each for one in options for each in one.paths]
        return False

    def _add_cleaners(self) -> None:
        """Add the clean-ups in the catalogue that belong to what is added."""
        cleaners = [entry for entry in self.candidates.offered if entry.task.cleanup]
        while True:
            found = [entry for entry in cleaners if not self.is_in(entry.path) and self._watched(entry)]
            if not found:
                return
            for entry in found:
                self.why[entry.path] = f"cleans up after {self._watched(entry)}"
                self._add(self._solved((), {*self.chosen, *self.spare, entry.path}), self.chosen)

    def _watched(self, entry: Entry) -> str:
        """Return the first added task that a clean-up requires or comes after; empty when there is none."""
        for item in (*entry.task.requires, *entry.task.after):
            for part in parts_of(item):
                for one in self.candidates.meant(entry, part)[1]:
                    if one.path != entry.path and self.is_in(one.path):
                        return one.path
        return ""

    def _say_why(self) -> None:
        for entry in self.entries():
            for _, need in self.candidates.needs(entry):
                for option in self.taken(need):
                    for path in option.paths:
                        self.why.setdefault(path, f"required by {entry.path}")
        order = {entry.path: number for number, entry in enumerate(self.candidates.offered)}
        self.why = dict(sorted(self.why.items(), key=lambda one: order[one[0]]))

    # -- what is there ------------------------------------------------------------------------------------------------

    def is_in(self, path: str) -> bool:
        """Tell whether a task of the catalogue is added."""
        return path in self.chosen or path in self.spare

    def entries(self) -> list[Entry]:
        """Return the tasks of the run as they were, those that are added behind the others."""
        return [*self.candidates.tasks, *(entry for entry in self.candidates.offered if self.is_in(entry.path))]

    def needs(self) -> list[Need]:
        """Return the needs of all tasks of the run, in an order of their own."""
        found = {need for entry in self.entries() for _, need in self.candidates.needs(entry)}
        return sorted(found, key=lambda need: need.key)

    def taken(self, need: Need) -> list[Option]:
        """Return the options that meet a need, the chosen one first."""
        first = self.picks.get(need)
        return ([] if first is None else [first]) + self.fallbacks.get(need, [])

    # -- the tasks that come out --------------------------------------------------------------------------------------

    def _tasks(self) -> list[Task]:
        added = [Entry(entry.path, self._added(entry)) for entry in self.entries()[len(self.candidates.tasks) :]]
        every = [*self.candidates.tasks, *added]
        scopes = scopes_of(every)

        def find(entry: Entry, part: Any) -> tuple[str, ...]:
            return tuple(one.path for one in found_in(scopes, entry, inner_of(part)))

        return [self._bound(entry, before, find) for entry, before in zip(every, self.entries(), strict=True)]

    def _added(self, entry: Entry) -> Task:
        """Return a task of the catalogue as it stands in the run."""
        task, meta = entry.task, dict(entry.task.meta)
        meta.pop("lazy", None)
        if entry.path in self.spare:
            meta["lazy"] = True
        names = provided(task)
        kept = names if self.same_tree else tuple(name for name in names if name not in self.candidates.given.providers)
        made = copied(task, entry.path, meta or EMPTY)
        if kept != names:
            made.provides = kept or ((entry.path,),)  # a service with no name left would provide its own
        return made

    def _bound(self, entry: Entry, before: Entry, find: Callable[[Entry, Any], tuple[str, ...]]) -> Task:
        """Return a task whose requirements mean what was chosen for them; itself where they do by themselves."""
        task = entry.task
        requires = list(task.requires)
        for number, need in self.candidates.needs(before):
            requires[number] = self._meaning(entry, requires[number], need, find)
        after = tuple(item for item in task.after if not self._is_left_out(before, item))
        if tuple(requires) == task.requires and after == task.after:
            return task
        meta = {key: value for key, value in task.meta.items() if key != "after"} | ({"after": after} if after else {})
        made = copied(task, task.path, meta or EMPTY)
        made.requires, made.provides = tuple(requires), task.provides
        return made

    def _meaning(self, entry: Entry, item: Any, need: Need, find: Callable[[Entry, Any], tuple[str, ...]]) -> Any:
        """Return the requirement as it must be written to mean what was chosen."""
        if not need.is_any:
            paths, part = self.picks[need].paths, next(parts_of(item))
            is_nameless = (
                isinstance(inner_of(part), Task) and inner_of(part).path is None
            )  # so only a copy of it has a path
            is_meant = find(entry, part) == paths and not is_nameless
            return item if is_meant or len(paths) != 1 else _named(item, f"/{paths[0]}")
        there = [part for part in parts_of(item) if self.candidates.is_given(entry, part)]
        parts = [*there, *(f"/{one.paths[0]}" if len(one.paths) == 1 else one.part for one in self.taken(need))]
        written = list(parts_of(item))
        if len(written) == len(parts) == 1 and find(entry, written[0]) == self.picks[need].paths:
            return item
        return _named(item, AnyOf(tuple(parts)))

    def _is_left_out(self, entry: Entry, item: Any) -> bool:
        """Tell whether an ``after`` is about tasks of the catalogue alone, none of which is in the run."""
        found = [self.candidates.meant(entry, part) for part in parts_of(item)]
        offered = [one.path for _, others in found for one in others]
        return bool(offered) and not any(ours for ours, _ in found) and not any(map(self.is_in, offered))


def _named(item: Any, meaning: Any) -> Any:
    """Return a requirement for the same parameter that means something else."""
    name = parameter_of(item)
    return meaning if name is None else Named(name, meaning)
