"""What is read from a program that speaks TAP, however it is cut and whatever is mixed into it."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.model.result import LEVELS, Report
from pexen.pool import tap
from pexen.pool.tap import Tap


def read(text: str | bytes) -> list[Report]:
    data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    one = Tap()
    return one.feed(data) + one.end()


def told(text: str | bytes) -> list[tuple[str, str, str]]:
    return [(one.name, one.status, one.message) for one in read(text)]


def names(text: str | bytes) -> list[str]:
    return [f"{one.name}={one.status}" for one in read(text)]


@pytest.mark.parametrize(
    ("line", "name", "status", "message"),
    [
        ("ok", "test 1", "pass", ""),
        ("not ok", "test 1", "fail", ""),
        ("ok 1", "test 1", "pass", ""),
        ("ok 0001", "test 1", "pass", ""),
        ("ok - opens", "opens", "pass", ""),
        ("ok opens", "opens", "pass", ""),
        ("ok 1 opens", "opens", "pass", ""),
        ("ok 1 - opens", "opens", "pass", ""),
        ("ok   1   -   opens  ", "opens", "pass", ""),
        ("ok 1 -", "test 1", "pass", ""),
        ("ok 1 - - x", "- x", "pass", ""),
        ("ok 1 -1 is negative", "-1 is negative", "pass", ""),
        ("ok 1x", "1x", "pass", ""),
        ("not ok 1 - closes", "closes", "fail", ""),
        ("ok 1 - issue #12", "issue #12", "pass", ""),
        ("ok 1 - x # SKIP no disk", "x", "skip", "no disk"),
        ("ok 1 # skip", "test 1", "skip", ""),
        ("ok 1 - x # Skipped: no disk", "x", "skip", "no disk"),
        ("not ok 1 - x # SKIP no disk", "x", "skip", "no disk"),
        ("not ok 1 - x # TODO later", "x", "info", "later"),
        ("not ok 1 - x #todo", "x", "info", ""),
        ("ok 1 - x # TODO later", "x", "warn", "passed unexpectedly: later"),
        ("ok 1 - x # TODO", "x", "warn", "passed unexpectedly"),
        ("not ok 1 - x # TODOS", "x # TODOS", "fail", ""),
        (r"ok 1 - x \# skip", "x # skip", "pass", ""),
        (r"ok 1 - x \\# todo a \# b", "x \\", "warn", "passed unexpectedly: a # b"),
        (r"ok 1 - x \\\# todo", r"x \# todo", "pass", ""),
        (r"ok 1 - x \# todo # skip \\", "x # todo", "skip", "\\"),
        (r"ok 1 - C:\dir", r"C:\dir", "pass", ""),
        ("ok 1 - \u017elu\u0165", "\u017elu\u0165", "pass", ""),
    ],
)
def test_a_test(line: str, name: str, status: str, message: str) -> None:
    for version in ("", "TAP version 13\n", "TAP version 14\n"):
        assert read(f"{version}{line}\n1..1\n") == [Report(name, status, message, {"number": 1})]


@pytest.mark.parametrize(
    "line", ["okay", "ok: done", "OK 1", "notok 1", "not  ok 1", " ok 1", "  ok 1", "\tok 1", "x ok 1", "ok1", "# ok 1"]
)
def test_what_is_no_tap_is_nobodys_business(line: str) -> None:
    assert read(f"1..1\n{line}\nok 1 - x\n{line}\n") == [Report("x", "pass", "", {"number": 1})]


def test_each_result_comes_with_the_next_line() -> None:
    one = Tap()
    assert one.feed(b"1..3\nok 1 - a\n") == []
    assert [report.name for report in one.feed(b"working ...\n")] == ["a"]
    assert one.feed(b"ok 2 - b\n  ---\n  x: 1\n") == []
    assert [report.name for report in one.feed(b"  ...\n")] == ["b"]
    assert one.feed(b"ok 3 - c") == []
    assert [report.name for report in one.end()] == ["c"]


# -- diagnostics -------------------------------------------------------------------------------------------------------


def test_a_block_is_kept_as_text() -> None:
    (report,) = read(
        """\
        1..1
        not ok 1 - x
          ---
          message: "a \\"b\\""
          data:
            got: 1

            expect: 2
          ...
        """
    )
    block = 'message: "a \\"b\\""\ndata:\n  got: 1\n\n  expect: 2'
    assert report == Report("x", "fail", 'a "b"', {"number": 1, "yaml": block})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("message: it broke", "it broke"),
        ("message:   it's: broken", "it's: broken"),
        ("message: 'it''s'", "it's"),
        (r'message: "a\tb"', "a\tb"),
        (r'message: "\ud800"', r"\ud800"),
        ('message: "unclosed', ""),
        ("message: |", ""),
        ("message: [a]", ""),
        ("message:", ""),
        ("  message: deeper", ""),
        ("messages: other", ""),
        ("x: 1\n  message: second", "second"),
    ],
)
def test_the_message_is_taken_from_a_block_where_that_is_simple(line: str, message: str) -> None:
    assert told(f"1..1\nnot ok 1 - x\n  ---\n  {line}\n  ...\n") == [("x", "fail", message)]


def test_a_reason_wins_over_the_message_of_a_block() -> None:
    assert told("1..1\nnot ok 1 - x # SKIP why\n  ---\n  message: no\n  ...\n") == [("x", "skip", "why")]


@pytest.mark.parametrize("behind", ["ok 2 - b\n", "noise\nok 2 - b\n", "1..2\nok 2 - b\n"])
def test_a_block_that_is_not_closed_ends_where_the_indentation_does(behind: str) -> None:
    plan = "" if "1..2" in behind else "1..2\n"
    first, second = read(f"{plan}not ok 1 - a\n  ---\n  x: 1\n{behind}")
    assert first.data == {"number": 1, "yaml": "x: 1"}
    assert second == Report("b", "pass", "", {"number": 2})


def test_the_end_closes_a_block() -> None:
    (report,) = read("1..1\nok 1\n  ---\n  x: 1\n  y:")
    assert report.data["yaml"] == "x: 1\ny:"


def test_only_a_test_has_a_block() -> None:
    assert read("  ---\n  message: a\n  ...\n1..1\n  ---\nok 1\nnoise\n  ---\n  ...\n") == [
        Report("test 1", "pass", "", {"number": 1})
    ]


# -- plans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ok 1\n", "there is no plan (1..N)"),
        ("TAP version 14\n", "there is no plan (1..N)"),
        ("1..3\nok 1\nok 2\n", "3 planned, 2 came"),
        ("ok 1\nok 2\n1..1\n", "1 planned, 2 came"),
        ("1..0\nok\n", "0 planned, 1 came"),
        ("1..2\nok 1\nok 1\n", "test 1 where 2 was expected"),
        ("1..3\nok 1\nok 3\nok 2\n", "test 3 where 2 was expected; test 2 where 4 was expected"),
        ("1..2\n1..2\nok\nok\n", "more than one plan"),
        ("ok 2\nok 3\n", "there is no plan (1..N); test 2 where 1 was expected"),
    ],
)
def test_what_is_wrong_with_the_whole_is_one_report(text: str, problem: str) -> None:
    *_, last = told(text)
    assert last == ("plan", "fail", problem)
    assert names(text).count("plan=fail") == 1


def test_a_long_list_of_disorder_is_shortened() -> None:
    assert told(b"1..9\n" + b"ok 7\n" * 9)[-1][2].endswith("; and more")


@pytest.mark.parametrize("text", ["1..2\nok\nok\n", "ok\nok 2\n1..2\n", "ok 1\n1..2\nok 2", "1..2 # two\nok\nok"])
def test_a_plan_that_holds_is_not_mentioned(text: str) -> None:
    assert names(text) == ["test 1=pass", "test 2=pass"]


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("1..0", ""),
        ("1..0 # SKIP no disk", "no disk"),
        ("1..0 # skipped: no disk", "no disk"),
        ("1..0 # no disk", "no disk"),
    ],
)
def test_an_empty_plan_skips_everything(plan: str, why: str) -> None:
    assert read(plan) == [Report("plan", "skip", why)]


@pytest.mark.parametrize("text", ["", "\n", "hello\nnot okay\n", "1..x", "# ok", "1..", "\0" * 100])
def test_no_tap_at_all_is_an_error(text: str) -> None:
    assert read(text) == [Report("plan", "error", "no TAP on its output")]


@pytest.mark.parametrize("start", ["", "1..5\n", "ok 1\n1..5\n", "1..2\nok 2\nok 2\nok 2\n"])
def test_a_bail_out_is_enough(start: str) -> None:
    reports = read(f"{start}Bail out!  no disk\nBail out! again\n")
    assert reports[-1] == Report("bail out", "error", "no disk")
    assert [one.name for one in reports].count("bail out") == 1
    assert "plan" not in [one.name for one in reports]


def test_a_bail_out_from_within() -> None:
    assert names("1..2\n    ok 1 - a\n    bail out!\n") == ["test 1/a=pass", "bail out=error"]


# -- subtests ----------------------------------------------------------------------------------------------------------

NODE = """\
    TAP version 13
    # Subtest: a
        # Subtest: b
            ok 1 - c
              ---
              x: 1
              ...
            not ok 2 - d
            1..2
        not ok 1 - b
        1..1
    not ok 1 - a
      ---
      message: 1 subtest failed
      ...
    1..1
