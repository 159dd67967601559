"""JSON lines: whatever happens in a run, each line is an object that says it, and each result is there once."""

import enum
import json
import math
import os
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.model.result import LEVELS, Details, Ended, Failure, Output, Report, Result, Status
from pexen.model.task import Task
from pexen.report import jsonl
from pexen.report.base import Observers, Plan, Summary
from pexen.report.jsonl import JsonLines, plain


def result(path, status=Status.PASSED, duration=0.5, *, value=None, **details):
    start = 1.0 if duration else 0.0
    return Result(Task(print, path), status, value, start, duration, Details(**details) if details else None)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.jsonl"


def strictly(text):
    """Return a line's object; what JSON does not allow but Python does is refused, and so is the same key twice."""

    def no(constant):
        raise AssertionError(constant)

    def once(pairs):
        assert len(pairs) == len(dict(pairs))
        return dict(pairs)

    return json.loads(text, parse_constant=no, object_pairs_hook=once)


def read(file):
    data = Path(file).read_bytes()
    assert data.endswith(b"\n")
    assert data.isascii()
    return [strictly(line) for line in data[:-1].split(b"\n")]


def summary(results, **rest):
    return Summary({one.path: one for one in results}, **{"seconds": 1.5, **rest})


def written(file, results, *, plan=None, **rest):
    reporter = JsonLines(str(file), clock=lambda: 1700000000.25)
    reporter.begin(plan or Plan([one.task for one in results], "tree", 4))
    for one in results:
        reporter.finished(one)
    reporter.moment(list)
    reporter.note("well")
    reporter.end(summary(results, **rest))
    return read(file)


def test_the_first_and_the_last_line(file):
    results = [result("a"), result("b", Status.FAILED), result("c")]
    first, *_, last = written(file, results, seconds=2.5, stopped="interrupted")
    assert first == {"schema": 1, "kind": "run", "title": "tree", "tasks": 3, "jobs": 4, "start": 1700000000.25}
    assert file.read_text().startswith('{"schema":1,"kind":"run",')
    assert last == {
        "kind": "end", "tasks": 3, "counts": {"passed": 2, "failed": 1}, "seconds": 2.5, "stopped": "interrupted",
    }  # fmt: skip


def test_a_task_that_simply_passed(file):
    _, line, _ = written(file, [result("a/b", value="secret")])
    attempt = {
        "status": "passed", "start": 1.0, "duration": 0.5, "reason": "", "error": None, "reports": [], "leaked": "",
        "evidence": "", "artifacts": [], "output": None,
    }  # fmt: skip
    more = {"kind": "result", "path": "a/b", "original": "passed", "waived": "", "flaky": False}
    assert line == {**attempt, **more, "attempts": [{"number": 1, **attempt}]}
    assert "secret" not in file.read_text()


def test_everything_that_can_be_known_of_a_result(file):
    failure = Failure("ValueError", "no", "Traceback")
    reports = (Report("acl", "warn", "slow", {"seconds": 3}, ("x.log",)),)
    about = {
        "failure": failure, "reason": "why", "reports": reports, "leaked": "1 process (sh)", "evidence": "asleep",
        "artifacts": ("/a/b",), "output": Output("/out/1", 7, cut=True),
    }  # fmt: skip
    earlier = (Ended(1, Status.CRASHED, 2.0, 0.25, **about), Ended(2, Status.ERROR, 3.0, 0.5))
    _, line, _ = written(
        file, [result("a", Status.FAILED, earlier=earlier, original=Status.WARNED, waived="7", **about)]
    )
    said = {
        "reason": "why", "error": {"type": "ValueError", "message": "no", "traceback": "Traceback"}, "leaked": "1 process (sh)",
        "reports": [{"name": "acl", "status": "warn", "message": "slow", "data": {"seconds": 3}, "files": ["x.log"]}],
        "evidence": "asleep", "artifacts": ["/a/b"], "output": {"path": "/out/1", "size": 7, "cut": True},
    }  # fmt: skip
    assert said.items() <= line.items()
    assert (line["status"], line["original"], line["waived"], line["flaky"]) == ("failed", "warned", "7", True)
    first, second, last = line["attempts"]
    assert first == {"number": 1, "status": "crashed", "start": 2.0, "duration": 0.25, **said}
    assert (second["number"], second["status"], second["error"]) == (2, "error", None)
    assert last == {"number": 3, "status": "warned", "start": 1.0, "duration": 0.5, **said}


