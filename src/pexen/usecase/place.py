"""Where a run keeps what it leaves behind: ``.pexen/runs/<id>/`` below the root, or elsewhere when that cannot be.

``.pexen/`` ignores itself in git and tells backup programs that it is a cache. Everything is for the user alone, whatever
the umask says. A folder that somebody else has put there is not used. The last `KEPT` runs are kept, up to `SIZE` bytes; a
run that is still going holds a lock on its folder, so it is never removed by another. Of the older ones that can be taken up
again the last `KEPT` are kept as well, unless a later run with the same words has gone to its end: who never lets a run end
does not fill the disk.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
import time
import zlib
from contextlib import suppress
from typing import Any, NamedTuple

from pexen.errors import DefinitionError, StateError

KEPT = 20
SIZE = 1 << 30
_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder holds what pexen has recorded of its runs; see https://bford.info/cachedir/
"""


class Place:
    """The folder of one run. Makes it at once; ``note`` says so when it is not below the root. `begin` or it was nothing.

    With ``folder``, that of a run that is taken up again. Raises `StateError` when there is no place for it at all.
    """

    def __init__(self, root: str, folder: str = "") -> None:
        self.note = ""
        self._begun = bool(folder)
        try:
            if folder:
                self._make(os.path.dirname(os.path.dirname(folder)), os.path.basename(folder))
            else:
                self._make_somewhere(root)
            self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            what, hint = "no record can be written", "make space, or set XDG_STATE_HOME"
            if folder:
                what = "the run cannot be taken up, its record cannot be written"
                hint = "make that writable for you, or begin again: pexen run"
            facts = [("at", os.fspath(error.filename))] if error.filename else []
            raise StateError(f"{what}: {error.strerror}", facts=facts, hint=hint) from error
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _make_somewhere(self, root: str) -> None:
        home = f"{root}/.pexen"
        try:
            self._make(home)
        except OSError as error:
            self._make(_elsewhere(root))
            self.note = f"{root}/.pexen cannot be used ({error.strerror}), output goes to {self.folder}"

    @property
    def output(self) -> str:
        """The folder for what tasks print."""
        return f"{self.folder}/output"

    def close(self) -> None:
        """Let go of the folder, and remove those of all but the last runs."""
        if not self._begun:
            os.rmdir(self.output)
            os.rmdir(self.folder)
        os.close(self._lock)
        retain(self._runs)

    def _make(self, home: str, name: str = "") -> None:
        self._home, self._runs = home, f"{home}/runs"
        _make(home)
        _make(self._runs)
        self.id = name or _new(self._runs)
        self.folder = f"{self._runs}/{self.id}"
        _make(self.output)
        for file, text in ((".gitignore", "*\n"), ("CACHEDIR.TAG", _TAG)):
            with suppress(FileExistsError):
                fd = os.open(f"{home}/{file}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                os.write(fd, text.encode())
                os.close(fd)

    def begin(self) -> None:
        """Note that the run takes place: ``latest`` leads to it."""
        self._begun = True
        with suppress(OSError):
            _link(self._home, self.id)


def _link(home: str, name: str) -> None:
    """Let ``latest`` lead to a run."""
    made = f"{home}/runs/{name}/.latest"
    with suppress(FileNotFoundError):
        os.unlink(made)
    os.symlink(f"runs/{name}", made)
    os.replace(made, f"{home}/latest")


def _lead(home: str) -> None:
    """Let ``latest`` lead to the last run that is left, if it leads nowhere; without one there is no such link."""
    link = f"{home}/latest"
    if os.path.islink(link) and not os.path.exists(link):
        with suppress(OSError):
            folder = latest(home)[1]
            if folder:
                _link(home, os.path.basename(folder))
            else:
                os.unlink(link)


class Retained(NamedTuple):
    """The names of the runs that were removed, and of those that were kept only since they can be taken up again."""

    removed: list[str]
    kept: list[str]


def retain(runs: str, keep: int = KEPT, size: int = SIZE, *, resumable: bool = False) -> Retained:
    """Remove all runs but the last ``keep``, and of those the oldest beyond ``size`` bytes.

    Never one that somebody is using. Of those that can be taken up again the last `KEPT` are kept, unless ``resumable``; one
    that a later run with the same words has made obsolete by going to its end is none of these.
    """
    removed: list[str] = []
    kept: list[str] = []
    over = []
    left = size
    names = sorted(os.listdir(runs), reverse=True)
    for index, name in enumerate(names):
        left -= _size(f"{runs}/{name}")
        if index >= keep or (left < 0 and index):
            over.append(name)
    open_ends = [] if resumable else [name for name in over if is_resumable(f"{runs}/{name}")]
    ended: list[tuple[str, str]] = []
    if open_ends:
        ended = [(name, _words(f"{runs}/{name}")) for name in names if not is_resumable(f"{runs}/{name}")]
    for name in over:
        folder = f"{runs}/{name}"
        is_obsolete = any(later > name and words == _words(folder) for later, words in ended)
        if name in open_ends and not is_obsolete and len(kept) < KEPT:
            if not _is_used(folder):
                kept.append(name)
            continue
        with suppress(OSError):
            _remove(folder)
            removed.append(name)
    _lead(os.path.dirname(runs))
    return Retained(removed[::-1], kept)


def _words(folder: str) -> str:
    """Return what tells that a run was begun as another one was; as good as its name where nothing is known."""
    first = first_record(folder)
    return repr((first.get("argv"), first.get("cwd"))) if first else folder


def is_resumable(folder: str) -> bool:
    """Tell whether a run has a journal with a beginning that does not say it is done; from its two ends alone."""
    try:
        with open(f"{folder}/journal.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    except OSError:
        return False
    return b'"kind":"end","how":"done"' not in last and bool(first_record(folder))


def first_record(folder: str) -> dict[str, Any]:
    """Return the record that the journal of a run begins with; empty where there is none, or a damaged one."""
    from pexen.state import codec, lines  # `pexen list` needs neither

    try:
        with open(f"{folder}/journal.jsonl", "rb") as file:
            line = file.readline()
        found = lines.unsealed(line[:-1], 0, 0)
        record = codec.fastest().decode(found[0]) if found and line.endswith(b"\n") else None
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("kind") == "run" else {}


def _size(folder: str) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_size
    return total


def homes(root: str) -> tuple[str, str]:
    """Return the folders that may have runs of the tree at ``root``; neither need be there."""
    return f"{root}/.pexen", elsewhere(root)


def find_run(word: str = "latest", root: str | None = None) -> str:
    """Return the folder of a run: of the last one below the root, of one by its name or how that begins, or a folder."""
    if "/" in word and os.path.isdir(word):
        return os.path.realpath(word)
    if root is None:
        from pexen.factory.tree import find_root  # `pexen run` knows it already

        root = find_root(".")
    if word == "latest":
        found = [folder for _, folder in sorted(map(latest, homes(root)))[-1:] if folder]
    else:
        there = [(name, f"{home}/runs/{name}") for home in homes(root) for name in _names(f"{home}/runs")]
        found = [folder for name, folder in there if name == word]
        found = found or [folder for name, folder in there if name.startswith(word)]
    if len(found) > 1:
        raise DefinitionError(
            f"several runs begin with {word!r}", facts=[("run", os.path.basename(folder)) for folder in found]
        )
    if not found:
        what = "no run yet" if word == "latest" else f"no run {word!r}"
        raise DefinitionError(f"there is {what} of {root}", hint="they are in .pexen/runs, at the root of the tree")
    return os.path.realpath(found[0])


def latest(home: str) -> tuple[float, str]:
    """Return when the last run in a ``.pexen`` was begun or taken up, and its folder, which is empty without one.

    Where ``latest`` does not lead to it, it is the one with the last name that has recorded anything.
    """
    link = f"{home}/latest"
    if os.path.isdir(link):
        return os.lstat(link).st_mtime, link
    for name in reversed(_names(f"{home}/runs")):
        with suppress(OSError):
            return os.stat(f"{home}/runs/{name}/journal.jsonl").st_mtime, f"{home}/runs/{name}"
    return 0.0, ""


def _names(runs: str) -> list[str]:
    try:
        return sorted(os.listdir(runs))
    except OSError:
        return []


def _new(runs: str) -> str:
    """Make the folder of a new run and return its name: the time and this process, and a number for more in one second."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for number in itertools.count(1):
        name = stem if number == 1 else f"{stem}.{number}"
        with suppress(FileExistsError):
            os.mkdir(f"{runs}/{name}", 0o700)
            break
    os.chmod(f"{runs}/{name}", 0o700)
    return name


def _make(folder: str) -> None:
    """Make a folder for us alone, or make sure that it is one."""
    try:
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o700)
    except FileExistsError:
        status = os.stat(folder)
        if os.lstat(folder).st_uid != os.geteuid() or status.st_uid != os.geteuid():
            raise PermissionError(1, "it belongs to somebody else", folder) from None
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "it is no folder", folder) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "it is not writable", folder) from None


def elsewhere(root: str) -> str:
    """Return the folder, which need not be there, for what cannot be kept below ``root``: with the user's other state."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return f"{state}/pexen/{os.path.basename(root) or 'root'}-{zlib.crc32(os.fsencode(root)):08x}"


def _elsewhere(root: str) -> str:
    """Return a folder for what cannot be kept below ``root``: with the user's other state, or a temporary one."""
    home = elsewhere(root)
    try:
        os.makedirs(home, 0o700, exist_ok=True)
        _make(home)
    except OSError:
        import tempfile

        return tempfile.mkdtemp(prefix="pexen-")
    return home


def _is_used(folder: str) -> bool:
    """Tell whether a run is still going."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _remove(folder: str) -> None:
    """Remove the folder of a run that is over."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Not shutil.rmtree: importing that takes longer than this. Links are removed, never followed.
        for place, folders, files in os.walk(folder, topdown=False):
            for name in files:
                os.unlink(f"{place}/{name}")
            for name in folders:
                below = f"{place}/{name}"
                if os.path.islink(below):
                    os.unlink(below)
                else:
                    os.rmdir(below)
        os.rmdir(folder)
    finally:
        os.close(fd)
