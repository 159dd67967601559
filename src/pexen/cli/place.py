"""Where a run keeps what it leaves behind: ``.pexen/runs/<id>/`` below the root, or elsewhere when that cannot be.

``.pexen/`` ignores itself in git and tells backup programs that it is a cache. Everything is for the user alone, whatever
the umask says. A folder that somebody else has put there is not used. The last `KEPT` runs are kept, up to `SIZE` bytes; a
run that is still going holds a lock on its folder, so it is never removed by another, nor is one that can be taken up again.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from contextlib import suppress

from pexen.errors import DefinitionError

KEPT = 20
SIZE = 1 << 30
_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder holds what pexen has recorded of its runs; see https://bford.info/cachedir/
"""


class Place:
    """The folder of one run. Makes it at once; ``note`` says so when it is not below the root. `begin` or it was nothing.

    With ``folder``, that of a run that is taken up again. Raises `OSError` when there is no place for it at all.
    """

    def __init__(self, root: str, folder: str = "") -> None:
        self.note = ""
        self._begun = bool(folder)
        if folder:
            self.id = os.path.basename(folder)
            self._make(os.path.dirname(os.path.dirname(folder)))
        else:
            self.id = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            self._make_somewhere(root)
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
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

    def _make(self, home: str) -> None:
        self._home, self._runs = home, f"{home}/runs"
        self.folder = f"{self._runs}/{self.id}"
        for folder in (home, self._runs, self.folder, self.output):
            _make(folder)
        for name, text in ((".gitignore", "*\n"), ("CACHEDIR.TAG", _TAG)):
            with suppress(FileExistsError):
                fd = os.open(f"{home}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                os.write(fd, text.encode())
                os.close(fd)

    def begin(self) -> None:
        """Note that the run takes place: ``latest`` leads to it."""
        self._begun = True
        with suppress(OSError):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.folder}/.latest")
            os.symlink(f"runs/{self.id}", f"{self.folder}/.latest")
            os.replace(f"{self.folder}/.latest", f"{self._home}/latest")


def retain(runs: str, keep: int = KEPT, size: int = SIZE, *, resumable: bool = False) -> list[str]:
    """Remove all runs but the last ``keep``, and of those the oldest beyond ``size`` bytes; return their names.

    Never one that somebody is using, and none that can be taken up again unless ``resumable``.
    """
    removed = []
    left = size
    for index, name in enumerate(sorted(os.listdir(runs), reverse=True)):
        folder = f"{runs}/{name}"
        left -= _size(folder)
        if (index >= keep or (left < 0 and index)) and (resumable or not is_resumable(folder)):
            with suppress(OSError):
                _remove(folder)
                removed.append(name)
    return removed[::-1]


def is_resumable(folder: str) -> bool:
    """Tell whether a run has a journal that does not say it is done; from the end of the file alone."""
    try:
        with open(f"{folder}/journal.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    except OSError:
        return False
    return b'"kind":"end","how":"done"' not in last


def _size(folder: str) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_size
    return total


def find_run(word: str = "latest", root: str | None = None) -> str:
    """Return the folder of a run: of the last one below the root, of one by its name or how that begins, or a folder."""
    if "/" in word and os.path.isdir(word):
        return os.path.realpath(word)
    if root is None:
        from pexen.factory.tree import find_root  # `pexen run` knows it already

        root = find_root(".")
    for home in (f"{root}/.pexen", elsewhere(root)):
        if word == "latest" and os.path.isdir(f"{home}/latest"):
            return os.path.realpath(f"{home}/latest")
        try:
            names = sorted(os.listdir(f"{home}/runs"))
        except OSError:
            continue
        found = [name for name in names if name == word] or [name for name in names if name.startswith(word)]
        if len(found) > 1:
            raise DefinitionError(f"several runs begin with {word!r}", facts=[("run", name) for name in found])
        if found:
            return os.path.realpath(f"{home}/runs/{found[0]}")
    what = "no run yet" if word == "latest" else f"no run {word!r}"
    raise DefinitionError(f"there is {what} of {root}", hint="they are in .pexen/runs, at the root of the tree")


def _make(folder: str) -> None:
    """Make a folder for us alone, or make sure that it is one."""
    try:
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o700)
    except FileExistsError:
        status = os.stat(folder)
        if os.lstat(folder).st_uid != os.geteuid() or status.st_uid != os.geteuid():
            raise PermissionError(1, "it belongs to somebody else", folder) from None
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
