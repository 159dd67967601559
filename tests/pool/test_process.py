"""What holds for worker processes and for nothing else: `tests/contract` has what holds for every pool."""

import contextlib
import errno
import functools
import itertools
import os
import re
import resource
import select
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from time import monotonic

import pytest

from pexen.errors import PoolError
from pexen.model import modules
from pexen.model.event import Broken, Returned
from pexen.model.result import Pickled, Status
from pexen.pool import ahead, crew, hiring, ship, start
from pexen.pool.cgroup import Cgroup
from pexen.pool.process import ProcessPool
from tests.contract import deeds
from tests.contract.drivers import THE_SHARED_DICT, Drive, driving, value_of
from tests.contract.mailbox import BOUND, Stopwatch
from tests.leaks import children
from tests.pool import deeds_of_processes as acts
from tests.pool import deeds_of_state as states


@pytest.fixture(params=["exec", "forkserver"])
def how(request: pytest.FixtureRequest) -> str:
    """The ways to start a worker."""
    return request.param


@pytest.fixture
def drive(how: str):
    """A pool with two workers."""
    with driving(ProcessPool(2, start=how)) as drive:
        yield drive


@pytest.fixture
def alone(how: str):
    """A pool with one worker."""
    with driving(ProcessPool(1, start=how)) as drive:
        yield drive


@pytest.fixture
def one():
    """A pool with one worker, for what cannot depend on how it was started."""
    with driving(ProcessPool(1)) as drive:
        yield drive


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not ours to reap has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], BOUND)[0], f"process {pid} still runs"
    finally:
        os.close(pidfd)


def get(drive: Drive, what, *args, **options):
    """Return the value of a task that passes."""
    outcome = drive.run(what, *args, **options)
    assert outcome.status is Status.PASSED, (outcome.reason, outcome.failure)
    return value_of(outcome.value)


# -- how a process ends -----------------------------------------------------------------------------------------------

ENDS = {
    "exit code 0 without a result": (acts.fall_through_exit,),
    "exit code 3 without a result": (deeds.exit_by, "_exit"),
    "killed by signal 6 (SIGABRT)": (os.abort,),
    "killed by signal 9 (SIGKILL)": (acts.kill_itself, signal.SIGKILL),
    "killed by signal 11 (SIGSEGV)": (deeds.exit_by, "segfault"),
    "killed by signal 15 (SIGTERM)": (acts.kill_itself, signal.SIGTERM),
    "killed by signal 40": (acts.kill_itself, 40),
}


@pytest.mark.parametrize("reason", ENDS)
def test_a_task_that_ends_its_process_has_crashed(one: Drive, reason: str) -> None:
    outcome = one.run(*ENDS[reason])
    assert (outcome.status, outcome.reason, outcome.value) == (Status.CRASHED, reason, None)
    assert get(one, deeds.answer) == 42


def test_a_report_survives_the_death_right_after_it(alone: Drive) -> None:
    outcome = alone.run(deeds.report_and_exit)
    assert outcome.status is Status.CRASHED
    assert [report.name for report in alone.mailbox.reports(outcome.attempt)] == ["last words"]


def test_what_had_arrived_before_the_death_counts(how: str) -> None:
    """However much it is: here the pool's thread is kept busy until the worker is dead."""
    with driving(ProcessPool(1, spare=5, start=how)) as drive:
        pid = get(drive, acts.pid)
        zeroth, first, second = map(
            drive.attempt, (deeds.nothing, deeds.answer, functools.partial(acts.report_much_and_exit, 5))
        )

        def decide(event):
            if getattr(event, "attempt", None) is zeroth:  # on the pool's thread, so that both are sent together
                drive.pool.submit(first)
                drive.pool.submit(second)
            elif getattr(event, "attempt", None) is first:
                wait_for_end(pid)

        drive.mailbox.on_event = decide
        drive.pool.submit(zeroth)
        assert drive.outcome(second).status is Status.CRASHED
        assert [report.name for report in drive.mailbox.reports(second)] == [str(number) for number in range(5)]


def test_neighbours_of_a_task_that_kills_its_worker_are_not_charged(how: str) -> None:
    with driving(ProcessPool(2, spare=30, start=how)) as drive:
        attempts = [
            drive.start(deeds.exit_by, "_exit") if n % 10 == 5 else drive.start(deeds.answer) for n in range(32)
        ]
        outcomes = drive.outcomes(attempts)
        assert [n for n, outcome in enumerate(outcomes) if outcome.status is Status.CRASHED] == [5, 15, 25]
        assert [outcome.status for outcome in outcomes].count(Status.PASSED) == 29
        assert len(drive.mailbox.events) == 32


