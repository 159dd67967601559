"""``pexen explain PATH``: everything that is known of one task, and what it is connected with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pexen.cli.list import chosen_lines, named, skipper, worded
from pexen.cli.options import CONTEXT, Pair, resolved, setting
from pexen.cli.screen import has_colour, write_out
from pexen.cli.selection import Chosen, Gathered, Request
from pexen.errors import DefinitionError
from pexen.model.command import Command
from pexen.model.meta import FIELDS, Named
from pexen.model.task import Task, shown
from pexen.report.text import spoken, style, visible
from pexen.usecase.codes import GOOD

_SHOWN_APART = {
    "path",
    "requires",
    "provides",
    "after",
    "uses",
    "claims",
    "resources",
    "alone",
    "when",
    "host",
    "tags",
    "group",
}
_DURATIONS = {"timeout", "idle_timeout", "grace", "retry_delay", "estimate"}


@click.command("explain", context_settings=CONTEXT)
@click.argument("word", metavar="PATH")
@click.option("-D", "--define", "params", type=Pair(), multiple=True, help="Give a parameter of the tree a value.")
@click.option("-C", "--chdir", metavar="DIR", help="Change to DIR first.")
@setting("color")
@click.pass_context
def command(context: click.Context, /, word: str, **given: Any) -> int:
    """Tell everything that is known of the task at PATH."""
    gathered = Gathered(Request((word,), given.pop("params"), context.obj or (), given.pop("chdir")))
    colour = has_colour(resolved(given, gathered.root)["color"], 1)
    chosen = gathered.select()
    task = _the_task(chosen, word)
    write_out("\n".join(explained(chosen, task, colour=colour)) + "\n")
    return GOOD


def _the_task(chosen: Chosen, word: str) -> Task:
    """Return the one task that was chosen; raise when it is none or several."""
    found = [task for task in chosen.tasks if chosen.is_chosen(task)]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(task.name for task in found[:3])
        raise DefinitionError(
            f"there are {len(found)} tasks at {word}", facts=[("for example", some)], hint=f"pexen list {word}"
        )
    raise DefinitionError(f"there is no task at {word}", hint="every executable file is a task; pexen list shows them")


def explained(chosen: Chosen, task: Task, *, colour: bool) -> Iterator[str]:
    """Yield the lines about a task."""
    planner = chosen.planner()

    def line(label: str, text: str, more: str = "") -> str:
        more = style(visible(more), "dim", on=colour)
        return f"  {style(label, 'bold', on=colour)}: {visible(text)}" + (f"  {more}" if more else "")

    yield style(visible(task.name), "bold", on=colour)
    if isinstance(task.callable, Command):
        yield line("runs", str(task.callable), f"in {task.callable.cwd}" if task.callable.cwd else "")
    else:
        yield line("calls", named(task.callable), getattr(task.callable, "doc", ""))
    if chosen.where.get(task.name):
        yield line("defined at", chosen.shown(chosen.where[task.name]))
    for item, found in chosen.bindings(planner, task):
        yield line("requires", worded(item), f"bound to {_names(found)}")
        for choice in chosen.choices.of(task.name) if chosen.choices is not None else ():
            if choice.name == shown(item.requirement if isinstance(item, Named) else item):
                yield from (f"    {visible(told)}" for told in chosen_lines(choice))
    for name in task.provides:
        yield line("provides", worded(name))
    for one in planner.followed(task):
        yield line("after", one.name)
    needing = [other for other in planner.tasks() if any(task in found for _, found in planner.bindings(other))]
    if needing:
        yield line("required by", _names(needing))
    yield from _locks(task, line)
    yield from _conditions(task, line)
    if task.group is not None:
        yield line("group", task.group, str(chosen.groups[task.group]))
    if task.tags:
        yield line("tags", ", ".join(task.tags))
    for key in FIELDS:
        if key in task.meta and key not in _SHOWN_APART:
            value = task.meta[key]
            yield line(key, spoken(value) if key in _DURATIONS and value is not None else worded(value))
    yield line("run it", chosen.again(task.name))


def _locks(task: Task, line: Any) -> Iterator[str]:
    for key in ("claims", "uses"):
        for name in getattr(task, key):
            yield line(key, worded(name))
    for name, amount in task.resources.items():
        yield line("takes", f"{amount:g} {name}")
    if task.alone:
        yield line("alone", "nothing else runs meanwhile")


def _conditions(task: Task, line: Any) -> Iterator[str]:
    """Yield the conditions, each with whether it holds now."""
    if task.when is None and not task.host:
        return
    for need in task.host:
        yield line("host", need)
    if task.when is not None:
        yield line("when", task.when if isinstance(task.when, str) else named(task.when))
    reason = skipper()(task)
    yield line("now", "it would be run" if reason is None else f"it would be skipped: {reason}")


def _names(tasks: list[Task]) -> str:
    shown = ", ".join(task.name for task in tasks[:10])
    return shown + (f" and {len(tasks) - 10} more" if len(tasks) > 10 else "") if tasks else "nothing"
