"""CommandPool: what a command is given, how it ends, what is kept of it, and that nothing is left.

Commands talk to the tests through named pipes: opening one waits for the other side, so nobody sleeps or polls.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pexen.model.event import Broken
from pexen.model.result import Outcome
from pexen.model.task import Task, command
from pexen.pool import command as module
from pexen.pool import tree
from pexen.pool.base import Survivors
from pexen.pool.command import CommandPool
from pexen.pool.files import Files
from pexen.pool.spawn import NativeSpawner, PortableSpawner
from pexen.pool.spool import SLACK, Sink, Spool
from tests.contract.mailbox import BOUND
from tests.pool.box import Box
from tests.pool.pipes import Pipe, daemon, pipe  # noqa: F401 - a fixture

SPAWNERS = {"native": NativeSpawner, "portable": PortableSpawner}


@contextmanager
def opened(workers: int = 2, **options: Any) -> Iterator[Box]:
    pool = CommandPool(workers, **{"capture": True, **options})
    box = Box(pool)
    pool.open(box)
    try:
        yield box
    finally:
        pool.close()


@pytest.fixture
def box() -> Iterator[Box]:
    with opened() as box:
        yield box
        box.events.clear()  # pytest keeps the box for a while, and each output keeps its file


@pytest.fixture(params=SPAWNERS)
def either(request, monkeypatch) -> None:
    """Run a test with each way to start processes."""
    monkeypatch.setattr(module, "spawner", SPAWNERS[request.param])


def sh(script: str, **options: Any) -> Task:
    return command(script, "task", **options)


def ended(outcome: Outcome) -> tuple[str, str]:
    return str(outcome.status), outcome.reason


def printed(outcome: Outcome) -> bytes:
    return outcome.output.read() if outcome.output else b""


# -- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("either")
def test_300_exit_codes_come_back() -> None:
    with opened(4) as box:
        codes = {box.submit(["sh", "-c", f"exit {number % 256}"]): number % 256 for number in range(300)}
        box.wait_until(lambda: len(box.ended()) == 300)
    expected = {0: ("passed", ""), 77: ("skipped", "exit code 77")}
    assert {codes[a]: ended(o) for a, o in box.ended().items()} == {
        code: expected.get(code, ("failed", f"exit code {code}")) for code in range(256)
    }


@pytest.mark.parametrize(
    ("number", "name"), [(11, "SIGSEGV"), (9, "SIGKILL"), (15, "SIGTERM"), (signal.SIGRTMIN + 1, "SIGRTMIN+1")]
)
def test_a_process_that_is_killed_has_crashed(box, number, name) -> None:
    assert ended(box.run(f"kill -{int(number)} $$")) == ("crashed", f"killed by signal {int(number)} ({name})")


def test_it_says_when_it_ran(box) -> None:
    attempt = box.submit("true")
    outcome = box.wait_for(attempt)
    assert 0 < outcome.started == attempt.started
    assert 0 < outcome.duration < BOUND
    assert outcome.value is None
    assert outcome.failure is None
    assert outcome.freed


def test_ended_means_exited_and_what_holds_the_output_open_is_ended_with_it(box, pipe) -> None:  # noqa: F811
    outcome = box.run("echo out; " + daemon("exec sleep 600", pipe("up")))
    assert ended(outcome) == ("passed", "")
    assert outcome.left.killed in {"1 process (sleep)", "1 process (sh)"}  # it may be just about to become sleep
    assert printed(outcome) == b"out\n"


def test_background_processes_of_its_group_are_killed(box, pipe) -> None:  # noqa: F811
    alive = pipe("alive")
    fd = os.open(alive.path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert ended(box.run(f"exec 9> {alive.path}; echo up >&9; sleep 600 & exit 0")) == ("passed", "")
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(BOUND * 1000)
        assert os.read(fd, 10) == b"up\n"
        poll.modify(fd, 0)
        assert poll.poll(BOUND * 1000) == [(fd, select.POLLHUP)], "somebody still has the pipe open"
    finally:
        os.close(fd)


@pytest.mark.parametrize("script", ["true", "sleep 0.05"])
def test_an_exit_status_that_somebody_else_took_is_lost(script) -> None:
    """Whether it had ended before anybody could look, or later."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with opened(4) as box:
            for attempt in [box.submit(script) for _ in range(30)]:
                assert ended(box.wait_for(attempt)) == ("lost", module.TAKEN)
    finally:
        signal.signal(signal.SIGCHLD, before)


