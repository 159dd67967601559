"""The fork server: a process with one thread that has imported the worker's module and forks workers on request.

One request and one answer at a time over a SOCK_SEQPACKET socket, so there is nothing to parse: `FORK` comes with the
worker's descriptors and is answered with its process id (or a negated errno) and a pidfd; `REAP` with a process id is
answered with its exit status. Nothing is reaped unasked: until the runner has signalled a worker's process group, the
worker's number must not be given to another process. The server ends when the runner's end of the socket is closed.
"""

from __future__ import annotations

import os
from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket
from struct import Struct, calcsize

from pexen.pool import worker

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

FORK, REAP = 1, 2
_MESSAGE = Struct("<Bq")
_MOST = 4
_ROOM = CMSG_LEN(_MOST * calcsize("i"))


def ask(sock: socket, what: int, number: int, descriptors: Sequence[int] = ()) -> tuple[int, list[int]]:
    """Send a request; return the number and the descriptors of the answer. Raises OSError when there is none."""
    send(sock, what, number, descriptors)
    answer = receive(sock)
    if answer is None:
        raise ConnectionResetError("no answer from the fork server")
    return answer[1:]


def send(sock: socket, what: int, number: int, descriptors: Sequence[int] = ()) -> None:
    """Send one message with descriptors."""
    rights = [(SOL_SOCKET, SCM_RIGHTS, Struct(f"{len(descriptors)}i").pack(*descriptors))] if descriptors else []
    sock.sendmsg([_MESSAGE.pack(what, number)], rights)


def receive(sock: socket) -> tuple[int, int, list[int]] | None:
    """Return one message with its descriptors, or None when the other side has gone."""
    data, ancillary, _, _ = sock.recvmsg(_MESSAGE.size, _ROOM, MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, rights in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            descriptors += Struct(f"{len(rights) // calcsize('i')}i").unpack(rights)
    if not data:
        return None
    what, number = _MESSAGE.unpack(data)
    return what, number, descriptors


def main(fd: int, lifeline: int) -> NoReturn:
    """Be the server at the other end of the inherited socket ``fd``."""
    import gc

    os.set_inheritable(fd, False)
    os.set_inheritable(lifeline, False)
    sock = socket(fileno=fd)
    gc.freeze()  # what is here stays here: the children's collections leave these pages shared
    while (request := receive(sock)) is not None:
        what, number, descriptors = request
        if what == FORK:
            fork(sock, lifeline, descriptors)
        else:
            send(sock, what, os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
    os._exit(0)


def fork(sock: socket, lifeline: int, descriptors: list[int]) -> None:
    """Fork a worker and say so."""
    pid, pidfd = -1, -1
    try:
        pid = os.fork()
        if not pid:
            become(sock, lifeline, *descriptors)
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if pid > 0:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        send(sock, FORK, -(error.errno or 1))
    else:
        send(sock, FORK, pid, [pidfd])
    for opened in [*descriptors, pidfd]:
        if opened >= 0:
            os.close(opened)


def become(sock: socket, lifeline: int, theirs: int, gate: int, stderr: int, first_stderr: int) -> NoReturn:
    """Be a worker; never return into the server."""
    try:
        sock.close()
        os.setsid()
        os.dup2(first_stderr, 2)
        os.close(first_stderr)
        worker.main(theirs, gate, stderr, lifeline)
    except BaseException:  # the interpreter cannot end here as usual, in the middle of the server
        import traceback

        traceback.print_exc()
    os._exit(1)
