"""Executables as services in a CommandPool: when they are up, how they go, and that nothing is left of them.

Services and tests wait for each other through named pipes, sockets and files: nobody sleeps or polls. What each test has
started it knows by pipes that the processes keep open; when the last one has gone, the pipe says so.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pexen.model.event import Broken, Up
from pexen.model.ready import understood
from pexen.model.result import Outcome
from pexen.model.task import Task, command
from pexen.pool import command as module
from pexen.pool import daemon as services
from pexen.pool import readiness
from pexen.pool.base import Survivors
from pexen.pool.command import CommandPool
from pexen.pool.readiness import LONGEST, check_of
from tests.contract.mailbox import BOUND
from tests.pool.box import Box
from tests.pool.pipes import Pipe, daemon, pipe  # noqa: F401 - a fixture

AGES = 600.0
WAIT = "exec sleep 600"


class Services(Box):
    """A box that knows which services are up."""

    def ups(self) -> dict[Any, Up]:
        found = {event.attempt: event for event in self.events if isinstance(event, Up)}
        assert len(found) == sum(isinstance(event, Up) for event in self.events), "a service that is up twice"
        return found

    def bring_up(self, item: Any, **about: Any) -> Any:
        """Submit a service; return its attempt when it is up."""
        attempt = self.submit(item, **about)
        self.wait_until_up(attempt)
        return attempt

    def wait_until_up(self, attempt: Any) -> Up:
        self.wait_until(lambda: attempt in self.ups() or attempt in self.ended())
        assert attempt in self.ups(), self.ended()[attempt]
        return self.ups()[attempt]

    def take_down(self, attempt: Any) -> Outcome:
        """Have a service end; return its outcome."""
        self.pool.tear_down(attempt)
        return self.wait_for(attempt)


@contextmanager
def opened(workers: int = 1, **options: Any) -> Iterator[Services]:
    pool = CommandPool(workers, **{"capture": True, **options})
    box = Services(pool)
    pool.open(box)
    try:
        yield box
    finally:
        pool.close()


@pytest.fixture
def box() -> Iterator[Services]:
    with opened() as box:
        yield box
    box.events.clear()  # each output keeps its file


@pytest.fixture
def alive(pipe) -> Iterator[Alive]:  # noqa: F811
    one = Alive(pipe("alive"))
    yield one
    os.close(one.fd)


class Alive:
    """A pipe that processes keep open as long as they live: a script begins with ``hold``."""

    def __init__(self, pipe: Pipe) -> None:  # noqa: F811
        self.hold = f"exec 9> {pipe.path}"
        self.fd = os.open(pipe.path, os.O_RDONLY | os.O_NONBLOCK)

    def is_anybody(self) -> bool:
        """Tell whether somebody has it open; to be asked when somebody has had it open."""
        poll = select.poll()
        poll.register(self.fd, 0)
        return not poll.poll(0)

    def wait_until_gone(self) -> None:
        poll = select.poll()
        poll.register(self.fd, 0)
        assert poll.poll(BOUND * 1000), "somebody is still alive"


def serving(script: str = WAIT, **options: Any) -> Task:
    return command(script, "svc", **{"service": True, **options})


PATIENT = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("up", flush=True)
open(sys.argv[1], "w").close()
signal.sigwait({signal.SIGTERM})
print("bye", flush=True)
exec(sys.argv[2])
"""
"""Says that it is up, does what it is told when it is sent SIGTERM. No shell: of those, a child may miss a signal."""


def patient(then: str, up: str = os.devnull) -> str:
    """Return the words for the shell."""
    return shlex.join([sys.executable, "-c", PATIENT, up, then])


def ended(outcome: Outcome) -> tuple[str, str]:
    return str(outcome.status), outcome.reason


def printed(outcome: Outcome) -> bytes:
    return outcome.output.read() if outcome.output else b""


def say(what: Any) -> str:
    return f"echo '{json.dumps(what)}' >&$PEXEN_CONTROL"


# -- up ----------------------------------------------------------------------------------------------------------------


def test_without_a_check_it_is_up_when_it_has_started(box, alive) -> None:
    attempt = box.submit(serving(f"{alive.hold}; {WAIT}"))
    assert box.wait_until_up(attempt) == Up(attempt)
    assert attempt.started > 0
    assert ended(box.take_down(attempt)) == ("passed", "")
    assert [type(event) for event in box.events] == [Up, Outcome]


LISTEN = """
import socket, sys
kind, where, up, go = sys.argv[1:]
sock = socket.socket({"4": socket.AF_INET, "6": socket.AF_INET6, "u": socket.AF_UNIX}[kind])
if kind != "u":
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(where if kind == "u" else ("127.0.0.1" if kind == "4" else "::1", int(where)))
open(up, "w").close()
open(go).readline()
sock.listen()
open(go).readline()
"""


