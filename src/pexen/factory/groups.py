"""Groups of a tree: what ``[groups.NAME]`` in its root's configuration and ``GROUPS`` in a pexenfile say.

A tree is collected in another process than it is run in, and where its output goes is not its business. So what a tree says
about a group is a few plain values, a `Grouping`; whoever runs the tree makes the pool of it. Of a `pexen.Group` with a pool
of its own those values are taken from the pool. Both classes are known by name here, since they live above and beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pexen.errors import DefinitionError, nearest

if TYPE_CHECKING:
    from types import ModuleType

    from pexen.model.task import Task

GROUPS = "GROUPS"
KINDS = ("thread", "process", "async", "inline")
_KEYS = ("pool", "workers", "spare", "ordered")
_CLASSES = {
    "pexen.pool.thread.ThreadPool": "thread",
    "pexen.pool.process.ProcessPool": "process",
    "pexen.pool.coroutine.AsyncPool": "async",
    "pexen.pool.inline.InlinePool": "inline",
}
_LOCAL = "pexen.pool.local.LocalPool"
_GROUP = "pexen.sched.group.Group"


class Grouping(NamedTuple):
    """A group as a tree describes it, and ``file:line`` of that.

    ``pool`` is one of `KINDS`, or empty where nothing was said; ``workers`` and ``spare`` are None there.
    """

    name: str
    where: str = ""
    pool: str = ""
    workers: int | None = None
    spare: int | None = None
    ordered: bool = False

    def __str__(self) -> str:
        """Say how it runs, in words."""
        number = {None: [], 1: ["1 worker"]}.get(self.workers, [f"{self.workers} workers"])
        spare = [] if self.spare is None else [f"{self.spare} spare"]
        return ", ".join([f"pool {self.pool}"] * bool(self.pool) + number + spare + ["ordered"] * self.ordered)


def from_table(name: str, table: Any, where: Callable[..., str]) -> Grouping:
    """Return the group of a table; ``where`` returns ``file:line`` of it, or of one of its keys."""
    if not name:
        raise DefinitionError("a group needs a name", where=where())
    if not isinstance(table, Mapping):
        raise DefinitionError(f"the group {name!r} must be a table", where=where(), hint=", ".join(_KEYS))
    for key, value in table.items():
        problem, hint = _wrong(key, value, table.get("pool", ""))
        if problem:
            raise DefinitionError(f"group {name!r}: {problem}", where=where(key), hint=hint)
    return Grouping(name, where(), **table)


def _wrong(key: Any, value: Any, kind: Any) -> tuple[str, str]:
    """Return what is wrong with a key of a table, and a hint; both empty when nothing is."""
    match key:
        case "pool" if value not in KINDS:
            return f"there is no pool {value!r}", nearest(str(value), KINDS) or ", ".join(KINDS)
        case "workers" if not _is_number(value, 1):
            return f"workers must be a whole number from 1, not {value!r}", ""
        case "workers" if kind == "inline" and value > 1:
            return "inline runs one task at a time", ""
        case "spare" if not _is_number(value, 0):
            return f"spare must be a whole number from 0, not {value!r}", ""
        case "spare" if kind in {"async", "inline"}:
            return f"the pool {kind!r} has no spare", "thread and process have"
        case "ordered" if not isinstance(value, bool):
            return f"ordered must be true or false, not {value!r}", ""
        case _ if key not in _KEYS:
            return f"unknown key {key!r}", nearest(str(key), _KEYS) or ", ".join(_KEYS)
    return "", ""


def _is_number(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def in_module(module: ModuleType, where: Callable[..., str]) -> tuple[list[Grouping], dict[int, str]]:
    """Return the groups of a loaded pexenfile, and the names of the groups of their members, by id of the member.

    ``where`` returns ``file:line`` of ``GROUPS``, or of a word in it.
    """
    given = getattr(module, GROUPS, {})
    if not isinstance(given, Mapping):
        given = _by_name(given, where)
    members: dict[int, str] = {}
    found = []
    for name, one in given.items():
        if _is_group(one):
            found.append(from_group(one, str(name), where))
            members |= dict.fromkeys(map(id, one.tasks), one.name)
        else:
            found.append(from_table(str(name), one, _in_table(str(name), where)))
    return found, members


def _by_name(given: Any, where: Callable[..., str]) -> dict[str, Any]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise _no_group(given, where)
    found: dict[str, Any] = {}
    for one in given:
        if not _is_group(one):
            raise _no_group(one, where)
        if one.name in found:
            raise DefinitionError(f"two groups are named {one.name!r}", where=where(one.name))
        found[one.name] = one
    return found


def _is_group(value: Any) -> bool:
    return any(_full_name(kind) == _GROUP for kind in type(value).__mro__)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _in_table(name: str, where: Callable[..., str]) -> Callable[..., str]:
    return lambda *keys: where(*(keys or (name,)))


def refuse_strangers(members: Mapping[int, str], where: str) -> None:
    """Raise `DefinitionError` for members that were not found among the tasks of their file."""
    for name in members.values():
        raise DefinitionError(
            f"the group {name!r} has a member that is no task of this file", where=where,
            hint=f"tasks elsewhere say group={name!r} themselves, or the defaults of their folder do for them",
        )  # fmt: skip


def from_group(group: Any, name: str, where: Callable[..., str]) -> Grouping:
    """Return the description of a `pexen.Group`; raises `DefinitionError` for a pool that is none of pexen's own kinds."""
    if group.name != name:
        raise DefinitionError(f"the group {group.name!r} stands under {name!r}", where=where(name))
    table = {} if group.pool is None else _table_of(group.pool, name, where(name))
    return from_table(name, {**table, "ordered": group.ordered}, lambda *_: where(name))


