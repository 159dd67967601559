"""The worker process: runs attempts one after the other, each as if it were the first.

It is started with next to nothing imported, because that is what starting it costs: 14 ms for a bare interpreter, 60 ms
for what the runner needs. What only some tasks need (pickle, the context, the classification of exceptions) is imported
when the first one needs it, from the same modules that the runner uses.

**Tokens.** The runner sends attempts ahead of time, and must be able to take them back from a worker that is stuck in
the one before. So a worker starts an attempt only after it has taken a token from an eventfd that both share. The
runner adds a token *before* it sends the attempt, therefore a missing token means: taken back. The runner takes back by
reading tokens itself; those left are for the attempts that came first. It then sends `RECALL`, adds no token before the
worker has met that mark and said `DRAINED`, and so no token can be mistaken for an older attempt's.

**One result an attempt, written before the next begins**, and whole frames only, so that whatever happens to the process
afterwards, what it had finished is known. Everything that runs user code (importing the callable, unpickling its
arguments, the call, pickling its value) happens inside the attempt, and whatever it raises is that attempt's error.

The descriptors of the worker itself live above `HIGH`, where a task that closes "all" descriptors seldom looks. A fork of
the task that returns into this module must not speak for the worker: it is ended.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see pexen.pool.tidy
import _thread
import marshal
import os
import sys
from contextvars import Context as Surroundings
from time import monotonic

from pexen.model.running import CURRENT
from pexen.pool import subreaper, wire
from pexen.pool.inbox import Inbox, cut_off
from pexen.pool.tidy import Tidy

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    from pexen.model.context import Context
    from pexen.model.result import Report
    from pexen.model.task import Task
    from pexen.pool.capture import Capture

HIGH = 300
"""Descriptors of the worker start here: above what a task closes that closes "all of them", below the usual limit."""
STACKS = _signal.SIGRTMAX - 5
"""The signal on which a worker writes where all its threads are."""
SLACK, KINDS = 50_000, 10_000
"""The timer slack of a worker is this many nanoseconds and the rest of its process id, see `pexen.pool.tree`."""
_F_SETSIG = 10


class Opaque:
    """A pickled argument on its way to the task, which unpickles it."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[type[Opaque], tuple[bytes]]:
        """Travel as what it is."""
        return Opaque, (self.data,)


class Shared:
    """Stands for the task's shared dict among its arguments."""


