"""The guardian: a small process around ``pexen run`` that outlives it, if only by a moment.

A runner that is killed cannot clean up behind itself, so somebody else must, who takes no risks. Early, before there are
threads, the process forks. The child is the *runner* and goes on; the parent, which has the number that the shell knows,
stays as *guardian*: one loop around ``sigwaitinfo`` with every signal of interest blocked, so there are no handlers, no
races, and nothing to import.

**Its lifeline is being the parent.** SIGCHLD and ``waitid`` tell that the runner has gone, however it went. It is a subreaper
(`pexen.pool.subreaper`), so what has lost its parents comes to it: it reaps that while the runner lives. When the runner
has ended it kills everything below itself until nothing is left, for at most `tree.PATIENCE` seconds, removes the temporary
folders of a runner that was killed, and then ends as the runner did, with its exit code or by its signal.

**The other way round**, who kills the guardian kills the number he has been shown, and means the run: the runner is sent
`ABANDONED` by the kernel and kills everything below itself, and what names this run in its environment. A main thread
that is stuck in C code does so only when it is back.

**Signals.** Both are in the process group that the shell has made, in front or not, so the terminal's signals reach the
runner without help. Those that somebody sends to the guardian's number alone are passed on. A group may have been meant
all the same (``kill %1``, ``timeout``), and Ctrl-C twice is not Ctrl-C once; therefore the runner's signal wakeup
descriptor, to which the interpreter writes each signal at the moment it is delivered, is a pipe to here (which says so
by SIGIO): what has been heard there within `ECHO` is not sent again. A signal that is sent twice before it is delivered
is one, so a slow runner is no problem. Stopping (Ctrl-Z) is left alone: the group is stopped and continued together.
SIGSTOP or SIGTSTP sent to the guardian's number stops only the guardian.

Costs, here: 4 ms more for ``pexen run``, where a bare interpreter takes 14; half of it for fork and exit.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself would import enum before the fork
import fcntl
import os
import time

from pexen.pool import subreaper

TYPE_CHECKING = False  # as in pexen.cli.main
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pexen.pool.tree import Process, Processes

ECHO = 0.1
"""Seconds within which the runner is heard to have got a signal itself."""
ABANDONED = _signal.SIGRTMAX - 3
"""What the runner is sent when the guardian has died."""
LINEAGE = "PEXEN_LINEAGE"
"""As in `pexen.pool.tree`, which is not imported before there is something to kill."""
LEFT = 130
"""The exit code of a runner that was abandoned; nobody is there to see it."""
_PASSED_ON = frozenset({
    _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGCONT
})  # fmt: skip
_HARMLESS = frozenset({_signal.SIGCONT})
"""To be passed on without asking: more of them do nothing more."""
_BLOCKED = {*_PASSED_ON, _signal.SIGCHLD, _signal.SIGIO, _signal.SIGWINCH, _signal.SIGALRM, _signal.SIGPIPE}
_KEYS = frozenset({_signal.SIGINT, _signal.SIGQUIT})
"""What keys of a terminal mean: then the whole group gets it. Its hangup concerns the leader of the session alone."""
_SI_KERNEL = 0x80
"""How signals that nobody has sent are marked, such as a terminal's."""


def guarded(main: Callable[[], int]) -> int:
    """Call ``main`` in a child of this process, and return there; this process exits as the child does.

    Without a guardian where there cannot be one: in a process that has threads, or when it cannot fork.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        return main()
    guardian = os.getpid()
    # One who ignores SIGCHLD hands that down, and is never told how a child of his has ended.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _BLOCKED)
    try:
        echo, voice = os.pipe()
    except OSError:
        return _unguarded(main, before)
    subreaper.become_subreaper()
    outer = os.environ.get(LINEAGE, "")
    lineage = f"{outer}{outer and '/'}{guardian}-{time.time_ns():x}"
    try:
        runner = os.fork()
    except OSError:
        os.close(echo)
        os.close(voice)
        return _unguarded(main, before)
    if runner:
        os.close(voice)
        _Guardian(runner, echo, lineage).stay()
    return _Runner(guardian, echo, voice, lineage).run(main, before)


def _unguarded(main: Callable[[], int], mask: Any) -> int:
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    return main()


def reaper() -> int | None:
    """Return the guardian of this process, which is given its orphans; None when it has none."""
    return _GUARDIANS[-1] if _GUARDIANS and os.getppid() == _GUARDIANS[-1] else None


_GUARDIANS: list[int] = []


class _Runner:
    """The child. It keeps both ends of the pipe, or a signal after the guardian's death would be complained about."""

    def __init__(self, guardian: int, echo: int, voice: int, lineage: str) -> None:
        self._guardian = guardian
        _GUARDIANS.append(guardian)
        self._ends = (echo, voice)
        os.environ[LINEAGE] = self._lineage = lineage

    def run(self, main: Callable[[], int], mask: Any) -> int:
        voice = self._ends[1]
        os.set_blocking(voice, False)
        _signal.set_wakeup_fd(voice, warn_on_full_buffer=False)
        _signal.signal(ABANDONED, self._abandoned)
        if not subreaper.tell_when_parent_ends(ABANDONED, self._guardian):
            self._abandoned()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        try:
            return main()
        finally:
            if _signal.set_wakeup_fd(-1) == voice:  # otherwise somebody has changed it, and may have closed ours
                for end in self._ends:
                    os.close(end)

    def _abandoned(self, *_: object) -> NoReturn:
        """End everything that is below, and what is known to belong, and leave.

        That tasks die of it says nothing about them: the journal, if there is one, is not told any more.
        """
        try:
            import sys

            if (journal := sys.modules.get("pexen.state.journal")) is not None:
                journal.abandon()
            from pexen.pool import files, tree

            below, family = tree.below(os.getpid()), tree.Family(lineage=self._lineage)

            def find(processes: Processes) -> list[Process]:
                return [*below(processes), *family.members(processes)]

            tree.end(find)
            files.remove_left(self._lineage)
        finally:
            os._exit(LEFT)


