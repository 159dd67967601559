"""``pexen run``: collects, selects and runs. What each option means for that is in `How`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from pexen.cli.options import CONTEXT, Report, resolved, selecting, setting
from pexen.cli.screen import has_colour
from pexen.cli.selection import Chosen, Gathered, Request
from pexen.errors import DefinitionError
from pexen.report.text import visible
from pexen.usecase.codes import GOOD, NOTHING
from pexen.usecase.past import Past, tell
from pexen.usecase.screen import Screen
from pexen.usecase.signals import Interrupts


@click.command("run", context_settings=CONTEXT)
@selecting
@setting("deps")
@setting("jobs")
@click.option("-x", "--exitfirst", is_flag=True, help="Start nothing more after the first failure.")
@setting("maxfail")
@click.option(
    "--lf", "--last-failed", "failed", is_flag=True, help="Only what failed the last time; if nothing did, all."
)
@click.option("--ff", "--failed-first", "first", is_flag=True, help="What failed the last time first.")
@click.option("--sw", "--stepwise", "stepwise", is_flag=True, help="As -x, and go on from there the next time.")
@setting("timeout")
@setting("deadline")
@setting("retry_last")
@click.option("--dry-run", is_flag=True, help="Show the order in which tasks would start.")
@click.option("--co", "--collect-only", "collect_only", is_flag=True, help="Show what would be run.")
@click.option("-s", "--no-capture", "attached", is_flag=True, help="One task at a time, with your terminal.")
@click.option("--pdb", "debug", is_flag=True, help="As -s, and debug the exceptions of Python tasks.")
@click.option("--report", "reports", type=Report(), multiple=True, help="Write junit or jsonl to FILE; repeatable.")
@click.option("--reboot", is_flag=True, help="Restart the machine when a task asks for it, and go on after that.")
@setting("max_reboots")
@setting("max_crashes")
@setting("reboot_command")
@setting("strict")
@click.option("-v", "--verbose", count=True, help="Also what passing tasks print; -vv also requirements.")
@click.option("-q", "--quiet", count=True, help="Only the summary.")
@setting("heartbeat")
@click.pass_context
def command(context: click.Context, /, words: tuple[str, ...], **given: Any) -> int:
    """Run tasks, in the right order and in parallel.

    PATH selects what is there and below in its tree; what the selected tasks require is run as well.
    """
    request = Request(words, given.pop("params"), context.obj or (), given.pop("chdir"))
    with Interrupts():
        gathered = Gathered(request)
        how = How(**{**given, **resolved(given, gathered.root)})
        taken_up = context.meta.get(TAKEN_UP, "")
        _check_root(gathered.root, context.meta.get(ROOT, ""))
        past = Past(gathered.root, taken_up, failed=how.failed, first=how.first, stepwise=how.stepwise)
        chosen = gathered.select(keyword=how.keyword, tags=how.tags, deps=how.deps, narrow=past.narrowing)
        if not chosen.selection.chosen:
            return _nothing(chosen, how)
        if how.collect_only:
            from pexen.cli.list import show

            show(chosen, colour=has_colour(how.color, 1))
            tell(past.notes)
            return GOOD
        if how.dry_run:
            from pexen.cli.dry import show_order

            show_order(chosen, jobs=how.jobs, verbose=how.verbose > 0, durations=past.durations(chosen.tasks))
            tell(past.notes)
            return GOOD
        from pexen.cli.drive import CommandLine

        return CommandLine(chosen, how, Origin(context.meta.get(WORDS, ()), taken_up, past)).run()


WORDS, TAKEN_UP, ROOT = "pexen.words", "pexen.taken_up", "pexen.root"
"""Where a context keeps the command line as it was typed, the folder of the run that is taken up again, and its tree's root."""


class Origin(NamedTuple):
    """What was typed behind ``pexen run``, the folder of the run that is taken up again, if one is, and what was before."""

    words: Sequence[str]
    folder: str
    past: Past


class How(NamedTuple):
    """How to run: the options, with the settings resolved."""

    keyword: str
    tags: str
    color: str
    deps: bool
    jobs: int
    timeout: float
    deadline: float
    retry_last: bool
    exitfirst: bool
    maxfail: int
    failed: bool
    first: bool
    stepwise: bool
    dry_run: bool
    collect_only: bool
    attached: bool
    debug: bool
    reports: tuple[tuple[str, str], ...]
    reboot: bool
    max_reboots: int
    max_crashes: int
    reboot_command: str
    strict: bool
    verbose: int
    quiet: int
    heartbeat: float

    @property
    def inline(self) -> bool:
        """Whether tasks have the terminal, one at a time."""
        return self.attached or self.debug

    @property
    def failures(self) -> int | None:
        """After how many failures to stop."""
        return 1 if self.exitfirst or self.stepwise else self.maxfail or None

    @property
    def hint(self) -> str:
        """What to say to somebody who seems to mean another program's option."""
        if not self.keyword.isdigit():
            return ""
        return f"-k selects by path; what -k {self.keyword} is in ninja, going on after failures, needs no option here"


def _check_root(root: str, recorded: str) -> None:
    """Refuse to write the results of one tree into the record of another."""
    if recorded and os.path.realpath(root) != os.path.realpath(recorded):
        raise DefinitionError(
            "the words that began this run mean another tree now", facts=[("tree", root), ("the run's", recorded)],
            hint="begin it again: pexen run",
        )  # fmt: skip


def _nothing(chosen: Chosen, how: How) -> int:
    """Say that nothing was selected, and what may be the matter."""
    text = f"nothing selected: {visible(chosen.title)} has {len(chosen.collected)} tasks\n"
    hint = how.hint
    if not chosen.collected:
        hint = hint or "every executable file is a task; is there one (chmod +x)?"
    elif chosen.aside:
        hint = (
            hint or f"{chosen.aside[0].name} is in the catalogue, so it runs for others only, or when its path is given"
        )
    if hint:
        text += f"  hint: {visible(hint)}\n"
    Screen().write(text)
    return NOTHING
