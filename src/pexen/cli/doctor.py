"""``pexen doctor``: what this machine allows, and what that means for a run.

Everything is tried, not looked up by version: containers and sandboxes refuse what the kernel can do. Nothing that is
tried outlives the command.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import NamedTuple

import click

from pexen.cli.options import CONTEXT
from pexen.cli.screen import has_colour, write_out
from pexen.model.cpus import usable_cpus
from pexen.pool import subreaper, tree
from pexen.pool.cgroup import Cgroup, own_folder
from pexen.report.text import style, visible
from pexen.usecase.codes import GOOD

SCHEMA = 1
"""Version of what ``--json`` writes; raised when a key changes its meaning or goes."""
_CLONE_FS = 0x200
_FEW_FILES = 1024
_FORGETFUL = {"tmpfs", "ramfs", "overlay", "aufs"}
"""File systems whose content does not outlive the machine or the container."""
_SLOW = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"}


class Finding(NamedTuple):
    """One thing looked at: whether it is as one would wish, what was found, and what that means."""

    name: str
    good: bool
    found: str
    means: str


@click.command("doctor", context_settings=CONTEXT)
@click.option("-C", "chdir", metavar="DIR", default=None, help="Change to DIR first.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Use colour.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def command(*, chdir: str | None, color: str, as_json: bool) -> int:
    """Show what this machine allows, and what that means for a run."""
    if chdir is not None:
        try:
            os.chdir(chdir)
        except OSError as error:
            raise click.ClickException(f"{error.strerror}: {chdir}") from None
    findings = examine()
    if as_json:
        write_out(json.dumps({"schema": SCHEMA, "findings": [one._asdict() for one in findings]}, indent=1) + "\n")
    else:
        write_out(shown(findings, colour=has_colour(color, 1)))
    return GOOD


def examine() -> list[Finding]:
    """Try everything; what cannot even be tried is said to be missing."""
    return [_tried(name, check) for name, check in CHECKS.items()]


def shown(findings: list[Finding], *, colour: bool) -> str:
    """Return a line for each finding."""
    width, wide = (
        max(len(text) for text in texts) for texts in zip(*((f.name, f.found) for f in findings), strict=True)
    )
    lines = []
    for one in findings:
        mark = style("ok  ", "passed", on=colour) if one.good else style("no  ", "warned", on=colour)
        lines.append(f"{mark}{one.name:{width}}  {visible(one.found):{wide}}  {visible(one.means)}")
    return "\n".join(lines) + "\n"


def _tried(name: str, check: Callable[[], tuple[bool, str, str]]) -> Finding:
    try:
        return Finding(name, *check())
    except Exception as error:  # noqa: BLE001 - whatever a strange machine makes of it
        return Finding(name, False, f"{type(error).__name__}: {error}", "cannot be told")


# -- what is looked at: each returns whether it is good, what was found, what that means -------------------------------


def _pidfd() -> tuple[bool, str, str]:
    try:
        pidfd = os.pidfd_open(os.getpid())
    except (AttributeError, OSError) as error:
        return False, _said(error), "no run is possible: ends of processes are noticed by pidfd (Linux 5.4)"
    try:
        signal.pidfd_send_signal(pidfd, 0)  # only asks
    except OSError as error:
        return False, _said(error), "processes cannot be killed without the risk of killing another one"
    finally:
        os.close(pidfd)
    return True, "works", "processes are watched and killed without mistaking one for another"


def _subreaper() -> tuple[bool, str, str]:
    if subreaper.become_subreaper() and subreaper.is_subreaper():
        return True, "works", "daemons that a task leaves come back to the run and are ended"
    return False, "refused", "daemons that hide their origin may outlive the run"


def _cgroup() -> tuple[bool, str, str]:
    home = own_folder()
    cgroup = Cgroup.make("doctor")
    if cgroup is not None:
        cgroup.remove()
        return (
            True,
            str(home),
            "what Python tasks start is known exactly and ended at once",
        )
    means = "what Python tasks start is known by parents, session and timer slack alone"
    if home is None:
        return False, "no unified hierarchy", means
    return False, f"{home}: not writable", f"{means}; try systemd-run --user --scope -p Delegate=yes"


def _slack() -> tuple[bool, str, str]:
    if tree.slack(os.getppid()):
        return True, "readable", "daemons that hide their origin are known, and ended before the result is told"
    return False, "not readable", "daemons that hide their origin are ended at the next idle moment (root may read it)"


def _children() -> tuple[bool, str, str]:
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return True, "works", "looking for leaked processes costs nothing while there are none"
    return False, "missing", "looking for leaked processes means looking at every process (CONFIG_PROC_CHILDREN)"


def _proc() -> tuple[bool, str, str]:
    if os.path.exists("/proc/1/stat"):
        return True, "all visible", "every process that a task has started can be found"
    if os.path.exists("/proc/self/stat"):
        return False, "hidepid", "what a task has started as another user cannot be found"
    return False, "not mounted", "nothing that left a task's process group can be found"


def _unshare() -> tuple[bool, str, str]:
    import ctypes
    from threading import Thread

    libc, refused = ctypes.CDLL(None, use_errno=True), []

    def attempt() -> None:
        if libc.unshare(_CLONE_FS):
            refused.append(os.strerror(ctypes.get_errno()))

    thread = Thread(target=attempt)  # it concerns only the thread that calls
    thread.start()
    thread.join()
    if refused:
        return False, refused[0], "tasks in threads share one working folder"
    return True, "works", "a thread can have a working folder of its own"


def _eventfd() -> tuple[bool, str, str]:
    try:
        os.close(os.eventfd(0, os.EFD_CLOEXEC))
    except (AttributeError, OSError) as error:
        return False, _said(error), "no run is possible: pools are woken by eventfd"
    return True, "works", "pools wake each other with a single system call"


def _files() -> tuple[bool, str, str]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    if soft != resource.RLIM_INFINITY and soft < _FEW_FILES:
        return False, found, f"fewer tasks at a time than workers; ulimit -n {hard} allows more"
    return True, found, "a running task takes about four descriptors"


def _cpus() -> tuple[bool, str, str]:
    there, allowed, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0)), usable_cpus()
    limits = [f"affinity {allowed}"] * (allowed < there) + ["quota"] * (usable < allowed)
    why = f" (limited: {', '.join(limits)})" if limits else ""
    return True, f"{usable} of {there}", f"-j auto means -j {usable}{why}"


def _msgspec() -> tuple[bool, str, str]:
    try:
        import msgspec
    except ImportError:
        return False, "missing", "the journal is written with json from the standard library, which is slower"
    return True, msgspec.__version__, "the journal is written by compiled code"


def _state() -> tuple[bool, str, str]:
    kind = _file_system(os.getcwd())
    if not os.access(".", os.W_OK | os.X_OK):
        return False, f"{kind}, not writable", "no records can be kept in this folder"
    if kind in _FORGETFUL:
        return False, kind, "what is recorded below this folder is lost with the machine or container"
    if kind in _SLOW:
        return False, kind, "records below this folder are as durable as its server makes them, and slow to write"
    return True, kind, "what is recorded below this folder survives a power cut"


def _file_system(folder: str) -> str:
    """Return the kind of file system that a folder is on."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    best = (-1, "unknown")
    with open("/proc/self/mountinfo", errors="replace") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            words = before.split()
            at = words[4].rstrip("/")
            if words[2] == number or f"{folder}/".startswith(f"{at}/"):  # btrfs shows numbers that no mount has
                best = max(best, (len(at) + 10_000 * (words[2] == number), after.split()[0]))
    return best[1]


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


CHECKS: dict[str, Callable[[], tuple[bool, str, str]]] = {
    "pidfd": _pidfd,
    "eventfd": _eventfd,
    "subreaper": _subreaper,
    "timer slack": _slack,
    "cgroup.kill": _cgroup,
    "children": _children,
    "/proc": _proc,
    "unshare": _unshare,
    "open files": _files,
    "CPUs": _cpus,
    "msgspec": _msgspec,
    "state": _state,
}
