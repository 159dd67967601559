"""Restarting the machine, and coming back after that: by a systemd unit that takes a run up again, or a line for cron.

The unit is enabled by a link, as ``systemctl enable`` does it, so nobody has to be asked; systemd looks for new units when
it starts, which is when this one is wanted. It is the user's own where root is not the user, and then only works if
`loginctl enable-linger` lets the user's systemd start without a login.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pexen.errors import StateError
from pexen.report.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pexen.sched.reboot import Wish

COMMAND = ("systemctl", "reboot")
"""What restarts a machine, where nothing else is said."""
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "PEXEN_BOOT_ID_FILE")
"""Variables that a run finds again after the restart."""
_PATIENCE = 60.0


def restart(command: Sequence[str]) -> str:
    """Have the machine restarted; return why that cannot be, or nothing: it may go down at any moment from now on."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=_PATIENCE,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    if not done.returncode:
        return ""
    said = done.stderr.decode(errors="backslashreplace").strip().splitlines()
    return said[-1] if said else f"{shlex.join(command)}: exit code {done.returncode}"


def said(wish: Wish, folder: str, command: Sequence[str], *, may: bool) -> list[str]:
    """Return in words what a run has stopped for, and what to do then; ``may`` says whether it restarts the machine."""
    tasks = ", ".join(wish.paths)
    back = as_typed(command) or "the program that began this run, to take it up (resume=)"
    if wish.by_task and not may:
        leave = as_typed(command, reboot=True) or "the program that began this run, with reboots="
        return [
            f"reboot: {tasks} would restart the machine by itself, which this run may not do",
            f"  to let it, type: {leave}",
            f"  without leave it stops there again; to go on like that, type: {back}",
        ]
    if wish.by_task:
        lines = [f"reboot: {tasks} is restarting the machine"]
    elif may:
        lines = [f"reboot: restarting the machine for {tasks}"]
    else:
        lines = [f"reboot: {tasks} wants the machine restarted", "  restart it; with --reboot that is done for you"]
    if os.path.lexists(unit_file(folder)):
        return [*lines, "  the run goes on after that by itself"]
    return [*lines, f"  after that, type: {back}"]


_SELF = (sys.executable, "-P", "-m", "pexen")


def resuming(folder: str, *, reboot: bool) -> list[str]:
    """Return the command that takes up the run in ``folder``; with ``reboot`` it may restart the machine."""
    return [*_SELF, "resume", *(["--reboot"] if reboot else []), folder]


def as_typed(command: Sequence[str], *, reboot: bool = False) -> str:
    """Return a command as people type it; with ``reboot``, one of ours is let restart the machine."""
    words = list(command)
    if tuple(words[:4]) == _SELF:
        words[:4] = ["pexen"]
        if reboot and "--reboot" not in words:
            words.insert(2, "--reboot")
    return shlex.join(words)


def unit(folder: str, command: Sequence[str]) -> str:
    """Return the text of the unit that carries out ``command`` for the run in ``folder``, once at each start."""
    name, root = os.path.basename(folder), os.path.dirname(os.path.dirname(os.path.dirname(folder)))
    variables = [f"{key}={os.environ[key]}" for key in _KEPT if key in os.environ]
    wanted = "multi-user.target" if _is_system() else "default.target"
    lines = [
        "[Unit]",
        f"Description=pexen takes up run {_escaped(name)}",
        f"ConditionPathExists={_escaped(folder)}/journal.jsonl",
        "Wants=network-online.target" if _is_system() else "",
        f"After={wanted} network-online.target" if _is_system() else "",
        "",
        "[Service]",
        "Type=exec",
        f"WorkingDirectory={_escaped(root)}",
        *(f"Environment={_quoted(one)}" for one in variables),
        "ExecStart=" + " ".join(_quoted(one).replace("$", "$$") for one in command),
        "KillMode=mixed",
        "SuccessExitStatus=6",
        "",
        "[Install]",
        f"WantedBy={wanted}",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or lines[i - 1]) + "\n"


def cron_line(command: Sequence[str]) -> str:
    """Return the line for ``crontab -e`` that does the same where there is no systemd."""
    return "@reboot " + shlex.join(command).replace("%", "\\%")


def is_here() -> bool:
    """Tell whether systemd will look for units when this machine starts."""
    return "PEXEN_UNIT_DIR" in os.environ or os.path.isdir("/run/systemd/system")


def is_going_down() -> bool:
    """Tell whether systemd is just stopping this machine."""
    if not os.path.isdir("/run/systemd/system"):
        return False
    try:
        asked = subprocess.run(
            ["systemctl", "is-system-running"], stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == b"stopping"


def unit_file(folder: str) -> str:
    """Return where the unit of the run in ``folder`` is, or would be. ``PEXEN_UNIT_DIR`` is another place for all units."""
    return f"{_units()}/pexen-{os.path.basename(folder)}.service"


def install(folder: str, command: Sequence[str]) -> str:
    """Put the unit into its place and enable it; return its file. Raises `StateError` when that cannot be."""
    file = unit_file(folder)
    try:
        os.makedirs(os.path.dirname(_link(file)), exist_ok=True)
        with replacing(file) as opened:
            opened.write(os.fsencode(unit(folder, command)))
            os.fchmod(opened.fileno(), 0o644)
        with suppress(FileExistsError):
            os.symlink(file, _link(file))
    except OSError as error:
        raise StateError(
            f"the unit that takes up the run cannot be installed: {error.strerror}",
            facts=[("unit", file)],
            hint="after a restart type: pexen resume",
        ) from error
    return file


def remove(folder: str) -> bool:
    """Remove the unit of the run in ``folder``; return whether there was one. Raises `StateError` when it cannot be."""
    file = unit_file(folder)
    was_there = os.path.lexists(file)
    try:
        for one in (_link(file), file):
            with suppress(FileNotFoundError):
                os.unlink(one)
    except OSError as error:
        raise StateError(f"cannot remove the unit: {error.strerror}", facts=[("unit", file)]) from error
    return was_there


def _is_system() -> bool:
    return os.geteuid() == 0


def _units() -> str:
    given = os.environ.get("PEXEN_UNIT_DIR", "")
    if given:
        return os.path.abspath(given)
    if _is_system():
        return "/etc/systemd/system"
    return os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "systemd/user")


def _link(file: str) -> str:
    folder, name = os.path.split(file)
    return f"{folder}/{'multi-user' if _is_system() else 'default'}.target.wants/{name}"


def _escaped(text: str) -> str:
    """Return a text as the value of a setting: a percent sign would begin a specifier."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word in systemd's own quoting."""
    inner = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + _escaped(inner) + '"'
