"""What an executable says while it runs: lines of JSON on its control descriptor, or on its socket.

Its descriptor (``PEXEN_CONTROL``) is one end of a socket pair of its own; its socket (``PEXEN_SOCKET``) is a place where it
can get another line to the same listener when descriptors were closed: one for each worker of the pool, since making one
for each attempt would cost more than the attempt's process.

The verbs are those of `pexen.model.control`. A line that cannot be understood becomes a ``warn`` report that quotes it, and
whoever floods us is bounded: lines in length, complaints in number, and what is read at a time, so the writer waits
and not we. Nothing that is said can raise.
"""

from __future__ import annotations

import json
import os
import re
import socket
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from pexen.model.control import understood
from pexen.model.event import AddWanted, Limited, RebootWanted, Reported
from pexen.model.result import Report
from pexen.pool.files import Private, ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event

LONGEST = 1 << 20
"""Bytes of a line."""
CHUNK = 1 << 14
"""Bytes read at a time, so that whoever says much keeps nobody waiting for long."""
COMPLAINTS = 10
"""Lines that are quoted for being wrong."""
_QUOTED = 200
_CONNECTIONS = 64
_BEGINNING = re.compile(rb'\s*\{\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)\s*[,}]')
_RESTS = 64
"""Chunks that may be waiting when a process has ended: more than a socket holds."""


class Channel:
    """Takes what one attempt says; keeps its value and its shared items, and what the run is to be told in ``events``.

    ``is_ready`` tells whether it has said that it is.

    ``defer`` has something done later by the thread that listens; it may be called from any.
    """

    def __init__(self, attempt: Attempt, folder: str | None, defer: Callable[[Callable[[], None]], None]) -> None:
        self.attempt = attempt
        self._defer = defer
        self.events: list[Event] = []
        self.value: Any = None
        self.shared: dict[str, Any] = {}
        self.is_ready = False
        self._folder = folder
        self._complaints = 0

    def heard(self, line: bytes, ear: Ear) -> bytes:
        """Take one line; return the answer to it, or nothing: there is none, or it comes later."""
        self.attempt.heard = monotonic()
        asked: dict[str, Any] = {}
        try:
            try:
                said = json.loads(line)
            except (ValueError, RecursionError):  # UnicodeDecodeError is one
                asked = _asked(line)
                raise ValueError("not a JSON object") from None
            asked = said if isinstance(said, dict) else {}
            reply = partial(self._reply, ear, asked["id"]) if "id" in asked else None
            verb, what = understood(said)
            if verb == "add":
                json.loads(line, object_pairs_hook=_each_once)
            if self._do(verb, what, reply):
                return b""
            refused = ""
        except (ValueError, OSError) as error:
            refused = str(error)
            self._complain(line, refused)
        return _answer(asked["id"], refused) if "id" in asked else b""

    def _reply(self, ear: Ear, number: Any, refused: str) -> None:
        """Have a line answered. From any thread."""
        self._defer(partial(ear.answer, _answer(number, refused)))

    def _do(self, verb: str, what: Any, reply: Callable[[str], None] | None) -> bool:
        """Do what was said; return whether the run will ``reply``."""
        if verb == "report":
            self.events.append(Reported(self.attempt, what, reply))
            return True
        if verb == "reboot":
            by, within, shared = what
            self.shared.update(shared or {})
            shared = dict(self.shared) or None
            self.events.append(RebootWanted(self.attempt, by, within, shared, reply or _nobody))
            return True
        if verb == "add":
            self.events.append(AddWanted(self.attempt, what, reply or _nobody))
            return True
        if verb == "timeout":
            self.events.append(Limited(self.attempt, *what))
        elif verb == "attach":
            file, name = what
            self.attempt.keep_file(os.path.join(self._folder or "", file), name)
        elif verb == "return":
            self.value = what
        elif verb == "shared":
            self.shared.update(what)
        elif verb == "ready":
            if not self.attempt.task.service:
                raise ValueError("only a service is ready")
            self.value = what.get("value", self.value)
            self.is_ready = True
        return False

    def too_long(self, start: bytes) -> bytes:
        """Take the beginning of a line that is longer than `LONGEST`; return the answer to it."""
        refused = f"longer than {LONGEST} bytes"
        self._complain(start, refused)
        asked = _asked(start)
        return _answer(asked["id"], refused) if asked else b""

    @property
    def is_fed_up(self) -> bool:
        """Whether nonsense is not worth a look any more."""
        return self._complaints >= COMPLAINTS

    def _complain(self, line: bytes, why: str) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            quoted = line[:_QUOTED].decode(errors="backslashreplace") + ("…" if len(line) > _QUOTED else "")
            more = "; more of that is not told" if self._complaints == COMPLAINTS else ""
            self.events.append(
                Reported(self.attempt, Report("pexen control", "warn", f"cannot understand {quoted!r}: {why}{more}"))
            )


