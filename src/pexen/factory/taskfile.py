"""What is written in and beside executables: comment blocks, sidecars and task files.

*Comment block.* Like the one of PEP 723, with the name ``pexen`` and any of four comment leaders::

    # /// pexen
    # requires = ["db"]
    # timeout = "30s"
    # ///

It begins within the first `HEAD` bytes and has at most 100 lines. One ``read`` tells whether there is one, so a
folder with thousands of executables costs an open, a read and a close each, no more.

*Sidecar.* ``x.pexen.toml`` beside a file ``x`` is the metadata of ``x``. *Task file.* Any other ``name.pexen.toml``
defines tasks::

    [defaults]
    timeout = "10s"
    [tasks.check]
    run = "make check"                 # a string is for the shell, a list an argument vector
    [tasks.load]
    python = "helpers.py:load"         # or "package.module:function"

What both say about one executable, the sidecar says; both complete what the folders around have as defaults.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pexen.errors import DefinitionError
from pexen.factory import toml
from pexen.model.command import Command, as_command
from pexen.model.meta import inherited
from pexen.model.path import check_path
from pexen.model.task import Task

HEAD = 8192
BLOCK_LINES = 100
ENDING = ".pexen.toml"
_MARKER = re.compile(rb"^(#|//|--|;+) ?/// pexen[ \t]*\r?$", re.MULTILINE)


class Defined(NamedTuple):
    """A task that a file defines: ``callable`` is a command, or ``module:function`` to be imported as a string."""

    name: str
    callable: Command | str
    meta: Mapping[str, Any]
    where: str


def comment_block(file: str) -> Mapping[str, Any] | None:
    """Return the metadata in an executable's comment block, or None; opening it never waits."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it may be executable without being readable
        return None
    try:
        head = os.read(fd, HEAD)
        if b"/// pexen" not in head or b"\0" in head[:1024]:
            return None
        match = _MARKER.search(head)
        if match is None:
            return None
        rest = os.pread(fd, 65536, match.start())
    except OSError:
        return None
    finally:
        os.close(fd)
    first = head.count(b"\n", 0, match.start()) + 1
    text = _block(file, rest, match[1].decode(), first)
    try:
        return _block_metadata(text)
    except DefinitionError:
        return toml.metadata(toml.parse(file, text, first + 1))  # raises again, and now says where


@functools.lru_cache(maxsize=1000)
def _block_metadata(text: str) -> Mapping[str, Any]:
    """Return the metadata of a block; in a large suite many have the same, and parsing is what costs."""
    return toml.metadata(toml.parse("", text))


def _block(file: str, text: bytes, leader: str, first: int) -> str:
    """Return the TOML in a comment block that begins at line ``first``."""
    lines = text.decode(errors="replace").split("\n")[: BLOCK_LINES + 2]
    content: list[str] = []
    for number, line in enumerate(lines[1:], first + 1):
        words = line.rstrip()
        if not words.startswith(leader):
            raise DefinitionError(
                "the comment block is not closed", where=f"{file}:{number}", hint=f"end it with '{leader} ///'"
            )
        words = words[len(leader) :].removeprefix(" ")
        if words == "///":
            return "\n".join(content)
        content.append(words)
    raise DefinitionError(
        f"the comment block has more than {BLOCK_LINES} lines, or is not closed",
        where=f"{file}:{first}",
        hint=f"end it with '{leader} ///'",
    )


def sidecar(file: str) -> Mapping[str, Any]:
    """Return the metadata in a sidecar."""
    document = toml.read(file)
    if "tasks" in document.data and isinstance(document.data["tasks"], dict):
        beside = os.path.basename(file).removesuffix(ENDING)
        raise DefinitionError(
            "a sidecar defines no tasks",
            where=document.where("tasks"),
            hint=f"it is the metadata of {beside!r}; give the task file another name",
        )
    return toml.metadata(document)


def task_file(file: str) -> Iterator[Defined]:
    """Yield the tasks that a task file defines, in the order of the file."""
    document = toml.read(file)
    document.known(
        ("defaults", "tasks"),
        other="a task file has [defaults] and [tasks.<name>]; beside a file, name it like that file",
    )
    yield from _defined(document, os.path.dirname(file))


class _Said(toml.Document):
    """A task file that was not written but said: it has keys, but no lines."""

    def where(self, *keys: str) -> str:
        return ".".join(keys)