def _table_of(pool: Any, name: str, where: str) -> dict[str, Any]:
    """Return what a table would say for a pool."""
    kind = _full_name(type(pool))
    if kind == _LOCAL:
        inner = pool.callables
        table = {"pool": inner} if isinstance(inner, str) else _table_of(inner, name, where)
        return {**table, "workers": pool.workers}
    if kind not in _CLASSES:
        raise DefinitionError(
            f"group {name!r}: a tree cannot have {type(pool).__name__} for a group", where=where,
            hint=f"one of {', '.join(KINDS)}; anything else in a program of its own: Suite(tree, groups=[…])",
        )  # fmt: skip
    if getattr(pool, "start", "exec") != "exec":
        raise DefinitionError(
            f"group {name!r}: a tree cannot have worker processes started by {pool.start!r} for a group", where=where,
            hint="in a program of its own: Suite(tree, groups=[…])",
        )  # fmt: skip
    if _CLASSES[kind] == "inline":
        return {"pool": "inline"}
    spare = getattr(pool, "spare", None)
    return {"pool": _CLASSES[kind], "workers": pool.workers} | ({} if spare is None else {"spare": spare})


def _no_group(given: Any, where: Callable[..., str]) -> DefinitionError:
    return DefinitionError(
        f"GROUPS has {given!r}, which is no group", where=where(),
        hint='GROUPS = {"NAME": {"pool": "thread", "workers": 100}}, or a list of pexen.Group',
    )  # fmt: skip


def merged(*several: Iterable[Grouping]) -> dict[str, Grouping]:
    """Return all groups by name; raises `DefinitionError` for one that two places describe."""
    found: dict[str, Grouping] = {}
    for one in (one for some in several for one in some):
        before = found.setdefault(one.name, one)
        if before.where != one.where:
            raise DefinitionError(
                f"two groups are named {one.name!r}", where=one.where, facts=[("and at", before.where)],
                hint="the name of a group is unique in the whole tree",
            )  # fmt: skip
    return found


def check(tasks: Iterable[Task], groups: Mapping[str, Grouping], where: Mapping[str, str]) -> None:
    """Raise `DefinitionError` for a task whose group nobody describes; ``where`` maps paths to ``file:line``."""
    for task in tasks:
        name = task.meta.get("group")
        if name is not None and name not in groups:
            raise DefinitionError(
                f"{task.name}: there is no group {name!r}", where=where.get(task.name, ""),
                hint=nearest(name, groups) or f"[groups.{name}] in pexen.toml at the root makes one",
            )  # fmt: skip
