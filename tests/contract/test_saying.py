"""What a task may say from inside, the same in every pool that runs callables, and from executables."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pexen
from pexen import AsyncPool, CommandPool, InlinePool, LocalPool, ProcessPool, Sched, Status, Task, ThreadPool
from tests.contract.strange import InCoroutines, Owning

POOLS = {
    "inline": lambda: InlinePool(),
    "thread": lambda: ThreadPool(2),
    "async": lambda: AsyncPool(2),
    "async-coroutines": lambda: InCoroutines(2),
    "executor-threads": lambda: Owning(ThreadPoolExecutor, 2),
    "process-exec": lambda: ProcessPool(2),
    "process-forkserver": lambda: ProcessPool(2, start="forkserver"),
}


@pytest.fixture(params=POOLS)
def pool(request):
    return POOLS[request.param]()


def run_one(task, pool, **options):
    return Sched([task], pool=pool, **options).wait()[task.name]


# -- Python ------------------------------------------------------------------------------------------------------------


def says_everything(folder):
    here = pexen.current()
    Path(folder, "note.txt").write_text("kept")
    here.report("one", "info", "first", data={"n": 1}, files=["a"])
    kept = here.attach(f"{folder}/note.txt", "../up.txt")
    again = here.attach(f"{folder}/note.txt", "../UP.TXT")
    Path(here.dir, "own").write_text("own")
    here.heartbeat()
    return kept, again, here.dir, here.reboots


def test_reports_files_and_the_folder(pool, tmp_path):
    result = run_one(Task(says_everything, "a", args=[str(tmp_path)]), pool)
    assert result.status is Status.PASSED, result.error
    kept, again, folder, reboots = result.value
    assert [(one.name, one.status, one.message, dict(one.data)) for one in result.reports] == [
        ("one", "info", "first", {"n": 1})
    ]
    assert sorted(result.artifacts) == sorted([kept, again, f"{folder}/own"])
    assert {Path(file).read_text() for file in (kept, again)} == {"kept"}
    assert all(Path(file).parent == Path(folder) for file in result.artifacts)
    assert reboots == 0


def changes_its_limit(how, seconds):
    import select

    limit = pexen.current().timeout
    if how == "add":
        limit.add("30s")
    elif how == "set":
        limit.set(30)
    else:
        with limit.paused():
            select.select([], [], [], seconds)
        return
    select.select([], [], [], seconds)


@pytest.mark.parametrize("how", ["add", "set", "pause"])
def test_a_task_may_change_its_limit(pool, how):
    limit = 2.5 if isinstance(pool, ProcessPool) else 0.2  # a worker that is new imports what it takes to say anything
    task = Task(changes_its_limit, "a", args=[how, limit + 0.3], timeout=limit, grace=0.1)
    result = run_one(task, pool)
    assert result.status is Status.PASSED, (result.reason, result.evidence)


def wrong_limit():
    with pytest.raises(pexen.DefinitionError, match="duration"):
        pexen.current().timeout.set("soon")
    with pytest.raises(pexen.DefinitionError, match="'pass'"):
        pexen.current().report("a", "passed")
    with pytest.raises(pexen.DefinitionError, match="neither a task nor a callable"):
        pexen.current().add("make check")
    with pytest.raises(pexen.DefinitionError, match="two tasks have the path 'a'"):
        pexen.current().add(pexen.Task(str, "a"))
    with pytest.raises(pexen.DefinitionError, match="not 'me'"):
        pexen.current().reboot(by="me")
    with pytest.raises(OSError, match="No such file"):
        pexen.current().attach("/nonexistent")


def test_what_makes_no_sense_is_an_error_in_the_task(pool):
    result = run_one(Task(wrong_limit, "a"), pool)
    assert result.status is Status.PASSED, result.error


def adds_more(word):
    first = Task(shares, "first")
    pexen.current().add(first, Task(lambda n, shared: (word, n, dict(shared)), args=[1], requires=first))


def test_a_task_adds_tasks(pool):
    results = Sched([Task(adds_more, "a", args=["said"])], pool=pool).wait()
    assert {path: one.status for path, one in results.items()} == dict.fromkeys(
        ("a", "first", "a/lambda"), Status.PASSED
    )
    assert results["a/lambda"].value == ("said", 1, {"from python": 1})


def reports_often(count):
    here = pexen.current()
    for number in range(count):
        here.report(f"r{number}", "warn" if number == count - 1 else "pass")


def test_of_a_flood_of_reports_the_first_the_bad_and_a_count_are_kept(pool):
    result = run_one(Task(reports_often, "a", args=[5000]), pool)
    assert result.status is Status.WARNED
    assert len(result.reports) == 1002
    assert result.reports[1000].name == "r4999"
    assert result.reports[-1].message == "3999 more reports: 3999 pass"


# -- executables -------------------------------------------------------------------------------------------------------


def command(script, **meta):
    return pexen.command(script, path="a", **meta)


@pytest.fixture
def commands(tmp_path):
    return CommandPool(2, capture=True, output=tmp_path / "out")


def test_an_executable_has_the_same_verbs(commands, tmp_path):
    (tmp_path / "note.txt").write_text("kept")
    script = """
    say() { echo "$1" >&$PEXEN_CONTROL; read -r answer <&$PEXEN_CONTROL; echo "$answer"; }
    say '{"id": 1, "report": {"name": "one", "status": "warn", "message": "m", "data": {"n": 1}}}'
    say '{"id": 2, "attach": "note.txt"}'
    say '{"id": 3, "return": {"x": [1, null]}}'
    say '{"id": 4, "shared": {"key": "value"}}'
    say '{"id": 5, "heartbeat": true}'
    say '{"id": "x", "timeout": {"add": 3}}'
    say '{"id": 6, "add": {"tasks": {"b": {"run": "echo b"}}}}'
    say '{"id": 7, "add": {}}'
    echo own > $PEXEN_DIR/own
    """
    result = run_one(command(script, cwd=tmp_path), commands)
    assert [json.loads(line) for line in result.output.splitlines()] == [
        *({"id": number, "ok": True} for number in range(1, 6)),
        {"id": "x", "ok": True},
        {"id": 6, "ok": True},
        {"id": 7, "error": "add takes an object with 'tasks', and perhaps 'defaults', as a task file has them"},
    ]
    assert result.value == {"x": [1, None]}
    assert result.shared == {"key": "value"}
    assert [one.name for one in result.reports] == ["one", "pexen control"]
    assert sorted(Path(file).name for file in result.artifacts) == ["note.txt", "own"]


WRONG = [
    ("garbage", "not a JSON object"), ("[1]", "not a JSON object"), ('{"report": {}}', "needs a name"),
    ('{"report": {"name": "a", "status": "passed"}}', "'passed'"), ('{"reprot": 1}', "did you mean 'report'"),
    ('{"heartbeat": 1, "return": 2}', "one verb at a time"), ('{"timeout": "soon"}', "duration"),
    ('{"timeout": {"set": -1}}', "duration"), ('{"attach": {"file": "/nonexistent"}}', "No such file"),
    ('{"shared": 3}', "takes an object"), ('{"add": {}}', "with 'tasks'"),
    ('{"report": {"name": "a", "level": 1}}', "level"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "why"), WRONG)
def test_a_line_that_cannot_be_understood_is_quoted_in_a_warning(commands, line, why):
    result = run_one(command("printf '%s\\n' \"$LINE\" >&$PEXEN_CONTROL").replace(callable=_with_env(line)), commands)
    assert result.status is Status.WARNED
    (report,) = result.reports
    assert report.status == "warn"
    assert why in report.message
    assert line[:20] in report.message


def _with_env(line):
    from pexen.model.command import as_command

    return as_command("printf '%s\\n' \"$LINE\" >&$PEXEN_CONTROL", env={"LINE": line})


def test_who_asks_for_an_answer_and_says_nonsense_is_answered(commands):
    """It would wait for ever: JSON that was put together by hand in a shell script is often wrong."""
    script = """
    say() { echo "$1" >&$PEXEN_CONTROL; read -r answer <&$PEXEN_CONTROL; echo "$answer"; }
    say '{"id": "sh-1-1", "add": {"tasks": nonsense}}'
    say '{"id": 2, "add": {"tasks": {"a": {"run": "echo "quoted""}}}}'
    say '{"id": 3}'
    say "{\\"id\\": 4, \\"report\\": \\"$(head -c 1100000 /dev/zero | tr '\\0' x)\\"}"
    """
    result = run_one(command(script, timeout=60), commands)
    assert [json.loads(line) for line in result.output.splitlines()] == [
        {"id": "sh-1-1", "error": "not a JSON object"},
        {"id": 2, "error": "not a JSON object"},
        {"id": 3, "error": "one verb at a time, not 0"},
        {"id": 4, "error": "longer than 1048576 bytes"},
    ]
    assert [one.name for one in result.reports] == ["pexen control"] * 4


def test_a_flood_of_nonsense_is_bounded(commands):
    script = "i=0; while [ $i -lt 300 ]; do echo nonsense >&$PEXEN_CONTROL; i=$((i+1)); done"
    script += "; head -c 3000000 /dev/zero | tr '\\0' x >&$PEXEN_CONTROL; echo >&$PEXEN_CONTROL"
    script += """; echo '{"report": "last"}' >&$PEXEN_CONTROL"""
    result = run_one(command(script), commands)
    assert result.status is Status.WARNED
    assert len(result.reports) == 11
    assert result.reports[-1].name == "last"
    assert "more of that is not told" in result.reports[9].message


def test_binary_on_the_control_descriptor_is_no_harm(commands):
    result = run_one(command("head -c 100000 /dev/urandom >&$PEXEN_CONTROL"), commands)
    assert result.status is Status.WARNED


def test_reports_survive_the_death_of_their_task(commands):
    result = run_one(command("""echo '{"report": {"name": "last words"}}' >&$PEXEN_CONTROL; kill -9 $$"""), commands)
    assert result.status is Status.CRASHED
    assert [one.name for one in result.reports] == ["last words"]


def test_the_socket_reaches_the_same_listener(commands):
    code = (
        "import os, socket\nos.closerange(3, 256)\ns = socket.socket(socket.AF_UNIX)\n"
        's.connect(os.environ[\'PEXEN_SOCKET\'])\ns.sendall(b\'{"id": 1, "report": "there"}\\n\')\nprint(s.recv(99).decode())'
    )
    result = run_one(pexen.command(["python3", "-c", code], path="a"), commands)
    assert json.loads(result.output) == {"id": 1, "ok": True}
    assert [one.name for one in result.reports] == ["there"]


def returns_much():
    return {"n": [1, 2.5, "three", None, True], "t": (1,)}


def returns_odd():
    return {1, 2}


def shares(shared):
    shared["from python"] = 1


@pytest.mark.parametrize("callables", ["thread", "process"])
def test_values_of_required_tasks_reach_executables_and_theirs_reach_others(callables):
    tasks = [
        Task(returns_much, "much"), Task(returns_odd, "odd"), Task(shares, "shares"),
        pexen.command(
            """cat $PEXEN_VALUES; echo '{"return": 7}' >&$PEXEN_CONTROL; echo '{"shared": {"s": 2}}' >&$PEXEN_CONTROL""",
            path="reads", requires=["/much", "/odd", "/shares"],
        ),
        Task(lambda reads, shared: (reads, dict(shared)), "after", requires="/reads"),
    ]  # fmt: skip
    results = Sched(tasks, pool=LocalPool(2, callables=callables, capture=True), shared={"default": 0}).wait()
    told = json.loads(results["reads"].output)
    assert told["values"] == {"much": {"n": [1, 2.5, "three", None, True], "t": [1]}}
    assert told["shared"] == {"default": 0, "from python": 1}
    assert "set" in told["omitted"]["odd"]
    assert results["after"].value == (7, {"default": 0, "from python": 1, "s": 2})


class Hostile:
    def __reduce__(self):
        import os

        return os._exit, (3,)


def returns_hostile():
    return [Hostile()]


def test_a_hostile_value_is_not_opened_by_the_runner():
    tasks = [Task(returns_hostile, "h"), pexen.command("cat $PEXEN_VALUES", path="reads", after="/h")]
    assert Sched(tasks, pool=LocalPool(1, callables="process", capture=True)).wait()["h"].status in {"crashed", "error"}
    from pexen.model.result import Pickled
    from pexen.pool.values import content

    attempt = type("A", (), {"values": {"h": Pickled(b"cposix\n_exit\n(I3\ntR.")}, "shared": ()})()
    assert "posix._exit" in json.loads(content(attempt))["omitted"]["h"]


def test_tap_is_turned_into_reports_as_it_comes(commands):
    result = run_one(command("echo 1..3; echo ok 1 - a; echo not ok 2 - b", tap=True), commands)
    assert result.status is Status.FAILED
    assert [(one.name, one.status) for one in result.reports] == [("a", "pass"), ("b", "fail"), ("plan", "fail")]
