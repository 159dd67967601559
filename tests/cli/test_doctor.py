"""``pexen doctor``: says what is so, for people and programs, whatever the machine allows, and always ends well."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from pexen.cli import doctor
from pexen.cli.doctor import CHECKS, Finding, examine, shown
from pexen.pool import subreaper
from pexen.pool.cgroup import own_folder
from tests.cli.tools import pexen


@pytest.fixture(autouse=True)
def _as_before() -> object:
    """Trying to be a subreaper makes one of this process."""
    yield
    subreaper._prctl(subreaper._PR_SET_CHILD_SUBREAPER, 0)


def found(name: str) -> Finding:
    return next(one for one in examine() if one.name == name)


def test_each_thing_has_its_line() -> None:
    done = pexen("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line[4:].split("  ")[0] for line in lines] == list(CHECKS)
    assert all(line[:4] in {"ok  ", "no  "} for line in lines)


def test_programs_get_the_same() -> None:
    done = pexen("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["schema"] == doctor.SCHEMA
    assert [one["name"] for one in said["findings"]] == list(CHECKS)
    assert all(isinstance(one["good"], bool) and one["found"] and one["means"] for one in said["findings"])


def test_colour_only_on_request() -> None:
    assert "\x1b" not in pexen("doctor").stdout
    assert "\x1b" in pexen("doctor", "--color", "always").stdout


def test_it_looks_at_the_folder_one_names(tmp_path: Path) -> None:
    assert pexen("doctor", "-C", tmp_path).returncode == 0
    done = pexen("doctor", "-C", tmp_path / "no")
    assert done.returncode == 4
    assert "No such file or directory" in done.stderr


def test_nothing_is_left_of_what_was_tried() -> None:
    home = own_folder()
    examine()
    assert home is None or not [name for name in os.listdir(home) if name.startswith(f"pexen-{os.getpid()}-")]


def test_a_check_that_fails_strangely_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> tuple[bool, str, str]:
        raise RuntimeError("odd\nmachine\x1b[2J")

    monkeypatch.setitem(CHECKS, "pidfd", broken)
    assert found("pidfd") == Finding("pidfd", False, "RuntimeError: odd\nmachine\x1b[2J", "cannot be told")
    text = shown(examine(), colour=False)
    assert len(text.splitlines()) == len(CHECKS)
    assert "\x1b" not in text


def refuse(*_: object) -> int:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize(
    ("name", "where", "what", "value", "said"),
    [
        ("pidfd", os, "pidfd_open", refuse, "Operation not permitted"),
        ("pidfd", doctor.signal, "pidfd_send_signal", refuse, "Operation not permitted"),
        ("eventfd", os, "eventfd", refuse, "Operation not permitted"),
        ("subreaper", subreaper, "_prctl", lambda *_: -1, "refused"),
        ("cgroup.kill", doctor.Cgroup, "make", lambda *_: None, ""),
        ("cgroup.kill", doctor, "own_folder", lambda: None, "no unified hierarchy"),
        ("children", os.path, "exists", lambda _: False, "missing"),
        ("/proc", os.path, "exists", lambda path: "self" in path, "hidepid"),
        ("/proc", os.path, "exists", lambda _: False, "not mounted"),
        ("state", doctor, "_file_system", lambda _: "tmpfs", "tmpfs"),
        ("state", doctor, "_file_system", lambda _: "nfs4", "nfs4"),
        ("state", os, "access", lambda *_: False, "not writable"),
    ],
)
def test_what_is_refused_is_said(monkeypatch: pytest.MonkeyPatch, name, where, what, value, said) -> None:
    before = CHECKS[name]()
    if name == "cgroup.kill":
        monkeypatch.setattr(doctor.Cgroup, "make", lambda *_: None)
    monkeypatch.setattr(where, what, value)
    good, now, means = CHECKS[name]()
    assert not good
    assert said in now
    assert means != before[2] or not before[0]


def test_a_low_limit_of_open_files_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for limits, good in (((256, 4096), False), ((20000, 20000), True), ((-1, -1), True)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert found("open files").good is good


@pytest.mark.parametrize(("folder", "kind"), [("/proc", "proc"), ("/sys", "sysfs")])
def test_the_kind_of_a_file_system(folder: str, kind: str) -> None:
    assert doctor._file_system(folder) == kind
