"""CommandPool: executables, without a thread or a Python process each.

One thread starts, watches and reaps all of them. It waits on an epoll for the pidfds of what is running and for a bell
(an eventfd) that `submit`, `cancel` and `close` ring from other threads; those only enqueue. Posting an outcome usually
makes the run submit the next attempt on this very thread, which is about to look at its queue: nobody rings then.

**An attempt has ended when its process has exited**, not when its output is closed. Then, in this order: make sure that
it is a zombie and ours (`waitid` without reaping), send SIGKILL to its process group, whose number nobody else can get
before the leader is reaped, then reap. Only this thread reaps, so only this thread signals groups.

**What we asked for is `CANCELLED`**: an attempt that was sent a signal on request ends so however it went down, except
by exit status 0. SIGTERM is followed by SIGCONT, or a stopped process would never hear of it.

**Too few descriptors or processes**: the attempt goes back to the head of the queue until another one has ended, or
until the next look; without another one it is a plain error. The writing end of the output is closed before the pidfd
is opened, so a process that has just been started can be watched even with the last descriptor.

A pidfd is taken out of the epoll before it is closed: a process between vfork and the end of its exec holds a copy of
it, which would keep the closed one reporting.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import deque
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING

from pexen.errors import PoolError
from pexen.model.command import Command
from pexen.model.cpus import usable_cpus
from pexen.model.event import Broken, Returned
from pexen.model.result import Outcome, Status
from pexen.pool.base import Survivors
from pexen.pool.spawn import SCARCE, Environment, spawner
from pexen.pool.spool import CAP, Sink, Spool, above_streams

if TYPE_CHECKING:
    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.pool.base import Mailbox

LOOK = 0.5
"""Seconds between two looks at the output of what is running."""
SOON = 0.05
"""The same while something prints more than is kept."""
PATIENCE = 10.0
"""Seconds that a killed process may take to go when the pool is closed; longer means it is stuck in the kernel."""
SKIP = 77
"""The exit status by which an executable says that it cannot be run here, as in automake."""
TAKEN = "its exit status was taken by other code in this process, or SIGCHLD is ignored"


class CommandPool:
    """Runs tasks that are a `pexen.command`, ``workers`` (default: the usable CPUs) at a time.

    With ``capture``, standard input is empty and what a task prints goes to ``<output>/<attempt id>.out``, or to a
    private folder that lives as long as the results; more than ``cap`` bytes are cut to head and tail. Without it a
    task has the runner's own standard streams. Folder and environment are the runner's when the pool is opened.
    """

    executes = True
    """Can run commands; see `pexen.pool.local.LocalPool.around`."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        capture: bool = True,
        cap: int = CAP,
    ) -> None:
        self.workers = workers or usable_cpus()
        self.capacity = self.workers
        self._output = output
        self._capture = capture
        self._cap = cap
        self._loop: _Loop | None = None

    def open(self, mailbox: Mailbox) -> None:
        """Start the thread. Raises `OSError` when there are no descriptors for it."""
        self._loop = _Loop(mailbox, self.workers, Spool(self._output, self._cap) if self._capture else None)

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt."""
        if self._loop is None:
            raise PoolError("an attempt was given to a pool that is not open")
        self._loop.put(attempt)

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """Take the attempt out if it has not started, else send its process group SIGTERM, with ``force`` SIGKILL."""
        attempt.cancelled = True
        if self._loop is not None:
            self._loop.put_request(attempt, force)

    def close(self) -> Survivors:
        """Kill what is running, give back what is queued, wait until all is gone."""
        loop, self._loop = self._loop, None
        return Survivors() if loop is None else loop.close()


class _Running:
    """One started attempt. ``asked`` is the last signal sent on request."""

    __slots__ = ("asked", "attempt", "pid", "sink")

    def __init__(self, attempt: Attempt, pid: int, sink: Sink | None) -> None:
        self.attempt = attempt
        self.pid = pid
        self.sink = sink
        self.asked = 0

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def ask(self, *, force: bool) -> None:
        """Send the signal that means stop; one that is stopped would not see it without SIGCONT."""
        self.asked = signal.SIGKILL if force else signal.SIGTERM
        self.signal(self.asked)
        if not force:
            self.signal(signal.SIGCONT)


class _Loop:
    """One opening of the pool: its thread, and everything that only this thread touches.

    Other threads come in through `put`, `put_request` and `close` only.
    """

    def __init__(self, mailbox: Mailbox, workers: int, spool: Spool | None) -> None:
        self._mailbox = mailbox
        self._workers = workers
        self._spool = spool
        self._queue: deque[Attempt] = deque()
        self._requests: deque[tuple[Attempt, bool]] = deque()
        self._running: dict[int, _Running] = {}  # by pidfd
        self._events: list[Event] = []
        self._stuck: tuple[Attempt, ...] = ()
        self._is_short = False
        self._next_look = 0.0
        self._closing = False
        self._closed = False
        self._door = threading.Lock()  # for what comes in; never held while something is posted
        with ExitStack() as stack:
            self._folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, self._folder)
            self._null = above_streams(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, self._null)
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self._bell)
            self._epoll = stack.enter_context(select.epoll())
            self._epoll.register(self._bell, select.EPOLLIN)
            self._environment = Environment(self._folder)
            self._spawner = spawner(self._folder)
            stack.callback(self._spawner.close)
            self._thread = threading.Thread(target=self._work, name="pexen-command", daemon=True)
            self._thread.start()
            self._descriptors = stack.pop_all()

    def put(self, attempt: Attempt) -> None:
        """Enqueue an attempt."""
        with self._door:
            if self._closed:
                raise PoolError("an attempt was given to a pool that has been closed")
            self._queue.append(attempt)
            self._ring()

    def put_request(self, attempt: Attempt, force: bool) -> None:
        """Enqueue a request to stop an attempt; one that has ended meanwhile is not there to hear of it."""
        with self._door:
            if not self._closed:
                self._requests.append((attempt, force))
                self._ring()

    def close(self) -> Survivors:
        """End everything; from the thread itself at once, from any other by waiting for it."""
        if threading.current_thread() is self._thread:
            self._closing = True
            self._end()
        else:
            with self._door:
                self._closing = True
                if not self._closed:
                    self._ring()
            self._thread.join()
        return Survivors(self._stuck)

    def _ring(self) -> None:
        """Make the thread look at its queues, unless this is the thread. Needs the door."""
        if threading.get_ident() != self._thread.ident:
            os.eventfd_write(self._bell, 1)

    # -- everything below runs in the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._closing:
                self._start_queued()
                if self._events:
                    self._post()
                else:
                    self._wait()
        except Exception as error:
            self._events.append(Broken("command", f"{type(error).__name__}: {error}"))
        if not self._closed:
            self._end()

    def _post(self) -> None:
        """Tell the run; it may call `put` meanwhile, or even `close`."""
        events, self._events = self._events, []
        if len(events) == 1:
            self._mailbox.post(events[0])
        else:
            self._mailbox.post_all(events)

    def _wait(self) -> None:
        """Wait for something to happen and deal with it."""
        timeout = max(0.0, self._next_look - monotonic()) if self._running else -1
        for fd, _ in self._epoll.poll(timeout):
            if fd == self._bell:
                os.eventfd_read(fd)
            else:
                self._look_after(fd)
        while self._requests:
            self._stop(*self._requests.popleft())
        if self._running and monotonic() >= self._next_look:
            self._look()

    def _start_queued(self) -> None:
        while self._queue and len(self._running) < self._workers and not self._is_short:
            self._start(self._queue[0])
            if not self._is_short:
                self._queue.popleft()  # only now, so that no bug in between can lose it

    def _start(self, attempt: Attempt) -> None:
        """Start an attempt; if others have to end before that, note that we are short of something."""
        if attempt.cancelled:
            self._events.append(_unstarted(attempt))
            return
        command = attempt.task.callable
        if not isinstance(command, Command):
            self._events.append(Outcome(attempt, Status.ERROR, reason="cannot start: not a command"))
            return
        try:
            running = self._spawn(attempt, command)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in SCARCE and self._running:
                self._is_short = True
            else:
                self._events.append(Outcome(attempt, Status.ERROR, reason=self._environment.why(error, command)))
        else:
            self._watch(running)

    def _spawn(self, attempt: Attempt, command: Command) -> _Running:
        program = self._environment.program(attempt, command)
        if self._spool is None:
            pid, sink = self._spawner.spawn(program, None), None
        else:
            sink = self._spool.begin(attempt.id)
            try:
                pid = self._spawner.spawn(program, (self._null, sink.write))
            except BaseException:
                self._spool.drop(sink)
                raise
            sink.started()
        attempt.started = monotonic()
        return _Running(attempt, pid, sink)

    def _watch(self, running: _Running) -> None:
        try:
            pidfd = os.pidfd_open(running.pid)
        except ProcessLookupError:
            self._finish(running, Status.LOST, TAKEN)
            return
        except OSError as error:  # other threads have taken the last descriptor: it must not run unwatched
            running.signal(signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(running.pid, 0)
            self._finish(running, Status.ERROR, f"cannot be watched: {error.strerror}")
            return
        if not self._running:
            self._next_look = running.attempt.started + LOOK
        self._running[pidfd] = running
        self._epoll.register(pidfd, select.EPOLLIN)

    def _look_after(self, pidfd: int) -> None:
        """Deal with a process that has exited; see the order in the module's theory."""
        running = self._running[pidfd]
        try:
            end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            status, reason = Status.LOST, TAKEN
        else:
            if end is None:
                return
            running.signal(signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            status, reason = _verdict(end, running.asked)
        self._forget(pidfd)
        self._is_short = False
        self._finish(running, status, reason)

    def _forget(self, pidfd: int) -> None:
        del self._running[pidfd]
        self._epoll.unregister(pidfd)
        os.close(pidfd)

    def _finish(self, running: _Running, status: Status, reason: str, *, freed: bool = True) -> None:
        attempt = running.attempt
        duration = monotonic() - attempt.started
        output = self._spool.end(running.sink) if self._spool and running.sink else None
        self._events.append(
            Outcome(attempt, status, None, attempt.started, duration, reason=reason, output=output, freed=freed)
        )

    def _stop(self, attempt: Attempt, force: bool) -> None:
        for running in self._running.values():
            if running.attempt is attempt:
                running.ask(force=force)
                return
        with suppress(ValueError):
            self._queue.remove(attempt)
            self._events.append(_unstarted(attempt))

    def _look(self) -> None:
        spool = self._spool
        sinks = [running.sink for running in self._running.values() if running.sink]
        is_busy = spool is not None and sum(spool.look(sink) for sink in sinks) > 0
        self._next_look = monotonic() + (SOON if is_busy else LOOK)
        self._is_short = False

    def _end(self) -> None:
        """Kill, reap and post everything, then let go of the descriptors."""
        try:
            self._epoll.unregister(self._bell)
            self._kill_all()
            while self._is_anything_left():
                self._post()
        finally:
            with self._door:
                self._closed = True
                self._descriptors.close()
            if self._spool:
                self._spool.close()

    def _kill_all(self) -> None:
        for running in self._running.values():
            running.ask(force=True)
        deadline = monotonic() + PATIENCE
        while self._running and (left := deadline - monotonic()) > 0:
            for pidfd, _ in self._epoll.poll(left):
                self._look_after(pidfd)
        self._stuck = tuple(running.attempt for running in self._running.values())
        for pidfd, running in list(self._running.items()):
            self._forget(pidfd)
            self._finish(running, Status.CANCELLED, "killed on request, but it does not go", freed=False)

    def _is_anything_left(self) -> bool:
        """Turn what is queued into events; when there are none, nothing more is taken in."""
        with self._door:
            self._events += [Returned(attempt) for attempt in self._queue]
            self._queue.clear()
            self._closed = not self._events
        return not self._closed


def _unstarted(attempt: Attempt) -> Outcome:
    return Outcome(attempt, Status.CANCELLED, reason="not started")


def _verdict(end: os.waitid_result, asked: int) -> tuple[Status, str]:
    """Return status and reason for an end: exit status 0 counts, what came after a request is the request's."""
    exited, number = end.si_code == os.CLD_EXITED, end.si_status
    if exited and number == 0:
        return Status.PASSED, ""
    said = f"exit code {number}" if exited else f"killed by signal {number} ({_name(number)})"
    if asked:
        how = "killed on request" if asked == signal.SIGKILL else "terminated on request"
        return Status.CANCELLED, how if not exited and number == asked else f"{how} ({said})"
    if exited:
        return (Status.SKIPPED if number == SKIP else Status.FAILED), said
    return Status.CRASHED, said


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
