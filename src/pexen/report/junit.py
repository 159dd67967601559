"""JUnit XML, for CI servers: the dialect that pytest calls xunit2, valid by the schema known as junit-10.

A task is a testcase whose ``classname`` is the dotted folder path; each of its reports is one more, whose ``classname`` is the
dotted path of the task. Readers keep only the first of two with the same names, so the second is called ``name#2``. The
testcases are sorted by path, so that a name means the same in every run, whatever finished first.

**Size.** Readers refuse files above some 30 MB. Everything that may be long (tracebacks, output) is a `Part`, cut to its
beginning and end at one length that is as large as the file allows, at most `LONGEST`; what belongs to failures is served
first. Output is read from its file only as far as it is shown. Beyond some 100,000 testcases their names alone need
more; nobody is left out.

**Text** is anybody's. What a terminal would obey is made visible as on the console, so is what XML has no way to say, in
names before they are compared. No library writes the file: ElementTree writes characters that it cannot read back.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pexen.model.result import BAD, Ended, Failure, Output, Report, Result, Status
from pexen.report.base import Look, Plan, Summary
from pexen.report.files import replacing
from pexen.report.jsonl import plain
from pexen.report.text import first_line, visible

LIMIT = 30_000_000
"""Bytes of the whole file, however much there is to say."""
LONGEST = 64 << 10
"""Bytes of one traceback or output."""
ROOT = "(root)"
"""The class name of what stands in no folder; readers cannot show an empty one."""
_LONGEST_NAME = 1000
_ENDS = 200
"""Bytes of the file besides testcases and what stands in its first lines."""

_VERDICTS = {
    Status.FAILED: "failure", Status.ERROR: "error", Status.TIMEOUT: "error", Status.CRASHED: "error",
    Status.LOST: "error", Status.SKIPPED: "skipped", Status.CANCELLED: "skipped",
}  # fmt: skip
_REPORT_VERDICTS = {"fail": "failure", "error": "error", "skip": "skipped"}


class JUnit:
    """The reporter for CI servers; writes ``file`` when the run is over.

    ``fold``: reports are no testcases of their own but lines of their task's output. ``clock`` is seconds since the epoch.
    """

    def __init__(
        self, file: str, *, fold: bool = False, limit: int = LIMIT, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = file
        self._fold = fold
        self._limit = limit
        self._clock = clock
        self._title = ""
        self._start = 0.0

    def begin(self, plan: Plan) -> None:
        """Note what is run, and when."""
        self._title, self._start = plan.title, plan.began or self._clock()

    def finished(self, result: Result) -> None:
        """Keep nothing; at the end all results are there."""

    def moment(self, look: Look) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Leave it to others."""

    def end(self, summary: Summary) -> None:
        """Write the file."""
        results = sorted(summary.results.values(), key=lambda one: one.path.split("/"))
        survey = _Survey()
        for case in _cases(results, fold=self._fold):
            survey.add(case)
        names = unique(survey.names)
        head = self._head(survey, summary)
        longer = sum(len(name) - len(pair[1]) for name, pair in zip(names, survey.names, strict=True))
        levels = survey.levels(self._limit - len(head) - longer - _ENDS)
        with replacing(self._file) as file:
            file.write(head)
            for case, name in zip(_cases(results, fold=self._fold), names, strict=True):
                file.write(_element(case, name, levels[case.is_bad]))
            file.write(b"</testsuite></testsuites>\n")

    def _head(self, survey: _Survey, summary: Summary) -> bytes:
        """Return everything before the first testcase."""
        from datetime import UTC, datetime

        title = visible_name(self._title) or "pexen"
        start = datetime.fromtimestamp(self._start, UTC).astimezone()
        suite = _tag(
            "testsuite", name=title, tests=len(survey.names), failures=survey.verdicts["failure"],
            errors=survey.verdicts["error"], skipped=survey.verdicts["skipped"], time=_seconds(summary.seconds),
            timestamp=start.isoformat(timespec="seconds"), hostname=os.uname().nodename,
        )  # fmt: skip
        lines = ['<?xml version="1.0" encoding="utf-8"?>', _tag("testsuites", name=title), suite]
        if summary.stopped:
            stopped = _tag("property", name="stopped", value=first_line(summary.stopped))
            lines.append(f"<properties>{stopped}</property></properties>")
        return "\n".join([*lines, ""]).encode()