def test_a_task_that_never_started_has_no_attempts(file):
    _, line, _ = written(file, [result("a", Status.SKIPPED, 0, reason="no disk")])
    assert (line["attempts"], line["start"], line["duration"]) == ([], 0, 0)


# -- when it is written -----------------------------------------------------------------------------------------------


def test_results_are_in_the_file_after_each_moment(file):
    reporter = JsonLines(str(file))
    reporter.begin(Plan([], "tree"))
    assert [line["kind"] for line in read(file)] == ["run"]
    results = [result("a"), result("b"), result("c")]
    for count, one in enumerate(results):
        reporter.finished(one)
        assert len(read(file)) == 1 + count
        reporter.moment(lambda: pytest.fail("it need not look"))
        assert [line.get("path") for line in read(file)] == [None, *"abc"[: count + 1]]
    reporter.end(summary(results))
    assert [line["kind"] for line in read(file)] == ["run", "result", "result", "result", "end"]


def test_what_it_was_not_told_of_is_written_at_the_end_and_nothing_twice(file):
    results = [result(name) for name in "abcd"]
    reporter = JsonLines(str(file))
    reporter.begin(Plan([]))
    reporter.finished(results[2])
    reporter.moment(list)
    reporter.finished(results[2])
    reporter.finished(results[0])
    reporter.end(summary(results))
    assert [line["path"] for line in read(file)[1:-1]] == ["c", "a", "b", "d"]


def test_who_has_an_older_report_open_keeps_it(file):
    file.write_text("old\n")
    with file.open() as old:
        written(file, [result("a")])
        assert old.read() == "old\n"
    assert len(read(file)) == 3
    assert os.listdir(file.parent) == [file.name]


def test_it_is_synced_when_it_is_complete(file, monkeypatch):
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    written(file, [result("a")])
    assert sizes[-1] == file.stat().st_size


@pytest.mark.parametrize("verb", ["begin", "moment", "end"])
def test_a_disk_that_fails_disables_it_and_leaves_nothing_open(file, monkeypatch, verb):
    def fails(*_):
        raise OSError(28, "No space left on device")

    def writing(thing):
        if thing["kind"] == {"begin": "run", "moment": "result", "end": "end"}[verb]:
            fails()
        return b"{}\n"

    monkeypatch.setattr(jsonl, "line", writing)
    observers = Observers([JsonLines(str(file))])
    observers.begin(Plan([]))
    observers.finished([result("a")])
    observers.moment(list)
    observers.end(summary([result("a")]))
    assert observers.broken == [
        f"JsonLines was disabled: OSError in {verb}: [Errno 28] No space left on device",
    ]
    assert os.listdir(file.parent) == ([] if verb == "begin" else [file.name])


def test_a_name_that_cannot_be_taken_leaves_nothing(file, monkeypatch):
    def fails(*_):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", fails)
    file.write_text("old\n")
    with pytest.raises(OSError, match="denied"):
        JsonLines(str(file)).begin(Plan([]))
    assert file.read_text() == "old\n"
    assert os.listdir(file.parent) == [file.name]


def test_a_pipe_is_written_to(tmp_path):
    reading, writing = os.pipe()
    with open(reading, "rb") as end:
        with open(writing, "wb"):
            reporter = JsonLines(f"/dev/fd/{writing}")
            reporter.begin(Plan([]))
            reporter.end(summary([result("a")]))
        assert [strictly(line)["kind"] for line in end] == ["run", "result", "end"]


# -- any text ---------------------------------------------------------------------------------------------------------

TEXTS = st.text('ab"\\\n\r\t\0\x1b\x7f\x85\u2028\u202e\ud83d\udcff\ufffeé🙂', max_size=8)
PATHS = TEXTS.map(lambda text: "p" + text.replace("\n", "").replace("\0", ""))
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
REPORTS = st.lists(
    st.builds(Report, TEXTS, st.sampled_from(LEVELS), TEXTS, st.dictionaries(TEXTS, DATA, max_size=2)), max_size=2
)
DETAILS = st.builds(
    Details, failure=st.none() | st.builds(Failure, TEXTS, TEXTS, TEXTS), reason=TEXTS, reports=REPORTS.map(tuple), leaked=TEXTS,
    evidence=TEXTS, artifacts=st.lists(TEXTS, max_size=1).map(tuple), waived=TEXTS,
    output=st.none() | st.builds(Output, TEXTS, st.integers(0, 1 << 40), st.booleans()),
)  # fmt: skip
RESULTS = st.dictionaries(PATHS, st.tuples(st.sampled_from(Status), DETAILS), max_size=4).map(
    lambda found: [Result(Task(print, path), status, None, 1.0, 0.5, about) for path, (status, about) in found.items()]
)


