"""pexen runs any Python callables and any executables in the right order and in parallel.

Names are imported when first used, so that ``import pexen`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take longer than everything else here, in every worker process too
if TYPE_CHECKING:
    from typing import Any

    from pexen.errors import (
        DefinitionError,
        InternalError,
        PexenError,
        PoolError,
        StateError,
        TaskFail,
        TasksFailed,
        TaskSkip,
    )
    from pexen.factory.base import Factory
    from pexen.factory.facts import Facts
    from pexen.factory.filesystem import FilesystemFactory
    from pexen.factory.modtree import ModTreeFactory
    from pexen.factory.module import ModuleFactory
    from pexen.factory.providers import Choice, Choices, choose_providers
    from pexen.factory.tree import TreeFactory
    from pexen.model.context import Context, current
    from pexen.model.meta import all_of, any_of, tree_lock
    from pexen.model.result import Failure, Report, Result, Results, Status
    from pexen.model.task import Task, command, service, task
    from pexen.model.waiver import Waiver, waiver
    from pexen.pool.command import CommandPool
    from pexen.pool.coroutine import AsyncPool
    from pexen.pool.executor import ExecutorPool
    from pexen.pool.inline import InlinePool
    from pexen.pool.local import LocalPool
    from pexen.pool.process import ProcessPool
    from pexen.pool.thread import ThreadPool
    from pexen.sched.checks import core_dumps, kernel_log, leftover_files, leftover_processes
    from pexen.sched.group import Group
    from pexen.sched.post import Stage
    from pexen.sched.run import Run
    from pexen.sched.sched import Sched, Snapshot, run
    from pexen.sched.stream import Stream

__version__ = "0.1.0"

_HOMES = {
    "errors": ("DefinitionError", "InternalError", "PexenError", "PoolError", "StateError", "TaskFail", "TaskSkip",
               "TasksFailed"),
    "factory.base": ("Factory",),
    "factory.facts": ("Facts",),
    "factory.filesystem": ("FilesystemFactory",),
    "factory.modtree": ("ModTreeFactory",),
    "factory.module": ("ModuleFactory",),
    "factory.providers": ("Choice", "Choices", "choose_providers"),
    "factory.tree": ("TreeFactory",),
    "model.context": ("Context", "current"),
    "model.meta": ("all_of", "any_of", "tree_lock"),
    "model.result": ("Failure", "Report", "Result", "Results", "Status"),
    "model.task": ("Task", "command", "service", "task"),
    "model.waiver": ("Waiver", "waiver"),
    "pool.command": ("CommandPool",),
    "pool.coroutine": ("AsyncPool",),
    "pool.executor": ("ExecutorPool",),
    "pool.inline": ("InlinePool",),
    "pool.local": ("LocalPool",),
    "pool.process": ("ProcessPool",),
    "pool.thread": ("ThreadPool",),
    "sched.post": ("Stage",),
    "sched.stream": ("Stream",),
    "sched.checks": ("core_dumps", "kernel_log", "leftover_files", "leftover_processes"),
    "sched.group": ("Group",),
    "sched.run": ("Run",),
    "sched.sched": ("Sched", "Snapshot", "run"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - kept in the order of the table above
    "DefinitionError", "InternalError", "PexenError", "PoolError", "StateError", "TaskFail", "TaskSkip", "TasksFailed",
    "Factory", "Facts", "FilesystemFactory", "ModTreeFactory", "ModuleFactory", "Choice", "Choices", "choose_providers",
    "TreeFactory", "Context", "current", "all_of", "any_of", "tree_lock",
    "Failure", "Report", "Result", "Results", "Status", "Task", "command", "service", "task", "Waiver", "waiver",
    "CommandPool", "AsyncPool", "ExecutorPool", "InlinePool", "LocalPool", "ProcessPool", "ThreadPool", "Stage", "Stream",
    "core_dumps", "kernel_log", "leftover_files", "leftover_processes", "Group", "Run", "Sched", "Snapshot", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from the module it lives in."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'pexen' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"pexen.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
