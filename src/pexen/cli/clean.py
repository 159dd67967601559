"""``pexen clean``: removes the records of old runs."""

from __future__ import annotations

import os

import click

from pexen.cli.options import CONTEXT
from pexen.cli.place import KEPT, SIZE, elsewhere, retain
from pexen.cli.screen import write_out
from pexen.factory.tree import find_root
from pexen.report.text import counted, visible


@click.command("clean", context_settings=CONTEXT)
@click.option("-C", "chdir", help="Change to DIR first.", metavar="DIR")
@click.option("--keep", type=click.IntRange(0), default=KEPT, show_default=True, help="Runs to keep.", metavar="N")
@click.option(
    "--size", type=click.IntRange(0), default=SIZE >> 20, show_default=True, help="MiB to keep.", metavar="MIB"
)
@click.option("--resumable", is_flag=True, help="Also those that could be taken up again.")
def command(chdir: str | None, keep: int, size: int, *, resumable: bool) -> int:
    """Remove the records of all but the last runs. Never of one that is still going."""
    if chdir is not None:
        os.chdir(chdir)
    root = find_root(".")
    removed = []
    for home in (f"{root}/.pexen", elsewhere(root)):
        if os.path.isdir(f"{home}/runs"):
            removed += retain(f"{home}/runs", keep, size << 20, resumable=resumable)
    write_out("".join(f"{visible(name)}\n" for name in removed) + f"{counted(len(removed), 'run')} removed\n")
    return 0
