"""Groups: tasks that run alone, in a pool of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError
from pexen.model.task import Task, as_task

if TYPE_CHECKING:
    from pexen.pool.base import Pool


class Group:
    """Tasks that run while nothing else does, except for services from outside that they need.

    ``name`` is what tasks say in ``group=`` to be members, besides the ``tasks`` given here. ``pool`` is where they run, opened
    for the group and closed after it (by default threads for callables, and commands); their own ``pool=`` does not count.
    With ``ordered`` they run one by one, in order of definition. Give it to `pexen.Sched` or `pexen.run`, among the tasks or in
    ``groups``. One instance serves one `Sched`.
    """

    __slots__ = ("name", "ordered", "pool", "tasks")

    def __init__(
        self, name: str, tasks: Iterable[Any] = (), *, pool: Pool | None = None, ordered: bool = False
    ) -> None:
        if not name:
            raise DefinitionError("a group needs a name")
        self.name = name
        self.tasks = tuple(tasks)
        self.pool = pool
        self.ordered = ordered

    def members(self) -> list[Task]:
        """Return the ``tasks`` as tasks that say that they are members."""
        members = [as_task(item) for item in self.tasks]
        for task in members:
            task.meta = {**task.meta, "group": self.name}
        return members

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Group {self.name!r}>"
