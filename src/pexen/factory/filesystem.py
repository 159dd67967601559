r"""Executable files as tasks: how a folder is read, what is passed over, and the plain factory made of both.

A folder is read once with ``scandir``; a regular file costs one ``stat``, a folder none, and nothing is opened here,
so FIFOs, sockets and devices hang nobody. Any x-bit makes a file executable: whether *this* user may execute it is
found out when it is run, and reported then.

*Links.* A link to a file is that file under another name. A link to a folder is walked as if it were a folder, except
when it leads to a folder that is being walked (a loop). Two links to one folder are walked twice on purpose, the same
scripts may run under two configurations; links that lead to each other could so multiply without end, therefore no more
than `MOST_LINKED` folders are entered through links.

*Names.* A task's path shows bytes that are not UTF-8 as ``\xNN``, since a path goes into reports; the command keeps
the true name.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pexen.errors import DefinitionError
from pexen.factory.base import Factory, joined
from pexen.model.command import Command
from pexen.model.meta import EMPTY
from pexen.model.path import check_path
from pexen.model.task import Task

MOST_LINKED = 10_000
_NO_TASK = re.compile(
    r".*(?:~|\.orig|\.rej|\.bak|\.swp|\.pyc|\.so(?:\.\d+)*|\.pexen\.toml)|#.*#|pexenfile\.py|pexen\.toml", re.DOTALL
)


class Listing(NamedTuple):
    """What a folder holds, sorted by name, without hidden entries; ``executables`` are among ``files``."""

    files: set[str]
    executables: set[str]
    folders: dict[str, bool]
    """Name to whether it is a link."""

    @property
    def names(self) -> list[str]:
        """Everything, sorted."""
        return sorted((*self.files, *self.folders))


def listing(folder: str, *, gone_ok: bool = False) -> Listing:
    """Read a folder; raise `DefinitionError` when that is not possible. With ``gone_ok``, one that is not there is empty."""
    found = Listing(set(), set(), {})
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] != "." and entry.name != "__pycache__":
                    _classify(entry, found)
    except OSError as error:
        if gone_ok and isinstance(error, FileNotFoundError):
            return found
        raise DefinitionError(
            f"cannot read the folder: {error.strerror}", where=folder, hint="ignore = […] leaves it out"
        ) from None
    return found


def _classify(entry: os.DirEntry[str], found: Listing) -> None:
    try:
        if entry.is_dir():
            found.folders[entry.name] = entry.is_symlink()
            return
        if entry.is_file():  # known without a system call, except for links; then stat never meets a FIFO
            found.files.add(entry.name)
            if entry.stat().st_mode & 0o111:
                found.executables.add(entry.name)
    except OSError:  # links that lead nowhere or in circles, and what was removed a moment ago
        return


def is_task_file(name: str) -> bool:
    """Tell whether an executable of this name is meant to be executed: no backup, library or configuration."""
    return _NO_TASK.fullmatch(name) is None


# -- patterns -----------------------------------------------------------------------------------------------------


class Patterns:
    """Globs relative to a folder: ``*`` and ``?`` stay within a name, ``**`` crosses folders.

    A pattern without a slash is for names at any depth, ``lib/`` is for folders only, and what matches a folder matches
    everything below it.
    """

    def __init__(self, patterns: Iterable[str], base: str = "") -> None:
        self.base = base
        self._match = re.compile("|".join(map(_translated, patterns)) or r"(?!)", re.DOTALL).fullmatch

    def match(self, place: str) -> bool:
        """Tell whether a path (of the tree, true names) matches; a folder's path ends with a slash."""
        return self._match(place[len(self.base) + 1 :] if self.base else place) is not None


def _translated(pattern: str) -> str:
    body, is_folder = pattern.removesuffix("/"), pattern.endswith("/")
    anchored = "/" in body
    parts = body.removeprefix("./").strip("/").split("/")
    text = "".join(r"(?:[^/]+/)*" if part == "**" else _segment(part) + "/" for part in parts)
    if text.endswith(")*"):  # "docs/**" is everything below docs
        text += "[^/]+/"
    return ("" if anchored else r"(?:[^/]+/)*") + "(?:" + text[:-1] + ")" + ("/.*" if is_folder else "(?:/.*)?")


def _segment(part: str) -> str:
    found, at = "", 0
    while at < len(part):
        char = part[at]
        at += 1
        closing = part.find("]", at + 1) if char == "[" else -1
        if char in "*?":
            found += "[^/]*" if char == "*" else "[^/]"
        elif closing > 0:
            inner = re.sub(r"([\\\[&|~]|(?<=-)-)", r"\\\1", part[at:closing])  # what would be an operation on sets
            found += "[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]"
            at = closing + 1
        else:
            found += re.escape(char)
    return found if part.strip("*") else "[^/]+"


