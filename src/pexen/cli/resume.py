"""``pexen resume``: takes up a run that was stopped or killed, with the words it was started with, where it was started."""

from __future__ import annotations

import os

import click

from pexen.cli.main import split
from pexen.cli.options import CONTEXT
from pexen.cli.run import ROOT, TAKEN_UP, WORDS
from pexen.cli.run import command as run
from pexen.cli.screen import write_out
from pexen.errors import DefinitionError, StateError
from pexen.state.lock import holder
from pexen.state.reader import read
from pexen.usecase import boot
from pexen.usecase.begun import Begun, begun, place_now
from pexen.usecase.codes import GOOD
from pexen.usecase.place import find_run


@click.command("resume", context_settings=CONTEXT)
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("-C", "chdir", help="Change to DIR first.", metavar="DIR")
@click.option("--reboot", is_flag=True, help="Restart the machine when a task asks for it, and go on after that.")
@click.option("--install", "does", flag_value="install", help="Install a systemd unit that does this after a restart.")
@click.option("--remove", "does", flag_value="remove", help="Remove that unit.")
@click.option("--print", "does", flag_value="print", help="Print that unit.")
@click.option("--cron", "does", flag_value="cron", help="Print a line for cron instead.")
def command(name: str, chdir: str | None, *, reboot: bool, does: str | None) -> int:
    """Take up RUN (the last one): what has finished is not run again.

    It goes on where it began; if the tree was moved or copied with its record, there. New and changed tasks run, and so do
    those whose effect or value is gone and that are needed.
    """
    if chdir is not None:
        os.chdir(chdir)
    folder = find_run(name)
    if does == "remove":
        if not boot.remove(folder):
            raise DefinitionError("no unit of this run is installed", facts=[("run", folder)])
        return GOOD
    if not does or does == "install":
        _check_nobody_writes(folder)
    how = _begun(folder)
    if does:
        return _unit(folder, does, boot.resuming(folder, reboot=reboot or how.may_restart))
    root, cwd = place_now(folder, how)
    words = how.argv[2:]
    if reboot and "--reboot" not in split(words)[0]:
        words.insert(0, "--reboot")
    try:
        os.chdir(cwd)
    except OSError as error:
        raise DefinitionError(f"cannot change to {cwd}, where the run began: {error.strerror}") from None
    before, args = split(words)
    with run.make_context("pexen run", before, obj=args) as context:
        context.meta[WORDS], context.meta[TAKEN_UP], context.meta[ROOT] = words, folder, root
        return int(run.invoke(context) or 0)


def _unit(folder: str, does: str, command: list[str]) -> int:
    """Print or install what takes up a run after a restart of the machine."""
    if does == "print":
        write_out(boot.unit(folder, command))
    elif does == "cron":
        write_out(boot.cron_line(command) + "\n")
    else:
        write_out(boot.install(folder, command) + "\n")
    return GOOD


def _check_nobody_writes(folder: str) -> None:
    writer = holder(folder)
    if writer is not None:
        raise StateError(
            "this run is still going", facts=[("run", folder), ("writer", str(writer))], hint="`pexen status` shows it"
        )


def _begun(folder: str) -> Begun:
    """Return how a run was begun. Raises for one that cannot be taken up here."""
    try:
        how = begun(read(folder))
    except StateError as error:
        if "damaged" not in error.headline:
            raise
        hint = "begin again: pexen run; `pexen report --damaged-ok` tells what it had"
        raise StateError(error.headline, facts=error.facts, hint=hint) from error
    if not how.at:
        raise DefinitionError(
            "nothing was recorded of this run", facts=[("run", folder)], hint="begin it again: pexen run"
        )
    if not how.is_typed:
        raise DefinitionError(
            "this run was not started by `pexen run`",
            facts=[("run", folder), ("but by", " ".join(how.argv))],
            hint="that program can take it up; see resume= in docs/suite.md",
        )
    return how
