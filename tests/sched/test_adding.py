"""Tasks on the fly: added by tasks in every pool, by executables, from other threads; tried again, and taken up again."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import pexen
from pexen import (
    CommandPool,
    DefinitionError,
    InlinePool,
    LocalPool,
    PexenError,
    ProcessPool,
    Sched,
    Status,
    Task,
    ThreadPool,
)
from pexen.model.result import Outcome
from pexen.state.reader import read

POOLS = {
    "inline": InlinePool,
    "thread": lambda: ThreadPool(2),
    "process": lambda: ProcessPool(2),
}


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest) -> Any:
    return POOLS[request.param]()


@pytest.fixture(params=[True, False], ids=["journal", "no journal"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "record" if request.param else None


def note(folder: str, word: str) -> None:
    with open(f"{folder}/notes", "a") as file:
        file.write(f"{word}\n")


def notes(folder: Path) -> list[str]:
    file = folder / "notes"
    return file.read_text().split() if file.exists() else []


def noted(folder: str, word: str, value: Any = None) -> Any:
    note(folder, word)
    return value


def passed(results: Any) -> bool:
    wrong = [(one.path, one.error, one.reason) for one in results.values() if one.status is not Status.PASSED]
    assert not wrong
    return True


# -- from inside -------------------------------------------------------------------------------------------------------


@pexen.task
def number() -> int:
    return 7


def plus(count: int, number: int) -> int:
    return count + number


def adds() -> None:
    here = pexen.current()
    first = Task(number)
    here.add(first, Task(plus, args=[1], requires=first), Task(plus, args=[2], requires=number))
    secret = 3
    here.add(
        lambda: secret, Task(len, args=[{1, 2}], path="odd/argument"), Task(plus, "later", args=[5], requires=number)
    )


def test_a_task_adds_named_and_nameless_callables_with_arguments_and_requirements(pool, record):
    results = Sched([Task(adds, "a")], pool=pool, journal=record).wait()
    assert passed(results)
    assert {path: one.value for path, one in results.items()} == {
        "a": None, "a/number": 7, "a/plus": 8, "a/plus#2": 9, "a/lambda": 3, "odd/argument": 2, "later": 12,
    }  # fmt: skip


def adds_wrongly(kind: str) -> None:
    here = pexen.current()
    wrong = {
        "no task": [3],
        "unknown": [Task(number, "ok"), Task(number, "bad", requires="nobody")],
        "cycle": [Task(number, "x", requires="/y"), Task(number, "y", requires="/x")],
        "twice": [Task(number, "x"), Task(number, "x")],
        "taken": [Task(number, "there")],
        "several": [Task(number, "x"), Task(number, "y"), Task(str, "z", requires=number)],
    }[kind]
    with pytest.raises(DefinitionError) as caught:
        here.add(*wrong)
    error = caught.value
    here.add(Task(number, "after"))
    here.shared["error"] = [error.headline, [list(fact) for fact in error.facts], error.hint]


WRONG = {
    "no task": "neither a task nor a callable",
    "unknown": "bad requires 'nobody'",
    "cycle": "a cycle of 2 tasks",
    "twice": "two tasks have the path 'x'",
    "taken": "two tasks have the path 'there'",
    "several": "number, which was added several times",
}


@pytest.mark.parametrize("kind", WRONG)
def test_all_of_one_call_or_none_and_the_error_is_raised_inside(pool, kind):
    results = Sched([Task(adds_wrongly, "a", args=[kind]), Task(number, "there")], pool=pool).wait()
    assert passed(results)
    assert results.keys() == {"a", "there", "after"}
    headline, facts, hint = results["a"].shared["error"]
    assert WRONG[kind] in headline
    assert kind == "unknown" or (facts if kind == "cycle" else hint)


@pexen.task
def stranger() -> None: ...


def requires_what_is_somewhere_else() -> None:
    with pytest.raises(DefinitionError, match="which this task has not added") as caught:
        pexen.current().add(Task(number, requires=stranger))
    assert "by path or name" in caught.value.hint


def test_a_worker_cannot_know_a_function_that_it_has_not_added():
    assert passed(Sched([Task(requires_what_is_somewhere_else, "a")], pool=ProcessPool(1)).wait())


def grows(depth: int) -> int:
    if depth:
        pexen.current().add(Task(grows, f"grown/{depth}", args=[depth - 1]))
    return depth


def test_what_was_added_adds_more(pool, record):
    results = Sched([Task(grows, "a", args=[5])], pool=pool, journal=record).wait()
    assert passed(results)
    assert [results[f"grown/{n}"].value for n in range(5, 0, -1)] == [4, 3, 2, 1, 0]


class Unpickled:
    """Says where it was unpickled."""

    def __reduce__(self) -> Any:
        return os.getpid, ()


def adds_what_tells_its_process() -> int:
    pexen.current().add(Task(str, "told", args=[Unpickled()]))
    return os.getpid()


def test_the_runner_opens_nothing_that_a_worker_adds():
    results = Sched([Task(adds_what_tells_its_process, "a")], pool=ProcessPool(1)).wait()
    assert passed(results)
    assert results["told"].value != str(os.getpid())


def says_nonsense(encoded: Any) -> str:
    from pexen.pool.reporting import said

    return pexen.current()._line._answered(said("encoded", encoded))


SUMMARY = {"name": "f", "kind": "function", "parameters": [], "where": "", "doc": "", "digest": ""}
EVIL = [
    [1, 2], [None, None], [[[]], []], [[["x", {"at": 0}, [], [], {}, ""]], []], [[["x", {"at": 0}, [], [], {}, ""]], [{}]],
    [[["x", {"at": 0}, [], [], {}, ""]], [{"address": {}, "summary": {**SUMMARY, "kind": "evil"}}]],
    [[["x", {"argv": 3}, [], [], {}, ""]], []], [[["x", {"argv": [], "cwd": 3, "env": 4, "shell": 5}, [], [], {}, ""]], []],
    [[["../x", {"at": 0}, [], [], {}, ""]], [{"address": {}, "summary": SUMMARY}]],
    [[["x", {"at": 0}, [], [], {"timeout": "evil"}, ""]], [{"address": {}, "summary": SUMMARY}]],
    [[["x", {"at": 0}, [{"$": "evil", "of": 1}], [], {}, ""]], [{"address": {}, "summary": SUMMARY}]],
]  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_nonsense_from_a_worker_is_refused_and_nothing_was_added(evil, record):
    results = Sched([Task(says_nonsense, "a", args=[evil])], pool=ProcessPool(1), journal=record).wait()
    assert passed(results)
    assert results.keys() == {"a"}
    assert results["a"].value


def test_what_is_no_message_at_all_ends_the_worker():
    results = Sched([Task(says_nonsense, "a", args=[5]), Task(str, "b")], pool=ProcessPool(1)).wait()
    assert (results["a"].status, results["b"].status) == (Status.CRASHED, Status.PASSED)


def test_a_requirement_that_has_ended_is_met_at_once_with_data_or_fails_the_task_at_once(pool, record):
    def gives(shared):
        shared["port"] = 80
        return 5

    def bad():
        raise OSError

    def late():
        pexen.current().add(
            Task(lambda gives, shared: [gives, shared["port"]], "good", requires="/gives"),
            Task(str, "poor", requires="/bad"),
        )

    tasks = [Task(gives, "gives"), Task(bad, "bad"), Task(late, "late", after=["/gives", "/bad"])]
    for _ in range(2 if record else 1):
        results = Sched(tasks, pool=ProcessPool(2) if isinstance(pool, ProcessPool) else pool, journal=record).wait()
        assert results["good"].value == [5, 80]
        assert results["poor"].status is Status.SKIPPED
        assert results["poor"].reason == "bad ended in an error"


def test_tasks_are_added_from_another_thread_while_the_run_goes_on():
    held = threading.Event()
    sched = Sched([Task(held.wait, "first", args=[30])], pool=ThreadPool(2))
    run = sched.start()

    def add(name: str) -> None:
        for n in range(100):
            sched.add([Task(str, f"{name}/{n}")])

    threads = [threading.Thread(target=add, args=[name]) for name in "abc"]
    with run.hold():
        held.set()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(run.wait(30)) == 301


def test_who_adds_when_the_run_is_stopped_is_told_yes_and_the_tasks_are_cancelled(tmp_path):
    going, stopped = threading.Event(), threading.Event()

    def adds_late() -> None:
        going.set()
        stopped.wait(30)
        pexen.current().add(Task(str, "late"))

    sched = Sched([Task(adds_late, "a")], pool=ThreadPool(1), journal=tmp_path)
    run = sched.start()
    going.wait(30)
    run.drain("enough")
    stopped.set()
    results = run.wait(30)
    assert results["a"].status is Status.PASSED
    assert results["late"].status is Status.CANCELLED


def test_a_thread_that_outlives_its_run_is_told_that_it_is_over():
    said, go = [], threading.Event()

    def outlives() -> None:
        here = pexen.current()

        def later() -> None:
            go.wait(30)
            try:
                here.add(str)
            except PexenError as error:
                said.append(str(error))

        thread = threading.Thread(target=later)
        threads.append(thread)
        thread.start()

    threads: list[threading.Thread] = []
    Sched([Task(outlives, "a")], pool=ThreadPool(1)).wait()
    go.set()
    threads[0].join(30)
    assert said == ["the run is over"]


# -- tried again -------------------------------------------------------------------------------------------------------


def adds_and_dies(folder: str, how: str) -> None:
    here = pexen.current()
    note(folder, f"adder{here.attempt}")
    here.add(Task(noted, args=[folder, "one"]), Task(noted, args=[folder, "two"]))
    if here.attempt == 1:
        if how == "exits":
            os._exit(3)
        raise OSError("the first time")
    here.add(Task(noted, args=[folder, "three"]))


@pytest.mark.parametrize("how", ["raises", "exits"])
def test_an_adder_that_is_tried_again_adds_nothing_twice(pool, record, how, tmp_path):
    if how == "exits" and not isinstance(pool, ProcessPool):
        pytest.skip("that would be the end of the runner")
    results = Sched([Task(adds_and_dies, "a", args=[str(tmp_path), how], retries=1)], pool=pool, journal=record).wait()
    assert passed(results)
    assert results.keys() == {"a", "a/noted", "a/noted#2", "a/noted#3"}
    assert sorted(notes(tmp_path)) == ["adder1", "adder2", "one", "three", "two"]


def adds_another(folder: str) -> None:
    here = pexen.current()
    here.add(Task(noted, "same", args=[folder, str(here.attempt)]))
    raise OSError(f"attempt {here.attempt}")


def test_another_task_at_the_same_path_is_an_error(pool, tmp_path):
    result = Sched([Task(adds_another, "a", args=[str(tmp_path)], retries=1)], pool=pool).wait()["a"]
    assert [type_of(one) for one in result.attempts] == ["OSError", "pexen.errors.DefinitionError"]
    assert "same was added before, and differs" in str(result.error)


def type_of(attempt: Any) -> str:
    return attempt.failure.type


def test_what_somebody_else_has_added_is_no_more_than_taken(pool, tmp_path):
    tasks = [Task(grows, "a", args=[1]), Task(grows, "b", args=[1], after="/a")]
    results = Sched(tasks, pool=pool).wait()
    assert results["b"].status is Status.ERROR
    assert "two tasks have the path 'grown/1'" in str(results["b"].error)


# -- executables -------------------------------------------------------------------------------------------------------

ASK = """ask() { printf '%s\\n' "$1" >&"$PEXEN_CONTROL"; read -r answer <&"$PEXEN_CONTROL"; printf '%s\\n' "$answer"; }\n"""


def saying(*lines: Any, path: str = "a", ask: bool = True, **meta: Any) -> Task:
    """Return a script that says this, and perhaps prints the answers."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    how = "ask '%s'" if ask else """printf '%%s\\n' '%s' >&"$PEXEN_CONTROL" """
    return pexen.command(ASK + "\n".join(how % text for text in texts), path=path, **meta)


def commands() -> Any:
    return CommandPool(2, capture=True)


def test_an_executable_adds_what_a_task_file_could_say(tmp_path, record):
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool $X\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "below").mkdir()
    tables = {
        "defaults": {"env": {}, "timeout": "5m"},
        "tasks": {
            "built/tool": {"run": ["./tool"], "env": {"X": "x"}},
            "built/where": {"run": "pwd", "cwd": "below", "requires": ["/built/tool"], "priority": 3},
        },
    }
    del tables["defaults"]["env"]
    results = Sched([saying({"id": 1, "add": tables}, cwd=tmp_path)], pool=commands(), journal=record).wait()
    assert passed(results)
    assert json.loads(results["a"].output) == {"id": 1, "ok": True}
    assert results["built/tool"].output == "tool x\n"
    assert results["built/where"].output == f"{tmp_path}/below\n"
    assert results["built/where"].task.timeout == 300


def one(**table: Any) -> dict[str, Any]:
    return {"tasks": {"x": {"run": "true", **table}}}


NONSENSE = [
    ({}, "as a task file has them"), ([], "as a task file has them"), ({"tasks": []}, "as a task file has them"),
    ({"tasks": {"x": 3}}, "x must be a table"), ({"tasks": {"x": {}}}, "needs either run or python"),
    ({"tasks": {"/x": {"run": "true"}}}, "not a valid task path"), (one(timout="5m"), "did you mean 'timeout'"),
    (one(timeout=[]), "duration"), (one(cwd=3), "cwd must be a folder"), (one(env={"A": 1}), "env"),
    (one(run=None), "run"), (one(requires="nobody"), "nobody provides it"), (one(requires="/x"), "requires itself"),
    (one(pool="gpu"), "there is no pool"), ({"tasks": {}, "task": {}}, "unknown key 'task'"), (one(args=[1]), "args"),
    ({"tasks": {"x": {"python": "os:getpid"}}}, "'python' cannot be used here"), (one(requires=[[["x"]]]), "requires"),
    ({"tasks": {"x": {"run": "true", "requires": "/y"}, "y": {"run": "true", "requires": "/x"}}}, "a cycle of 2 tasks"),
    ({"tasks": {"a": {"run": "true"}}}, "two tasks have the path 'a'"), (one(when="("), "when"),
    ('{"id": 1, "add": {"tasks": {"x": {"run": "true"}, "x": {"run": "false"}}}}', "the key 'x' is there twice"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "why"), NONSENSE)
@pytest.mark.parametrize("ask", [True, False], ids=["answered", "not asked"])
def test_nonsense_is_refused_and_reported_and_nothing_was_added(said, why, ask):
    line = said if isinstance(said, str) else {"id": 1, "add": said}
    if not ask:
        line = line.replace('"id": 1, ', "") if isinstance(line, str) else {"add": said}
    after = {"add": {"tasks": {"fine": {"run": "true"}}}}
    script = pexen.command(
        """printf '%s\\n' "$LINE" >&"$PEXEN_CONTROL"
        [ -z "$ASK" ] || { read -r answer <&"$PEXEN_CONTROL"; printf '%s\\n' "$answer"; }
        printf '%s\\n' "$AFTER" >&"$PEXEN_CONTROL" """,
        path="a", env={"LINE": line if isinstance(line, str) else json.dumps(line), "AFTER": json.dumps(after), "ASK": "1" * ask},
    )  # fmt: skip
    results = Sched([script], pool=commands()).wait()
    assert results["a"].status is Status.WARNED
    assert results.keys() == {"a", "fine"}
    (report,) = results["a"].reports
    assert why in report.message
    if ask:
        assert why in json.loads(results["a"].output)["error"]


def test_what_was_said_last_counts_before_the_end_of_who_said_it(tmp_path):
    """Each line of these requires the one before, and nobody waits for an answer."""
    lines = [{"add": one()}] + [
        {"add": {"tasks": {f"x{n}": {"run": "true", "requires": f"/x{n - 1}" if n else "/x"}}}} for n in range(50)
    ]
    results = Sched([saying(*lines, ask=False)], pool=commands(), journal=tmp_path).wait()
    assert passed(results)
    assert len(results) == 52
    kinds = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    first = {}
    for at, line in enumerate(kinds):
        for row in line["passed"] if line["kind"] == "results" else [[line.get("path")]]:
            first.setdefault((line["kind"].rstrip("s"), row[0]), at)
    assert max(at for (kind, _), at in first.items() if kind == "added") < first["result", "a"]


def test_ten_thousand_tasks_in_lines_of_less_than_a_megabyte(tmp_path):
    tables = {f"t/{n}": {"run": ["/bin/true"], "when": "false"} for n in range(10_000)}
    items = list(tables.items())
    for name, size in (("long", 10_000), ("short", 5_000)):
        said = [json.dumps({"add": {"tasks": dict(items[at : at + size])}}) for at in range(0, 10_000, size)]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in said))
    padded = (tmp_path / "long").read_text().replace("/bin/true", "/bin/" + "true" + " " * 80)
    (tmp_path / "long").write_text(padded)
    for name, count in (("long", 1), ("short", 10_001)):
        script = f"cat {tmp_path}/{name} >&$PEXEN_CONTROL"
        results = Sched([pexen.command(script, path="a")], pool=commands()).wait()
        assert len(results) == count
        if name == "long":
            assert "longer than 1048576 bytes" in results["a"].reports[0].message


# -- taken up again ----------------------------------------------------------------------------------------------------


def family(folder: str, kind: str) -> None:
    """Add a first task, a second one that requires it, and a third that runs alone."""
    note(folder, "adder")
    first = Task(noted, "first", args=[folder, "first", 1])
    if kind == "nameless":
        second: Any = Task(lambda first: noted(folder, f"second{first}"), "second", requires=first)
    elif kind == "odd":
        second = Task(uses, "second", args=[folder, {1}], requires=first)
    elif kind == "command":
        second = pexen.command(["/bin/sh", "-c", f"echo second1 >> {folder}/notes"], "second", requires=first)
    else:
        second = Task(uses, "second", args=[folder, 1], requires=first)
    pexen.current().add(first, second)


def uses(folder: str, _: Any, first: int) -> None:
    note(folder, f"second{first}")


class Withholding(LocalPool):
    """Does not run the tasks at some paths: they wait until somebody cancels them."""

    def __init__(self, callables: Any, *paths: str) -> None:
        super().__init__(1, callables=callables)
        self._paths = paths

    def submit(self, attempt: Any) -> None:
        if attempt.task.name not in self._paths:
            super().submit(attempt)

    def cancel(self, attempt: Any, *, force: bool) -> None:
        if attempt.task.name in self._paths:
            attempt.post(Outcome(attempt, Status.CANCELLED, reason="not started"))
        else:
            super().cancel(attempt, force=force)


def stops_after(
    tasks: list[Task], folder: Path, path: str, pool: Any = "thread", without: str = "", **options: Any
) -> None:
    """Run until this result, and leave the loop: what has not started is cancelled. Do not run what is to be left out."""
    for result in Sched(tasks, journal=folder / "record", pool=Withholding(pool, without), **options).run():
        if result.path == path:
            return
    raise AssertionError(f"{path} has not ended")


@pytest.mark.parametrize("kind", ["function", "command", "nameless", "odd"])
@pytest.mark.parametrize("callables", ["thread", "process"])
def test_what_a_finished_adder_has_added_goes_on_without_it(tmp_path, kind, callables):
    """Unless the record does not say what it was; then the adder runs again, and adds it again."""
    tasks = [Task(family, "adder", args=[str(tmp_path), kind])]
    stops_after(tasks, tmp_path, "first", callables, "second")
    assert notes(tmp_path) == ["adder", "first"]
    is_said = kind in {"function", "command"}
    sched = Sched(tasks, journal=tmp_path / "record", pool=LocalPool(1, callables=callables))
    found = {one.path: one for one in sched.run()}
    assert len(found) == 3
    assert found["first"].replayed
    assert found["adder"].replayed == is_said
    assert passed(found)
    assert notes(tmp_path) == ["adder", "first", *(["second1"] if is_said else ["adder", "second1"])]
    assert sched.changes is not None
    assert sched.changes.finished == (2 if is_said else 0)
    again = () if is_said else (("adder", "what it has added cannot be made again from the record"),)
    assert sched.changes.again == again
    assert sched.changes.removed == sched.changes.changed == ()
    last = Sched(tasks, journal=tmp_path / "record", pool=LocalPool(1, callables=callables))
    assert [(one.path, one.replayed) for one in last.run()] == [(path, True) for path in ("adder", "first", "second")]
    assert read(tmp_path / "record").duplicates == 0


def adds_then_stops(folder: str) -> None:
    note(folder, "adder")
    here = pexen.current()
    here.add(Task(noted, "one", args=[folder, "one", 1]), Task(noted, "two", args=[folder, "two"], requires="/one"))
    if notes(Path(folder)).count("adder") == 1:
        os.kill(os.getpid(), 9)


def test_an_adder_that_did_not_finish_adds_again_and_what_is_finished_is_told_once(tmp_path):
    """The worker is killed, the run is stopped before the adder is tried again."""
    tasks = [Task(adds_then_stops, "adder", args=[str(tmp_path)], retries=1, retry_delay="1h")]
    stops_after(tasks, tmp_path, "two", "process")
    assert notes(tmp_path) == ["adder", "one", "two"]
    found = list(Sched(tasks, journal=tmp_path / "record", pool=ProcessPool(1)).run())
    assert sorted((one.path, one.replayed) for one in found) == [("adder", False), ("one", True), ("two", True)]
    assert notes(tmp_path) == ["adder", "one", "two", "adder"]


def adds_commands(tmp_path: Path) -> Task:
    tables = {
        "tasks": {
            "one": {"run": f"echo one >> {tmp_path}/notes"},
            "two": {"run": f"echo two >> {tmp_path}/notes", "requires": "/one"},
        }
    }
    return pexen.command(
        f"echo adder >> {tmp_path}/notes; {ASK} ask '{json.dumps({'id': 1, 'add': tables})}'", path="adder"
    )


def test_what_an_executable_has_added_is_made_again_from_its_arguments(tmp_path):
    stops_after([adds_commands(tmp_path)], tmp_path, "one", without="two")
    found = {one.path: one for one in Sched([adds_commands(tmp_path)], journal=tmp_path / "record").run()}
    assert {path for path, one in found.items() if one.replayed} == {"adder", "one"}
    assert notes(tmp_path) == ["adder", "one", "two"]


def chain(folder: str, depth: int) -> None:
    note(folder, f"chain{depth}")
    if depth:
        pexen.current().add(Task(chain, f"chain/{depth}", args=[folder, depth - 1]))


def test_a_long_chain_of_adders_is_taken_up_at_its_end(tmp_path):
    tasks = [Task(chain, "chain", args=[str(tmp_path), 1500])]
    stops_after(tasks, tmp_path, "chain/700")
    before = notes(tmp_path)
    results = Sched(tasks, journal=tmp_path / "record", pool=ThreadPool(1)).wait()
    assert passed(results)
    assert len(results) == 1501
    assert len(set(notes(tmp_path))) == len(notes(tmp_path)) == 1501
    assert before == notes(tmp_path)[: len(before)]


def nested(folder: str) -> None:
    note(folder, "outer")
    pexen.current().add(Task(inner, "inner", args=[folder]))


def inner(folder: str) -> None:
    note(folder, "inner")
    pexen.current().add(
        Task(noted, "done", args=[folder, "done"]), Task(lambda: note(folder, "left"), "left", requires="/done")
    )


def test_an_adder_that_was_added_runs_again_where_it_has_to(tmp_path):
    tasks = [Task(nested, "outer", args=[str(tmp_path)])]
    stops_after(tasks, tmp_path, "done", without="left")
    results = Sched(tasks, journal=tmp_path / "record", pool=ThreadPool(1)).wait()
    assert passed(results)
    assert notes(tmp_path) == ["outer", "inner", "done", "inner", "left"]
    assert {path for path, one in results.items() if one.replayed} == {"outer", "done"}


def test_what_a_changed_or_removed_adder_has_added_is_gone_with_it(tmp_path):
    task = Task(family, "adder", args=[str(tmp_path), "function"])
    stops_after([task], tmp_path, "first", without="second")
    assert Sched([Task(str, "other")], journal=tmp_path / "record").wait().keys() == {"other"}
    changed = Task(noted, "adder", args=[str(tmp_path), "changed"])
    for runs in (1, 0):
        sched = Sched([changed], journal=tmp_path / "record")
        assert sched.wait().keys() == {"adder"}, "neither now nor later"
        assert notes(tmp_path).count("changed") == 1
        assert sched.changes is not None
        assert sched.changes.changed == (("adder",) if runs else ())


def test_what_an_adder_has_added_that_changed_before_it_finished_is_gone_as_well(tmp_path):
    tasks = [Task(adds_then_stops, "adder", args=[str(tmp_path)], retries=1, retry_delay="1h")]
    stops_after(tasks, tmp_path, "one", "process", "two")
    for _ in range(2):
        changed = Task(noted, "adder", args=[str(tmp_path), "changed"])
        assert Sched([changed], journal=tmp_path / "record").wait().keys() == {"adder"}
    assert notes(tmp_path) == ["adder", "one", "changed"]


def test_what_a_changed_adder_adds_again_is_still_its_own(tmp_path):
    task = Task(family, "adder", args=[str(tmp_path), "function"])
    stops_after([task], tmp_path, "first", without="second")
    stops_after([task.replace(priority=1)], tmp_path, "adder", without="second")
    found = Sched([task.replace(priority=1)], journal=tmp_path / "record", pool=ThreadPool(1)).wait()
    assert {path for path, one in found.items() if one.replayed} >= {"adder", "first"}
    assert found["second"].status is Status.PASSED
    assert notes(tmp_path) == ["adder", "first", "adder", "second1"]


def test_an_executable_that_has_changed_since_runs_again_and_so_does_a_function(tmp_path, monkeypatch):
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool >> notes\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "changing.py").write_text("def work(note):\n    note('old')\n")
    monkeypatch.syspath_prepend(tmp_path)

    def tasks():
        told = {"id": 1, "add": {"tasks": {"tool": {"run": ["./tool"]}}}}
        return [pexen.command(f"{ASK} echo adder >> notes; ask '{json.dumps(told)}'", path="adder", cwd=tmp_path)]

    assert passed(Sched(tasks(), journal=tmp_path / "record").wait())
    (tmp_path / "tool").write_text("#!/bin/sh\necho new >> notes\n")
    sched = Sched(tasks(), journal=tmp_path / "record")
    assert passed(sched.wait())
    assert notes(tmp_path) == ["adder", "tool", "new"]
    assert sched.changes is not None
    assert sched.changes.changed == ("tool",)


MODULE = """
import pexen