def listening(kind: str, where: str, up: Pipe, go: Pipe, **options: Any) -> Task:
    return command([sys.executable, "-c", LISTEN, kind, where, up.path, go.path], "svc", service=True, **options)


def free_port(family: socket.AddressFamily) -> int:
    try:
        with socket.socket(family) as sock:
            sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
            return int(sock.getsockname()[1])
    except OSError:
        pytest.skip("no IPv6 here")


class Looks:
    """Counts the looks at readiness: a service that was looked at twice more was not up before that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, box: Services) -> None:
        self._count = 0
        self._box = box
        look = services.Services.look

        def counted(this: services.Services) -> None:
            look(this)
            with box._changed:
                self._count += 1
                box._changed.notify_all()

        monkeypatch.setattr(services.Services, "look", counted)

    def wait(self) -> None:
        before = self._count
        self._box.wait_until(lambda: self._count > before + 2)


@pytest.mark.parametrize("kind", ["4", "6"])
@pytest.mark.parametrize("host", ["", "own:"])
def test_a_port(box, pipe, monkeypatch, kind: str, host: str) -> None:  # noqa: F811
    port = free_port(socket.AF_INET if kind == "4" else socket.AF_INET6)
    own = {"4": "127.0.0.1:", "6": "[::1]:"}[kind] if host else ""
    up, go, looks = pipe("up"), pipe("go"), Looks(monkeypatch, box)
    attempt = box.submit(listening(kind, str(port), up, go, ready=f"port:{own}{port}"))
    assert up.get() == b""
    looks.wait()
    assert box.events == []
    go.release()
    assert box.wait_until_up(attempt) == Up(attempt)


def test_a_port_that_answers_itself_is_nobodys() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.connect(("127.0.0.1", port))  # as the kernel may pick it for who connects to a free one
        assert readiness._is_itself(sock)


def test_a_connection_that_takes_its_time_is_asked_for_later(monkeypatch) -> None:
    class Slow:
        """A socket that gets through the third time."""

        made: ClassVar[list[Slow]] = []

        def __init__(self, family: socket.AddressFamily) -> None:
            assert family == socket.AF_INET
            self.answers = [errno.EINPROGRESS, errno.EALREADY, 0, errno.EINPROGRESS]
            self.is_open = True
            self.made.append(self)

        def setblocking(self, flag: bool) -> None:
            assert not flag

        def connect_ex(self, address: tuple[str, int]) -> int:
            assert address == ("192.0.2.7", 80)
            return self.answers.pop(0)

        def getsockname(self) -> str:
            return "us"

        def getpeername(self) -> str:
            return "them"

        def __enter__(self) -> None:
            """Be left."""

        def __exit__(self, *_: object) -> None:
            self.close()

        def close(self) -> None:
            self.is_open = False

    monkeypatch.setattr(readiness.socket, "socket", Slow)
    check = check_of(understood("port:192.0.2.7:80"), -1, "", -1)
    assert check is not None
    assert [check.holds() for _ in range(3)] == [False, False, True]
    assert [one.is_open for one in Slow.made] == [False]
    assert not check.holds()
    assert [one.is_open for one in Slow.made] == [False, True]
    check.close()
    assert [one.is_open for one in Slow.made] == [False, False]


@pytest.mark.parametrize("deep", ["", "d" * 100 + "/"], ids=["short", "long"])
def test_a_unix_socket_is_relative_to_the_tasks_folder(box, pipe, monkeypatch, tmp_path, deep: str) -> None:  # noqa: F811
    folder = tmp_path / deep
    folder.mkdir(exist_ok=True)
    up, go, looks = pipe("up"), pipe("go"), Looks(monkeypatch, box)
    attempt = box.submit(listening("u", "x.sock", up, go, ready="socket:x.sock", cwd=folder))
    assert up.get() == b""
    assert (folder / "x.sock").exists()
    looks.wait()
    assert box.events == []
    go.release()
    box.wait_until_up(attempt)


def test_a_file_is_relative_to_the_tasks_folder(box, pipe, monkeypatch, tmp_path) -> None:  # noqa: F811
    go, looks = pipe("go"), Looks(monkeypatch, box)
    (tmp_path / "run").mkdir()
    script = f"read x < {go.path}; echo $$ > x.pid; {WAIT}"
    attempt = box.submit(serving(script, ready="file:run/x.pid", cwd=tmp_path, env={}))
    looks.wait()
    assert box.events == []
    (tmp_path / "x.pid").touch()  # another one
    looks.wait()
    assert box.events == []
    go.release()
    (tmp_path / "run" / "x.pid").touch()
    box.wait_until_up(attempt)


def test_a_line_of_what_it_prints(box, pipe, monkeypatch) -> None:  # noqa: F811
    up, go, looks = pipe("up"), pipe("go"), Looks(monkeypatch, box)
    noise = f'i=0; while [ $i -lt 3000 ]; do echo "not yet: listening off port $i {"." * 40}"; i=$((i+1)); done'
    script = f"{noise}; printf 'listening '; echo > {up.path}; read x < {go.path}; printf 'on port 80\\r\\n'; {WAIT}"
    attempt = box.submit(serving(script, ready="log:^listening on port (\\d+)$"))
    assert up.get() == b"\n"
    looks.wait()
    assert box.events == []
    go.release()
    box.wait_until_up(attempt)


def test_a_line_need_not_be_at_its_end(box) -> None:
    box.bring_up(serving(f"printf 'ready> '; {WAIT}", ready="log:^ready> $"))


def test_of_a_long_line_the_end_is_looked_at_and_no_more_is_kept(tmp_path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"x" * 5 * LONGEST + b"first")
    with file.open("rb") as opened_:
        check = check_of(understood("log:first.*second"), -1, "", opened_.fileno())
        assert check is not None
        assert not check.holds()
        assert len(check._rest) == LONGEST  # type: ignore[attr-defined]
        with file.open("ab") as more:
            more.write(b" and second")
        assert check.holds()
        check.close()


def test_without_capture_there_is_no_line_to_look_at() -> None:
    with opened(capture=False) as box:
        assert ended(box.run(serving(ready="log:x"))) == ("error", "ready = log: needs captured output")
        box.bring_up(serving(ready="file:/"))


@pytest.mark.parametrize("ready", ["control", "port:1", "file:/nonexistent", "log:never said"])
def test_it_may_always_say_so_itself(box, pipe, ready: str) -> None:  # noqa: F811
    go = pipe("go")
    script = f"{say({'shared': {'a': 1}})}; {say({'return': 7})}; read x < {go.path}; {say({'ready': True})}; {WAIT}"
    attempt = box.submit(serving(script, ready=ready))
    go.release()
    assert box.wait_until_up(attempt) == Up(attempt, 7, {"a": 1})


def test_it_may_say_its_value_with_it_and_is_answered(box, pipe) -> None:  # noqa: F811
    answered, again = pipe("answered"), say({"ready": {"value": "other"}})
    told = say({"id": 1, "ready": {"value": {"port": 80}}})
    script = f'{say({"return": 7})}; {told}; read -r answer <&$PEXEN_CONTROL; {again}; echo "$answer" > {answered.path}; {WAIT}'
    attempt = box.submit(serving(script, ready="control"))
    assert answered.get() == b'{"id": 1, "ok": true}\n'
    assert box.ups()[attempt].value == {"port": 80}  # before it was answered
    assert ended(box.take_down(attempt)) == ("passed", "")
    assert box.reports() == []


def test_what_it_has_said_before_a_check_held_is_its_value(box) -> None:
    attempt = box.bring_up(serving(f"{say({'return': [80]})}; echo listening; {WAIT}", ready="log:listening"))
    assert box.ups()[attempt].value == [80]


@pytest.mark.parametrize(
    "task", [command, lambda script, **more: serving(f"{script}; echo up; {WAIT}", ready="log:up", **more)]
)
def test_all_that_was_said_before_it_was_up_counts_although_nobody_has_listened_yet(box, monkeypatch, task) -> None:
    monkeypatch.setattr(module._Loop, "_hear", lambda *_: None)
    attempt = box.bring_up(task(f"{say({'return': 7})}; {say({'shared': {'a': 1}})}", teardown="true"))
    assert box.ups()[attempt] == Up(attempt, 7, {"a": 1})


def test_who_is_no_service_cannot_be_ready(box) -> None:
    for task in (command(say({"ready": True}), "a"), command(say({"ready": True}), "b", teardown="true")):
        attempt = box.submit(task)
        box.wait_until(lambda: bool(box.reports(attempt)))  # noqa: B023 - called at once
        assert "only a service is ready" in box.reports(attempt)[0].message


def test_its_worker_is_free_when_it_is_up(box, pipe) -> None:  # noqa: F811
    go = pipe("go")
    attempt = box.submit(serving(f"read x < {go.path}; {say({'ready': True})}; {WAIT}", ready="control"))
    behind = box.submit("true")
    assert behind not in box.ended()
    go.release()
    assert box.wait_for(behind).status == "passed"
    ups = [box.bring_up(serving()) for _ in range(3)]
    assert box.run("true").status == "passed"
    assert [ended(box.take_down(one)) for one in [attempt, *ups]] == [("passed", "")] * 4
    one, two = box.submit(f"read x < {go.path}"), box.submit("true")
    assert [ended(box.wait_for(each)) for each in (one, two)] == [("passed", "")] * 2


def test_workers_are_not_more_than_before_when_services_have_gone(box, pipe) -> None:  # noqa: F811
    for _ in range(3):
        box.take_down(box.bring_up(serving()))
    up, go = pipe("up"), pipe("go")
    box.submit(f"echo > {up.path}; read x < {go.path}")
    up.get()
    assert box.pool._loop._slots == []
    go.release()
    box.wait_for_ends(4)
    assert box.pool._loop._slots == [0]
    assert box.pool._loop._services._timed == {}, "who has gone is still looked at"


CONNECT = (
    "import json, os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ['PEXEN_SOCKET']);"
    " s.sendall(json.dumps({'id': 1, %r: %r}).encode() + b'\\n'); s.recv(100)"
)


def test_who_comes_to_the_socket_of_a_service_is_not_taken_for_who_has_its_worker_now(box, pipe) -> None:  # noqa: F811
    go, up = pipe("go"), pipe("up")
    late = f'read x < {go.path}; {sys.executable} -c "{CONNECT % ("shared", {"late": 1})}"; echo > {up.path}; {WAIT}'
    attempt = box.bring_up(serving(late))
    other = box.submit(f'read x < {up.path}; {sys.executable} -c "{CONNECT % ("return", 3)}"')
    go.release()
    assert box.wait_for(other).value == 3
    assert box.take_down(attempt).shared == {"late": 1}


# -- it ends too early ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("true", ("failed", "it ended before it was ready (exit code 0)")),
        ("exit 3", ("failed", "it ended before it was ready (exit code 3)")),
        ("exit 77", ("failed", "it ended before it was ready (exit code 77)")),
        ("kill -9 $$", ("crashed", "it ended before it was ready (killed by signal 9 (SIGKILL))")),
    ],
)
@pytest.mark.parametrize("ready", ["control", "port:1", "file:/nonexistent"])
def test_one_that_ends_before_it_is_ready(box, alive, script: str, ready: str, end: tuple[str, str]) -> None:
    outcome = box.run(serving(f"{alive.hold}; sleep 600 & {script}", ready=ready))
    assert ended(outcome) == end
    assert box.ups() == {}
    alive.wait_until_gone()
    assert box.run("true").status == "passed"


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 0", ("failed", "it ended by itself while it was needed (exit code 0)")),
        ("exit 5", ("failed", "it ended by itself while it was needed (exit code 5)")),
        ("kill -11 $$", ("crashed", "it ended by itself while it was needed (killed by signal 11 (SIGSEGV))")),
    ],
)
@pytest.mark.parametrize("teardown", [None, "touch cleaned"])
def test_one_that_ends_while_it_is_up(box, alive, pipe, tmp_path, script, end, teardown) -> None:  # noqa: F811
    go = pipe("go")
    task = serving(f"{alive.hold}; sleep 600 & read x < {go.path}; {script}", teardown=teardown, cwd=tmp_path)
    attempt = box.bring_up(task)
    go.release()
    assert ended(box.wait_for(attempt)) == end
    alive.wait_until_gone()
    box.pool.tear_down(attempt)
    assert box.run("true").status == "passed"
    assert len(box.ended()) == 2
    assert not (tmp_path / "cleaned").exists()


def test_one_that_cannot_be_started(box) -> None:
    outcome = box.run(command(["./no"], "svc", service=True, ready="port:1"))
    assert outcome.status == "error"
    assert box.events == [outcome]


def test_an_exit_status_that_somebody_else_took_is_lost(pipe) -> None:  # noqa: F811
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with opened() as box:
            go = pipe("go")
            attempt = box.submit(serving(f"read x < {go.path}"))
            box.wait_until_up(attempt)
            go.release()
            assert ended(box.wait_for(attempt)) == ("lost", module.TAKEN)
            assert ended(box.run(command("true", teardown="true"))) == ("lost", module.TAKEN)
    finally:
        signal.signal(signal.SIGCHLD, before)


# -- it is taken down ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "then", ["", "sys.exit(9)", "os.kill(0, signal.SIGUSR1)", "os.kill(os.getpid(), signal.SIGSEGV)"]
)
def test_it_is_asked_and_ends_however_it_likes(box, alive, then: str) -> None:
    attempt = box.bring_up(serving(f"{alive.hold}; exec {patient(then)}", ready="log:up", grace=AGES))
    outcome = box.take_down(attempt)
    assert ended(outcome) == ("passed", "")
    assert printed(outcome) == b"up\nbye\n"
    alive.wait_until_gone()


def test_one_that_is_stopped_is_asked_as_well(box, pipe) -> None:  # noqa: F811
    up = pipe("up")
    attempt = box.bring_up(
        serving(f"trap 'exit 0' TERM; echo $$ > {up.path}; while :; do kill -STOP $$; done", grace=AGES)
    )
    up.get()
    assert ended(box.take_down(attempt)) == ("passed", "")


@pytest.mark.parametrize("grace", [0, 0.05])
def test_one_that_does_not_hear_is_killed_after_its_grace(box, alive, grace: float) -> None:
    task = serving(f"{alive.hold}; trap '' TERM; (sleep 600; :) & echo up; sleep 600", ready="log:up", grace=grace)
    outcome = box.take_down(box.bring_up(task))
    assert ended(outcome) == ("failed", "it did not stop when asked and was killed")
    assert outcome.left is not None
    assert "process" in outcome.left.killed
    alive.wait_until_gone()


def test_its_grace_is_also_that_of_those_who_were_asked_with_it(box, pipe, monkeypatch) -> None:  # noqa: F811
    """A shell dies of SIGTERM at once; what it has started may take a moment longer than a last breath."""
    go, bye = pipe("go"), pipe("bye")
    looks = Looks(monkeypatch, box)
    then = f"open({bye.path!r}, 'w').close(); open({go.path!r}).readline(); print('saved')"
    attempt = box.bring_up(serving(f"{patient(then)}; :", ready="log:up", grace=AGES))
    box.pool.tear_down(attempt)
    bye.get()  # its shell has gone by now, or is about to
    looks.wait()
    assert attempt not in box.ended()
    go.release()
    outcome = box.wait_for(attempt)
    assert ended(outcome) == ("passed", "")
    assert printed(outcome) == b"up\nbye\nsaved\n"


def test_what_it_has_left_behind_is_ended_and_told(box, alive, pipe) -> None:  # noqa: F811
    script = f"{alive.hold}; {daemon('exec sleep 600', pipe('up'))}; echo up; {WAIT}"
    outcome = box.take_down(box.bring_up(serving(script, ready="log:up", grace=AGES)))
    assert ended(outcome) == ("passed", "")
    assert outcome.left.killed == "1 process (sleep)"
    alive.wait_until_gone()


def test_what_it_prints_is_captured_and_capped() -> None:
    with opened(cap=1000) as box:
        script = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; echo up; exec sleep 600"
        outcome = box.take_down(box.bring_up(serving(script, ready="log:up")))
        data = printed(outcome)
        assert outcome.output is not None
        assert outcome.output.cut
        assert data.startswith(b"line 0\n")
        assert data.endswith(b"line 999\nup\n")


# -- pairs of set-up and clean-up ----------------------------------------------------------------------------------------


def test_a_set_up_is_up_when_it_has_ended_and_its_clean_up_is_run_in_its_place(box, tmp_path) -> None:
    show = 'echo "$1 $(pwd) $PEXEN_PATH $PEXEN_ATTEMPT $EXTRA $PEXEN_DIR"; cat $PEXEN_VALUES; echo $PEXEN_LINEAGE $PEXEN_SOCKET'
    (tmp_path / "show.sh").write_text(f"#!/bin/sh\n{show}\n{say({'report': 'said'})}\n")
    (tmp_path / "show.sh").chmod(0o755)
    task = command("./show.sh it", "a/b", teardown="show.sh it", cwd=tmp_path, env={"EXTRA": "more"})
    attempt = box.bring_up(task, number=3, values={"x": 5})
    assert box.ups()[attempt] == Up(attempt)
    outcome = box.take_down(attempt)
    assert ended(outcome) == ("passed", "")
    text = printed(outcome).decode()
    assert text[: len(text) // 2] == text[len(text) // 2 :]
    assert text.startswith(f"it {tmp_path} a/b 3 more /")
    assert '{"values": {"x": 5}, "shared": {}}' in text
    assert [report.name for report in box.reports(attempt)] == ["said", "said"]
    assert outcome.left is None


def test_its_value_is_what_it_has_said(box) -> None:
    script = f"{say({'return': {'port': 1}})}; {say({'shared': {'a': 1}})}; {say({'report': 'one'})}"
    attempt = box.bring_up(command(script, teardown="true"))
    assert box.ups()[attempt] == Up(attempt, {"port": 1}, {"a": 1})
    assert isinstance(box.events[-1], Up)


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 3", ("failed", "exit code 3")),
        ("exit 77", ("skipped", "exit code 77")),
        ("kill -9 $$", ("crashed", "killed by signal 9 (SIGKILL)")),
    ],
)
def test_a_set_up_that_fails_is_not_cleaned_up(box, alive, tmp_path, script: str, end: tuple[str, str]) -> None:
    task = command(f"{alive.hold}; sleep 600 & {script}", teardown="touch cleaned", cwd=tmp_path)
    outcome = box.run(task)
    assert ended(outcome) == end
    assert box.ups() == {}
    alive.wait_until_gone()
    assert not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("how", ["sleep 600 &", "setsid"])
def test_what_a_set_up_has_started_lives_until_its_clean_up_has_run(box, alive, pipe, how: str) -> None:  # noqa: F811
    start = how if how != "setsid" else daemon("exec sleep 600", pipe("up"))
    attempt = box.bring_up(command(f"{alive.hold}; {start}", teardown="echo clean", grace=0.05))
    for _ in range(3):
        assert box.run("sleep 0 & true").status == "passed"  # others end, and what is left of them
    assert alive.is_anybody()
    outcome = box.take_down(attempt)
    assert ended(outcome) == ("passed", "")
    assert printed(outcome).endswith(b"clean\n")
    assert outcome.left.killed == "1 process (sleep)"
    alive.wait_until_gone()


def test_what_it_has_started_has_its_grace_to_go_after_the_clean_up(box, alive, pipe, monkeypatch) -> None:  # noqa: F811
    go, up, bye = pipe("go"), pipe("up"), pipe("bye")
    looks = Looks(monkeypatch, box)
    then = f"open({bye.path!r}, 'w').close(); open({go.path!r}).readline(); print('saved')"
    script = f"{alive.hold}; setsid {patient(then, up.path)} & echo $! > $PEXEN_DIR/pid; read x < {up.path}; :"
    attempt = box.bring_up(command(script, teardown="kill $(cat $PEXEN_DIR/pid)", grace=AGES))
    box.pool.tear_down(attempt)
    bye.get()
    looks.wait()
    assert attempt not in box.ended()
    go.release()
    outcome = box.wait_for(attempt)
    assert ended(outcome) == ("passed", "")
    assert printed(outcome) == b"up\nbye\nsaved\n"
    assert not outcome.left or not outcome.left.killed
    alive.wait_until_gone()


@pytest.mark.parametrize(
    ("teardown", "reason"),
    [
        ("echo no; exit 3", "teardown: exit status 3"),
        ("kill -9 $$", "teardown: killed by signal 9 (SIGKILL)"),
        ("rm -r $PWD", "teardown: exit status "),
    ],
)
def test_a_clean_up_that_fails(box, alive, pipe, teardown: str, reason: str) -> None:  # noqa: F811
    script = f"{alive.hold}; {daemon('exec sleep 600', pipe('up'))}"
    outcome = box.take_down(box.bring_up(command(script, teardown=teardown, grace=AGES, cwd="/")))
    assert outcome.status == "failed"
    assert outcome.reason.startswith(reason)
    alive.wait_until_gone()


def test_a_clean_up_that_cannot_be_started(box, alive, pipe, tmp_path) -> None:  # noqa: F811
    folder = tmp_path / "folder"
    folder.mkdir()
    script = f"{alive.hold}; {daemon('exec sleep 600', pipe('up'))}; rmdir {folder}"
    outcome = box.take_down(box.bring_up(command(script, teardown="true", grace=AGES, cwd=folder)))
    assert outcome.status == "failed"
    assert outcome.reason.startswith("teardown: cannot start: No such file or directory")
    assert outcome.reason.endswith("it is the folder to run in")
    alive.wait_until_gone()


def test_a_clean_up_waits_for_descriptors(box, pipe, monkeypatch) -> None:  # noqa: F811
    spawn, refused = module._Loop._spawn_cleaner, []

    def scarce(*args: Any) -> Any:
        if not refused:
            refused.append(errno.EMFILE)
            raise OSError(errno.EMFILE, "too many")
        return spawn(*args)

    monkeypatch.setattr(module._Loop, "_spawn_cleaner", scarce)
    up, go = pipe("up"), pipe("go")
    first, second = (box.bring_up(command("true", teardown="echo clean")) for _ in range(2))
    box.submit(f"echo > {up.path}; read x < {go.path}")
    up.get()
    outcome = box.take_down(first)
    assert (ended(outcome), printed(outcome)) == (("passed", ""), b"clean\n")
    go.release()
    box.wait_for_ends(2)
    refused.clear()
    assert ended(box.take_down(second)) == ("failed", "teardown: cannot start: Too many open files: '/bin/sh' (EMFILE)")


def test_what_a_clean_up_leaves_behind_is_ended(box, alive, pipe) -> None:  # noqa: F811
    attempt = box.bring_up(
        command("true", teardown=f"{alive.hold}; {daemon('exec sleep 600', pipe('up'))}; exit 0", grace=0)
    )
    assert box.take_down(attempt).left.killed == "1 process (sleep)"
    alive.wait_until_gone()


# -- both ----------------------------------------------------------------------------------------------------------------


def test_one_that_goes_on_is_stopped_by_its_teardown(box, alive, tmp_path) -> None:
    script = f"{alive.hold}; echo $$ > pid; trap 'echo bye; exit 4' USR1; echo up; while :; do sleep 600 & wait; done"
    task = serving(script, ready="log:up", teardown="kill -USR1 $(cat pid)", cwd=tmp_path, grace=AGES)
    outcome = box.take_down(box.bring_up(task))
    assert ended(outcome) == ("passed", "")
    assert outcome.left.killed == "1 process (sleep)"  # it was for its own process to end that, so nobody has waited
    assert printed(outcome) == b"up\nbye\n"
    alive.wait_until_gone()


def test_one_that_its_teardown_does_not_stop_is_asked_and_then_killed(box, alive) -> None:
    script = "trap 'echo asked' TERM; echo up; while :; do sleep 600; done"
    task = serving(f"{alive.hold}; {script}", ready="log:up", teardown="echo clean", grace=0.1)
    outcome = box.take_down(box.bring_up(task))
    assert ended(outcome) == ("failed", "it did not stop when asked and was killed")
    assert [line for line in printed(outcome).split(b"\n") if line in {b"up", b"clean", b"asked"}] == [
        b"up",
        b"clean",
        b"asked",
    ]
    alive.wait_until_gone()


def test_one_whose_teardown_fails_is_asked_at_once(box, alive) -> None:
    task = serving(f"{alive.hold}; echo up; {WAIT}", ready="log:up", teardown="exit 2", grace=AGES)
    assert ended(box.take_down(box.bring_up(task))) == ("failed", "teardown: exit status 2")
    alive.wait_until_gone()


def test_one_that_ends_during_its_teardown_waits_for_that(box, pipe, tmp_path) -> None:  # noqa: F811
    go, bye = pipe("go"), pipe("bye")
    script = "echo $$ > pid; echo up; exec sleep 600"
    teardown = f"kill $(cat pid); echo > {bye.path}; read x < {go.path}; echo clean"
    attempt = box.bring_up(serving(script, ready="log:up", teardown=teardown, cwd=tmp_path, grace=AGES))
    box.pool.tear_down(attempt)
    bye.get()
    assert box.run("true").status == "passed"
    assert attempt not in box.ended()
    go.release()
    outcome = box.wait_for(attempt)
    assert (ended(outcome), printed(outcome)) == (("passed", ""), b"up\nclean\n")


# -- by force ------------------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[str, Pipe], Task]] = {
    "goes on": lambda hold, _: serving(f"{hold}; trap '' TERM; echo up; sleep 600 & sleep 600", ready="log:up"),
    "set-up": lambda hold, up: command(f"{hold}; {daemon('exec sleep 600', up)}; sleep 600 &", "svc", teardown="true"),
    "both": lambda hold, up: serving(
        f"{hold}; {daemon('exec sleep 600', up)}; echo up; {WAIT}", ready="log:up", teardown="true"
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@each_kind
def test_one_that_is_up_is_killed_on_request(box, alive, pipe, kind) -> None:  # noqa: F811
    attempt = box.bring_up(kind(alive.hold, pipe("up")))
    box.pool.cancel(attempt, force=True)
    assert ended(box.wait_for(attempt)) == ("cancelled", "killed on request")
    alive.wait_until_gone()
    box.pool.tear_down(attempt)
    assert box.run("true").status == "passed"


@each_kind
def test_one_that_is_up_is_asked_to_stop_on_request(box, alive, pipe, kind) -> None:  # noqa: F811
    attempt = box.bring_up(kind(alive.hold, pipe("up")))
    box.pool.cancel(attempt, force=False)
    if attempt.task.service and not attempt.task.teardown:  # it does not listen
        assert box.run("true").status == "passed"
        assert attempt not in box.ended()
        box.pool.cancel(attempt, force=True)
    assert box.wait_for(attempt).status == "cancelled"
    alive.wait_until_gone()
    assert box.run("true").status == "passed"


def test_one_that_is_starting_is_ended_on_request(box, alive, pipe) -> None:  # noqa: F811
    up = pipe("up")
    script = f"{alive.hold}; trap 'exit 0' TERM; echo > {up.path}; while :; do sleep 600 & wait; done"
    attempt = box.submit(serving(script, ready="file:/nonexistent"))
    up.get()
    box.pool.cancel(attempt, force=False)
    assert ended(box.wait_for(attempt)) == ("cancelled", "terminated on request")
    assert box.ups() == {}
    alive.wait_until_gone()


@pytest.mark.parametrize("kind", ["set-up", "both"])
@pytest.mark.parametrize(("force", "how"), [(False, "terminated on request"), (True, "killed on request")])
def test_a_teardown_that_hangs_is_ended_with_everything(box, alive, pipe, kind, force, how) -> None:  # noqa: F811
    up, wait = pipe("cleaning"), pipe("wait")
    teardown = f"{alive.hold}; echo > {up.path}; read x < {wait.path}"
    attempt = box.bring_up(KINDS[kind](alive.hold, pipe("up")).replace(teardown=teardown))
    box.pool.tear_down(attempt)
    up.get()
    box.pool.cancel(attempt, force=force)
    assert ended(box.wait_for(attempt)) == ("cancelled", f"teardown: {how}")
    alive.wait_until_gone()
    assert box.run("true").status == "passed"


def test_a_teardown_that_is_asked_to_stop_is_waited_for(box, pipe) -> None:  # noqa: F811
    up, bye, go = pipe("up"), pipe("bye"), pipe("go")
    then = f"open({bye.path!r}, 'w').close(); open({go.path!r}).readline(); print('saved')"
    attempt = box.bring_up(command("true", teardown=f"exec {patient(then, up.path)}"))
    box.pool.tear_down(attempt)
    up.get()
    box.pool.cancel(attempt, force=False)
    bye.get()
    assert box.run("true").status == "passed"
    go.release()
    outcome = box.wait_for(attempt)
    assert ended(outcome) == ("cancelled", "teardown: terminated on request")
    assert printed(outcome) == b"up\nbye\nsaved\n"


def test_close_ends_services_that_are_up_are_starting_or_are_going(alive, pipe) -> None:  # noqa: F811
    up, wait = pipe("cleaning"), pipe("wait")
    pool = CommandPool(2, capture=True)
    box = Services(pool)
    pool.open(box)
    attempts = [box.bring_up(kind(alive.hold, pipe(f"up{n}"))) for n, kind in enumerate(KINDS.values())]
    attempts.append(box.bring_up(command("true", teardown=f"{alive.hold}; echo > {up.path}; read x < {wait.path}")))
    pool.tear_down(attempts[-1])
    up.get()
    deaf = f"{alive.hold}; trap '' TERM; echo up; sleep 600"
    attempts.append(box.bring_up(serving(deaf, ready="log:up", grace=AGES)))
    pool.tear_down(attempts[-1])
    starting = pipe("starting")
    attempts.append(box.submit(serving(f"{alive.hold}; echo > {starting.path}; {WAIT}", ready="port:1")))
    starting.get()
    assert pool.close() == Survivors()
    assert {str(outcome.status) for outcome in box.ended().values()} == {"cancelled"}
    assert set(box.ended()) == set(attempts)
    assert not any(isinstance(event, Broken) for event in box.events)
    alive.wait_until_gone()
    box.events.clear()


def test_tearing_down_what_is_not_up_does_nothing(box, pipe) -> None:  # noqa: F811
    up, go = pipe("up"), pipe("go")
    attempt = box.submit(
        serving(f"echo > {up.path}; read x < {go.path}; {say({'ready': True})}; {WAIT}", ready="control")
    )
    up.get()
    box.pool.tear_down(attempt)
    go.release()
    box.wait_until_up(attempt)
    assert ended(box.take_down(attempt)) == ("passed", "")
    box.pool.tear_down(attempt)
    box.pool.tear_down(box.submit("true"))
    box.wait_for_ends(2)
    CommandPool(1).tear_down(attempt)


def test_it_can_be_taken_down_from_within_a_post(pipe) -> None:  # noqa: F811
    with opened() as box:
        box.on_event = lambda event: box.pool.tear_down(event.attempt) if isinstance(event, Up) else None
        attempt = box.submit(serving())
        assert ended(box.wait_for(attempt)) == ("passed", "")
        box.on_event = None


def test_the_files_of_a_pair_are_found_where_the_shell_would_not(box, tmp_path) -> None:
    file = Path(tmp_path, "clean.sh")
    file.write_text("#!/bin/sh\necho cleaned $1\n")
    task = command("true", teardown="clean.sh now", cwd=tmp_path, grace=0)
    assert ended(box.take_down(box.bring_up(task))) == ("failed", "teardown: exit status 127")
    file.chmod(0o755)
    assert printed(box.take_down(box.bring_up(task))) == b"cleaned now\n"