class Ear:
    """One connection of an attempt: its descriptor's other end, or one that came over the socket."""

    def __init__(self, sock: socket.socket, channel: Channel) -> None:
        self.sock = sock
        self.channel = channel
        self._rest = bytearray()
        self._skips = False
        sock.setblocking(False)

    def listen(self) -> tuple[bool, bytes]:
        """Take in one chunk of what has arrived; return whether there may be more, and what to answer."""
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return False, b""
        except OSError:
            data = b""
        if not data:
            return False, self._taken(b"\n") if self._rest else b""
        return True, self._taken(data)

    def listen_out(self) -> bytes:
        """Take in what is left of a process that has ended; return what to answer."""
        answers = b""
        for _ in range(_RESTS):
            more, answer = self.listen()
            answers += answer
            if not more:
                break
        return answers

    @property
    def has_hung_up(self) -> bool:
        """Whether nothing will come any more."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def answer(self, data: bytes) -> None:
        """Send an answer; who does not read answers gets none."""
        with suppress(OSError):
            self.sock.send(data)

    def _taken(self, data: bytes) -> bytes:
        """Cut what has come into lines; return the answers to them."""
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        answers = []
        if self.channel.is_fed_up and not self._skips:
            lines = [line for line in lines if line[:1] in b"{ \t" and line]
        for line in lines:
            if self._skips:
                self._skips = False
            elif line.strip():
                answers.append(self.channel.heard(bytes(line), self))
        if len(rest) > LONGEST:
            if not self._skips:
                answers.append(self.channel.too_long(bytes(rest[:_QUOTED])))
            self._skips = True
            self._rest = bytearray()
        return b"".join(answers)


def _asked(line: bytes) -> dict[str, Any]:
    """Return the ``id`` that a line which is no JSON begins with: who has written it by hand waits for the answer."""
    found = _BEGINNING.match(line)
    try:
        return {"id": json.loads(found[1])} if found else {}
    except ValueError:
        return {}


def _answer(number: Any, refused: str) -> bytes:
    return json.dumps({"id": number, **({"error": refused} if refused else {"ok": True})}).encode() + b"\n"


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raise ValueError for a key that is there twice: of two tasks, one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:at]))
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _nobody(_: str) -> None:
    """Answer a line that did not ask for it."""


def listener(path: str) -> socket.socket:
    """Return a socket that listens at a path, which must be short. Raises `OSError`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(_CONNECTIONS)
    except OSError:
        sock.close()
        raise
    return sock


class Doors:
    """The sockets at which executables can be heard whose descriptors were closed: one a worker, made when needed."""

    def __init__(self) -> None:
        self._folder: Private | None = None
        self._doors: dict[int, socket.socket] = {}

    def path(self, slot: int) -> str:
        """Return where a slot's socket is; empty when there can be none, since its path would be too long."""
        try:
            if self._folder is None:
                self._folder = Private()
                ours(self._folder.path)
            path = f"{self._folder.path}/{slot}"
            if slot not in self._doors:
                self._doors[slot] = listener(path)
        except OSError:
            return ""
        return path

    def at(self, slot: int) -> socket.socket | None:
        """Return a slot's socket."""
        return self._doors.get(slot)

    def close(self) -> None:
        """Close and remove all of them."""
        for door in self._doors.values():
            door.close()
        self._doors.clear()
        self._folder = None
