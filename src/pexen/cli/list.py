"""``pexen list``: the tasks of a tree, as a tree, as JSON, or the parameters that the tree asks for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click

from pexen.cli.options import CONTEXT, resolved, selecting
from pexen.cli.screen import has_colour, write_out
from pexen.cli.selection import Chosen, Gathered, Request
from pexen.errors import DefinitionError
from pexen.factory.providers import Choice
from pexen.model.command import Command
from pexen.model.meta import AllOf, AnyOf, Named, TreeLock
from pexen.model.task import Task
from pexen.report.text import style, visible
from pexen.usecase.codes import GOOD, NOTHING

SCHEMA = 1
"""Version of what ``--json`` writes; raised when a key changes its meaning or goes."""
_UNICODE = ("├── ", "└── ", "│   ", "    ")
_ASCII = ("|-- ", "`-- ", "|   ", "    ")


@click.command("list", context_settings=CONTEXT)
@selecting
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option("--params", "parameters", is_flag=True, help="Show the parameters that -D sets.")
@click.option("--providers", is_flag=True, help="Show which providers are chosen from the catalogue, and why.")
@click.pass_context
def command(
    context: click.Context, /, words: tuple[str, ...], as_json: bool, parameters: bool, providers: bool, **given: Any
) -> int:
    """Show the tasks below PATH, with their tags and with what would keep them from running here."""
    request = Request(words, given.pop("params"), context.obj or (), given.pop("chdir"))
    gathered = Gathered(request)
    settings = resolved(given, gathered.root)
    # Requirements are not pulled in: what is listed is what is there.
    choose = providers or (as_json and not parameters)
    chosen = gathered.select(keyword=settings["keyword"], tags=settings["tags"], choose=choose)
    if parameters:
        _show_parameters(chosen, as_json=as_json)
        return GOOD
    if providers:
        _show_providers(chosen, as_json=as_json, colour=has_colour(settings["color"], 1))
        return GOOD
    if as_json:
        write_out(json.dumps(described(chosen), indent=1) + "\n")
    else:
        show(chosen, colour=has_colour(settings["color"], 1), only_chosen=True)
    return GOOD if chosen.selection.chosen else NOTHING


# -- as a tree ------------------------------------------------------------------------------------------------------


def show(chosen: Chosen, *, colour: bool, only_chosen: bool = False) -> None:
    """Write the selected tasks as a tree to standard output."""
    tasks = [task for task in chosen.tasks if not only_chosen or chosen.is_chosen(task)]
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    branches = _UNICODE if encoding.lower().replace("-", "") == "utf8" else _ASCII
    reasons = skipper()
    lines = [style(visible(chosen.title), "bold", on=colour)]
    lines += _drawn(_nested(tasks), branches, lambda task: _about(task, reasons, colour=colour))
    write_out("\n".join(lines) + "\n")
    every = len({task.name for task in (*chosen.collected, *tasks)})  # some are from a catalogue elsewhere
    among = "" if len(tasks) == every else f" of {every}"
    print(f"{len(tasks)}{among} tasks", file=sys.stderr)


def _nested(tasks: list[Task]) -> dict[str, Any]:
    """Return the tasks as nested dicts; a task's own entry stands under the empty name."""
    top: dict[str, Any] = {}
    for task in tasks:
        level = top
        for part in task.name.split("/"):
            level = level.setdefault(part, {})
        level[""] = task
    return top


def _drawn(top: dict[str, Any], branches: tuple[str, ...], about: Callable[[Task], str]) -> Iterator[str]:
    """Yield a line for each folder and task. With a stack: paths can be deeper than Python recurses."""
    middle, last, through, blank = branches
    stack = [("", iter(_children(top)))]
    while stack:
        indent, children = stack[-1]
        following = next(children, None)
        if following is None:
            stack.pop()
            continue
        name, below, is_last = following
        task = below.get("")
        yield f"{indent}{last if is_last else middle}{visible(name)}" + (about(task) if task else "")
        stack.append((indent + (blank if is_last else through), iter(_children(below))))


