"""Commands: what to execute when a task is not a Python callable."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pexen.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Command:
    """An executable and its arguments.

    ``cwd`` is the folder it runs in (``None``: the runner's), ``env`` is added to the runner's environment.
    ``shell`` tells that ``argv`` was made from one string for ``/bin/sh -c``.
    """

    argv: tuple[str, ...]
    cwd: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    shell: bool = False

    @property
    def name(self) -> str:
        """A short name: the executable's, or the first word of the shell's string."""
        words = self.argv[2].split() if self.shell else self.argv
        return os.path.basename(words[0].rstrip("/")) if words else "command"

    def __str__(self) -> str:
        """Return what one would type."""
        if self.shell:
            return self.argv[2]
        import shlex  # only to show a command

        return shlex.join(self.argv)


def as_command(argv: Any, cwd: str | os.PathLike[str] | None = None, env: Mapping[Any, Any] | None = None) -> Command:
    """Return the command for a list of arguments, a path object, or a string for the shell."""
    if isinstance(argv, str):
        if not argv.strip():
            raise DefinitionError("an empty command")
        words, shell = ("/bin/sh", "-c", argv), True
    else:
        items = (argv,) if isinstance(argv, os.PathLike) else tuple(argv) if isinstance(argv, Iterable) else ()
        if not items or not all(isinstance(item, str | os.PathLike) for item in items):
            raise DefinitionError("a command is a string for the shell or a list of strings and paths")
        words, shell = tuple(os.fspath(item) for item in items), False
    extra = tuple(sorted((env or {}).items()))
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in extra):
        raise DefinitionError("env of a command maps strings to strings")
    return Command(words, None if cwd is None else os.fspath(cwd), extra, shell)
