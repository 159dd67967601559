"""Calling a function in a child process: how collecting stays safe from what users' files do when they are imported.

Request and answer are files in a private folder. Users' code may close every descriptor, print anywhere, leave threads
behind or replace signal handlers: none of that touches a file that is opened after it has returned. The answer appears
by renaming, so there is a whole one or none. The child ends by ``os._exit``, whatever threads it still has; its end is a
pidfd that becomes readable.

**Descendants** die with it: first its process group, before the child is reaped and the number could be another's; then
whoever has its session or carries its mark in the environment, looked for until a look finds nobody. What has cleared its
environment and left the session escapes. **It dies with its asker**, whose files it would miss: there is nobody to tell.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from contextlib import suppress
from importlib import import_module

from pexen.errors import PexenError, StateError
from pexen.pool.files import prefix
from pexen.pool.subreaper import tell_when_parent_ends

_MARK = "PEXEN_COLLECTING"
_START = """\
import json, sys
with open(sys.argv[1] + "/request") as file:
    request = json.load(file)
folder, sys.argv, sys.path[:] = sys.argv[1], ["pexen"], request.pop("path")
from pexen.cli.isolate import answer
answer(folder, **request)
"""


def isolate(function: str, argument: str, limit: float) -> str:
    """Return what ``module:function`` returns for ``argument`` in a child process; see `pexen.factory.collect.Isolate`.

    Raises `TimeoutError` after ``limit`` seconds, `PexenError` when the child ends without an answer, and `StateError` when
    there is no space for question or answer.
    """
    import tempfile  # most command lines never get here

    try:
        with tempfile.TemporaryDirectory(prefix=prefix("collect")) as folder:
            return _asked(folder, function, argument, limit)
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise _no_space(error) from error


def _asked(folder: str, function: str, argument: str, limit: float) -> str:
    with open(f"{folder}/request", "w", encoding="ascii") as file:
        json.dump({"path": sys.path, "function": function, "argument": argument, "asker": os.getpid()}, file)
    end = _run(folder, limit)
    try:
        with open(f"{folder}/answer", encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        pass
    try:
        problem = int(os.readlink(f"{folder}/problem"))
    except (OSError, ValueError):
        raise PexenError(end) from None
    raise OSError(problem, os.strerror(problem), folder)


def _no_space(error: OSError) -> StateError:
    facts = [("at", str(error.filename))] if error.filename else []
    return StateError(
        f"nothing can be collected: {error.strerror or error}",
        facts=facts,
        hint="$TMPDIR says where temporary files go",
    )


def answer(folder: str, function: str, argument: str, asker: int) -> None:
    """Call the function, write down what it returns, and end the process. Runs in the child."""
    if not tell_when_parent_ends(signal.SIGKILL, asker):
        os._exit(0)
    module, _, name = function.partition(":")
    text = getattr(import_module(module), name)(argument)
    try:
        with open(f"{folder}/written", "w", encoding="ascii") as file:
            file.write(text)
        os.rename(f"{folder}/written", f"{folder}/answer")
    except OSError as error:
        with suppress(OSError):  # a link needs no space for contents
            os.symlink(str(error.errno), f"{folder}/problem")
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)


def _run(folder: str, limit: float) -> str:
    """Start the child, wait for it, end whatever it started; return how it ended, in words."""
    import subprocess

    child, pidfd, status = None, -1, 0
    try:  # from the first: Ctrl-C may come before there is a name for what has been started
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, folder],
            env={**os.environ, _MARK: folder},
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
        )
        pidfd = os.pidfd_open(child.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(limit * 1000):
            raise TimeoutError(f"no answer within {limit:g} s")
    finally:
        if child is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            status = child.wait()
        if pidfd >= 0:
            os.close(pidfd)
        _end_descendants(-1 if child is None else child.pid, folder)
    return f"exit status {status}" if status >= 0 else f"killed by {_name(-status)}"


def _end_descendants(session: int, mark: str) -> None:
    """Kill what is left of a child: what is in its session, and what carries its mark."""
    wanted = f"{_MARK}={mark}".encode()
    for _ in range(100):  # a fork bomb is stronger than this in any case
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        found = [pid for pid in pids if _is_marked(pid, session, wanted)]
        if not found:
            return
        for pid in found:
            with suppress(OSError):
                pidfd = os.pidfd_open(pid)
                try:  # looked at once more: the number may have become another's
                    if _is_marked(pid, session, wanted):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)


def _is_marked(pid: int, session: int, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            return False
        if int(fields[3]) == session:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            return wanted in file.read().split(b"\0")
    except OSError:  # it has ended, or it is none of ours
        return False


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