def joined(text):
    """Return a text in which the halves of a surrogate pair are one character, as every JSON parser reads them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@given(RESULTS, TEXTS, st.integers(0, 4))
def test_any_text_comes_back_and_each_result_is_there_once(tmp_path_factory, results, title, told):
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    reporter = JsonLines(str(file))
    reporter.begin(Plan([], title))
    for one in results[:told]:
        reporter.finished(one)
        reporter.moment(list)
    reporter.end(summary(results, stopped=title))
    first, *lines, last = read(file)
    assert first["title"] == last["stopped"] == joined(title)
    assert sum(last["counts"].values()) == last["tasks"] == len(lines) == len(results)
    for line, one in zip(lines, results, strict=True):
        assert (line["path"], line["status"]) == (joined(one.path), one.status)
        assert [line[key] for key in ("reason", "leaked", "evidence", "waived")] == [
            joined(text) for text in (one.reason, one.leaked, one.evidence, one.waived)
        ]
        assert [report["name"] for report in line["reports"]] == [joined(report.name) for report in one.reports]
        assert (line["error"] is None) == (one.error is None)
        assert one.error is None or line["error"]["message"] == joined(one.error.message)


# -- data that JSON does not know -------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


class Hostile:
    def bad(self, *_):
        raise RuntimeError("hostile")

    __repr__ = __str__ = __len__ = __iter__ = __hash__ = __eq__ = bad


class HostileDict(OrderedDict):
    def items(self):
        raise RuntimeError("hostile")

    __repr__ = items


class HostileText(str):
    def bad(self, *_):
        raise RuntimeError("hostile")

    __slots__ = ()
    __repr__ = __str__ = __len__ = __iter__ = encode = bad


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"a": [1, 2.5, True, None, "x"]}, {"a": [1, 2.5, True, None, "x"]}),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (b"a\xff", "a\\xff"),
        ({1}, "{1}"),
        (Colour.RED, "<Colour.RED: 1>"),
        (Path("x"), "PosixPath('x')"),
        ({1: "one", None: 2, ("a", 1): 3}, {"1": "one", "None": 2, "('a', 1)": 3}),
        (Hostile(), "<Hostile>"),
        ([Hostile(), 1], ["<Hostile>", 1]),
        (HostileDict(a=1), "<HostileDict>"),
        ({"a": HostileText("x")}, {"a": "x"}),
        (2**4000, 2**4000),
        (2**5000, hex(2**5000)),
        (-(2**20000), hex(-(2**20000))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_that_json_does_not_know_goes_as_text(given, shown):
    made = plain(given)
    assert made == shown
    assert strictly(json.dumps(made, allow_nan=False)) == shown


def test_two_keys_that_are_the_same_as_text_are_both_kept():
    assert plain({1: "int", "1": "str", "1#2": "too"}) == {"1": "int", "1#2": "str", "1#2#2": "too"}


def test_data_without_end_is_cut():
    endless = []
    endless.append(endless)
    text = json.dumps(plain({"a": endless}), ensure_ascii=False)
    assert len(text) < 200
    assert "…" in text
    doubling = [1]
    for _ in range(40):
        doubling = [doubling, doubling]
    assert len(json.dumps(plain(doubling))) < 20 * jsonl.MANY
    many = plain(list(range(jsonl.MANY + 10)))
    assert len(many) < jsonl.MANY + 2
    assert many[-1] == "…"
    assert len(plain({str(n): n for n in range(jsonl.MANY + 10)})) < jsonl.MANY + 2


def test_a_text_that_stands_for_an_object_is_not_endless():
    assert len(plain(b"x" * 1_000_000)) < 11_000


def test_a_result_with_odd_data_makes_a_line(file):
    data = {"bad": Hostile(), "nan": math.nan, "text": "\ud800"}
    _, line, _ = written(file, [result("a", reports=(Report("r", data=data),))])
    assert line["reports"][0]["data"] == {"bad": "<Hostile>", "nan": "nan", "text": "\ud800"}
