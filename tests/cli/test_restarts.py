"""What is to be typed when a run has stopped for a restart of the machine: what it may do then, it was told before."""

import subprocess
import sys

import pytest

from tests.cli.tools import environment, pexen, script, write

ASKS = """echo '{"id": 1, "reboot": {%s}}' >&$PEXEN_CONTROL; read line <&$PEXEN_CONTROL; sleep 60"""


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    (tmp_path / "boot").write_text("first")
    return tmp_path


def at_work(tree, *words):
    return pexen(*words, cwd=tree, PEXEN_UNIT_DIR=str(tree / "units"), PEXEN_BOOT_ID_FILE=str(tree / "boot"))


def typed(done):
    return [line.strip() for line in done.stderr.splitlines() if "type: " in line]


def test_without_leave_nobody_is_told_to_give_it(tree):
    script(tree / "a.sh", ASKS % "")
    done = at_work(tree, "run")
    assert done.returncode == 6
    folder = (tree / ".pexen" / "latest").resolve()
    assert typed(done) == [f"after that, type: pexen resume {folder}"]
    for how in ("--print", "--cron"):
        assert "--reboot" not in at_work(tree, "resume", how).stdout
        assert "--reboot" in at_work(tree, "resume", "--reboot", how).stdout
    assert at_work(tree, "resume", "--install").returncode == 0
    (unit,) = (tree / "units").glob("*.service")
    assert '"resume" "/' in unit.read_text()
    assert at_work(tree, "resume", "--reboot", "--install").returncode == 0
    assert '"resume" "--reboot" "/' in unit.read_text()


def test_with_leave_it_is_given_again(tree):
    script(tree / "a.sh", ASKS % "")
    done = at_work(tree, "run", "--reboot", "--reboot-command", "false")
    assert done.returncode == 6
    assert "--reboot /" in at_work(tree, "resume", "--cron").stdout
    assert "'a.sh'" not in done.stderr


def test_leave_that_was_given_when_it_was_taken_up_counts(tree):
    script(tree / "a.sh", ASKS % "")
    assert at_work(tree, "run", "--reboot-command", "false").returncode == 6
    assert at_work(tree, "resume", "--reboot").returncode == 6
    assert "resume --reboot /" in at_work(tree, "resume", "--cron").stdout


def test_a_task_that_would_do_it_itself_can_be_let_or_not(tree):
    script(tree / "a.sh", "[ ! -e calm ] || exit 0\n" + ASKS % '"by": "task"')
    done = at_work(tree, "run")
    assert done.returncode == 6
    folder = (tree / ".pexen" / "latest").resolve()
    assert typed(done) == [
        f"to let it, type: pexen resume --reboot {folder}",
        f"without leave it stops there again; to go on like that, type: pexen resume {folder}",
    ]
    (tree / "calm").touch()
    again = at_work(tree, "resume", str(folder))
    assert again.returncode == 0, again.stderr


def test_the_run_of_a_program_gets_no_unit_that_would_be_refused(tree):
    write(
        tree / "mine.py",
        """
        from pexen.usecase import Suite
        raise SystemExit(Suite(".").run())
        """,
    )
    script(tree / "a.sh", ASKS % "")
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tree, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 6
    assert "pexen resume" not in done.stderr
    for how in ("--print", "--cron", "--install"):
        refused = at_work(tree, "resume", how)
        assert refused.returncode == 4
        assert "not started by `pexen run`" in refused.stderr
    assert not (tree / "units").exists()
