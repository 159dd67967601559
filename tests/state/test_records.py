"""Records: what the model's objects become, and that they come back from it."""

import functools
import json
import pickle
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pexen
from pexen.errors import DefinitionError
from pexen.model.meta import AllOf, AnyOf, Named
from pexen.model.result import Details, Ended, Failure, Output, Pickled, Report, Result, Status
from pexen.model.task import Task
from pexen.state import codec, lines, plan, records
from pexen.state.reader import Record, read
from pexen.state.values import Unstorable
from tests.state.hand import attempt, written
from tests.state.test_codec import TEXT

pytestmark = pytest.mark.usefixtures("coding")

PAGE = Path(__file__).parents[2] / "docs" / "journal.md"


def through_json(record):
    using = codec.fastest()
    return using.decode(using.encode(record))


def back(result: Result, **rest) -> Result:
    record, beside = records.result(result, **rest)
    stored = codec.fastest().decode(beside) if beside else None
    return records.result_from(result.task, through_json(record), beside=stored)


def shape(result: Result):
    """Return what a result says, without what cannot be stored."""
    about = result.details
    return (
        result.path, result.status, result.start, result.duration, about.failure, about.reason, about.output, about.leaked,
        about.evidence, about.artifacts, about.original, about.waived, about.earlier,
    )  # fmt: skip


# -- results ----------------------------------------------------------------------------------------------------------

TASK = Task(print, "a/b")
TIMES = st.floats(0, 2e9)
FAILURES = st.none() | st.builds(Failure, TEXT, TEXT, TEXT)
OUTPUTS = st.none() | st.builds(Output, TEXT.filter(bool).map("/srv/{}".format), st.integers(0, 2**60), st.booleans())
STATUSES = st.sampled_from(list(Status))


def ends(number):
    return st.builds(
        Ended, number, STATUSES, TIMES, TIMES, FAILURES, TEXT, OUTPUTS, st.just(()), TEXT, TEXT,
        st.lists(TEXT.filter(bool).map("/srv/{}".format), max_size=2).map(tuple),
    )  # fmt: skip


DETAILS = st.builds(
    Details, FAILURES, TEXT, st.just(()), st.lists(ends(st.just(1)), max_size=2).map(tuple), st.just(()), OUTPUTS, TEXT, TEXT,
    st.lists(TEXT.filter(bool).map("/srv/{}".format), max_size=2).map(tuple), st.none() | STATUSES, TEXT,
)  # fmt: skip


@settings(max_examples=40)
@given(STATUSES, TIMES.filter(bool), TIMES, st.none() | DETAILS)
def test_a_result_comes_back(status, start, duration, details) -> None:
    result = Result(TASK, status, None, start, duration, details)
    record = through_json(records.result(result)[0])
    told = [through_json(records.ended("a/b", one)) for one in result.details.earlier]
    assert shape(records.result_from(TASK, record, ends=told)) == shape(result)


@given(STATUSES, FAILURES, TEXT)
def test_a_result_without_an_attempt_comes_back(status, failure, reason) -> None:
    result = Result(TASK, status, details=Details(failure, reason))
    assert shape(back(result)) == shape(result)
    assert back(result).attempts == ()


def test_the_usual_result_is_short() -> None:
    record, beside = records.result(Result(TASK, Status.PASSED, None, 5.5, 0.5))
    assert beside == b""
    assert record == {
        "kind": "result", "path": "a/b", "status": "passed",
        "ended": {"attempt": 1, "status": "passed", "start": 5.5, "duration": 0.5},
    }  # fmt: skip
    assert records.result_from(TASK, record)._details is None


def test_reports_go_to_the_attempts_that_made_them() -> None:
    early, late = Report("x", "warn", "m", {"n": 1}, ("f",)), Report("y")
    said = [records.report(attempt("a/b", 1), early), records.report(attempt("a/b", 2), late)]
    one = Ended(1, Status.FAILED, 1.0, 1.0, None, "why")
    record, _ = records.result(Result(TASK, Status.PASSED, None, 3.0, 1.0, Details(earlier=(one,))))
    found = records.result_from(TASK, record, ends=[records.ended("a/b", one)], reports=map(through_json, said))
    assert found.reports == (late,)
    assert found.attempts[0].reports == (early,)
    assert found.attempts[1].number == 2


