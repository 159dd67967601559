"""Starting an executable: what it is given, how it is started without forking Python, and why it could not be started.

`posix_spawn` of the C library is called through ctypes. Measured with 1,000 x /bin/true on two CPUs, microseconds a
process: ``subprocess.Popen`` costs this process 225 of CPU time and 415 to call, ``os.posix_spawn`` and ctypes 165 and
320. Two things speak for ctypes: it can change the folder (`os.posix_spawn` cannot; the way around it, a thread with a
working directory of its own by ``unshare(CLONE_FS)``, is refused in ordinary containers), and it releases the
interpreter while the kernel loads the new program, which is most of the 320 and may be seconds on a slow disk.
C libraries without ``posix_spawn_file_actions_addfchdir_np`` (before glibc 2.29) get ``subprocess``.

The new process leads a session of its own, has all signals unblocked with their default actions, and inherits no
descriptor of pexen's but those it is given: all of them are close-on-exec, and Python makes every other one so too.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pexen.model.command import Command
from pexen.model.meta import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pexen.model.attempt import Attempt

Streams = tuple[int, int]
"""Descriptors for standard input, and for standard output and error; both above 2."""
CONTROL = 7
"""What an executable's control descriptor is called there: dash cannot name those above 9, and others are popular."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of the files that an executable is given, not of the executable."""
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY})
"""Errors that pass when others end. ETXTBSY is one of them: a process that is just being spawned by any thread holds,
until its exec, a copy of the descriptor through which somebody has written the executable."""

_OURS = re.compile(r"PEXEN_(PATH|ATTEMPT|REBOOTS|DIR|VALUES|CONTROL|SOCKET|LINEAGE|UNITS_.*)")
"""What pexen says to one task and must not reach the tasks of a pexen that this task runs."""


class Program(NamedTuple):
    """What to execute: the file, its arguments, its environment and its folder (empty: the pool's own).

    The environment is ``inherited``, one list object for many programs, and what is ``said`` to this one.
    """

    file: bytes
    argv: list[bytes]
    inherited: list[bytes]
    said: list[bytes]
    folder: bytes


class Spawner(Protocol):
    """Starts processes whose folder, where it is relative, is below the folder open as ``base``."""

    gives_control: bool
    """Whether it can give a process a descriptor named `CONTROL`."""

    def spawn(self, program: Program, streams: Streams | None, control: int) -> int:
        """Start it, with the runner's own streams if none are given; return its process id. Raises `OSError`."""

    def close(self) -> None:
        """Let go of what was kept for the next start."""


def spawner(base: int) -> Spawner:
    """Return the best way to start processes that the C library offers."""
    try:
        return NativeSpawner(base)
    except (AttributeError, ImportError, OSError):
        return PortableSpawner(base)


