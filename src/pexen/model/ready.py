"""Readiness: by what it is known that an executable that goes on running is up.

=========================  ==========================================================================
``port:8080``              something listens on that TCP port of this machine
``port:192.0.2.7:8080``    the same at an address; IPv6 in brackets, ``port:[fe80::1]:8080``
``socket:run/x.sock``      something listens on a unix socket
``file:run/x.pid``         the file is there
``log:listening on``       a line of what it has printed matches the regular expression
``control``                it says so itself: ``{"ready": true}``, see `pexen.model.control`
=========================  ==========================================================================

Files are relative to the folder in which the task runs. What is not told is found out by asking, so names of hosts are
refused: they would have to be looked up, which may take long.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pexen.errors import DefinitionError, nearest
from pexen.model.meta import text

KINDS = ("port", "socket", "file", "log", "control")
LOCAL = ("127.0.0.1", "::1")
"""Where a port without an address is looked for: either will do."""
_HINT = "port:8080, socket:PATH, file:PATH, log:REGEX or control"


class Ready(NamedTuple):
    """A readiness check: ``kind`` is one of `KINDS`, ``what`` the path or the expression, or there are addresses."""

    kind: str
    what: str = ""
    hosts: tuple[str, ...] = ()
    port: int = 0


def readiness(key: str, value: Any) -> str:
    """Accept a readiness check that `understood` understands; a normaliser."""
    said = text(key, value)
    understood(said, key)
    return said


def understood(said: str, key: str = "ready") -> Ready:
    """Return what a check says. Raises `DefinitionError`."""
    kind, colon, rest = said.partition(":")
    if kind == "control" and not colon:
        return Ready(kind)
    if kind not in KINDS or kind == "control":
        hint = nearest(kind, KINDS) if kind not in KINDS else ""
        raise DefinitionError(f"{key}: unknown check {said!r}", hint=hint or _HINT)
    if not rest or (kind != "log" and "\0" in rest):
        raise DefinitionError(
            f"{key}: {said!r} does not say which {'expression' if kind == 'log' else kind}", hint=_HINT
        )
    if kind == "port":
        return _port(said, rest, key)
    if kind == "log":
        try:
            re.compile(rest)
        except re.error as error:
            raise DefinitionError(f"{key}: not a regular expression: {rest!r}: {error}") from None
    return Ready(kind, rest)


def _port(said: str, rest: str, key: str) -> Ready:
    import ipaddress  # few tasks want it

    host, _, digits = rest.rpartition(":")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 5 and 0 < int(digits) < 1 << 16):
        raise DefinitionError(f"{key}: not the number of a port: {digits!r}", hint="port:8080, port:192.0.2.7:8080")
    if host in {"", "localhost"}:
        return Ready("port", hosts=LOCAL, port=int(digits))
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise DefinitionError(f"{key}: {host!r} is no address: {said!r}", hint="port:192.0.2.7:8080") from None
    return Ready("port", hosts=(str(address),), port=int(digits))