# -- what there is to say ---------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A text that may be long: ``text``, then what is in the file of ``output``."""

    text: str = ""
    output: Output | None = None

    @property
    def most(self) -> int:
        """The bytes it may need at most: each byte of output becomes up to 5, each character of text up to 10."""
        return 10 * len(self.text) + (5 * self.output.size if self.output else 0)


class Verdict(NamedTuple):
    """An element of a testcase that says how something ended."""

    tag: str
    type: str
    message: str
    body: Part


class Rerun(NamedTuple):
    """An earlier attempt: how it ended, its traceback in ``body``, and what it printed."""

    tag: str
    type: str
    message: str
    body: Part
    printed: Part


class Case(NamedTuple):
    """A testcase."""

    classname: str
    name: str
    seconds: float
    verdict: Verdict | None
    reruns: Sequence[Rerun] = ()
    printed: Part = Part()

    @property
    def is_bad(self) -> bool:
        """Whether somebody will want to read it."""
        return bool(self.reruns) or (self.verdict is not None and self.verdict.tag != "skipped")

    @property
    def parts(self) -> Iterator[Part]:
        """Its parts, those in which something is."""
        found = [self.printed, *(part for one in self.reruns for part in (one.body, one.printed))]
        found += [self.verdict.body] if self.verdict else []
        return (part for part in found if part.most)


def _cases(results: Iterable[Result], *, fold: bool) -> Iterator[Case]:
    """Yield the testcases: each result, followed by its reports."""
    for result in results:
        yield _of_result(result, fold=fold)
        if not fold and result.reports:
            waived = "" if result.status in BAD else result.waived
            yield from (_of_report(report, _dotted(result.path), waived) for report in result.reports)


def _of_result(result: Result, *, fold: bool) -> Case:
    folder, _, name = result.path.rpartition("/")
    folder, name = _dotted(folder) or ROOT, visible_name(name)
    about, status = result.details, result.status
    if status is Status.PASSED and not (
        about.reports or about.earlier or about.waived or about.leaked or about.artifacts
    ):
        return Case(folder, name, result.duration, None, (), Part("", about.output))  # nearly all of them
    account = _account(about.reason or result.waived, about.failure, about.reports, about.evidence)
    verdict, notes = None, [f"{status}, was {result.original}: {result.waived}" if result.waived else ""]
    if tag := _VERDICTS.get(status):
        account = account or [status.value]
        kind = about.failure.type if about.failure else status.value
        verdict = Verdict(tag, kind, first_line(account[0]) or status.value, Part(_lines(account)))
    elif status is not Status.PASSED or result.waived:
        notes += [*account, "up to date" if status is Status.UPTODATE else ""]
    notes += [_told(one) for one in about.reports if fold or one.status == "warn"]
    notes += [f"left behind: {result.leaked}" if result.leaked else ""]
    notes += [_attached(file) for file in result.artifacts]
    kind = "flaky" if result.original.is_success else "rerun"
    reruns = [_of_attempt(one, kind) for one in about.earlier if one.status in BAD]
    return Case(folder, name, result.duration, verdict, reruns, Part(_lines(notes), about.output))


def _of_attempt(attempt: Ended, kind: str) -> Rerun:
    account = _account(attempt.reason, attempt.failure, attempt.reports, attempt.evidence) or [attempt.status.value]
    account[0] = f"attempt {attempt.number}: {account[0]}"
    type_ = attempt.failure.type if attempt.failure else attempt.status.value
    tag = kind + _VERDICTS[attempt.status].title()
    return Rerun(tag, type_, first_line(account[0]), Part(_lines(account)), Part("", attempt.output))


def _of_report(report: Report, classname: str, waived: str) -> Case:
    name = visible_name(report.name) or report.status
    account = _told(report, named=False) if report.message or report.data or report.files else ""
    tag = _REPORT_VERDICTS.get(report.status)
    if tag and (not waived or tag == "skipped"):
        body = Part(account or report.status)
        return Case(
            classname, name, 0.0, Verdict(tag, report.status, first_line(report.message) or report.status, body)
        )
    notes = [waived, account or report.status] if tag else [account]
    return Case(classname, name, 0.0, None, (), Part(_lines(notes)))


