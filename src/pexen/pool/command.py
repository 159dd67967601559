"""CommandPool: executables, without a thread or a Python process each.

One thread starts, watches and reaps all of them. It waits on an epoll for the pidfds of what is running and for a bell
(an eventfd) that `submit`, `cancel` and `close` ring from other threads; those only enqueue. Posting an outcome usually
makes the run submit the next attempt on this very thread, which is about to look at its queue: nobody rings then.

**An attempt has ended when its process has exited**, not when its output is closed. Then, in this order: make sure that
it is a zombie and ours (`waitid` without reaping), hear what it has said to the last, end what it has left behind
(`pexen.pool.tree`), send SIGKILL to its process group, whose number nobody else can get before the leader is reaped, then
reap. Only this thread reaps, so only this thread signals groups.

**Has it left anything behind?** Looking takes longer than /bin/true. But numbers of processes are given out in order: as
long as the newest is the one of our own last start, nobody has forked. When it is not, whoever was running may have.

**What we asked for is `CANCELLED`**: an attempt that was sent a signal on request ends so however it went down, except
by exit status 0. SIGTERM is followed by SIGCONT, or a stopped process would never hear of it.

**A service** that is up takes no worker, and its process stays a zombie until it is taken down: `pexen.pool.service`.

**Too few descriptors or processes**: the attempt goes back to the head of the queue until another one has ended, or
until the next look; without another one it is a plain error. The writing end of the output is closed before the pidfd
is opened, so a process that has just been started can be watched even with the last descriptor.

A pidfd is taken out of the epoll before it is closed: a process between vfork and the end of its exec holds a copy of
it, which would keep the closed one reporting.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Literal

from pexen.errors import PoolError
from pexen.model.command import Command
from pexen.model.cpus import workers_of
from pexen.model.event import Broken, Reported, Returned, Up
from pexen.model.ready import understood
from pexen.model.result import Outcome, Report, Status
from pexen.pool import evidence, subreaper, tree
from pexen.pool.base import Survivors, left_by
from pexen.pool.channel import Doors, Ear
from pexen.pool.daemon import Cleaner, Service, Services
from pexen.pool.files import Files
from pexen.pool.readiness import check_of
from pexen.pool.running import Running, verdict
from pexen.pool.spawn import CONTROL, FULL, SCARCE, Environment, spawner
from pexen.pool.spool import CAP, Spool, above_streams
from pexen.pool.values import Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.pool.base import Mailbox
    from pexen.pool.readiness import Check
    from pexen.pool.spawn import Program, Streams

LOOK = 0.5
"""Seconds between two looks at the output of what is running."""
SOON = 0.05
"""The same while something prints more than is kept."""
PATIENCE = 10.0
"""Seconds that a killed process may take to go when the pool is closed; longer means it is stuck in the kernel."""
EYES = 4
"""Looks at the output within the ``idle_timeout`` of a task."""
_SLACK, _KINDS = 50_000, 10_000
"""Nanoseconds: the timer slack of all processes whose parents have not set another one, and how much is added at most."""
TAKEN = "its exit status was taken by other code in this process, or SIGCHLD is ignored"


class CommandPool:
    """Runs tasks that are a `pexen.command`, ``workers`` (default: the usable CPUs) at a time.

    With ``capture``, which naming an ``output`` folder asks for, standard input is empty and what a task prints goes
    to ``<output>/<attempt id>.out``; more than ``cap`` bytes are cut to head and tail. Without it a task has the
    runner's own standard streams. Without ``output`` the files are in a private folder that lives as long as the
    results. Folder and environment are the runner's when the pool is opened.
    """

    executes = True
    """Can run commands; see `pexen.pool.local.LocalPool.around`."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        capture: bool | None = None,
        cap: int = CAP,
    ) -> None:
        self.workers = workers_of(workers)
        self.capacity = self.workers
        self._output = output
        self._capture = output is not None if capture is None else capture
        self._cap = cap
        self._loop: _Loop | None = None

    def open(self, mailbox: Mailbox) -> None:
        """Start the thread. Raises `OSError` when there are no descriptors for it."""
        self._loop = _Loop(mailbox, self.workers, Files(self._output), self._cap if self._capture else None)

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

    def examine(self, attempt: Attempt) -> None:
        """Note what a running attempt is doing, for its ``evidence``."""
        if self._loop is not None:
            self._loop.put_question(attempt)

    def tear_down(self, attempt: Attempt) -> None:
        """Have a service that is up end in good order."""
        if self._loop is not None:
            self._loop.put_farewell(attempt)

    def close(self) -> Survivors:
        """Kill what is running, give back what is queued, wait until all is gone."""
        loop, self._loop = self._loop, None
        return Survivors() if loop is None else loop.close()


