"""``pexen resume``: takes up a run that was stopped or killed, with the words it was started with, where it was started."""

from __future__ import annotations

import os
from typing import Any

import click

from pexen.cli.main import split
from pexen.cli.options import CONTEXT
from pexen.cli.place import find_run
from pexen.cli.run import TAKEN_UP, WORDS
from pexen.cli.run import command as run
from pexen.errors import DefinitionError, StateError
from pexen.state.lock import holder
from pexen.state.reader import read


@click.command("resume", context_settings=CONTEXT)
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("-C", "chdir", help="Change to DIR first.", metavar="DIR")
def command(name: str, chdir: str | None) -> int:
    """Take up RUN (the last one): what has finished is not run again.

    New and changed tasks run, and so do those whose effect or value is gone and that are needed.
    """
    if chdir is not None:
        os.chdir(chdir)
    folder = find_run(name)
    words, cwd = _begun(folder)
    try:
        os.chdir(cwd)
    except OSError as error:
        raise DefinitionError(f"cannot change to {cwd}, where the run began: {error.strerror}") from None
    before, args = split(words)
    with run.make_context("pexen run", before, obj=args) as context:
        context.meta[WORDS], context.meta[TAKEN_UP] = words, folder
        return int(run.invoke(context) or 0)


def _begun(folder: str) -> tuple[list[str], str]:
    """Return the words behind ``pexen run``, and where they were typed. Refuses a run that somebody is writing."""
    writer = holder(folder)
    if writer is not None:
        raise StateError(
            "this run is still going", facts=[("run", folder), ("writer", str(writer))], hint="`pexen status` shows it"
        )
    header: Any = read(folder).header
    words = list(header.get("argv", ()))
    if words[:2] != ["pexen", "run"]:
        raise DefinitionError(
            "this run was not started by `pexen run`", facts=[("run", folder)], hint="run the program that did, again"
        )
    return words[2:], header["cwd"]
