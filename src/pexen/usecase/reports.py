"""The kinds of reports that are written to files, and how they are asked for: ``KIND[:FILE]``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pexen.errors import DefinitionError, nearest

if TYPE_CHECKING:
    from pexen.report.base import Reporter

KINDS = {"junit": ("junit", "JUnit", "xml"), "jsonl": ("jsonl", "JsonLines", "jsonl")}
"""Where reporters are: module, class, and how their files end."""


def parsed(text: str) -> tuple[str, str]:
    """Return kind and file of ``KIND[:FILE]``; the file is empty when none was given."""
    kind, colon, file = text.partition(":")
    if kind not in KINDS:
        hint = nearest(kind, KINDS)
        raise DefinitionError(f"{kind!r} is not one of {', '.join(KINDS)}", hint=hint)
    if colon and not file:
        raise DefinitionError(
            f"{text!r} names no file", hint=f"{kind}:FILE, or {kind} alone for one in the run's folder"
        )
    return kind, file


def reporter(kind: str, file: str, folder: str) -> Reporter:
    """Return what writes a report of some kind; without a file it goes to ``folder``, that of the run."""
    from importlib import import_module

    module, name, ending = KINDS[kind]
    found: Reporter = getattr(import_module(f"pexen.report.{module}"), name)(
        os.path.abspath(file) if file else f"{folder}/report.{ending}"
    )
    return found
