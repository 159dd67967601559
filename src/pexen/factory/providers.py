"""Choosing providers: adds to tasks what they require and lack, from a catalogue, as a package manager would.

A name that nobody among the tasks provides is taken from the catalogue. Where several there provide it (``httpd`` by nginx,
apache, python) one is chosen, once it is known that all it requires can be had as well and that nothing conflicts. For
``any_of`` the others that go with the rest come along, too, ``lazy``: the next one is started when the chosen one fails.

*What a requirement means afterwards.* Nobody's requirement may change its meaning by what is added. So an added task does not
provide again what the tasks provide already, and a requirement that would now mean more than what was chosen for it is
rewritten to name that by path. All else stays as it was written, and is bound by the run as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pexen.factory.base import AnyFactory
from pexen.factory.candidates import Candidates, Entry, found_in, inner_of, parts_of, scopes_of
from pexen.factory.facts import Facts
from pexen.model.meta import Name
from pexen.model.task import Task, as_task

_NAMED = 8


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that was not chosen: its ``path`` (several, with commas, where they belong together), and why not."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for one requirement, by path; all paths are those in the run.

    ``name`` is the requirement as it is written, ``required_by`` who has it, ``why`` what spoke for the chosen ones.
    ``fallbacks`` are started one after the other when what is before them fails. Nothing is ``chosen`` where an
    alternative of an ``any_of`` was among the tasks.
    """

    name: str
    required_by: tuple[str, ...]
    chosen: tuple[str, ...]
    why: str
    fallbacks: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()

    def __str__(self) -> str:
        """Return it in a line: ``'httpd': services/nginx (preference 5)``."""
        chosen = ", ".join(self.chosen) or "what is there"
        told = f"{self.name}: {chosen}" + (f" ({self.why})" if self.why else "")
        return told + (f", else {', '.join(self.fallbacks)}" if self.fallbacks else "")


@dataclass(frozen=True, slots=True)
class Choices:
    """All that was decided. ``added`` maps the paths of added tasks to who wants them, in words."""

    made: tuple[Choice, ...] = ()
    added: Mapping[str, str] = field(default_factory=dict)

    def of(self, path: str) -> list[Choice]:
        """Return the choices for what the task at ``path`` requires."""
        return [choice for choice in self.made if path in choice.required_by]

    def __str__(self) -> str:
        """Return in a line what was chosen: ``httpd: services/nginx, else services/python; db: services/db``."""
        made = [(choice.name.strip("'"), (*choice.chosen, *choice.fallbacks)) for choice in self.made if choice.chosen]
        told = [f"{name}: {', else '.join(paths)}" for name, paths in made[:_NAMED]]
        return "; ".join(told + [f"and {len(made) - _NAMED} more"] * (len(made) > _NAMED))


def choose_providers(
    tasks: Iterable[Any],
    catalogue: AnyFactory | Iterable[Any],
    *,
    pins: Mapping[Name, str] | None = None,
    facts: Facts | None = None,
    same_tree: bool = False,
) -> tuple[list[Task], Choices]:
    """Return the tasks, with what they require and lack added from the catalogue, and what was decided.

    ``catalogue`` is a factory, called only if something is missing, or the tasks themselves. ``pins`` says for a name which
    provider it must be: its path, the last part of that, or a name it provides. ``facts`` (of this machine) decide
    ``host`` and ``when``. With ``same_tree`` both are of one tree, so that the nearest provider is meant wherever it is;
    else what is among the tasks always counts before the catalogue.

    The best candidate is one that somebody needs already, then one of higher ``preference``, then the one that brings along
    fewer further tasks, then the first by path. Tasks that need no change are returned as they are, others as copies.
    Raises `DefinitionError` when there is no solution, naming the requirements that clash, and for unknown pins.
    """
    given = [as_task(one) for one in tasks]
    if not lack(given) and not same_tree:
        return given, Choices()
    from pexen.factory.choosing import Choosing  # and with it resolvelib

    offered = [as_task(one) for one in (catalogue() if callable(catalogue) else catalogue)]
    candidates = Candidates(given, offered, pins or {}, facts or Facts(), same_tree=same_tree)
    return Choosing(candidates, same_tree=same_tree).result()


def lack(tasks: Sequence[Task]) -> bool:
    """Tell whether anything is required that nobody among the tasks provides."""
    if not any(task.requires for task in tasks):
        return False
    entries = [Entry(task.name, task) for task in tasks]
    scopes = scopes_of(entries)
    return any(
        not found_in(scopes, entry, inner_of(part))
        for entry in entries
        for item in entry.task.requires
        for part in parts_of(item)
    )
