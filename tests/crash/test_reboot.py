"""A machine is restarted under a real ``pexen run``: all its processes are killed, and its boot id, a file, is another one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 120.0

REBOOT = """\
import fcntl, os, pathlib, signal, sys
folder = pathlib.Path({folder!r})
going = open(folder / "going_down", "w")
fcntl.flock(going, fcntl.LOCK_EX)
with open(folder / "reboots", "a") as file:
    file.write("rebooted\\n")
(folder / "boot_id").write_text(os.urandom(4).hex())
machine = ("MACHINE=" + str(folder)).encode()
for _ in range(3):
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int(place.name) != os.getpid() and machine in (place / "environ").read_bytes().split(b"\\0"):
                os.kill(int(place.name), signal.SIGKILL)
        except OSError:
            pass
"""

TREE = {
    "pexenfile.py": """
        from pexen import current, task

        @task
        def kernel():
            here = current()
            here.report(f"boot {here.reboots}")
            if here.reboots < 2:
                here.shared["boots"] = here.reboots + 1
                here.reboot()
            return here.shared["boots"]

        @task(requires={kernel})
        def after(kernel):
            assert kernel == 2

        @task(requires={after})
        def last(): pass
    """,
    "other.sh": "#!/bin/sh\nexit 0\n",
}


class Machine:
    """A machine with a tree, which can be restarted."""

    def __init__(self, folder: Path, tree: dict[str, str]) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        self.units = folder / "units"
        self.tree.mkdir()
        (folder / "tmp").mkdir()
        (self.tree / "pexen.toml").touch()
        for name, text in tree.items():
            file = self.tree / name
            lines = text.strip("\n").splitlines()
            indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
            file.write_text("\n".join(line[indent:] for line in lines) + "\n")
            file.chmod(0o755 if name.endswith(".sh") else 0o644)
        (folder / "boot_id").write_text("the first")
        (folder / "reboot").write_text(REBOOT.format(folder=str(folder)))
        self.command = f"{sys.executable} {folder / 'reboot'}"

    def pexen(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ, "MACHINE": str(self.folder), "PEXEN_BOOT_ID_FILE": str(self.folder / "boot_id"),
            "PEXEN_UNIT_DIR": str(self.units), "REBOOT": self.command,
            "TMPDIR": str(self.folder / "tmp"),
        }  # fmt: skip
        with open(self.folder / "going_down", "w") as going_down:
            fcntl.flock(going_down, fcntl.LOCK_EX)  # by now it is off
        return subprocess.run(
            [sys.executable, "-m", "pexen", *words], cwd=self.tree, env=env, capture_output=True, text=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.pexen("run", "-j2", "--reboot", "--reboot-command", self.command, *words)

    @property
    def reboots(self) -> int:
        file = self.folder / "reboots"
        return len(file.read_text().splitlines()) if file.exists() else 0

    @property
    def enabled(self) -> list[str]:
        return sorted(file.name for file in self.units.glob("*.wants/*.service"))

    def verdicts(self) -> dict[str, str]:
        lines = (self.tree / ".pexen" / "latest" / "report.jsonl").read_text().splitlines()
        return {one["path"]: one["status"] for one in map(json.loads, lines) if one["kind"] == "result"}

    def until_it_ends(self, most: int = 12) -> subprocess.CompletedProcess[str]:
        """Do what the unit does at each start, until the run has ended."""
        for _ in range(most):
            done = self.pexen("resume", "--reboot")
            if done.returncode != -signal.SIGKILL:
                return done
        raise AssertionError(f"restarted {self.reboots} times: {done.stderr}")


def test_announced_restarts_and_the_unit_that_goes_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path, TREE)
    done = machine.run()
    assert done.returncode == -signal.SIGKILL
    assert "restarting the machine for kernel" in done.stderr
    assert len(machine.enabled) == 1
    done = machine.until_it_ends()
    assert done.returncode == 0, done.stderr
    assert machine.reboots == 2
    assert machine.verdicts() == dict.fromkeys(("kernel", "after", "last", "other.sh"), "passed")
    assert machine.enabled == [], "the unit is removed at the end of the run"


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    machine = Machine(tmp_path, TREE)
    machine.run()
    (unit,) = machine.units.glob("*.service")
    text = unit.read_text()
    command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert '"resume" "--reboot"' in command
    assert f"WorkingDirectory={machine.tree}" in text
    assert machine.pexen("resume", "--print").stdout == text
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_unit_by_hand(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {**TREE, '50% "odd" $name.sh': "#!/bin/sh\nexit 1\n"})
    assert machine.pexen("run").returncode == 6
    assert machine.enabled == []
    installed = machine.pexen("resume", "--install")
    assert machine.enabled == [Path(installed.stdout.strip()).name]
    assert machine.pexen("resume", "--remove").returncode == 0
    assert machine.enabled == []
    again = machine.pexen("resume", "--remove")
    assert again.returncode == 4
    assert "no unit of this run" in again.stderr
    line = machine.pexen("resume", "--cron").stdout
    assert line.startswith("@reboot ")
    assert line.strip().endswith((machine.tree / ".pexen" / "latest").resolve().name)


def test_without_leave_it_stops_and_says_what_to_type(tmp_path: Path) -> None:
    machine = Machine(tmp_path, TREE)
    done = machine.pexen("run")
    assert done.returncode == 6
    assert "kernel wants the machine restarted" in done.stderr
    typed = (
        next(line for line in done.stderr.splitlines() if "after that, type:" in line).partition("type: ")[2].split()
    )
    assert machine.pexen("resume").returncode == 6, "it has not been restarted, and is asked for again"
    assert machine.reboots == 0
    for number in range(2):
        (tmp_path / "boot_id").write_text(f"boot {number}")
        again = machine.pexen(*[word for word in typed[typed.index("resume") :] if word != "--reboot"])
    assert again.returncode == 0, again.stderr
    assert machine.verdicts()["last"] == "passed"


def test_a_command_that_cannot_restart_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, TREE)
    done = machine.pexen("run", "--reboot", "--reboot-command", "sh -c 'echo not on my watch >&2; exit 1'")
    assert done.returncode == 6
    assert "not on my watch" in done.stderr
    assert "Traceback" not in done.stderr
    assert machine.pexen("run", "--reboot", "--reboot-command", "/nonexistent").returncode == 6


PANIC = {
    "panic.sh": """\
        #!/bin/sh
        echo "$PEXEN_REBOOTS" >> ../entered
        [ "$PEXEN_REBOOTS" = 0 ] || exit 0
        echo '{"id": 1, "reboot": {"by": "task", "within": "60s"}}' >&$PEXEN_CONTROL
        read -r answer <&$PEXEN_CONTROL
        $REBOOT
        """,
    "after.sh": '#!/bin/sh\n# /// pexen\n# requires = ["/panic.sh"]\n# ///\nexit 0\n',
}


def test_the_task_restarts_it_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path, PANIC)
    done = machine.run()
    assert done.returncode == -signal.SIGKILL
    assert len(machine.enabled) == 1
    done = machine.until_it_ends()
    assert done.returncode == 0, done.stderr
    assert machine.verdicts() == {"panic.sh": "passed", "after.sh": "passed"}
    assert (tmp_path / "entered").read_text().split() == ["0", "1"]


def test_the_machine_goes_down_in_good_order(tmp_path: Path) -> None:
    """Everybody is sent SIGTERM: pexen by systemd, and the task too, by both."""
    tree = {**PANIC, "panic.sh": PANIC["panic.sh"].replace("$REBOOT", "kill -TERM $PPID; sleep 1000")}
    machine = Machine(tmp_path, tree)
    done = machine.run()
    assert done.returncode == 6, done.stderr
    assert "panic.sh is restarting the machine" in done.stderr
    assert len(machine.enabled) == 1
    (tmp_path / "boot_id").write_text("another one")
    done = machine.until_it_ends()
    assert done.returncode == 0, done.stderr
    assert machine.verdicts() == {"panic.sh": "passed", "after.sh": "passed"}


def test_the_task_may_not_do_it_without_leave(tmp_path: Path) -> None:
    machine = Machine(tmp_path, PANIC)
    done = machine.pexen("run")
    assert done.returncode == 6
    assert "would restart the machine by itself" in done.stderr
    assert machine.reboots == 0


def test_a_loop_of_restarts_ends_with_the_reason(tmp_path: Path) -> None:
    tree = {"pexenfile.py": "from pexen import current, task\n\n@task\ndef ever():\n    current().reboot()\n"}
    machine = Machine(tmp_path, tree)
    machine.run("--max-reboots", "3")
    done = machine.until_it_ends()
    assert done.returncode == 1
    assert machine.reboots == 3
    assert "restarted 3 times for this task" in done.stderr
    assert machine.verdicts() == {"ever": "error"}
    assert machine.enabled == []


CRASHING = {
    "crash.sh": "#!/bin/sh\n$REBOOT\n",
    "fine.sh": "#!/bin/sh\nexit 0\n",
    "slow.sh": "#!/bin/sh\n[ -e ../reboots ] || sleep 1000\n",
    "after.sh": '#!/bin/sh\n# /// pexen\n# after = ["/slow.sh"]\n# ///\nexit 0\n',
}


def test_a_machine_that_goes_down_unannounced_is_charged_to_the_one_that_was_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path, CRASHING)
    assert machine.run().returncode == -signal.SIGKILL
    assert len(machine.enabled) == 1, "the unit is there from the beginning"
    done = machine.until_it_ends()
    assert done.returncode == 1
    assert machine.verdicts() == {
        "crash.sh": "crashed", "fine.sh": "passed", "slow.sh": "passed", "after.sh": "passed",
    }  # fmt: skip
    assert machine.reboots == 3, "once with another one, twice alone"
    assert machine.enabled == []


@pytest.mark.parametrize("words", [["--max-crashes", "1"], []])
def test_how_often_is_a_setting(tmp_path: Path, words: list[str]) -> None:
    machine = Machine(tmp_path, {"crash.sh": CRASHING["crash.sh"]})
    machine.run(*words)
    machine.until_it_ends()
    assert machine.reboots == (1 if words else 2)
    assert machine.verdicts() == {"crash.sh": "crashed"}
