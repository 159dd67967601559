"""Three hundred tasks that do what tasks should not, while somebody kills worker processes: exactly one result each."""

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

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
