"""What the tasks of the chaos do, by name: worker processes import this. Whatever is left alive sleeps for `LONG` seconds."""

import os
import signal
import subprocess

import pexen

LONG = "31415.9"


def fine() -> int:
    return 42


def wrong() -> None:
    raise ValueError("wrong")


def exits() -> None:
    os._exit(0)


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs() -> None:
    while True:
        pass


def is_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hangs()


def closes() -> None:
    os.closerange(0, 256)


def floods() -> None:
    for _ in range(200):
        os.write(1, os.urandom(1 << 14))


def reports() -> None:
    for number in range(500):
        pexen.current().report(f"r{number}", "info")


def leaves_a_child() -> None:
    subprocess.Popen(["sleep", LONG], start_new_session=True)


def leaves_a_daemon() -> None:
    """Fork twice, in a session of its own, with an empty environment."""
    ready, up = os.pipe()
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.close(ready)
            os.execve("/bin/sleep", ["sleep", LONG], {})  # the pipe is closed by it
        os._exit(0)
    os.close(up)
    os.wait()
    os.read(ready, 1)
    os.close(ready)


PYTHON = {
    fine: {"passed"}, wrong: {"error"}, exits: {"crashed"}, crashes: {"crashed"}, hangs: {"timeout"}, is_deaf: {"timeout"},
    closes: {"passed", "crashed"}, floods: {"passed"}, reports: {"passed"}, leaves_a_child: {"warned"},
    leaves_a_daemon: {"warned"},
}  # fmt: skip
SHELL = {
    "exit 0": {"passed"}, "exit 3": {"failed"}, "kill -9 $$": {"crashed"}, "kill -STOP $$": {"timeout"},
    "trap '' TERM; while :; do :; done": {"timeout"}, "exec 0<&- 1>&- 2>&- 7>&-": {"passed"},
    "head -c 3000000 /dev/urandom": {"passed"}, "yes | head -c 3000000 >&7": {"warned"},
    f"sleep {LONG} & exit 0": {"warned"}, f"setsid sh -c 'sleep {LONG} & exit 0' & wait": {"warned"},
    f"sleep {LONG} & sleep {LONG} & wait": {"timeout"}, "/no/such/thing": {"failed"},
    f"env -i setsid sh -c 'sleep {LONG} & exit 0' & wait": {"warned"},
}  # fmt: skip


def served():
    """Be up with children of its own, which must not be left."""
    child = subprocess.Popen(["sleep", LONG])
    yield child.pid
    child.kill()
    child.wait()


def adds() -> None:
    path = pexen.current().path
    pexen.current().add(
        pexen.Task(fine, f"{path}/made"), pexen.command("exit 0", f"{path}/run", requires=f"/{path}/made")
    )


def makes() -> list[pexen.Task]:
    path = pexen.current().path
    return [pexen.Task(fine, f"{path}/{number}") for number in range(3)]
