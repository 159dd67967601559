"""Lines: whatever is cut is a valid prefix, whatever is changed is named, whatever is missing shows."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import StateError
from pexen.state import lines as lines_module
from pexen.state.lines import Scanner, sealed, unsealed
from tests.state.hand import lines

RECORDS = [
    {"kind": "run", "schema": 1},
    {"kind": "a", "text": "ö\udcff \n"},
    {"kind": "b"},
    {"kind": "c", "n": [1, 2.5]},
]
LINES = lines(*RECORDS)
BODIES = [b"{" + line.split(b",", 2)[2][:-1] for line in LINES]


class File:
    """Bytes on disk that can be changed while they are scanned."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "file"
        self.path.write_bytes(b"")
        self.fd = os.open(self.path, os.O_RDONLY)

    def scan(self, scanner: Scanner, data: bytes) -> list[bytes]:
        self.path.write_bytes(data)
        return list(scanner.records(self.fd, "journal"))


@pytest.fixture
def file(tmp_path):
    made = File(tmp_path)
    yield made
    os.close(made.fd)


@pytest.fixture(params=[7, 1 << 20])
def pieces(request, monkeypatch):
    """Read in pieces that cut every line, or all at once."""
    monkeypatch.setattr(lines_module, "_CHUNK", request.param)


@given(st.integers(1, 2**62), st.integers(0, 2**32 - 1), st.binary(min_size=1).filter(lambda body: b"\n" not in body))
def test_a_line_holds_what_was_sealed(seq, before, body) -> None:
    line, crc = sealed(b"{" + body, seq, before)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert unsealed(line[:-1], seq - 1, before) == (b"{" + body, seq, crc)
    assert unsealed(line[:-1], seq, before) is None
    assert unsealed(line[:-1], seq - 1, before ^ 1) is None


@pytest.mark.usefixtures("pieces")
def test_a_whole_journal(file) -> None:
    scanner = Scanner()
    assert file.scan(scanner, b"".join(LINES)) == BODIES
    assert (scanner.seq, scanner.number, scanner.torn, scanner.damage) == (4, 4, 0, [])
    assert scanner.end == len(b"".join(LINES))


@pytest.mark.usefixtures("pieces")
def test_cut_at_every_byte_it_is_a_valid_prefix(file) -> None:
    whole = b"".join(LINES)
    for size in range(len(whole) + 1):
        scanner = Scanner()
        found = file.scan(scanner, whole[:size])
        assert found == BODIES[: len(found)]
        assert scanner.end == sum(map(len, LINES[: len(found)]))
        assert scanner.torn == size - scanner.end
        assert size < scanner.end + len([*LINES, b"x"][len(found)])


@pytest.mark.usefixtures("pieces")
def test_a_tail_of_nuls_is_torn(file) -> None:
    whole = b"".join(LINES)
    for size in range(len(whole) + 1):
        scanner = Scanner()
        found = file.scan(scanner, whole[:size] + bytes(50))
        assert found == BODIES[: len(found)]
        assert scanner.torn == size + 50 - scanner.end


def test_every_flipped_bit_is_damage_with_a_name(file) -> None:
    whole = b"".join(LINES)
    ends = [sum(map(len, LINES[: n + 1])) for n in range(len(LINES))]
    for place in range(len(whole)):
        number = next(n for n, end in enumerate(ends) if place < end)
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            with pytest.raises(StateError) as caught:
                file.scan(Scanner(), bytes(changed))
            assert dict(caught.value.facts)["at"] == f"journal:{number + 1}"


def test_every_other_byte_is_damage_but_for_a_nul_at_the_very_end(file) -> None:
    whole = b"".join(LINES)
    for place in range(len(whole)):
        for byte in b"\0\nx\xff":
            if whole[place] == byte:
                continue
            changed = whole[:place] + bytes([byte]) + whole[place + 1 :]
            scanner = Scanner()
            if byte == 0 and place == len(whole) - 1:
                assert file.scan(scanner, changed) == BODIES[:-1]
                assert scanner.torn
            else:
                with pytest.raises(StateError, match="damaged"):
                    file.scan(scanner, changed)


