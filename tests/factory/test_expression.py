import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import DefinitionError
from pexen.factory.expression import DEEPEST, LONGEST, Parser, is_true

WORDS = re.compile(r"(?P<space>\s+)|(?P<op>[()])|(?P<word>[^\s()]+)")


def word(parser):
    token = parser.token
    if token.kind != "word" or token.text in {"and", "or"}:
        raise parser.wrong("a word is missing")
    return parser.take().text


def value(text, true):
    return is_true(Parser("-x", text, WORDS, word).parse(), true.__contains__)


@pytest.mark.parametrize(
    ("text", "true", "expected"),
    [
        ("a", "a", True),
        ("a", "", False),
        ("not a", "", True),
        ("not not a", "a", True),
        ("a or b and c", "a", True),
        ("(a or b) and c", "a", False),
        ("a and not b", "a", True),
        ("not a or b", "b a", True),
        ("not (a or b)", "b", False),
        ("a and b or c and d", "c d", True),
    ],
)
def test_precedence_is_pythons(text, true, expected):
    assert value(text, true.split()) is expected
    names = {name: name in true.split() for name in "abcd"}
    assert bool(eval(text, {}, names)) is expected


@pytest.mark.parametrize(
    ("text", "column"),
    [("", 1), ("a b", 3), ("and", 1), ("a and", 6), ("(a", 3), ("a)", 2), ("not", 4), ("a or or b", 6), ("()", 2)],
)
def test_a_mistake_is_pointed_at(text, column):
    with pytest.raises(DefinitionError) as caught:
        value(text, ())
    facts = dict(caught.value.facts)
    assert facts["text"] == text
    assert facts["here"] == " " * (column - 1) + f"^ column {column}"


def test_the_caret_stands_below_its_column_in_a_long_text_too():
    text = "a " * 300 + "or " + "b " * 300
    with pytest.raises(DefinitionError) as caught:
        value(text.replace("a a", "a or a"), ())
    facts = dict(caught.value.facts)
    assert len(facts["text"]) == 100
    assert facts["here"].startswith(" " * facts["here"].index("^"))


def test_length_and_depth_are_bounded():
    with pytest.raises(DefinitionError, match="at most"):
        value("a or " * LONGEST + "a", ())
    for deep in ("(" * 500 + "a" + ")" * 500, "not " * 400 + "a"):
        with pytest.raises(DefinitionError, match=f"more than {DEEPEST} levels"):
            value(deep, ())


@given(st.text(alphabet="ab() \t\x00\x1bžnotandr'\"", max_size=60))
def test_whatever_is_written_there_is_an_answer_or_a_definition_error(text):
    said = ""
    try:
        assert value(text, {"a"}) in {True, False}
    except DefinitionError as error:
        said = str(error)
    assert "\x1b" not in said.split("text:")[-1]
