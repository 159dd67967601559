"""What the user is given: whatever a task did, its result can be read, shown and sent elsewhere."""

import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen import Failure, Report, Result, Results, Status, Task, TasksFailed
from pexen.model.result import BAD, LEVELS, Details, Ended, Output, Pickled, merge_shared, worst


class Hostile(Exception):
    """Everything one asks of it goes wrong."""

    def bad(self, *_):
        raise RuntimeError("hostile")

    __repr__ = __str__ = __reduce_ex__ = __eq__ = bad
    __hash__ = Exception.__hash__


class Deadly:
    def __reduce__(self):
        raise SystemExit(3)


def refuses():
    raise RuntimeError("hostile")


class HostileOnArrival:
    def __reduce__(self):
        return (refuses, ())


class Endless:
    """As deep as nothing can be pickled."""

    def __init__(self):
        self.inner = None
        for _ in range(100_000):
            outer = []
            outer.append(self.inner)
            self.inner = outer


def nothing():
    pass


def generator():
    yield


ODD = {
    "lambda": lambda: None, "generator": generator(), "hostile": Hostile(), "on arrival": HostileOnArrival(),
    "module": pickle, "local class": type("Local", (), {})(), "lock": threading.Lock(), "too deep": Endless(),
}  # fmt: skip
odd = pytest.mark.parametrize("value", ODD.values(), ids=ODD)


def travelled(result):
    return pickle.loads(pickle.dumps(result))


def test_a_result_travels_with_all_it_says():
    failure = Failure("ValueError", "no", "trace", ValueError("no"))
    details = Details(
        failure, "why", (Report("r", "warn", data={"a": 1}),), (Ended(1, Status.CRASHED, 1.0, 2.0),), ({"k": 1},)
    )
    copy = travelled(Result(Task(nothing, "a/b"), Status.FAILED, {"v": 1}, 5.0, 2.5, details))
    assert (copy.path, copy.status, copy.value, copy.start, copy.duration) == ("a/b", Status.FAILED, {"v": 1}, 5.0, 2.5)
    assert (copy.error.type, copy.error.exception.args, copy.reason) == ("ValueError", ("no",), "why")
    assert (copy.reports, copy.shared) == (details.reports, {"k": 1})
    assert [str(one.status) for one in copy.attempts] == ["crashed", "failed"]
    assert travelled(copy).value == {"v": 1}


@odd
def test_any_value_travels_as_none_at_worst(value):
    assert travelled(Result(Task(lambda: 1, "a"), Status.PASSED, value)).value is None


@odd
def test_anything_shared_travels_as_nothing_at_worst(value):
    details = Details(shared=({"key": value, "kept": 2, "none": None}, Pickled(pickle.dumps({"other": 3}))))
    copy = travelled(Result(Task(nothing, "a"), Status.PASSED, details=details))
    assert copy.shared == travelled(copy).shared == {"kept": 2, "none": None, "other": 3}


@odd
def test_any_exception_travels_as_text_at_worst(value):
    error = value if isinstance(value, Exception) else ValueError(value)
    details = Details(
        Failure("ValueError", "no", "trace", error),
        earlier=(Ended(1, Status.ERROR, 1, 1, Failure("E", "", "", error)),),
    )
    copy = travelled(Result(Task(nothing, "a"), Status.ERROR, details=details))
    assert (str(copy.error), copy.error.exception) == ("ValueError: no", None)


@odd
def test_any_data_of_a_report_travels_as_nothing_at_worst(value):
    details = Details(reports=(Report("a", "warn", "message", {"key": value}), Report("b", data={"fine": 1})))
    first, second = travelled(Result(Task(nothing, "a"), Status.WARNED, details=details)).reports
    assert (first.name, first.status, first.message) == ("a", "warn", "message")
    assert (first.data, second.data) == ({}, {"fine": 1})


def test_the_process_is_not_ended_by_pickling_either():
    assert travelled(Result(Task(nothing, "a"), Status.PASSED, Deadly())).value is None


def test_an_output_travels_without_its_keeper(tmp_path):
    (tmp_path / "out").write_bytes(b"a\xffb")
    copy = travelled(
        Result(
            Task(nothing, "a"),
            Status.PASSED,
            details=Details(output=Output(str(tmp_path / "out"), 3, keeper=lambda: 1)),
        )
    )
    assert (copy.output, copy.output_bytes) == ("a\\xffb", b"a\xffb")


@odd
def test_showing_a_result_asks_nothing_of_its_value(value):
    assert repr(Result(Task(nothing, "a/b"), Status.PASSED, value)) == "<Result a/b passed>"


def test_a_value_is_unpickled_once_and_only_when_asked_for():
    result = Result(Task(nothing, "a"), Status.PASSED, Pickled(pickle.dumps([1])))
    assert isinstance(result.carried, Pickled)
    assert result.value is result.value
    broken = Result(Task(nothing, "a"), Status.PASSED, Pickled(b"nonsense"))
    assert (broken.ok, broken.path) == (True, "a")
    with pytest.raises(pickle.UnpicklingError):
        _ = broken.value