@pytest.mark.parametrize(
    ("order", "line"),
    [([0, 2, 3], 2), ([1, 2], 1), ([0, 1, 1, 2], 3), ([0, 2, 1], 2), ([0, 1, 2, 3, 1], 5), ([0, 0], 2), ([3], 1)],
)
def test_lost_doubled_and_moved_lines_show(file, order, line) -> None:
    with pytest.raises(StateError) as caught:
        file.scan(Scanner(), b"".join(LINES[number] for number in order))
    assert dict(caught.value.facts)["at"] == f"journal:{line}"


def test_a_line_of_another_journal_shows(file) -> None:
    other = lines({"kind": "run", "schema": 1, "run": "other"}, *RECORDS[1:])
    with pytest.raises(StateError, match="line before"):
        file.scan(Scanner(), b"".join([*LINES[:2], *other[2:]]))


def test_the_error_names_line_and_byte(file) -> None:
    with pytest.raises(StateError) as caught:
        file.scan(Scanner(), LINES[0] + b"rubbish\n" + LINES[1])
    assert str(caught.value).startswith("the journal is damaged\n  at: journal:2\n")
    assert f"byte: {len(LINES[0])}" in str(caught.value)
    assert "not a line of a journal" in str(caught.value)


def test_behind_damage_lines_count_that_verify_by_what_is_there(file) -> None:
    whole = b"".join(LINES)
    for place in range(len(whole)):
        changed = whole[:place] + b"~" + whole[place + 1 :]
        scanner = Scanner(damaged_ok=True)
        found = file.scan(scanner, changed)
        lost = [body for body in BODIES if body not in found]
        assert 1 <= len(lost) <= (3 if whole[place] == 10 else 2)  # without its newline, two lines are one
        assert found == [body for body in BODIES if body in found]
        assert scanner.damage
        assert scanner.torn == 0
        assert str(scanner.damage[0]).startswith("line ")


def test_behind_missing_lines_the_rest_counts_but_for_one(file) -> None:
    scanner = Scanner(damaged_ok=True)
    assert file.scan(scanner, LINES[0] + LINES[2] + LINES[3]) == [BODIES[0], BODIES[3]]
    assert [one.line for one in scanner.damage] == [2]
    assert "lines are missing" in scanner.damage[0].why


def test_damage_of_different_kinds_is_told(file) -> None:
    more = lines(*RECORDS, *RECORDS)
    scanner = Scanner(damaged_ok=True)
    file.scan(scanner, b"".join([more[0], b"x" + more[1], *more[2:4], *more[6:]]))
    assert [(one.line, one.why.split(":")[0]) for one in scanner.damage] == [
        (2, "it is not a line of a journal"),
        (3, "its checksum does not match its contents, or not the line before it"),
        (5, "number 7 follows 4"),
    ]


def test_not_all_damage_is_told_apart(file) -> None:
    scanner = Scanner(damaged_ok=True)
    assert file.scan(scanner, LINES[0] + b"\n" * 5000 + LINES[1]) == BODIES[:2]
    assert len(scanner.damage) == 100


@pytest.mark.usefixtures("pieces")
def test_it_reads_on_where_it_stopped(file) -> None:
    whole = b"".join(LINES)
    scanner, found = Scanner(), []
    for size in range(len(whole) + 1):
        found += file.scan(scanner, whole[:size])
    assert found == BODIES
    assert scanner.torn == 0


def test_a_long_line_is_read_in_linear_time(file, monkeypatch) -> None:
    monkeypatch.setattr(lines_module, "_CHUNK", 1 << 10)
    long = lines({"kind": "x", "text": "y" * 3_000_000})
    assert len(file.scan(Scanner(), long[0])[0]) > 3_000_000
