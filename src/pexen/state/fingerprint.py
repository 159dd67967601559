"""Fingerprints: by which a resumed run sees that a task is not the one it was.

Over what the plan says of the task (what it runs, metadata, requirements as they were written, names it provides), the
contents of the executable (and of the script, where that is an interpreter; and of the one that takes it down), and the code
of the function. Of code it is the compiled form, without line numbers: a comment changes nothing, another Python version
everything. What a function calls is not looked at.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache, partial
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

try:
    from _blake2 import blake2b  # hashlib loads OpenSSL too, which takes 3 ms
except ImportError:
    from hashlib import blake2b
from stat import S_ISREG

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
    digest = blake2b(codec.with_json().encode(said), digest_size=8)
    if type(what.callable) is Command:
        digest.update(_of_command(what.callable) + _of_teardown(what.callable, what.teardown))
    else:
        digest.update(_of_callable(what.callable))
    return digest.hexdigest()


def _of_command(command: Command) -> bytes:
    """Return a digest of the executable, and of the script that it is an interpreter for."""
    if command.shell or not command.argv:
        return b""
    files = [command.argv[0]] if "/" in command.argv[0] else []
    if _INTERPRETER.fullmatch(os.path.basename(command.argv[0])):
        files += [one for one in command.argv[1:] if not one.startswith("-")][:1]
    return b"".join(_of_path(os.path.join(command.cwd or "", one)) for one in files)


def _of_teardown(command: Command, teardown: str | None) -> bytes:
    """Return a digest of the file that a tear-down begins with, where that is in the folder."""
    word = teardown.split(None, 1)[0] if teardown and not teardown.isspace() else ""
    return _of_path(os.path.join(command.cwd or "", word)) if word else b""


_INTERPRETER = re.compile(r"(ba|da|k|z)?sh|(python|pypy|perl|ruby|lua|tclsh|guile)[0-9.]*|node|php|awk|Rscript")


def _of_path(file: str) -> bytes:
    try:
        status = os.stat(file)
        if not S_ISREG(status.st_mode):
            return b""
        return _of_file(file, status.st_size, status.st_mtime_ns, status.st_ino)
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
    held = b""
    for _ in range(10):
        kind = type(what)
        if hasattr(kind, "pexen_where"):  # one that lives in another process, see `pexen.model.carried`
            return held + str(what.digest).encode()
        if kind is partial:
            held += _of_constant(what.args) + _of_constant(tuple(sorted(what.keywords.items())))
            what = what.func
        elif kind is MethodType:
            what = what.__func__
        else:
            break
    if type(what) is not FunctionType:
        return held
    defaults = what.__defaults__ or (), tuple(sorted((what.__kwdefaults__ or {}).items()))
    return held + _of_code(what.__code__) + (_of_constant(defaults) if any(defaults) else b"")


@lru_cache(4096)
def _of_code(code: CodeType) -> bytes:
    digest = blake2b(code.co_code, digest_size=8)
    for name in (*code.co_names, *code.co_varnames, *code.co_freevars):
        digest.update(name.encode(errors="surrogatepass") + b"\0")
    for one in code.co_consts:
        digest.update(_of_constant(one))
    return digest.digest()


def _of_constant(one: Any) -> bytes:
    """Return what tells a constant of plain types from others; of anything else, whose code would run, its type."""
    kind = type(one)
    if kind is CodeType:
        return _of_code(one)
    if kind is frozenset:  # in an order of its own under each hash seed
        return b"".join(sorted(map(_of_constant, one)))
    if kind in {tuple, list}:
        return b"(" + b"".join(map(_of_constant, one)) + b")"
    if kind in _PLAIN:
        return f"{kind.__name__} {one!r}\0".encode(errors="surrogatepass")
    return f"{kind.__name__}\0".encode(errors="surrogatepass")


_PLAIN = frozenset({type(None), type(...), bool, int, float, complex, str, bytes})
