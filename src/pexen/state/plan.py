"""Records of tasks: what a run had to do, and enough of it to do it again where that can be said in JSON.

A command is its argv; a function that can be imported is its reference, ``package.module:name``. Anything else has only a
name to look at. Metadata that JSON cannot say (a callable as a condition, say) is left out, by name; who wants the task back
sees from ``left_out`` that it is not all there.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn
from zlib import crc32

from pexen.model.carried import Carried
from pexen.model.command import Command
from pexen.model.meta import FIELDS, AllOf, AnyOf, Named, TreeLock
from pexen.model.task import Task
from pexen.state.records import NOTHING, note
from pexen.state.values import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pexen.state.records import Json

    Bindings = Sequence[tuple[str, Iterable[str]]]
    """For each item of ``requires``, in order: its text, and the paths of the tasks it was bound to."""


def task(what: Task, fingerprint: str, bound: Bindings = (), after: Iterable[str] = ()) -> Json:
    """Return the record of a planned task: what its requirements were bound to, and the paths it comes ``after``."""
    record: Json = {"kind": "task", "path": what.name, "fingerprint": fingerprint, "what": _callable(what.callable)}
    if bound:
        record["requires"] = [
            _edge(item, text, paths) for item, (text, paths) in zip(what.requires, bound, strict=True)
        ]
    follows = list(after)
    if follows:
        record["after"] = follows
    if what.provides:
        record["provides"] = [_name(one) for one in what.provides]
    if what.meta:
        meta, left_out = _metadata(what.meta)
        if meta:
            record["meta"] = meta
        note(record, "left_out", left_out)
    return record


def added(what: Task, fingerprint: str, bound: Bindings = (), after: Iterable[str] = (), *, by: str = "") -> Json:
    """Return the record of a task added on the fly, ``by`` the task at that path or, empty, by whoever drives the run."""
    record = task(what, fingerprint, bound, after)
    record["kind"] = "added"
    if by:
        record["by"] = by
        if "call" in record["what"]:
            record["how"] = _how(what.callable)
    return record


def _how(what: Any) -> Json:
    """Return what it takes to call a function without importing it here: what it is like, and which modules lead to it."""
    from pexen.model.carry import address_of, summary_of  # only who adds tasks pays for it

    address = what.address if type(what) is Carried else address_of(what) or NOTHING
    how = {key: address[key] for key in ("modules", "via") if address.get(key)}
    return {**how, "summary": what.summary if type(what) is Carried else summary_of(what)}


def called_from(record: Mapping[str, Any]) -> Carried | None:
    """Return what stands for the function of an ``added`` record, which is imported when it is called.

    None where the record does not lead to it, and when its source is not what it was.
    """
    module, _, names = str(record["what"].get("call", "")).partition(":")
    how = record.get("how", NOTHING)
    if not module or "summary" not in how:
        return None
    address = {"module": module, "names": names, "modules": how.get("modules", {}), "via": how.get("via")}
    summary = how["summary"]
    return Carried(address, summary) if _is_there(summary["where"], summary["digest"]) else None


@lru_cache(256)
def _is_there(where: str, digest: str) -> bool:
    """Tell whether a file still has the lines with this digest, see `pexen.model.carry`, wherever they stand by now."""
    if not digest:
        return True
    check, size = int(digest[:8], 16), int(digest[8:], 16)
    try:
        with open(where.rpartition(":")[0], "rb") as file:
            data = file.read()
    except OSError:
        return False
    at = 0
    while at < len(data):
        if crc32(data[at : at + size]) == check:
            return True
        at = data.find(b"\n", at) + 1 or len(data)
    return False


def together(record: Json, paths: list[str], most: int) -> Iterator[Json]:
    """Yield the records of tasks that differ in nothing but their path; ``record`` is that of one of them."""
    if paths == [record["path"]]:
        yield record
        return
    for start in range(0, len(paths), most):
        part = paths[start : start + most]
        told = ("path", part[0]) if len(part) == 1 else ("paths", part)
        yield dict(told if key == "path" else (key, value) for key, value in record.items())


def again(path: str, why: str) -> Json:
    """Return the record that a finished task is to run again; its result stands until there is another one."""
    return {"kind": "again", "path": path, "why": why}


def task_from(record: Mapping[str, Any], call: Callable[..., Any] | None = None) -> Task:
    """Return the task of a ``task`` or ``added`` record. It requires by path the very tasks that it was bound to.

    ``call`` is its callable. Without it a command is one again, anything else can only be looked at: running it raises.
    Raises `DefinitionError` for metadata that this version refuses.
    """
    what = record["what"]
    runs: Any = call
    if call is None and "argv" in what:
        env = tuple((str(key), str(value)) for key, value in what.get("env", ()))
        runs = Command(tuple(what["argv"]), what.get("cwd"), env, bool(what.get("shell")))
    stored = record.get("meta", NOTHING)
    meta = {key: _from_json(value) for key, value in stored.items() if key in FIELDS}
    meta |= {key: stored[key] for key in ("args", "kwargs") if key in stored}
    if record.get("after"):
        meta["after"] = [f"/{path}" for path in record["after"]]
    requires = [item for edge in record.get("requires", ()) for item in _requirements(edge)]
    provides = [_from_json(one) for one in record.get("provides", ())]
    return Task(runs or _gone, record["path"], requires=requires, provides=provides, **meta)


def _gone() -> NoReturn:
    raise RuntimeError("the callable of a task cannot be had from a journal")


# -- what it runs -----------------------------------------------------------------------------------------------------


def _callable(what: Any) -> Json:
    if issubclass(type(what), Command):  # isinstance() would ask the object as well
        record: Json = {"argv": list(what.argv)}
        if what.cwd is not None:
            record["cwd"] = what.cwd
        if what.env:
            record["env"] = [list(item) for item in what.env]
        if what.shell:
            record["shell"] = True
        return record
    kind = type(what)
    if kind is Carried:
        where = what.address
        return {"call": f"{where['module']}:{where['names']}"} if "module" in where else {"name": what.__name__}
    if kind not in _NAMED:
        return {"name": type.__dict__["__qualname__"].__get__(kind)}
    module, name = what.__module__, what.__qualname__
    if type(module) is str and module != "__main__" and _found(module, name) is what:
        return {"call": f"{module}:{name}"}
    return {"name": name}


_NAMED = frozenset({type(_callable), type(len), type})
"""Functions, builtins and classes: looking at their names runs no code of the user's."""
_SPACES = frozenset({type(sys), type})


