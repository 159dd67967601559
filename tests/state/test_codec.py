"""Records as JSON: both codecs write what both read, and mean the same by it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pexen.state import codec

PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
TEXT = st.text(st.characters() | st.sampled_from('\udcff\ud800\0\x7f\u2028\n"\\')).filter(
    lambda text: not PAIR.search(text)
)
"""Any text but what JSON has no words for: two surrogates that belong together and are apart."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
BOTH = [one for one in (codec.with_json(), codec.with_msgspec()) if one is not None]
PAIRS = [(writer, reader) for writer in BOTH for reader in BOTH]


def same(one, other) -> bool:
    """Tell whether two values are equal and of equal type all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
@settings(max_examples=40)
@given(value=st.dictionaries(TEXT, VALUES))
def test_what_one_writes_the_other_reads(writer, reader, value) -> None:
    line = writer.encode(value)
    assert b"\n" not in line
    assert same(reader.decode(line), value)
    assert same(json.loads(line), value)


@pytest.mark.parametrize("using", BOTH)
@pytest.mark.parametrize("value", [10**1000, -(2**64), -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 2**53 + 1])
def test_numbers_come_back_exactly(using, value) -> None:
    assert repr(using.decode(using.encode([value]))) == repr([value])


@pytest.mark.parametrize("using", BOTH)
def test_lone_surrogates_are_escaped(using) -> None:
    value = {"a\udcff": "\udc00\ud800 ö"}
    assert using.encode(value) == b'{"a\\udcff":"\\udc00\\ud800 \\u00f6"}'
    assert using.decode(using.encode(value)) == value


@pytest.mark.parametrize("using", BOTH)
def test_two_surrogates_that_belong_together_come_back_together(using) -> None:
    assert using.decode(using.encode(["\ud83d\ude00"])) == ["\U0001f600"]


@pytest.mark.parametrize("using", BOTH)
def test_derived_types_are_taken_for_what_they_are_derived_from(using) -> None:
    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("user code")

        __repr__ = encode = __str__

    assert using.decode(using.encode({"path": Text("a/b")})) == {"path": "a/b"}


@pytest.mark.parametrize("using", BOTH)
@pytest.mark.parametrize("value", [object(), {1, 2}.__iter__(), b"".join, 1j])
def test_what_is_no_json_is_refused(using, value) -> None:
    with pytest.raises(TypeError):
        using.encode({"value": value})


@pytest.mark.parametrize("using", BOTH)
@pytest.mark.parametrize(
    "line", [b"", b"{", b'{"a":NaN}', b"[Infinity]", b'"\xff"', b"{'a':1}", b"1 2", b"[1,]", b"\0", b"[" * 100_000]
)
def test_what_is_no_json_is_not_read(using, line) -> None:
    with pytest.raises(ValueError):
        using.decode(line)


def test_a_number_that_is_none_is_not_written_as_one() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        codec.with_json().encode({"value": float("nan")})


def test_without_msgspec_there_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert codec.with_msgspec.__wrapped__() is None
    monkeypatch.setattr(codec, "with_msgspec", lambda: None)
    assert codec.fastest.__wrapped__() is codec.with_json()


def test_importing_the_package_imports_no_codec() -> None:
    code = (
        "import sys; import pexen.state.journal, pexen.state.reader, pexen.state.records;"
        "print(*{'msgspec', 'sqlite3', 'asyncio', 'json'} & set(sys.modules))"
    )
    source = str(Path(codec.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": source}
    )
    assert done.stdout.split() == []
