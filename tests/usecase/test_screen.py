"""Writing where nobody, or somebody slow, is reading."""

import os
import threading

import pytest

from pexen.usecase.screen import Screen, is_live


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    ends = {"reading": reading, "writing": writing}
    yield ends
    for fd in ends.values():
        if fd is not None:
            os.close(fd)


def test_everything_arrives_although_the_other_side_is_slow_and_does_not_block(pipe):
    os.set_blocking(pipe["writing"], False)
    screen = Screen(pipe["writing"])
    text = "ä" * 500_000
    writer = threading.Thread(target=screen.write, args=[text])
    writer.start()
    data = b""
    while len(data) < 1_000_000:
        data += os.read(pipe["reading"], 4096)
    writer.join()
    assert data.decode() == text


def test_a_screen_that_is_gone_says_nothing(pipe):
    os.close(pipe["reading"])
    pipe["reading"] = None
    screen = Screen(pipe["writing"])
    screen.write("lost")
    screen.write("lost as well")


def test_a_closed_descriptor_is_a_screen_that_is_gone(pipe):
    screen = Screen(pipe["writing"])
    os.close(pipe["writing"])
    pipe["writing"] = None
    screen.write("lost")
    assert screen.width() == 80
    assert not screen.is_terminal


@pytest.mark.parametrize(
    ("env", "live"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({}, False), ({"TERM": "xterm", "CI": "1"}, False)],
)
def test_live_is_for_people_on_a_terminal(env, live):
    master, slave = os.openpty()
    try:
        assert is_live(Screen(slave), env) is live
        assert not is_live(Screen(-1), env)
    finally:
        os.close(master)
        os.close(slave)
