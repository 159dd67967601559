import datetime as dt
import enum
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import DefinitionError
from pexen.factory.params import Asked, Params


class Level(enum.Enum):
    LOW = 1
    HIGH = "high"


def three(text):
    if text != "3":
        raise ValueError("it is always 3")
    return 3


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", int, 5),
        ("0.5", float, 0.5),
        ("x", str, "x"),
        ("", str, ""),
        ("yes", bool, True),
        ("0", bool, False),
        ("Off", bool, False),
        ("2025-02-28", dt.date, dt.date(2025, 2, 28)),
        ("2025-02-28T10:00", dt.datetime, dt.datetime(2025, 2, 28, 10)),  # noqa: DTZ001 - the user wrote no zone
        ("a/b", Path, Path("a/b")),
        ("LOW", Level, Level.LOW),
        ("high", Level, Level.HIGH),
        ("1", Level, Level.LOW),
        ("3", three, 3),
    ],
)
def test_values_have_the_type_asked_for(text, kind, value):
    assert Params({"p": text}).ask("p", type=kind) == value


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("x", int, "must be int, not 'x'"),
        ("maybe", bool, "must be yes or no, not 'maybe'"),
        ("2025-02-30", dt.date, "must be a date such as"),
        ("MEDIUM", Level, "must be one of LOW, HIGH"),
        ("4", three, "must be three, not '4'"),
        ("nul\0", os.stat, "must be stat"),
    ],
)
def test_a_wrong_value_names_the_parameter(text, kind, wanted):
    with pytest.raises(DefinitionError, match="the parameter 'day'") as caught:
        Params({"day": text}).ask("day", type=kind, where="pexenfile.py:3")
    assert wanted in caught.value.headline
    assert caught.value.where == "pexenfile.py:3"


def test_without_a_value_there_is_the_default():
    params = Params({})
    today = dt.date(2025, 1, 1)
    assert params.ask("day", today, type=dt.date, help="which day") is today
    assert params.ask("none", None) is None
    assert params.ask("level", Level.LOW) is Level.LOW
    with pytest.raises(DefinitionError, match="'size' must be given") as caught:
        params.ask("size", type=int, help="in KiB")
    assert "-D size=" in caught.value.hint
    assert "in KiB" in caught.value.hint
    assert params.asked["day"] == Asked("day", "date", "2025-01-01", "which day", "")
    assert params.asked["level"].default == "LOW"
    assert params.asked["size"].default is None


def test_the_defaults_type_is_the_type():
    params = Params({"a": "5", "b": "no", "c": "x/y", "d": "text"})
    assert params.ask("a", 64) == 5
    assert params.ask("b", True) is False
    assert params.ask("c", Path("z")) == Path("x/y")
    assert params.ask("d") == "text"


def test_what_nobody_asked_for_is_an_error():
    params = Params({"sise": "3", "provider.db": "mysql"})
    params.ask("size", 1)
    with pytest.raises(DefinitionError, match="no parameter 'sise'") as caught:
        params.check()
    assert "did you mean 'size'" in caught.value.hint
    params.ask("sise", 1)
    params.check()
    with pytest.raises(DefinitionError, match="nothing here has parameters"):
        Params({"x": "1"}).check()


@pytest.mark.parametrize("name", ["", "provider.db"])
def test_reserved_names_cannot_be_asked_for(name):
    with pytest.raises(DefinitionError, match="cannot be called"):
        Params().ask(name)


@given(st.text(), st.sampled_from([int, float, bool, str, dt.date, dt.datetime, Path, Level]))
def test_any_text_is_a_value_or_a_definition_error(text, kind):
    said = "'p'"
    try:
        Params({"p": text}).ask("p", type=kind)
    except DefinitionError as error:
        said = error.headline
    assert "'p'" in said
