"""Values: stored is what comes back equal and of equal type, and nobody's code is run to find out."""

import collections
import enum
import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings

from pexen.model.result import Pickled
from pexen.state import values
from pexen.state.values import DEEPEST, snapshot, unstorable
from tests.state.test_codec import VALUES, same

pytestmark = pytest.mark.usefixtures("coding")


def nested(depth: int):
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


class Hostile:
    """Whatever is asked of it but its type, it raises."""

    def __getattribute__(self, name):
        raise RuntimeError("user code")

    __eq__ = __hash__ = __repr__ = __str__ = __reduce_ex__ = __len__ = __iter__ = __bool__ = None


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -1, 10**100, 0.5, "", "ö\udcff\0\n", [], {}, [1, [True, None]], {"a": {"b": [1.5]}}, {"": ""},
     nested(DEEPEST), "x" * 100_000],
)  # fmt: skip
def test_what_json_can_say_is_stored(value) -> None:
    stored, size, why = snapshot(value)
    assert why == ""
    assert same(stored, value)
    assert size > 0
    assert same(json.loads(json.dumps(stored)), value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((1, 2), "it is a tuple"),
        ([(1, 2)], "it has a tuple in it"),
        ({1: 2}, "a dict with an int as a key"),
        ([{"a": {True: 1}}], "a dict with a bool as a key"),
        ({None: 1}, "a NoneType as a key"),
        (float("nan"), "the number nan"),
        ([float("-inf")], "the number -inf"),
        (b"x", "it is a bytes"),
        ({1, 2}, "it is a set"),
        ([Path("/")], "it has a PosixPath in it"),
        (Colour.RED, "it is a Colour"),
        ([collections.OrderedDict()], "it has an OrderedDict in it"),
        (collections.Counter("a"), "it is a Counter"),
        (1 << 4096, "an integer of more than 4096 bits"),
        ([-(1 << 4096)], "an integer of more than 4096 bits"),
        (nested(DEEPEST + 1), "nested more than 100 deep"),
        ("\ud83d\ude00", "text that JSON cannot tell"),
        ({"\ud83d\ude00": 1}, "text that JSON cannot tell"),
        (type, "it is a type"),
    ],
)
def test_anything_else_is_not_and_it_is_said_why(value, said) -> None:
    stored, size, why = snapshot(value)
    assert (stored, size) == (None, 0)
    assert said in why


def test_nothing_is_asked_of_a_value_but_its_type() -> None:
    assert snapshot(Hostile())[2] == "it is a Hostile"
    assert snapshot([{"a": Hostile()}])[2] == "it has a Hostile in it"


@settings(max_examples=30)
@given(VALUES)
def test_stored_values_are_copies_that_are_the_same(value) -> None:
    stored, _, why = snapshot(value)
    if not why:
        assert same(stored, value)
        assert stored is not value or not isinstance(value, list | dict)


def test_a_value_within_itself_is_too_deep() -> None:
    value: list = []
    value.append(value)
    assert "nested" in unstorable(value)


def test_a_small_value_that_holds_itself_a_million_times_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MOST", 10_000)
    value: list = [1]
    for _ in range(50):
        value = [value, value]
    assert unstorable(value) == "it has more than 10,000 items"


def test_what_a_worker_sent_is_opened_as_far_as_it_is_built_in() -> None:
    assert snapshot(Pickled(pickle.dumps({"a": [1, "x"]})))[0] == {"a": [1, "x"]}
    assert snapshot(Pickled(pickle.dumps(None)))[0] is None
    assert "tuple" in snapshot(Pickled(pickle.dumps((1,))))[2]
    assert "PosixPath is no built-in type" in snapshot(Pickled(pickle.dumps(Path("/"))))[2]
    for damaged in (b"", b"\x80", b"rubbish", pickle.dumps([1, 2])[:-3]):
        assert snapshot(Pickled(damaged))[2]


def test_what_a_worker_sent_runs_nothing(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    assert "mkdir is no built-in type" in snapshot(Pickled(pickle.dumps(Bomb())))[2]
    assert not (tmp_path / "boom").exists()
