"""What a task's own code sees of its attempt: ``pexen.current()``, the same verbs in every pool."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pexen.errors import DefinitionError, Leaving, PexenError, nearest
from pexen.model.meta import EMPTY
from pexen.model.result import LEVELS, Report, merge_shared
from pexen.model.running import CURRENT as CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pexen.model.added import Additions
    from pexen.model.task import Task

NOT_ALLOWED = "this run may not restart the machine"
"""The answer to a task that wants to do that itself: it is to end, and the run with it."""
ENDING = "the machine is not restarted: the run is ending"
"""The answer to a task that is to end, and to be entered again by whoever takes up the run."""
OVER = "the run is over"
"""The answer to who asks a run for something that is not there any more."""
NOT_IN_FLIGHT = "the attempt has ended"
"""The answer to an attempt that asks for something when its outcome is known."""
UNWRITABLE = "the journal cannot be written"
"""The answer to who waits for a record that will never be."""


class Line(Protocol):
    """How what a task says gets to the run: directly, or from a worker process. From any thread."""

    def say_report(self, report: Report) -> None:
        """Deliver a report."""

    def say_limit(self, what: str, seconds: float) -> None:
        """Deliver a change of the timeout."""

    def say_heartbeat(self) -> None:
        """Deliver a sign of life."""

    def say_reboot(self, by: str, within: float, shared: Mapping[str, Any] | None) -> str:
        """Deliver the wish for a restart; return when it may happen, or why it may not."""

    def say_add(self, tasks: list[Task]) -> str:
        """Deliver tasks that are to be added; return nothing when they are, or why they are not."""

    def keep_file(self, file: str, name: str) -> str:
        """Copy a file to the attempt's folder; return the copy."""

    def make_dir(self) -> str:
        """Return the attempt's folder, which is there now."""

    def is_cancelled(self) -> bool:
        """Tell whether the attempt was asked to stop."""