def _account(reason: str, failure: Failure | None, reports: Sequence[Report], evidence: str) -> list[str]:
    """Return everything that is known of why it did not simply pass: first what says it in a line."""
    bad = [_told(one) for level in ("error", "fail") for one in reports if one.status == level]
    found = [reason, str(failure) if failure else "", failure.traceback if failure else "", *bad, evidence]
    return [text for text in found if text.strip()]


def _told(report: Report, *, named: bool = True) -> str:
    """Return a report as text: ``warn quota: too slow``, its data, its files."""
    head = f"{report.status} {report.name}" if named else report.status
    lines = [f"{head}: {report.message}" if report.message else head]
    lines += [f"data: {json.dumps(plain(report.data), ensure_ascii=False)}"] if report.data else []
    return "\n".join([*lines, *map(_attached, report.files)])


def _attached(file: str) -> str:
    """Return what the plugins of CI servers look for to show a file with the testcase."""
    return f"[[ATTACHMENT|{file}]]"


def _dotted(path: str) -> str:
    return visible_name(path).replace("/", ".")


def _lines(texts: Iterable[str]) -> str:
    """Join texts, each on lines of its own, without those that say nothing or the same again."""
    return "".join(text if text.endswith("\n") else text + "\n" for text in dict.fromkeys(filter(None, texts)))


