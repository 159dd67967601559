"""Hypothesis strategies for graphs of tasks. Needs Hypothesis, which pexen itself does not.

All graphs are about a small world (`FOLDERS`, `NAMES`, `LOCKS`, `PLACES`, `RESOURCES`), so that tasks meet: names are
provided at several depths of the tree, locks are fought for, resources run out. Tasks do nothing and return None.

`graphs` draws lists of tasks that a planner accepts. `batches` draws lists that may be wrong in every way there is
(unknown names, cycles, paths taken, too large amounts), and may depend on tasks that were added before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from pexen.model.meta import AllOf, AnyOf, Named, all_of, any_of, tree_lock
from pexen.model.scope import Scopes
from pexen.model.task import Task, task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

FOLDERS = ("", "a", "a/b", "a/b/c", "d", "d/e")
NAMES = ("x", "y", "z", ("k", 1))
LOCKS = ("m", "n", ("disk", 0))
PLACES = ("/", "/p", "/p/q", "/p/q/r", "/s")
RESOURCES: dict[str, float | list[str]] = {"cpu": 4, "gpu": ["0", "1"]}


def nothing() -> None:
    """Do nothing: what the tasks run."""


@task
def first() -> None:
    """Do nothing, in a decorated function: to be required as such."""


@task
def second() -> None:
    """Do nothing, in another one."""


DECORATED: tuple[Callable[..., Any], ...] = (first, second)

_seldom = st.sampled_from((False, False, False, False, True))
_sometimes = st.sampled_from((False, True))


def _mostly_not(strategy: SearchStrategy[Any], rarely: int = 4) -> SearchStrategy[Any]:
    """Draw None, and only once in a while what is worth testing."""
    return st.one_of(*[st.none()] * rarely, strategy)


_LOCK_LISTS = st.lists(
    st.one_of(st.sampled_from(LOCKS), st.sampled_from(PLACES).map(tree_lock)), min_size=1, max_size=2
)
_META = st.fixed_dictionaries({
    "folder": st.sampled_from(FOLDERS),
    "callable": st.sampled_from((nothing, nothing, nothing, *DECORATED)),
    "provides": _mostly_not(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True), 1),
    "priority": _mostly_not(st.integers(-1, 1)),
    "estimate": _mostly_not(st.sampled_from((0, 0.5, 2, 10))),
    "lazy": _mostly_not(_sometimes),
    "preference": _mostly_not(st.integers(0, 2)),
    "cleanup": _mostly_not(_sometimes),
    "claims": _mostly_not(_LOCK_LISTS, 2),
    "uses": _mostly_not(_LOCK_LISTS, 2),
    "resources": _mostly_not(st.dictionaries(st.sampled_from(sorted(RESOURCES)), st.integers(1, 2), min_size=1)),
    "alone": _mostly_not(_sometimes, 6),
    "once": _mostly_not(_sometimes, 6),
})  # fmt: skip
_CHOICES = st.lists(st.integers(0, 255), max_size=3)
"""Which requirements, as numbers: drawn before it is known what there is to choose from."""
_SHAPES = st.fixed_dictionaries({
    "basic": _CHOICES,
    "any": _mostly_not(_CHOICES),
    "all": _mostly_not(_CHOICES),
    "nested": _seldom,
    "named": _seldom,
    "after": _mostly_not(_CHOICES),
    "myself": _seldom,
    "pool": st.integers(0, 9),
    "odd": st.integers(0, 99),
})  # fmt: skip


def graphs(*, max_size: int = 12, pools: Sequence[str] = ("default",)) -> SearchStrategy[list[Task]]:
    """Draw lists of tasks, in any order, that a planner with these pools and `RESOURCES` accepts."""
    return batches(max_size=max_size, pools=pools, valid=True)


@st.composite
def batches(
    draw: DrawFn,
    *,
    known: Sequence[Task] = (),
    max_size: int = 6,
    pools: Sequence[str] = ("default",),
    valid: bool = False,
) -> list[Task]:
    """Draw a list of tasks to be added to a run that has the tasks ``known``; with ``valid`` it will be accepted."""
    drawn = draw(st.lists(st.tuples(_META, _SHAPES), min_size=1, max_size=max_size))
    standing = [_Place(one.path or "", one, index - len(known)) for index, one in enumerate(known)]
    shapes: list[tuple[_Place, dict[str, Any]]] = []
    for index, (meta, shape) in enumerate(drawn):
        folder = meta.pop("folder")
        path = f"{folder}/" * bool(folder) + f"t{len(standing)}"
        if shape["odd"] > 96 and not valid:
            path = [*(one.path for one in standing), "a", "a/b", "d/e"][-index % 3]  # taken, or a folder's path
        if shape["pool"] < 2 * len(pools) - 2:
            meta["pool"] = pools[shape["pool"] % len(pools)]
        place = _Place(path, Task(path=path, **{key: value for key, value in meta.items() if value is not None}), index)
        standing.append(place)
        shapes.append((place, shape))
    scopes = _entered(standing)
    made: list[Task] = list(known)
    for place, shape in shapes:
        mine = -1 if not valid and not shape["myself"] else None if not valid else place.index
        usable = [*_usable(scopes, standing, place.path, mine), *made]
        if shape["odd"] < 3 and not valid:
            usable = ["nobody", "/nowhere"]
        made.append(place.task.replace(**_dependencies(shape, usable)) if usable else place.task)
    return draw(st.permutations(made[len(known) :])) if valid else made[len(known) :]


class _Place:
    """A task that stands or will stand at a path; ``index`` counts the new ones."""

    def __init__(self, path: str, task: Task, index: int) -> None:
        self.path = path
        self.task = task
        self.index = index


def _entered(standing: list[_Place]) -> Scopes[_Place]:
    scopes: Scopes[_Place] = Scopes()
    for one in standing:
        scopes.add(one)
        for name in one.task.provides:
            scopes.provide(name, one)
        if one.task.callable in DECORATED:
            scopes.provide(one.task.callable, one)
    return scopes


def _usable(scopes: Scopes[_Place], standing: list[_Place], path: str, before: int | None) -> list[Any]:
    """Return the requirements that mean something: only earlier tasks than ``before``; -1: only others; None: any."""
    names: list[Any] = [name for name in NAMES if name in scopes.providers]
    names += [function for function in DECORATED if function in scopes.providers]
    places = ["/" + one.path for one in standing] + ["/" + folder for folder in FOLDERS if folder and scopes.at(folder)]

    def is_early(found: Sequence[_Place]) -> bool:
        if before == -1:
            return all(one.path != path for one in found)
        return before is None or all(one.index < before for one in found)

    usable = [name for name in names if is_early(scopes.find(name, path))]
    return usable + [place for place in sorted(set(places)) if is_early(scopes.at(place[1:]))]


def _dependencies(shape: dict[str, Any], usable: Sequence[Any]) -> dict[str, Any]:
    """Return ``requires`` and ``after`` of the given shape, made of what is usable."""

    def chosen(numbers: Sequence[int]) -> list[Any]:
        return [usable[number % len(usable)] for number in numbers]

    items: list[Any] = chosen(shape["basic"])
    if shape["any"]:
        alternatives = chosen(shape["any"])
        if shape["nested"]:
            alternatives.append(any_of(*alternatives[:2], *items))
        items.append(any_of(*alternatives))
    if shape["all"]:
        items += [all_of(item) for item in chosen(shape["all"][:1])]
    requires = {f"p{index}": item for index, item in enumerate(items)} if shape["named"] else items
    return {"requires": requires, "after": chosen(shape["after"]) if shape["after"] else None}


def leaves(item: Any) -> list[Any]:
    """Return what a requirement is made of: the names, paths, tasks and functions in it."""
    if isinstance(item, Named):
        return leaves(item.requirement)
    if isinstance(item, AllOf):
        return leaves(item.of)
    if isinstance(item, AnyOf):
        return [leaf for part in item.alternatives for leaf in leaves(part)]
    return [item]
