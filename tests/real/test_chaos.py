"""Three hundred tasks that do what tasks should not, while somebody kills worker processes: exactly one result each."""

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import pexen
from pexen import LocalPool, Sched, Task, command
from pexen.pool import tree
from tests.real import chaos

COUNT = 300
HIDDEN = "env -i"
"""Who has shed every sign but the timer slack, which takes a privilege to read."""


def processes_with(words: str) -> list[str]:
    """The command lines of all living processes that hold these words."""
    lines = (tree.command_line(one.pid) for one in tree.snapshot().values() if one.is_alive)
    return [line for line in lines if words in line]


def kill_a_worker(drawn: random.Random) -> int:
    """Kill one of our worker processes, if there is any; return how many that were."""
    mine = [one for one in tree.snapshot().values() if one.parent == os.getpid() and one.is_alive]
    workers = [one for one in mine if "pexen.pool.worker" in tree.command_line(one.pid)]
    return int(bool(workers) and tree.kill(drawn.choice(workers).identity, signal.SIGKILL))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1])
def test_chaos(seed, tmp_path):
    drawn = random.Random(seed)
    expected, tasks = {}, []
    sees_all = tree.slack(os.getppid()) > 0  # whose timer slack can be read
    shell = {script: ends for script, ends in chaos.SHELL.items() if sees_all or HIDDEN not in script}
    for number in range(COUNT):
        meta = {"path": f"t{number}", "timeout": 1.0, "grace": 0.2, "retries": drawn.choice([0, 0, 0, 1])}
        if drawn.random() < 0.5:
            function, ends = drawn.choice(list(chaos.PYTHON.items()))
            tasks.append(Task(function, **{**meta, "timeout": 1.0 if "timeout" in ends else 20.0}))
        else:
            script, ends = drawn.choice(list(shell.items()))
            tasks.append(command(script, **{**meta, "timeout": 1.0 if "timeout" in ends else 20.0}))
        expected[meta["path"]] = ends
    pool = LocalPool(8, callables="process", capture=True, output=tmp_path / "out")
    seen, killed = Counter(), 0
    for result in Sched(tasks, pool=pool).run():
        seen[result.path] += 1
        if drawn.random() < 0.15:
            killed += kill_a_worker(drawn)
        allowed = expected[result.path] | ({"crashed"} if isinstance(result.task.callable, type(chaos.fine)) else set())
        assert result.status in allowed, (seed, result, result.reason, result.task.callable, result.output[-500:])
    assert seen == Counter(dict.fromkeys(expected, 1)), seed
    assert killed > 3, seed
    assert processes_with(chaos.LONG) == [], seed
    with suppress(OSError):  # whatever was printed is there, and no more than that
        assert all(file.suffix == ".out" or file.is_dir() for file in Path(pool._output).iterdir())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_chaos_of_services_groups_and_additions(seed, tmp_path):
    """Services and workers are killed all the time; still all that was added has its result, and services have one or more."""
    drawn = random.Random(seed)
    pool = LocalPool(6, callables="process", capture=True, output=tmp_path / "out")
    groups = [pexen.Group("one", pool=LocalPool(4, callables="process")), pexen.Group("two", ordered=True)]
    some = {"timeout": 20.0, "grace": 0.2}
    shell = f"sleep {chaos.LONG} & exec sleep {chaos.LONG}"
    services = [Task(chaos.served, f"s{n}", service=True, restarts=n % 3, **some) for n in range(4)]
    services += [command(shell, f"s{n}", service=True, restarts=n % 3, **some) for n in range(4, 8)]
    services.append(command(f"sleep {chaos.LONG} & exit 0", "pair", teardown="true", **some))
    expected, tasks = {one.path for one in services}, []
    for number in range(90):
        needs = [f"/{drawn.choice(services).path}" for _ in range(drawn.choice([0, 1, 1, 2]))]
        meta = {**some, "requires": needs, "retries": 3, "group": drawn.choice([None, None, "one", "two"])}
        path, kind = f"t{number}", drawn.choice(["fine", "adds", "makes", "command"])
        expected.add(path)
        if kind == "command":
            tasks.append(command("sleep 0.01", path, **meta))
            continue
        tasks.append(Task(getattr(chaos, kind), path, expand=kind == "makes", **meta))
        if kind != "fine":
            last = f"t{number}/last"
            tasks.append(Task(chaos.fine, last, requires=f"/{path}", retries=3, group=meta["group"], **some))
            expected.add(last)
    seen, killed = Counter(), 0
    for result in Sched([*groups, *services, *tasks], pool=pool).run():
        seen[result.path] += 1
        if drawn.random() < 0.2:
            killed += kill_a_worker(drawn)
        assert result.status in {"passed", "warned", "crashed", "skipped", "failed"}, (
            seed,
            result,
            result.reason,
            result.error,
        )
    assert expected <= seen.keys(), (seed, expected - seen.keys())
    assert {path for path, count in seen.items() if count > 1} <= {one.path for one in services}, seed
    made = [path for path in seen if path.count("/") and not path.endswith("last")]
    assert made, seed
    assert killed > 3, seed
    assert processes_with(chaos.LONG) == [], seed