def patterns_of(key: str, value: object, base: str = "") -> Patterns:
    """Return the patterns for what a user wrote as ``files`` or ``ignore``; raise `DefinitionError`."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple | set) or not all(isinstance(item, str) and item for item in items):
        raise DefinitionError(f"{key} must be a list of patterns", hint=f'{key} = ["*.sh", "lib/"]')
    try:
        return Patterns(sorted(items), base)
    except re.error as error:
        raise DefinitionError(f"{key}: not a pattern: {error}") from None


# -- walking ------------------------------------------------------------------------------------------------------


class Folder:
    """A folder on the way down: its true path, its place in the tree, and the folder around it."""

    __slots__ = ("_id", "linked", "parent", "path", "place")

    def __init__(self, path: str, place: str, parent: Folder | None = None, *, linked: bool = False) -> None:
        self.path, self.place, self.parent, self.linked = path, place, parent, linked
        self._id: tuple[int, int] | None = None

    @property
    def id(self) -> tuple[int, int]:
        """Device and inode; asked for only where links are involved."""
        if self._id is None:
            status = os.stat(self.path)
            self._id = (status.st_dev, status.st_ino)
        return self._id

    def inside(self, name: str, *, link: bool) -> Folder | None:
        """Return the folder ``name`` in this one; None when it is a link back to where we are, or gone by now."""
        below = Folder(f"{self.path}/{name}", joined(self.place, visible(name)), self, linked=link or self.linked)
        if link:
            around: Folder | None = self
            try:
                while around is not None:
                    if around.id == below.id:
                        return None
                    around = around.parent
            except OSError:
                return None
        return below


class LinkCount:
    """How many folders were entered through links; raises when links multiply."""

    def __init__(self) -> None:
        self._count = 0

    def enter(self, folder: Folder) -> None:
        """Count a folder."""
        self._count += folder.linked
        if self._count > MOST_LINKED:
            raise DefinitionError(
                f"links lead to more than {MOST_LINKED} folders", where=folder.path, hint="ignore = […] leaves them out"
            )


def visible(name: str) -> str:
    """Return a file's name as text that can be printed and encoded."""
    return name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")


def executable(folder: str, name: str, path: str) -> Task:
    """Return the task that executes a file, in its folder."""
    task = Task.__new__(Task)
    task.callable = Command((f"{folder}/{name}",), folder)
    try:
        task.path = check_path(path)
    except DefinitionError as error:
        raise DefinitionError(
            error.headline, where=folder, hint="rename the file, or put it into ignore = […]"
        ) from None
    task.requires, task.provides, task.meta = (), (), EMPTY
    return task


class FilesystemFactory(Factory):
    """Every executable file in a folder and below is a task, run in its own folder, at its path relative to ``folder``.

    ``files`` and ``ignore`` are patterns: only these, and not these. Hidden files and folders, backups, libraries and
    ``__pycache__`` are passed over; no configuration is read (`TreeFactory` does that). Raises `DefinitionError` for
    a folder that cannot be read.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, files: Iterable[str] | None = None, ignore: Iterable[str] = ()
    ) -> None:
        self.folder = os.path.abspath(os.fspath(folder))
        self.files = None if files is None else patterns_of("files", files if isinstance(files, str) else list(files))
        self.ignore = patterns_of("ignore", ignore if isinstance(ignore, str) else list(ignore))

    def make(self) -> Iterator[Task]:
        """Walk the folder."""
        count = LinkCount()
        waiting: list[Folder | tuple[Folder, str]] = [Folder(self.folder, "")]
        while waiting:
            item = waiting.pop()
            if isinstance(item, Folder):
                count.enter(item)
                waiting += reversed(list(self._contents(item)))
            else:
                folder, name = item
                yield executable(folder.path, name, joined(folder.place, visible(name)))

    def _contents(self, folder: Folder) -> Iterator[Folder | tuple[Folder, str]]:
        found = listing(folder.path, gone_ok=folder.parent is not None)
        for name in found.names:
            place = f"{folder.path}/{name}"[len(self.folder) + 1 :]
            if name in found.folders:
                below = None if self.ignore.match(place + "/") else folder.inside(name, link=found.folders[name])
                if below is not None:
                    yield below
            elif name in found.executables and is_task_file(name) and not self.ignore.match(place):
                if self.files is None or self.files.match(place):
                    yield folder, name


def is_executable(file: str) -> bool:
    """Tell whether a path is a regular file with an x-bit."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)
