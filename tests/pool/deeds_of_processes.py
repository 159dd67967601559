"""What tasks do to worker processes in tests, by name. Imports little: worker processes import it."""

import os
import signal
import sys

import pexen
from tests.contract.deeds import exit_by


def pid() -> int:
    return os.getpid()


def pid_and_parent():
    return os.getpid(), os.getppid(), os.getsid(0), os.getpgrp()


def kill_itself(number: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def fall_through_exit() -> None:
    os._exit(0)


def report_pid(name: str = "pid") -> None:
    pexen.current().report(name, data={"pid": os.getpid()})


def report_much_and_exit(count: int) -> None:
    """Report more than is read at once, and no more than a socket holds."""
    for number in range(count):
        pexen.current().report(str(number), message="x" * 30_000)
    os._exit(3)


def report_pid_and_hang() -> None:
    report_pid()
    while True:
        signal.pause()


def stop() -> None:
    report_pid()
    os.kill(os.getpid(), signal.SIGSTOP)


def die_in_the_middle_of_the_result() -> bytes:
    """Return 5 MB, of which half is sent."""
    write = os.write

    def write_half(fd: int, data: bytes) -> int:
        write(fd, data[: len(data) // 2])
        os._exit(5)

    os.write = write_half
    return bytes(5_000_000)


class Badly:
    """Travels badly: does ``way`` when it is pickled or unpickled for the ``turn``-th time in one process."""

    def __init__(self, when: str, way: str) -> None:
        self.when, self.way = when, way

    def __reduce__(self):
        if self.when == "pickle":
            exit_by(self.way)
        return (Badly._unpickled, (self.when, self.way))

    @staticmethod
    def _unpickled(when: str, way: str) -> "Badly":
        if when == "unpickle":
            exit_by(way)
        return Badly(when, way)

    def __call__(self) -> str:
        return "never reached"


def return_badly(when: str, way: str) -> Badly:
    return Badly(when, way)


def raise_badly(when: str, way: str) -> None:
    raise BadError(when, way)


class BadError(Exception):
    """An exception that travels like `Badly`."""

    def __init__(self, when: str, way: str) -> None:
        super().__init__("a bad error")
        self.badly = Badly(when, way)

    def __reduce__(self):
        return self.badly.__reduce__()


def unpicklable():
    import threading

    return {"lock": threading.Lock()}


def share_unpicklable(shared) -> int:
    shared["good"] = 1
    shared["bad"] = unpicklable()
    return 1


def raise_unpicklable() -> None:
    error = ValueError("with a lock")
    error.lock = unpicklable()
    raise error


def big(size: int) -> bytes:
    return b"x" * size


def length(data: bytes) -> int:
    return len(data)


def close_descriptors(start: int, end: int) -> str:
    os.closerange(start, end)
    return "done"


def print_everywhere() -> str:
    garbage = bytes(range(256)) * 8
    for number in range(1024):
        try:
            os.write(number, garbage)
        except OSError:
            continue
    return "done"


def print_on_sockets(text: bytes) -> None:
    """Write to every socket, so not on the tokens."""
    import stat

    for number in range(3, 1024):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, text)
        except OSError:
            continue


def forge_tokens(then: str) -> None:
    """Write into every eventfd, as somebody would who prints on every descriptor."""
    for number in range(3, 1024):
        try:
            if "eventfd" in os.readlink(f"/proc/self/fd/{number}"):
                os.write(number, b"\0" * 7 + b"\x0f")
        except OSError:
            continue
    exit_by(then)


def steal_tokens(then: str) -> None:
    """Read every eventfd empty."""
    for number in range(3, 1024):
        try:
            if "eventfd" in os.readlink(f"/proc/self/fd/{number}"):
                while os.read(number, 8):
                    pass
        except OSError:
            continue
    exit_by(then)


def fork_and_return() -> int:
    """Return twice, in this process and in a child of it."""
    if os.fork():
        os.wait()
    return os.getpid()


def fork_and_return_at_once() -> str:
    os.fork()
    return "done"


def report_in_a_fork() -> int:
    """Return the exit status of a child that has tried to report."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        pexen.current().report("from the child")
    except pexen.PexenError:
        os._exit(7)
    os._exit(8)


def report_from_threads(count: int) -> None:
    """Report from several threads at once, with more than a socket takes at once."""
    import threading

    context = pexen.current()

    def report(name: str) -> None:
        for number in range(count):
            context.report(f"{name}{number}", message=name * 1000)

    threads = [threading.Thread(target=report, args=(name,)) for name in "abcd"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def report_from_a_signal_handler() -> None:
    context = pexen.current()

    def handle(number, frame):
        context.report("from the handler", message="x" * 100_000)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.005)
    for number in range(200):
        context.report(f"{number}", message="y" * 10_000)
    signal.setitimer(signal.ITIMER_REAL, 0)


def raise_from_a_signal_handler() -> None:
    class Enough(Exception):
        pass

    def handle(number, frame):
        raise Enough

    write, context = os.write, pexen.current()

    def write_and_be_interrupted(fd: int, data: bytes) -> int:
        if len(data) > 1_000_000:  # not in the result, which is written in the same way
            signal.setitimer(signal.ITIMER_REAL, 0.001)
        return write(fd, data)

    signal.signal(signal.SIGALRM, handle)
    os.write = write_and_be_interrupted
    while True:
        context.report("again", message="y" * 5_000_000)


def odd_report() -> None:
    pexen.current().report("odd \udcff", data={"set": {1}, "bytes": b"x", "nan": float("nan")})
    pexen.current().report("odd keys", data={("a", "b"): 1})


def start_a_child() -> int:
    import subprocess

    process = subprocess.Popen(["sleep", "1000"])
    process.returncode = 0
    return process.pid


def read_stdin() -> str:
    return sys.stdin.read() + os.readlink("/proc/self/fd/0")


def print_all_ways(text: str = "") -> None:
    print("by print", text)
    os.write(2, b"by write\n")
    os.system("echo by a child")


def print_without_newline() -> None:
    print("no newline", end="")


def print_and_die() -> None:
    print("last line")
    os._exit(9)


def print_and_leave_thread() -> None:
    import threading

    print("with a thread")
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def cancelled() -> bool:
    return pexen.current().cancelled


def main_module() -> list:
    import __main__

    return sorted(name for name in vars(__main__) if not name.startswith("__")), getattr(__main__, "__file__", None)


def imported() -> list:
    return sorted(sys.modules)


def search_path() -> list:
    return list(sys.path)
