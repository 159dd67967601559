"""``pexen clean``: removes the records of old runs."""

from __future__ import annotations

import os

import click

from pexen.cli.options import CONTEXT
from pexen.cli.screen import write_out
from pexen.factory.tree import find_root
from pexen.report.text import counted, visible
from pexen.usecase.past import caught_up, tell
from pexen.usecase.place import KEPT, SIZE, homes, retain


@click.command("clean", context_settings=CONTEXT)
@click.option("-C", "chdir", help="Change to DIR first.", metavar="DIR")
@click.option("--keep", type=click.IntRange(0), default=KEPT, show_default=True, help="Runs to keep.", metavar="N")
@click.option(
    "--size", type=click.IntRange(0), default=SIZE >> 20, show_default=True, help="MiB to keep.", metavar="MIB"
)
@click.option("--resumable", is_flag=True, help="Also those that could be taken up again.")
def command(chdir: str | None, keep: int, size: int, *, resumable: bool) -> int:
    """Remove the records of all but the last runs. Never of one that is still going.

    Of older ones that can be taken up the last 20 are kept, unless the same was begun later and has gone to its end.
    """
    if chdir is not None:
        os.chdir(chdir)
    removed, kept = [], []
    for home in homes(find_root(".")):
        if os.path.isdir(f"{home}/runs"):
            tell(caught_up(home))  # what is removed is remembered
            done = retain(f"{home}/runs", keep, size << 20, resumable=resumable)
            removed += done.removed
            kept += done.kept
    lines = [*map(visible, removed), f"{counted(len(removed), 'run')} removed"]
    if kept:
        lines.append(f"{len(kept)} kept, {'it' if len(kept) == 1 else 'they'} can be taken up (--resumable)")
    write_out("".join(line + "\n" for line in lines))
    return 0
