r"""The Test Anything Protocol, versions 13 and 14, read while it is written.

What a program prints is cut anywhere and mixed with what it says to standard error, so it is read line by line, and a
line that is no TAP is nobody's business. A result is passed on with the line behind it at the latest, since a block of
diagnostics (YAML, kept as text) may follow.

**Subtests** are indented by four spaces each, and the line of the test that they make up comes *behind* them. Their
name is therefore taken from ``# Subtest: name``, which some write before the indentation (TAP 14, node) and some inside
(Perl); without it they are named by the number their test will have. A stack of levels is all that is remembered. A
failure below waits for the line of the test it belongs to, up to `HELD` of them: where that is ``# TODO``, what is below
was expected to fail too.

**Memory** does not depend on how many tests come: numbers are only compared with the one before, and lines, names, blocks
and nesting are bounded. Whatever the bytes are, nothing here raises, and how they were cut makes no difference.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from pexen.model.result import Report

LONGEST = 1 << 16
"""Bytes of a line, and of a block of diagnostics; what is beyond is dropped."""
DEEPEST = 8
"""Levels of subtests; what is deeper is no TAP."""
HELD = 100
"""Failures of a subtest that wait for the line of the test they belong to."""
_NAME = 1000
_HUGE = 10**18

_TEST = re.compile(rb"(not )?ok(?:[ \t]+([0-9]+)(?![^ \t]))?(?:[ \t]+(.*))?", re.DOTALL)
_PLAN = re.compile(rb"1\.\.([0-9]+)[ \t]*(?:#[ \t]*(?:skip\S*)?[ \t]*(.*))?", re.DOTALL | re.IGNORECASE)
_SUBTEST = re.compile(rb"#[ \t]*Subtest(?::[ \t]*(.*))?", re.DOTALL)
_VERSION = re.compile(rb"TAP version [0-9]+")
_BAIL_OUT = re.compile(rb"Bail out!(.*)", re.DOTALL | re.IGNORECASE)
_FIRST = frozenset([b"n", b"o", b"1", b"#", b"T", b"B", b"b"])
"""What all of these begin with."""
_DASH = re.compile(r"-(?:\s+|$)")
_DIRECTIVE = re.compile(r"(?<!\\)(\\*)#\s*(skip|todo)(?:(?<=p)\S*|\b):?", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([\\#])")
_MESSAGE = re.compile(r"message:[ \t]+(\S.*)")


@dataclass(slots=True)
class _Level:
    """The tests of one indentation: ``prefix`` stands before their names."""

    prefix: str = ""
    is_named: bool = True
    planned: int | None = None
    count: int = 0
    last: int = 0
    wrong: list[str] = field(default_factory=list)
    """What is wrong with the order, at most once of each kind."""
    held: list[Report] = field(default_factory=list)


class Tap:
    """Takes a program's output and returns the reports in it. To be used from one thread."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._levels = [_Level()]
        self._titles: dict[int, str] = {}
        self._is_tap = False
        self._bailed_out = False
        self._test: Report | None = None
        """The last test, to which a block of diagnostics may still come; it belongs to the last level."""
        self._block: list[str] | None = None
        self._block_indent = self._block_size = 0
        self._out: list[Report] = []

    def feed(self, data: bytes) -> list[Report]:
        """Take the next bytes of output; return what is complete now."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if self._rest:
                self._keep(data, start, end)
                line = bytes(self._rest)
                self._rest.clear()
            else:
                line = data[start : min(end, start + LONGEST)]
            self._take(line.rstrip())
            start = end + 1
        self._keep(data, start, len(data))
        return self._taken_out()

    def end(self) -> list[Report]:
        """Return the rest at the end of the output, and what is wrong with the whole."""
        if self._rest:
            self._take(bytes(self._rest).rstrip())
            self._rest.clear()
        self._finish_test()
        self._close(0)
        if not self._is_tap:
            self._out.append(Report("plan", "error", "no TAP on its output"))
        elif problem := self._problem(self._levels[0]):
            self._out.append(Report("plan", "fail", problem))
        return self._taken_out()

    def _keep(self, data: bytes, start: int, end: int) -> None:
        """Add to the line that is not complete, up to `LONGEST`."""
        self._rest += data[start : min(end, start + LONGEST - len(self._rest))]

    def _taken_out(self) -> list[Report]:
        out, self._out = self._out, []
        return out

    def _take(self, line: bytes) -> None:
        """Take one line."""
        body = line.lstrip(b" ")
        indent = len(line) - len(body)
        if self._block is not None and self._diagnosed(line, indent):
            return
        if self._test is not None and indent > 4 * (len(self._levels) - 1) and body.split(maxsplit=1)[:1] == [b"---"]:
            self._block, self._block_indent, self._block_size = [], indent, 0
            return
        self._finish_test()
        if body[:1] not in _FIRST:
            return
        if found := _BAIL_OUT.match(body):
            self._bail_out(_text(found[1]).strip())
        elif indent % 4 == 0 and indent <= 4 * DEEPEST:
            self._understand(body, indent // 4)

    def _understand(self, body: bytes, depth: int) -> None:
        if found := _TEST.fullmatch(body):
            self._begin_test(depth, found[1] is not None, found[2], _text(found[3] or b""))
        elif found := _PLAN.fullmatch(body):
            self._plan(depth, _number(found[1]), _text(found[2] or b""))
        elif found := _SUBTEST.fullmatch(body):
            self._close(depth)
            self._titles[depth] = _unescaped(_text(found[1] or b""))
        elif depth == 0 and _VERSION.fullmatch(body):
            self._is_tap = True

    # -- tests ---------------------------------------------------------------------------------------------------------

    def _begin_test(self, depth: int, failed: bool, number: bytes | None, text: str) -> None:
        """Take a line ``ok`` or ``not ok``."""
        text, directive, reason = _directive(_DASH.sub("", text.strip(), count=1) if text[:1] == "-" else text)
        self._close(depth, expected=reason if directive == "todo" else None)
        level = self._level(depth)
        level.count += 1
        wanted = level.last + 1
        level.last = _number(number) if number else wanted
        if level.last != wanted:
            _once(level, f"test {level.last} where {wanted} was expected")
        name = level.prefix + (_shortened(text) or f"test {level.last}")
        status, message = _verdict(failed, directive, reason)
        self._test = Report(name, status, message, {"number": level.last})
        for key in [key for key in self._titles if key >= depth]:
            del self._titles[key]

    def _diagnosed(self, line: bytes, indent: int) -> bool:
        """Take a line of a block of diagnostics; return whether it was one."""
        if self._block is None or (line and indent < self._block_indent):
            return False
        text = line[self._block_indent :]
        if indent == self._block_indent and text == b"...":
            self._finish_test()
            return True
        self._block_size += len(text) + 1
        if self._block_size <= LONGEST:
            self._block.append(_text(text))
        return True

    def _finish_test(self) -> None:
        """Pass on the last test."""
        test, block, self._test, self._block = self._test, self._block, None, None
        if test is None:
            return
        if block is not None:
            data: dict[str, Any] = {**test.data, "yaml": "\n".join(block)}
            test = replace(test, message=test.message or _message(block), data=data)
        self._say(test, self._levels[-1])

    def _say(self, report: Report, level: _Level) -> None:
        if report.status == "fail" and level is not self._levels[0] and len(level.held) < HELD:
            level.held.append(report)
        else:
            self._out.append(report)

    # -- levels --------------------------------------------------------------------------------------------------------

    def _level(self, depth: int) -> _Level:
        """Return the level of an indentation, the last one then; a new one is named by the comment before it."""
        self._is_tap = True
        while len(self._levels) <= depth:
            parent = self._levels[-1]
            outer = len(self._levels) - 1
            title = self._titles.pop(outer, None)
            if title is None:
                title = self._titles.pop(outer + 1, None)
            name = _shortened(title) if title else f"test {parent.last + 1}"
            self._levels.append(_Level(f"{parent.prefix}{name}/", is_named=bool(title)))
        return self._levels[depth]

    def _close(self, depth: int, expected: str | None = None) -> None:
        """End the levels below one; ``expected`` is why the test that they make up may fail."""
        while len(self._levels) > depth + 1:
            level = self._levels[-1]
            if (problem := self._problem(level)) and (level.is_named or level.planned is not None or level.wrong):
                self._say(Report(f"{level.prefix}plan", "fail", problem), level)
            self._levels.pop()
            held = level.held
            if expected is not None and len(self._levels) == depth + 1:
                held = [replace(report, status="info", message=report.message or expected) for report in held]
            for report in held:
                self._say(report, self._levels[-1])

    def _plan(self, depth: int, planned: int, reason: str) -> None:
        self._close(depth)
        level = self._level(depth)
        if level.planned is not None:
            _once(level, "more than one plan")
        level.planned = planned
        if planned == 0:
            self._say(Report(f"{level.prefix}plan", "skip", reason), level)

    def _bail_out(self, reason: str) -> None:
        self._is_tap = True
        if not self._bailed_out:
            self._bailed_out = True
            self._out.append(Report("bail out", "error", reason))

    def _problem(self, level: _Level) -> str:
        """Return what is wrong with the tests of a level, or nothing."""
        if self._bailed_out:
            return ""
        if level.planned is None:
            said = ["there is no plan (1..N)"]
        elif level.planned != level.count:
            said = [f"{level.planned} planned, {level.count} came"]
        else:
            said = []
        return "; ".join(said + level.wrong)


def _once(level: _Level, problem: str) -> None:
    """Keep what is wrong with the order, unless there is much of it already."""
    if len(level.wrong) < 3:
        level.wrong.append(problem)
    elif len(level.wrong) == 3:
        level.wrong.append("and more")


def _verdict(failed: bool, directive: str, reason: str) -> tuple[str, str]:
    """Return status and message of a test."""
    if directive == "skip":
        return "skip", reason
    if directive == "todo":
        return ("info", reason) if failed else ("warn", f"passed unexpectedly: {reason}".rstrip(": "))
    return ("fail" if failed else "pass"), ""


def _directive(text: str) -> tuple[str, str, str]:
    """Split a description: the text itself, ``skip`` or ``todo`` or nothing, and the reason."""
    directive = reason = ""
    if "#" in text:
        for found in _DIRECTIVE.finditer(text):
            if len(found[1]) % 2 == 0:  # or the # itself is escaped
                directive, reason = found[2].lower(), text[found.end() :]
                text = text[: found.end(1)]
                break
    return _unescaped(text), directive, _unescaped(reason)


def _unescaped(text: str) -> str:
    return (_ESCAPED.sub(r"\1", text) if "\\" in text else text).strip()


def _message(block: list[str]) -> str:
    """Return what a block of diagnostics says as ``message``, where that is a word or a string on one line."""
    found = next((found for line in block if (found := _MESSAGE.fullmatch(line))), None)
    if found is None or found[1][0] in "|>&*!{[%@`#":
        return ""
    text: str = found[1]
    if text[0] == "'" == text[-1] and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[0] == '"':
        try:
            return str(json.loads(text)).encode(errors="backslashreplace").decode()  # it may name half a character
        except ValueError:
            return ""
    return text


def _number(digits: bytes) -> int:
    """Return a number; all that are absurd are one, since thousands of digits are an error in Python."""
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= 18 else _HUGE


def _shortened(text: str) -> str:
    return text if len(text) <= _NAME else text[:_NAME] + "…"


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")
