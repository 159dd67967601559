r"""Lines of a journal: what each holds beside its record, and how to tell a torn end from damage.

A line is ``{"seq":12,"crc":"9a3b02ff","kind":…}\n``, JSON by itself. The checksum covers the number, the record *and the
checksum of the line before*, so a line that was lost, doubled, moved or brought in from another journal shows like one
whose bytes have changed. See ``docs/adr/0016-lines-that-vouch-for-each-other.md``.

**Torn or damaged.** A journal only ever grows at its end, and every record ends in a newline. So what a crash can leave is
a beginning of what was being written: whole lines, then part of one, which has no newline, or NULs, where the file system
had noted the new length and not yet the contents. Anything else that does not verify is damage: a line *with* its newline,
wherever it stands, or one that would verify were its newline not another character.

**Behind damage** (only for whoever asks to go on) a line counts when its own checksum verifies against what the line
before it *says* its checksum is. So one changed byte costs the line that it is in and at most the next; a newline, one more.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from pexen.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = re.compile(rb'\{"seq":([1-9][0-9]{0,18}),"crc":"([0-9a-f]{8})",')
_CHUNK = 1 << 20
_HELD = 5 << 10
"""Bytes for which zlib does not let go of the interpreter: having it back takes longer than any checksum."""
_TOLD = 100
"""How many damaged places are told apart; a file of nothing but newlines has more."""


class Damage(NamedTuple):
    """One place that does not verify: ``line`` is counted from 1, ``offset`` and ``size`` are bytes."""

    line: int
    offset: int
    size: int
    why: str

    def __str__(self) -> str:
        """Return what people are told."""
        return f"line {self.line} at byte {self.offset}: {self.why}"


def sealed(body: bytes, seq: int, before: int) -> tuple[bytes, int]:
    """Return line ``seq`` for a record (a JSON object that is not empty), and its checksum, for the one behind it.

    ``before`` is the checksum of the line before, 0 for the first.
    """
    head = b'{"seq":%d,' % seq
    crc = crc32(head, before)
    for at in range(0, len(body), _HELD):
        crc = crc32(body[at : at + _HELD], crc)
    return b'%b"crc":"%08x",%b\n' % (head, crc, body[1:]), crc


def unsealed(line: bytes, last: int, before: int, *, gap: bool = False) -> tuple[bytes, int, int] | None:
    """Return the record in a line without its newline, its number and checksum; None when it does not verify.

    It has to be the one behind number ``last`` with the checksum ``before``; with ``gap``, any later one.
    """
    found = _HEAD.match(line)
    if found is None:
        return None
    seq, crc = int(found[1]), int(found[2], 16)
    if not (seq > last if gap else seq == last + 1):
        return None
    body = b"{" + line[found.end() :]
    if crc32(body, crc32(line[: found.end(1) + 1], before)) != crc:
        return None
    return body, seq, crc


class Scanner:
    """Reads the lines of a journal from where it last stopped.

    ``end`` is the offset behind the last whole line, ``number`` how many lines that were; ``seq`` and ``crc`` are of the last
    one that counts. ``torn`` is how many bytes follow that are part of no whole line. With ``damaged_ok``, ``damage`` tells what
    was passed over.
    """

    def __init__(self, *, damaged_ok: bool = False) -> None:
        self.end = self.number = self.torn = self.seq = self.crc = 0
        self.damage: list[Damage] = []
        self._damaged_ok = damaged_ok
        self._doubtful: int | None = None
        """Behind damage: the checksum that the line before says it has; 0 when it says none."""

    def records(self, fd: int, path: str) -> Iterator[bytes]:
        """Yield the records that have been added. Raises `StateError` for damage, naming the line."""
        parts: list[bytes] = []
        ahead = 0
        while chunk := os.pread(fd, _CHUNK, self.end + ahead):
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                parts.append(line)
                body = self._taken(b"".join(parts), path)
                parts.clear()
                if body:
                    yield body
            ahead = len(rest) if lines else ahead + len(rest)
            parts.append(rest)
        tail = b"".join(parts)
        self.torn = len(tail)
        if tail and tail[-1] and self._unsealed(tail[:-1]):
            # Not torn, for then it would end with part of the record or with NULs: the newline itself has changed.
            self._note(tail, "its end is damaged", path)
            self.end, self.torn = self.end + len(tail), 0

    def _taken(self, line: bytes, path: str) -> bytes:
        """Note the next line; return its record, empty when it does not verify."""
        found = self._unsealed(line)
        if found is None:
            self._note(line, self._what_is_wrong(line), path)
        else:
            self._doubtful = None
        self.number += 1
        self.end += len(line) + 1
        if found is None:
            return b""
        body, self.seq, self.crc = found
        return body

    def _unsealed(self, line: bytes) -> tuple[bytes, int, int] | None:
        found = unsealed(line, self.seq, self.crc)
        if found is None and self._doubtful is not None:
            found = unsealed(line, self.seq, self._doubtful, gap=True)
        return found

    def _what_is_wrong(self, line: bytes) -> str:
        head = _HEAD.match(line)
        if head is None:
            return "it is not a line of a journal"
        if int(head[1]) != self.seq + 1 and self._doubtful is None:
            return f"number {int(head[1])} follows {self.seq}: lines are missing, doubled or moved"
        return "its checksum does not match its contents, or not the line before it"

    def _note(self, line: bytes, why: str, path: str) -> None:
        damage = Damage(self.number + 1, self.end, len(line) + 1, why)
        if not self._damaged_ok:
            raise StateError(
                "the journal is damaged",
                facts=[("at", f"{path}:{damage.line}"), ("byte", str(damage.offset)), ("line", damage.why)],
                hint="every record before that line is sound; the ones behind it were not looked at",
            )
        if len(self.damage) < _TOLD:
            self.damage.append(damage)
        head = _HEAD.match(line)
        self._doubtful = int(head[2], 16) if head else 0
