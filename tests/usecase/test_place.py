"""Where a run keeps its output: below the root, for the user alone, and somewhere else when that cannot be."""

import fcntl
import json
import os
import stat
from pathlib import Path

import pytest

from pexen.errors import StateError
from pexen.state.lines import sealed
from pexen.usecase import place
from pexen.usecase.place import KEPT, Place, is_resumable, retain


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def runs(root):
    return sorted(name for name in os.listdir(root / ".pexen" / "runs") if name != "latest")


@pytest.fixture
def ids(monkeypatch):
    """Give each place its own name: a process has no two in one second."""
    times = iter(f"20250101-{number:06d}" for number in range(10_000))
    monkeypatch.setattr(place.time, "strftime", lambda _: next(times))


def begun(root):
    it = Place(str(root))
    it.begin()
    return it


def test_a_run_has_a_private_folder_that_latest_leads_to(tmp_path):
    before = os.umask(0o777)
    try:
        it = begun(tmp_path)
    finally:
        os.umask(before)
    it.close()
    state = tmp_path / ".pexen"
    assert [mode(folder) for folder in (state, state / "runs", it.folder, it.output)] == [0o700] * 4
    assert os.path.realpath(state / "latest") == os.path.realpath(it.folder)
    assert (state / ".gitignore").read_text() == "*\n"
    assert (state / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert it.note == ""


def test_one_that_was_not_begun_leaves_no_run(tmp_path):
    Place(str(tmp_path)).close()
    assert os.listdir(tmp_path / ".pexen" / "runs") == []


@pytest.mark.usefixtures("ids")
def test_the_last_runs_are_kept(tmp_path):
    names = []
    for _ in range(KEPT + 5):
        it = begun(tmp_path)
        names.append(it.id)
        it.close()
    assert runs(tmp_path) == names[-KEPT:]


@pytest.mark.usefixtures("ids")
def test_a_run_that_still_goes_on_is_not_removed(tmp_path):
    going = begun(tmp_path)
    for _ in range(KEPT + 5):
        begun(tmp_path).close()
    assert going.id in runs(tmp_path)
    assert len(runs(tmp_path)) == KEPT + 1
    going.close()


def recorded(root, how="", argv=("pexen", "run", "-x")):
    """A run that has ended as it is said, or was killed."""
    it = begun(root)
    records = [{"kind": "run", "argv": argv, "cwd": "/x"}, *([{"kind": "end", "how": how}] if how else [])]
    lines, crc = b"", 0
    for seq, record in enumerate(records, 1):
        line, crc = sealed(json.dumps(record, separators=(",", ":")).encode(), seq, crc)
        lines += line
    (Path(it.folder) / "journal.jsonl").write_bytes(lines)
    it.close()
    return it.id


@pytest.mark.usefixtures("ids")
def test_of_runs_that_never_end_so_many_are_kept_and_no_more(tmp_path):
    names = [recorded(tmp_path, "stopped") for _ in range(2 * KEPT + 5)]
    assert runs(tmp_path) == names[-2 * KEPT :]


@pytest.mark.usefixtures("ids")
def test_a_run_that_the_same_words_have_brought_to_its_end_later_is_removed(tmp_path):
    early = recorded(tmp_path, "stopped")
    other = recorded(tmp_path, "stopped", ["pexen", "run", "other"])
    killed = recorded(tmp_path)
    done = recorded(tmp_path, "done")
    late = recorded(tmp_path, "stopped")
    found = retain(str(tmp_path / ".pexen" / "runs"), 0)
    assert (found.removed, found.kept) == ([early, killed, done], [late, other])
    assert retain(str(tmp_path / ".pexen" / "runs"), 0, resumable=True).removed == [other, late]


@pytest.mark.usefixtures("ids")
def test_what_has_no_beginning_cannot_be_taken_up(tmp_path):
    names = [recorded(tmp_path, "stopped") for _ in range(3)]
    folders = [tmp_path / ".pexen" / "runs" / name for name in names]
    (folders[0] / "journal.jsonl").write_bytes(b"")
    data = (folders[1] / "journal.jsonl").read_bytes()
    (folders[1] / "journal.jsonl").write_bytes(b"{" + data)
    assert [is_resumable(str(folder)) for folder in folders] == [False, False, True]
    assert retain(str(folders[0].parent), 0).removed == names[:2]


@pytest.mark.usefixtures("ids")
def test_latest_leads_to_the_last_run_that_is_left(tmp_path):
    left, gone = recorded(tmp_path, "stopped"), recorded(tmp_path, "done", [])
    assert retain(str(tmp_path / ".pexen" / "runs"), 0).removed == [gone]
    assert os.readlink(tmp_path / ".pexen" / "latest") == f"runs/{left}"


@pytest.mark.usefixtures("ids")
def test_a_run_whose_record_cannot_be_written_is_not_taken_up(tmp_path, monkeypatch):
    folder = tmp_path / ".pexen" / "runs" / recorded(tmp_path, "stopped")
    monkeypatch.setattr(place.os, "access", lambda *_: False)  # root may do anything
    with pytest.raises(
        StateError, match="cannot be taken up, its record cannot be written: it is not writable"
    ) as told:
        Place(str(tmp_path), str(folder))
    assert "begin again" in told.value.hint
    assert told.value.facts == (("at", str(tmp_path / ".pexen")),)


def test_where_there_is_no_place_at_all_that_is_said(tmp_path, monkeypatch):
    (tmp_path / ".pexen").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".pexen"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ".pexen"))
    with pytest.raises(StateError, match="no record can be written"):
        Place(str(tmp_path))


@pytest.mark.usefixtures("ids")
def test_a_link_among_the_runs_is_not_followed(tmp_path):
    begun(tmp_path).close()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    os.symlink(precious, tmp_path / ".pexen" / "runs" / "0000")
    for _ in range(KEPT + 1):
        begun(tmp_path).close()
    assert (precious / "file").exists()


def test_a_tree_that_cannot_be_written_to_keeps_its_output_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".pexen").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    it = begun(tmp_path / "root")
    it.close()
    assert it.folder.startswith(f"{tmp_path}/state/pexen/root-")
    assert mode(it.folder) == 0o700
    assert it.folder in it.note
    assert "cannot be used" in it.note


@pytest.mark.leaks("files")
def test_without_a_state_folder_it_is_a_temporary_one(tmp_path, monkeypatch):
    (tmp_path / ".pexen").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".pexen"))
    it = begun(tmp_path)
    it.close()
    assert os.path.isdir(it.output)
    assert it.folder in it.note


def test_what_belongs_to_somebody_else_is_not_used(tmp_path, monkeypatch):
    planted = tmp_path / "planted"
    planted.mkdir()
    os.symlink(planted, tmp_path / ".pexen")
    if os.geteuid() == 0:
        os.chown(planted, 12345, 12345)
    else:
        planted.rmdir()
        os.symlink("/tmp", planted)  # which is root's, and writable
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    it = begun(tmp_path)
    it.close()
    assert it.folder.startswith(f"{tmp_path}/state/")
    assert "it belongs to somebody else" in it.note


def test_a_run_holds_a_lock_on_its_folder(tmp_path):
    it = begun(tmp_path)
    fd = os.open(it.folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    it.close()
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
