"""Options that several commands share, and where a setting may come from.

One table says for each setting how it is given and what it means. The command line wins over ``PEXEN_<NAME>`` in the
environment, that over ``[run]`` in the root's ``pexen.toml``, that over ``[tool.pexen.run]`` in its ``pyproject.toml``, and that
over the default. An empty variable counts as not given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from pexen.errors import DefinitionError
from pexen.usecase.config import tables
from pexen.usecase.reports import parsed

C = TypeVar("C", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Jobs(click.ParamType[Any]):
    """A number of jobs, or ``auto``: 0."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, 0 for auto."""
        if value in {"auto", 0}:
            return 0
        if not re.fullmatch(r"[1-9]\d{0,5}", str(value)):
            self.fail(f"{value!r} is neither a number from 1 nor 'auto'", param, ctx)
        return int(value)


class Pair(click.ParamType[Any]):
    """``key=value``."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return key and value."""
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


class Duration(click.ParamType[Any]):
    """A time span, as ``90s``, ``5m`` or seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        from pexen.model.meta import duration

        try:
            return duration("timeout", value)
        except DefinitionError as error:
            self.fail(f"{value!r} is not a duration; {error.hint}", param, ctx)


class Report(click.ParamType[Any]):
    """``KIND[:FILE]``."""

    name = "KIND[:FILE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the kind and the file, which is empty when none was given."""
        try:
            return parsed(str(value))
        except DefinitionError as error:
            self.fail(error.headline, param, ctx)


class Setting(NamedTuple):
    """How a setting is given on the command line, its type, its default, and the line for ``--help``."""

    flags: tuple[str, ...]
    type: click.ParamType[Any]
    default: Any
    help: str
    metavar: str | None = None


SETTINGS = {
    "jobs": Setting(("-j", "--jobs"), Jobs(), 0, "Run N tasks at a time (auto: one for each usable CPU).", "N|auto"),
    "keyword": Setting(("-k", "--keyword"), click.STRING, "", "Only paths that match, as in 'net and not slow'.", "EXPR"),
    "tags": Setting(("-m", "--tags"), click.STRING, "", "Only tasks whose tags match, as in 'smoke or slow'.", "EXPR"),
    "deps": Setting(("--deps/--no-deps",), click.BOOL, True, "Also run what the selected tasks require (default), or not."),
    "maxfail": Setting(("--maxfail",), click.IntRange(0), 0, "Start nothing more after N failures.", "N"),
    "timeout": Setting(("--timeout",), Duration(), 1800.0, "Limit of tasks without one of their own (30m); 0: none.", "SPAN"),
    "deadline": Setting(("--deadline",), Duration(), 0.0, "Limit of the whole run; 0: none.", "SPAN"),
    "retry_last": Setting(("--retry-last/--retry-at-once",), click.BOOL, False, "Try again alone, when all else has ended."),
    "max_reboots": Setting(("--max-reboots",), click.IntRange(0), 10, "Restarts for one task; a run: ten times as many.", "N"),
    "max_crashes": Setting(("--max-crashes",), click.IntRange(1), 2, "Run no more what was alone N times in a crash.", "N"),
    "reboot_command": Setting(("--reboot-command",), click.STRING, "systemctl reboot", "What restarts the machine.", "COMMAND"),
    "strict": Setting(("--strict/--no-strict",), click.BOOL, False, "Warnings and skipped tasks are failures."),
    "color": Setting(("--color",), click.Choice(["auto", "always", "never"]), "auto", "Use colour."),
    "heartbeat": Setting(("--heartbeat",), click.FloatRange(0), 60.0, "Silence before a sign of life; 0: none.", "SECONDS"),
}  # fmt: skip


def setting(name: str) -> Callable[[C], C]:
    """Return the decorator that gives a command the option for a setting."""
    known = SETTINGS[name]
    return click.option(
        *known.flags, name, type=known.type, default=None, envvar=f"PEXEN_{name.upper()}", help=known.help, metavar=known.metavar
    )  # fmt: skip


def resolved(given: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Return the settings among ``given``, those not given completed from the root's configuration and the defaults."""
    configured = _configured(root)
    return {
        name: given[name] if given[name] is not None else configured.get(name, known.default)
        for name, known in SETTINGS.items()
        if name in given
    }


def _configured(root: str) -> dict[str, Any]:
    """Return the settings in the root's files."""
    found: dict[str, Any] = {}
    for document, table in tables(root, "run"):
        document.known(SETTINGS, *table)
        for key, value in document.table(*table).items():
            try:
                found[key] = SETTINGS[key].type.convert(value, None, None)
            except click.BadParameter as error:
                raise DefinitionError(f"{key}: {error.message}", where=document.where(*table, key)) from None
    return found


def selecting(command: C) -> C:
    """Give a command the arguments and options that say which tasks of what it is about."""
    for decorate in reversed((
        click.argument("words", nargs=-1, metavar="[PATH | package.module | KIND:WHAT]... [-- ARGS]"),
        setting("keyword"),
        setting("tags"),
        click.option("-D", "--define", "params", type=Pair(), multiple=True, help="Set a parameter of the tree; repeatable."),
        click.option("-C", "--chdir", metavar="DIR", help="Change to DIR first."),
        setting("color"),
    )):  # fmt: skip
        command = decorate(command)
    return command