def _found(module: str, name: str) -> Any:
    """Return what an import reference leads to among what has been imported, or None."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if type(found) in _SPACES else None
        found = found.__func__ if type(found) is staticmethod else found
    return found


# -- what it requires -------------------------------------------------------------------------------------------------


def _edge(item: Any, text: str, paths: Iterable[str]) -> Json:
    from pexen.model.call import parameter_of  # needs inspect, which a reader does not

    inner = item.requirement if type(item) is Named else item
    edge: Json = {"text": text, "paths": list(paths)}
    to = parameter_of(item)
    if to is not None:
        edge["to"] = to
    if type(inner) is AnyOf:
        edge["any"] = True
    elif type(inner) is AllOf:
        edge["all"] = True
        if isinstance(inner.of, str | tuple):
            edge["name"] = _name(inner.of)
    return edge


def _requirements(edge: Mapping[str, Any]) -> list[Any]:
    """Return what an edge stands for, by path; only for the list of all its providers there is nothing but the name."""
    paths: list[Any] = [f"/{path}" for path in edge["paths"]]
    to = edge.get("to")
    if edge.get("any"):
        paths = [AnyOf(tuple(paths))]
    elif edge.get("all") and "name" in edge:
        paths = [AllOf(_from_json(edge["name"]))]
    return [Named(to, paths[0])] if to is not None and len(paths) == 1 else paths


# -- what is said about it --------------------------------------------------------------------------------------------


def _metadata(meta: Mapping[str, Any]) -> tuple[Json, list[str]]:
    """Return metadata as JSON, and the keys of that which JSON cannot say. ``after`` is told by what it was bound to."""
    said: Json = {}
    left_out = []
    for key, value in meta.items():
        if key == "after":
            continue
        if key in {"args", "kwargs"}:
            stored, _, why = snapshot(list(value) if key == "args" else dict(value))
        else:
            stored, _, why = snapshot(_to_json(value))
        if why:
            left_out.append(key)
        else:
            said[key] = stored
    return said, left_out


def _to_json(value: Any) -> Any:
    """Return metadata in normal form with what JSON lacks spelled out; what else it lacks stays what it is."""
    if type(value) is tuple:
        return [_name(item) if type(item) is tuple else _to_json(item) for item in value]
    if type(value) is TreeLock:
        return {"tree": list(value.parts)}
    if type(value) is dict:
        return {key: _to_json(item) for key, item in value.items()}
    return value


def _name(name: Any) -> Any:
    return {"name": list(name)} if type(name) is tuple else name


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"name"} and isinstance(value["name"], list):
        return tuple(value["name"])
    if value.keys() == {"tree"} and isinstance(value["tree"], list):
        return TreeLock(tuple(value["tree"]))
    return {key: _from_json(item) for key, item in value.items()}
