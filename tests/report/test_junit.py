"""JUnit XML is valid and readable whatever tasks call themselves, say and print, and says of each result what became of it."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pexen.model.result import BAD, LEVELS, Details, Ended, Failure, Output, Report, Result, Status
from pexen.model.task import Task
from pexen.report import junit
from pexen.report.base import Plan, Summary
from pexen.report.files import begun, replacing
from pexen.report.junit import JUnit, unique
from pexen.report.text import visible

SCHEMA = Path(__file__).with_name("junit-10.xsd")
XMLLINT = shutil.which("xmllint")


def result(path, status=Status.PASSED, duration=0.5, *, start=1.0, **details):
    return Result(
        Task(print, path), status, None, start if duration else 0, duration, Details(**details) if details else None
    )


def write(file, results, *, plan=None, seconds=1.5, stopped="", **options):
    """Report these results and return the suite, after having checked that it is as the schema demands."""
    reporter = JUnit(str(file), clock=lambda: 1700000000.0, **options)
    reporter.begin(plan or Plan([one.task for one in results], "tree"))
    for one in results:
        reporter.finished(one)
    reporter.moment(list)
    reporter.note("well")
    reporter.end(Summary({one.path: one for one in results}, seconds, stopped))
    root = ET.parse(file).getroot()
    check(root)
    return root[0]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "junit.xml"


@pytest.fixture
def printed(tmp_path):
    def make(data, name="out"):
        out = tmp_path / name
        out.write_bytes(data)
        return Output(str(out), len(data))

    return make


# -- the schema, without anything that knows schemas ------------------------------------------------------------------

ATTRIBUTES = {
    "testsuites": {"name": r".+"},
    "testsuite": {
        "name": r".+", "tests": r"\d+", "failures": r"\d+", "errors": r"\d+", "skipped": r"\d+", "time": r"\d+\.\d{3}",
        "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", "hostname": r".*",
    },
    "testcase": {"classname": r".+", "name": r".+", "time": r"\d+\.\d{3}"},
    "properties": {},
    "property": {"name": r".+", "value": r".*"},
    "system-out": {},
    "stackTrace": {},
    **{
        tag: {"type": r".+", "message": r".+"}
        for tag in ("failure", "error", "skipped", "rerunFailure", "rerunError", "flakyFailure", "flakyError")
    },
}  # fmt: skip
_ATTEMPT = r"(stackTrace )?(system-out )?"
CHILDREN = {
    "testsuites": r"testsuite ",
    "testsuite": r"(properties )?(testcase )*",
    "testcase": r"(failure |error |skipped )?((rerun(Failure|Error) )*|(flaky(Failure|Error) )*)(system-out )?",
    "properties": r"(property )+",
    "rerunFailure": _ATTEMPT,
    "rerunError": _ATTEMPT,
    "flakyFailure": _ATTEMPT,
    "flakyError": _ATTEMPT,
}
TEXT = {"failure", "error", "skipped", "system-out", "stackTrace"}


def check(root):
    """Check everything that the schema in the file beside this one says, and what no schema can say."""
    for element in root.iter():
        assert set(element.attrib) == set(ATTRIBUTES[element.tag]), element
        for name, pattern in ATTRIBUTES[element.tag].items():
            assert re.fullmatch(pattern, element.get(name), re.DOTALL), (element, name, element.get(name))
        inside = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(CHILDREN.get(element.tag, ""), inside), (element, inside)
        if element.tag not in TEXT:
            assert not (element.text or "").strip()
        assert not (element.tail or "").strip()
    suite = root[0]
    cases = suite.findall("testcase")
    assert int(suite.get("tests")) == len(cases)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(attribute)) == len(suite.findall(f"testcase/{tag}"))
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(names) == len(set(names))


def case_of(suite, classname, name):
    (found,) = [one for one in suite.iter("testcase") if (one.get("classname"), one.get("name")) == (classname, name)]
    return found


def out_of(case):
    return case.findtext("system-out") or ""


BROKEN = [
    '<testcase classname="a" name="b"/>',
    '<testcase classname="a" name="b" time="1"/>',
    '<testcase classname="" name="b" time="1.000"/>',
    '<testcase classname="a" name="b" time="1.000" file="x"/>',
    '<testcase classname="a" name="b" time="1.000">text</testcase>',
    '<testcase classname="a" name="b" time="1.000"><system-out/><failure type="a" message="b"/></testcase>',
    '<testcase classname="a" name="b" time="1.000"><failure type="a" message="b"/><error type="a" message="b"/></testcase>',
    '<testcase classname="a" name="b" time="1.000"><failure message="b"/></testcase>',
    '<testcase classname="a" name="b" time="1.0"/>',
    '<testcase classname="a" name="b" time="1.000"><flakyError type="a" message="b"/><flakyError type="" message=""/></testcase>',
    '<testcase classname="a" name="b" time="1.000"><flakyError type="a" message="b"/><rerunError type="" message=""/></testcase>',
    '<testcase classname="a" name="b" time="1.000"><rerunError type="a" message="b">text</rerunError></testcase>',
    '<testcase classname="a" name="b" time="1.000"><properties/></testcase>',
]


@pytest.mark.parametrize("case", BROKEN)
def test_what_checks_the_reports_would_find_mistakes(case, file):
    write(file, [result("x"), result("y")])
    text = re.sub(r"<testcase.*/>\n<testcase", f"{case}\n<testcase", file.read_text(), count=1)
    assert case in text
    with pytest.raises(AssertionError):
        check(ET.fromstring(text))
    if XMLLINT:
        assert not is_valid(text.encode())


def is_valid(text):
    run = subprocess.run([XMLLINT, "--noout", "--schema", SCHEMA, "-"], input=text, capture_output=True, check=False)
    return run.returncode == 0


# -- what it says -----------------------------------------------------------------------------------------------------


def many(printed):
    """Return a result of every kind."""
    failure = Failure("ValueError", "no such thing", "Traceback:\n  here\nValueError: no such thing\n")
    reports = tuple(Report(level, level, f"{level} it is", {"n": 1}, ("x.log",)) for level in LEVELS)
    earlier = tuple(
        Ended(number, status, 1.0, 0.1, failure, "", printed(b"try %d\n" % number, f"try{number}"))
        for number, status in enumerate((Status.FAILED, Status.TIMEOUT, Status.CANCELLED), 1)
    )
    results = [result(f"status/{one}", one, reason=f"is {one}") for one in Status]
    results += [result(f"bare/{one}", one) for one in Status]
    return [
        *results,
        result("a/b/raises", Status.ERROR, failure=failure, output=printed(b"hello\n")),
        result("a/b/reports", Status.ERROR, reports=reports),
        result("flaky", Status.WARNED, earlier=earlier, leaked="2 processes (sleep, sh)"),
        result("again", Status.FAILED, earlier=earlier, reason="exit code 1", evidence="asleep\n"),
        result("waived", Status.WARNED, original=Status.FAILED, waived="issue 7", reports=reports, failure=failure),
        result("xpass", Status.FAILED, original=Status.PASSED, waived="it was to fail", earlier=earlier),
        result("kept", artifacts=("/tmp/core",)),
    ]


@pytest.mark.parametrize("fold", [False, True])
def test_it_is_valid(file, printed, fold):
    write(file, many(printed), fold=fold, stopped="interrupted")
    if XMLLINT:
        assert is_valid(file.read_bytes())
    try:
        import junitparser
    except ImportError:
        return
    read = junitparser.JUnitXml.fromfile(str(file))
    assert sum(suite.tests for suite in read) == sum(len(list(suite)) for suite in read) > 20


def test_the_suite(file):
    suite = write(file, [result("a", duration=0.25)], seconds=3725.12345, stopped="interrupted\nreally")
    assert suite.get("name") == "tree"
    assert suite.get("time") == "3725.123"
    assert suite.get("timestamp").startswith("2023-11-1")
    assert suite.get("hostname") == os.uname().nodename
    assert suite.find("properties/property").attrib == {"name": "stopped", "value": "interrupted"}
    assert ET.tostring(suite.find("testcase")).strip() == b'<testcase classname="(root)" name="a" time="0.250" />'


def test_names_are_those_of_the_tree_and_sorted_by_it(file):
    reports = (Report("read"), Report("acl"))
    suite = write(file, [result("z"), result("kernel/fs/quota.sh", reports=reports), result("kernel/fs-x/a")])
    assert [(one.get("classname"), one.get("name")) for one in suite.iter("testcase")] == [
        ("kernel.fs", "quota.sh"),
        ("kernel.fs.quota.sh", "read"),
        ("kernel.fs.quota.sh", "acl"),
        ("kernel.fs-x", "a"),
        ("(root)", "z"),
    ]


VERDICTS = {
    "passed": None, "uptodate": None, "warned": None, "skipped": "skipped", "cancelled": "skipped", "failed": "failure",
    "error": "error", "timeout": "error", "crashed": "error", "lost": "error",
}  # fmt: skip


@pytest.mark.parametrize("status", Status)
def test_what_each_status_becomes(file, status):
    tag = VERDICTS[status]
    suite = write(file, [result("d/a", status, reason="for\nreasons"), result("d/b", status)])
    case, bare = suite.findall("testcase")
    assert [one.tag for one in case if one.tag != "system-out"] == ([tag] if tag else [])
    if tag:
        assert case[0].attrib == {"type": status, "message": "for"}
        assert case[0].text == "for\nreasons\n"
        assert bare[0].attrib == {"type": status, "message": status}
        assert bare[0].text == f"{status}\n"


def test_an_exception_is_there_with_message_and_traceback(file):
    failure = Failure("ValueError", "a < b\nand so on", "Traceback\n  line\nValueError: a < b\nand so on")
    (case,) = write(file, [result("a", Status.ERROR, failure=failure, evidence="asleep")])
    (error,) = case
    assert error.attrib == {"type": "ValueError", "message": "ValueError: a < b"}
    assert error.text == f"{failure}\n{failure.traceback}\nasleep\n"


REPORTED = [
    ("pass", None), ("info", None), ("warn", None), ("fail", "failure"), ("error", "error"), ("skip", "skipped"),
]  # fmt: skip


@pytest.mark.parametrize(("level", "tag"), REPORTED)
def test_reports_are_testcases_of_their_own(file, level, tag):
    report = Report("acl", level, "said\nmore", {"n": [1, None]}, ("x.log",))
    suite = write(file, [result("d/a", reports=(report, Report("bare", level)))])
    case, bare = case_of(suite, "d.a", "acl"), case_of(suite, "d.a", "bare")
    told = f'{level}: said\nmore\ndata: {{"n": [1, null]}}\n[[ATTACHMENT|x.log]]'
    assert [one.tag for one in case] == [tag or "system-out"]
    assert case[0].text.strip() == told
    if tag:
        assert case[0].attrib == {"type": level, "message": "said"}
        assert bare[0].attrib == {"type": level, "message": level}
    else:
        assert len(bare) == 0


def test_the_worst_report_is_the_reason_of_its_task(file):
    reports = (Report("quota", "fail", "slow"), Report("acl", "error", "no such file"))
    case = case_of(write(file, [result("a", Status.ERROR, reports=reports)]), "(root)", "a")
    assert case.find("error").get("message") == "error acl: no such file"
    assert "fail quota: slow" in case.find("error").text


def test_reports_can_be_folded_into_their_task(file):
    reports = (Report("read", "pass"), Report("acl", "fail", "denied"), Report("quota", "warn", "slow"))
    (case,) = write(file, [result("d/a", Status.FAILED, reports=reports)], fold=True)
    assert case.find("failure").get("message") == "fail acl: denied"
    assert out_of(case) == "pass read\nfail acl: denied\nwarn quota: slow\n"


def test_warnings_leaks_and_artifacts_are_in_the_output(file, printed):
    about = {
        "reports": (Report("quota", "warn", "slow"),), "leaked": "1 process (sleep)", "artifacts": ("/tmp/core",),
        "output": printed(b"hello\r\n"),
    }  # fmt: skip
    case = case_of(write(file, [result("a", Status.WARNED, **about)]), "(root)", "a")
    assert [one.tag for one in case] == ["system-out"]
    assert out_of(case) == "warn quota: slow\nleft behind: 1 process (sleep)\n[[ATTACHMENT|/tmp/core]]\nhello\n"


def test_a_waived_failure_is_no_failure_and_says_so(file):
    failure = Failure("AssertionError", "1 != 2", "Traceback")
    about = {
        "original": Status.FAILED,
        "waived": "issue 7",
        "failure": failure,
        "reports": (Report("acl", "fail", "denied"),),
    }
    suite = write(file, [result("a", Status.WARNED, **about), result("b", Status.PASSED, **about)])
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "0", "0")
    assert out_of(case_of(suite, "(root)", "a")).startswith("warned, was failed: issue 7\n")
    assert "AssertionError: 1 != 2\nTraceback\n" in out_of(case_of(suite, "(root)", "b"))
    assert out_of(case_of(suite, "a", "acl")) == "issue 7\nfail: denied\n"


def test_an_unexpected_success_is_the_failure_that_it_was_made(file):
    (case,) = write(file, [result("a", Status.FAILED, original=Status.PASSED, waived="it was expected to fail")])
    assert case.find("failure").attrib == {"type": "failed", "message": "it was expected to fail"}
    assert out_of(case) == "failed, was passed: it was expected to fail\n"


@pytest.mark.parametrize(
    ("last", "kind"), [(Status.PASSED, "flaky"), (Status.FAILED, "rerun"), (Status.SKIPPED, "rerun")]
)
def test_earlier_attempts(file, printed, last, kind):
    earlier = (
        Ended(1, Status.FAILED, 1.0, 0.1, Failure("TaskFail", "no", "Trace"), "", printed(b"first\n")),
        Ended(2, Status.CANCELLED, 1.0, 0.1),
        Ended(3, Status.CRASHED, 1.0, 0.1, None, "signal 11", None, (Report("acl", "fail"),)),
    )
    (case,) = write(file, [result("a", last, earlier=earlier)])
    first, second = case.findall(f"{kind}Failure") + case.findall(f"{kind}Error")
    assert first.attrib == {"type": "TaskFail", "message": "attempt 1: TaskFail: no"}
    assert first.findtext("stackTrace") == "attempt 1: TaskFail: no\nTrace\n"
    assert first.findtext("system-out") == "first\n"
    assert second.attrib == {"type": "crashed", "message": "attempt 3: signal 11"}
    assert second.findtext("stackTrace") == "attempt 3: signal 11\nfail acl\n"
    assert second.find("system-out") is None


def test_a_waived_failure_that_was_tried_again_did_not_succeed_in_the_end(file):
    about = {"original": Status.FAILED, "waived": "issue 7", "earlier": (Ended(1, Status.FAILED, 1.0, 0.1),)}
    (case,) = write(file, [result("a", Status.WARNED, **about)])
    assert [one.tag for one in case] == ["rerunFailure", "system-out"]


def test_what_is_said_twice_is_written_once(file):
    failure = Failure("TaskFail", "no", "TaskFail: no")
    (case,) = write(file, [result("a", Status.FAILED, failure=failure, reason="TaskFail: no")])
    assert case.find("failure").text == "TaskFail: no\n"


# -- hostile text -----------------------------------------------------------------------------------------------------

TEXTS = st.text(
    "ab]]>><&\"' \x1b\0\x0b\x7f\x85\u202e\u2028\ud800\udcff\ufffe\uffff\ufeff\U000e0041🙂é\r\t\n;#2/", max_size=8
) | st.sampled_from(["]]>", "<![CDATA[", "&amp;", "<!--", "\r\n", "</testcase>", "x", "x#2", ""])
WORDS = TEXTS.map(lambda text: re.sub("[\0\n/]", "", text) or "x").filter(lambda text: text not in {".", ".."})
PATHS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
FAILURES = st.none() | st.builds(Failure, WORDS, TEXTS, TEXTS)
REPORTS = st.lists(
    st.builds(Report, TEXTS, st.sampled_from(LEVELS), TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=1)), max_size=3
)
ENDED = st.builds(
    Ended, st.integers(1, 9), st.sampled_from(Status), st.just(1.0), st.floats(0, 9), FAILURES, TEXTS, st.none(),
    REPORTS.map(tuple),
)  # fmt: skip
DETAILS = st.builds(
    Details, failure=FAILURES, reason=TEXTS, reports=REPORTS.map(tuple), earlier=st.lists(ENDED, max_size=2).map(tuple),
    leaked=TEXTS, evidence=TEXTS, artifacts=st.lists(TEXTS, max_size=1).map(tuple), original=st.none() | st.sampled_from(Status),
    waived=TEXTS,
)  # fmt: skip
RESULTS = st.dictionaries(PATHS, st.tuples(st.sampled_from(Status), DETAILS), max_size=5).map(
    lambda found: [Result(Task(print, path), status, None, 1.0, 0.5, about) for path, (status, about) in found.items()]
)


def seen(text):
    """Return one line as the report shows it: what it has no way to say is made visible."""
    return re.sub("[\ufffe\uffff]", lambda match: f"\\u{ord(match.group()):04x}", visible(text))


def seen_lines(text):
    """Return several lines likewise; how they end is not kept."""
    return "\n".join(seen(line.removesuffix("\r")) for line in text.split("\n"))


@settings(max_examples=150)
@given(RESULTS, st.booleans(), TEXTS)
def test_anything_makes_a_valid_report_and_each_result_is_in_it_once(tmp_path_factory, results, fold, title):
    file = tmp_path_factory.getbasetemp() / "any.xml"
    suite = write(file, results, fold=fold, plan=Plan((), title), stopped=title)
    cases = suite.findall("testcase")
    assert len(cases) == sum(1 + (0 if fold else len(one.reports)) for one in results)
    for one in sorted(results, key=lambda one: one.path.split("/")):
        case, *reports = cases[: 1 + (0 if fold else len(one.reports))]
        del cases[: 1 + len(reports)]
        check_case(case, one)
        for element, report in zip(reports, one.reports, strict=not fold):
            assert element.get("classname") == seen(one.path).replace("/", ".")
            assert is_named(element, seen(report.name) or report.status)
            assert seen_lines(report.message).strip("\n") in "".join(element.itertext())


def is_named(element, name):
    return re.fullmatch(re.escape(name) + r"(#\d+)?", element.get("name")) is not None


def check_case(case, one):
    folder, _, name = one.path.rpartition("/")
    assert case.get("classname") == (seen(folder).replace("/", ".") or "(root)")
    assert is_named(case, seen(name))
    verdicts = [child for child in case if child.tag in {"failure", "error", "skipped"}]
    assert [child.tag for child in verdicts] == ([VERDICTS[one.status]] if VERDICTS[one.status] else [])
    for verdict in verdicts:
        assert verdict.get("message").removesuffix("…") in verdict.text
    text = "".join(case.itertext())
    said = [one.leaked, one.waived]
    if one.status is not Status.PASSED or one.waived:
        said += [one.reason, one.evidence, one.error.traceback if one.error else ""]
    assert [part for part in said if part.strip() and seen_lines(part).rstrip("\n") not in text] == []
    assert len(case.findall("*[@type]")) == len(verdicts) + sum(
        attempt.status in BAD for attempt in one.details.earlier
    )


@given(st.binary(max_size=60), st.integers(0, 40))
@example(b"\xff&&&&<\xc3\xa9" * 5, 20)
@example("é日🙂".encode() * 3, 7)
@example("é日🙂".encode() * 3, 8)
@example("é日🙂".encode() * 3, 9)
@example(b"\xe1\x80\x80", 1)
@example(b"&<" * 9, 11)
@example(b"&<" * 9, 12)
@example(b"&<" * 9, 13)
def test_any_output_is_shown_whole_or_cut_where_it_hurts_nobody(tmp_path_factory, data, room):
    folder = tmp_path_factory.getbasetemp()
    out = folder / "any.out"
    out.write_bytes(data)
    one = result("a", output=Output(str(out), len(data)))
    (case,) = write(folder / "any.xml", [one])
    whole = seen_lines(data.decode(errors="backslashreplace"))
    assert out_of(case) == whole
    shown = junit._shown(junit.Part("", Output(str(out), len(data))), room)
    assert len(shown) <= room + 50
    text = ET.fromstring(b"<a>%s</a>" % shown).text or ""
    begin, cut, end = text.partition(f"\n[... cut, of about {len(data)} bytes ...]\n")
    assert whole.startswith(begin) if cut else whole == begin
    assert whole.endswith(end)


@pytest.mark.skipif(XMLLINT is None, reason="what is checked here in another program's words has been checked in ours")
def test_a_hostile_report_is_valid_for_others_too(file, printed):
    nasty = "]]> & < \" ' \x1b[31m \x00 \ud800 \ufffe \uffff \U000e0041 \r \t é 🙂 </testcase>"
    about = {
        "reason": nasty,
        "reports": (Report(nasty, "fail", nasty, {nasty: nasty}),),
        "failure": Failure("x", nasty, nasty),
    }
    results = [result("d/" + re.sub("[/\0]", "", nasty), Status.ERROR, **about, output=printed(bytes(range(256)) * 3))]
    write(file, results, plan=Plan((), nasty), stopped=nasty)
    assert is_valid(file.read_bytes())


# -- names that repeat ------------------------------------------------------------------------------------------------


def test_names_that_repeat_are_numbered_and_given_ones_kept():
    pairs = [("a", "x"), ("a", "x"), ("a", "x#2"), ("a", "x"), ("b", "x"), ("a", "x#2")]
    assert unique(pairs) == ["x", "x#3", "x#2", "x#4", "x", "x#2#2"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "x#2", "x#3", "x#2#2", "y"])), max_size=12))
def test_no_two_names_are_the_same_and_a_name_that_is_unique_is_kept(pairs):
    names = unique(pairs)
    made = [(pair[0], name) for pair, name in zip(pairs, names, strict=True)]
    assert len(set(made)) == len(made)
    assert set(pairs) <= set(made)
    assert all(
        name == pair[1] or re.fullmatch(re.escape(pair[1]) + r"#\d+", name)
        for pair, name in zip(pairs, names, strict=True)
    )


def test_numbering_thousands_of_equal_names_takes_no_longer_for_each():
    class Name(str):
        """Counts how often it is put into words."""

        __slots__ = ()
        counted = 0

        def __format__(self, spec):
            Name.counted += 1
            return str.__format__(self, spec)

    unique([("a", Name("x"))] * 2000)
    assert Name.counted < 6 * 2000


def test_paths_that_look_alike_have_different_names(file):
    results = [result(path) for path in ("a.b/x", "a/b/x", "a/b/x\x1b", "a/b/x\\x1b")]
    suite = write(file, results)
    assert [one.get("name") for one in suite] == ["x", "x\\x1b", "x\\x1b#2", "x#2"]


def test_a_name_longer_than_anybody_reads_is_cut(file):
    (case,) = write(file, [result("d" * 2000 + "/" + "n" * 2000)])
    assert case.get("classname") == "d" * 1000 + "…"
    assert case.get("name") == "n" * 1000 + "…"


# -- size -------------------------------------------------------------------------------------------------------------


def test_output_is_cut_to_its_beginning_and_its_end(file, printed):
    data = b"".join(b"line %d\n" % number for number in range(100_000))
    (case,) = write(file, [result("a", output=printed(data))])
    text = out_of(case)
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 99998\nline 99999\n")
    assert f"[... cut, of about {len(data)} bytes ...]" in text
    assert junit.LONGEST - 100 < len(text) < junit.LONGEST + 100


@pytest.mark.parametrize("data", [b"x" * 3000, b"\xff" * 3000, b"&" * 3000, b"\xe2\x80\xae" * 1000, b"\r\n" * 1500])
@pytest.mark.parametrize("limit", [20_000, 40_000])
def test_the_whole_file_stays_below_its_limit_and_all_results_are_in_it(file, printed, data, limit):
    output = printed(data)
    earlier = (Ended(1, Status.ERROR, 1.0, 0.1, Failure("E", "\u202e" * 500, "\U000e0041" * 3000), "", output),)
    results = [result(f"t/{n}", Status.FAILED, reason="\x1b" * 900, earlier=earlier, output=output) for n in range(4)]
    results += [result(f"u/{n}", output=output) for n in range(20)]
    suite = write(file, results, limit=limit)
    assert file.stat().st_size < limit
    assert len(suite.findall("testcase")) == 24


def test_failures_are_served_first_and_short_texts_are_not_cut_for_long_ones(file, printed):
    long, short = printed(b"y" * 9000, "long"), printed(b"z" * 100, "short")
    results = [result(f"fail/{n}", Status.FAILED, output=long) for n in range(2)]
    results += [result("pass/long", output=long), result("pass/short", output=short)]
    suite = write(file, results, limit=102_000)
    assert out_of(case_of(suite, "fail", "1")) == "y" * 9000
    assert out_of(case_of(suite, "pass", "short")) == "z" * 100
    assert 5000 < len(out_of(case_of(suite, "pass", "long"))) <= 9000
    suite = write(file, results, limit=12_000)
    assert 4000 < len(out_of(case_of(suite, "fail", "1"))) < 9000
    assert len(out_of(case_of(suite, "pass", "long"))) < 100


def test_the_names_of_too_many_results_are_not_left_out(file):
    suite = write(file, [result(f"t/{n}", reason="because") for n in range(100)], limit=1000)
    assert len(suite.findall("testcase")) == 100


def test_output_that_is_gone_or_has_grown_is_no_trouble(file, printed):
    output = printed(b"abc")
    Path(output.path).write_bytes(b"&" * 100_000)
    (case, other) = write(file, [result("a", output=output), result("b", output=Output("/nonexistent/x", 100_000))])
    assert len(out_of(case)) < 100
    assert other.find("system-out") is None


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_old_report_is_there_until_the_new_one_is_complete(file, monkeypatch):
    file.write_text("old")
    reporter = JUnit(str(file))
    reporter.begin(Plan(()))
    reporter.finished(result("a"))
    assert file.read_text() == "old"
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("replace"), replace(*names)))
    reporter.end(Summary({"a": result("a")}, 1))
    assert order == ["fsync", "replace", "fsync"]
    assert file.read_text().endswith("</testsuite></testsuites>\n")
    assert os.listdir(file.parent) == ["junit.xml"]


@pytest.mark.parametrize("verb", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_one_and_nothing_else(file, monkeypatch, verb):
    file.write_text("old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, verb, fails)
    with pytest.raises(OSError, match="No space"):
        write(file, [result("a")])
    assert file.read_text() == "old"
    assert os.listdir(file.parent) == ["junit.xml"]


def test_a_report_that_breaks_half_way_leaves_the_old_one(file, monkeypatch):
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(str(file)) as opened:
        opened.write(b"half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    assert os.listdir(file.parent) == ["junit.xml"]


def test_folders_are_made_and_links_are_followed(tmp_path):
    target, link = tmp_path / "deep" / "er" / "x.xml", tmp_path / "link.xml"
    link.symlink_to(target)
    write(link, [result("a")])
    write(link, [result("a"), result("b")])
    assert link.is_symlink()
    assert len(ET.parse(target).getroot()[0]) == 2


def test_others_may_read_it_as_the_umask_says(file):
    before = os.umask(0o027)
    try:
        write(file, [result("a")])
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o640


def test_what_is_no_ordinary_file_is_written_to_directly(tmp_path):
    reading, writing = os.pipe()
    with open(reading, "rb") as end:
        with open(writing, "wb"):
            JUnit(f"/dev/fd/{writing}").end(Summary({"a": result("a")}, 1))
        assert ET.fromstring(end.read())[0].get("tests") == "1"
    with pytest.raises(OSError, match="No space"):
        JUnit("/dev/full").end(Summary({}, 1))
    with pytest.raises(IsADirectoryError):
        begun(str(tmp_path))


def test_standard_output_that_goes_to_a_file_is_added_to(tmp_path):
    out = tmp_path / "log"
    out.write_text("<!-- before -->")
    with out.open("ab") as opened:
        JUnit(f"/dev/fd/{opened.fileno()}").end(Summary({}, 1))
    assert out.read_text().startswith("<!-- before --><?xml")
