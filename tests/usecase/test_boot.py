"""The unit that takes a run up again after a restart of the machine: it does what would be typed, and nothing else."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from pexen.usecase import boot

FOLDER = '/srv/100% "our" $HOME\\tests/.pexen/runs/2026-run'


def settings(name: str, command: list[str] | None = None) -> list[str]:
    """Return the values of a setting in the unit of a run."""
    lines = boot.unit(FOLDER, command or boot.resuming(FOLDER, reboot=False)).splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def words(value: str) -> list[str]:
    """Return the words of a value as systemd takes them apart: its quotes are those of a shell, but for percent signs."""
    assert "%" not in value.replace("%%", "")
    return shlex.split(value.replace("%%", "%"))


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "PEXEN_BOOT_ID_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", ["/bin:/usr/bin", "/a$b/bin:/c%d:/e f", '/say "x"', "/back\\slash", "$PATH", "/it's"])
def test_a_variable_is_found_again_as_it_was(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("PATH", path)
    assert [words(one) for one in settings("Environment")] == [[f"PATH={path}"]]


def test_a_dollar_is_doubled_only_where_systemd_would_look_for_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", '/a$b/c%d "e"')
    assert settings("Environment") == [r'"PATH=/a$b/c%%d \"e\""']
    assert settings("ExecStart", ["/bin/$x", "50%"]) == ['"/bin/$$x" "50%%"']


@pytest.mark.parametrize("reboot", [False, True])
def test_the_run_is_taken_up_as_it_would_be_typed(reboot: bool) -> None:
    command = boot.resuming(FOLDER, reboot=reboot)
    (value,) = settings("ExecStart", command)
    assert words(value.replace("$$", "$")) == command
    assert shlex.split(boot.as_typed(command)) == ["pexen", "resume", *(["--reboot"] if reboot else []), FOLDER]
    assert settings("WorkingDirectory") == ['/srv/100%% "our" $HOME\\tests']


def test_what_lies_in_the_tree_is_not_taken_for_pexen(tmp_path: Path) -> None:
    """The unit's working directory is the root of the tree, where anything may lie."""
    for name in ("pexen", "click", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    command = boot.resuming(str(tmp_path / ".pexen/runs/run"), reboot=False)
    program = [*command[: command.index("resume")], "--version"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pexen" in done.stdout


def test_a_line_for_cron_has_no_bare_percent_sign() -> None:
    """That would end the line."""
    line = boot.cron_line(["/bin/pexen", "50% $x"])
    assert line == "@reboot /bin/pexen '50\\% $x'"
