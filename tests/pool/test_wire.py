"""Frames: what was sent is read, whatever the pieces; what was not sent is not."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.pool import wire

FRAMES = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=200)), min_size=1, max_size=6
)


def stream(frames) -> bytes:
    return b"".join(wire.frame(*frame) for frame in frames)


@given(FRAMES, st.data())
def test_frames_are_read_whatever_the_pieces(frames, data) -> None:
    sent = stream(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    reader, found = wire.Reader(), []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        if start < end:
            assert reader.wanted > 0
            found += reader.feed(sent[start:end])
    assert found == frames
    assert not reader.damaged


def test_a_frame_may_come_byte_by_byte() -> None:
    sent = [(1, 7, b""), (2, 2**64 - 1, b"payload"), (3, 0, bytes(300))]
    reader = wire.Reader()
    found = [frame for byte in stream(sent) for frame in reader.feed(bytes([byte]))]
    assert found == sent


def test_a_frame_of_many_megabytes() -> None:
    sent = [(1, 1, os.urandom(5_000_000)), (2, 2, b"x")]
    data, reader, found = stream(sent), wire.Reader(), []
    while data:
        size = reader.wanted
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == sent


def test_a_tail_is_part_of_the_payload() -> None:
    assert wire.Reader().feed(wire.frame(1, 2, b"head", b"tail")) == [(1, 2, b"headtail")]
    assert wire.frame(1, 2, b"head", b"tail") == wire.frame(1, 2, b"headtail")


@given(FRAMES, st.data())
def test_a_flipped_bit_is_never_taken_for_a_frame(frames, data) -> None:
    sent = bytearray(stream(frames))
    place = data.draw(st.integers(0, len(sent) * 8 - 1))
    sent[place // 8] ^= 1 << place % 8
    reader = wire.Reader()
    found = reader.feed(bytes(sent))
    assert found == frames[: len(found)]
    assert len(found) < len(frames)
    assert reader.damaged


@given(st.binary(min_size=wire.HEAD.size))
def test_garbage_is_recognised_at_once(garbage: bytes) -> None:
    """And does not keep the reader waiting for the megabytes that it seems to announce."""
    reader = wire.Reader()
    assert reader.feed(garbage) == []
    assert reader.damaged
    assert reader.feed(wire.frame(1, 1)) == []


@given(st.binary(min_size=1, max_size=wire.HEAD.size - 1))
def test_less_garbage_is_recognised_with_the_next_frame(garbage: bytes) -> None:
    reader = wire.Reader()
    assert reader.feed(garbage) == []
    assert reader.feed(wire.frame(1, 1, b"x" * 100)) == []
    assert reader.damaged


def test_frames_before_the_damage_count() -> None:
    reader = wire.Reader()
    assert reader.feed(wire.frame(1, 1, b"good") + bytes(100)) == [(1, 1, b"good")]
    assert reader.damaged


def test_a_payload_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LONGEST", 5)
    assert wire.frame(1, 1, b"12345")
    with pytest.raises(ValueError, match="6 bytes"):
        wire.frame(1, 1, b"123", b"456")


@given(st.dictionaries(st.integers(0, 255), st.binary()), st.binary(max_size=20))
def test_parts(parts, before: bytes) -> None:
    packed = before + wire.pack_parts(parts.items())
    assert wire.unpack_parts(packed, len(before)) == parts
    assert wire.unpack_parts(bytearray(packed), len(before)) == parts


def test_cut_parts_are_refused() -> None:
    packed = wire.pack_parts([(1, b"value"), (2, b"other")])
    whole = {0, len(wire.pack_parts([(1, b"value")])), len(packed)}
    for length in range(len(packed) + 1):
        if length in whole:
            wire.unpack_parts(packed[:length], 0)
        else:
            with pytest.raises(ValueError, match="cut"):
                wire.unpack_parts(packed[:length], 0)


@given(st.text(st.characters()))
def test_text(text: str) -> None:
    assert wire.decoded(wire.encoded(text)) == text


def test_lone_surrogates_travel() -> None:
    assert wire.decoded(wire.encoded("a\udcffb\ud800")) == "a\udcffb\ud800"


def test_what_refers_to_main_is_pickled_by_value() -> None:
    namespace = {"__name__": "__main__"}
    exec("class Thing:\n  def __init__(self): self.text = 'done'\n", namespace)
    data = wire.dumps(namespace["Thing"]())
    code = f"import pickle; print(pickle.loads({data!r}).text)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"


def test_what_has_a_name_is_pickled_by_name() -> None:
    assert b"cloudpickle" not in wire.dumps([Path, os.getcwd, Path("/")])
    assert pickle.loads(wire.dumps([Path, Path("/")])) == [Path, Path("/")]


def test_importing_it_costs_next_to_nothing() -> None:
    """It is part of what starting a worker takes."""
    code = (
        "import os, sys; before = set(sys.modules); import pexen.pool.worker; print(*sorted(set(sys.modules) - before))"
    )
    source = str(Path(wire.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": source}
    )
    known = {"_contextvars", "_struct", "_thread", "contextvars", "marshal", "struct", "zlib", "__future__"}
    found = {name for name in done.stdout.split() if not name.startswith("pexen")}
    assert found <= known