class Link:
    """Writes whole frames to the runner, from any thread and from signal handlers."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: list[bytes] = []
        self._lock = _thread.RLock()
        self._busy = False

    def send(self, data: bytes) -> None:
        """Return when the frame is written; from a handler that interrupts a write, leave it to that write."""
        with self._lock:
            if self._busy:
                self._waiting.append(data)
                return
            self._busy = True
            try:
                self._write(data)
            finally:
                self._busy = False
        while self._waiting:
            self.send(self._waiting.pop(0))

    def _write(self, data: bytes) -> None:
        try:
            sent = os.write(self._fd, data)
            if sent < len(data):
                rest = memoryview(data)[sent:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError:  # the runner has gone, or the task has closed what it does not own
            cut_off()


class Held:
    """One attempt, as the worker holds it; what `pexen.current` finds."""

    value: Any = None
    error: BaseException | None = None
    started = 0.0
    over = False
    has_dir = False
    reason = ""
    _context: Context | None = None
    _layers: Sequence[Any] = ()
    _units: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, worker: Worker, id: int, payload: wire.Bytes) -> None:  # noqa: A002 - as in Attempt
        self.worker = worker
        self.id = id
        self._payload = payload
        self._function, self.number, self._reboots, self.makes, length = wire.RUN.unpack_from(payload)
        self._arguments = wire.RUN.size + length

    def execute(self) -> None:
        """Run the task's code; keeps its value or its exception. Called in contextvars of its own."""
        CURRENT.set(self)
        self.started = monotonic()
        try:
            function = self.worker.functions.get(self._function)
            if function is None:
                function = self._load()
            if len(self._payload) > self._arguments:
                args, kwargs = self._unpack()
                self.value = function(*args, **kwargs)
            else:
                self.value = function()
            if self.makes:
                self._go_on()
        except BaseException as error:
            self.error = error

    def _go_on(self) -> None:
        """Run what the call has only made: a coroutine, or the generator of a service; or add the tasks that it has made."""
        made, self.value = self.value, None
        if self.makes & wire.GENERATOR:
            from pexen.pool.service import drive
            from pexen.pool.stand import Stand

            drive(made, Stand(self))
            return
        if self.makes & wire.COROUTINE:
            import asyncio

            made = asyncio.run(made)
        self.value = self.context().expand(made) if self.makes & wire.EXPANDS else made

    def _load(self) -> Callable[..., Any]:
        self.reason = "the worker could not load the callable"
        function = self.worker.load(self._function)
        self.reason = ""
        return function

    def _unpack(self) -> tuple[list[Any], dict[str, Any]]:
        self.reason = "the worker could not unpickle an argument"
        args, kwargs, self._layers, self._units = wire.loads(memoryview(self._payload)[self._arguments :])
        filled = [self._argument(value) for value in args], {word: self._argument(kwargs[word]) for word in kwargs}
        self.reason = ""
        return filled

    def _argument(self, value: Any) -> Any:
        """Return what the parameter gets."""
        if value is Shared:
            return self.context().shared
        if type(value) is Opaque:
            return wire.loads(value.data)
        if type(value) is list and any(type(item) is Opaque for item in value):
            return [wire.loads(item.data) if type(item) is Opaque else item for item in value]
        return value

    def context(self) -> Context:
        """Return the attempt's context, made for whoever asks first."""
        if self._context is None:
            import pexen.pool.reporting  # noqa: F401 - now, for a signal handler that reports may interrupt an import
            from pexen.model.context import Context

            layers = [wire.loads(layer.data) if type(layer) is Opaque else layer for layer in self._layers]
            path = wire.decoded(self._payload[wire.RUN.size : self._arguments])
            self._context = Context(
                self, path=path, attempt=self.number, reboots=self._reboots, units=self._units, layers=layers
            )
        return self._context

    @property
    def written(self) -> dict[str, Any] | None:
        """The task's shared dict if it has asked for it."""
        return self._context.written if self._context else None

    @property
    def is_plain(self) -> bool:
        """Whether it has returned None and done nothing else that the runner must know."""
        return self.value is None and self.error is None and self._context is None

    # -- the line of its context, see `pexen.model.context.Line` ------------------------------------------------------

    def say_report(self, report: Report) -> None:
        """Deliver a report."""
        from pexen.pool.reporting import reported

        self._say(reported(report))

    def say_limit(self, what: str, seconds: float) -> None:
        """Deliver a change of the timeout."""
        from pexen.pool.reporting import said

        self._say(said("timeout", what if what in {"pause", "resume"} else {what: seconds}))

    def say_heartbeat(self) -> None:
        """Deliver a sign of life."""
        self._say(b'{"heartbeat": true}')

    def say_reboot(self, by: str, within: float, shared: Mapping[str, Any] | None) -> str:
        """Deliver the wish for a restart; return when it may happen, or why it may not."""
        from pexen.pool.reporting import said

        what = {"by": by, "within": within}
        return self._answered(said("reboot", what if shared is None else {**what, "shared": shared}))

    def say_add(self, tasks: list[Task]) -> str:
        """Deliver tasks that are to be added; return nothing when they are, or why they are not."""
        from pexen.model.added import encoded
        from pexen.pool.reporting import said

        return self._answered(said("encoded", encoded(tasks)))

    def _answered(self, data: bytes) -> str:
        with self.worker.asking:  # one at a time: what is answered comes on the one socket
            self._say(data)
            return "the attempt has ended" if self.over else self.worker.wait_for_answer(self.id)

    def keep_file(self, file: str, name: str) -> str:
        """Copy a file to the attempt's folder; return the copy."""
        from pexen.pool.files import copied

        return copied(file, self.make_dir(), name)

    def make_dir(self) -> str:
        """Return the attempt's folder, which is there now."""
        from pexen.pool.files import made

        self.has_dir = True
        return made(self.worker.base, self.id)

    def is_cancelled(self) -> bool:
        """Tell whether the attempt was asked to stop."""
        return self.worker.cancelled and not self.over

    def _say(self, data: bytes) -> None:
        if os.getpid() != self.worker.pid:
            from pexen.errors import PexenError

            raise PexenError("a fork of a task cannot report", hint="let the task itself report what its child found")
        if not self.over:
            self.send(wire.SAY, data)

    def send(self, kind: int, data: bytes) -> None:
        """Send a frame about the attempt while its own code may be interrupted."""
        # A handler that raises in the middle of a write would cut the frame.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, range(1, 32))
        try:
            self.worker.link.send(wire.frame(kind, self.id, data))
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