class _Guardian:
    """The parent."""

    def __init__(self, runner: int, echo: int, lineage: str) -> None:
        self._runner = runner
        self._echo = echo
        self._lineage = lineage
        self._heard: dict[int, float] = {}
        self._end: os.waitid_result | None = None

    def stay(self) -> NoReturn:
        """Wait for the runner's end, end what is left of it, and exit as it did."""
        status = 1
        try:
            self._settle()
            while self._end is None:
                told = _signal.sigwaitinfo(_BLOCKED)
                if told.si_signo == _signal.SIGCHLD:
                    self._reap()
                elif told.si_signo == _signal.SIGIO:
                    self._listen()
                elif told.si_signo in _PASSED_ON and not (told.si_signo in _KEYS and told.si_code == _SI_KERNEL):
                    self._pass_on(told.si_signo)
            self._end_the_rest()
            if self._end.si_code != os.CLD_EXITED:
                self._remove_the_rest()
            status = self._end_alike(self._end)
        finally:
            os._exit(status)

    def _settle(self) -> None:
        """Be told of what is heard; hold none of the runner's streams but standard error, for last words."""
        fcntl.fcntl(self._echo, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._echo, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        self._listen()  # what came before anybody was to be told
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)

    def _reap(self) -> bool:
        """Reap what has ended, and take note if the runner is among it; return whether there are others left."""
        while True:
            try:
                end = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return False
            if end is None:
                return True
            if end.si_pid == self._runner:
                self._end = end

    # -- signals ------------------------------------------------------------------------------------------------------

    def _pass_on(self, number: int) -> None:
        """Send a signal to the runner, unless it gets it from somebody else."""
        if number in _HARMLESS or not self._is_heard(number):
            try:
                os.kill(self._runner, number)  # a child that nobody has reaped: the number is its own
            except OSError:
                return
            self._heard[number] = time.monotonic()

    def _is_heard(self, number: int) -> bool:
        """Tell whether the runner has just been sent this signal, or will be in a moment."""
        now = time.monotonic()
        left = ECHO
        while left > 0:
            self._listen()
            if self._heard.get(number, -ECHO) >= now - ECHO:
                return True
            _signal.sigtimedwait({_signal.SIGIO}, left)  # not SIGCHLD, which is for the main loop
            left = now + ECHO - time.monotonic()
        return False

    def _listen(self) -> None:
        try:
            numbers = os.read(self._echo, 4096)
        except OSError:
            return
        now = time.monotonic()
        self._heard.update((number, now) for number in numbers)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end_the_rest(self) -> None:
        """Kill whatever is still below, and reap it."""
        if not self._reap():
            return
        from pexen.pool import tree

        toll = tree.end(tree.below(os.getpid()))
        self._reap()
        if toll.killed:
            from pexen.report.text import visible
            from pexen.usecase.screen import last_words

            last_words(visible(f"pexen: ended what the run had left: {toll}") + "\n")

    def _remove_the_rest(self) -> None:
        """Remove the temporary folders of a runner that could not do so itself."""
        from pexen.pool import files

        files.remove_left(self._lineage)

    def _end_alike(self, end: os.waitid_result) -> int:
        """Die by the signal that the runner died by, or return its exit code."""
        if end.si_code == os.CLD_EXITED:
            return end.si_status
        if end.si_code == os.CLD_DUMPED:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # or this core file would take the place of the runner's
        number = end.si_status
        if number not in {_signal.SIGKILL, _signal.SIGSTOP}:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        return 128 + number  # PID 1 of a container does not die that way