# -- what cannot be started ------------------------------------------------------------------------------------------


def file(folder: Path, content: bytes, mode: int = 0o755) -> str:
    path = folder / "x"
    path.write_bytes(content)
    path.chmod(mode)
    return "./x"


FOREIGN = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0\xff\xfe" + b"\0" * 100
CANNOT = {
    "missing": (lambda at: command(["./no"]), "No such file or directory: './no' (ENOENT)"),
    "missing in PATH": (
        lambda at: command(["no-such-program"]),
        "No such file or directory: 'no-such-program' (ENOENT)",
    ),
    "no name": (lambda at: command([""]), "No such file or directory: '' (ENOENT)"),
    "not executable": (
        lambda at: command([file(at, b"#!/bin/sh\n", 0o644)], cwd=at),
        "(EACCES); not executable: chmod +x?",
    ),
    "not executable in PATH": (
        lambda at: command([file(at, b"#!/bin/sh\n", 0o644)[2:]], env={"PATH": str(at)}),
        "Permission denied: 'x' (EACCES)",
    ),
    "a folder": (lambda at: command([str(at)]), "(EACCES)"),
    "bad shebang": (
        lambda at: command([file(at, b"#!/no/such/interpreter -x\n")], cwd=at),
        "(ENOENT); its interpreter (in the #! line) is missing: '/no/such/interpreter -x'",
    ),
    "no shebang": (lambda at: command([file(at, b"echo hello\n")], cwd=at), "(ENOEXEC); no #! line?"),
    "other architecture": (lambda at: command([file(at, FOREIGN)], cwd=at), "(ENOEXEC); wrong architecture?"),
    "too many arguments": (lambda at: command(["true", *["x" * 100_000] * 100]), "Argument list too long: '/"),
    "NUL in an argument": (lambda at: command(["true", "a\0b"]), "a NUL byte in an argument (EINVAL)"),
    "NUL in the environment": (lambda at: command(["true"], env={"A": "\0"}), "environment variable 'A' (EINVAL)"),
    "NUL in the folder": (lambda at: command(["true"], cwd="a\0b"), "a NUL byte in an argument (EINVAL)"),
    "= in a variable's name": (lambda at: command(["true"], env={"A=B": "1"}), "environment variable: 'A=B' (EINVAL)"),
    "a variable without name": (lambda at: command(["true"], env={"": "1"}), "environment variable: '' (EINVAL)"),
    "no text": (lambda at: command(["true", "\ud800"]), "(EINVAL)"),
    "missing folder": (lambda at: command(["true"], cwd=at / "no"), "/no' (ENOENT); it is the folder to run in"),
    "a file as folder": (
        lambda at: command(["true"], cwd=at / file(at, b"")),
        "/x' (ENOTDIR); it is the folder to run in",
    ),
}


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(("make", "said"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_started_is_an_error_and_the_run_goes_on(tmp_path, make, said) -> None:
    with opened() as box:
        bad, good = box.submit(make(tmp_path)), box.submit("true")
        outcome = box.wait_for(bad)
        assert outcome.status == "error"
        assert outcome.reason.startswith("cannot start: ")
        assert said in outcome.reason
        assert outcome.started == 0 == bad.started
        assert outcome.output is None
        assert box.wait_for(good).status == "passed"


def test_a_callable_is_not_a_command(box) -> None:
    assert ended(box.run(lambda: None)) == ("error", "cannot start: not a command")


# -- what it is given ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("either")
def test_files_are_found_as_execvp_would_find_them(tmp_path, monkeypatch) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in (("x", "here"), ("bin/x", "bin"), ("bin/pexen-test-tool", "tool")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path.parent)
    here = {"cwd": tmp_path.name}  # relative to where the runner was
    with opened() as box:
        monkeypatch.chdir("/")
        assert printed(box.run(command(["./x"], **here))) == b"here\n"
        assert printed(box.run(command(["bin/x"], **here))) == b"bin\n"
        assert printed(box.run(command([tmp_path / "bin/x"]))) == b"bin\n"
        assert printed(box.run(command(["pexen-test-tool"], env={"PATH": f"/no:{tmp_path}/bin"}))) == b"tool\n"
        assert printed(box.run(command(["pexen-test-tool"], env={"PATH": "bin"}, **here))) == b"tool\n"
        assert printed(box.run(command(["x"], env={"PATH": ":bin"}, **here))) == b"here\n"
        assert printed(box.run(command(["pwd"], **here))) == f"{tmp_path}\n".encode()
        assert printed(box.run(command(["pwd"]))) == f"{tmp_path.parent}\n".encode()


@pytest.mark.usefixtures("either")
def test_a_removed_folder_of_the_runner_is_no_obstacle(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with opened() as box:
        assert ended(box.run("true")) == ("passed", "")


@pytest.mark.usefixtures("either")
def test_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("OUTER", "outer")
    monkeypatch.setenv("BOTH", "outer")
    for name in ("PEXEN_UNITS_TPU", "PEXEN_VALUES", "PEXEN_PATH"):
        monkeypatch.setenv(name, "of the pexen around")
    monkeypatch.setenv("PEXEN_JOBS", "3")
    with opened() as box:
        monkeypatch.setenv("LATER", "1")
        task = command(["env"], "a/b", env={"BOTH": "inner", "EMPTY": ""})
        units = {"gpu": ("0", "1"), "test-bed.1": ("x",)}
        seen = printed(box.run(task, number=3, units=units)).decode().splitlines()
        others = [printed(box.run(command(["env"], "x", env=env))) for env in ({"A": "1"}, {"B": "2"}, {})]
    assert {"OUTER=outer", "BOTH=inner", "EMPTY=", "PEXEN_JOBS=3", "PEXEN_PATH=a/b", "PEXEN_ATTEMPT=3"} <= set(seen)
    assert {"PEXEN_UNITS_GPU=0,1", "PEXEN_UNITS_TEST_BED_1=x"} <= set(seen)
    assert [(b"\nA=1\n" in one, b"\nB=2\n" in one) for one in others] == [(True, False), (False, True), (False, False)]
    names = [line.partition("=")[0] for line in seen]
    assert len(names) == len(set(names))
    assert not {"LATER", "PEXEN_UNITS_TPU"} & set(names)
    assert {"PEXEN_DIR", "PEXEN_VALUES", "PEXEN_SOCKET", "PEXEN_LINEAGE", "PEXEN_REBOOTS"} <= set(names)


@pytest.mark.usefixtures("either")
def test_input_is_empty_and_the_session_its_own() -> None:
    with opened() as box:
        assert ended(box.run(["cat"])) == ("passed", "")
        session, group, pid = printed(box.run("cut -d' ' -f 5,6 /proc/$$/stat; echo $$")).split()
        assert session == group == pid


def test_signals_have_their_defaults_and_none_is_blocked() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        with opened() as box:
            seen = printed(box.run(["cat", "/proc/self/status"])).decode()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, before)
    fields = dict(line.split(":\t", 1) for line in seen.splitlines())
    of_the_c_library = 1 << 31 | 1 << 32
    assert int(fields["SigBlk"], 16) == 0
    assert int(fields["SigIgn"], 16) & ~of_the_c_library == 0


@pytest.mark.usefixtures("either")
def test_no_descriptor_leaks_into_a_command(pipe) -> None:  # noqa: F811
    wait = pipe("wait")
    look = [sys.executable, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"]
    usual = subprocess.run(look, close_fds=False, capture_output=True, check=True).stdout
    with opened(3) as box:
        others = [box.submit(f"read x < {wait.path}") for _ in range(2)]
        assert set(literal_eval(printed(box.run(look)).decode())) <= {*literal_eval(usual.decode()), "7"}
        wait.release()
        assert [box.wait_for(one).status for one in others] == ["passed", "passed"]


def test_without_capture_it_has_the_runners_streams(capfd) -> None:
    with opened(capture=False) as box:
        outcome = box.run("echo out; echo err >&2")
    assert outcome.output is None
    assert capfd.readouterr() == ("out\n", "err\n")


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_runner_whose_streams_are_closed_runs_commands_all_the_same(tmp_path, closed_first) -> None:
    """Its own files get the numbers of the streams: those of the pool, or those for output."""
    script = tmp_path / "script.py"
    script.write_text(
        "from tests.pool.test_command import *\n"
        "with opened() as box:\n"
        f"    [os.close(number) for number in range({0 if closed_first else 3})]\n"
        "    said = [printed(box.run(['sh', '-c', 'cat; echo out; echo err >&2'])) for _ in range(3)]\n"
        f"open({str(tmp_path / 'said')!r}, 'w').write(repr(said))\n"
    )
    run_python(["-P", str(script)], "0<&- 1>&- 2>&-" if closed_first else "")
    assert (tmp_path / "said").read_text() == repr([b"out\nerr\n"] * 3)


def run_python(words: list[str], redirected: str = "") -> str:
    """Run another Python as this one, return what it prints."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-W", "error", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- output ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("either")
def test_output_is_kept_to_the_byte_in_the_order_of_writing() -> None:
    raw = bytes(range(256)) * 3
    script = "import os\nfor i in range(768): os.write(1 + i % 2, bytes([i % 256]))"
    with opened() as box:
        outcome = box.run([sys.executable, "-c", script])
        assert printed(outcome) == raw
        assert outcome.output is not None
        assert (outcome.output.size, outcome.output.cut) == (768, False)


def test_a_private_folder_is_private_whatever_the_umask(box) -> None:
    before = os.umask(0o777)
    try:
        output = box.run("echo out").output
    finally:
        os.umask(before)
    assert output is not None
    assert os.stat(output.path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(output.path)).st_mode & 0o777 == 0o700


def test_output_lives_as_long_as_results_do_and_not_longer(box) -> None:
    outcome = box.run("echo out")
    assert box.run("true").output is None
    output = outcome.output
    assert output is not None
    folder = os.path.dirname(output.path)
    box.pool.close()
    assert os.listdir(folder) == [os.path.basename(output.path)]
    assert output.read() == b"out\n"
    box.events.clear()
    del outcome, output
    gc.collect()
    assert not os.path.exists(folder)


def test_nothing_printed_leaves_nothing(tmp_path) -> None:
    with opened(output=tmp_path / "out") as box:
        assert all(box.run("true").output is None for _ in range(3))
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.usefixtures("either")
def test_output_goes_to_the_folder_given_whatever_the_umask(tmp_path) -> None:
    before = os.umask(0o777)
    try:
        with opened(output=tmp_path) as box:
            attempts = [box.submit(f"echo {number}" if number % 2 else "true") for number in range(20)]
            outcomes = [box.wait_for(attempt) for attempt in attempts]
    finally:
        os.umask(before)
    kept = {f"{attempt.id}.out": f"{number}\n" for number, attempt in enumerate(attempts) if number % 2}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == kept
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert [bool(one.output) for one in outcomes] == [bool(number % 2) for number in range(20)]


def test_what_is_in_the_way_in_the_folder_is_replaced_and_never_followed(tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "1.out").symlink_to(victim)
    (folder / "2.out").write_text("of an earlier run")
    with opened(output=folder) as box:
        assert [printed(box.run("echo new")) for _ in range(2)] == [b"new\n"] * 2
    assert victim.read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_an_error_of_each_task(tmp_path) -> None:
    (tmp_path / "file").touch()
    with opened(output=tmp_path / "file" / "out") as box:
        outcome = box.run("true")
    assert outcome.status == "error"
    assert "(ENOTDIR)" in outcome.reason


def test_a_file_is_not_used_again_while_anybody_can_write_to_it(tmp_path, pipe) -> None:  # noqa: F811
    """Somebody holds the empty output of a task, and writes when the next one runs."""
    up, go = pipe("up"), pipe("go")
    with opened(1, output=tmp_path) as box:
        first = box.submit(f"echo > {up.path}; read x < {go.path}")
        up.get()
        with open(tmp_path / f"{first.id}.out", "ab", buffering=0) as held:
            go.release()
            assert box.wait_for(first).output is None
            held.write(b"late\n")
            assert printed(box.run("echo mine")) == b"mine\n"


def test_a_file_that_is_free_is_used_again(monkeypatch) -> None:
    made = []
    monkeypatch.setattr(Sink, "__init__", lambda self, path, new=Sink.__init__: made.append(path) or new(self, path))
    with opened(1) as box:
        for number in range(20):
            assert printed(box.run("echo x" if number == 10 else "true")) == (b"x\n" if number == 10 else b"")
    assert len(made) == 2


def test_too_much_output_is_cut_to_head_and_tail() -> None:
    with opened(cap=1000) as box:
        outcome = box.run("printf HEAD; head -c 200000000 /dev/zero; printf TAIL")
        output = outcome.output
        assert output is not None
        assert (output.size, output.cut) == (200_000_008, True)
        line = b"\n[... 199999008 bytes left out ...]\n"
        assert output.read() == b"HEAD" + b"\0" * 496 + line + b"\0" * 496 + b"TAIL"


@pytest.mark.parametrize("size", [1, 999, 1000, 1000 + SLACK])
def test_up_to_the_cap_every_byte_is_kept(size) -> None:
    with opened(cap=1000) as box:
        output = box.run(f"head -c {size} /dev/urandom | tee /dev/stderr | od").output
    with opened(cap=1000) as box:
        output = box.run(f"head -c {size} /dev/zero").output
        assert output is not None
        assert (output.size, output.cut, output.read()) == (size, False, b"\0" * size)


def test_cutting_never_makes_a_file_longer() -> None:
    with opened(cap=100) as box:
        output = box.run(f"head -c {100 + SLACK + 1} /dev/zero").output
        assert output is not None
        assert output.cut
        assert len(output.read()) <= 100 + SLACK


def test_output_that_goes_on_and_on_does_not_fill_the_disk(pipe, monkeypatch) -> None:  # noqa: F811
    wait = pipe("wait")
    looked = threading.Event()
    used: list[int] = []

    def look(sink: Sink, cap: int) -> bool:
        found = real(sink, cap)
        if os.fstat(sink.fd).st_size == 30_000_000 and not found:
            used.append(os.fstat(sink.fd).st_blocks * 512)
            looked.set()
        return found

    real = Sink.look
    monkeypatch.setattr(Sink, "look", look)
    monkeypatch.setattr(module, "LOOK", 0.01)
    with opened(cap=200_000) as box:
        attempt = box.submit(f"yes | head -c 30000000; read x < {wait.path}")
        assert looked.wait(BOUND)
        assert used[0] < 3_000_000
        wait.release()
        output = box.wait_for(attempt).output
        assert output is not None
        kept = output.read()
    assert output.size == 30_000_000
    assert kept.startswith(b"y\n" * 50_000)
    assert kept.endswith(b"y\n" * 50_000)
    assert len(kept) < 200_000 + SLACK


def test_a_file_system_without_holes_is_none_the_worse(tmp_path, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr("pexen.pool.spool._punch", refuse)
    spool = Spool(Files(tmp_path), cap=1000)
    sink = spool.begin(1)
    os.write(sink.write, b"a" * 1000 + b"b" * 1000)
    sink.started()
    assert [sink.look(1000), sink.look(1000)] == [False, False]
    output = spool.end(sink)
    spool.close()
    assert output is not None
    assert output.read() == b"a" * 500 + b"\n[... 1000 bytes left out ...]\n" + b"b" * 500


def test_nothing_is_left_when_the_interpreter_ends(tmp_path) -> None:
    """Neither when the results are still there, nor when nobody has closed the pool."""
    script = (
        "from tests.pool.test_command import *\n"
        "box = Box(CommandPool(2, capture=True)); box.pool.open(box); box.run('echo out'); held = box.events\n"
        f"import tempfile; assert tempfile.gettempdir() == {str(tmp_path)!r}; assert os.listdir({str(tmp_path)!r})\n"
    )
    os.environ["TMPDIR"], before = str(tmp_path), os.environ["TMPDIR"]
    try:
        run_python(["-c", script])
    finally:
        os.environ["TMPDIR"] = before
    assert os.listdir(tmp_path) == []


# -- stopping --------------------------------------------------------------------------------------------------------


def test_what_has_not_started_is_taken_out(pipe) -> None:  # noqa: F811
    wait = pipe("wait")
    with opened(1) as box:
        first, second = box.submit(f"read x < {wait.path}"), box.submit("true")
        box.pool.cancel(second, force=False)
        assert ended(box.wait_for(second)) == ("cancelled", "not started")
        assert first not in box.ended()
        wait.release()
        assert box.wait_for(first).status == "passed"
        assert second.started == 0


@pytest.mark.parametrize(
    ("then", "end"),
    [
        ("exit 3", ("cancelled", "terminated on request (exit code 3)")),
        ("exit 77", ("cancelled", "terminated on request (exit code 77)")),
        ("kill -ABRT $$", ("cancelled", "terminated on request (killed by signal 6 (SIGABRT))")),
        ("exit 0", ("passed", "")),
    ],
)
def test_what_ends_by_itself_when_asked_is_cancelled_unless_it_succeeds(box, pipe, then, end) -> None:  # noqa: F811
    up = pipe("up")
    attempt = box.submit(f"trap '{then}' TERM; echo up > {up.path}; sleep 600 & wait; exit 9")
    assert up.get() == b"up\n"
    box.pool.cancel(attempt, force=False)
    assert ended(box.wait_for(attempt)) == end


def test_one_that_ignores_sigterm_is_killed_by_force(box, pipe) -> None:  # noqa: F811
    up = pipe("up")
    attempt = box.submit(f"trap '' TERM; echo up > {up.path}; sleep 600; sleep 600")
    assert up.get() == b"up\n"
    box.pool.cancel(attempt, force=False)
    box.pool.cancel(attempt, force=True)
    assert ended(box.wait_for(attempt)) == ("cancelled", "killed on request")


@pytest.mark.parametrize(("force", "how"), [(False, "terminated on request"), (True, "killed on request")])
def test_one_that_stops_itself_is_ended(box, pipe, force, how) -> None:  # noqa: F811
    up = pipe("up")
    attempt = box.submit(f"echo $$ > {up.path}; kill -STOP $$")
    os.waitid(os.P_PID, int(up.get()), os.WSTOPPED | os.WNOWAIT)
    box.pool.cancel(attempt, force=force)
    assert ended(box.wait_for(attempt)) == ("cancelled", how)


def test_never_more_than_the_workers_run(tmp_path) -> None:
    log = tmp_path / "log"
    with opened(3) as box:
        for _ in range(60):
            box.submit(f"echo + >> {log}; sleep 0.01; echo - >> {log}")
        box.wait_until(lambda: len(box.ended()) == 60)
    running = most = 0
    for line in log.read_text().split():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert 1 < most <= 3


# -- scarcity and trouble --------------------------------------------------------------------------------------------


@contextmanager
def descriptors(more: int) -> Iterator[None]:
    """Allow only so many more open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.open("/", os.O_RDONLY)
    os.close(first)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("more", [8, 9, 10, 11, 12])
def test_with_too_few_descriptors_less_runs_at_a_time(more) -> None:
    with opened(20) as box:
        box.run("true")  # what is imported late is here now
        with descriptors(more):
            attempts = [box.submit("echo x") for _ in range(40)]
            assert {box.wait_for(attempt).status for attempt in attempts} == {"passed"}


def test_with_no_descriptor_at_all_it_is_a_plain_error() -> None:
    with opened(2) as box, descriptors(0):
        assert ended(box.run("true"))[0] == "error"
        assert "(EMFILE)" in box.events[0].reason


@pytest.mark.parametrize("problem", [errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY, errno.EMFILE])
def test_a_start_that_fails_for_the_moment_is_tried_when_another_has_ended(problem, pipe, monkeypatch) -> None:  # noqa: F811
    wait, refused = pipe("wait"), threading.Event()

    class Poor(NativeSpawner):
        def spawn(self, *given: Any) -> int:
            if given[0].argv[-1] == b"poor" and not refused.is_set():
                refused.set()
                raise OSError(problem, os.strerror(problem))
            return super().spawn(*given)

    monkeypatch.setattr(module, "LOOK", BOUND)
    monkeypatch.setattr(module, "spawner", Poor)
    with opened(3) as box:
        rich, poor, after = box.submit(f"read x < {wait.path}"), box.submit(["echo", "poor"]), box.submit(["true"])
        assert refused.wait(BOUND)
        assert box.ended() == {}
        wait.release()
        assert [box.wait_for(one).status for one in (rich, poor, after)] == ["passed"] * 3


def test_a_process_that_does_not_go_is_said_to_be_there(pipe, monkeypatch) -> None:  # noqa: F811
    up = pipe("up")
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    pool = CommandPool(1, capture=True)
    box = Box(pool)
    pool.open(box)
    attempt = box.submit(f"echo $$ > {up.path}; echo out; sleep 600")
    pid = int(up.get())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "killpg", lambda *_: None)
        assert pool.close() == Survivors((attempt,))
    outcome = box.wait_for(attempt)
    assert ended(outcome) == ("cancelled", "killed on request, but it does not go")
    assert not outcome.freed
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_one_that_cannot_be_watched_does_not_run(monkeypatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, "no more")

    with opened(2) as box:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pidfd_open", refuse)
            assert ended(box.run("sleep 600")) == ("error", "cannot be watched: no more")
        assert ended(box.run("true")) == ("passed", "")


def test_a_bug_of_ours_loses_nothing(monkeypatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("pexen.pool.spawn.Environment.program", fail)
    pool = CommandPool(2, capture=True)
    box = Box(pool)
    pool.open(box)
    attempt = box.submit("true")
    box.wait_until(lambda: len(box.events) == 2)
    assert box.returned == [attempt]
    pool.close()


def test_a_bug_of_ours_breaks_the_pool_instead_of_hanging_the_run(monkeypatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "verdict", fail)
    with opened(2) as box:
        box.submit("true")
        box.wait_until(lambda: bool(box.events))
        assert any(isinstance(event, Broken) and event.reason == "ZeroDivisionError: a bug" for event in box.events)


@pytest.mark.usefixtures("either")
def test_who_begins_in_the_thread_that_has_started_a_command_is_not_taken_for_what_that_has_left() -> None:
    """A pool may be opened by that thread, and its workers are children of ours, as orphans are."""
    seen: list[int] = []

    def note() -> None:
        seen.append(tree.slack(threading.get_native_id()))

    def begin(_event: Any) -> None:
        thread = threading.Thread(target=note)
        thread.start()
        thread.join()

    pool = CommandPool(1)
    box = Box(pool, begin)
    pool.open(box)
    try:
        box.run("exit 0")
    finally:
        pool.close()
    assert set(seen) == {tree.slack(os.getpid())}
