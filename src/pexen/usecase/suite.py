"""Suite: factory, `Sched`, journal and reports in one program. `pexen run` is one, and so is a script of a few lines.

`Suite.run` calls the other methods in the order in which they stand here; each is a seam, to be overridden in a subclass.
What is wrong with the tasks or the record becomes a message and an exit code. What a hook raises by mistake is the
program's own bug, and goes through to whoever called `run`.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from pexen.errors import DefinitionError, PexenError
from pexen.factory.collect import asker, collect
from pexen.factory.conditions import gate
from pexen.factory.facts import Facts
from pexen.factory.groups import merged
from pexen.factory.params import Params
from pexen.factory.select import select
from pexen.factory.tree import find_root, place_in
from pexen.model.cpus import usable_cpus
from pexen.model.meta import duration
from pexen.model.result import Results
from pexen.model.task import as_task
from pexen.pool.tree import LINEAGE
from pexen.report.base import Observers, Plan
from pexen.report.console import HEARTBEAT, Console
from pexen.report.text import is_coloured, quoted, shown, visible
from pexen.sched.group import Group
from pexen.sched.sched import NO_REBOOTS, Sched
from pexen.state.seen import is_sane
from pexen.usecase import boot, config
from pexen.usecase.boot import COMMAND
from pexen.usecase.catalogue import Catalogue
from pexen.usecase.codes import GOOD, INTERNAL, INTERRUPTED, NOTHING, RESUMABLE, complain, interrupted, verdict
from pexen.usecase.drive import Driver
from pexen.usecase.past import Past, remember, tell
from pexen.usecase.place import Place, find_run, first_record, is_resumable
from pexen.usecase.pools import DEFAULT, attached_pool, completed, of_tree, pool_of
from pexen.usecase.reports import KINDS, parsed, reporter
from pexen.usecase.screen import Screen, is_live
from pexen.usecase.signals import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pexen.factory.base import AnyFactory
    from pexen.factory.collect import Isolate
    from pexen.factory.groups import Grouping
    from pexen.model.result import Result
    from pexen.model.task import Task
    from pexen.pool.base import Pool
    from pexen.report.base import Reporter
    from pexen.sched.reboot import Reboots, Wish

_LIVE_TICK, _TICK = 0.25, 1.0
_OPTIONS = frozenset(Sched.__init__.__kwdefaults__ or ()) - {"pool", "timeout", "backlog", "journal", "about"}


class Suite:
    """Runs tasks, shows what happens, and leaves a record with both reports from which it can go on.

    The tasks are those of a folder or file, ``tree`` (``"."``), or the given ``tasks``: tasks, functions, or a factory. Of
    these, ``keyword`` and ``tags`` choose as ``-k`` and ``-m`` do, with what the chosen ones require unless ``deps`` is false;
    ``params`` are what ``-D`` gives a tree. The record is kept below ``root``, by default the root of the tree.

    ``jobs`` run at a time (the usable CPUs). ``timeout`` (seconds or ``"5m"``) limits tasks that have none of their own.
    ``inline``: one at a time, in this process and without a limit. ``reports`` are ``"junit:FILE"``, ``"jsonl:FILE"``, or
    anything that is a `pexen.report.base.Reporter`. ``resume`` is the run to take up: ``"latest"``, a name or how it begins,
    or a folder. ``reboot_command`` restarts the machine, where the ``reboots`` of `pexen.Sched` allow that. ``strict``:
    warnings and skipped tasks are failures. ``color`` (``"auto"``), ``verbosity`` (-1 to 2) and ``heartbeat`` (seconds) are
    about what is shown. ``options`` are more of those of `pexen.Sched`.

    `root`, `title`, `notes` (said when the run begins), and whatever was given may be changed before `run`. `folder` is that
    of the record, afterwards.
    """

    isolate: Isolate | None = None
    """Calls a function in a child process; with it, Python files of a tree are not imported in this one."""

    def __init__(  # noqa: PLR0913 - all there is to say about a program, by keyword
        self,
        tree: str | os.PathLike[str] | None = None,
        *,
        tasks: Iterable[Any] | AnyFactory | None = None,
        keyword: str = "",
        tags: str = "",
        deps: bool = True,
        params: Mapping[str, str] | None = None,
        root: str | os.PathLike[str] | None = None,
        jobs: int | None = None,
        timeout: float | str | None = "30m",
        inline: bool = False,
        reports: Sequence[str | Reporter] = (),
        resume: str = "",
        reboot_command: str | Sequence[str] = COMMAND,
        strict: bool = False,
        color: str = "auto",
        verbosity: int = 0,
        heartbeat: float = HEARTBEAT,
        **options: Any,
    ) -> None:
        if tree is not None and tasks is not None:
            raise DefinitionError("a suite is of a tree or of tasks", hint="override tasks() to have both")
        for name in options.keys() - _OPTIONS:
            raise TypeError(f"Suite() got an unexpected keyword argument {name!r}")
        self.given = tasks if tasks is None or callable(tasks) else list(tasks)
        self.tree = os.path.abspath(tree or ".") if tasks is None else ""
        self.keyword, self.tags, self.deps, self.params = keyword, tags, deps, params
        self.start = os.getcwd()
        self.root = os.path.abspath(root or find_root(self.tree or "."))
        typed = shown(self.root, self.start) if self.tree else "."
        self.title = (os.path.basename(self.root) or "/") if typed == "." else typed
        self.jobs, self.inline = jobs, inline
        self.timeout = None if timeout is None or inline else duration("timeout", timeout)
        self.reports = list(reports)
        self.resume = resume
        self.reboot_command = shlex.split(reboot_command) if isinstance(reboot_command, str) else list(reboot_command)
        self.strict = strict
        self.color, self.verbosity, self.heartbeat = color, verbosity, heartbeat
        self.options = options
        self.notes: list[str] = []
        self.folder = ""
        self.screen = Screen()
        self.interrupts = Interrupts()
        self._described: list[Grouping] = []
        self._given_groups: dict[Group, None] = dict.fromkeys(options.get("groups", ()))
        self._sched: Sched | None = None
        self._asked: list[Reporter] = []

    # -- what is run --------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run everything to the end and return the exit code, see `pexen.usecase.codes`.

        From any thread; in the main one Ctrl-C, SIGTERM and SIGHUP stop the run: once, it starts nothing more but clean-ups,
        and asks what runs to stop; twice, what runs is killed; three times, the process ends at once. The handlers that were
        there are put back.
        """
        try:
            with Interrupts() as self.interrupts, nullcontext() if self.options.get("reaper") else _named():
                return self._run()
        except PexenError as error:
            return complain(error)
        except KeyboardInterrupt:
            return interrupted()

    def _run(self) -> int:
        tasks = self._parted(self.tasks())
        if not tasks:
            self.screen.write(f"nothing selected: {visible(self.title)}\n")
            return NOTHING
        way_back, wish = "", None
        place = Place(self.root, find_run(self.resume, self.root) if self.resume else "")
        self.folder = place.folder
        try:
            pool = self.pool()
            options = {"pool": pool, "groups": self.groups(), "journal": self.folder, **self._options(tasks)}
            sched = self._sched = self.sched(tasks, **options)
            observers = Observers(self.reporters())
            place.begin()
            way_back = self._way_back()
            driver = Driver(sched, observers, self.interrupts, self.finished, inline=self.inline)
            notes = [place.note] * bool(place.note) + self.notes
            plan = self.plan(tasks)._replace(jobs=pool.workers, began=self._began())
            driver.drive(plan, notes, _LIVE_TICK if self._is_live else _TICK)
            wish = sched.wish
            tell(remember(self.folder))  # before old records are removed, and not when writing has failed
        finally:
            if way_back and wish is None and not (self.interrupts.count and boot.is_going_down()):
                boot.remove(self.folder)
            place.close()
        for broken in observers.broken:
            self.screen.write(f"note: a report is incomplete: {visible(broken)}\n")
        if wish is not None:
            return self.restart(wish)
        if driver.stopped:
            typed = self.going_on()
            if typed and is_resumable(self.folder):
                self.screen.write(f"to go on: {visible(typed)}\n")
            return INTERRUPTED
        code = verdict(sched.results, strict=self.strict)
        return INTERNAL if code == GOOD and observers.has_lost(self._asked) else code

    def tasks(self) -> list[Any]:
        """Return what to run: of all that was `collected` what is selected, and what that requires."""
        paths = [place_in(self.root, self.tree)] if self.tree else []
        found = self._parted([*self._given_groups, *self.collected()])
        catalogue = Catalogue(self.root, self.params or {}, self.offered) if self.tree else None
        selection = select(
            found, paths=paths, keyword=self.keyword, tags=self.tags, deps=self.deps,
            apart=catalogue.places if catalogue else (), elsewhere=bool(catalogue and catalogue.words),
        )  # fmt: skip
        if catalogue and self.deps:
            selection, choices = catalogue.chosen(selection, found)
            self.notes = [*self.notes, *([f"chosen: {choices}"] if str(choices) else [])]
        return list(selection.tasks)

    def offered(self, source: str) -> list[Any]:
        """Return the tasks of a catalogue that is not a part of the tree, when something is required that only it may have.

        ``source`` is an absolute path; override this for any other.
        """
        root = find_root(source)
        if not os.path.lexists(source):
            raise DefinitionError(
                f"the catalogue {source!r} is no path", hint="override offered(), or choose_providers()"
            )
        found = collect(root, Params(self.params), isolate=self.isolate)
        self._described += [*config.groups(root), *found.groups]
        return list(select(found.tasks, paths=[place_in(root, source)]).tasks)

    def collected(self) -> list[Any]:
        """Return all tasks there are. Raises `DefinitionError` for what is wrong with a tree, with file and line."""
        if self.given is not None:
            return list(self.given() if callable(self.given) else self.given)
        if not os.path.lexists(self.tree):
            raise DefinitionError(f"there is nothing at {self.tree}")
        found = collect(self.root, self.params, isolate=self.isolate)
        self._described += found.groups
        return found.tasks

    def _parted(self, items: Iterable[Any]) -> list[Task]:
        """Return the tasks among what was given, the members of groups included, and remember the groups."""
        tasks = []
        for item in items:
            if isinstance(item, Group):
                self._given_groups[item] = None
                tasks += item.members()
            else:
                tasks.append(as_task(item))
        return tasks

    def pool(self) -> Pool:
        """Return where it is run; output goes to `output`."""
        if self.inline:
            return attached_pool(self.output)
        return pool_of(DEFAULT, self.jobs, None if self._is_ahead else 0, self.output)

    def groups(self) -> list[Group]:
        """Return the groups that tasks may be in, each with its pool: those of the tree, and those that were given."""
        described = merged(config.groups(self.root), self._described).values()
        if self.inline:
            alone: list[Grouping | Group] = [*described, *self._given_groups]
            return [Group(one.name, pool=attached_pool(self.output), ordered=one.ordered) for one in alone]
        made = [of_tree(one, self.jobs, self.output, ahead=self._is_ahead) for one in described]
        return made + [completed(one, self.output, self.jobs) for one in self._given_groups]

    def sched(self, tasks: list[Task], **options: Any) -> Sched:
        """Return the `Sched` of the run; ``options`` are all that is known until here."""
        return Sched(tasks, **options)

    def about(self) -> dict[str, Any]:
        """Return what the record says of the run, JSON-able."""
        machine = os.uname()
        workers = 1 if self.inline else self.jobs or usable_cpus()
        return {
            "root": self.root, "cwd": self.start, "argv": list(sys.argv), "parameters": dict(self.params or {}),
            "host": {"name": machine.nodename, "arch": machine.machine, "workers": workers},
        }  # fmt: skip

    # -- what is told -------------------------------------------------------------------------------------------------

    def reporters(self) -> list[Reporter]:
        """Return who is told what happens: the console, what was asked for, and one of each kind with the record."""
        colour = is_coloured(self.color, os.environ, is_terminal=self.screen.is_terminal)
        console = Console(
            self.screen, colour=colour, live=self._is_live, verbosity=self.verbosity, heartbeat=self.heartbeat
        )
        asked = dict.fromkeys(parsed(one) for one in self.reports if isinstance(one, str))
        self._asked = [reporter(*one, self.folder) for one in asked]
        others = [reporter(kind, "", self.folder) for kind in KINDS if (kind, "") not in asked]
        theirs = [one for one in self.reports if not isinstance(one, str)]
        return [console, *self._asked, *others, *theirs]

    def plan(self, tasks: list[Task]) -> Plan:
        """Return what reporters are told of the run before it begins."""
        bindings = self._running.bindings
        folder = "" if self.inline else shown(self.output, self.start)
        return Plan(
            tasks, self.title, folder=folder, again=lambda _: "", file=lambda file: quoted(shown(file, self.start)),
            requirements=lambda task: bindings(task.name), timeout=self.timeout,
        )  # fmt: skip

    def finished(self, result: Result) -> None:
        """Hear of a result when all reporters have; may `add` tasks or `stop`. Does nothing by itself."""

    # -- restarts of the machine --------------------------------------------------------------------------------------

    def resuming(self) -> list[str]:
        """Return the command that takes up this run after a restart, for a systemd unit; by default there is none."""
        return []

    def going_on(self) -> str:
        """Return what to type for the run to go on after Ctrl-C; by default what `resuming` returns."""
        return boot.as_typed(self.resuming())

    def restart(self, wish: Wish) -> int:
        """Restart the machine for tasks that want that, or say what to do; return the exit code."""
        may = self._reboots.allowed
        self.screen.write("\n".join(map(visible, boot.said(wish, self.folder, self.resuming(), may=may))) + "\n")
        if may and not wish.by_task:
            failed = boot.restart(self.reboot_command)
            if failed:
                self.screen.write(f"  cannot: {visible(failed)}; restart it by hand\n")
        return RESUMABLE

    def _way_back(self) -> str:
        """Install what takes up this run after a restart that it asks for, or that nobody announces; return its file."""
        command = self.resuming()
        if not self._reboots.allowed or not command:
            return ""
        if not boot.is_here():
            self.notes.append(f"no systemd here: after a restart type: {boot.as_typed(command)}")
            return ""
        return boot.install(self.folder, command)

    @property
    def _reboots(self) -> Reboots:
        given: Reboots = self.options.get("reboots", NO_REBOOTS)
        return given

    # -- while it goes on ---------------------------------------------------------------------------------------------

    @property
    def results(self) -> Results:
        """All results so far, those that were taken over from the run before included."""
        return self._sched.results if self._sched else Results({})

    @property
    def output(self) -> str:
        """The folder for what tasks print and attach, in that of the record."""
        return f"{self.folder}/output"

    def add(self, tasks: Iterable[Any]) -> None:
        """Admit more tasks to the run that goes on; from any thread, as `Sched.add`."""
        self._running.add(tasks)

    def stop(self) -> None:
        """Do as Ctrl-C does the first time, and called again as it does the second time. From any thread."""
        self.interrupts.ask()

    def _began(self) -> float:
        """Return when a run that is taken up began, in seconds since the epoch; 0 for one that begins."""
        at = first_record(self.folder).get("at") if self.resume else 0.0
        return float(at) if is_sane(at) else 0.0

    @property
    def _running(self) -> Sched:
        if self._sched is None:
            raise DefinitionError("this suite has not begun to run")
        return self._sched

    @property
    def _is_ahead(self) -> bool:
        """Whether attempts may be sent to busy workers: what has not started when the last allowed failure comes never does."""
        return not self.options.get("maxfail")

    @property
    def _is_live(self) -> bool:
        return not self.inline and is_live(self.screen, os.environ)

    def _options(self, tasks: list[Task]) -> dict[str, Any]:
        given = {key: value for key, value in self.options.items() if key != "groups"}
        options = {"resources": config.resources(self.root), "timeout": self.timeout, "about": self.about(), **given}
        if self.inline:
            options["backlog"] = 1
        if "durations" not in options:
            past = Past(self.root, self.folder if self.resume else "")
            options["durations"] = past.durations(tasks)
            self.notes = [*self.notes, *past.notes]
        if self.isolate is not None:
            options.setdefault("gate", gate(Facts(), asker(self.isolate)))
        return options


@contextmanager
def _named() -> Iterator[None]:
    """Give this process a name that all it starts inherits. Who takes up its run, had it been killed, finds them by that."""
    outer = os.environ.get(LINEAGE)
    if outer is not None and outer.rpartition("/")[2].startswith(f"{os.getpid()}-"):  # by another thread's run
        yield
        return
    os.environ[LINEAGE] = f"{outer}/{_name()}" if outer else _name()
    try:
        yield
    finally:
        if outer is None:
            del os.environ[LINEAGE]
        else:
            os.environ[LINEAGE] = outer


def _name() -> str:
    return f"{os.getpid()}-{time.time_ns():x}"