class Worker:
    """Serves the runner. The first descriptors from ``high`` are the socket and the eventfd with the tokens."""

    def __init__(self, high: int, homes: dict[int, int]) -> None:
        self.pid = os.getpid()
        self.link = Link(high)
        self.cancelled = False
        self.base = ""
        self._sock = high
        self._gate = high + 1
        self._spare = high + 9
        self._tidy = Tidy(homes, high + 5)
        self._capture: Capture | None = None
        self.inbox = Inbox(high)
        self.asking = _thread.allocate_lock()
        self._recipes: dict[int, tuple[Any, ...]] = {}
        self.functions: dict[int, Callable[..., Any]] = {}
        _signal.signal(_signal.SIGTERM, self._asked_to_stop)
        self._tidy.renew()

    def serve(self) -> None:
        """Carry out what comes, until the runner closes its end."""
        does = {
            wire.ANSWER: self._not_asked, wire.RUN_IT: self._run, wire.FUNCTION: self._learn, wire.RECALL: self._drained,
            wire.SETTINGS: self._settings, wire.FORGET: self._forget, wire.ENCLOSE: self._enclose,
        }  # fmt: skip
        reader, frames, sock = self.inbox.reader, self.inbox.frames, self._sock
        try:
            while data := os.read(sock, reader.wanted):
                frames += reader.feed(data)
                while frames:
                    kind, id_, payload = frames.pop(0)
                    does[kind](id_, payload)
                if reader.damaged:
                    cut_off()
        except OSError:
            cut_off()

    def wait_for_answer(self, id_: int) -> str:
        """Return what the runner answers to attempt ``id_``, which runs. What else it sends is left for later."""
        return wire.decoded(self.inbox.wait_for(wire.ANSWER, id_))

    def _not_asked(self, id_: int, payload: wire.Bytes) -> None:
        """Pass over an answer for which nobody waits any more."""

    def load(self, number: int) -> Callable[..., Any]:
        """Import or unpickle the callable with this number."""
        from pexen.pool.load import FORMS

        form, *recipe = self._recipes[number]
        modules = len(sys.modules)
        function: Callable[..., Any] = FORMS[form](*recipe)
        self.functions[number] = function
        del self._recipes[number]
        if len(sys.modules) > modules:
            self._tidy.renew()
        return function

    def _run(self, id_: int, payload: wire.Bytes) -> None:
        self.cancelled = False  # before the token, behind which a new request may come at once
        try:
            os.eventfd_read(self._gate)
        except BlockingIOError:  # taken back
            self.link.send(wire.frame(wire.LEFT, id_))
            return
        if self._capture:
            self._capture.begin(id_)
        held = Held(self, id_, payload)
        Surroundings().run(held.execute)
        duration = monotonic() - held.started
        flags, parts, stays = (0, b"", True) if held.is_plain else self._describe(held)
        held.over = True
        stays = self._tidy.restore() and stays and held.makes != wire.GENERATOR
        if self._capture:
            parts += self._capture.end()
        if os.getpid() != self.pid:
            os._exit(0)
        leaks = _has_children()
        flags |= (0 if stays else wire.LEAVING) | (wire.LEAKING if leaks else 0) | (wire.HAS_DIR if held.has_dir else 0)
        self.link.send(wire.frame(wire.RESULT, id_, wire.END.pack(flags, held.started, duration), parts))
        held.value = held.error = None  # its traceback refers to this very object
        if leaks:
            self._wait_for_the_end()
        if not stays:
            self.leave()

    def _wait_for_the_end(self) -> NoReturn:
        """Stay the parent of what the task has left until the runner has ended it, and this process with it."""
        while os.read(self._sock, 1 << 16):
            pass
        os._exit(0)

    def _describe(self, held: Held) -> tuple[int, bytes, bool]:
        """Return flags and parts of the result, and whether the process can go on so far."""
        # What is imported to describe an exception must not meet a broken process. Describing runs user code again.
        stays = held.error is None or self._tidy.restore()
        from pexen.pool.describe import described

        return (*described(held), stays)

    def leave(self) -> NoReturn:
        """End the process as far as a process ends that may have threads which do not."""
        if self._capture:
            self._capture.clear()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:  # noqa: S112 - whatever a task has put there
                continue
        os._exit(0)

    def _learn(self, id_: int, payload: wire.Bytes) -> None:
        self._recipes[id_] = marshal.loads(payload)  # noqa: S302 - from the runner

    def _forget(self, id_: int, payload: wire.Bytes) -> None:
        self._recipes.clear()
        self.functions.clear()

    def _enclose(self, id_: int, payload: wire.Bytes) -> None:
        """Move into a cgroup of its own: before the first task, so that whatever tasks start is born there."""
        try:
            with open(wire.decoded(payload) + "/cgroup.procs", "w") as file:
                file.write("0")
        except OSError:  # then it is not exact
            return

    def _drained(self, id_: int, payload: wire.Bytes) -> None:
        self.link.send(wire.frame(wire.DRAINED, 0))

    def _settings(self, id_: int, payload: wire.Bytes) -> None:
        said = marshal.loads(payload)  # noqa: S302 - from the runner
        sys.path[:] = said["path"]
        sys.argv[:] = said["argv"]
        if said["modules"]:
            from pexen.model import modules

            modules.TREE_MODULES.update(said["modules"])
            modules.install()
        self.base = said["base"]
        if said["captures"] and not self._capture:
            from pexen.pool.capture import Capture

            self._capture = Capture(self.base, self._tidy.homes, self._spare)
        self._tidy.limits = said["limits"]
        self._tidy.renew()

    def _asked_to_stop(self, number: int, where: Any) -> None:
        self.cancelled = True


