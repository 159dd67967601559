"""Exit codes: which one results and errors mean. And how an error is said to people."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in pexen.cli.main, which imports this for `pexen --help`
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pexen.errors import PexenError
    from pexen.model.result import Result

GOOD, FAILED, INTERRUPTED, INTERNAL, USAGE, NOTHING, RESUMABLE = range(7)


def verdict(results: Mapping[str, Result], *, strict: bool = False) -> int:
    """Return the exit code for the results of a run that went to its end."""
    from pexen.model.result import BAD, Status

    for one in results.values():
        if one.status in BAD or one.status is Status.CANCELLED:
            return FAILED
        # A lazy task that nobody needed is no test that did not happen.
        if strict and (one.status is Status.WARNED or (one.status is Status.SKIPPED and not one.task.lazy)):
            return FAILED
    return GOOD


def complain(error: PexenError) -> int:
    """Say headline, facts and hint of an error on standard error, and return the exit code that it means."""
    from pexen.errors import DefinitionError
    from pexen.report.text import is_coloured, style, visible

    on = is_coloured(os.environ.get("PEXEN_COLOR", "auto"), os.environ, is_terminal=sys.stderr.isatty())
    lines = [style("error:", "error", on=on) + " " + _made_visible(error.headline)]
    lines += [f"  {label}: {_made_visible(text)}" for label, text in error.facts]
    if error.hint:
        lines.append(style("  hint: ", "hint", on=on) + visible(error.hint))
    _say("\n".join(lines))
    return USAGE if isinstance(error, DefinitionError) else INTERNAL


def interrupted() -> int:
    """Say that it was interrupted before anything ran, and return the exit code."""
    _say("interrupted")
    return INTERRUPTED


def _say(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
    except OSError:  # the terminal has gone, which may be why
        return


def _made_visible(text: str) -> str:
    """Return a text of perhaps several lines; those behind the first one are indented."""
    from pexen.report.text import visible

    return "\n      ".join(visible(line) for line in text.split("\n"))