class Limit:
    """The attempt's own time limit, as its code may change it."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def set(self, span: float | str) -> None:
        """Allow so much time from now on, whatever the limit was: seconds, or ``"5m"``."""
        self._change("set", span)

    def add(self, span: float | str) -> None:
        """Allow so much more time; negative seconds take some away. Without a limit nothing happens."""
        self._change("add", span)

    def pause(self) -> None:
        """Stop counting until `resume`; may be nested, and a limit that is set in between holds in between."""
        self._line.say_limit("pause", 0.0)

    def resume(self) -> None:
        """Go on counting where the last `pause` stopped."""
        self._line.say_limit("resume", 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def _change(self, what: str, span: float | str) -> None:
        from pexen.model.control import limited

        try:
            self._line.say_limit(*limited(what, span))
        except ValueError as error:
            raise DefinitionError(str(error)) from None


class Context:
    """The running attempt, for the code of its task.

    ``path`` of the task, ``attempt`` (from 1), ``reboots`` (how often the machine was restarted for it), ``units``
    (resource name to the units given to the task), ``timeout`` (a `Limit`), ``folder`` (where its executable runs). May be
    used from any thread of the task; what is said after the attempt has ended is dropped.
    """

    def __init__(
        self,
        line: Line,
        *,
        path: str,
        attempt: int = 1,
        reboots: int = 0,
        units: Mapping[str, tuple[str, ...]] = EMPTY,
        layers: Sequence[Any] = (),
        folder: str | None = None,
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.reboots = reboots
        self.units = units
        self.timeout = Limit(line)
        self._line = line
        self._layers = layers
        self._folder = folder
        self._shared: dict[str, Any] | None = None
        self._additions: Additions | None = None

    def context(self) -> Context:
        """Return self, as an attempt returns its context."""
        return self

    @property
    def shared(self) -> dict[str, Any]:
        """The task's own shared dict; what is written to it goes to the task's dependants."""
        if self._shared is None:
            self._shared = merge_shared(self._layers)
        return self._shared

    @property
    def written(self) -> dict[str, Any] | None:
        """The shared dict if anybody has asked for it, else None."""
        return self._shared

    @property
    def cancelled(self) -> bool:
        """Whether the task has been asked to stop."""
        return self._line.is_cancelled()

    @property
    def dir(self) -> str:
        """A folder of this attempt alone, for whatever is worth keeping. It is made when somebody asks."""
        return self._line.make_dir()

    @property
    def folder(self) -> str:
        """The folder the executable runs in; for anything else the working folder."""
        return self._folder or os.getcwd()

    def report(
        self, name: str, status: str = "pass", message: str = "", *, data: Mapping[str, Any] = EMPTY,
        files: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Give one of many results; it is delivered at once and survives the task's death.

        ``status`` is one of pass, info, warn, fail, error, skip; the worst of them and the task's own end counts.
        """
        if status not in LEVELS:
            raise DefinitionError(
                f"a report's status is one of {', '.join(LEVELS)}, not {status!r}", hint=nearest(str(status), LEVELS)
            )
        self._line.say_report(Report(str(name), status, str(message), dict(data), tuple(map(str, files))))

    def attach(self, file: str | os.PathLike[str], name: str = "") -> str:
        """Keep a copy of a file with what the attempt leaves behind; return where. Raises `OSError`."""
        return self._line.keep_file(os.fspath(file), name)

    def heartbeat(self) -> None:
        """Say that the task is alive, though it prints nothing; see ``idle_timeout``."""
        self._line.say_heartbeat()

    def add(self, *tasks: Any) -> None:
        """Add tasks, decorated functions or other callables to the run: all of them, or with an error none.

        Returns when they are part of the run, and in its journal if it has one. Those without a path get one below that of
        this task. What this task has added before, in another attempt or before the run was taken up again, is known by its
        path, and nothing happens. Raises `DefinitionError` when something is wrong with them, such as a path that
        somebody else has, and `PexenError` when the run takes in no more.
        """
        self._add(tasks)

    def _add(self, tasks: Sequence[Any]) -> list[str]:
        if self._additions is None:
            from pexen.model.added import Additions

            self._additions = Additions(self.path)
        refused, paths = self._additions.add(tasks, self._line.say_add)
        if refused in {OVER, NOT_IN_FLIGHT, UNWRITABLE}:
            raise PexenError(refused)
        if refused:
            raise DefinitionError.read(refused)
        return paths

    def expand(self, value: Any) -> list[str]:
        """Add the tasks that a task with ``expand`` has returned, a list or None; return their paths. As `add` in all else."""
        if value is None:  # it has added what there was by `add`
            return []
        if not isinstance(value, list | tuple):
            raise DefinitionError(f"expand: its value is no list of tasks but {type(value).__name__}")
        return self._add(value)

    def reboot(self, *, by: str = "pexen", within: float | str = "5m") -> None:
        """Have the machine restarted, and this task entered again after that: ``reboots`` higher, ``shared`` as it is now.

        First all others that run are let finish, and the wish is on the disk. Then, with ``by="pexen"``, this attempt ends
        here (by an exception that ``except Exception`` does not catch) and pexen restarts the machine. With ``by="task"``
        this returns, and the task panics, kexecs or powers off by itself ``within`` that time; afterwards it is an error.
        Neither is charged to the task.

        Raises `DefinitionError` for wrong arguments, and for what a journal cannot store in ``shared``; `PexenError`
        when the machine cannot be restarted, since the run has no journal or has done so too often.
        """
        from pexen.model.control import Misunderstood, rebooted

        try:
            who, seconds, _ = rebooted({"by": by, "within": within})
        except Misunderstood as error:
            raise DefinitionError(str(error)) from None
        if self._shared:
            _check_storable(self._shared)
        refused = self._line.say_reboot(who, seconds, self._shared)
        if refused and refused not in {NOT_ALLOWED, ENDING}:
            raise PexenError(refused)
        if refused or who == "pexen":
            raise Leaving("the machine is to be restarted")


def _check_storable(shared: Mapping[str, Any]) -> None:
    """Raise `DefinitionError` for what would not be the same after it has been in a journal."""
    for key, value in shared.items():
        if type(key) is not str or not _is_plain(value):
            raise DefinitionError(
                f"shared[{key!r}] would not survive a restart: it is no plain JSON",
                hint="dicts with strings for keys, lists, strings, numbers",
            )


def _is_plain(value: Any, depth: int = 100) -> bool:
    """Tell whether JSON gives a value back equal and of equal type."""
    kind = type(value)
    if kind is dict:
        return depth > 0 and all(type(key) is str and _is_plain(one, depth - 1) for key, one in value.items())
    if kind is list:
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value)
    return value is None or kind in {bool, int, str} or (kind is float and value - value == 0.0)


def current() -> Context:
    """Return the context of the task this code runs in; raises `PexenError` outside of one."""
    held = CURRENT.get()
    if held is None:
        raise PexenError("pexen.current() is for code that runs inside a task")
    context = held.context()
    if context is not held:
        CURRENT.set(context)
    return context