def test_a_task_that_kills_its_worker_every_time(alone: Drive) -> None:
    for _ in range(8):  # more often than a worker may fail to start
        assert alone.run(deeds.exit_by, "_exit").status is Status.CRASHED
    assert not [event for event in alone.mailbox.events if isinstance(event, Broken)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_an_idle_worker_that_is_signalled_hurts_nobody(drive: Drive, number: int) -> None:
    for _ in range(2):
        os.kill(get(drive, acts.pid), number)
        assert get(drive, deeds.answer) == 42
    assert len(drive.mailbox.ends) == 4


def test_a_stopped_worker_can_be_killed(alone: Drive) -> None:
    attempt = alone.start(acts.stop)
    alone.wait_for_report(attempt, "pid")
    alone.pool.cancel(attempt, force=True)
    assert alone.outcome(attempt).status is Status.CANCELLED


def test_a_worker_leads_a_session_of_its_own(drive: Drive) -> None:
    pid, parent, session, group = get(drive, acts.pid_and_parent)
    assert pid == session == group
    assert (parent == os.getpid()) is (drive.pool.start == "exec")


# -- the round trip ---------------------------------------------------------------------------------------------------

WAYS = ["error", "exit", "_exit", "segfault"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", ["pickle task", "unpickle task", "run", "pickle result", "unpickle result"])
def test_one_outcome_for_each_cell_of_the_round_trip(one: Drive, step: str, way: str) -> None:
    when, _, what = step.partition(" ")
    if step == "pickle task" and way in {"_exit", "segfault"}:
        pytest.skip("that is the runner's own end: tasks are pickled there")
    with Stopwatch(BOUND):
        if step == "run":
            outcome = one.run(deeds.exit_by, way)
        elif what == "task":
            outcome = one.run(acts.Badly(when, way))
        else:
            outcome = one.run(acts.return_badly, when, way)
        assert outcome.status is (Status.ERROR if way in {"error", "exit"} else Status.CRASHED)
        assert get(one, deeds.answer) == 42
    assert len(one.mailbox.ends) == 2
    if outcome.status is Status.ERROR:
        said = {
            "pickle task": "the callable cannot be pickled: ",
            "pickle result": "return value cannot be pickled: ",
            "unpickle result": "return value cannot be pickled: ",
        }.get(step, "")
        cause = ("ValueError: an error" if said else "an error") if way == "error" else "SystemExit: 3" if said else "3"
        assert outcome.failure.message == said + cause
        assert outcome.reason == ("the worker could not load the callable" if step == "unpickle task" else "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["pickle", "unpickle"])
def test_an_exception_that_travels_badly(one: Drive, when: str, way: str) -> None:
    outcome = one.run(acts.raise_badly, when, way)
    if way in {"error", "exit"}:
        assert outcome.status is Status.ERROR
        assert outcome.failure.message == "a bad error"
        assert outcome.failure.carried is None
        assert "raise BadError" in outcome.failure.traceback
    else:
        assert outcome.status is Status.CRASHED
    assert get(one, deeds.answer) == 42


@pytest.mark.parametrize("way", WAYS)
def test_an_argument_that_travels_badly(one: Drive, way: str) -> None:
    outcome = one.run(deeds.echo, word=acts.Badly("unpickle", way))
    assert outcome.status is (Status.ERROR if way in {"error", "exit"} else Status.CRASHED)
    if way in {"error", "exit"}:
        assert outcome.reason == "the worker could not unpickle an argument"
        outcome = one.run(deeds.echo, 1, word=acts.Badly("pickle", way))
        assert outcome.status is Status.ERROR
        assert outcome.failure.message.startswith("argument 'word' cannot be pickled: ")
    assert get(one, deeds.answer) == 42


def test_the_runner_unpickles_nothing_before_the_user_does(one: Drive) -> None:
    def returns():
        class Spy:
            def __reduce__(self):
                return (os.getpid, ())

        return Spy()

    outcome = one.run(returns)
    assert isinstance(outcome.value, Pickled)
    assert value_of(outcome.value) == os.getpid()


def test_an_exception_that_pickles_but_does_not_unpickle_comes_as_text(one: Drive) -> None:
    outcome = one.run(lambda: deeds.raise_(deeds.Two("one", "two")))
    assert outcome.status is Status.ERROR
    assert (outcome.failure.type, outcome.failure.message) == ("tests.contract.deeds.Two", "one two")
    assert outcome.failure.exception is None
    assert outcome.failure.traceback.rstrip().endswith("one two")


def test_an_exception_of_a_class_of_main_comes_as_itself(one: Drive) -> None:
    namespace = {"__name__": "__main__"}
    exec("class Odd(Exception): pass\ndef task(): raise Odd('text')", namespace)
    outcome = one.run(namespace["task"])
    assert str(outcome.failure) == "Odd: text"
    assert type(outcome.failure.exception) is namespace["Odd"]


def test_what_cannot_be_pickled_is_named(one: Drive) -> None:
    lock = "TypeError: cannot pickle '_thread.lock' object"
    outcome = one.run(acts.unpicklable)
    assert (outcome.status, outcome.value) == (Status.ERROR, None)
    assert str(outcome.failure) == f"pickle.PicklingError: return value cannot be pickled: {lock}"
    outcome = one.run(acts.share_unpicklable, THE_SHARED_DICT)
    assert (outcome.status, outcome.value, outcome.shared) == (Status.ERROR, None, None)
    assert outcome.failure.message == f"shared value 'bad' cannot be pickled: {lock}"
    outcome = one.run(deeds.echo, 1, acts.unpicklable())
    assert outcome.failure.message == f"argument 2 cannot be pickled: {lock}"
    outcome = one.run(deeds.nothing, layers=({"a": acts.unpicklable()},))
    assert outcome.failure.message == f"shared value 'a' cannot be pickled: {lock}"
    outcome = one.run(functools.partial(deeds.echo, threading.Lock()))
    assert outcome.failure.message == f"the callable cannot be pickled: {lock}"
    outcome = one.run(acts.raise_unpicklable)
    assert str(outcome.failure) == "ValueError: with a lock"
    assert outcome.failure.carried is None


def test_a_worker_that_dies_half_way_through_its_result(drive: Drive) -> None:
    outcome = drive.run(acts.die_in_the_middle_of_the_result)
    assert (outcome.status, outcome.reason) == (Status.CRASHED, "exit code 5 without a result")
    assert get(drive, deeds.answer) == 42


def test_large_values_in_both_directions_at_once(how: str) -> None:
    size = 8_000_000
    with driving(ProcessPool(2, spare=6, start=how)) as drive:
        attempts = [drive.start(deeds.echo, acts.big(size), Pickled(b"N" + b"." * size)) for _ in range(8)]
        for outcome in drive.outcomes(attempts):
            (data, nothing), _ = value_of(outcome.value)
            assert (len(data), nothing) == (size, None)


def test_a_result_that_no_frame_can_carry_is_an_error(one: Drive) -> None:
    def task():
        from pexen.pool import wire

        wire.LONGEST = 1000
        return bytes(2000)

    outcome = one.run(task)
    assert outcome.status is Status.ERROR
    assert "too large" in outcome.failure.message


# -- callables --------------------------------------------------------------------------------------------------------


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path, how: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pexen.pool.process import ProcessPool
        from tests.contract.drivers import Drive, value_of
        with open("runs", "a") as file:
            file.write("x")
        class Thing:
            def __init__(self, value):
                self.value = value
        def helper(): return Thing(Path("runs").read_text())
        def task(): return helper()
        pool = ProcessPool(2, start={how!r})
        drive = Drive(pool)
        values = [value_of(drive.run(task).value) for _ in range(2)]
        pool.close()
        assert all(type(value) is Thing for value in values)
        print([value.value for value in values])
    """)
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert (done.stdout, done.stderr) == ("['x', 'x']\n", "")
    assert (tmp_path / "runs").read_text() == "x"


def test_main_is_empty_in_a_worker(alone: Drive) -> None:
    names, file = get(alone, acts.main_module)
    assert file is None
    assert set(names) <= {"sys", "main"}


def test_a_worker_imports_little(alone: Drive) -> None:
    namespace = {"__name__": "__main__"}
    exec("import sys\ndef task(): return ' '.join(sorted(sys.modules))", namespace)
    found = get(alone, namespace["task"]).split()
    heavy = {
        "typing",
        "re",
        "enum",
        "inspect",
        "dataclasses",
        "traceback",
        "cloudpickle",
        "asyncio",
        "subprocess",
        "socket",
    }
    assert not heavy & set(found)
    assert "pexen.pool.worker" in found


def test_callables_are_forgotten_and_sent_again(monkeypatch: pytest.MonkeyPatch, drive: Drive) -> None:
    monkeypatch.setattr(ship, "MANY", 3)
    several = [functools.partial(deeds.echo, number) for number in range(10)]
    for _ in range(2):
        attempts = [drive.start(one) for one in several]
        assert [value_of(outcome.value)[0][0] for outcome in drive.outcomes(attempts)] == list(range(10))


def test_a_callable_is_pickled_once(drive: Drive) -> None:
    class Counting:
        times = 0

        def __reduce__(self):
            Counting.times += 1
            return (deeds.Thing, ())

        def __call__(self):
            raise AssertionError

    task = Counting()
    for outcome in drive.outcomes([drive.start(task) for _ in range(20)]):
        assert value_of(outcome.value) == "done"
    assert Counting.times == 1


def test_a_function_whose_module_no_path_leads_to(one: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    file = tmp_path / "some file.py"
    file.write_text("def task(): return __name__, Made()\nclass Made:\n  pass\n")
    spec = spec_from_file_location("far_away_module", file)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "far_away_module", module)
    spec.loader.exec_module(module)
    name, made = get(one, module.task)
    assert name == "far_away_module"
    assert type(made) is module.Made


def test_functions_of_a_tree(one: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "TREE_MODULES", modules.TREE_MODULES)
    for number, name in enumerate(["pexen_tree.process_test.a", "pexen_tree.process_test.b"]):
        file = tmp_path / f"{number}.py"
        file.write_text(f"def task(): return {number}, __name__\n")
        monkeypatch.setitem(modules.TREE_MODULES, name, str(file))
        module = modules.load(name)  # the second one is entered when the worker is there already
        assert get(one, module.task) == (number, name)
    for name in [name for name in sys.modules if name.startswith("pexen_tree")]:
        del sys.modules[name]  # for good: monkeypatch would put it back


def test_the_search_path_of_the_runner_is_the_workers(alone: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(alone, acts.search_path) == sys.path
    monkeypatch.syspath_prepend("/nowhere")
    assert get(alone, lambda: sys.path) == sys.path
    assert sys.path[0] == "/nowhere"


def test_a_module_that_does_not_import_is_the_attempts_error(
    one: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "broken_in_the_worker.py"
    file.write_text("def task(): pass\n")
    import broken_in_the_worker

    file.write_text("import os\nos._exit(4)\n")
    assert one.run(broken_in_the_worker.task).reason == "exit code 4 without a result"
    file.write_text("raise SystemExit('no')\n")
    outcome = one.run(broken_in_the_worker.task)
    assert (outcome.status, str(outcome.failure)) == (Status.ERROR, "SystemExit: no")
    assert outcome.reason == "the worker could not load the callable"
    monkeypatch.delitem(sys.modules, "broken_in_the_worker")


# -- what a task leaves behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", states.CHANGES, ids=lambda change: change.__name__)
def test_the_next_task_does_not_see(one: Drive, change) -> None:
    before = get(one, states.look)
    outcome = one.run(change)
    assert outcome.status is Status.PASSED, outcome.failure
    assert get(one, states.look) == before


def test_most_changes_do_not_cost_the_worker(one: Drive) -> None:
    pid = get(one, acts.pid)
    for change in (states.folder, states.environment, states.umask, states.handlers, states.path, states.streams):
        one.run(change)
    assert get(one, acts.pid) == pid


def test_a_failing_task_leaves_no_trace_either(one: Drive) -> None:
    def fail():
        os.chdir("/")
        sys.path = None
        os.closerange(0, 3)
        raise ValueError("text")

    before = get(one, states.look)
    outcome = one.run(fail)
    assert (outcome.status, outcome.failure.message) == (Status.ERROR, "text")
    assert get(one, states.look) == before


def test_children_left_behind_are_killed_with_the_worker(alone: Drive) -> None:
    outcome = alone.run(acts.start_a_child)
    assert (outcome.status, outcome.freed) == (Status.PASSED, True)
    assert outcome.left.killed == "1 process (sleep)"
    wait_for_end(value_of(outcome.value))
    assert alone.run(deeds.answer).freed


@pytest.mark.parametrize("span", [(0, 256), (3, 256), (0, 3), (3, 1024), (0, 1024), (256, 1024)])
def test_closing_descriptors_never_hangs(drive: Drive, span: tuple[int, int]) -> None:
    outcome = drive.run(acts.close_descriptors, *span)
    if span[1] <= 256:
        assert outcome.status is Status.PASSED
    else:
        assert outcome.status is Status.CRASHED
        assert "closed the descriptors of its worker" in outcome.reason
    assert [get(drive, deeds.answer) for _ in range(4)] == [42] * 4


def test_a_task_that_closes_the_socket_and_runs_on(one: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.1)

    def task():
        os.closerange(3, 1024)
        while True:
            signal.pause()

    outcome = one.run(task)
    assert (outcome.status, outcome.reason) == (Status.CRASHED, "it closed its connection to the pool")
    assert get(one, deeds.answer) == 42


def test_a_worker_that_does_not_leave_is_killed(one: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.1)

    def task():
        os._exit = lambda status: signal.pause()
        threading.Thread(target=signal.pause, daemon=True).start()

    assert one.run(task).status is Status.PASSED
    assert get(one, deeds.answer) == 42


def test_printing_on_every_descriptor_never_hangs(drive: Drive, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = drive.run(acts.print_everywhere)
    assert outcome.status is Status.CRASHED
    assert outcome.reason.startswith("protocol damaged")
    assert [get(drive, deeds.answer) for _ in range(4)] == [42] * 4


@pytest.mark.parametrize("text", [b"x", b"garbage", bytes(100), b"\xff" * 1000, b"x" * 100_000])
def test_garbage_on_the_socket_never_hangs(one: Drive, text: bytes) -> None:
    outcome = one.run(acts.print_on_sockets, text)
    assert (outcome.status, outcome.reason[:16]) == (Status.CRASHED, "protocol damaged")
    assert get(one, deeds.answer) == 42


@pytest.mark.parametrize("then", ["error", "_exit"])
def test_forged_tokens_do_not_hide_a_death_for_ever(one: Drive, then: str) -> None:
    outcome = one.run(acts.forge_tokens, then)
    assert outcome.status is (Status.ERROR if then == "error" else Status.CRASHED)
    assert get(one, deeds.answer) == 42


@pytest.mark.parametrize("then", ["error", "_exit"])
def test_stolen_tokens_lose_nothing(how: str, then: str) -> None:
    with driving(ProcessPool(2, spare=20, start=how)) as drive:
        attempts = [
            drive.start(acts.steal_tokens, then) if n % 7 == 0 else drive.start(deeds.answer) for n in range(22)
        ]
        bad = Status.ERROR if then == "error" else Status.CRASHED
        statuses = [outcome.status for outcome in drive.outcomes(attempts)]
        assert statuses == [bad if n % 7 == 0 else Status.PASSED for n in range(22)]


def test_a_fork_that_returns_does_not_speak_for_the_worker(alone: Drive) -> None:
    pid = get(alone, acts.pid)
    assert pid == get(alone, acts.fork_and_return)
    assert get(alone, acts.fork_and_return_at_once) == "done"
    assert get(alone, deeds.answer) == 42
    assert len(alone.mailbox.ends) == 4


def test_a_fork_cannot_report(one: Drive) -> None:
    assert get(one, acts.report_in_a_fork) == 7
    assert one.mailbox.reports() == []


def test_stdin_is_empty(alone: Drive) -> None:
    assert get(alone, acts.read_stdin) == "/dev/null"


# -- reports ----------------------------------------------------------------------------------------------------------


def test_reports_from_many_threads_at_once(one: Drive) -> None:
    attempt = one.start(acts.report_from_threads, 100)
    assert one.outcome(attempt).status is Status.PASSED
    names = [report.name for report in one.mailbox.reports(attempt)]
    assert len(names) == 400
    for letter in "abcd":
        assert [name for name in names if name[0] == letter] == [f"{letter}{number}" for number in range(100)]


def test_reports_from_signal_handlers(one: Drive) -> None:
    attempt = one.start(acts.report_from_a_signal_handler)
    assert one.outcome(attempt).status is Status.PASSED
    names = [report.name for report in one.mailbox.reports(attempt)]
    assert [name for name in names if name != "from the handler"] == [str(number) for number in range(200)]
    assert "from the handler" in names


def test_a_handler_that_raises_does_not_cut_a_report(one: Drive) -> None:
    for _ in range(5):
        outcome = one.run(acts.raise_from_a_signal_handler)
        assert (outcome.status, outcome.failure.type.rpartition(".")[2]) == (Status.ERROR, "Enough")
    assert get(one, deeds.answer) == 42


def test_reports_with_odd_data(one: Drive) -> None:
    outcome = one.run(acts.odd_report)
    first, second = one.mailbox.reports(outcome.attempt)
    assert first.name == "odd \udcff"
    assert (first.data["set"], first.data["bytes"]) == ("{1}", "b'x'")
    assert second.data == {"('a', 'b')": "1"}


# -- ahead of time, and back again ------------------------------------------------------------------------------------


def test_what_waits_behind_a_long_task_runs_elsewhere(how: str) -> None:
    with driving(ProcessPool(2, spare=30, start=how)) as drive:
        hanging = drive.start(deeds.hang)
        drive.wait_for_report(hanging)
        attempts = [drive.start(deeds.answer) for _ in range(31)]
        assert {outcome.status for outcome in drive.outcomes(attempts)} == {Status.PASSED}
        assert hanging.id not in {end.attempt.id for end in drive.mailbox.ends}
        drive.pool.cancel(hanging, force=True)
        assert drive.outcome(hanging).status is Status.CANCELLED
        assert len(drive.mailbox.ends) == 32


def test_what_waits_behind_several_long_tasks_in_turn(how: str) -> None:
    """Taken back again and again: what is taken back from one worker may meet the next long task."""
    with driving(ProcessPool(3, spare=60, start=how)) as drive:
        slow = functools.partial(select.select, [], [], [], 0.02)
        attempts = [drive.start(slow if number % 9 == 0 else deeds.nothing) for number in range(63)]
        assert {outcome.status for outcome in drive.outcomes(attempts)} == {Status.PASSED}
        assert len(drive.mailbox.ends) == 63


def test_nothing_runs_twice_when_taken_back(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 0.0)  # take back at every opportunity
    file = tmp_path / "log"

    def log(name):
        with open(file, "a") as opened:
            opened.write(f"{name}\n")

    with driving(ProcessPool(3, spare=60, start=how)) as drive:
        attempts = [drive.start(log, number) for number in range(63)]
        rest = iter(range(63, 600))

        def submit_another(event):
            number = next(rest, None)
            if number is not None:
                attempts.append(drive.start(log, number))

        drive.mailbox.on_event = submit_another
        drive.mailbox.wait_for_ends(600)
    assert sorted(map(int, file.read_text().split())) == list(range(600))
    assert len(drive.mailbox.outcomes) == 600


def test_an_attempt_ahead_of_time_can_be_cancelled(how: str) -> None:
    with driving(ProcessPool(1, spare=5, start=how)) as drive:
        hanging = drive.start(deeds.hang)
        drive.wait_for_report(hanging)
        waiting = [drive.start(deeds.answer) for _ in range(3)]
        drive.pool.cancel(waiting[1], force=True)
        outcome = drive.outcome(waiting[1])
        assert (outcome.status, outcome.reason) == (Status.CANCELLED, "cancelled before it started")
        drive.pool.cancel(hanging, force=True)
        assert [value_of(outcome.value) for outcome in drive.outcomes([waiting[0], waiting[2]])] == [42, 42]


def test_asking_one_to_stop_does_not_reach_the_next(how: str) -> None:
    with driving(ProcessPool(1, spare=5, start=how)) as drive:
        first = drive.start(deeds.say_and_wait)
        drive.wait_for_report(first)
        others = [drive.start(acts.cancelled) for _ in range(5)]
        drive.pool.cancel(first, force=False)
        assert [value_of(outcome.value) for outcome in drive.outcomes([first, *others])] == [None] + [False] * 5


@pytest.mark.parametrize("force", [False, True])
def test_cancelling_what_has_just_ended_does_not_reach_the_next(tmp_path: Path, force: bool) -> None:
    """The pool's thread is kept from hearing of the end until the next attempt has begun."""
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    os.mkfifo(begun)
    os.mkfifo(go_on)

    def wait():
        begun.write_bytes(b"now")
        go_on.read_bytes()
        return acts.cancelled()

    with driving(ProcessPool(1, spare=3)) as drive:
        drive.run(deeds.nothing)
        first, second, third = map(drive.attempt, (deeds.answer, wait, threading.Lock().acquire))

        def decide(event):
            if event.attempt is third:  # which cannot be pickled, so this is at once, when the other two were sent
                begun.read_bytes()
                drive.pool.cancel(first, force=force)

        drive.mailbox.on_event = decide
        for attempt in (first, second, third):
            drive.pool.submit(attempt)
        assert value_of(drive.outcome(first).value) == 42
        go_on.write_bytes(b"now")
        assert value_of(drive.outcome(second).value) is False


def test_how_many_are_sent_ahead_follows_how_long_they_take(one: Drive) -> None:
    pool = one.pool
    assert pool.capacity == 2
    one.run(select.select, [], [], [], 0.01)
    assert pool.capacity == 1
    for _ in range(100):
        one.run(deeds.nothing)
    assert pool.capacity == 1 + ahead.MOST
    one.run(select.select, [], [], [], 0.1)
    assert pool.capacity == 1


def test_what_was_meant_for_a_worker_that_does_not_come_up_runs_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with driving(ProcessPool(2, spare=4)) as drive:
        drive.run(deeds.nothing)
        monkeypatch.setattr(start, "_BOOT", "import signal; signal.pause()")
        attempts = [drive.start(deeds.answer) for _ in range(6)]
        assert {outcome.status for outcome in drive.outcomes(attempts)} == {Status.PASSED}


def test_a_given_spare_stays() -> None:
    pool = ProcessPool(3, spare=4)
    assert pool.capacity == 7
    with driving(pool) as drive:
        drive.run(deeds.nothing)
        assert pool.capacity == 7


# -- starting ---------------------------------------------------------------------------------------------------------


def test_workers_start_when_there_is_work_for_them(how: str) -> None:
    with driving(ProcessPool(8, start=how)) as drive:
        assert not children()
        for _ in range(3):
            drive.run(deeds.nothing)
        assert len(children()) == 1
        assert len({get(drive, acts.pid) for _ in range(5)}) == 1


@pytest.fixture
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiring, "FIRST_PAUSE", 0.001)


@pytest.mark.usefixtures("quick_tries")
def test_a_worker_that_does_not_come_up_breaks_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    launch = start.launch
    monkeypatch.setattr(start, "_BOOT", "raise SystemExit('no {module} here')")
    monkeypatch.setattr(start, "launch", lambda *args, **kw: started.append(args) or launch(*args, **kw))
    with driving(ProcessPool(1)) as drive:
        attempts = [drive.start(deeds.answer) for _ in range(4)]
        outcomes = drive.outcomes(attempts)
        late = drive.run(deeds.answer)
    reason = "it ended before it was ready, exit code 1 without a result: no pexen.pool.worker here"
    assert {(outcome.status, outcome.reason) for outcome in [*outcomes, late]} == {
        (Status.ERROR, f"cannot start a worker: {reason}")
    }
    broken = [event for event in drive.mailbox.events if isinstance(event, Broken)]
    assert [(event.pool, event.reason) for event in broken] == [("process", f"cannot start a worker: {reason}")]
    assert len(started) == hiring.TRIES


@pytest.mark.usefixtures("quick_tries")
def test_a_fork_server_that_does_not_come_up_breaks_the_pool(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr(start, "_BOOT", "raise SystemExit('no {module} here')")
    with driving(ProcessPool(1, start="forkserver")) as drive:
        outcome = drive.run(deeds.answer)
    assert (outcome.status, outcome.reason) == (Status.ERROR, "cannot start a worker: the fork server has died")
    assert "no pexen.pool.forkserver here" in capfd.readouterr().err


@pytest.mark.usefixtures("quick_tries")
def test_no_python_to_start(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with driving(ProcessPool(2, start=how)) as drive:
        outcome = drive.run(deeds.answer)
    assert outcome.status is Status.ERROR
    assert outcome.reason.startswith("cannot start a worker: ")


def test_a_fork_server_that_dies_is_replaced() -> None:
    with driving(ProcessPool(1, start="forkserver")) as drive:
        _, server, _, _ = get(drive, acts.pid_and_parent)
        os.kill(server, signal.SIGKILL)
        wait_for_end(server)
        for _ in range(3):
            drive.run(deeds.exit_by, "_exit")
            assert get(drive, deeds.answer) == 42


def test_tries_are_further_apart_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    monkeypatch.setattr(hiring, "FIRST_PAUSE", 0.01)
    tell = crew.Crew._did_not_start

    def note(it, reason):
        tell(it, reason)
        pauses.append(it._hiring.next_try - monotonic())

    monkeypatch.setattr(crew.Crew, "_did_not_start", note)
    monkeypatch.setattr(start, "_BOOT", "raise SystemExit")
    with driving(ProcessPool(1)) as drive:
        drive.run(deeds.answer)
    assert [round(pause, 2) for pause in pauses] == [0.01, 0.02, 0.04, 0.08, 0.16]


@pytest.mark.usefixtures("quick_tries")
def test_without_descriptors_there_are_fewer_workers(how: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with driving(ProcessPool(4, spare=0, start=how)) as drive:
        drive.run(deeds.nothing)
        highest = max(int(number) for number in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        try:
            held = [os.open("/dev/null", os.O_RDONLY) for _ in _until_full()]
            attempts = [drive.start(deeds.answer) for _ in range(20)]
            statuses = {outcome.status for outcome in drive.outcomes(attempts)}
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in held:
                os.close(fd)
        assert statuses == {Status.PASSED}
        assert not [event for event in drive.mailbox.events if isinstance(event, Broken)]


def _until_full():
    """Yield as long as a descriptor can be opened."""
    while True:
        try:
            os.close(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return
        yield


@pytest.mark.usefixtures("quick_tries")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
def test_without_any_worker_it_is_a_plain_failure(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(crew, "Member", fail)
    with driving(ProcessPool(2)) as drive:
        outcome = drive.run(deeds.answer)
    assert (outcome.status, outcome.reason) == (Status.ERROR, f"cannot start a worker: {os.strerror(number)}")


def test_a_bug_in_the_pool_ends_the_run_and_does_not_hang_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with driving(ProcessPool(2, spare=4)) as drive:
        hanging = drive.start(deeds.hang)
        drive.wait_for_report(hanging)
        monkeypatch.setattr(crew.Crew, "_hand_out", lambda it: [].pop())
        waiting = [drive.start(deeds.answer) for _ in range(3)]
        outcomes = drive.outcomes([hanging, *waiting])
    reason = "a bug in pexen: IndexError: pop from empty list"
    assert {(outcome.status, outcome.reason) for outcome in outcomes} == {(Status.ERROR, reason)}
    assert [event.reason for event in drive.mailbox.events if isinstance(event, Broken)] == [reason]


def test_the_runner_never_forks(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def fork():
        raise AssertionError("a threaded runner has forked")

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "forkpty", fork)
    with driving(ProcessPool(2, start=how)) as drive:
        assert get(drive, deeds.answer) == 42


def test_the_current_folder_is_not_searched_for_modules_of_python(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("struct", "zlib", "contextvars", "pexen"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the current folder')")
    monkeypatch.chdir(tmp_path)
    with driving(ProcessPool(1, start=how)) as drive:
        assert get(drive, deeds.answer) == 42


def test_an_unknown_way_to_start() -> None:
    with pytest.raises(PoolError, match="did you mean 'exec'"):
        ProcessPool(start="exce")


def test_submitting_to_a_closed_pool() -> None:
    pool = ProcessPool(1)
    with driving(pool) as drive:
        attempt = drive.attempt(deeds.nothing)
        with pytest.raises(PoolError, match="open already"):
            pool.open(drive.mailbox)
    with pytest.raises(PoolError, match="not open"):
        pool.submit(attempt)


# -- output -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def printing(how: str, tmp_path: Path):
    """A pool with one worker whose tasks print into ``tmp_path``."""
    with driving(ProcessPool(1, start=how, output=str(tmp_path), capture=True)) as drive:
        yield drive


def test_output_goes_to_a_file_for_each_attempt(printing: Drive, tmp_path: Path) -> None:
    for text in ("one", "two"):
        outcome = printing.run(acts.print_all_ways, text)
        assert outcome.output.read().decode() == f"by print {text}\nby write\nby a child\n"
        assert outcome.output.size == len(outcome.output.read())
        assert Path(outcome.output.path) == tmp_path / f"{outcome.attempt.id}.out"
        assert (tmp_path / f"{outcome.attempt.id}.out").stat().st_mode & 0o777 == 0o600
    assert printing.run(deeds.nothing).output is None
    assert printing.run(acts.print_without_newline).output.read() == b"no newline"
    printing.pool.close()
    assert len(list(tmp_path.iterdir())) == 3


def test_output_of_a_task_that_dies(printing: Drive, tmp_path: Path) -> None:
    outcome = printing.run(acts.print_and_die)
    assert (outcome.status, outcome.output.read()) == (Status.CRASHED, b"last line\n")
    outcome = printing.run(deeds.exit_by, "_exit")
    assert (outcome.status, outcome.output) == (Status.CRASHED, None)
    assert printing.run(acts.print_and_leave_thread).output.read() == b"with a thread\n"
    printing.pool.close()
    assert len(list(tmp_path.iterdir())) == 2


def test_output_when_its_folder_is_gone(printing: Drive, tmp_path: Path, capfd) -> None:
    printing.run(acts.print_all_ways)
    for file in tmp_path.iterdir():
        file.unlink()
    tmp_path.rmdir()
    outcome = printing.run(acts.print_all_ways, "elsewhere")
    assert (outcome.status, outcome.output) == (Status.PASSED, None)
    assert "by print elsewhere" in capfd.readouterr().out


def test_without_a_folder_output_goes_where_the_runners_goes(alone: Drive, capfd) -> None:
    assert alone.run(acts.print_all_ways).output is None
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("by print \nby a child\n", "by write\n")


# -- the end ----------------------------------------------------------------------------------------------------------


def test_closing_while_workers_start(how: str) -> None:
    pool = ProcessPool(3, start=how)
    drive = Drive(pool)
    attempts = [drive.start(deeds.answer) for _ in range(5)]
    pool.close()
    assert {end.attempt.id for end in drive.mailbox.ends} == {attempt.id for attempt in attempts}


def test_what_is_submitted_while_it_closes_is_returned(how: str) -> None:
    pool = ProcessPool(1, start=how)
    drive = Drive(pool)
    drive.run(deeds.nothing)
    more = iter(range(5))

    def submit_another(event):
        if isinstance(event, Returned) and next(more, None) is not None:
            drive.start(deeds.nothing)

    drive.mailbox.on_event = submit_another
    hanging = drive.start(deeds.hang)
    drive.wait_for_report(hanging)
    waiting = drive.start(deeds.nothing)
    pool.close()
    assert [type(end) for end in drive.mailbox.ends].count(Returned) == 6
    assert waiting in drive.mailbox.returned
    assert len(drive.mailbox.ends) == 8


def test_workers_end_when_the_runner_is_killed(tmp_path: Path, how: str) -> None:
    """Busy or not, and what they have started as well, for it is in their group."""
    code = textwrap.dedent(f"""
        import os, signal
        from pexen.pool.process import ProcessPool
        from tests.contract.drivers import Drive
        from tests.pool import deeds_of_processes as acts
        drive = Drive(ProcessPool(2, start={how!r}))
        def busy():
            acts.report_pid("child") or acts.report_pid_and_hang()
        attempts = [drive.start(acts.report_pid_and_hang) for _ in range(2)]
        for attempt in attempts:
            drive.wait_for_report(attempt, "pid")
        print(*[report.data["pid"] for report in drive.mailbox.reports()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, timeout=BOUND, check=False
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    with Stopwatch(2.0):
        for pid in pids:
            wait_for_end(pid)


def test_closing_when_nothing_answers(how: str) -> None:
    """A stopped idle worker does not hear that it is to end."""
    with Stopwatch(crew.GRACE + BOUND / 2), driving(ProcessPool(1, start=how)) as drive:
        os.kill(get(drive, acts.pid), signal.SIGSTOP)


def test_an_outcome_is_posted_once_under_fire(how: str) -> None:
    """Workers are killed all the time, by tasks and by a stranger, and every attempt has one end."""
    with driving(ProcessPool(3, spare=12, start=how)) as drive:
        deed = itertools.cycle([deeds.nothing, deeds.answer, acts.report_pid, deeds.nothing])
        attempts = [
            drive.attempt(deeds.exit_by, "_exit") if n % 40 == 7 else drive.attempt(next(deed)) for n in range(400)
        ]
        rest = iter(attempts[15:])

        def submit_another(event):
            if type(event).__name__ == "Reported" and event.report.data["pid"] % 3 == 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(event.report.data["pid"], signal.SIGKILL)
            elif type(event).__name__ == "Outcome" and (attempt := next(rest, None)) is not None:
                drive.pool.submit(attempt)

        drive.mailbox.on_event = submit_another
        for attempt in attempts[:15]:
            drive.pool.submit(attempt)
        outcomes = drive.outcomes(attempts)
        assert {outcome.status for outcome in outcomes} == {Status.PASSED, Status.CRASHED}
        assert len(drive.mailbox.ends) == 400


def test_reasons_are_in_words() -> None:
    assert start.told(None) == "its process has gone"
    assert start.told(3) == "exit code 3 without a result"
    assert re.fullmatch(r"killed by signal 9 \(SIGKILL\)", start.told(-9))


def where_it_is() -> str:
    return Path("/proc/self/cgroup").read_text()


def test_a_worker_has_a_cgroup_of_its_own_where_that_can_be(drive: Drive) -> None:
    probe = Cgroup.make("probe")
    if probe is None:
        pytest.skip("no cgroup can be made here")
    assert probe.remove()
    assert f"pexen-{os.getpid()}-" in get(drive, where_it_is)


class Watched:
    """A lock that notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def acquire(self) -> None:
        self.done.append("taken")

    def release(self) -> None:
        self.done.append("given back")

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_nobody_forks_while_a_worker_is_being_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the runner would hold Popen's pipe: a consumer of a stream, forked, waited for the runner and it for him."""
    lock = Watched()
    monkeypatch.setattr(start, "_LAUNCHING", lock)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: lock.done.append("launched"))
    start.launch("pexen.pool.worker", [])
    assert lock.done == ["taken", "launched", "given back"]
    lock.done.clear()
    pid = os.fork()
    if not pid:
        os._exit(len(lock.done))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    assert lock.done == ["taken", "given back"]
