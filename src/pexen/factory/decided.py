"""In words: why a provider was chosen and others were not, and why there is no solution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pexen.errors import DefinitionError
from pexen.factory.candidates import Candidates, Entry, Need, Option, clash
from pexen.factory.providers import Choice, Rejected
from pexen.factory.resolve import Rank, rank

if TYPE_CHECKING:
    from pexen.factory.choosing import Choosing


_APART = "does not go together with the others"


def decided(choosing: Choosing) -> tuple[Choice, ...]:
    """Return what was decided for each need of the tasks of the run, in the order in which somebody first has it."""
    wanting = _wanting(choosing.candidates, choosing.entries())
    uses = Counter(path for need in wanting for one in choosing.taken(need) for path in one.paths)
    return tuple(_choice(choosing, need, paths, uses) for need, paths in wanting.items())


def _wanting(candidates: Candidates, entries: Sequence[Entry]) -> dict[Need, list[str]]:
    """Return who has each need."""
    found: dict[Need, dict[str, None]] = {}
    for entry in entries:
        for _, need in candidates.needs(entry):
            found.setdefault(need, {})[entry.path] = None
    return {need: list(paths) for need, paths in found.items()}


def _choice(choosing: Choosing, need: Need, wanting: list[str], uses: Counter[str]) -> Choice:
    pick = choosing.picks.get(need)
    fallbacks = choosing.fallbacks.get(need, [])
    own = {path for one in choosing.taken(need) for path in one.paths}
    reasons = _Reasons(choosing, need, lambda path: uses[path] > (path in own))
    left = [one for one in need.options if one != pick and one not in fallbacks]
    rejected = [(one, reasons.against(one)) for one in left] + need.refused
    return Choice(
        need.text,
        tuple(wanting),
        () if pick is None else pick.paths,
        "" if pick is None else reasons.for_it(pick),
        tuple(path for one in fallbacks for path in one.paths),
        tuple(
            Rejected(", ".join(one.paths), reason) for one, reason in sorted(rejected, key=lambda each: each[0].paths)
        ),
    )


class _Reasons:
    """Why something was chosen for a need, and other things were not; ``is_in`` are the tasks that others need."""

    def __init__(self, choosing: Choosing, need: Need, is_in: Callable[[str], bool]) -> None:
        self._choosing, self._need, self._is_in = choosing, need, is_in
        self._candidates = choosing.candidates
        self._own = {path for one in choosing.taken(need) for path in one.paths}

    def for_it(self, pick: Option) -> str:
        """Return what spoke for the chosen option."""
        if any(reason.startswith("pinned") for _, reason in self._need.refused):
            return "pinned"
        others = [one for one in self._need.options if one != pick]
        if not others:
            return "" if self._need.refused else "the only one"
        usable = [self._rank(one) for one in others if not self._fault(one)]
        return _advantage(self._rank(pick), min(usable)) if usable else "the only one that can be used"

    def against(self, option: Option) -> str:
        """Return what spoke against an option."""
        fault = self._fault(option)
        if fault:
            return fault
        pick = self._choosing.picks.get(self._need)
        if pick is None:
            return "does not go together with the rest"
        mine, chosen = self._rank(option), self._rank(pick)
        if self._need.is_any or mine < chosen:
            return "what it requires does not go together with the rest"
        return _disadvantage(mine, chosen)

    def _rank(self, option: Option) -> Rank:
        return rank(self._candidates, option, self._is_in)

    def _fault(self, option: Option) -> str:
        """Return what makes an option impossible beside what is in the run; empty where that is not plain to see."""
        return fault(self._candidates, option, lambda path: path not in self._own and self._choosing.is_in(path))


def fault(candidates: Candidates, option: Option, is_other: Callable[[str], bool]) -> str:
    """Return what makes an option impossible beside others: a flaw or a conflict, of its own or of what it requires."""
    own = set(option.paths)
    reached = {path for entry in option.entries for path in candidates.forced(entry)}
    for path in sorted(reached, key=lambda one: (one not in own, one)):
        entry = candidates.catalogue.items[path]
        foes = (clash(entry, one) for one in candidates.foes(entry) if is_other(one.path))
        reason = candidates.flaw(path) or next(foes, "")
        if reason:
            return reason if path in own else f"requires {path}, which {reason}"
    return ""


def _advantage(mine: Rank, other: Rank) -> str:
    if mine.is_new != other.is_new:
        return "needed anyway" if other.is_new else "the rest does not go together with others"
    if mine.unloved != other.unloved:
        return (
            f"preference {-mine.unloved:g}" if mine < other else "what is preferred does not go together with the rest"
        )
    if mine.further != other.further:
        return "fewer further tasks" if mine < other else "others do not go together with the rest"
    return "first by path" if mine < other else "others do not go together with the rest"


def _disadvantage(mine: Rank, chosen: Rank) -> str:
    name = ", ".join(chosen.paths)
    if mine.is_new != chosen.is_new:
        return f"{name} is needed anyway"
    if mine.unloved != chosen.unloved:
        return f"preference {-mine.unloved:g}, that of {name} is {-chosen.unloved:g}"
    if mine.further != chosen.further:
        return f"brings along {mine.further} more, {name} {chosen.further}"
    return f"{name} comes first by path"


def no_solution(choosing: Choosing, needs: list[Need]) -> DefinitionError:
    """Return the error that names the requirements that clash, and for each candidate why it was refused."""
    candidates = choosing.candidates
    wanting = _wanting(candidates, _reachable(candidates))
    told = [(need, ", ".join(wanting.get(need, ["the run"])[:3])) for need in needs]
    facts: dict[tuple[str, str], None] = {}
    for need, _ in told:
        for option in need.options:
            others = {path for other in needs if other is not need for one in other.options for path in one.paths}
            wanted = next((one for entry in option.entries for _, one in candidates.needs(entry) if one in needs), None)
            reason = fault(candidates, option, others.__contains__) or (f"requires {wanted.text}" if wanted else _APART)
            facts[", ".join(option.paths), reason] = None
        facts.update(((", ".join(option.paths), reason), None) for option, reason in need.refused)
    if len(told) == 1:
        need, who = told[0]
        headline = f"{who} requires {need.text}, and nothing that provides it can be used"
    else:
        headline = "requirements clash: " + "; ".join(f"{who} requires {need.text}" for need, who in told)
    pinned = any(reason.startswith("pinned") for need in needs for _, reason in need.refused)
    hint = (
        "the pins leave no choice" if pinned else "leave out one of them (-k, PATH), or add a provider to the catalogue"
    )
    return DefinitionError(headline, facts=facts, hint=hint)


def _reachable(candidates: Candidates) -> list[Entry]:
    """Return the tasks, and everything that could be added for them."""
    found = {id(entry.task): entry for entry in candidates.tasks}
    waiting = list(found.values())
    while waiting:
        for _, need in candidates.needs(waiting.pop()):
            for option in need.options:
                for entry in option.entries:
                    if id(entry.task) not in found:
                        found[id(entry.task)] = entry
                        waiting.append(entry)
    return list(found.values())
