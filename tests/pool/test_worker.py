"""The worker's own parts; what it does as a process is in `test_process.py`."""

import os
import socket

import pytest

from pexen.pool import worker


def read_all(sock: socket.socket) -> bytes:
    sock.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: sock.recv(100_000), b""))


def test_a_frame_sent_in_the_middle_of_a_frame_comes_behind_it(monkeypatch) -> None:
    """As by a signal handler that reports while its task reports."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = worker.Link(theirs.fileno())
        write, interruptions = os.write, [b"handler 1", b"handler 2"]

        def interrupted(fd: int, data: bytes) -> int:
            if interruptions:
                link.send(interruptions.pop(0))
            return write(fd, data[:3])

        monkeypatch.setattr(os, "write", interrupted)
        link.send(b"the task")
        link.send(b"later")
        theirs.shutdown(socket.SHUT_WR)
        assert read_all(ours) == b"the taskhandler 1handler 2later"


def test_a_handler_that_raises_does_not_silence_the_link(monkeypatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = worker.Link(theirs.fileno())

        def interrupted(fd: int, data: bytes) -> int:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                link.send(b"lost")
        link.send(b"later")
        theirs.shutdown(socket.SHUT_WR)
        assert read_all(ours) == b"later"
