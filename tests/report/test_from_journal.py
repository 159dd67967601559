"""Reports are derived from the journal: whatever a run's results were, the report made of its record is that made live.

Not to be had from the record, and so different: values that only the run knew (exceptions as objects, data of reports that
JSON cannot say), and of the run what is the reporter's own: its title, jobs, when it was begun and how long it took.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pexen.model.result import BAD, LEVELS, Details, Ended, Failure, Output, Report, Result, Status
from pexen.model.task import Task
from pexen.report.base import Plan, Summary
from pexen.report.jsonl import JsonLines
from pexen.report.junit import JUnit
from pexen.state import plan, records
from pexen.state.journal import Journal
from pexen.state.reader import read
from tests.cli.tools import pexen, script, write
from tests.report.test_jsonl import joined
from tests.report.test_jsonl import read as read_lines
from tests.report.test_junit import PATHS, TEXTS, WORDS, XMLLINT, check, is_valid
from tests.state import hand

# The halves of a surrogate pair are one character to everybody who reads JSON, the journal's reader as well.
TEXTS, WORDS, PATHS = TEXTS.map(joined), WORDS.map(joined), PATHS.map(joined)
FINAL = [one for one in Status if one is not Status.UPTODATE]


# -- any results ------------------------------------------------------------------------------------------------------

DATA = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
        max_leaves=3,
    ),
    max_size=2,
)
REPORTS = st.lists(
    st.builds(Report, TEXTS, st.sampled_from(LEVELS), TEXTS, DATA, st.lists(WORDS, max_size=1).map(tuple)), max_size=3
).map(tuple)
FAILURES = st.none() | st.builds(Failure, WORDS, TEXTS, TEXTS)
SECONDS = st.floats(0, 1e6)


@st.composite
def ends(draw: st.DrawFn, folder: str, number: int) -> Ended:
    """An attempt as runs have them: what it has left is in the run's folder."""
    output = draw(st.none() | st.binary(min_size=1, max_size=40))
    kept = None
    if output is not None:
        file = Path(folder, "output", f"{draw(st.integers(1, 10**9))}.out")
        file.write_bytes(output)
        kept = Output(str(file), len(output), cut=draw(st.booleans()))
    return Ended(
        number, draw(st.sampled_from(FINAL)), draw(st.floats(1, 2e9)), draw(SECONDS), draw(FAILURES), draw(TEXTS), kept,
        draw(REPORTS), draw(TEXTS), draw(TEXTS),
        tuple(f"{folder}/files/{number}/{name}" for name in draw(st.lists(WORDS, max_size=2, unique=True))),
    )  # fmt: skip


@st.composite
def results(draw: st.DrawFn, folder: str, path: str) -> Result:
    status = draw(st.sampled_from(FINAL))
    waived = draw(TEXTS)
    original = draw(st.none() | st.sampled_from(FINAL))
    task = Task(print, path)
    earlier = tuple(draw(ends(folder, number)) for number in range(1, 1 + draw(st.integers(0, 2))))
    if draw(st.booleans()) and not earlier:  # it was never started
        reason, failure = draw(TEXTS), draw(FAILURES)
        about = Details(failure, reason, waived=waived, original=original)
        return Result(task, status, None, 0.0, 0.0, None if about == Details() else about)
    last = draw(ends(folder, len(earlier) + 1))
    about = Details(
        last.failure, last.reason, last.reports, earlier, waived=waived, original=original, output=last.output,
        leaked=last.leaked, evidence=last.evidence, artifacts=last.artifacts,
    )  # fmt: skip
    return Result(task, status, None, last.start, last.duration, None if about == Details() else about)


@st.composite
def runs(draw: st.DrawFn, folder: str) -> list[Result]:
    return [draw(results(folder, path)) for path in draw(st.lists(PATHS, max_size=4, unique=True))]


def recorded(folder: str, found: list[Result]) -> None:
    """Write a journal as a run with these results does."""
    with Journal(folder, durability="process") as journal:
        journal.append(hand.run())
        for one in found:
            journal.append(plan.task(one.task, "f" * 16))
        number = 0
        for one in found:
            for end in one.attempts:
                number += 1
                attempt = hand.attempt(one.path, end.number, number)
                journal.append(records.started(attempt, at=end.start))
                for report in end.reports:
                    journal.append(records.report(attempt, report))
                if end in one.details.earlier:
                    journal.append(records.ended(one.path, end, folder))
            journal.append(*records.result(one, folder))
        journal.append(records.end("done", {}, at=1.0))


