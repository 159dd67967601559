"""The ready-made generators: what they find, what they leave out, and what they say where they cannot look."""

from __future__ import annotations

import os
import subprocess
from time import monotonic

import pytest

from pexen.sched import checks
from pexen.sched.around import ready_made


class Seen:
    """A watched attempt, as a generator sees it."""

    path = "a/b"

    def __init__(self, folder) -> None:
        self.folder = str(folder)
        self.started = 0.0
        self.told: list = []
        self.attached: list[str] = []

    def report(self, name, status="pass", message="", *, data=None, files=()):
        self.told.append((name, status, message, dict(data or {}), tuple(files)))

    def attach(self, file, name=""):
        self.attached.append(file)
        return file


def run(check, seen, deed, status="passed"):
    """Do the deed between before and after; return what was told."""
    generator = check(seen)
    next(generator)
    seen.started = monotonic()
    result = deed()
    with pytest.raises(StopIteration):
        generator.send(status)
    return result


# -- the kernel's log --------------------------------------------------------------------------------------------------


def test_new_telling_lines_of_the_kernel_are_warned_of(tmp_path, monkeypatch):
    log = tmp_path / "kmsg"
    log.write_bytes(b"3,1,0,-;an old error\n")
    monkeypatch.setattr(checks, "KMSG", str(log))
    seen = Seen(tmp_path)

    def deed():
        with log.open("ab") as file:
            file.write(b"6,2,1,-;all is well\n")
            file.write(b"3,3,2,-;a.out[7]: segfault at \\x1b\n")

    run(checks.kernel_log, seen, deed)
    ((name, status, message, data, _),) = seen.told
    assert (name, status) == ("kernel log", "warn")
    assert "segfault" in message
    assert "\x1b" not in message
    assert [line for line in data["lines"] if "old" in line or "well" in line] == []


def test_a_quiet_kernel_is_nothing_to_tell(tmp_path, monkeypatch):
    log = tmp_path / "kmsg"
    log.write_bytes(b"3,1,0,-;an old error\n")
    monkeypatch.setattr(checks, "KMSG", str(log))
    seen = Seen(tmp_path)
    run(checks.kernel_log, seen, lambda: None)
    assert seen.told == []


def test_a_log_that_cannot_be_read_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "KMSG", str(tmp_path / "none"))
    seen = Seen(tmp_path)
    run(checks.kernel_log, seen, lambda: None)
    ((name, status, message, _, _),) = seen.told
    assert (name, status) == ("kernel log", "skip")
    assert "No such file" in message


# -- core dumps --------------------------------------------------------------------------------------------------------


def test_core_files_that_appear_are_warned_of_and_kept(tmp_path, monkeypatch):
    settings, work = tmp_path / "settings", tmp_path / "work"
    settings.mkdir()
    work.mkdir()
    (settings / "core_pattern").write_text("core.%p\n")
    (settings / "core_uses_pid").write_text("0\n")
    monkeypatch.setattr(checks, "SETTINGS", str(settings))
    (work / "core.1").write_bytes(b"old")
    seen = Seen(work)

    def deed():
        (work / "core.22").write_bytes(b"new")
        (work / "other").write_bytes(b"x")

    run(checks.core_dumps, seen, deed, "crashed")
    assert seen.attached == [str(work / "core.22")]
    assert [(name, status) for name, status, *_ in seen.told] == [("core dump", "warn")]
    assert "core.22" in seen.told[0][2]


def test_a_pattern_that_leads_to_an_unknown_program_is_said(tmp_path, monkeypatch):
    (tmp_path / "core_pattern").write_text("|/usr/bin/something %p\n")
    (tmp_path / "core_uses_pid").write_text("0\n")
    monkeypatch.setattr(checks, "SETTINGS", str(tmp_path))
    seen = Seen(tmp_path)
    run(checks.core_dumps, seen, lambda: None)
    assert [(name, status) for name, status, *_ in seen.told] == [("core dump", "skip")] or seen.told[0][1] == "skip"


# -- leftovers ---------------------------------------------------------------------------------------------------------


def test_our_own_children_are_no_leftovers(tmp_path):
    seen = Seen(tmp_path)
    child = run(checks.leftover_processes, seen, lambda: subprocess.Popen(["sleep", "1000"]))
    child.kill()
    child.wait()
    assert [told for told in seen.told if f"{child.pid} " in told[2]] == []


def test_files_that_are_still_there_are_warned_of(tmp_path):
    (tmp_path / "old").write_text("")
    (tmp_path / "kept").mkdir()
    seen = Seen(tmp_path)

    def deed():
        (tmp_path / "kept" / "new").write_text("")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "inside").write_text("")
        (tmp_path / ".pexen").mkdir()
        (tmp_path / "odd\n\x1bname").write_text("")
        os.unlink(tmp_path / "old")

    run(checks.leftover_files, seen, deed)
    ((name, status, message, _, _),) = seen.told
    assert (name, status) == ("leftover files", "warn")
    assert "kept/new" in message
    assert "folder" in message
    assert "inside" not in message
    assert ".pexen" not in message
    assert "\x1b" not in message


def test_a_clean_folder_is_nothing_to_tell(tmp_path):
    seen = Seen(tmp_path)
    run(checks.leftover_files, seen, lambda: None)
    assert seen.told == []


def test_each_has_a_name():
    assert {name: ready_made(name) for name in checks.CHECKS} == checks.CHECKS
    assert set(checks.CHECKS) == {"kernel_log", "core_dumps", "leftover_processes", "leftover_files"}
