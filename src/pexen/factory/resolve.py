"""Choosing one option for each need, so that everything required is there and nothing conflicts: the part for resolvelib.

resolvelib picks a candidate for each *identifier*, and backtracks. There are two kinds of identifiers here: a need, whose
candidates are its options, and a task of the catalogue, which is in or out. An option wants its tasks in; a task that is in
wants its needs met and the tasks that it conflicts with out. In and out at once is what cannot be, and is never tried
any further.

*No cycles.* What closes a cycle of requirements wants a task of that cycle out, which is in: so that is a conflict, too.

*Order.* Needs with one option come before those with several, and then by what they are, not by who came first. Among the
options for a need the best comes first: one that is in already, then higher preference, fewer further tasks, path. So the
answer does not depend on the order of tasks or on hashes.

resolvelib is imported when there is something to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver

from pexen.errors import DefinitionError
from pexen.factory.candidates import Candidates, Entry, Need, Option

_ROUNDS = 20_000
"""Beyond what the catalogue itself needs: what is not found by then is a riddle, not a configuration."""


class Impossible(Exception):
    """There is no choice; ``needs`` are those that had to do with it."""

    def __init__(self, needs: list[Need]) -> None:
        super().__init__(needs)
        self.needs = needs


class _In(NamedTuple):
    """That a task is in, or is out: what somebody wants, and what may be the case."""

    path: str
    yes: bool


class _Pick(NamedTuple):
    need: Need
    option: Option


Wanted = _In | Need
Had = _In | _Pick


def solve(
    candidates: Candidates, needs: Iterable[Need], paths: Iterable[str] = (), friends: Collection[frozenset[str]] = ()
) -> tuple[set[str], dict[Need, Option]]:
    """Return the paths of the tasks to add, and the option chosen for each need.

    The tasks at ``paths`` of the catalogue are among them. Pairs of ``friends`` are not kept apart by their conflicts.
    Raises `Impossible`.
    """
    chooser = _Chooser(candidates, frozenset(friends))
    wanted: list[Wanted] = [*(_In(path, True) for path in sorted(paths)), *sorted(needs, key=lambda need: need.key)]
    try:
        found = Resolver(chooser, _Watcher(chooser)).resolve(wanted, max_rounds=_ROUNDS + 4 * len(candidates.offered))
    except ResolutionImpossible as error:
        chooser.note(error.causes)
        raise Impossible(sorted(chooser.concerned, key=lambda need: need.key)) from None
    except ResolutionTooDeep:
        raise DefinitionError(
            "there are too many providers to choose from", hint="pin some: -D provider.NAME=WHICH"
        ) from None
    had = found.mapping.values()
    picks = {one.need: one.option for one in had if isinstance(one, _Pick)}
    return {one.path for one in had if isinstance(one, _In) and one.yes}, picks


class _Chooser(AbstractProvider[Wanted, Had, Any]):
    """Answers the questions of resolvelib. ``criteria`` and ``pins`` are what it has after its last round."""

    def __init__(self, candidates: Candidates, friends: frozenset[frozenset[str]]) -> None:
        self.criteria: Mapping[Any, Any] = {}
        self.pins: Mapping[Any, Had] = {}
        self.concerned: set[Need] = set()
        self._candidates = candidates
        self._friends = friends

    def identify(self, requirement_or_candidate: Wanted | Had) -> Any:
        """Return the need itself, or the path of a task."""
        one = requirement_or_candidate
        return one.path if isinstance(one, _In) else one.need if isinstance(one, _Pick) else one

    def get_preference(self, identifier: Any, *_: Any, **__: Any) -> Any:
        """Let everything that is not really a choice come first."""
        if isinstance(identifier, str):
            return 0, 0, (identifier,)
        return 1, len(identifier.options) > 1, identifier.key

    def find_matches(
        self, identifier: Any, requirements: Mapping[Any, Iterator[Wanted]], incompatibilities: Mapping[Any, Iterator[Had]]
    ) -> Sequence[Had]:  # fmt: skip
        """Return what there is, the best first."""
        failed = list(incompatibilities[identifier])
        if isinstance(identifier, Need):
            picks = (_Pick(identifier, option) for option in identifier.options)
            return _Ranked([one for one in picks if one not in failed], self._rank)
        wanted = {one.yes for one in requirements[identifier] if isinstance(one, _In)}
        if len(wanted) > 1 or (True in wanted and self._candidates.flaw(identifier)):
            return ()
        return [one for yes in wanted if (one := _In(identifier, yes)) not in failed]

    def is_satisfied_by(self, requirement: Wanted, candidate: Had) -> bool:
        """Tell whether a candidate is what was wanted: any option is."""
        return isinstance(requirement, Need) or requirement == candidate

    def get_dependencies(self, candidate: Had) -> Iterable[Wanted]:
        """Return what a candidate wants."""
        if isinstance(candidate, _Pick):
            return [*(_In(path, True) for path in candidate.option.paths), *self._closing(candidate)]
        if not candidate.yes:
            return []
        entry = self._candidates.catalogue.items[candidate.path]
        foes = [
            foe.path for foe in self._candidates.foes(entry) if frozenset({foe.path, entry.path}) not in self._friends
        ]
        needs = [need for _, need in self._candidates.needs(entry) if not need.is_met]
        return [
            *sorted(needs, key=lambda need: need.key),
            *(_In(path, False) for path in foes),
            *self._closing(candidate),
        ]

    def _closing(self, candidate: Had) -> list[_In]:
        """Return what must be out for a candidate not to close a cycle."""
        pins = {**self.pins, self.identify(candidate): candidate}
        if isinstance(candidate, _In):
            starts, ends = [candidate.path], {candidate.path}
        else:
            ends = {path for path in self._requiring(candidate.need) if path in self.pins}
            starts = list(candidate.option.paths) if ends else []
        seen: set[str] = set()
        waiting = [path for start in starts for path in ([start] if start not in ends else self._next(start, pins))]
        while waiting:
            path = waiting.pop()
            if path in ends:
                return [_In(path, False)]
            if path not in seen and path in pins:
                seen.add(path)
                waiting += self._next(path, pins)
        return []

    def _next(self, path: str, pins: Mapping[Any, Had]) -> list[str]:
        """Return what a task that is in requires, as far as that has been picked."""
        needs = (need for _, need in self._candidates.needs(self._candidates.catalogue.items[path]))
        picked = (pins.get(need) for need in needs)
        return [each for one in picked if isinstance(one, _Pick) for each in one.option.paths]

    def _requiring(self, need: Need) -> list[str]:
        """Return the tasks among those in that have a need."""
        found = (one.path for one in self.pins.values() if isinstance(one, _In) and one.yes)
        items = self._candidates.catalogue.items
        return [path for path in found if any(each is need for _, each in self._candidates.needs(items[path]))]

    def is_in(self, path: str) -> bool:
        """Tell whether somebody wants a task, as things stand."""
        criterion = self.criteria.get(path)
        return criterion is not None and next(iter(criterion.iter_requirement())).yes

    def _rank(self, pick: Had) -> Any:
        assert isinstance(pick, _Pick)  # noqa: S101 - for the type checker
        return rank(self._candidates, pick.option, self.is_in)

    def note(self, causes: Collection[Any]) -> None:
        """Note the needs that had to do with a failure, from what resolvelib has as its causes."""
        paths = {one.path for cause in causes for one in cause if isinstance(one, _In)}
        self.concerned |= {one for cause in causes for one in cause if isinstance(one, Need)}
        self.concerned |= {one.need for cause in causes for one in cause if isinstance(one, _Pick)}
        every = (key for key in self.criteria if isinstance(key, Need))
        self.concerned |= {need for need in every if any(paths & set(option.paths) for option in need.options)}


class _Watcher(BaseReporter[Wanted, Had, Any]):
    """Tells the chooser how things stand after each round."""

    def __init__(self, chooser: _Chooser) -> None:
        self._chooser = chooser

    def resolving_conflicts(self, causes: Collection[Any]) -> None:
        """Note what has failed; should all fail, that is what to tell."""
        self._chooser.note(causes)

    def ending_round(self, index: int, state: Any) -> None:
        """Note what is wanted by now."""
        self._chooser.criteria, self._chooser.pins = state.criteria, state.mapping


class _Ranked(Sequence[Had]):
    """Candidates that are sorted when they are looked at: what is in changes until then."""

    def __init__(self, found: list[Had], rank: Callable[[Had], Any]) -> None:
        self._found, self._rank = found, rank

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        return sorted(self._found, key=self._rank)[index]

    def __iter__(self) -> Iterator[Had]:
        return iter(sorted(self._found, key=self._rank))


class Rank(NamedTuple):
    """How good an option is; less is better."""

    is_new: bool
    unloved: float
    further: int
    paths: tuple[str, ...]


def rank(candidates: Candidates, option: Option, is_in: Callable[[str], bool]) -> Rank:
    """Return how good an option is when these tasks are in."""
    further: set[Any] = set()
    for entry in option.entries:
        further |= further_tasks(candidates, entry)
    further -= set(option.paths)
    count = sum(not is_in(one) if isinstance(one, str) else not any(map(is_in, _all(one))) for one in further)
    return Rank(not all(map(is_in, option.paths)), -option.preference, count, option.paths)


def _all(need: Need) -> list[str]:
    return [path for option in need.options for path in option.paths]


def further_tasks(candidates: Candidates, entry: Entry) -> set[Any]:
    """Return what a task brings along at least: paths, itself included, and each need with several options as one."""
    found: set[Any] = set(candidates.forced(entry))
    for path in candidates.forced(entry):
        task = candidates.catalogue.items[path]
        found.update(need for _, need in candidates.needs(task) if not need.is_met and len(need.options) > 1)
    return found
