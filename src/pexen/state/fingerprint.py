"""Fingerprints: by which a resumed run sees that a task is not the one it was.

Over what the plan says of the task (what it runs, metadata, requirements as they were written, names it provides), the
contents of the executable, and the code of the function. Of code it is the compiled form, without line numbers: a
comment changes nothing, another Python version everything. What a function calls is not looked at.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b
from types import CodeType
from typing import TYPE_CHECKING, Any

from pexen.model.command import Command
from pexen.state import codec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pexen.model.task import Task

_MOST = 64 << 20
"""Bytes of a file that are looked at; of larger ones the size and the time of the last change count."""


def fingerprint(what: Task, record: Mapping[str, Any]) -> str:
    """Return the fingerprint of a task, given its record in the plan: 16 hexadecimal digits."""
    said = [
        record["what"], [edge["text"] for edge in record.get("requires", ())], record.get("provides"),
        record.get("meta"), record.get("left_out"),
    ]  # fmt: skip
    digest = blake2b(codec.fastest().encode(said), digest_size=8)
    digest.update(_of_command(what.callable) if type(what.callable) is Command else _of_callable(what.callable))
    return digest.hexdigest()


def _of_command(command: Command) -> bytes:
    if command.shell or not command.argv:
        return b""
    file = command.argv[0]
    if "/" not in file:
        return b""
    try:
        status = os.stat(os.path.join(command.cwd or "", file))
        return _of_file(os.path.join(command.cwd or "", file), status.st_size, status.st_mtime_ns, status.st_ino)
    except (OSError, ValueError):
        return b""


@lru_cache(1024)
def _of_file(file: str, size: int, changed: int, _inode: int) -> bytes:
    if size > _MOST:
        return f"{size} {changed}".encode()
    with open(file, "rb") as opened:
        return blake2b(opened.read(_MOST), digest_size=8).digest()


def _of_callable(what: Any) -> bytes:
    """Return a digest of the code of a function, a partial or a bound method; runs nothing of the user's."""
    for _ in range(10):
        kind = type(what)
        if hasattr(kind, "pexen_where"):  # one that lives in another process, see `pexen.factory.carried`
            return str(what.digest).encode()
        if kind.__module__ == "functools" and kind.__name__ == "partial":
            what = what.func
        elif kind.__name__ == "method" and kind.__module__ == "builtins":
            what = what.__func__
        else:
            break
    code = getattr(what, "__code__", None) if type(what).__name__ == "function" else None
    return _of_code(code) if type(code) is CodeType else b""


@lru_cache(4096)
def _of_code(code: CodeType) -> bytes:
    digest = blake2b(code.co_code, digest_size=8)
    for name in (*code.co_names, *code.co_varnames, *code.co_freevars):
        digest.update(name.encode(errors="surrogatepass") + b"\0")
    for one in code.co_consts:
        digest.update(_of_constant(one))
    return digest.digest()


def _of_constant(one: Any) -> bytes:
    if type(one) is CodeType:
        return _of_code(one)
    if type(one) is frozenset:  # in an order of its own under each hash seed
        return b"".join(sorted(map(_of_constant, one)))
    if type(one) is tuple:
        return b"(" + b"".join(map(_of_constant, one)) + b")"
    return f"{type(one).__name__} {one!r}\0".encode(errors="surrogatepass")