def reported(folder: Path, name: str, found: list[Result], **options: bool) -> tuple[bytes, bytes]:
    """Return both reports of these results."""
    about = Plan([one.task for one in found], "title", 2)
    files = (folder / f"{name}.xml", folder / f"{name}.jsonl")
    for reporter in (
        JUnit(str(files[0]), clock=lambda: 1.7e9, **options),
        JsonLines(str(files[1]), clock=lambda: 1.7e9),
    ):
        reporter.begin(about)
        for one in found:
            reporter.finished(one)
        reporter.moment(list)
        reporter.end(Summary({one.path: one for one in found}, 12.5, ""))
    return files[0].read_bytes(), files[1].read_bytes()


@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_any_run_is_reported_from_its_record_as_it_was_live(tmp_path_factory, data, fold):
    folder = tmp_path_factory.getbasetemp() / "run"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "output").mkdir(parents=True)
    found = data.draw(runs(str(folder)))
    recorded(str(folder), found)
    record = read(folder)
    again = list(record.results())
    assert [one.path for one in again] == [one.path for one in found]
    live, later = (reported(folder, name, these, fold=fold) for name, these in (("live", found), ("later", again)))
    assert later == live, "byte for byte"
    check_xml(later[0], found, fold=fold)
    check_lines(folder / "later.jsonl", found)


def check_xml(text: bytes, found: list[Result], *, fold: bool) -> None:
    root = ET.fromstring(text)
    check(root)  # counts agree, names are unique
    (suite,) = root
    assert int(suite.get("tests")) == sum(1 + (0 if fold else len(one.reports)) for one in found)
    bad = sum(attempt.status in BAD for one in found for attempt in one.details.earlier)
    assert len(suite.findall("testcase/*[stackTrace]")) == bad


def check_lines(file: Path, found: list[Result]) -> None:
    first, *lines, last = read_lines(file)
    assert (first["tasks"], last["tasks"], sum(last["counts"].values())) == (len(found),) * 3
    for line, one in zip(lines, found, strict=True):
        assert (line["path"], line["status"], line["original"]) == (joined(one.path), one.status, one.original)
        assert [attempt["number"] for attempt in line["attempts"]] == [attempt.number for attempt in one.attempts]
        for attempt, end in zip(line["attempts"], one.attempts, strict=True):
            assert [report["name"] for report in attempt["reports"]] == [joined(report.name) for report in end.reports]
            assert attempt["reason"] == joined(end.reason)
            assert (attempt["error"] or {}).get("message") == (joined(end.failure.message) if end.failure else None)


def test_what_json_cannot_say_is_left_out_of_the_record_alone(tmp_path):
    report = Report("r", "warn", "slow", {"kept": [1], "object": object(), "nan": float("nan")})
    one = Result(Task(print, "a"), Status.WARNED, None, 1.0, 0.5, Details(reports=(report,)))
    recorded(str(tmp_path), [one])
    (again,) = read(tmp_path).results()
    assert again.reports[0].data == {"kept": [1]}
    _, live = reported(tmp_path, "live", [one])
    _, later = reported(tmp_path, "later", [again])
    assert b'"nan":"nan"' in live
    assert b'"data":{"kept":[1]}' in later
    assert re.sub(rb',"(object|nan)":"[^"]*"', b"", live) == later


# -- a real run -------------------------------------------------------------------------------------------------------

NASTY = "]]> & < \" ' \x1b[31m é 🙂 </testcase>"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of everything there is to be reported: sub-results, attempts, values, hostile names, output and messages."""
    write(tmp_path / "pexen.toml", "")
    script(
        tmp_path / "deep" / f"x{NASTY.replace('/', '')}.sh", "printf '%s\\n' \"$0\"; printf '\\0\\377\\033[2J'; exit 3"
    )
    script(
        tmp_path / "flaky.sh",
        f"echo try; [ -e {tmp_path}/second ] || {{ touch {tmp_path}/second; exit 1; }}",
        "retries = 1",
    )
    script(tmp_path / "twice.sh", "echo again; exit 1", "retries = 1")
    script(tmp_path / "gone.sh", meta='requires = ["/twice.sh"]')
    script(tmp_path / "dies.sh", "kill -SEGV $$")
    write(
        tmp_path / "pexenfile.py",
        f"""
        import pexen
        NASTY = {NASTY!r} + "\\x00\\udcff\\ufffe"
        @pexen.task
        def parts():
            run = pexen.current()
            for level in ("pass", "info", "warn", "fail", "skip"):
                run.report(NASTY, level, NASTY, data={{NASTY: [1, None, NASTY]}})
            return {{"any": 1}}
        @pexen.task(retries=1)
        def raises():
            pexen.current().report("attempt", "info", str(pexen.current().attempt))
            print(NASTY.encode("utf-8", "surrogateescape"))
            raise ValueError(NASTY)
        @pexen.task(xfail="known")
        def waived():
            assert not NASTY
        """,
    )
    return tmp_path


def without(text: str, *patterns: str) -> str:
    """Return a report without what is the reporter's own."""
    for pattern in patterns:
        text, count = re.subn(pattern, "…", text)
        assert count, pattern
    return text


