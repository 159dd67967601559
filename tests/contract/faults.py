"""What can go wrong in a task, by name: worker processes import this."""

import os
import signal
import subprocess


def raises() -> None:
    raise LookupError("lost")


def exits_by_exception() -> None:
    raise SystemExit(0)


def interrupts_itself() -> None:
    raise KeyboardInterrupt


def exits() -> None:
    os._exit(0)


def aborts() -> None:
    os.abort()


def segfaults() -> None:
    import ctypes

    ctypes.string_at(0)


def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def loops() -> None:
    while True:
        pass


def is_deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    loops()


def stops_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def leaves_a_child() -> int:
    return subprocess.Popen(["sleep", "1000"]).pid


def leaves_a_session() -> int:
    return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid


def leaves_a_daemon(environment: dict[str, str] | None = None) -> int:
    """Fork twice and make a session; return the daemon's number."""
    read, write = os.pipe()
    if not os.fork():
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(write, str(pid).encode())
            os._exit(0)
        os.closerange(3, 256)
        os.execve("/bin/sleep", ["sleep", "1000"], environment or dict(os.environ))
    os.wait()
    pid = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    while open(f"/proc/{pid}/comm").read() != "sleep\n":  # noqa: SIM115
        pass
    return pid


def leaves_a_nameless_daemon() -> int:
    return leaves_a_daemon({"A": "b"})


def closes_everything() -> None:
    os.closerange(0, 256)


def prints_on_everything() -> None:
    for number in range(3, 256):
        try:
            os.write(number, b"\x00\xff{garbage}\n" * 10)
        except OSError:
            continue


def prints_much() -> None:
    for _ in range(200):
        os.write(1, b"\x00\xff\xfe" * 50_000)


class Unsendable:
    def __reduce__(self):
        raise TypeError("not me")


def returns_the_unsendable() -> Unsendable:
    return Unsendable()


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def raises_what_cannot_be_read() -> None:
    raise TwoArguments(1, 2)


def fine() -> int:
    return 42


class Own(BaseException):
    """An exception of somebody's own that is no Exception."""


def raises_its_own() -> None:
    raise Own("mine")


def raises_generator_exit() -> None:
    raise GeneratorExit


def raises_a_group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


class Unsayable(Exception):
    def __str__(self):
        raise RuntimeError("no")

    def __reduce__(self):
        raise TypeError("not me")


def raises_the_unsendable() -> None:
    raise Unsayable


def changes_everything() -> None:
    """Change what a process has only one of."""
    import sys

    os.chdir("/")
    os.umask(0o777)
    os.environ["FAULT"] = "seen"
    os.environ["PATH"] = "/nowhere"
    sys.path.insert(0, "/nowhere")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def state() -> tuple:
    """Return what `changes_everything` changes."""
    import sys

    umask = os.umask(0)
    os.umask(umask)
    blocked = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    usr1 = str(signal.getsignal(signal.SIGUSR1))
    return os.getcwd(), umask, os.environ.get("FAULT"), os.environ["PATH"], list(sys.path), usr1, blocked


def prints_endlessly_on_one_line() -> None:
    for _ in range(50):
        os.write(1, b"\x00\xff" * 500_000)
