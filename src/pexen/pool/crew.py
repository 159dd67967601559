"""Who of a `ProcessPool`'s workers runs what, and what becomes of it when one of them is slow, stuck, dead or not to be had.

One thread, "pexen-process", does everything: it pickles, spawns, writes, reads and posts. `submit` and `cancel` leave a
note and ring a bell if the thread may be asleep: it says so *before* it looks for notes for the last time, and the
note is left *before* the bell is looked at. Posting an outcome usually makes the run submit more, on this very thread,
which is awake, so a stream of tasks rings no bell at all.

**Which worker.** The one with the fewest attempts, and never more than `pexen.pool.ahead` says.

**A service** gets a worker without attempts, and nothing behind it. Once it is up its worker is none of the ``workers`` any
more, so another one may be started; the process ends with it.

**Taking back.** An attempt behind one that takes longer than all before is taken back after `PATIENCE`, without the
worker's cooperation, and goes to whoever is free; so does what was sent to a worker that is still starting when another
one idles.

**Death** is a pidfd that becomes readable. What has already arrived counts; then the attempt that had taken a token has
``crashed``, and those that had not are sent elsewhere, uncharged. The process group is killed before its leader is
reaped, so an attempt whose process has to go, since threads or children were left in it, is freed then. Nobody can prove
that somebody has not written into the eventfd, therefore an attempt that heads the queue of a third dead worker is
charged all the same.

**Starting** is bounded, see `pexen.pool.hiring`; a pool without workers and without hope is broken, and says so.
"""

from __future__ import annotations

import heapq
import select
import signal
import threading
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from pexen.model.call import Kind
from pexen.model.event import AddWanted, Broken, Freed, Limited, RebootWanted, Reported, Returned
from pexen.model.result import Outcome, Output, Status
from pexen.pool import answer, evidence, wire
from pexen.pool.ahead import Ahead, Fixed
from pexen.pool.base import failure_of, left_by
from pexen.pool.bell import Bell
from pexen.pool.hiring import Hiring
from pexen.pool.member import Member
from pexen.pool.ship import CannotShip, Shipper
from pexen.pool.start import STARTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pexen.model.attempt import Attempt
    from pexen.model.event import Event
    from pexen.pool.base import Mailbox
    from pexen.pool.files import Files

PATIENCE = 0.005
"""Seconds an attempt may run before those sent behind it are taken back."""
SUSPICIONS = 2
"""How often an attempt may head the queue of a dead worker without a sign that it had begun."""
GRACE = 1.0
"""Seconds for a worker to end by itself, when it was told to or has closed its socket."""
LOOK, SOON = 0.5, 0.05
"""Seconds between two looks at what is printed; the second one while something prints more than is kept."""
EYES = 4
"""Looks within the ``idle_timeout`` of a task."""
_MOST_READS = 64
"""More than a socket holds."""