def test_a_report_tells_what_is_left_out_of_its_data() -> None:
    record = records.report(attempt(), Report("x", data={"good": [1], "bad": (1,), 5: 6, "worse": object()}))
    assert record["data"] == {"good": [1]}
    assert record["left_out"] == ["bad", "(int)", "worse"]
    assert through_json(record) == record


@settings(max_examples=30)
@given(TEXT, TEXT, TEXT, st.lists(TEXT).map(tuple))
def test_a_report_comes_back_whatever_its_text(name, message, key, files) -> None:
    report = Report(name, "warn", message, {key: message}, files)
    assert records.report_from(through_json(records.report(attempt(), report))) == report


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 1, "x", [1, {"a": None}], False, 0.0, "", []])
def test_values_come_back(value) -> None:
    found = back(Result(TASK, Status.PASSED, value, 1.0, 1.0)).value
    assert (type(found), found) == (type(value), value)
    assert back(Result(TASK, Status.PASSED, Pickled(pickle.dumps(value)), 1.0, 1.0)).value == value


@pytest.mark.parametrize(
    "value", [(1,), {1: 2}, object(), float("nan"), Pickled(pickle.dumps(Path("/"))), Pickled(b"?")]
)
def test_a_value_that_cannot_be_stored_says_so_and_is_not_none(value) -> None:
    record, _ = records.result(Result(TASK, Status.PASSED, value, 1.0, 1.0))
    assert "value" not in record
    found = back(Result(TASK, Status.PASSED, value, 1.0, 1.0)).value
    assert found == Unstorable(record["unstorable"])
    assert found.why


def test_a_large_value_goes_beside_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "INLINE", 50)
    result = Result(TASK, Status.PASSED, ["x" * 60], 1.0, 1.0)
    record, beside = records.result(result, shared={"small": 1})
    assert "value" not in record
    assert record["shared"] == {"small": 1}
    assert record["beside"] == {"size": len(beside), "crc": records.checksum(beside), "holds": ["value"]}
    assert json.loads(beside) == {"value": ["x" * 60]}
    assert back(result).value == ["x" * 60]
    assert records.result_from(TASK, record).value == Unstorable("its file is missing or damaged")
    record, beside = records.result(result, shared={"large": "y" * 60})
    assert record["beside"]["holds"] == ["shared", "value"]


def test_a_value_of_a_megabyte_is_not_beside_it() -> None:
    assert records.result(Result(TASK, Status.PASSED, "x" * (records.INLINE - 2), 1.0))[1] == b""
    assert records.result(Result(TASK, Status.PASSED, "x" * records.INLINE, 1.0))[1]


def test_shared_comes_back_if_the_task_wrote_to_it() -> None:
    result = Result(TASK, Status.PASSED, None, 1.0, 1.0, Details(shared=({"inherited": object()},)))
    assert back(result).shared == {}
    assert back(result, shared={"port": 1}).shared == {"port": 1}
    assert back(result, shared=Pickled(pickle.dumps({"port": 1}))).shared == {"port": 1}
    record, _ = records.result(result, shared={"bad": object()})
    assert "an object" in record["shared_unstorable"]


def test_the_exception_itself_is_not_stored() -> None:
    failure = Failure("KeyError", "x", "tb", carried=Pickled(b"rubbish"))
    found = back(Result(TASK, Status.ERROR, None, 1.0, 1.0, Details(failure)))
    assert found.error == Failure("KeyError", "x", "tb")


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_are_told_from_the_runs_folder_and_found_where_it_is_now() -> None:
    about = Details(output=Output("/old/run/output/1.out", 5, True), artifacts=("/old/run/files/1/x", "/elsewhere/y"))
    result = Result(TASK, Status.PASSED, None, 1.0, 1.0, about)
    record, _ = records.result(result, "/old/run")
    assert record["ended"]["output"] == {"file": "output/1.out", "size": 5, "cut": True}
    found = records.result_from(TASK, record, folder="/new")
    assert found.details.output == Output("/new/output/1.out", 5, True)
    assert found.artifacts == ("/new/files/1/x", "/elsewhere/y")


@pytest.mark.parametrize("name", ["../secret", "output/../../secret", "..", "", "."])
def test_a_name_that_leads_out_of_the_runs_folder_is_dropped(name) -> None:
    ended = {"attempt": 1, "status": "passed", "start": 1.0, "duration": 1.0, "output": {"file": name, "size": 1}}
    record = {"kind": "result", "path": "a", "status": "passed", "ended": {**ended, "artifacts": [name, "ok"]}}
    found = records.result_from(TASK, record, folder="/new")
    assert found.details.output is None
    assert found.artifacts == ("/new/ok",)