def adder(folder):
    with open(folder + "/notes", "a") as file:
        file.write("adder\\n")
    pexen.current().add(pexen.Task(work, "work", args=[folder]))

# this line may go

def work(folder):
    with open(folder + "/notes", "a") as file:
        file.write("work\\n")
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("", "", []), ("# this line may go\n", "", []), ('"work\\n"', '"new\\n"', ["adder", "new"])],
)
def test_a_function_whose_lines_have_changed_is_asked_of_its_adder(tmp_path, monkeypatch, old, new, expected):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    module = tmp_path / "changing.py"
    for number, text in enumerate((MODULE, MODULE.replace(old, new) if old else MODULE)):
        module.write_text(text)
        import importlib
        import linecache
        import sys

        sys.modules.pop("changing", None)
        linecache.clearcache()
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        changing = importlib.import_module("changing")
        tasks = [Task(changing.adder, "adder", args=[str(tmp_path)])]
        assert passed(Sched(tasks, journal=tmp_path / "record", pool=ThreadPool(1)).wait())
        assert notes(tmp_path)[2:] == (expected if number else [])
    sys.modules.pop("changing", None)


def adds_less(folder: str) -> None:
    note(folder, "adder")
    first = Task(noted, "first", args=[folder, "first"])
    pexen.current().add(first)
    if notes(Path(folder)).count("adder") == 1:
        pexen.current().add(Task(lambda: note(folder, "second"), "second", requires=first))


