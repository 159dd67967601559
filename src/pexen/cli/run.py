"""``pexen run``: collects, selects and runs. What each option means for that is in `How`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from pexen.cli.main import GOOD, NOTHING
from pexen.cli.options import CONTEXT, Report, resolved, selecting, setting
from pexen.cli.screen import Screen, has_colour
from pexen.cli.selection import Chosen, Gathered, Request
from pexen.cli.signals import Interrupts
from pexen.report.text import visible


@click.command("run", context_settings=CONTEXT)
@selecting
@setting("deps")
@setting("jobs")
@click.option("-x", "--exitfirst", is_flag=True, help="Start nothing more after the first failure.")
@setting("maxfail")
@setting("timeout")
@setting("deadline")
@setting("retry_last")
@click.option("--dry-run", is_flag=True, help="Show the order in which tasks would start.")
@click.option("--co", "--collect-only", "collect_only", is_flag=True, help="Show what would be run.")
@click.option("-s", "--no-capture", "attached", is_flag=True, help="One task at a time, with your terminal.")
@click.option("--pdb", "debug", is_flag=True, help="As -s, and debug the exceptions of Python tasks.")
@click.option("--report", "reports", type=Report(), multiple=True, help="Write junit or jsonl to FILE; repeatable.")
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
    with Interrupts() as interrupts:
        gathered = Gathered(request)
        how = How(**{**given, **resolved(given, gathered.root)})
        chosen = gathered.select(keyword=how.keyword, tags=how.tags, deps=how.deps)
        if not chosen.selection.chosen:
            return _nothing(chosen, how)
        if how.collect_only:
            from pexen.cli.list import show

            show(chosen, colour=has_colour(how.color, 1))
            return GOOD
        if how.dry_run:
            from pexen.cli.dry import show_order

            show_order(chosen, jobs=how.jobs, verbose=how.verbose > 0)
            return GOOD
        from pexen.cli.drive import execute

        return execute(chosen, how, interrupts, Origin(context.meta.get(WORDS, ()), context.meta.get(TAKEN_UP, "")))


WORDS, TAKEN_UP = "pexen.words", "pexen.taken_up"
"""Where a context keeps the command line as it was typed, and the folder of the run that is taken up again."""


class Origin(NamedTuple):
    """What was typed behind ``pexen run``, and the folder of the run that is taken up again, if one is."""

    words: Sequence[str] = ()
    folder: str = ""


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
    dry_run: bool
    collect_only: bool
    attached: bool
    debug: bool
    reports: tuple[tuple[str, str], ...]
    strict: bool
    verbose: int
    quiet: int
    heartbeat: float

    @property
    def inline(self) -> bool:
        """Whether tasks have the terminal, one at a time."""
        return self.attached or self.debug

    @property
    def limit(self) -> float | None:
        """The timeout of tasks that have none; nobody is hurried who sits at the terminal."""
        return None if self.inline else self.timeout or None

    @property
    def failures(self) -> int | None:
        """After how many failures to stop."""
        return 1 if self.exitfirst else self.maxfail or None

    @property
    def hint(self) -> str:
        """What to say to somebody who seems to mean another program's option."""
        if not self.keyword.isdigit():
            return ""
        return f"-k selects by path; what -k {self.keyword} is in ninja, going on after failures, needs no option here"


def _nothing(chosen: Chosen, how: How) -> int:
    """Say that nothing was selected, and what may be the matter."""
    text = f"nothing selected: {visible(chosen.title)} has {len(chosen.collected)} tasks\n"
    hint = how.hint
    if not chosen.collected:
        hint = hint or "every executable file is a task; is there one (chmod +x)?"
    if hint:
        text += f"  hint: {visible(hint)}\n"
    Screen().write(text)
    return NOTHING
