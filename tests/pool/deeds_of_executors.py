"""What tasks do in the processes of executors, by name."""

import os
import select

import pexen


def exits() -> None:
    os._exit(1)


def waits(fd: int) -> None:
    """Wait until something can be read."""
    select.select([fd], [], [])


def says(what: str):
    here = pexen.current()
    verbs = {
        "report": lambda: here.report("a"),
        "heartbeat": here.heartbeat,
        "timeout": lambda: here.timeout.set(1),
        "dir": lambda: here.dir,
        "attach": lambda: here.attach(__file__),
        "reboot": here.reboot,
    }
    return verbs[what]()


def tells() -> tuple:
    here = pexen.current()
    return here.path, here.attempt, here.cancelled, os.getpid()


class Hostile:
    """Ends the process that opens it."""

    def __reduce__(self):
        return os._exit, (3,)


class Delayed:
    """Can be pickled and opened where it was made, and nowhere else."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __reduce__(self):
        return opened, (self.home,)


def opened(home: int) -> Delayed:
    if os.getpid() != home:
        raise LookupError("not at home")
    return Delayed(home)


def returns(value):
    return value


def makes_what_nobody_else_may_open() -> Delayed:
    return Delayed(os.getpid())