class NativeSpawner:
    """posix_spawn through ctypes. To be used from one thread."""

    gives_control = True

    # Numbers of <spawn.h>, the same in glibc and musl on every architecture.
    _SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80
    # More than the C libraries need for posix_spawnattr_t (336), posix_spawn_file_actions_t (80), sigset_t (128).
    _ROOM = 1024
    _MANY = 256

    def __init__(self, base: int) -> None:
        import ctypes

        self._c = ctypes
        self._base = base
        libc = ctypes.CDLL(None)
        self._spawn = libc.posix_spawn
        self._spawn.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_void_p] * 4]
        # What only writes into memory of ours does not give up the interpreter for it.
        quick = ctypes.PyDLL(None)
        self._init, self._destroy = quick.posix_spawn_file_actions_init, quick.posix_spawn_file_actions_destroy
        self._dup2, self._chdir, self._fchdir = (
            getattr(quick, f"posix_spawn_file_actions_{what}") for what in ("adddup2", "addchdir_np", "addfchdir_np")
        )
        self._words: list[bytes] = []
        self._addresses = b""
        self._prepared: dict[tuple[bytes, Streams | None, int], Any] = {}
        self._attributes = self._make_attributes(quick)

    def _make_attributes(self, libc: Any) -> Any:
        attributes, signals = (self._c.create_string_buffer(self._ROOM) for _ in range(2))
        libc.posix_spawnattr_init(attributes)
        libc.sigemptyset(signals)
        libc.posix_spawnattr_setsigmask(attributes, signals)
        libc.sigfillset(signals)
        libc.posix_spawnattr_setsigdefault(attributes, signals)
        flags = self._c.c_short(self._SETSIGDEF | self._SETSIGMASK | self._SETSID)
        if libc.posix_spawnattr_setflags(attributes, flags):
            raise OSError(errno.EINVAL, "posix_spawn cannot make a session")
        return attributes

    def spawn(self, program: Program, streams: Streams | None, control: int) -> int:
        """Start it; see `Spawner`."""
        pid = self._c.c_int()
        actions = self._actions(program.folder, streams, control)
        argv, said = self._array(program.argv), self._array(program.said)
        environment = self._inherited(program.inherited) + bytes(said)
        problem = self._spawn(self._c.byref(pid), program.file, actions, self._attributes, argv, environment)
        if problem:
            raise OSError(problem, os.strerror(problem), os.fsdecode(program.file))
        return pid.value

    def _actions(self, folder: bytes, streams: Streams | None, control: int) -> Any:
        """Return what is done before the exec. Remembered, since it takes 8 us and descriptors' numbers come again."""
        actions = self._prepared.get((folder, streams, control))
        if actions is None:
            if len(self._prepared) >= self._MANY:
                self.close()
            actions = self._prepare(folder, streams, control)
            self._prepared[folder, streams, control] = actions
        return actions

    def _prepare(self, folder: bytes, streams: Streams | None, control: int) -> Any:
        actions = self._c.create_string_buffer(self._ROOM)
        problem = self._init(actions) or self._fchdir(actions, self._base)
        if folder:
            problem = problem or self._chdir(actions, folder)
        if streams:
            for ours, its in ((streams[0], 0), (streams[1], 1), (streams[1], 2)):
                problem = problem or self._dup2(actions, ours, its)
        problem = problem or self._dup2(actions, control, CONTROL)  # last: one of the others may have that number here
        if problem:
            self._destroy(actions)
            raise OSError(problem, os.strerror(problem))
        return actions

    def close(self) -> None:
        """Give back the memory of the C library."""
        for actions in self._prepared.values():
            self._destroy(actions)
        self._prepared.clear()

    def _array(self, words: list[bytes]) -> Any:
        """Return a C array of the words with NULL at the end; it keeps them alive."""
        return (self._c.c_char_p * (len(words) + 1))(*words)

    def _inherited(self, words: list[bytes]) -> bytes:
        """Return the words' addresses; the last list is remembered, since it takes 10 us and usually is the same."""
        if words is not self._words:
            self._words = words
            self._addresses = bytes(self._array(words))[: -self._c.sizeof(self._c.c_void_p)]
        return self._addresses


class PortableSpawner:
    """subprocess. Signals that the runner ignores or blocks stay so in its children, except for SIGPIPE and SIGXFSZ.

    It cannot give descriptors another number, so executables are heard at their socket only.
    """

    gives_control = False

    def __init__(self, base: int) -> None:
        self._base = f"/proc/self/fd/{base}".encode()

    def spawn(self, program: Program, streams: Streams | None, control: int) -> int:
        """Start it; see `Spawner`."""
        import subprocess

        stdin, stdout = streams or (None, None)
        process = subprocess.Popen(
            program.argv,
            executable=program.file,
            env=dict(item.split(b"=", 1) for item in program.inherited + program.said),
            cwd=os.path.join(self._base, program.folder),
            stdin=stdin,
            stdout=stdout,
            stderr=stdout,
            close_fds=False,
            start_new_session=True,
        )
        process.returncode = 0  # the pool reaps it; without this the object would complain when it is dropped
        return process.pid

    def close(self) -> None:
        """Nothing is kept."""