# -- tasks ------------------------------------------------------------------------------------------------------------


def by_name(one, two=2):
    return one


class Holder:
    def method(self):
        pass

    @staticmethod
    def static():
        pass


class Odd:
    """A callable object whose every attribute raises."""

    def __call__(self):
        pass

    def __getattribute__(self, name):
        if name in {"__pexen__", "__name__"}:
            raise AttributeError(name)
        raise RuntimeError("user code")


HERE = __name__


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (by_name, {"call": f"{HERE}:by_name"}),
        (shutil.which, {"call": "shutil:which"}),
        (len, {"call": "builtins:len"}),
        (Holder, {"call": f"{HERE}:Holder"}),
        (Holder.static, {"call": f"{HERE}:Holder.static"}),
        (lambda: 1, {"name": "<lambda>"}),
        (Holder().method, {"name": "method"}),
        (functools.partial(by_name, 1), {"name": "partial"}),
    ],
)
def test_how_a_callable_is_told(what, said, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, HERE, sys.modules[HERE])
    assert plan.task(Task(what, "a"), "f")["what"] == said


def test_nothing_is_asked_of_a_callable_object_but_its_type() -> None:
    task = Task(print, "a")
    task.callable = Odd()
    assert plan.task(task, "f")["what"] == {"name": "Odd"}


def test_a_function_that_is_no_longer_the_one_of_its_name_has_no_reference(monkeypatch) -> None:
    import sys

    monkeypatch.setattr(sys.modules[HERE], "by_name", len)
    assert plan.task(Task(test_a_report_tells_what_is_left_out_of_its_data, "a"), "f")["what"]["call"]
    assert plan.task(Task(by_name_itself, "a"), "f")["what"] == {"name": "by_name"}


by_name_itself = by_name


def test_a_command_comes_back() -> None:
    for task in (
        pexen.command(["a b", "\udcff"], "x", cwd="/tmp", env={"A": "1"}, timeout="5m", tags={"t", "s"}, retries=2),
        pexen.command("a | b", "y", requires={"n"}, uses={("disk", 1), pexen.tree_lock("/proc/sys")}, xfail="bug"),
    ):
        record = through_json(plan.task(task, "f", [("n", ["p/q"])] * len(task.requires)))
        found = plan.task_from(record)
        assert found.callable == task.callable
        assert found.meta == task.meta
        assert found.path == task.path
        assert found.requires == tuple(Named("n", "/p/q") for _ in task.requires)


def test_requirements_come_back_by_path() -> None:
    provider = Task(print, "p/one", provides="objects")
    requires = {
        "plain": "one", "conn": pexen.any_of("nginx", "apache"), "parts": pexen.all_of("objects"), "whole": "/setup",
        "it": provider,
    }  # fmt: skip
    task = Task(lambda **_: None, "a", requires=requires, after={"x"})
    bound = [("one", ["p/1"]), ("any", ["w/n", "w/a"]), ("all", ["p/one", "p/two"]), ("/setup", ["setup/a", "setup/b"]),
             ("p/one", ["p/one"])]  # fmt: skip
    record = through_json(plan.task(task, "f", bound, ["z/x"]))
    found = plan.task_from(record, print)
    assert found.callable is print
    assert found.requires == (
        Named("plain", "/p/1"), Named("conn", AnyOf(("/w/n", "/w/a"))), Named("parts", AllOf("objects")), "/setup/a", "/setup/b",
        Named("it", "/p/one"),
    )  # fmt: skip
    assert found.after == ("/z/x",)


def test_metadata_that_json_cannot_say_is_left_out_by_name() -> None:
    task = Task(print, "a", when=lambda facts: True, timeout=5, args=[(1, 2)], kwargs={"k": [1]}, around=[by_name])
    record = plan.task(task, "f")
    assert record["left_out"] == ["when", "args", "around"]
    assert record["meta"] == {"timeout": 5.0, "kwargs": {"k": [1]}}


