"""A folder for each attempt that wants one: what it attaches, what it puts there itself, evidence about its end.

``<base>/<attempt>/``, beside what it prints (`pexen.pool.spool`). The base is for one run: given, or a private folder that
lives as long as somebody refers to it. An executable is told its folder before anybody knows whether it wants one, so an
empty folder is renamed for the next attempt, as empty output files are: 17 µs instead of the 130 that making and removing
one takes; that nobody has put anything there shows in its time stamp, 2 µs.

Names are the user's: the last component only, control characters made visible, never longer than the file system takes,
and never a name that is taken. Nothing is written outside of the folder.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import weakref
from contextlib import suppress

MANY = 1000
"""Files listed of one attempt."""
_LONGEST = 200
_RUN = re.compile(r"(?<![^/])[0-9]+-[0-9a-f]+(?![^/])")
"""What names a run, in the environment of everything that belongs to it."""
_STRANGE = re.compile(r"[\x00-\x1f\x7f/\\]")


def prefix(kind: str) -> str:
    """Return how the names of this process's temporary folders begin: with the innermost run that has a name, if any."""
    runs = _RUN.findall(os.environ.get("PEXEN_LINEAGE", ""))
    return f"pexen-{kind}-{runs[-1]}-" if runs else f"pexen-{kind}-"


def remove_left(lineage: str) -> None:
    """Remove the temporary folders of a run that was killed, when everything of it has gone."""
    import shutil
    import tempfile

    run = lineage.rpartition("/")[2]
    if not _RUN.fullmatch(run):
        return
    base = tempfile.gettempdir()
    with suppress(OSError):
        for name in os.listdir(base):
            path = f"{base}/{name}"
            if re.match(f"pexen-[a-z]+-{run}-", name) and os.lstat(path).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)


class Private:
    """A private folder, removed with its contents when the last reference to this object is gone, or at exit.

    ``path`` is a name that nobody can guess; the folder is made when somebody needs it, perhaps another process. When
    this one is killed, its guardian removes it.
    """

    __slots__ = ("__weakref__", "path")

    def __init__(self) -> None:
        import tempfile

        self.path = f"{tempfile.gettempdir()}/{prefix('output')}{os.urandom(5).hex()}"
        _THERE.add(self.path)
        weakref.finalize(self, _remove, self.path, os.getpid())


_THERE: set[str] = set()
"""Private folders that are wanted."""


def remove_all() -> None:
    """Remove every private folder: for a process that leaves at once."""
    for path in list(_THERE):
        _remove(path, os.getpid())


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a fork of ours that exits normally is not the one to remove it
        import shutil

        _THERE.discard(folder)

        shutil.rmtree(folder, ignore_errors=True)


class Files:
    """The folders of a run's attempts, below ``given`` or a private folder. From any thread."""

    def __init__(self, given: str | os.PathLike[str] | None = None) -> None:
        self._given = None if given is None else os.path.abspath(given)
        self._lock = threading.Lock()
        self._base = ""
        self._blank: list[tuple[str, int]] = []
        self._lent: dict[int, tuple[str, int]] = {}
        self._keeper: Private | None = None

    @property
    def keeper(self) -> Private | None:
        """What must stay alive as long as the files are wanted."""
        return self._keeper

    @property
    def is_given(self) -> bool:
        """Whether somebody outside knows the base."""
        return self._given is not None

    @property
    def name(self) -> str:
        """The path of the folder with everything, which may not be there yet."""
        if self._given is not None:
            return self._given
        with self._lock:
            self._keeper = self._keeper or Private()
            return self._keeper.path

    @property
    def base(self) -> str:
        """The folder with everything. Raises `OSError` when it cannot be made."""
        if not self._base:
            name = self.name
            ours(name)
            self._base = name
        return self._base

    def make(self, id: int) -> str:  # noqa: A002 - the attempt's
        """Return the folder of an attempt, which is there now."""
        if id in self._lent:
            return self._lent[id][0]
        return made(self.base, id)

    def keep(self, id: int, file: str, name: str = "") -> str:  # noqa: A002 - the attempt's
        """Copy a file to the attempt's folder; return the copy. Raises `OSError`."""
        return copied(file, self.make(id), name)

    def lend(self, id: int) -> str:  # noqa: A002 - the attempt's
        """Return an empty folder for an attempt that may not want it; to be followed by `left`."""
        path = f"{self.base}/{id}"
        if self._blank:
            before, stamp = self._blank.pop()
            if self._given is None:
                path = before  # nobody asks for the name
            else:
                os.rename(before, path)
        else:
            path = made(self.base, id)
            stamp = os.stat(path).st_mtime_ns
        self._lent[id] = (path, stamp)
        return path

    def left(self, id: int) -> tuple[str, ...]:  # noqa: A002 - the attempt's
        """Return the files in the folder of an attempt that has ended; without any there is no folder any more."""
        path, stamp = self._lent.pop(id, (f"{self.name}/{id}", 0))
        try:
            if stamp and os.stat(path).st_mtime_ns == stamp:
                self._blank.append((path, stamp))
                return ()
            found = _listed(path)
            if not found:
                os.rmdir(path)
        except OSError:
            return ()
        return found

    def close(self) -> None:
        """Remove what is empty; the rest stays as long as somebody refers to it."""
        for path, _ in self._blank:
            with suppress(OSError):
                os.rmdir(path)
        self._blank.clear()
        self._keeper = None
        self._base = ""


def made(base: str, id: int) -> str:  # noqa: A002 - the attempt's
    """Return the attempt's folder below ``base``; both are there now."""
    path = f"{base}/{id}"
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        ours(base)
        os.mkdir(path, 0o700)
    except FileExistsError:
        return path
    os.chmod(path, 0o700)
    return path


def ours(folder: str) -> None:
    """Make a folder for us alone; one that is there must not be somebody else's. Raises `OSError`."""
    try:
        os.makedirs(folder, mode=0o700)
        os.chmod(folder, 0o700)
    except FileExistsError:
        if os.stat(folder).st_uid != os.geteuid():
            raise PermissionError(1, "it belongs to somebody else", folder) from None


def copied(file: str, folder: str, name: str = "") -> str:
    """Copy a regular file into a folder, under a free name that is safe; return the copy. Raises `OSError`."""
    import shutil

    source = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(source, "rb") as opened:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError(22, "not a regular file", file)
        path, target = _created(folder, _safe(name or os.path.basename(file)))
        with open(target, "wb") as copy:
            shutil.copyfileobj(opened, copy, 1 << 20)
    return path


def _safe(name: str) -> str:
    """Return a name that is one component and cannot lead anywhere else."""
    name = _STRANGE.sub(lambda match: f"%{ord(match.group()):02x}", name.strip() or "file")
    name = f"%2e{name[1:]}" if name in {".", ".."} else name
    while len(os.fsencode(name)) > _LONGEST:
        stem, ending = os.path.splitext(name)
        name = stem[: len(stem) * 3 // 4] + ending[:20]
    return name


def _created(folder: str, name: str) -> tuple[str, int]:
    """Create a file under the name or, if that is taken (in any case of letters), a numbered one."""
    taken = {each.casefold() for each in os.listdir(folder)}
    stem, ending = os.path.splitext(name)
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{stem}-{number}{ending}"
    path = f"{folder}/{free}"
    return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _listed(folder: str) -> tuple[str, ...]:
    """Return what lies in a folder, links included and not followed."""
    found: list[str] = []
    for place, _, names in os.walk(folder):
        found += [f"{place}/{name}" for name in names]
        if len(found) > MANY:
            break
    return tuple(sorted(found)[:MANY])