class Environment:
    """Makes programs from attempts: the runner's environment as it was when this was made, and what is added to it."""

    def __init__(self, base: int) -> None:
        self._base = base
        inherited = {key: value for key, value in os.environ.items() if not _OURS.fullmatch(key)}
        self._path = inherited.get("PATH", os.defpath)
        self._items = {key: os.fsencode(f"{key}={value}") for key, value in inherited.items()}
        self._block = list(self._items.values())

    def program(self, attempt: Attempt, command: Command, told: Mapping[str, str] = EMPTY) -> Program:
        """Return what to execute for the attempt, which is ``told`` more in its environment.

        Raises `OSError` and `ValueError` for what cannot be executed.
        """
        argv = [os.fsencode(word) for word in command.argv]
        folder = command.cwd or ""
        path = self._path
        if command.env:
            path = dict(command.env).get("PATH", path)
        file = argv[0] if b"/" in argv[0] else os.fsencode(self._find(command.argv[0], folder, path))
        program = Program(file, argv, self._inherited(command), _said(attempt, told), os.fsencode(folder))
        if b"\0" in b"".join((*argv, program.folder)):
            raise ValueError("a NUL byte in an argument")
        return program

    def beside(self, command: Command, script: str) -> Command:
        """Return the command for a string that the shell executes where another command is executed, and as that.

        A file of that folder may be named as it is, without ``./``.
        """
        word = script.split(None, 1)[0] if script.strip() else ""
        if re.fullmatch(r"[\w.+-]+", word):
            file = os.path.join(command.cwd or "", word)
            if self._is(stat.S_ISREG, file) and os.access(file, os.X_OK, dir_fd=self._base):
                script = f"./{script.lstrip()}"
        return Command(("/bin/sh", "-c", script), command.cwd, command.env, True)

    def _inherited(self, command: Command) -> list[bytes]:
        """Return the runner's environment with the command's own additions."""
        if not command.env:
            return self._block
        items = dict(self._items)
        for key, value in command.env:
            if not key or "=" in key:
                raise ValueError(f"not the name of an environment variable: {key!r}")
            items[key] = _variable(key, value)
        return list(items.values())

    def _find(self, name: str, folder: str, path: str) -> str:
        """Return the file that the name without a slash means, as ``execvp`` would find it."""
        problem = errno.ENOENT
        for place in path.split(os.pathsep):
            file = os.path.join(place or ".", name)
            seen = os.path.join(folder, file)
            try:
                if not name or not stat.S_ISREG(os.stat(seen, dir_fd=self._base).st_mode):
                    continue
            except (OSError, ValueError):
                continue
            if os.access(seen, os.X_OK, dir_fd=self._base):
                return file
            problem = errno.EACCES
        raise OSError(problem, os.strerror(problem), name)

    def why(self, error: OSError | ValueError, command: Command) -> str:
        """Return why the command could not be started, in words, with the name of the error and a hint."""
        if not isinstance(error, OSError) or error.errno is None:
            return f"cannot start: {error} (EINVAL)"
        name = errno.errorcode.get(error.errno, str(error.errno))
        what, hint = self._hint(error, command)
        said = f"cannot start: {os.strerror(error.errno)}: {what!r} ({name})"
        return f"{said}; {hint}" if hint else said

    def _hint(self, error: OSError, command: Command) -> tuple[str, str]:
        """Return which file it is about, and what may be the matter with it."""
        file = error.filename or command.argv[0]
        file = os.fsdecode(file)
        if command.cwd is not None and not self._is(stat.S_ISDIR, command.cwd):
            return command.cwd, "it is the folder to run in"
        seen = os.path.join(command.cwd or "", file)
        if "/" not in file or not self._is(stat.S_ISREG, seen):
            return file, ""
        if error.errno == errno.ENOENT:
            return file, "its interpreter (in the #! line) is missing" + self._shebang(seen)
        if error.errno == errno.ENOEXEC:
            return file, "wrong architecture?" if self._start(seen).startswith(b"\x7fELF") else "no #! line?"
        if error.errno == errno.EACCES and not os.access(seen, os.X_OK, dir_fd=self._base):
            return file, "not executable: chmod +x?"
        return file, ""

    def _is(self, kind: Any, file: str) -> bool:
        try:
            return bool(kind(os.stat(file, dir_fd=self._base).st_mode))
        except (OSError, ValueError):
            return False

    def _shebang(self, file: str) -> str:
        line = self._start(file).split(b"\n", 1)[0]
        return f": {os.fsdecode(line[2:].strip())!r}" if line.startswith(b"#!") else ""

    def _start(self, file: str) -> bytes:
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._base)
        except OSError:
            return b""
        try:
            return os.read(fd, 256)
        except OSError:
            return b""
        finally:
            os.close(fd)


def _said(attempt: Attempt, told: Mapping[str, str]) -> list[bytes]:
    """Return the variables that tell the task about its attempt."""
    said = [_variable("PEXEN_PATH", attempt.task.name), b"PEXEN_ATTEMPT=%d" % attempt.number]
    said += [b"PEXEN_REBOOTS=%d" % attempt.reboots]
    said += [os.fsencode(f"{key}={value}") for key, value in told.items()]
    for name, units in attempt.units.items():
        said.append(_variable("PEXEN_UNITS_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper(), ",".join(units)))
    return said


def _variable(key: str, value: str) -> bytes:
    item = os.fsencode(f"{key}={value}")
    if b"\0" in item:
        raise ValueError(f"a NUL byte in the environment variable {key!r}")
    return item