def test_arguments_are_not_taken_for_metadata() -> None:
    task = Task(print, "a", args=[{"name": [1]}, [1]], kwargs={"x": {"tree": ["a"]}}, provides=[("disk", 1), "b"])
    found = plan.task_from(through_json(plan.task(task, "f")))
    assert found.args == ({"name": [1]}, [1])
    assert found.kwargs == {"x": {"tree": ["a"]}}
    assert found.provides == (("disk", 1), "b")


def test_a_callable_that_cannot_be_had_is_only_to_be_looked_at() -> None:
    found = plan.task_from(plan.task(Task(lambda: 1, "a"), "f"))
    assert found.path == "a"
    with pytest.raises(RuntimeError, match="journal"):
        found.callable()


def test_metadata_of_another_version_is_refused_or_passed_over() -> None:
    assert plan.task_from({"path": "a", "what": {}, "meta": {"no_such_key": 1}}).meta == {}
    with pytest.raises(DefinitionError):
        plan.task_from({"path": "a", "what": {}, "meta": {"timeout": "soon"}})


# -- many in one record -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, 0, -(1 << 53), "", 'short\n"', "x" * 200])
def test_simple_values_come_back_from_among_many(value) -> None:
    assert value is None or records.is_simple(value)
    results = [Result(Task(print, path), Status.PASSED, value, 1.1, 0.1) for path in "ab"]
    for row, one in zip(through_json(records.passed(results))["passed"], results, strict=True):
        found = records.result_from(one.task, records.passed_from(row))
        assert shape(found) == shape(one)
        assert type(found.value) is type(value)


class Hostile(int):
    """Is not to be asked anything."""

    def __le__(self, other: object) -> bool:
        raise AssertionError

    __ge__ = __eq__ = __le__
    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [1 << 54, 1.5, "x" * 201, "\ud800", "é", [], {}, (), object(), Hostile(1), print])
def test_values_that_are_to_be_looked_at_are_not_simple(value) -> None:
    assert not records.is_simple(value)


def test_many_tasks_are_told_in_records_of_bounded_length() -> None:
    record = plan.task(Task(print, "0"), "f")
    found = list(plan.together(record, list("0123456"), 3))
    assert [one.get("paths") or one["path"] for one in found] == [["0", "1", "2"], ["3", "4", "5"], "6"]
    assert list(found[0]) == ["kind", "paths", "fingerprint", "what"]
    assert list(plan.together(record, [], 3)) == []


# -- the run ----------------------------------------------------------------------------------------------------------


def test_what_json_cannot_say_of_parameters_is_left_out_by_name() -> None:
    record = records.run(
        "r", at=1.0, version="1", durability="full", runner=(1, 2, "b"), parameters={"day": object(), "n": 1}
    )
    assert record["parameters"] == {"n": 1}
    assert record["parameters_left_out"] == ["day"]


# -- the page ---------------------------------------------------------------------------------------------------------


def examples() -> list[bytes]:
    inside, found = False, []
    for line in PAGE.read_bytes().splitlines(keepends=True):
        if line.startswith(b"```"):
            inside = line.strip() == b"```json"
        elif inside:
            found.append(line)
    return found


def test_the_examples_of_the_page_are_a_journal(tmp_path: Path) -> None:
    by_number = sorted(examples(), key=lambda line: json.loads(line)["seq"])
    written(tmp_path).write_bytes(b"".join(by_number))
    record = read(tmp_path)
    assert record.notices == []
    assert record.last == len(by_number)
    told = ["lint/b", "lint/a", "lint/c", "pack", "setup/which", "check/all"]
    assert [result.path for result in record.results()] == told
    assert [record.result(path).value for path in told[:3]] == [None, 42, "ok"]
    assert record.end["counts"] == record.counts
    assert record.stories["setup/which"].again
    assert record.end["how"] == "stopped"


def test_the_page_has_every_kind_of_record() -> None:
    assert {json.loads(line)["kind"] for line in examples()} == set(Record._TAKERS)
    headings = [line[4:].strip() for line in PAGE.read_text().splitlines() if line.startswith("### ")]
    assert sorted(headings) == sorted(Record._TAKERS)


def test_the_page_shows_the_checksum_as_it_is() -> None:
    by_number = sorted(examples(), key=lambda line: json.loads(line)["seq"])
    before = json.loads(by_number[10])["crc"]
    shown = next(line for line in PAGE.read_bytes().splitlines() if b'"seq":12' in line)
    assert lines.unsealed(shown, 11, int(before, 16))
