"""What services do to their worker processes in tests, by name. Imports little: worker processes import it."""

import os
import subprocess
import sys
import threading

import pexen
from tests.pool.deeds_of_processes import forge_tokens


def tell_pid():
    pexen.current().report("pid", data={"pid": os.getpid()})


def plain():
    tell_pid()
    yield os.getpid()


def changing(folder: str):
    """Change the process in the setup, tell what is left of it in the teardown."""
    os.chdir(folder)
    os.environ["CHANGED"] = "yes"
    print("set up", flush=True)
    yield
    print("torn down")
    pexen.current().report("found", data={"folder": os.getcwd(), "variable": os.environ.get("CHANGED")})


def look_around():
    return os.getcwd(), os.environ.get("CHANGED")


def with_child(stays: bool):
    child = subprocess.Popen(["sleep", "1000"])
    yield child.pid
    lives = child.poll() is None
    pexen.current().report("child", "pass" if lives else "fail")
    if not stays:
        child.kill()
        child.wait()


def forking():
    """Come to the yield in two processes."""
    reading, writing = os.pipe()
    if os.fork():
        os.read(reading, 1)
    else:
        print("the child is here, too", flush=True)
        os.write(writing, b"x")
    os.close(reading)
    os.close(writing)
    yield os.getpid()


def forging():
    """Write into every eventfd, also while it is up."""
    try:
        forge_tokens("error")
    except ValueError:
        tell_pid()
    thread = threading.Thread(target=forge_later)
    thread.start()
    yield
    thread.join()


def forge_later():
    try:
        forge_tokens("error")
    except ValueError:
        return


def asking(joins: bool):
    """Have another thread ask for a restart while the service is up; tell what it was answered."""
    context, answered = pexen.current(), threading.Event()

    def ask():
        try:
            context.reboot(by="task")
        except pexen.PexenError as error:
            context.report("answered", message=str(error))
        answered.set()

    threading.Thread(target=ask).start()
    yield
    context.report("teardown")
    if joins:
        answered.wait()


async def asking_itself():
    """Ask for a restart in a task of its event loop while the service is up."""
    import asyncio

    context = pexen.current()

    async def ask():
        try:
            context.reboot(by="task")
        except pexen.PexenError as error:
            context.report("answered", message=str(error))

    task = asyncio.create_task(ask())
    yield
    await task


def pretend_to_be_up():
    """Send what only a service sends."""
    from pexen.model.running import CURRENT
    from pexen.pool import wire

    held = CURRENT.get()
    held.worker.link.send(wire.frame(wire.UP, held.id))
    threading.Event().wait()


def come_up_twice():
    pretend = pretend_to_be_up
    yield
    pretend()


def raising_handler():
    """Be interrupted while it is up."""
    import signal

    def raise_(number, frame):
        raise TimeoutError("the handler's")

    signal.signal(signal.SIGUSR1, raise_)
    tell_pid()
    yield os.getpid()
    pexen.current().report("teardown")


def modules():
    """Tell which modules a service costs its worker."""
    before = set(sys.modules)
    yield before
    pexen.current().report("modules", data={"names": sorted(set(sys.modules) - before)})
