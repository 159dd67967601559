"""Tasks that change their process, and one that looks at it. Imports little: worker processes import it."""

import os
import sys


def look():
    """Return what a task may notice of the ones before it."""
    import decimal
    import locale
    import resource
    import signal
    import subprocess
    import threading

    mask = os.umask(0o22)
    os.umask(mask)
    return {
        "folder": os.getcwd(),
        # Each worker has a lineage of its own.
        "environment": {key: value for key, value in os.environ.items() if key != "PEXEN_LINEAGE"},
        "environment of children": sorted(
            item
            for item in subprocess.run("env -0", shell=True, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
            if not item.startswith(b"PEXEN_LINEAGE=")
        ),
        "umask": mask,
        "handlers": [
            getattr(signal.getsignal(number), "__qualname__", signal.getsignal(number))
            for number in sorted(signal.valid_signals())
        ],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "limits": [resource.getrlimit(number) for number in range(16)],
        "path": list(sys.path),
        "locale": locale.setlocale(locale.LC_ALL),
        "streams": [type(stream).__name__ for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "closed": [stream.closed for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "standard": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
        "threads": [thread.name for thread in threading.enumerate()],
        "children": _children(),
        "arguments": list(sys.argv),
        "identity": (os.getresuid(), os.getresgid(), os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)),
        "recursion": sys.getrecursionlimit(),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "precision": decimal.getcontext().prec,
        "zone": __import__("time").tzname,
    }


def _children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def folder():
    os.chdir("/")


def removed_folder():
    import tempfile

    place = tempfile.mkdtemp(prefix="gone-")
    os.chdir(place)
    os.rmdir(place)


def environment():
    os.environ["CHANGED"] = "1"
    os.environ.pop("HOME", None)
    os.environb[b"CHANGED2"] = b"2"


def environment_directly():
    os.putenv("DIRECT", "1")
    os.unsetenv("HOME")


def environment_replaced():
    os.environ = {"A": "b"}  # noqa: B003


def environment_cleared():
    os.environ.clear()


def zone():
    import time

    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def umask():
    os.umask(0o777)


def handlers():
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGRTMIN + 1, signal.SIG_IGN)


def hostile_handler():
    import signal

    class Handler:
        def __call__(self, *_):
            pass

        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    signal.signal(signal.SIGUSR1, Handler())


def signal_mask():
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])


def alarm():
    import signal

    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(100)


def bare_alarm():
    import signal

    signal.setitimer(signal.ITIMER_REAL, 0.05)


def soft_limit():
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard else hard, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (320, hard))


def hard_limit():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))


def path():
    sys.path.insert(0, "/nowhere")


def path_replaced():
    sys.path = ["/nowhere"]


def other_locale():
    import locale

    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    locale.setlocale(locale.LC_NUMERIC, "C")


def streams():
    import io

    sys.stdout, sys.stderr, sys.stdin = io.StringIO(), None, io.StringIO()


def closed_streams():
    sys.stdout.close()
    sys.stderr.close()


def closed_stdin():
    sys.stdin.close()


def redirected_descriptors():
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def closed_descriptors():
    os.closerange(0, 256)


def thread():
    import threading

    threading.Thread(target=threading.Event().wait, name="left behind", daemon=True).start()


def living_thread():
    import threading

    threading.Thread(target=threading.Event().wait, name="left behind", daemon=False).start()


def child():
    import subprocess

    process = subprocess.Popen(["sleep", "1000"])
    process.returncode = 0
    return process.pid


def zombie():
    if not os.fork():
        os._exit(0)


def arguments():
    sys.argv.append("more")


def identity():
    if not os.getuid():
        os.seteuid(12345)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    __import__("posix").nice(1)


def recursion():
    sys.setrecursionlimit(5000)


def tracing():
    def trace(*_):
        return None

    sys.settrace(trace)
    sys.setprofile(trace)


def precision():
    import decimal

    decimal.getcontext().prec = 3


CHANGES = [
    folder, removed_folder, environment, environment_directly, environment_replaced, environment_cleared, zone, umask,
    handlers, hostile_handler, signal_mask, alarm, bare_alarm, soft_limit, hard_limit, path, path_replaced, other_locale,
    streams, closed_streams, closed_stdin, redirected_descriptors, closed_descriptors, thread, living_thread, child, zombie,
    arguments, identity, recursion, tracing, precision,
]  # fmt: skip
