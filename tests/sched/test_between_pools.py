"""What happens in one pool and lets a task start in another."""

import pytest

from pexen import Sched, Task, TaskFail
from pexen.testing import ScriptedPool, Step, VirtualClock
from pexen.testing.strategies import nothing


@pytest.mark.parametrize("names", [("default", "other"), ("other", "default")])
def test_a_task_that_falls_when_its_turn_comes_lets_one_start_in_a_pool_asked_before(names):
    """It needs a poisoned lock, which is seen only when its pool has a free worker; then the other pool must be asked again."""
    clock = VirtualClock()
    pools = {
        "default": ScriptedPool(
            {"bad": [Step(error=TaskFail(locks_ok=False), seconds=1)], "after": ["fine"]}, clock=clock
        ),
        "other": ScriptedPool({"busy": [Step(seconds=5)]}, clock=clock),
    }
    tasks = [
        Task(nothing, "bad", claims="x"), Task(nothing, "busy", pool="other", estimate=9),
        Task(nothing, "falls", pool="other", claims="x"), Task(nothing, "after", after="/falls"),
    ]  # fmt: skip
    results = Sched(tasks, pools={name: pools[name] for name in names}).wait()
    assert {path: str(one.status) for path, one in results.items()} == {
        "bad": "failed", "busy": "passed", "falls": "skipped", "after": "passed",
    }  # fmt: skip