OF_THE_SUITE = (r'(?<=<testsuites )name="[^"]*"', r'(?<=<testsuite )name="[^"]*"', r'time="[^"]*" timestamp="[^"]*"')
OF_THE_RUN = (r'"title":"[^"]*"', r'"jobs":\d+,"start":[\d.]+(?=\}\n)', r'"seconds":[\d.]+')


def test_a_report_of_a_real_run_is_the_one_that_it_wrote_itself(tree):
    run = pexen("run", "-q", "-j3", cwd=tree)
    assert run.returncode == 1, run.stderr
    assert "incomplete" not in run.stderr
    live = tree / ".pexen" / "latest"
    done = pexen("report", "--report", f"junit:{tree}/later.xml", "--report", f"jsonl:{tree}/later.jsonl", cwd=tree)
    assert done.returncode == 0, done.stderr
    later = (tree / "later.xml").read_text()
    assert without(later, *OF_THE_SUITE) == without((live / "report.xml").read_text(), *OF_THE_SUITE)
    lines = (tree / "later.jsonl").read_text()
    assert without(lines, *OF_THE_RUN) == without((live / "report.jsonl").read_text(), *OF_THE_RUN)
    check_contents(later, lines)
    if XMLLINT:
        assert is_valid(later.encode())
    with contextlib.suppress(ImportError):
        check_others_read_it(tree / "later.xml")


def check_contents(text: str, lines: str) -> None:
    root = ET.fromstring(text)
    check(root)
    cases = root[0].findall("testcase")
    assert [case.get("classname") for case in cases].count("parts") == 5, "its sub-results"
    kinds = [child.tag for case in cases for child in case]
    assert (kinds.count("flakyFailure"), kinds.count("rerunFailure"), kinds.count("rerunError")) == (1, 1, 1)
    assert kinds.count("skipped") == 2
    told = {one["path"]: one for one in map(json.loads, lines.splitlines()) if one["kind"] == "result"}
    assert {path: len(one["attempts"]) for path, one in told.items() if len(one["attempts"]) != 1} == {
        "flaky.sh": 2, "twice.sh": 2, "raises": 2, "gone.sh": 0,
    }  # fmt: skip
    assert [one["reports"][0]["message"] for one in told["raises"]["attempts"]] == ["1", "2"]
    assert told["raises"]["error"]["message"] == NASTY + "\x00\udcff\ufffe"
    assert (told["waived"]["status"], told["waived"]["original"]) == ("passed", "failed")


def check_others_read_it(file: Path) -> None:
    import junitparser

    suites = junitparser.JUnitXml.fromfile(str(file))
    cases = [case for suite in suites for case in suite]
    assert len(cases) == sum(suite.tests for suite in suites) > 10
    assert len({(case.classname, case.name) for case in cases}) == len(cases)
    assert sum(any(isinstance(one, junitparser.Failure) for one in case.result) for case in cases) == sum(
        suite.failures for suite in suites
    )


# -- half of it -------------------------------------------------------------------------------------------------------


def test_a_file_that_takes_no_more_ends_with_a_whole_line(tmp_path):
    """A limit, since a disk that is full takes a part of a line as well."""
    code = """
import sys
from tests.report import test_from_journal as it
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    it.reported_to(sys.argv[1])
except OSError as error:
    print(error.strerror)
"""
    for limit in (100, 2500, 4000, 9000):
        file = tmp_path / f"{limit}.jsonl"
        done = subprocess.run(
            [sys.executable, "-c", code, file, str(limit)], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.stdout == "File too large\n", done.stderr
        data = file.read_bytes()
        assert data.endswith(b"\n")
        assert limit // 3 < len(data) <= limit
        lines = [json.loads(line)["kind"] for line in data.splitlines()]
        assert lines == ["run", *["result"] * (len(lines) - 1)]


def reported_to(file: str) -> None:
    found = [Result(Task(print, f"t{n}"), Status.FAILED, None, 1.0, 0.5, Details(reason="x" * 500)) for n in range(9)]
    reporter = JsonLines(file)
    reporter.begin(Plan([], "t"))
    for one in found:
        reporter.finished(one)
        reporter.moment(list)
    reporter.end(Summary({one.path: one for one in found}, 1.0))