class _Loop:
    """One opening of the pool: its thread, and everything that only this thread touches.

    Other threads come in through `put`, `put_request`, `put_question`, `put_farewell` and `close` only.
    """

    def __init__(self, mailbox: Mailbox, workers: int, files: Files, cap: int | None) -> None:
        self._mailbox = mailbox
        self._files = files
        self._spool = None if cap is None else Spool(files, cap)
        self._values = Values(files)
        self._doors = Doors()
        self._services = Services(self)
        self._workers = workers
        self._slots = list(range(workers))
        self._queue: deque[Attempt] = deque()
        self._requests: deque[Callable[[], None]] = deque()
        self._running: dict[int, Running] = {}  # by attempt
        self._does: dict[int, Callable[[], None]] = {}  # by descriptor
        self._events: list[Event] = []
        self._answers: list[tuple[Ear, bytes]] = []
        self._stuck: tuple[Attempt, ...] = ()
        self._is_short = False
        self._next_look = 0.0
        self._closing = False
        self._closed = False
        self._door = threading.Lock()  # for what comes in; never held while something is posted
        self._newest = 0
        # Unlike those of other runs: what they have started is none of our business.
        self._lineage = f"{os.getpid()}-{time.time_ns():x}"
        self._outer = os.environ.get(tree.LINEAGE, "")
        self._slack = _SLACK + random.randrange(1, _KINDS)  # noqa: S311 - no secret
        with ExitStack() as stack:
            self._folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, self._folder)
            self._null = above_streams(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, self._null)
            self._loadavg = above_streams(os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, self._loadavg)
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self._bell)
            self._epoll = stack.enter_context(select.epoll())
            self._listen_to(self._bell, partial(os.eventfd_read, self._bell))
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
        self._put(partial(self._stop, attempt, force=force))

    def put_question(self, attempt: Attempt) -> None:
        """Enqueue a request to look at what an attempt is doing."""
        self._put(partial(self._examine, attempt))

    def put_farewell(self, attempt: Attempt) -> None:
        """Enqueue a request to take a service down; one that has died meanwhile is not there to hear of it."""
        self._put(partial(self._tear_down, attempt))

    def _put(self, what: Callable[[], None]) -> None:
        with self._door:
            if not self._closed:
                self._requests.append(what)
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
        """Tell the run; it may call `put` meanwhile, or even `close`. Then give answers: what they confirm is known."""
        events, self._events = self._events, []
        answers, self._answers = self._answers, []
        if len(events) == 1:
            self._mailbox.post(events[0])
        else:
            self._mailbox.post_all(events)
        for ear, answer in answers:
            ear.answer(answer)

    def _wait(self) -> None:
        """Wait for something to happen and deal with it."""
        timeout = max(0.0, min(self._next_look, self._services.due) - monotonic()) if self._running else -1
        timeout = 0.0 if self._requests else timeout
        for fd, _ in self._epoll.poll(timeout):
            does = self._does.get(fd)
            if does is not None:  # not closed by one of those before
                does()
        while self._requests:
            self._requests.popleft()()
        if self._running:
            now = monotonic()
            if now >= self._services.due:
                self._services.look()
            if now >= self._next_look:
                self._look()
        for ear, answer in () if self._events else self._answers:  # a sign of life is nothing to tell the run of
            ear.answer(answer)
        if not self._events:
            self._answers.clear()

    def _listen_to(self, fd: int, does: Callable[[], object]) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._does[fd] = does  # type: ignore[assignment]

    def _turn_from(self, fd: int) -> None:
        if self._does.pop(fd, None) is not None:  # otherwise somebody has been here before, on the way to a bug of ours
            self._epoll.unregister(fd)

    # -- starting ------------------------------------------------------------------------------------------------------

    def _start_queued(self) -> None:
        while self._queue and self._slots and not self._is_short:
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
        if self._spool is None and (attempt.task.ready or "").startswith("log:"):
            self._events.append(Outcome(attempt, Status.ERROR, reason="ready = log: needs captured output"))
            return
        try:
            running = self._spawn(attempt, command)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in SCARCE and self._is_busy():
                self._is_short = True
            elif isinstance(error, OSError) and error.errno in FULL:  # what is not the task's fault is not its verdict
                told = f"{error.strerror} for what tasks print and keep"
                self._events += [Broken("command", told), Returned(attempt)]
            else:
                self._events.append(Outcome(attempt, Status.ERROR, reason=self._environment.why(error, command)))
        else:
            self._watch(running)

    def _is_busy(self) -> bool:
        """Tell whether something runs that ends by itself, unlike services that are up."""
        return len(self._slots) < self._workers

    def _spawn(self, attempt: Attempt, command: Command) -> Running:
        attempt.files = self._files
        lineage = tree.lineage_below(self._outer, self._lineage, attempt.id)
        slack = (
            self._slack + attempt.id % _KINDS + _KINDS * attempt.task.is_service
        )  # those outlive ten thousand others
        running = Running(attempt, self._slots[-1], self._free_door(attempt), lineage, slack, self._put)
        with ExitStack() as undo:
            undo.callback(self._files.left, attempt.id)
            ours, theirs = socket.socketpair()
            running.ears.append(Ear(ours, running.channel))
            undo.callback(ours.close)
            with theirs:
                told = self._told(running)
                if attempt.task.is_service:
                    running.service = Service(command, told)
                program = self._environment.program(attempt, command, told)
                undo.callback(self._values.forget, attempt.id)
                streams = None
                if self._spool is not None:
                    running.sink = sink = self._spool.begin(attempt.id)
                    undo.callback(self._spool.drop, sink)
                    streams = (self._null, sink.write)
                    attempt.printed = sink.path
                running.pid = self._launch(running, program, streams, theirs)
            undo.pop_all()
        if running.sink is not None:
            running.sink.started()
        attempt.started = monotonic()
        return running

    def _launch(self, running: Running, program: Program, streams: Streams | None, line: socket.socket) -> int:
        """Start a process of an attempt; return its number."""
        self._note_forks()
        subreaper.set_slack(running.slack)  # it and all that it starts inherit it from this thread
        try:
            pid = self._spawner.spawn(program, streams, line.fileno())
        finally:
            subreaper.set_slack(0)  # the default: threads that begin here, and what those start, are not the attempt's
        self._newest += 1
        if pid != self._newest:
            self._note_forks()
            self._newest = pid
        return pid

    def _free_door(self, attempt: Attempt) -> int:
        """Return at which socket to hear an attempt: its worker's; a service, which will leave that, has one for itself."""
        if not attempt.task.is_service:
            return self._slots[-1]
        taken = {one.door for one in self._running.values()}
        return next(number for number in count(self._workers) if number not in taken)

    def _told(self, running: Running) -> dict[str, str]:
        """Return the variables that lead the executable to us, and to what it is given."""
        attempt = running.attempt
        told = {
            tree.LINEAGE: running.lineage,
            "PEXEN_DIR": self._files.lend(attempt.id),
            "PEXEN_VALUES": self._values.file(attempt),
        }
        if self._spawner.gives_control:
            told["PEXEN_CONTROL"] = str(CONTROL)
        is_new = self._doors.at(running.door) is None
        path = self._doors.path(running.door)
        if path:
            told["PEXEN_SOCKET"] = path
        if is_new and (door := self._doors.at(running.door)) is not None:
            self._listen_to(door.fileno(), partial(self._answer_door, running.door))
        return told

    def _note_forks(self) -> None:
        """Note who may have forked since the last start: nobody, if that got the newest number there is."""
        newest = tree.newest(self._loadavg)
        if newest != self._newest:
            self._newest = newest
            for running in self._running.values():
                running.has_forked = True

    def _watch(self, running: Running) -> None:
        try:
            running.pidfd = os.pidfd_open(running.pid)
        except ProcessLookupError:
            self._finish(running, Status.LOST, TAKEN)
            return
        except OSError as error:  # other threads have taken the last descriptor: it must not run unwatched
            running.signal(signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(running.pid, 0)
            self._finish(running, Status.ERROR, f"cannot be watched: {error.strerror}")
            return
        self._next_look = min(self._next_look or LOOK, running.attempt.started + self._interval(running))
        self._running[running.attempt.id] = running
        self._slots.pop()
        self._listen_to(running.pidfd, partial(self._look_after, running))
        self._listen_at(running, running.ears[0])
        if running.service is not None:
            self._services.begin(running, running.service, self._check(running, running.service.command.cwd))

    def _check(self, running: Running, folder: str | None) -> Check | None:
        """Return by what it will be known that a service is up, if that has to be asked."""
        ready = running.attempt.task.ready
        if not ready:
            return None
        return check_of(understood(ready), self._folder, folder or "", running.sink.fd if running.sink else -1)

    # -- hearing -------------------------------------------------------------------------------------------------------

    def _listen_at(self, running: Running, ear: Ear) -> None:
        self._listen_to(ear.sock.fileno(), partial(self._hear, running, ear))

    def _hear(self, running: Running, ear: Ear) -> None:
        """Take in some of what an attempt says."""
        more, answer = ear.listen()
        if answer:
            self._answers.append((ear, answer))
        if not more and ear.has_hung_up:
            self._turn_from(ear.sock.fileno())
            ear.sock.close()
            running.ears.remove(ear)
        self._take_events(running)
        if running.service is not None:
            self._services.heard(running, running.service)

    def _answer_door(self, number: int) -> None:
        """Let in who has come to a socket, if it is in use."""
        running = next((one for one in self._running.values() if one.door == number), None)
        door = self._doors.at(number)
        while door is not None:
            try:
                sock, _ = door.accept()
            except OSError:  # nobody any more, or no descriptor for one
                return
            if running is None:
                sock.close()
                continue
            ear = Ear(sock, running.channel)
            running.ears.append(ear)
            self._listen_at(running, ear)

    def _hear_out(self, running: Running) -> None:
        """Take in all that an attempt has said, and close its lines."""
        self._catch_up(running)
        for ear in running.ears:
            self._turn_from(ear.sock.fileno())

    def _catch_up(self, running: Running) -> None:
        """Take in all that an attempt has said by now."""
        self._answer_door(running.door)
        for ear in running.ears:
            answer = ear.listen_out()
            if answer:
                self._answers.append((ear, answer))
        self._take_events(running)

    def _take_events(self, running: Running) -> None:
        self._events += running.channel.events
        running.channel.events.clear()

    # -- looking -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at what has been printed: there may be too much of it, or none for too long."""
        now, intervals = monotonic(), [LOOK]
        for running in self._running.values():
            sink, spool = running.sink, self._spool
            if sink is None or spool is None:
                continue
            before = sink.size
            intervals += [SOON] if sink.look(spool.cap) else [self._interval(running)]
            if sink.size != before:
                running.attempt.heard = now
            self._read_tap(running)
        self._next_look = now + min(intervals)
        self._is_short = False

    def _interval(self, running: Running) -> float:
        silence = running.attempt.task.idle_timeout
        return LOOK if silence is None else min(LOOK, silence / EYES)

    def _read_tap(self, running: Running, *, to_the_end: bool = False) -> None:
        """Turn what has been printed since the last time into reports, if it is TAP."""
        tap, sink = running.tap, running.sink
        if tap is None:
            return
        reports: list[Report] = []
        while sink is not None and (data := os.pread(sink.fd, 1 << 16, running.tapped)):
            running.tapped += len(data)
            reports += tap.feed(data)
        if to_the_end:
            reports += tap.end() if sink is not None else [Report("tap", "warn", "its output is not captured")]
        self._events += [Reported(running.attempt, report) for report in reports]

    def _examine(self, attempt: Attempt) -> None:
        running = self._running.get(attempt.id)
        if running is None:
            return
        processes = tree.drawn(running.family(self._recent(running)))
        output = "" if running.sink is None else running.sink.tail(evidence.LINES)
        evidence.save(attempt, evidence.gathered(processes=processes, output=output))

    # -- ending --------------------------------------------------------------------------------------------------------

    def _look_after(self, running: Running) -> None:
        """Deal with a process that has exited; see the order in the module's theory."""
        end = self._ending(running.pidfd)
        if end is None:
            self._hear_out(running)
            self._forget(running)
            self._finish(running, Status.LOST, TAKEN)
        elif not end:
            return
        elif running.service is None:
            toll = self._reap(running)
            self._tell(running, *verdict(end, running.asked), toll)
        else:
            self._turn_from(running.pidfd)
            self._services.note_end(running, running.service, end)

    def _ending(self, pidfd: int) -> os.waitid_result | Literal[False] | None:
        """Return how a process has ended, which is a zombie; False while it has not, None when nobody can tell any more."""
        try:
            return os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) or False
        except ChildProcessError:
            return None

    def _reap(self, running: Running) -> tree.Toll:
        """End what an attempt whose process has exited has left behind, and reap it; return who that was."""
        self._hear_out(running)
        toll = self._end_the_rest(running)
        running.signal(signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)
        return toll

    def _tell(self, running: Running, status: Status, reason: str, toll: tree.Toll) -> None:
        self._forget(running)
        self._is_short = False
        killed = toll._replace(killed=running.toll + toll.killed)
        self._finish(running, status, reason, killed=str(killed) if killed.killed else "", freed=not toll.left)

    def _end_the_rest(self, running: Running) -> tree.Toll:
        """Kill what an exited process has left behind; return who that was."""
        self._note_forks()
        if not running.has_forked:
            return tree.Toll()
        see = partial(self._recent, running)
        if not tree.are_left(running.family, see, 0.0 if running.asked else tree.LAST_BREATH):
            return tree.Toll()
        toll = tree.end(running.family, see=see)
        tree.reap(toll.killed)
        return toll

    def _recent(self, running: Running) -> tree.Processes:
        """Return the processes that may belong to an attempt: not the others' leaders, which are often all there is.

        While a service is up, numbers may have been given out all around.
        """
        others = {pid for one in self._running.values() if one is not running for pid in one.pids}
        found = tree.recent(running.pid) if running.service is None else tree.snapshot()
        return {pid: one for pid, one in found.items() if pid not in others}

    def _forget(self, running: Running) -> None:
        del self._running[running.attempt.id]
        if running.slot >= 0:
            self._slots.append(running.slot)
        self._turn_from(running.pidfd)
        os.close(running.pidfd)
        if running.service is not None:
            self._services.forget(running, running.service)
            self._forget_cleaner(running.service)

    def _finish(self, running: Running, status: Status, reason: str, *, killed: str = "", freed: bool = True) -> None:
        attempt, channel = running.attempt, running.channel
        duration = monotonic() - attempt.started
        self._read_tap(running, to_the_end=True)
        for ear in running.ears:
            ear.sock.close()
        self._values.forget(attempt.id)
        output = self._spool.end(running.sink) if self._spool and running.sink else None
        left = left_by(attempt, self._files, killed)
        self._events.append(
            Outcome(
                attempt, status, channel.value, attempt.started, duration, reason=reason, output=output, freed=freed,
                shared=channel.shared or None, left=left,
            )
        )  # fmt: skip

    def _stop(self, attempt: Attempt, *, force: bool) -> None:
        running = self._running.get(attempt.id)
        if running is not None:
            if force:
                self._note_toll(running)
            self._ask(running, force=force)
            return
        with suppress(ValueError):
            self._queue.remove(attempt)
            self._events.append(_unstarted(attempt))

    def _ask(self, running: Running, *, force: bool) -> None:
        running.ask(force=force)
        if running.service is not None:
            self._services.note_request(running, running.service)

    def _note_toll(self, running: Running) -> None:
        """Note who is about to be killed: they go with their group, all at once."""
        known = {one.pid for one in running.toll}
        members = [one for one in running.family(self._recent(running)) if one.is_alive and one.pid not in known]
        running.toll += tuple(tree.Killed(one.pid, one.name, "") for one in members)

    # -- services: what `Services` has done ----------------------------------------------------------------------------

    def bring_up(self, running: Running) -> None:
        """See `Hands`."""
        self._catch_up(running)
        self._slots.append(running.slot)
        running.slot = -1
        self._is_short = False
        channel = running.channel
        self._events.append(Up(running.attempt, channel.value, dict(channel.shared) or None))

    def _tear_down(self, attempt: Attempt) -> None:
        running = self._running.get(attempt.id)
        if running is not None and running.service is not None:
            self._services.tear_down(running, running.service)

    def start_cleaner(self, running: Running, service: Service) -> Cleaner | None:
        """See `Hands`."""
        try:
            cleaner = self._spawn_cleaner(running, service)
        except OSError as error:
            if error.errno in SCARCE and self._is_busy():
                return None
            raise
        self._listen_to(cleaner.pidfd, partial(self._look_after_cleaner, running, cleaner))
        return cleaner

    def _spawn_cleaner(self, running: Running, service: Service) -> Cleaner:
        ours, theirs = socket.socketpair()
        with ExitStack() as undo, theirs:
            undo.callback(ours.close)
            command = self._environment.beside(service.command, running.attempt.task.teardown or "")
            program = self._environment.program(running.attempt, command, service.told)
            streams = None
            if running.sink is not None:
                streams = (self._null, running.sink.again())
                undo.callback(running.sink.started)
            pid = self._launch(running, program, streams, theirs)
            try:
                cleaner = Cleaner(pid, os.pidfd_open(pid))
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            undo.pop_all()
        if running.sink is not None:
            running.sink.started()
        running.ears.append(Ear(ours, running.channel))
        self._listen_at(running, running.ears[-1])
        return cleaner

    def why_not(self, service: Service, error: OSError | ValueError) -> str:
        """See `Hands`."""
        return self._environment.why(error, service.command)

    def _look_after_cleaner(self, running: Running, cleaner: Cleaner) -> None:
        end = self._ending(cleaner.pidfd)
        if end is not False and running.service is not None:
            self._turn_from(cleaner.pidfd)
            self._services.note_end_of_cleaner(running, running.service, end)

    def _forget_cleaner(self, service: Service) -> None:
        cleaner, service.cleaner = service.cleaner, None
        if cleaner is not None:
            self._turn_from(cleaner.pidfd)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(cleaner.pidfd, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, cleaner.pidfd, os.WEXITED | os.WNOHANG)
            os.close(cleaner.pidfd)

    def is_alone(self, running: Running, *, in_group: bool) -> bool:
        """See `Hands`."""
        self._note_forks()
        if not running.has_forked:
            return True
        find = running.group if in_group else running.family
        return not tree.are_left(find, partial(self._recent, running), 0.0)

    def kill(self, running: Running) -> None:
        """See `Hands`."""
        self._note_toll(running)
        running.signal(signal.SIGKILL)

    def conclude(self, running: Running, status: Status, reason: str) -> None:
        """See `Hands`."""
        self._tell(running, status, reason, self._reap(running))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Kill, reap and post everything, then let go of the descriptors."""
        try:
            self._turn_from(self._bell)
            self._kill_all()
            while self._is_anything_left():
                self._post()
        finally:
            with self._door:
                self._closed = True
                self._descriptors.close()
            self._doors.close()
            self._values.close()
            if self._spool:
                self._spool.close()
            self._files.close()

    def _kill_all(self) -> None:
        for running in list(self._running.values()):
            self._ask(running, force=True)
        deadline = monotonic() + PATIENCE
        while self._running and (left := deadline - monotonic()) > 0:
            for fd, _ in self._epoll.poll(left):
                does = self._does.get(fd)
                if does is not None:
                    does()
        self._stuck = tuple(running.attempt for running in self._running.values())
        for running in list(self._running.values()):
            self._hear_out(running)
            self._forget(running)
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
