"""The suite that ``pexen run`` is: what it was told on the command line, and what one can type to run a task again."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from pexen.cli.guardian import reaper
from pexen.cli.isolate import isolate
from pexen.factory.tree import find_root
from pexen.model.result import BAD
from pexen.sched.reboot import Reboots
from pexen.usecase import boot
from pexen.usecase.suite import Suite

if TYPE_CHECKING:
    from pexen.cli.run import How, Origin
    from pexen.cli.selection import Chosen
    from pexen.model.result import Result
    from pexen.model.task import Task
    from pexen.report.base import Plan
    from pexen.sched.sched import Sched


class CommandLine(Suite):
    """Runs the selected tasks."""

    isolate = staticmethod(isolate)

    def __init__(self, chosen: Chosen, how: How, origin: Origin) -> None:
        super().__init__(
            tasks=chosen.tasks, root=chosen.root, jobs=how.jobs or None, timeout=how.timeout or None, inline=how.inline,
            reports=[f"{kind}:{file}" if file else kind for kind, file in how.reports], resume=origin.folder, strict=how.strict,
            color=how.color, verbosity=how.verbose - how.quiet, heartbeat=how.heartbeat, maxfail=how.failures,
            deadline=how.deadline or None, retry_last=how.retry_last, reaper=reaper(),
            durations=origin.past.durations(chosen.tasks), reboot_command=how.reboot_command,
            reboots=Reboots(allowed=how.reboot, per_task=how.max_reboots, crashes=how.max_crashes),
        )  # fmt: skip
        self.title, self.start = chosen.title, chosen.start
        providers = str(chosen.choices or "")
        self.notes = [
            *([how.hint] if how.hint else []),
            *origin.past.notes,
            *([f"chosen: {providers}"] if providers else []),
            *_told_idle(chosen),
        ]
        self._described = list(chosen.groups.values())
        self._chosen, self._how, self._origin = chosen, how, origin

    def tasks(self) -> list[Any]:
        """Return what was selected before: ``--co`` and ``--dry-run`` need it as well."""
        return self._chosen.tasks

    def sched(self, tasks: list[Task], **options: Any) -> Sched:
        """Return the `Sched`. What has been made so far lasts as long as it: the collector need not look at that again."""
        made = super().sched(tasks, **options)
        gc.freeze()
        gc.enable()
        return made

    def about(self) -> dict[str, Any]:
        """Return what the record says of the run, by which ``pexen resume`` takes it up."""
        words = ["pexen", "run", *self._origin.words]
        return {**super().about(), "argv": words, "parameters": dict(self._chosen.params.given)}

    def resuming(self) -> list[str]:
        """Return the command that takes up this run after a restart."""
        return boot.resuming(self.folder, reboot=self._how.reboot)

    def going_on(self) -> str:
        """Return what to type for the run to go on: without its name, as it is the last one."""
        typed = boot.as_typed(self.resuming())
        return typed.removesuffix(self.folder).strip() if find_root(self.start) == self.root else typed

    def plan(self, tasks: list[Task]) -> Plan:
        """Return what reporters are told."""
        known = {task.name for task in tasks}  # who has added the others is not known here

        def again(path: str) -> str:
            return self._chosen.again(path) if path in known else ""

        return super().plan(tasks)._replace(again=again, requirements=self._requirements)

    def finished(self, result: Result) -> None:
        """Debug what has failed, if that is wanted."""
        error = result.error.exception if self._how.debug and result.status in BAD and result.error else None
        if error is not None and error.__traceback__ is not None and not self.interrupts.count:
            import pdb  # noqa: T100 - it is what was asked for

            with self.interrupts.suspended():
                try:
                    pdb.post_mortem(error.__traceback__)
                except KeyboardInterrupt:
                    self.interrupts.count += 1

    def _requirements(self, task: Task) -> list[tuple[str, list[str]]]:
        """Return each requirement of a task in words, with the paths it is bound to."""
        from pexen.cli.list import worded  # only asked for with -vv

        requires = self._chosen.written.get(task.name, task).requires
        bound = self._running.bindings(task.name)
        return [(worded(item), paths) for item, (_, paths) in zip(requires, bound, strict=True)]


def _told_idle(chosen: Chosen) -> list[str]:
    """Return what to say when nothing was chosen but what runs for others."""
    tasks = chosen.tasks
    if not tasks or not all(task.is_service or task.lazy for task in tasks):
        return []
    return [f"{tasks[0].name} is started for others only, as by: {chosen.again(tasks[0].name)}"]