def _children(level: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    names = [name for name in level if name]
    return [(name, level[name], index == len(names) - 1) for index, name in enumerate(names)]


def _about(task: Task, reasons: Callable[[Task], str | None], *, colour: bool) -> str:
    """Return what is worth knowing of a task, behind its name."""
    words = [style(f"[{', '.join(map(visible, task.tags))}]", "dim", on=colour)] if task.tags else []
    words += [style(word, "dim", on=colour) for word in markers(task)]
    reason = reasons(task)
    if reason is not None:
        words.append(style(f"would be skipped: {visible(reason)}", "skipped", on=colour))
    return "".join("  " + word for word in words)


def markers(task: Task) -> list[str]:
    """Return in words what sets a task apart: that it is a service, and which group it is in."""
    words = ["service"] * task.is_service
    return words + ([f"group {visible(task.group)}"] if task.group else [])


def skipper() -> Callable[[Task], str | None]:
    """Return the function that tells why a task would be skipped here and now, or None."""
    from pexen.cli.isolate import isolate
    from pexen.factory.collect import asker
    from pexen.factory.conditions import gate
    from pexen.factory.facts import Facts

    decide = gate(Facts(), asker(isolate))

    def reason(task: Task) -> str | None:
        try:
            return decide(task) if task.when is not None or task.host else None
        except DefinitionError as error:
            return f"its condition cannot be decided: {error.headline}"

    return reason


# -- for programs -----------------------------------------------------------------------------------------------------


def described(chosen: Chosen) -> dict[str, Any]:
    """Return the selected tasks as JSON-able data."""
    planner = chosen.planner()
    reasons = skipper()

    def entry(task: Task) -> dict[str, Any]:
        # What is in a catalogue and was not chosen is in no run, and means nobody.
        is_in = planner.find(task.name) is not None
        requires = chosen.bindings(planner, task) if is_in else [(item, []) for item in task.requires]
        return {
            "path": task.name,
            "where": chosen.where.get(task.name),
            **_what(task),
            "requires": [{"name": plain(wanted), "tasks": [one.name for one in found]} for wanted, found in requires],
            "provides": [plain(name) for name in task.provides],
            "after": [one.name for one in planner.followed(task)] if is_in else [],
            "skip": reasons(task),
            "meta": {key: plain(value) for key, value in sorted(task.meta.items()) if key != "after"},
        }

    told = [entry(task) for task in (*filter(chosen.is_chosen, planner.tasks()), *chosen.aside)]
    groups = [
        {key: value for key, value in group._asdict().items() if value is not None} for group in chosen.groups.values()
    ]
    return {"schema": SCHEMA, "root": chosen.root, "tasks": told, "groups": groups}


def _what(task: Task) -> dict[str, Any]:
    what = task.callable
    if isinstance(what, Command):
        return {"command": list(what.argv), "folder": what.cwd}
    return {"callable": named(what)}


def named(what: Any) -> str:
    """Return the name of a callable; never its ``repr``."""
    return str(getattr(what, "__name__", type(what).__name__))


def worded(value: Any) -> str:
    """Return a metadata value for people."""
    told = plain(value)
    if isinstance(told, list):
        return ", ".join(map(worded, told))
    if isinstance(told, dict):
        return ", ".join(f"{key} {worded(item)}" for key, item in told.items())
    return {True: "yes", False: "no"}[told] if isinstance(told, bool) else str(told)


def plain(value: Any) -> Any:
    """Return a metadata value as JSON has it; what JSON cannot say as text."""
    found: Any
    match value:
        case None | str() | int() | float() | bool():
            found = value
        case dict():
            found = {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            found = [plain(item) for item in value]
        case TreeLock():
            found = {"tree_lock": str(value)}
        case AnyOf():
            found = {"any_of": [plain(item) for item in value.alternatives]}
        case AllOf():
            found = {"all_of": plain(value.of)}
        case Named():
            found = {"named": [value.parameter, plain(value.requirement)]}
        case Task():
            found = f"/{value.name}"
        case _:
            found = named(value)
    return found


def _show_parameters(chosen: Chosen, *, as_json: bool) -> None:
    asked = sorted(chosen.params.asked.values(), key=lambda one: one.name)
    if as_json:
        write_out(json.dumps({"schema": SCHEMA, "params": [asdict(one) for one in asked]}, indent=1) + "\n")
        return
    for one in asked:
        default = "no default" if one.default is None else f"default {one.default}"
        about = f"  {one.help}" if one.help else ""
        write_out(
            f"{visible(one.name)}: {visible(one.type)}, {visible(default)}{visible(about)}  ({visible(one.where)})\n"
        )


# -- what was chosen from a catalogue -----------------------------------------------------------------------------------


def _show_providers(chosen: Chosen, *, as_json: bool, colour: bool) -> None:
    made = chosen.choices.made if chosen.choices is not None else ()
    added = dict(chosen.choices.added) if chosen.choices is not None else {}
    if as_json:
        told = {"schema": SCHEMA, "providers": [asdict(choice) for choice in made], "added": added}
        write_out(json.dumps(told, indent=1) + "\n")
        return
    for choice in made:
        wanting = ", ".join(choice.required_by[:3]) + (" …" if len(choice.required_by) > 3 else "")
        write_out(f"{style(visible(choice.name), 'bold', on=colour)}  {visible(f'for {wanting}')}\n")
        write_out("".join(f"  {visible(line)}\n" for line in chosen_lines(choice)))
    print(f"{len(added)} tasks added" if chosen.choices is not None else "there is no catalogue", file=sys.stderr)


def chosen_lines(choice: Choice) -> Iterator[str]:
    """Yield in words what was chosen for a requirement, and what was not."""
    yield f"chosen: {', '.join(choice.chosen) or 'what is there'}" + (f"  ({choice.why})" if choice.why else "")
    for path in choice.fallbacks:
        yield f"if that fails: {path}"
    for one in choice.rejected:
        yield f"rejected: {one.path}, {one.reason}"
