"""What a task changed in its worker process, put back before the next one starts; or the verdict that it cannot be.

Done after every task, so it must cost less than the task's own overhead: 6 µs in all. Three means, cheapest first:

- *Put back without looking*: umask, folder and standard descriptors are one system call each to set, no more than it
  would take to look.
- *Look and put back*: ``sys.path``, standard streams, tracing; signals, locale and resource limits only once somebody
  has imported the module through which they are changed.
- *Be told*: `os.putenv` and `os.unsetenv`, through which `os.environ` goes too, are replaced by functions that note the
  name. So only what was touched is restored, and code that bypasses `os.environ` is noticed as well. In the same way
  one notices calls that nobody can undo, such as `os.setuid`.

Then, and when a task has left threads behind, the process has to go. What C code changes without Python's
knowledge is not seen. What the *import* of a task's module changes stays: in the runner it has stayed as well.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself would import enum, and with it half as much again
import _thread
import os
import posix
import sys
import time

TYPE_CHECKING = False  # see pexen.pool.wire
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_SIGNALS = [number for number in range(1, _signal.NSIG) if number not in {_signal.SIGKILL, _signal.SIGSTOP, 32, 33}]
_LC_ALL = 6
_ABSENT = object()
_FINAL = (
    "chroot", "nice", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "setegid", "seteuid", "setgid", "setgroups",
    "setns", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setuid", "unshare",
)  # fmt: skip
"""Functions of `os` after which the process is no place for another task."""


class Tidy:
    """Knows how the process was and makes it so again. ``homes`` are descriptors out of the tasks' reach.

    ``homes`` maps each standard descriptor to the one it is a copy of, and ``folder`` holds a number for the folder's.
    ``limits`` are the resource limits as the runner saw them.
    """

    def __init__(self, homes: dict[int, int], folder: int, limits: Sequence[tuple[int, int]] = ()) -> None:
        self.homes = homes
        self._folder = folder
        self.limits = list(limits)
        self._putenv, self._unsetenv = os.putenv, os.unsetenv
        self._touched: list[Any] = []
        self._is_spoiled = False
        told: dict[str, Any] = {"putenv": self._noting(os.putenv), "unsetenv": self._noting(os.unsetenv)}
        told |= {name: self._spoiling(getattr(os, name)) for name in _FINAL if hasattr(os, name)}
        for module in (os, posix):  # builtins say that they are of posix, and travel by that name
            vars(module).update(told)
        self.renew()

    def renew(self) -> None:
        """Take the process as it is now for how it has to be."""
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._keep_folder()
        self._environ = os.environ
        # As bytes, and without a call for each.
        self._variables: dict[Any, Any] = dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001
        self._touched.clear()
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._handlers = list(map(_signal.getsignal, _SIGNALS))
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        self._path, self._search = sys.path, list(sys.path)
        self._argv, self._words = sys.argv, list(sys.argv)
        self._locale = _locale()
        self._tracing = (sys.gettrace(), sys.getprofile())
        self._depth = sys.getrecursionlimit()
        self.threads = _thread._count()  # noqa: SLF001 - threading itself may never have been imported

    def restore(self) -> bool:
        """Put everything back; return whether the process can go on."""
        try:
            self._flush()
            self._set()
            self._compare()
        except BaseException:  # whatever the task has made of its process: it is the last one there
            return False
        return not self._is_spoiled and _thread._count() <= self.threads  # noqa: SLF001 - see renew

    def _set(self) -> None:
        """Put back without looking."""
        os.umask(self._umask)
        os.fchdir(self._folder)
        for standard, home in self.homes.items():
            os.dup2(home, standard)

    def _compare(self) -> None:
        """Look and put back."""
        if self._touched or os.environ is not self._environ:
            self._restore_environment()
        if sys.path is not self._path or sys.path != self._search:
            sys.path = self._path
            sys.path[:] = self._search
        if sys.argv is not self._argv or sys.argv != self._words:
            sys.argv = self._argv
            sys.argv[:] = self._words
        if sys.gettrace() is not self._tracing[0] or sys.getprofile() is not self._tracing[1]:
            sys.settrace(self._tracing[0])
            sys.setprofile(self._tracing[1])
        if sys.getrecursionlimit() != self._depth:
            sys.setrecursionlimit(self._depth)
        sys.stdin, sys.stdout, sys.stderr = self._streams
        modules = sys.modules
        if "signal" in modules:
            self._restore_signals()
        if "locale" in modules and _locale() != self._locale:
            import _locale as module

            module.setlocale(_LC_ALL, self._locale)
        if "resource" in modules and self.limits:
            self._restore_limits()

    def _restore_signals(self) -> None:
        # In this order, since what is still under way must not meet the default action, which is to end the process.
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
        now = list(map(_signal.getsignal, _SIGNALS))
        if now != self._handlers:
            for timer in (_signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
                _signal.setitimer(timer, 0)  # of no use without a handler, so only set together with one
            for number, before, after in zip(_SIGNALS, self._handlers, now, strict=True):
                if before is not after:
                    _signal.signal(number, before)

    def _restore_environment(self) -> None:
        os.environ = self._environ  # noqa: B003 - the very object, where a task has put another one
        for key in {os.fsencode(key) for key in self._touched}:
            value = self._variables.get(key, _ABSENT)
            if value is _ABSENT:
                self._unsetenv(key)
            else:
                self._putenv(key, value)
        if b"TZ" in {os.fsencode(key) for key in self._touched}:
            time.tzset()
        data = self._environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - see renew
        data.clear()  # in place: os.environb is another view of it
        data.update(self._variables)
        self._touched.clear()

    def _restore_limits(self) -> None:
        import resource

        for number, limits in enumerate(self.limits):
            if resource.getrlimit(number) != limits:
                resource.setrlimit(number, limits)  # a lowered hard limit raises here, and the process is given up

    def _keep_folder(self) -> None:
        try:
            found = os.open(".", os.O_PATH | os.O_DIRECTORY)
        except OSError:  # it has been removed: there is no way back into it, so nobody may leave
            return
        os.dup2(found, self._folder, inheritable=False)
        os.close(found)

    def _flush(self) -> None:
        """Write what was printed to where it belongs; a stream that the task has closed raises."""
        for stream in self._streams:
            if stream is not None:
                try:  # noqa: SIM105 - see pexen.pool.capture
                    stream.flush()
                except OSError:  # its reader has gone, or the disk is full: not the next task's fault
                    pass

    def _noting(self, function: Callable[..., None]) -> Callable[..., None]:
        touched = self._touched

        def noting(key: Any, *value: Any) -> None:
            function(key, *value)
            touched.append(key)

        return noting

    def _spoiling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def spoiling(*args: Any, **kwargs: Any) -> Any:
            self._is_spoiled = True
            return function(*args, **kwargs)

        return spoiling


def _locale() -> str:
    import _locale as module

    return module.setlocale(_LC_ALL, None)
