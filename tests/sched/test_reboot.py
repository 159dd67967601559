"""A task has the machine restarted: the boot id is a file, and the machine is this very process going on."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest

import pexen
from pexen import Report, Sched, Task
from pexen.model.result import Result, Status
from pexen.sched.reboot import Reboots
from pexen.state.reader import read
from tests.sched.machine import ALLOWED, ASKED, PATIENCE, POOLS, SAY, Machine, pool, story


def install(folder: str) -> int:
    """Be entered three times, over two restarts."""
    here = pexen.current()
    with open(f"{folder}/entered", "a") as file:
        file.write(f"{here.reboots} {here.attempt} {here.shared.get('step', 0)}\n")
    here.report(f"step {here.reboots}", "warn" if not here.reboots else "pass")
    here.shared["step"] = here.shared.get("step", 0) + 1
    if here.reboots < 2:
        here.reboot()
    return here.reboots


def use(install: int, shared: dict[str, Any]) -> tuple[int, int]:
    return install, shared["step"]


def installing(machine: Machine) -> list[Task]:
    first = Task(install, "install", args=[str(machine.folder)], provides="install")
    return [first, Task(use, "use", requires="install"), Task(str, "other")]


@pytest.mark.parametrize("kind", POOLS)
def test_the_same_task_is_entered_again_with_shared_as_it_left_it(machine: Machine, kind: str) -> None:
    for _ in range(2):
        sched = machine.sched(installing(machine), pool=pool(kind))
        results = sched.wait()
        assert sched.wish is not None
        assert sched.wish.paths == ("install",)
        assert results["install"].status is Status.CANCELLED
        assert "use" not in results or results["use"].status is not Status.PASSED
        assert read(machine.journal).end["how"] == "reboot"  # type: ignore[index]
        machine.boot()
    sched = machine.sched(installing(machine), pool=pool(kind))
    results = sched.wait()
    assert sched.wish is None
    assert results["use"].value == (2, 3)
    assert (machine.folder / "entered").read_text().splitlines() == ["0 1 0", "1 1 1", "2 1 2"]
    installed = results["install"]
    assert len(installed.attempts) == 1, "a restart is not charged"
    assert [one.name for one in installed.reports] == ["step 0", "step 1", "step 2"]
    assert installed.status is Status.WARNED, "what was reported before a restart counts"
    assert read(machine.journal).result("install").reports == installed.reports  # type: ignore[union-attr]


def test_without_a_restart_the_task_is_entered_as_before(machine: Machine) -> None:
    for _ in range(2):
        machine.sched(installing(machine)).wait()
    assert (machine.folder / "entered").read_text().splitlines() == ["0 1 0", "0 1 0"]


SCRIPT = """#!/bin/sh
ask() { echo "$1" >&"$PEXEN_CONTROL"; read -r answer <&"$PEXEN_CONTROL"; echo "$answer"; }
echo "$PEXEN_REBOOTS" >> "$1/entered"
cat "$PEXEN_VALUES" >> "$1/values"; echo >> "$1/values"
[ "$PEXEN_REBOOTS" = 0 ] || exit 0
ask '{"id": 1, "shared": {"port": 8080}}'
%s
"""
ENDINGS = {
    "asks and sleeps": """ask '{"id": 2, "reboot": true}'; exec sleep 1000""",
    "says it and goes": """echo '{"reboot": true}' >&"$PEXEN_CONTROL"; exit 0""",
    "does it itself": """ask '{"id": 2, "reboot": {"by": "task", "within": "1h"}}' > "$1/answer"; kill -9 $PPID""",
}


@pytest.mark.parametrize("ending", ["asks and sleeps", "says it and goes"])
def test_an_executable_has_the_machine_restarted(machine: Machine, ending: str) -> None:
    script = machine.folder / "task"
    script.write_text(SCRIPT % ENDINGS[ending])
    script.chmod(0o755)

    def tasks() -> list[Any]:
        first = pexen.command([str(script), str(machine.folder)], path="script", grace=PATIENCE)
        return [first, Task(lambda shared: shared["port"], "after", requires={"/script"})]

    sched = machine.sched(tasks())
    assert sched.wait()["script"].status is Status.CANCELLED
    assert sched.wish is not None
    machine.boot()
    results = machine.sched(tasks()).wait()
    assert results["script"].status is Status.PASSED
    assert results["after"].value == 8080
    assert (machine.folder / "entered").read_text().split() == ["0", "1"]
    assert "8080" in (machine.folder / "values").read_text()
    machine.sched(tasks()).wait()
    assert (machine.folder / "entered").read_text().split() == ["0", "1"], "finished stays finished"


@pytest.mark.parametrize("workers", [1, 2])
def test_others_are_let_finish_and_nothing_more_starts(machine: Machine, workers: int) -> None:
    """Also what was handed out ahead of time, behind the very task that asks."""
    asked, ran = machine.pipe("asked"), []

    def asks() -> None:
        if not pexen.current().reboots:
            pexen.current().reboot()

    def other() -> str:
        asked.read_text()
        return "finished"

    def tasks() -> list[Task]:
        script = f"""[ "$PEXEN_REBOOTS" = 0 ] || exit 0\n{SAY}\n{ASKED}\nexec sleep 1000"""
        two = [machine.script(script, "asks", priority=-2), Task(other, "other", priority=-1)]
        first = [Task(asks, "asks", priority=-2)] if workers == 1 else two
        return first + [Task(ran.append, f"later/{n}", args=[n]) for n in range(30)]

    sched = machine.sched(tasks(), pool=pexen.ThreadPool(workers))
    results = sched.wait()
    assert sched.wish is not None
    if workers == 2:
        assert results["other"].value == "finished"
    assert len(ran) == 0
    machine.boot()
    assert story(machine.sched(tasks(), pool=pexen.ThreadPool(workers)).wait()) == dict.fromkeys(
        [task.name for task in tasks()], "passed"
    )
    assert sorted(ran) == list(range(30)), "each ran once"


def test_two_that_ask_at_once_do_not_wait_for_each_other(machine: Machine) -> None:
    both = [Event(), Event()]

    def asks(mine: int) -> int:
        here = pexen.current()
        both[mine].set()
        assert both[1 - mine].wait(PATIENCE)
        if not here.reboots:
            here.reboot()
        return here.reboots

    def tasks() -> list[Task]:
        return [Task(asks, f"asks/{n}", args=[n]) for n in range(2)]

    sched = machine.sched(tasks(), pool=pexen.ThreadPool(2))
    sched.wait()
    assert sched.wish is not None
    assert sorted(sched.wish.paths) == ["asks/0", "asks/1"]
    machine.boot()
    results = machine.sched(tasks(), pool=pexen.ThreadPool(2)).wait()
    assert [results[f"asks/{n}"].value for n in range(2)] == [1, 1]


def test_what_takes_too_long_is_cancelled_and_runs_again(machine: Machine) -> None:
    entered = []

    def slow() -> None:
        entered.append(pexen.current().reboots)
        while len(entered) == 1:
            Event().wait(0.01)
            assert not pexen.current().cancelled, "what it says when it is stopped is no verdict"

    def asks() -> None:
        if not pexen.current().reboots:
            pexen.current().reboot()

    tasks = [Task(slow, "slow", priority=-1), Task(asks, "asks")]
    sched = machine.sched(tasks, reboots=Reboots(allowed=True, drain=0.05))
    sched.wait()
    assert sched.wish is not None
    machine.boot()
    results = machine.sched([Task(slow, "slow", priority=-1), Task(asks, "asks")]).wait()
    assert story(results) == {"slow": "passed", "asks": "passed"}
    assert len(entered) == 2


def by_itself(within: str, folder: str) -> str:
    here = pexen.current()
    if not here.reboots:
        here.reboot(by="task", within=within)
        with open(f"{folder}/agreed", "w") as file:
            file.write("yes")
    return "up again"


@pytest.mark.parametrize("kind", POOLS)
def test_a_task_that_does_not_do_what_it_said_has_failed_and_the_run_goes_on(machine: Machine, kind: str) -> None:
    """It returns, and the machine is still up when its time is over."""
    task = Task(by_itself, "panic", args=["0.1s", str(machine.folder)])
    sched = machine.sched([task, Task(str, "after", after="/panic")], pool=pool(kind))
    results = sched.wait()
    assert sched.wish is None
    assert (machine.folder / "agreed").read_text() == "yes"
    assert results["panic"].status is Status.ERROR
    assert "still up" in results["panic"].reason
    assert results["after"].status is Status.PASSED


def test_a_task_that_fails_after_all_fails(machine: Machine) -> None:
    def fails() -> None:
        pexen.current().reboot(by="task", within="1h")
        raise AssertionError("it does not go down")

    sched = machine.sched([Task(fails, "panic"), Task(str, "after", after="/panic")])
    assert story(sched.wait()) == {"panic": "failed", "after": "passed"}
    assert sched.wish is None


def test_a_task_may_not_do_it_itself_where_that_is_not_allowed(machine: Machine) -> None:
    task = Task(by_itself, "panic", args=["1h", str(machine.folder)])
    sched = machine.sched([task], reboots=Reboots())
    results = sched.wait()
    assert sched.wish is not None
    assert sched.wish.by_task
    assert results["panic"].status is Status.CANCELLED
    assert not (machine.folder / "agreed").exists()
    machine.boot()
    sched = machine.sched([Task(by_itself, "panic", args=["0.1s", str(machine.folder)])])
    assert "changed" in str(sched.changes) or sched.wait()["panic"].status is Status.ERROR


def test_limits_for_each_task_and_for_the_run(machine: Machine) -> None:
    def for_ever() -> None:
        pexen.current().reboot()

    for _ in range(3):
        sched = machine.sched([Task(for_ever, "ever")], reboots=Reboots(allowed=True, per_task=3))
        sched.wait()
        assert sched.wish is not None
        machine.boot()
    sched = machine.sched([Task(for_ever, "ever")], reboots=Reboots(allowed=True, per_task=3))
    result = sched.wait()["ever"]
    assert sched.wish is None
    assert result.status is Status.ERROR
    assert "3 times for this task" in str(result.error)


def test_a_run_without_a_journal_cannot(tmp_path: Path) -> None:
    result = Sched([Task(lambda: pexen.current().reboot(), "a")]).wait()["a"]
    assert result.status is Status.ERROR
    assert "no journal" in str(result.error)


def test_what_cannot_be_kept_is_refused_before_anything_happens(machine: Machine) -> None:
    def asks() -> None:
        here = pexen.current()
        here.shared["conn"] = object()
        here.reboot()

    sched = machine.sched([Task(asks, "a")])
    result = sched.wait()["a"]
    assert sched.wish is None
    assert "'conn'" in str(result.error)


def test_a_task_that_swallows_its_end_is_not_waited_for(machine: Machine) -> None:
    def swallows() -> None:
        try:
            pexen.current().reboot()
        except BaseException:  # noqa: BLE001 - that is the point
            Event().wait(PATIENCE if not pexen.current().reboots else 0)

    sched = machine.sched([Task(swallows, "a", grace=0.05)], pool=pexen.ProcessPool(1))
    assert sched.wait()["a"].status is Status.CANCELLED
    assert sched.wish is not None


def test_ctrl_c_while_others_are_let_finish(machine: Machine) -> None:
    """The task that waits for its answer gets one, and the run ends as it does without."""
    going = Event()
    answers: list[str] = []

    def other() -> None:
        going.set()
        while not pexen.current().cancelled:
            Event().wait(0.01)

    def asks() -> None:
        assert going.wait(PATIENCE)
        try:
            pexen.current().reboot()
        except BaseException as error:
            answers.append(str(error))
            raise

    sched = machine.sched([Task(other, "other"), Task(asks, "asks")], pool=pexen.ThreadPool(2))
    run = sched.start()
    assert going.wait(PATIENCE)
    run.stop("interrupted")
    run.wait(PATIENCE)
    assert sched.wish is None
    assert len(answers) == 1
    assert sched.results["asks"].status is Status.CANCELLED, "it can be taken up"


# -- nobody has announced it ------------------------------------------------------------------------------------------


def crash(machine: Machine, running: dict[str, Task], others: list[Task]) -> None:
    """Leave the journal of a machine that went down while these ran."""
    from pexen.core.planner import Planner
    from pexen.model.attempt import Attempt
    from pexen.sched.recorder import Recorder

    planner = Planner()
    tasks = [*running.values(), *others]
    planner.add(tasks)
    recorder = Recorder(machine.journal, "full", {}, ALLOWED)
    recorder.plan(tasks, planner, on_the_fly=False)
    for number, task in enumerate(running.values(), recorder.before.last_id + 1):
        recorder.starts.append(Attempt(task, number, task.call, lambda _: None))
    recorder.flush()
    recorder.journal.close()
    machine.boot()


class Watched:
    """Tasks of which each notes who runs at the same time."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.met: dict[str, set[str]] = {}

    def task(self, path: str) -> Task:
        def work() -> None:
            self.now.add(path)
            Event().wait(0.02)
            self.met[path] = self.now - {path}
            self.now.discard(path)

        return Task(work, path)