def said_tasks(tables: Mapping[str, Any], folder: str) -> list[Task]:
    """Return the tasks in the tables of a task file that a task in ``folder`` has said; the names are their paths.

    Raises `DefinitionError` for anything wrong with them.
    """
    document = _Said("", "", dict(tables))
    document.known(("defaults", "tasks"))
    try:
        return [_said_task(defined) for defined in _defined(document, folder)]
    except (TypeError, ValueError, RecursionError) as error:  # JSON has what TOML has not
        raise DefinitionError(f"these are no tables of a task file: {error}") from None


def _said_task(defined: Defined) -> Task:
    if isinstance(defined.callable, str):
        raise DefinitionError(
            "'python' cannot be used here: nobody has looked at the function",
            where=defined.where,
            hint='run = ["python3", "x.py"], or add it from a Python task: pexen.current().add(function)',
        )
    return Task(defined.callable, defined.name, **defined.meta)


def _defined(document: toml.Document, folder: str) -> Iterator[Defined]:
    defaults = toml.metadata(document, "defaults")
    for name in document.table("tasks"):
        where = document.where("tasks", name)
        try:
            check_path(name)
            own = toml.metadata(document, "tasks", name, extra=("run", "python", "cwd", "env"))
            what = _what(document, name, folder)
        except DefinitionError as error:
            raise (
                error
                if error.where
                else DefinitionError(error.headline, where=where, facts=error.facts, hint=error.hint)
            ) from None
        yield Defined(name, what, inherited(defaults, own), where)


def _what(document: toml.Document, name: str, folder: str) -> Command | str:
    table = document.table("tasks", name)
    if ("run" in table) == ("python" in table):
        raise DefinitionError(
            f"the task {name!r} needs either run or python", hint='run = "make check", or python = "module:function"'
        )
    for key, kind, wanted in (
        ("cwd", str, "a folder"),
        ("env", dict, "a table of strings"),
        ("python", str, "'module:function'"),
    ):
        if key in table and not isinstance(table[key], kind):
            raise DefinitionError(f"{key} must be {wanted}", where=document.where("tasks", name, key))
    if "python" in table:
        return _reference(document, name, table)
    return _located(document, name, lambda: command_in(folder, table["run"], table.get("cwd"), table.get("env")))


def _reference(document: toml.Document, name: str, table: Mapping[str, Any]) -> str:
    for key in ("cwd", "env"):
        if key in table:
            raise DefinitionError(f"{key} is for commands", where=document.where("tasks", name, key))
    module, _, function = table["python"].partition(":")
    if not module or not all(part.isidentifier() for part in function.split(".")):
        raise DefinitionError(
            f"{table['python']!r} is no reference to a function", where=document.where("tasks", name, "python"),
            hint="'package.module:function', or 'file.py:function' for a file in this folder",
        )  # fmt: skip
    found: str = table["python"]
    return found


def _located(document: toml.Document, name: str, make: Callable[[], Command]) -> Command:
    try:
        return make()
    except DefinitionError as error:
        where = document.where("tasks", name, "run")
        raise DefinitionError(error.headline, where=where, facts=error.facts, hint=error.hint) from None


def command_in(folder: str, argv: Any, cwd: Any = None, env: Mapping[str, str] | None = None) -> Command:
    """Return a command as it is meant in a folder: run there, and with its executable relative to it."""
    command = as_command(argv, folder if cwd is None else os.path.normpath(os.path.join(folder, os.fspath(cwd))), env)
    first = command.argv[0]
    if command.shell or "/" not in first or first.startswith("/"):
        return command
    return Command((os.path.normpath(os.path.join(folder, first)), *command.argv[1:]), command.cwd, command.env)


def wrapped_by(what: Any, meta: Mapping[str, Any], folder: str) -> Iterator[str]:
    """Yield the files that a task executes itself, as its command or its tear-down."""
    words = [_first_word(meta.get("teardown"))]
    if isinstance(what, Command):
        folder = what.cwd or folder
        first = _first_word(what.argv[2]) if what.shell else what.argv[0]
        words.append(first if "/" in first else "")  # without a slash it is looked up in PATH
    yield from (os.path.normpath(os.path.join(folder, word)) for word in words if word)


def _first_word(text: str | None) -> str:
    try:
        return (shlex.split(text, comments=True) or [""])[0] if text else ""
    except ValueError:  # quotes that only the shell understands
        return ""