def test_what_an_adder_has_not_added_again_is_asked_of_it_only_once(tmp_path):
    tasks = [Task(adds_less, "adder", args=[str(tmp_path)])]
    stops_after(tasks, tmp_path, "first", without="second")
    for _ in range(2):
        assert Sched(tasks, journal=tmp_path / "record", pool=ThreadPool(1)).wait().keys() == {"adder", "first"}
    assert notes(tmp_path) == ["adder", "first", "adder"]


def test_an_adder_that_may_run_only_once_is_not_run_again_and_that_is_said(tmp_path):
    tasks = [Task(family, "adder", args=[str(tmp_path), "nameless"], once=True)]
    stops_after(tasks, tmp_path, "first", without="second")
    sched = Sched(tasks, journal=tmp_path / "record", pool=ThreadPool(1))
    assert sched.wait().keys() == {"adder", "first"}
    assert sched.notices == ["adder runs at most once, and what it has added cannot be made again from the record"]
    assert notes(tmp_path) == ["adder", "first"]


def test_a_tree_that_was_moved_has_its_adders_run_again(tmp_path):
    """What they have added is known by absolute paths, which lead to the old place."""
    tasks = [Task(family, "adder", args=[str(tmp_path), "command"])]
    stops_after(tasks, tmp_path, "first", without="second", about={"root": "/old"})
    sched = Sched(tasks, journal=tmp_path / "record", about={"root": "/new"})
    assert passed(sched.wait())
    assert notes(tmp_path) == ["adder", "first", "adder", "second1"]


def test_what_requires_something_that_is_gone_is_asked_of_its_adder(tmp_path):
    def adder():
        note(str(tmp_path), "adder")
        try:
            pexen.current().add(Task(noted, "kid", args=[str(tmp_path), "kid"], requires="/base"))
        except DefinitionError:
            note(str(tmp_path), "refused")

    base, adds = Task(str, "base"), Task(adder, "adder", after="/base")
    stops_after([base, adds], tmp_path, "adder", without="kid")
    sched = Sched([adds.replace(after=())], journal=tmp_path / "record", pool=ThreadPool(1))
    sched.wait()
    assert sched.changes is not None
    assert sched.changes.again == (("adder", "what it has added requires what is not there any more"),)
    assert notes(tmp_path)[-2:] == ["adder", "refused"]


def test_the_loop_may_add_what_it_has_added_before(tmp_path):
    for replayed in (False, True):
        sched = Sched([Task(str, "first")], journal=tmp_path)
        found = []
        for result in sched.run():
            found.append((result.path, result.replayed))
            if result.path == "first":
                sched.add([Task(str, "more")])
        assert found == [("first", replayed), ("more", replayed)]