class Crew:
    """An open pool: its thread, its workers and what they have to do."""

    def __init__(
        self, workers: int, spare: int | None, start: str, files: Files, cap: int | None, mailbox: Mailbox
    ) -> None:
        self.ahead = Ahead() if spare is None else Fixed(spare, workers)
        self._workers = workers
        self._files = files
        self._output = None if cap is None else files.base
        self._cap = cap or 0
        self._mailbox = mailbox
        self._starter = STARTERS[start]()
        self._shipper = Shipper(files.name, captures=cap is not None)
        self._inbox: deque[Attempt] = deque()
        self._notes: deque[Callable[[], None]] = deque()
        self._queue: deque[Attempt] = deque()
        self._news: list[Event] = []
        self._members: list[Member] = []
        self._suspected: dict[int, int] = {}
        self._hiring = Hiring()
        self._broken = ""
        self._next_look = 0.0
        self._asleep = self._closing = self._ended = False
        self._bell = Bell()
        self._poll = select.epoll()
        self._does: dict[int, Callable[[int], None]] = {}
        self._watch(self._bell.fd, self._bell.hush)
        self._thread = threading.Thread(target=self._work, name="pexen-process", daemon=True)
        self._thread.start()

    # -- called from any thread ---------------------------------------------------------------------------------------

    def submit(self, attempt: Attempt) -> None:
        """Enqueue an attempt."""
        self._inbox.append(attempt)
        if self._asleep:
            self._wake()

    def note(self, what: Callable[[], None]) -> None:
        """Have the pool's thread do something."""
        self._notes.append(what)
        if self._asleep:
            self._wake()

    def close(self) -> None:
        """End everything; from the pool's own thread at once, from others by waiting for it."""
        if threading.get_ident() == self._thread.ident:
            self._end()
        else:
            self.note(self._end)
            self._thread.join()

    def _wake(self) -> None:
        self._asleep = False
        self._bell.ring()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._ended:
            try:
                self._settle()
                if not self._ended:
                    self._wait(self._pause())
            except Exception as error:  # a bug of ours: it must end the run, not hang it
                self._give_up(error)
        self._poll.close()
        self._does.clear()  # bound methods: with them gone, the pool is freed with its last reference

    def _settle(self) -> None:
        """Do everything that can be done without waiting."""
        busy = True
        while busy:
            while self._notes:
                self._notes.popleft()()
            if not self._ended:
                self._dispatch()
            busy = bool(self._news)
            if busy:
                self._post()

    def _post(self) -> None:
        news, self._news = self._news, []
        self._mailbox.post_all(news)

    def _wait(self, timeout: float | None) -> None:
        """Sleep until something happens or the time is over, and note what has happened."""
        self._asleep = True
        events = self._poll.poll(0 if self._inbox or self._notes else timeout)
        self._asleep = False
        for fd, event in events:
            does = self._does.get(fd)
            if does is not None:  # not closed by one of the events before
                does(event)
        self._look_at_clocks()

    def _pause(self) -> float | None:
        """Return how long nothing needs to be done, if nothing happens; None is for ever."""
        now = monotonic()
        times = [member.since + PATIENCE for member in self._members if member.is_ahead]
        times += [member.going + GRACE for member in self._members if member.going]
        if self._is_short_handed():
            times.append(self._hiring.next_try)
        if self._output and any(member.outstanding for member in self._members):
            times.append(self._next_look)
        return max(0.0, min(times) - now) if times else None

    def _look_at_clocks(self) -> None:
        now = monotonic()
        for member in self._members:
            if member.is_ahead and now >= member.since + PATIENCE:
                member.since = now
                self._take_back(member, 1)
            elif member.going and now >= member.going + GRACE:
                member.kill(Status.CRASHED, "it closed its connection to the pool")
        if self._output and now >= self._next_look:
            self._look_at_output(now)

    def _look_at_output(self, now: float) -> None:
        """Look at what has been printed: there may be too much of it, or none for too long."""
        intervals = [LOOK]
        for member in self._members:
            attempt = member.outstanding[0] if member.outstanding else None
            if attempt is None or not attempt.started:
                continue
            silence = attempt.task.idle_timeout
            intervals += [] if silence is None else [silence / EYES]
            eye = member.eye_on(attempt.printed)
            if eye is not None:
                before = eye.size
                intervals += [SOON] if eye.look(self._cap) else []
                if eye.size != before:
                    attempt.heard = now
        self._next_look = now + min(intervals)

    def _watch(self, fd: int, does: Callable[[int], None]) -> None:
        self._poll.register(fd, select.EPOLLIN)
        self._does[fd] = does

    def _forget(self, fd: int) -> None:
        if self._does.pop(fd, None):
            self._poll.unregister(fd)

    def _give_up(self, error: Exception) -> None:
        if self._broken:
            raise error
        self._broken = f"a bug in pexen: {failure_of(error)}"
        self._news.append(Broken("process", self._broken))
        for member in self._members:
            member.kill(Status.ERROR, self._broken)

    # -- handing out --------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Start workers and hand out attempts as far as there are any."""
        self._take_in()
        if self._broken:
            self._refuse()
        elif self._is_short_handed() and monotonic() >= self._hiring.next_try:
            self._hire()
        self._take_from_slow_starters()
        if self._queue:
            self._hand_out()

    def _take_in(self) -> None:
        while self._inbox:
            self._queue.append(self._inbox.popleft())

    def _hand_out(self) -> None:
        """Give each attempt to the worker with the fewest; among equals to one that is ready."""
        queue = self._queue
        limit = 1 if self._is_short_handed() else 1 + self.ahead.count
        loads = [
            (len(member.outstanding), not member.ready, number, member)
            for number, member in enumerate(self._members)
            if member.is_open and len(member.outstanding) < limit
        ]
        heapq.heapify(loads)
        given = set()
        while queue and loads:
            load, starting, number, member = loads[0]
            is_service = queue[0].call.kind is Kind.GENERATOR
            if is_service and load:
                break
            given.add(member)
            load += self._give(member, queue.popleft())
            if load < limit and not is_service:
                heapq.heapreplace(loads, (load, starting, number, member))
            else:
                heapq.heappop(loads)
        for member in given:
            self._flush(member)

    def _is_short_handed(self) -> bool:
        """Tell whether there is work for one more worker."""
        if self._broken:
            return False
        staying = [member for member in self._members if not (member.leaving or member.verdict or member.is_up)]
        wanted = len(self._queue) + sum(len(member.outstanding) for member in staying)
        return len(staying) < min(self._workers, wanted)

    def _give(self, member: Member, attempt: Attempt) -> int:
        """Return how many attempts the worker has more: 0 when this one cannot be sent."""
        try:
            frames = self._shipper.frames(attempt, member)
        except Exception as error:
            problem = error if isinstance(error, CannotShip) else CannotShip("the attempt", error)
            self._news.append(Outcome(attempt, Status.ERROR, failure=problem.failure()))
            return 0
        if self._output:
            attempt.printed = answer.output_file(self._output, attempt.id)
        member.give(attempt, frames)
        return 1

    def _flush(self, member: Member) -> None:
        """Send what the socket takes, the rest when it takes more."""
        more = member.flush()
        if more != member.is_waiting and member.sock.fileno() in self._does:
            member.is_waiting = more
            self._poll.modify(member.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if more else 0))

    def _take_back(self, member: Member, keep: int) -> None:
        """Put what has not begun there, but for the first ``keep``, back to the front of the queue."""
        self._put_back(member.take_back(keep))
        self._flush(member)

    def _put_back(self, attempts: list[Attempt]) -> None:
        self._queue.extendleft(reversed(attempts))

    def _take_from_slow_starters(self) -> None:
        """Let idle workers have what was meant for those that are not up yet."""
        if self._queue or all(member.ready for member in self._members):
            return
        if any(member.ready and member.is_open and not member.outstanding for member in self._members):
            for member in self._members:
                if not member.ready and member.is_open and member.outstanding:
                    self._take_back(member, 0)

    def cancel(self, attempt: Attempt, *, force: bool) -> None:
        """End the attempt if it has not begun; else ask it to end, or end it."""
        self._take_in()
        for member in list(self._members):
            if attempt in member.outstanding:
                # The signal must not meet the next attempt. Nothing begins there from now on; and if the next one has
                # begun already, then the end of this one has been written before.
                self._take_back(member, 0)
                self._read_all(member)
            if attempt in member.outstanding and force:
                if member.asked_where:
                    self._save_evidence(member, attempt)
                member.kill(Status.CANCELLED, "killed on request")
            elif attempt in member.outstanding:
                member.signal(signal.SIGTERM)
        if attempt in self._queue:
            self._queue.remove(attempt)
            self._news.append(Outcome(attempt, Status.CANCELLED, reason="cancelled before it started"))

    def tear_down(self, attempt: Attempt) -> None:
        """Tell the worker of a service."""
        for member in self._members:
            if member.is_up and member.outstanding and member.outstanding[0] is attempt:
                member.tell(wire.frame(wire.TEAR_DOWN, attempt.id))
                self._flush(member)

    def examine(self, attempt: Attempt) -> None:
        """Have a running attempt's worker write down where it is, and note what runs below it."""
        for member in self._members:
            if member.outstanding and member.outstanding[0] is attempt and member.ready:
                member.ask_where()

    def _save_evidence(self, member: Member, attempt: Attempt) -> None:
        """Write down what is known of a running attempt that has to be ended, before it is."""
        attempt.files = self._files
        tail = Output(attempt.printed).tail(evidence.LINES) if attempt.printed else ""
        evidence.save(attempt, evidence.gathered(processes=member.seen, stacks=member.stacks(), output=tail))
        member.asked_where = False

    # -- hearing from workers -----------------------------------------------------------------------------------------

    def _heard(self, member: Member, event: int) -> None:
        if event & select.EPOLLOUT:
            self._flush(member)
        self._read(member)

    def _read_all(self, member: Member) -> None:
        """Take in all that has arrived, within reason: somebody may write faster than we read, and for ever."""
        for _ in range(_MOST_READS):
            if not self._read(member):
                return

    def _read(self, member: Member) -> bool:
        """Take in what has arrived; return whether anything had."""
        frames = member.receive()
        if frames is None:
            return False
        try:
            for kind, number, payload in frames:
                self._understand(member, kind, number, payload)
            damaged = member.reader.damaged
        except ValueError:
            damaged = member.reader.damaged = True
        if damaged:
            member.kill(Status.CRASHED, "protocol damaged: something else was written to the connection of its worker")
        if damaged or member.hung_up:
            self._forget(member.sock.fileno())
            return False
        return True

    def _understand(self, member: Member, kind: int, number: int, payload: wire.Bytes) -> None:
        """Do what one frame says; raises ValueError when it cannot be from a worker of ours."""
        if kind == wire.RESULT:
            self._finished(member, number, payload)
        elif kind == wire.SAY:
            verb, what = answer.said(payload)
            if member.outstanding and member.outstanding[0].id == number:
                self._said(member, member.outstanding[0], verb, what)
        elif kind == wire.UP:
            self._came_up(member, number, payload)
        elif kind == wire.HELLO:
            member.come_up()
            self._hiring.note_success()
        elif kind == wire.LEFT:
            self._left(member, number)
        elif kind == wire.DRAINED:
            member.recalled = False
        else:
            raise ValueError(f"unknown kind {kind}")

    def _came_up(self, member: Member, number: int, payload: wire.Bytes) -> None:
        if not member.has_service or member.is_up or member.outstanding[0].id != number:
            raise ValueError(f"no service {number} is starting here")
        self._news.append(answer.brought_up(member.outstanding[0], payload))
        member.is_up = True

    def _said(self, member: Member, attempt: Attempt, verb: str, what: Any) -> None:
        attempt.heard = monotonic()
        if verb == "report":
            self._news.append(Reported(attempt, what))
        elif verb == "timeout":
            self._news.append(Limited(attempt, *what))
        elif verb == "reboot":
            by, within, shared = what
            answer = partial(self._answer_later, member, attempt.id)
            self._news.append(RebootWanted(attempt, by, within, shared, answer))
        elif verb == "add":
            self._news.append(AddWanted(attempt, what, partial(self._answer_later, member, attempt.id)))

    def _answer_later(self, member: Member, number: int, text: str) -> None:
        """Have an attempt answered. From any thread."""
        self.note(partial(self._answer, member, wire.frame(wire.ANSWER, number, wire.encoded(text))))

    def _answer(self, member: Member, frame: bytes) -> None:
        if member in self._members:
            member.tell(frame)
            self._flush(member)

    def _left(self, member: Member, number: int) -> None:
        """Queue an attempt again that had lost its token without being taken back: somebody else has read it."""
        for attempt in member.outstanding:
            if attempt.id == number:
                member.outstanding.remove(attempt)
                self._queue.appendleft(attempt)
                return

    def _finished(self, member: Member, number: int, payload: wire.Bytes) -> None:
        outstanding = member.outstanding
        if not outstanding or outstanding[0].id != number:
            raise ValueError(f"attempt {number} is not here")
        attempt = outstanding[0]
        outcome, flags = answer.ending(attempt, payload, self._output, self._cap)
        member.leaving = bool(flags & (wire.LEAVING | wire.LEAKING))
        if member.asked_where:
            self._save_evidence(member, attempt)
        killed = ""
        outstanding.popleft()
        if flags & wire.LEAKING:  # what it has left behind goes with the process, before anybody hears of the end
            self._put_back(member.take_back(0))
            member.end_tree()
            killed = str(member.toll) if member.toll.killed else ""
        elif member.leaving:
            outcome.freed = False
            member.unfreed = attempt
        if killed or flags & wire.HAS_DIR or attempt.evidence:
            outcome.left = left_by(attempt, self._files, killed)
        member.last = number
        member.since = outcome.started + outcome.duration
        if outstanding:
            outstanding[0].started = member.since
        self._news.append(outcome)
        if attempt.call.kind is not Kind.GENERATOR:
            self.ahead.note(outcome.duration)

    # -- starting and ending workers ----------------------------------------------------------------------------------

    def _hire(self) -> None:
        try:
            member = Member(self._starter, self._shipper.generation)
            try:
                self._watch(member.sock.fileno(), partial(self._heard, member))
                self._watch(member.process.pidfd, partial(self._died, member))
            except OSError:
                self._forget(member.sock.fileno())
                member.kill(Status.CRASHED, "")
                member.bury()
                raise
        except OSError as error:
            self._did_not_start(f"{error.strerror or error}")
        else:
            self._members.append(member)

    def _did_not_start(self, reason: str) -> None:
        if self._hiring.note_failure(monotonic(), others_work=any(member.ready for member in self._members)):
            self._broken = f"cannot start a worker: {reason}"
            self._news.append(Broken("process", self._broken))
            self._refuse()

    def _refuse(self) -> None:
        """End what is queued in a broken pool."""
        while self._queue:
            self._news.append(Outcome(self._queue.popleft(), Status.ERROR, reason=self._broken))

    def _died(self, member: Member, event: int) -> None:
        """Bury a worker: what had arrived counts, what had begun has crashed, the rest is somebody else's."""
        self._read_all(member)
        waiting = member.take_back(0)
        running = member.outstanding.popleft() if member.outstanding else self._suspect(member, waiting)
        waiting = [*member.outstanding, *waiting]  # whose tokens somebody has read: only the first can have begun
        self._forget(member.sock.fileno())
        self._forget(member.process.pidfd)
        words = "" if member.ready else member.last_words()
        if member.asked_where and running is not None:
            self._save_evidence(member, running)
        told = member.bury()
        self._members.remove(member)
        if running is not None:
            self._news.append(self._ended_with(member, running, told))
        if member.unfreed is not None:
            self._news.append(Freed(member.unfreed))
        answer.output_left(self._output, member.last, self._cap)
        if self._closing:
            self._news += map(Returned, waiting)
            return
        self._put_back(waiting)
        if not member.ready and not member.verdict:
            self._did_not_start(f"it ended before it was ready, {told}" + (f": {words}" if words else ""))

    def _suspect(self, member: Member, waiting: list[Attempt]) -> Attempt | None:
        """Return the attempt to charge for a death though its token is there."""
        if not waiting or not member.ready:
            return None
        seen = self._suspected[waiting[0].id] = self._suspected.get(waiting[0].id, 0) + 1
        if seen <= SUSPICIONS and not member.reader.damaged:
            return None
        return waiting.pop(0)

    def _ended_with(self, member: Member, attempt: Attempt, told: str) -> Outcome:
        status, reason = member.verdict or (Status.CRASHED, told)
        self._suspected.pop(attempt.id, None)
        started = attempt.started or member.since
        output = answer.output_left(self._output, attempt.id, self._cap)
        killed = str(member.toll) if member.toll.killed else ""
        return Outcome(
            attempt, status, None, started, monotonic() - started, reason=reason, output=output,
            left=left_by(attempt, self._files, killed), freed=not member.toll.left,
        )  # fmt: skip

    def _end(self) -> None:
        """Close: end everything, post what became of it, and have the thread return."""
        if self._ended or self._closing:
            return
        self._closing = True
        for member in list(self._members):
            self._news += map(Returned, member.take_back(0))
            self._read_all(member)
            if member.outstanding or not member.ready:
                member.kill(Status.CANCELLED, "the pool was closed")
            else:
                member.hang_up()
        self._wait_for_deaths()
        self._starter.close()
        self._files.close()
        while self._inbox or self._queue or self._news:
            self._take_in()
            self._news += map(Returned, self._queue)
            self._queue.clear()
            self._post()
        self._ended = True

    def _wait_for_deaths(self) -> None:
        deadline = monotonic() + GRACE
        while self._members:
            if monotonic() >= deadline:
                for member in self._members:
                    member.kill(Status.CANCELLED, "the pool was closed")
            self._wait(GRACE)
