"""Where a run keeps what it leaves behind: ``.pexen/runs/<id>/`` below the root, or elsewhere when that cannot be.

``.pexen/`` ignores itself in git and tells backup programs that it is a cache. Everything is for the user alone, whatever
the umask says. A folder that somebody else has put there is not used. The last `KEPT` runs are kept; a run that is
still going holds a lock on its folder, so it is never removed by another.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from contextlib import suppress

KEPT = 20
_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder holds what pexen has recorded of its runs; see https://bford.info/cachedir/
"""


class Place:
    """The folder of one run. Makes it at once; ``note`` says so when it is not below the root. `begin` or it was nothing.

    Raises `OSError` when there is no place for it at all.
    """

    def __init__(self, root: str) -> None:
        self.note = ""
        self.id = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        home = f"{root}/.pexen"
        try:
            self._make(home)
        except OSError as error:
            why = error.strerror
            home = _elsewhere(root)
            self._make(home)
            self.note = f"{root}/.pexen cannot be used ({why}), output goes to {self.folder}"
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._begun = False

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
        for name in sorted(os.listdir(self._runs))[: -KEPT - 1]:  # and ``latest``, which sorts last
            with suppress(OSError):
                _remove(f"{self._runs}/{name}")

    def _make(self, home: str) -> None:
        self._runs = f"{home}/runs"
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
            os.symlink(self.id, f"{self.folder}/.latest")
            os.replace(f"{self.folder}/.latest", f"{self._runs}/latest")


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


def _elsewhere(root: str) -> str:
    """Return a folder for what cannot be kept below ``root``: with the user's other state, or a temporary one."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    home = f"{state}/pexen/{os.path.basename(root) or 'root'}-{zlib.crc32(os.fsencode(root)):08x}"
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
