"""``pexen graph``: what depends on what, in the language of Graphviz or of Mermaid.

Arrows lead from what comes first to what needs it: solid for ``requires``, dashed for ``after``. Folders are clusters. Nodes have
numbers for names and paths for labels, so no path can be taken for syntax; behind that the label says what is a service, and
in which group a task is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import click

from pexen.cli.list import markers, worded
from pexen.cli.options import CONTEXT, resolved, selecting, setting
from pexen.cli.screen import write_out
from pexen.cli.selection import Chosen, Gathered, Request
from pexen.model.path import last_of
from pexen.report.text import visible
from pexen.usecase.codes import GOOD, NOTHING


class Edge(NamedTuple):
    """An arrow between two tasks by number; ``name`` is what is required, where that is no path."""

    first: int
    then: int
    name: str
    is_solid: bool


@dataclass(slots=True)
class Folder:
    """A cluster: the folders in it, and the tasks in it by number."""

    folders: dict[str, Folder] = field(default_factory=dict)
    tasks: list[tuple[int, str]] = field(default_factory=list)


@click.command("graph", context_settings=CONTEXT)
@selecting
@setting("deps")
@click.option("--format", "style", type=click.Choice(["dot", "mermaid"]), default="dot", help="The language (dot).")
@click.pass_context
def command(context: click.Context, /, words: tuple[str, ...], style: str, **given: Any) -> int:
    """Show what depends on what, among the tasks that `run` would run."""
    request = Request(words, given.pop("params"), context.obj or (), given.pop("chdir"))
    gathered = Gathered(request)
    settings = resolved(given, gathered.root)
    chosen = gathered.select(keyword=settings["keyword"], tags=settings["tags"], deps=settings["deps"])
    top, edges = arranged(chosen)
    write = _dot if style == "dot" else _mermaid
    write_out("\n".join(write(chosen.title, top, edges)) + "\n")
    return GOOD if chosen.selection.chosen else NOTHING


def arranged(chosen: Chosen) -> tuple[Folder, list[Edge]]:
    """Return the selected tasks by folder, and the edges between them."""
    planner = chosen.planner(selected=True)
    numbers = {task.name: number for number, task in enumerate(planner.tasks())}
    top, edges = Folder(), {}
    for task in planner.tasks():
        number = numbers[task.name]
        *parts, last = task.name.split("/")
        folder = top
        for part in parts:
            folder = folder.folders.setdefault(part, Folder())
        marks = ", ".join(markers(task))
        folder.tasks.append((number, f"{last} ({marks})" if marks else last))
        for item, found in chosen.bindings(planner, task):
            wanted = worded(item)
            for one in found:
                name = "" if wanted.strip("/") in {one.name, last_of(one.name)} else wanted
                edges[numbers[one.name], number, True] = Edge(numbers[one.name], number, name, True)
        for one in planner.followed(task):
            edges[numbers[one.name], number, False] = Edge(numbers[one.name], number, "", False)
    return top, list(edges.values())


Opened = Callable[[str, int, str], str]


def _clusters(top: Folder, begin: Opened, task: Opened, end: str) -> Iterator[str]:
    """Yield the lines for all folders and tasks; with a stack, since folders may be thousands deep."""
    number = 0
    yield from (task("  ", index, name) for index, name in top.tasks)
    stack = [iter(top.folders.items())]
    while stack:
        indent = "  " * len(stack)
        name, folder = next(stack[-1], (None, None))
        if name is None or folder is None:
            stack.pop()
            if stack:
                yield "  " * len(stack) + end
            continue
        number += 1
        yield begin(indent, number, name)
        yield from (task(indent + "  ", index, each) for index, each in folder.tasks)
        stack.append(iter(folder.folders.items()))


def _dot(title: str, top: Folder, edges: list[Edge]) -> Iterator[str]:
    def begin(indent: str, number: int, name: str) -> str:
        return f"{indent}subgraph cluster_{number} {{ label={_dot_text(name)};"

    def task(indent: str, number: int, name: str) -> str:
        return f"{indent}t{number} [label={_dot_text(name)}];"

    yield f"digraph {_dot_text(title)} {{"
    yield "  rankdir=LR; node [shape=box];"
    yield from _clusters(top, begin, task, "}")
    for edge in edges:
        words = [f"label={_dot_text(edge.name)}"] * bool(edge.name) + ["style=dashed"] * (not edge.is_solid)
        yield f"  t{edge.first} -> t{edge.then}" + (f" [{', '.join(words)}]" if words else "") + ";"
    yield "}"


def _dot_text(text: str) -> str:
    return '"' + visible(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _mermaid(_title: str, top: Folder, edges: list[Edge]) -> Iterator[str]:
    def begin(indent: str, number: int, name: str) -> str:
        return f"{indent}subgraph f{number}[{_mermaid_text(name)}]"

    def task(indent: str, number: int, name: str) -> str:
        return f"{indent}t{number}[{_mermaid_text(name)}]"

    yield "flowchart LR"
    yield from _clusters(top, begin, task, "end")
    for edge in edges:
        arrow = "-->" if edge.is_solid else "-.->"
        label = f"|{_mermaid_text(edge.name)}|" if edge.name else ""
        yield f"  t{edge.first} {arrow}{label} t{edge.then}"


def _mermaid_text(text: str) -> str:
    """Return quoted text in which everything that Mermaid, Markdown or HTML could take for syntax is an entity."""
    return (
        '"' + "".join(char if char.isalnum() or char in " ./-_" else f"#{ord(char)};" for char in visible(text)) + '"'
    )