def test_suspects_run_one_at_a_time_after_a_crash(machine: Machine) -> None:
    watched = Watched()
    tasks = {path: watched.task(path) for path in ("a", "b", "c", "d", "e")}
    crash(machine, {path: tasks[path] for path in ("a", "b")}, [tasks[path] for path in ("c", "d", "e")])
    results = machine.sched(tasks.values(), pool=pexen.ThreadPool(5)).wait()
    assert set(story(results).values()) == {"passed"}
    assert watched.met["a"] == watched.met["b"] == set()


def test_only_one_that_was_alone_is_charged(machine: Machine) -> None:
    tasks = {path: Task(str, path) for path in "abc"}
    for _ in range(3):
        crash(machine, {path: tasks[path] for path in "ab"}, [tasks["c"]])
    assert not any(one.crashes for one in read(machine.journal).stories.values())
    for _ in range(2):
        crash(machine, {"a": tasks["a"]}, [tasks["b"], tasks["c"]])
    results = machine.sched(tasks.values()).wait()
    assert story(results) == {"a": "crashed", "b": "passed", "c": "passed"}
    assert "2 times while it alone was running" in results["a"].reason


def versions(*numbers: int) -> list[Task]:
    return [Task(str, "it", tags=[f"v{number}"]) for number in numbers]