# -- starting ---------------------------------------------------------------------------------------------------------


def main(sock: int, gate: int, stderr: int, lifeline: int) -> NoReturn:
    """Be a worker. The descriptors were inherited; until this works, ``stderr`` waits to become number 2.

    What Python says before the first frame goes to a file that the runner shows when the worker does not come up.
    """
    words = os.dup(2)
    os.dup2(stderr, 2)
    os.close(stderr)
    high = _reserved()
    _tell_where_on_demand(words, high + 6)
    _be_recognised()
    for inherited, number in ((sock, high), (gate, high + 1)):
        os.dup2(inherited, number, inheritable=False)
        os.close(inherited)
    hold_on(lifeline, high + 8)
    homes = {standard: high + 2 + standard for standard in range(3)}
    for standard, home in homes.items():
        os.dup2(standard, home, inheritable=False)
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # what was printed survives a crash
    worker = Worker(high, homes)
    worker.link.send(wire.frame(wire.HELLO, 0))
    try:  # noqa: SIM105 - see pexen.pool.capture
        worker.serve()
    except KeyboardInterrupt:  # somebody's signal, while nothing runs
        pass
    _run_exit_functions()
    worker.leave()


def _tell_where_on_demand(words: int, fd: int) -> None:
    """Have every thread's stack written to ``words``, as ``fd``, when the signal comes: by C code, whatever Python does."""
    import faulthandler

    os.dup2(words, fd, inheritable=False)
    os.close(words)
    faulthandler.register(STACKS, fd, all_threads=True, chain=False)


def _be_recognised() -> None:
    """Make this process, and all that it will start, recognisable, see `pexen.pool.tree`."""
    pid = os.getpid()
    os.environ[wire.LINEAGE] = wire.lineage_of_worker(os.environ.get(wire.LINEAGE, ""), pid)
    subreaper.become_subreaper()
    subreaper.set_slack(SLACK + pid % KINDS)


def _has_children() -> bool:
    """Tell whether there are children that live; reap those that do not."""
    try:
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        return False
    return True


def _run_exit_functions() -> None:
    """Run what the tasks' modules have registered with atexit."""
    import atexit

    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would not
    except BaseException:
        return


def hold_on(lifeline: int, fd: int) -> None:
    """Have the kernel kill this process group when nobody holds the other end of the pipe ``lifeline`` any more.

    Asynchronous notification, with SIGKILL for the signal: the last writer's end is an event for the readers. The owner
    to be told belongs to the open file description, hence one of our own. It takes no thread, works in the middle of C
    code, and is not inherited by the programs that tasks start, only by their being in the group.
    """
    import fcntl

    try:
        own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK)
        os.dup2(own, fd, inheritable=False)
        os.close(own)
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(fd, _F_SETSIG, _signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_RDONLY | os.O_ASYNC)
    except OSError:  # no /proc: an idle worker still notices, by its socket
        pass
    os.close(lifeline)


def _reserved() -> int:
    """Return the first of ten descriptors out of the tasks' reach: `HIGH`, or lower where the limit is."""
    for first in (HIGH, 100, 40):
        try:
            os.dup2(2, first + 9, inheritable=False)
        except OSError:
            continue
        os.close(first + 9)
        return first
    return 20
