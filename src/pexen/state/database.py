"""Database: a SQLite file that can be made again at any time, so nothing that is the matter with it stops anybody.

A file that is damaged, of another version, or no file of ours, is set aside as ``<name>.old`` and an empty one takes its place.
Where none can be had (no space, a folder that is read-only) there is one in memory, which lasts as long as the object. Both
are told in ``notices``. Several processes may use the file at once; whoever finds that it has been replaced opens the new one.

Rollback journal, not WAL: that would need memory shared between processes, which network file systems lack.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from pexen.state.disk import private_file

if TYPE_CHECKING:
    from collections.abc import Callable

    Does = Callable[[sqlite3.Connection], "T"]

T = TypeVar("T")

_WAIT = 10.0
"""Seconds that another process may keep the file locked."""
_READ_ONLY = frozenset({errno.EACCES, errno.EROFS})
_DAMAGE = frozenset({
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERNAL,
})  # fmt: skip
"""What SQLite says of a file that is not what we have written."""


class Database:
    """The file at ``path`` with the tables of ``schema`` in ``version``. To be used from one thread, and closed.

    ``is_new`` says that it is empty since it was made just now, whoever asks has to fill it; it stays so until `filled`.
    """

    def __init__(self, path: str, schema: str, version: int) -> None:
        self.notices: list[str] = []
        self.is_new = False
        self._path, self._schema, self._version = path, schema, version
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing of it is kept."""
        return self._connection is not None and self._identity == (0, 0)

    def filled(self) -> None:
        """Say that what a new one lacks has been written."""
        self.is_new = False

    def read(self, does: Does[T], otherwise: T) -> T:
        """Return what ``does`` returns, given a connection; ``otherwise`` when that is not possible, with a notice."""
        for _ in range(3):
            try:
                return does(self._open())
            except (sqlite3.Error, ValueError, OverflowError) as error:
                if not self._is_worth_another_try(error):
                    break
        return otherwise

    def write(self, does: Does[T], otherwise: T) -> T:
        """Do the same in a transaction, alone: all of it or nothing."""
        return self.read(lambda connection: _in_transaction(connection, does), otherwise)

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def set_aside(self, why: str) -> bool:
        """Rename the file, unless somebody else has replaced it by now; the next use makes a new one.

        A rollback journal may stay behind: SQLite removes it when it finds that the new file is empty.
        Return False when that is not possible; then there is one in memory from now on.
        """
        identity = self._identity
        self.close()
        try:
            found = os.lstat(self._path)
            if identity not in {(0, 0), (found.st_dev, found.st_ino)}:
                return True
            os.replace(self._path, f"{self._path}.old")
        except FileNotFoundError:
            return True
        except OSError as error:
            self.notices.append(f"{self._path} {why}, and cannot be set aside: {error.strerror}")
            self._open_in_memory()
            return False
        self.notices.append(f"{self._path} {why}; it is {os.path.basename(self._path)}.old now")
        return True

    # -- opening ------------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._connection is None and not self._open_file():
            self._open_in_memory()
        assert self._connection is not None  # noqa: S101 - for mypy
        return self._connection

    def _open_file(self) -> bool:
        """Open the file and see to it that it is one of ours; return False when there cannot be any."""
        try:
            fd = self._private()
        except OSError as error:
            self.notices.append(f"{self._path} cannot be used: {error.strerror}")
            return False
        status = os.fstat(fd)
        os.close(fd)  # not through it: SQLite's locks would go with the first descriptor of this process that is closed
        self._identity = (status.st_dev, status.st_ino)
        connection = self._connection = self._connected(self._path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, self._version}:
            word = "a newer" if version > self._version else "an older"
            return self.set_aside(f"was written by {word} version of pexen") and self._open_file()
        if not version:
            self.is_new |= _in_transaction(connection, self._begin)
        return True

    def _private(self) -> int:
        """Return a descriptor of a regular file of ours, made if there is none; one that may only be read will do."""
        if os.stat(os.path.dirname(self._path)).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "its folder belongs to somebody else")
        try:
            return private_file(self._path, os.O_RDWR)
        except OSError as error:
            if not os.path.lexists(self._path):
                raise
            if error.errno in _READ_ONLY and os.path.isfile(self._path) and not os.path.islink(self._path):
                return os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._identity = (0, 0)
            if not self.set_aside(f"is not a file of ours ({error.strerror})"):
                raise
            return private_file(self._path, os.O_RDWR)

    def _open_in_memory(self) -> None:
        if self._connection is not None:
            return
        self._identity = (0, 0)
        self._connection = self._connected(":memory:")
        self._begin(self._connection)
        self.is_new = True

    def _connected(self, path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
        connection.text_factory = _text
        try:
            # A power cut must not cost what only this file knows; between two transactions it may cost the last one.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cell_size_check = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _begin(self, connection: sqlite3.Connection) -> bool:
        """Make the tables; return False when another process has just done so."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version:
            return False
        for statement in self._schema.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {self._version}")
        return True

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _is_worth_another_try(self, error: Exception) -> bool:
        """Tell whether the reason has been put aside; say so in any case."""
        extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)  # none: what was asked is wrong, not the file
        if extended == sqlite3.SQLITE_READONLY_DBMOVED:  # another process has set it aside
            self.close()
            return True
        if extended & 0xFF in _DAMAGE and not self.is_in_memory:
            self.set_aside(f"is damaged ({error})")
            return True
        self.notices.append(f"{self._path} cannot be used: {error}")
        if not self.is_in_memory:
            self.close()  # it may not even have been looked at
        return False


def _in_transaction(connection: sqlite3.Connection, does: Does[T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = does(connection)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return result


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