def test_crashes_are_charged_to_a_task_that_runs_again_as_well(machine: Machine) -> None:
    first, second = versions(1, 2)
    machine.sched([first]).wait()
    for _ in range(2):
        crash(machine, {"it": second}, [])
    assert story(machine.sched([second]).wait()) == {"it": "crashed"}


@pytest.mark.parametrize("has_result", [False, True])
def test_crashes_are_not_charged_to_another_version_of_the_task(machine: Machine, has_result: bool) -> None:
    first, second, third = versions(1, 2, 3)
    if has_result:
        machine.sched([first]).wait()
    crash(machine, {"it": second}, [])
    crash(machine, {"it": third}, [])
    assert story(machine.sched([third]).wait()) == {"it": "passed"}


def test_once_is_not_twice_though_it_has_changed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had a result, was to run again, and what became of that is not known."""
    monkeypatch.setattr(Machine, "boot", lambda _: None)
    ran: list[str] = []
    changed = Task(ran.append, "it", args=["it"], once=True)
    machine.sched([Task(str, "it", once=True)]).wait()
    crash(machine, {"it": changed}, [])
    assert story(machine.sched([changed]).wait()) == {"it": "lost"}
    assert not ran


def test_kill_9_of_the_runner_is_no_crash_of_the_machine(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "boot", lambda _: None)
    task = Task(str, "a")
    for _ in range(4):
        crash(machine, {"a": task}, [])
    result = machine.sched([task]).wait()["a"]
    assert result.status is Status.PASSED
    assert len(result.attempts) == 1


def test_a_machine_that_restarts_for_ever_is_given_up(machine: Machine) -> None:
    task = Task(str, "a")
    for _ in range(11):
        crash(machine, {}, [task])
    with pytest.raises(pexen.StateError, match="restarted 11 times"):
        machine.sched([task], reboots=Reboots(allowed=True, per_task=1)).wait()


def test_a_report_with_an_id_is_answered_when_it_is_safe(machine: Machine) -> None:
    script = machine.folder / "task"
    script.write_text(
        '#!/bin/sh\necho \'{"id": 7, "report": "acl"}\' >&$PEXEN_CONTROL; read -r a <&$PEXEN_CONTROL; '
        f'echo "$a" > {machine.folder}/answer; grep -c acl {machine.journal}/journal.jsonl > {machine.folder}/seen\n'
    )
    script.chmod(0o755)
    result: Result = machine.sched([pexen.command([str(script)], path="a")]).wait()["a"]
    assert [one.name for one in result.reports] == ["acl"]
    assert (machine.folder / "answer").read_text() == '{"id": 7, "ok": true}\n'
    assert int((machine.folder / "seen").read_text()) == 1
    assert isinstance(result.reports[0], Report)


def test_a_volatile_task_that_takes_the_machine_down_is_given_up_although_it_is_needed(machine: Machine) -> None:
    it, user = Task(str, "it", volatile=True, provides="x"), Task(str, "user", requires="x")
    for _ in range(2):
        crash(machine, {"it": it}, [user])
    assert story(machine.sched([it, user]).wait()) == {"it": "crashed", "user": "skipped"}


def test_once_is_not_twice_though_it_is_volatile_and_needed(machine: Machine) -> None:
    it, user = Task(str, "it", volatile=True, once=True, provides="x"), Task(str, "user", requires="x")
    crash(machine, {"it": it}, [user])
    assert story(machine.sched([it, user]).wait()) == {"it": "lost", "user": "skipped"}