def unique(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a name for each pair of class name and name, changed where the pair has been there before.

    Whoever has a pair first keeps it, also where a changed name would be the same.
    """
    taken, seen = set(pairs), set[tuple[str, str]]()
    counts: dict[tuple[str, str], int] = {}
    names = []
    for pair in pairs:
        classname, name = pair
        if pair in seen:
            number = counts.get(pair, 1) + 1
            while (classname, f"{name}#{number}") in taken:
                number += 1
            counts[pair] = number
            name = f"{name}#{number}"
            taken.add((classname, name))
        seen.add(pair)
        names.append(name)
    return names


# -- how much of it fits ----------------------------------------------------------------------------------------------


class _Survey:
    """What is known of all testcases before the first one is written: names, counts, sizes."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self.verdicts = dict.fromkeys(("failure", "error", "skipped"), 0)
        self._bones = 0
        self._sizes: dict[bool, list[int]] = {True: [], False: []}

    def add(self, case: Case) -> None:
        """Take note of a testcase."""
        self.names.append((case.classname, case.name))
        if case.verdict:
            self.verdicts[case.verdict.tag] += 1
        self._bones += len(_element(case, case.name, 0))
        self._sizes[case.is_bad] += [min(part.most, LONGEST) for part in case.parts]

    def levels(self, limit: int) -> dict[bool, int]:
        """Return the bytes that each part may have in bad testcases (True) and in others, for all to fit into ``limit``."""
        left = limit - self._bones
        levels = {}
        for is_bad in (True, False):
            sizes = self._sizes[is_bad]
            level = levels[is_bad] = _level(sizes, left)
            left -= sum(min(size, level) for size in sizes)
        return levels


def _level(sizes: Iterable[int], limit: int) -> int:
    """Return the length to which all must be cut for their sum to fit: the short ones leave room to the long ones."""
    ordered = sorted(sizes)
    for rank, size in enumerate(ordered):
        share = max(limit, 0) // (len(ordered) - rank)
        if size > share:
            return share
        limit -= size
    return LONGEST


# -- XML --------------------------------------------------------------------------------------------------------------

_NO_XML = re.compile("[\ufffe\uffff]")
"""What XML cannot say although terminals take it."""
_CUT_AFTER, _CUT_BEFORE = re.compile(rb"[\xc0-\xff][\x80-\xbf]{0,2}\Z"), re.compile(rb"\A[\x80-\xbf]{1,3}")
"""What may be left of a character of UTF-8 that was cut in two."""
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_QUOTED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;"})


def _element(case: Case, name: str, level: int) -> bytes:
    """Return a testcase whose parts have at most ``level`` bytes each, and a line for each that is cut."""
    start = _tag("testcase", classname=case.classname, name=name, time=_seconds(case.seconds)).encode()
    inside = []
    if case.verdict:
        inside.append(_verdict(case.verdict, _shown(case.verdict.body, level)))
    for one in case.reruns:
        stack = _wrapped("stackTrace", _shown(one.body, level))
        inside.append(_verdict(one, stack + _wrapped("system-out", _shown(one.printed, level))))
    inside.append(_wrapped("system-out", _shown(case.printed, level)))
    text = b"".join(inside)
    return b"%s%s</testcase>\n" % (start, text) if text else start[:-1] + b"/>\n"


def _verdict(verdict: Verdict | Rerun, inside: bytes) -> bytes:
    start = _tag(verdict.tag, type=visible_name(verdict.type), message=verdict.message).encode()
    return b"%s%s</%s>" % (start, inside, verdict.tag.encode())


def _wrapped(tag: str, inside: bytes) -> bytes:
    return b"<%s>%s</%s>" % (tag.encode(), inside, tag.encode()) if inside else b""


def _tag(tag: str, **attributes: object) -> str:
    words = [f'{key}="{_sayable(visible(str(value))).translate(_QUOTED)}"' for key, value in attributes.items()]
    return f"<{' '.join([tag, *words])}>"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if 0 < seconds < 1e12 else "0.000"


def visible_name(text: str) -> str:
    """Return a name as it is written and compared."""
    shown = _sayable(visible(text))
    return shown if len(shown) <= _LONGEST_NAME else shown[:_LONGEST_NAME] + "…"


def _sayable(text: str) -> str:
    return text if text.isprintable() else _NO_XML.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _as_xml(text: str) -> bytes:
    """Return a text of several lines as it stands between tags."""
    lines = (visible(line.removesuffix("\r")) for line in text.split("\n"))
    return _sayable("\n".join(lines)).translate(_ESCAPED).encode()


def _shown(part: Part, level: int) -> bytes:
    """Return a part, only its beginning and end when it needs more than ``level`` bytes."""
    if not part.most:
        return b""
    level = min(level, part.most)  # somebody may still be writing to the file
    head, tail = level // 3, level - level // 3
    begin, end = _ends(part, head, tail) if level > 0 else ("", "")
    if end is None:
        text = _as_xml(begin)
        if len(text) <= level:
            return text
        end = begin
    size = len(part.text) + (part.output.size if part.output else 0)
    cut = b"\n[... cut, of about %d bytes ...]\n" % size
    return _beginning(_as_xml(begin), head) + cut + _end(_as_xml(end), tail)


def _ends(part: Part, head: int, tail: int) -> tuple[str, str | None]:
    """Return that many characters from both ends of a part; all of it and None when it has no more.

    Nothing becomes shorter on its way into XML but the ends of lines, and little of it.
    """
    begin = end = part.text
    if part.output and part.output.size:
        first, last = _read(part.output.path, head + tail)
        begin += first.decode(errors="backslashreplace")
        end = begin if last is None else last.decode(errors="backslashreplace")
        if last is None and len(begin) <= head + tail:
            return begin, None
    elif len(begin) <= head + tail:
        return begin, None
    return begin[:head], end[-tail:]


def _read(path: str, many: int) -> tuple[bytes, bytes | None]:
    """Return that many bytes from both ends of a file, or all of it and None; nothing of a file that is gone."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= 2 * many:
                return file.read(2 * many), None
            first = _CUT_AFTER.sub(b"", file.read(many))
            file.seek(-many, 2)
            return first, _CUT_BEFORE.sub(b"", file.read(many))
    except OSError:
        return b"", None


def _beginning(text: bytes, most: int) -> bytes:
    """Return the beginning of XML text, without an entity or a character that is cut in two."""
    if len(text) <= most:
        return text
    return re.sub(rb"&[^;]{0,5}\Z", b"", text[:most]).decode(errors="ignore").encode()


def _end(text: bytes, most: int) -> bytes:
    """Return the end of XML text, likewise."""
    start = len(text) - most
    if start <= 0:
        return text
    amp = text.rfind(b"&", max(0, start - 5), start)
    if amp >= 0 and (semicolon := text.find(b";", amp)) >= start:
        start = semicolon + 1
    return text[start:].decode(errors="ignore").encode()