def test_an_exception_is_unpickled_only_when_it_is_one():
    assert Failure("E", "", "", Pickled(pickle.dumps(3))).exception is None
    assert Failure("E", "", "", Pickled(pickle.dumps(KeyError(3)))).exception.args == (3,)
    assert [str(Failure("E", "")), str(Failure("E", "m"))] == ["E", "E: m"]


RANK = [Status.PASSED, Status.WARNED, Status.FAILED, Status.ERROR]
MEANS = {"pass": 0, "info": 0, "skip": 0, "warn": 1, "fail": 2, "error": 3}


@given(st.sampled_from(RANK), st.lists(st.sampled_from(LEVELS)))
def test_the_worst_of_outcome_and_reports_counts(status, levels):
    expected = RANK[max([RANK.index(status), *(MEANS[level] for level in levels)])]
    assert worst(status, levels) is expected


@given(st.sampled_from(list(Status)), st.lists(st.sampled_from(LEVELS)))
def test_reports_never_make_it_better(status, levels):
    said = worst(status, levels)
    assert said in BAD or status not in BAD
    assert status.is_success or not said.is_success or (status is Status.SKIPPED and "warn" in levels)


def test_the_process_dying_is_worse_than_anything_reported():
    for status in (Status.TIMEOUT, Status.CRASHED, Status.LOST):
        assert worst(status, ["error"]) is status


def test_which_statuses_are_a_success():
    assert {status for status in Status if status.is_success} == {Status.PASSED, Status.WARNED, Status.UPTODATE}


def results_of(**statuses):
    made = {}
    for path, status in statuses.items():
        carried = ValueError(path)
        failure = Failure("ValueError", path, "", carried) if status in {Status.ERROR, Status.FAILED} else None
        made[path] = Result(Task(nothing, path), status, details=Details(failure, "because" if failure is None else ""))
    return Results(made)


def test_results_are_a_mapping_in_the_order_in_which_they_came():
    results = results_of(b=Status.PASSED, a=Status.SKIPPED)
    assert (list(results), len(results), results["a"].status, "x" in results) == (["b", "a"], 2, Status.SKIPPED, False)
    assert [one.path for one in results.values()] == ["b", "a"]


@pytest.mark.parametrize("status", list(Status))
def test_a_run_is_good_when_nothing_failed_or_was_cancelled(status):
    results = results_of(good=Status.PASSED, it=status)
    assert results.ok == (status not in BAD and status is not Status.CANCELLED)
    if results.ok:
        assert results.check() is results
    else:
        with pytest.raises(TasksFailed):
            results.check()


def test_check_names_what_failed_and_is_caused_by_the_first_exception():
    results = results_of(fine=Status.PASSED, lost=Status.LOST, first=Status.ERROR, second=Status.FAILED)
    with pytest.raises(TasksFailed, match="3 of 4 tasks did not succeed") as caught:
        results.check()
    assert caught.value.__cause__ is results["first"].error.exception
    assert [one.path for one in caught.value.results] == ["lost", "first", "second"]
    for line in ("lost: lost: because", "first: error: ValueError: first", "second: failed: ValueError: second"):
        assert line in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert [one.path for one in copy.results] == ["lost", "first", "second"]


def test_check_names_ten_and_counts_the_rest():
    with pytest.raises(TasksFailed, match="and 3 more") as caught:
        results_of(**{f"t{number}": Status.FAILED for number in range(13)}).check()
    assert len(caught.value.facts) == 10


def test_check_works_where_the_exception_cannot_be_had():
    details = Details(Failure("E", "m", "", Pickled(pickle.dumps(HostileOnArrival()))))
    with pytest.raises(TasksFailed, match="E: m"):
        Results({"a": Result(Task(nothing, "a"), Status.ERROR, details=details)}).check()


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers())), st.data())
def test_later_layers_win_pickled_or_not(layers, data):
    expected = {}
    for layer in layers:
        expected |= layer
    carried = [Pickled(pickle.dumps(layer)) if data.draw(st.booleans()) else layer for layer in layers]
    merged = merge_shared(carried)
    assert merged == expected
    assert all(merged is not layer for layer in layers)


@pytest.mark.parametrize(
    ("content", "lines", "tail"),
    [(b"", 3, ""), (b"a\nb\nc\n", 2, "b\nc"), (b"a\nb", 5, "a\nb"), (b"\xff\n", 1, "\\xff"), (b"a\nb\n", 0, "")],
)
def test_the_tail_of_an_output(tmp_path, content, lines, tail):
    (tmp_path / "out").write_bytes(content)
    assert Output(str(tmp_path / "out")).tail(lines) == tail


def test_the_tail_of_a_huge_line_is_bounded_and_that_of_no_file_empty(tmp_path):
    (tmp_path / "out").write_bytes(b"x" * 200_000)
    assert len(Output(str(tmp_path / "out")).tail(1)) == 65536
    gone = Output(str(tmp_path / "gone"))
    assert (gone.tail(3), gone.read()) == ("", b"")
