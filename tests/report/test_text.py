"""What a terminal would obey is made visible, and what is shown to be typed can be typed."""

import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.report import text as texts
from pexen.report.text import first_line, is_coloured, quoted, sized, some_of, spoken, visible, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, äöü, 日本語, 🙂", "plain text, äöü, 日本語, 🙂"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\rc\0d", "a\\x0ab\\x0dc\\x00d"),
        ("\x7f\x80\x9b31m", "\\x7f\\x80\\x9b31m"),
        ("tab\tstays", "tab\tstays"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066\u200f\u061c\ufeff", "\\u2066\\u200f\\u061c\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        (b"\xff".decode(errors="surrogateescape"), "\\udcff"),
    ],
)
def test_hostile_characters_are_made_visible(text, shown):
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    left = {char for char in visible(text) if char != "\t"}
    assert not {char for char in left if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}}
    reordering = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
    assert not {char for char in left if unicodedata.bidirectional(char) in reordering}


def test_lines_are_cut_and_windows_ends_are_ends():
    assert visible_lines("a\r\nb\x1b\n") == ["a", "b\\x1b"]
    assert visible_lines("") == []
    assert visible_lines("\n") == [""]
    (line,) = visible_lines("x" * 600)
    assert line == "x" * 500 + "… (100 more characters)"


def test_the_first_line_is_the_first_that_says_something():
    assert first_line("\n  \n  hello\x1b \nworld") == "hello\\x1b"
    assert first_line("") == ""
    assert len(first_line("y" * 1000)) == 200


COLOUR = [
    ("always", {"NO_COLOR": "1"}, False, True),
    ("never", {"FORCE_COLOR": "1"}, True, False),
    ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
    ("auto", {"NO_COLOR": "", "FORCE_COLOR": "1"}, False, True),
    ("auto", {"CLICOLOR_FORCE": "1", "TERM": "dumb"}, False, True),
    ("auto", {"FORCE_COLOR": "0"}, False, False),
    ("auto", {"FORCE_COLOR": ""}, False, False),
    ("auto", {"TERM": "dumb"}, True, False),
    ("auto", {}, True, True),
    ("auto", {}, False, False),
]


@pytest.mark.parametrize(("choice", "environ", "is_terminal", "answer"), COLOUR)
def test_colour_is_decided_in_the_agreed_order(choice, environ, is_terminal, answer):
    assert is_coloured(choice, environ, is_terminal=is_terminal) is answer


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.00s"),
        (0.0449, "0.04s"),
        (9.99, "9.99s"),
        (9.996, "10.0s"),
        (59.9, "59.9s"),
        (59.96, "1m00s"),
        (125, "2m05s"),
        (3725, "1h02m"),
    ],
)
def test_durations(seconds, shown):
    assert spoken(seconds) == shown


def test_sizes_and_lists():
    assert [sized(size) for size in (0, 1023, 1024, 3 << 20, 5 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "3.0 MiB",
        "5120.0 GiB",
    ]
    assert some_of(list("abc"), 2) == "a, b and 1 more"
    assert some_of([]) == ""


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=5
    )
)
def test_what_is_quoted_is_read_back_by_a_shell(words):
    line = " ".join(quoted(word) for word in words)
    assert visible(line) == line
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


@pytest.mark.parametrize(
    ("path", "start", "typed"),
    [("/a/b/c", "/a", "b/c"), ("/a/b", "/a/b", "."), ("/", "/", "."), ("/a/b", "/a/b/c", ".."), ("/a", "/x/y/z", "/a")],
)
def test_a_path_is_shown_as_one_would_type_it_there(path, start, typed):
    assert texts.shown(path, start) == typed