"""
PERL = """\
        # Subtest: a
            # Subtest: b
            ok 1 - c
            not ok 2 - d
            1..2
            #   Failed test 'd'
        not ok 1 - b
        1..1
    not ok 1 - a
    1..1
"""
BARE = """\
        1..1
            1..2
            ok 1 - c
            not ok 2 - d
        not ok 1 - b
    not ok 1 - a
    1..1
"""


@pytest.mark.parametrize(
    ("text", "outer", "inner"),
    [(NODE, "a", "b"), (PERL, "a", "b"), (BARE, "test 1", "test 1")],
    ids=["before", "inside", "unnamed"],
)
def test_subtests_are_reported_with_the_names_around_them(text: str, outer: str, inner: str) -> None:
    text = textwrap.dedent(text)
    if not text.startswith(("TAP", "1..", "    ")):
        text = textwrap.indent(text, "    ")
    found = sorted(names(text))
    assert found == sorted([f"{outer}/{inner}/c=pass", f"{outer}/{inner}/d=fail", f"{outer}/b=fail", "a=fail"])


def test_one_subtest_after_the_other() -> None:
    text = """\
        # Subtest: a
            ok 1 - x
            1..1
        ok 1 - a
        ok 2 - between
        # Subtest: a \\# b
            1..1
            ok 1 - x
        ok 3 - a \\# b
            ok 1 - x
            1..1
        ok 4 - unnamed
        1..4
    """
    assert [name.removesuffix("=pass") for name in names(text)] == [
        "a/x", "a", "between", "a # b/x", "a # b", "test 4/x", "unnamed",
    ]  # fmt: skip


def test_diagnostics_of_subtests_are_their_own() -> None:
    text = """\
        # Subtest: a
            not ok 1 - x
              ---
              message: inner
              ...
            1..1
        not ok 1 - a
          ---
          message: outer
          ...
        1..1
    """
    assert told(text) == [("a/x", "fail", "inner"), ("a", "fail", "outer")]


def test_what_fails_below_an_expected_failure_is_expected() -> None:
    text = """\
        # Subtest: a
            # Subtest: b
                not ok 1 - x
                1..1
            not ok 1 - b
            not ok 2 - y
              ---
              message: known
              ...
            ok 3 - z
            1..4
        not ok 1 - a # TODO later
        1..1
    """
    assert told(text) == [
        ("a/z", "pass", ""),
        ("a/b/x", "info", "later"),
        ("a/b", "info", "later"),
        ("a/y", "info", "known"),
        ("a/plan", "info", "4 planned, 3 came"),
        ("a", "info", "later"),
    ]


def test_a_failure_below_counts_although_the_test_above_says_otherwise() -> None:
    assert names("1..1\n    not ok 1 - x\n    1..1\nok 1 - a\n") == ["test 1/x=fail", "a=pass"]
    assert names("1..1\n    # Subtest: a\n    not ok 1 - x\n    1..1\nok 1 - a # TODO\n") == ["a/x=info", "a=warn"]


def test_failures_below_do_not_wait_in_unlimited_numbers() -> None:
    one = Tap()
    one.feed(b"1..1\n# Subtest: a\n")
    early = one.feed(b"    not ok - x\n" * (tap.HELD + 51))
    assert len(early) == 50
    assert len(one.end()) == tap.HELD + 3  # the last one, and both plans


@pytest.mark.parametrize(
    ("below", "problem"),
    [
        ("    1..2\n    ok 1 - x\n", "2 planned, 1 came"),
        ("    ok 1 - x\n    ok 1 - y\n    1..2\n", "test 1 where 2 was expected"),
        ("# Subtest: test 1\n    ok 1 - x\n", "there is no plan (1..N)"),
    ],
)
def test_a_subtest_has_a_plan_of_its_own(below: str, problem: str) -> None:
    reports = told(f"1..1\n{below}ok 1 - a\n")
    assert reports[-2:] == [("test 1/plan", "fail", problem), ("a", "pass", "")]


def test_something_indented_need_not_be_a_subtest() -> None:
    assert "plan" not in "".join(names("1..1\n    ok then\nok 1 - a\n"))


def test_an_end_within_subtests() -> None:
    text = "1..2\n# Subtest: a\n    1..2\n    # Subtest: b\n        1..1\n        not ok 1 - x"
    assert names(text) == ["a/b/x=fail", "a/plan=fail", "plan=fail"]


def test_a_skipped_subtest() -> None:
    assert told("1..1\n# Subtest: a\n    1..0 # SKIP no\nok 1 - a # SKIP no\n") == [
        ("a/plan", "skip", "no"),
        ("a", "skip", "no"),
    ]


def test_nesting_is_bounded() -> None:
    deepest = tap.DEEPEST
    text = "1..1\n" + "".join(" " * 4 * depth + f"ok 1 - at {depth}\n" for depth in range(3 * deepest, -1, -1))
    found = read(text)
    assert [one.name.rpartition("/")[2] for one in found] == [f"at {depth}" for depth in range(deepest, -1, -1)]


# -- hostile output ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"ok 1 - \xff\xc3", r"\xff\xc3"),
        (b"ok 1 - a\0b", "a\0b"),
        (b"ok 1 - a\rb\r", "a\rb"),
        (b"ok 1 - \x1b[31m", "\x1b[31m"),
        (b"ok 1 - " + b"x" * 5000, "x" * 1000 + "…"),
    ],
    ids=["no UTF-8", "NUL", "CR", "escape", "long"],
)
def test_odd_bytes(raw: bytes, name: str) -> None:
    assert read(b"1..1\r\n" + raw + b"\r\n") == [Report(name, "pass", "", {"number": 1})]


def test_line_ends_of_other_systems() -> None:
    text = b"1..1\r\nnot ok 1 - x\r\n  ---\r\n  message: a\r\n  ...\r\n"
    assert read(text) == [Report("x", "fail", "a", {"number": 1, "yaml": "message: a"})]


def test_absurd_numbers() -> None:
    nines = "9" * 20_000
    reports = read(f"1..{nines}\nok {nines}\nok {nines} - x\n")
    assert [one.data.get("number") for one in reports] == [10**18, 10**18, None]
    assert reports[-1].message.startswith(f"{10**18} planned, 2 came; test {10**18} where 1 was expected")
    assert read("1..0" + "0" * 9999) == [Report("plan", "skip")]


@pytest.mark.parametrize("char", [b"x", b" ", b"\\", b"#", b"9", b"# ", b"ok ", b"\\#skip", b"\0", b"\r", b"\t", b"1."])
@pytest.mark.parametrize(
    "start", [b"", b"ok 1 - ", b"ok 1", b"1..1 #", b"# Subtest:", b"Bail out!", b"ok\n  ---\n  message: "]
)
def test_a_line_without_end_is_bounded(start: bytes, char: bytes) -> None:
    one = Tap()
    one.feed(start)
    for _ in range(20):
        one.feed(char * 50_000)
        assert len(one._rest) <= tap.LONGEST
    one.end()


def test_only_the_rest_of_a_long_line_is_lost() -> None:
    assert names(b"1..2\n" + b"ok 1 - x # SKIP" + b" why" * 100_000 + b"\nok 2 - y\n") == ["x=skip", "y=pass"]
    limit = b"ok 1 - x".ljust(tap.LONGEST)
    assert names(b"1..1\n" + limit + b"\r\n") == names(b"1..1\n" + limit + b"z\r\n") == ["x=pass"]


def test_a_block_without_end_is_bounded() -> None:
    (report,) = read(b"1..1\nok 1\n  ---\n" + b"  key: value\n" * 100_000)
    assert tap.LONGEST - 20 < len(report.data["yaml"]) <= tap.LONGEST


@pytest.mark.parametrize(
    "lines",
    [
        [b"ok %d - test\n"],
        [b"not ok %d - test # TODO later\n"],
        [b"ok 7 - out of order %d\n"],
        [b"noise %d\n"],
        [b"# Subtest: %d\n", b"    not ok 1\n", b"    1..1\n", b"not ok 1\n"],
        [b"1..%d\n"],
        [b"        ok %d\n"],
    ],
    ids=lambda lines: lines[0].decode().strip(),
)
def test_what_is_remembered_does_not_grow(lines: Iterable[bytes]) -> None:
    one = Tap()
    sizes = []
    for start in (1, 20_001):
        for number in range(start, start + 20_000):
            for line in lines:
                one.feed(line % number if b"%d" in line else line)
        sizes.append(len(pickle.dumps(one)))
    assert sizes[1] < sizes[0] + 20


LINES = [
    "ok", "not ok", "ok 1 - x", "not ok 2 - y # TODO z", "ok 3 # SKIP", "1..2", "1..0 # SKIP", "1..3", "TAP version 14",
    "# Subtest: s", "  ---", "  message: m", "  ...", "Bail out!", "noise", "", "\\#", "ok \\\\# todo",
]  # fmt: skip
pieces = st.one_of(
    st.tuples(st.integers(0, 3), st.sampled_from(LINES)).map(lambda it: (" " * 4 * it[0] + it[1] + "\n").encode()),
    st.sampled_from([b"\r\n", b"\n", b" ", b"\0", b"\xff", b"9" * 30, b"x" * 70_000]),
    st.binary(max_size=20),
)
streams = st.lists(pieces, max_size=40).map(b"".join)


@given(data=streams, cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_how_it_is_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    one = Tap()
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reports = [report for start, end in pairwise(at) for report in one.feed(data[start:end])]
    assert reports + one.end() == read(data)


def test_byte_by_byte() -> None:
    data = (textwrap.dedent(NODE) + "Bail out! x\n").encode()
    one = Tap()
    reports = [report for number in range(len(data)) for report in one.feed(data[number : number + 1])]
    assert reports + one.end() == read(data)


@given(data=streams | st.binary())
def test_whatever_comes_becomes_reports(data: bytes) -> None:
    for report in read(data):
        assert report.name
        assert report.status in LEVELS
        f"{report.name}{report.message}{report.data}".encode()
