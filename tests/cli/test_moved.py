"""A record that is not where it was made, cannot be written, is not whole, or says something else than pexen writes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pexen.state.lines import sealed
from pexen.usecase.begun import Begun, place_now
from tests.cli.tools import DEADLINE, environment, gated, is_up, pexen, script, write


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    write(tree / "pexen.toml", "")
    return tree


def stopped(tree: Path, *words: str, cwd: Path | None = None) -> None:
    """A run of which b.sh has not been started, since a.sh has failed: each script notes where it was run."""
    script(tree / "sub" / "a.sh", 'echo a >> "$(pwd)/ran"; exit 1', meta="priority = -1")
    script(tree / "sub" / "b.sh", 'echo b >> "$(pwd)/ran"')
    assert pexen("run", "-x", "-j1", *words, cwd=cwd or tree / "sub").returncode == 1
    assert (tree / "sub" / "ran").read_text() == "a\n"


def journal(tree: Path) -> Path:
    return tree / ".pexen" / "latest" / "journal.jsonl"


def rewritten(file: Path, **fields) -> None:
    """Let the first record say something else, with checksums that are right."""
    lines, crc = b"", 0
    for seq, line in enumerate(file.read_bytes().splitlines(), 1):
        record = json.loads(line)
        del record["seq"], record["crc"]
        if seq == 1:
            record.update(fields)
        text, crc = sealed(json.dumps(record, separators=(",", ":")).encode(), seq, crc)
        lines += text
    file.write_bytes(lines)


# -- another place ------------------------------------------------------------------------------------------------


def test_a_copied_tree_is_run_itself_and_the_original_is_left_alone(tree, tmp_path):
    stopped(tree)
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    before = journal(tree).read_bytes()
    done = pexen("resume", cwd=copy)
    assert done.returncode == 1, done.stderr
    assert "changed: sub/a.sh" in done.stderr, "a command in another place is another one"
    assert (copy / "sub" / "ran").read_text() == "a\na\n"
    assert (tree / "sub" / "ran").read_text() == "a\n"
    assert journal(tree).read_bytes() == before
    last = [one for one in map(json.loads, journal(copy).read_text().splitlines()) if one["kind"] == "run"][-1]
    assert (last["root"], last["cwd"]) == (str(copy), str(copy / "sub"))
    assert f"of {copy}\n" in pexen("status", cwd=copy).stdout


def test_a_moved_tree_goes_on_where_it_is(tree, tmp_path):
    stopped(tree)
    tree.rename(tmp_path / "moved")
    done = pexen("resume", cwd=tmp_path / "moved")
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "moved" / "sub" / "ran").read_text() == "a\na\n"


def test_a_moved_tree_without_the_folder_it_was_begun_in(tree, tmp_path):
    stopped(tree)
    tree.rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "sub")
    done = pexen("resume", cwd=tmp_path / "moved")
    assert done.returncode == 4
    assert f"there is no {tmp_path}/moved/sub" in done.stderr
    assert "hint: " in done.stderr


def test_a_copy_of_what_was_begun_from_outside_is_refused(tree, tmp_path):
    stopped(tree, "tree/sub", cwd=tmp_path)
    shutil.copytree(tree, tmp_path / "copy", symlinks=True)
    done = pexen("resume", cwd=tmp_path / "copy")
    assert done.returncode == 4
    assert "begun outside of it" in done.stderr
    assert (tree / "sub" / "ran").read_text() == "a\n"


def test_a_copy_whose_words_name_the_original_is_refused(tree, tmp_path):
    stopped(tree, str(tree / "sub"))
    shutil.copytree(tree, tmp_path / "copy", symlinks=True)
    before = journal(tmp_path / "copy").read_bytes()
    done = pexen("resume", cwd=tmp_path / "copy")
    assert done.returncode == 4
    assert "mean another tree now" in done.stderr
    assert journal(tmp_path / "copy").read_bytes() == before


def test_a_record_kept_elsewhere_leads_to_its_tree(tree, tmp_path):
    (tree / ".pexen").write_text("in the way")
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    script(tree / "a.sh", "echo a >> ran; exit 1", meta="priority = -1")
    script(tree / "b.sh", "echo b >> ran")
    first = pexen("run", "-x", "-j1", cwd=tree, **state)
    assert "cannot be used (it is no folder)" in first.stderr
    done = pexen("resume", cwd=tree, **state)
    assert done.returncode == 1, done.stderr
    assert (tree / "ran").read_text() == "a\nb\n"


def test_a_record_behind_a_link_is_of_the_tree_with_the_link(tree, tmp_path, monkeypatch):
    (tmp_path / "big" / ".pexen" / "runs" / "r").mkdir(parents=True)
    os.symlink(tmp_path / "big" / ".pexen", tree / ".pexen")
    folder = str(tmp_path / "big" / ".pexen" / "runs" / "r")
    how = Begun("r", 1.0, ["pexen", "run"], str(tree), str(tree), may_restart=False)
    assert place_now(folder, how) == (str(tree), str(tree))
    tree.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert place_now(folder, how) == (str(tmp_path / "moved"),) * 2


# -- what cannot be written, and what is not there ------------------------------------------------------------------


def test_the_last_run_is_the_last_one_of_both_places(tree, tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    script(tree / "a.sh")
    assert pexen("run", cwd=tree, **state).returncode == 0
    (tree / ".pexen").rename(tree / "kept")
    (tree / ".pexen").write_text("in the way")
    assert pexen("run", "-q", cwd=tree, **state).returncode == 0
    (tree / ".pexen").unlink()
    (tree / "kept").rename(tree / ".pexen")
    assert f"record: {tmp_path}/state/" in pexen("status", cwd=tree, **state).stdout
    assert pexen("history", "--runs", cwd=tree, **state).stdout.count("\n") == 1
    assert pexen("run", cwd=tree, **state).returncode == 0
    assert f"record: {tree}/.pexen/" in pexen("status", cwd=tree, **state).stdout
    assert pexen("history", "--runs", cwd=tree, **state).stdout.count("\n") == 2


@pytest.mark.parametrize("how", ["missing", "dangling"])
def test_without_a_link_the_last_run_is_found_by_its_name(tree, how):
    stopped(tree)
    link = tree / ".pexen" / "latest"
    link.unlink()
    if how == "dangling":
        link.symlink_to("runs/gone")
    shown = pexen("status", cwd=tree)
    assert shown.returncode == 0, shown.stderr
    assert "hint: pexen resume" in shown.stdout
    assert pexen("resume", cwd=tree).returncode == 1
    assert (tree / "sub" / "ran").read_text() == "a\nb\n"


def test_clean_leaves_no_link_that_leads_nowhere(tree):
    script(tree / "a.sh")
    assert pexen("run", cwd=tree).returncode == 0
    assert pexen("clean", "--keep", "0", cwd=tree).stdout.endswith("1 run removed\n")
    assert not os.path.lexists(tree / ".pexen" / "latest")


def test_a_history_that_cannot_be_written_is_told(tree):
    script(tree / "a.sh")
    assert pexen("run", cwd=tree).returncode == 0
    assert pexen("history", "--rebuild", cwd=tree).returncode == 0
    for name in os.listdir(tree / ".pexen"):
        if name.startswith("history.db"):
            (tree / ".pexen" / name).unlink()
    (tree / ".pexen" / "history.db").mkdir()
    (tree / ".pexen" / "history.db.old").mkdir()
    write(tree / ".pexen" / "history.db.old" / "file", "in the way")
    done = pexen("history", "--rebuild", cwd=tree)
    assert done.returncode == 3
    assert "the history cannot be written" in done.stderr


# -- what a record says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"at": "x"}, {"argv": 5}, {"argv": ["pexen", "run", 5]}, {"cwd": None}, {"root": []}]
)
@pytest.mark.parametrize("words", [["status"], ["resume"], ["report", "--report", "junit:out.xml"]])
def test_a_first_record_of_other_types_is_named(tree, fields, words):
    stopped(tree)
    rewritten(journal(tree), **fields)
    done = pexen(*words, cwd=tree)
    assert done.returncode == 3
    assert "the journal cannot be understood" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_one_that_cannot_be_compared_is_named(tree):
    stopped(tree)
    rewritten(journal(tree), argv=5)
    done = pexen("compare", "latest", cwd=tree)
    assert done.returncode == 3
    assert "the journal cannot be understood" in done.stderr


def test_a_run_that_goes_on_is_said_to_have_begun_once(tree):
    gated(tree, "a")
    process = subprocess.Popen(
        [sys.executable, "-m", "pexen", "run"], cwd=tree, env=environment(), stderr=subprocess.DEVNULL
    )  # fmt: skip
    is_up(tree, "a")
    lines = pexen("status", cwd=tree).stdout.splitlines()
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 2
    assert lines[1].count(time.strftime("%Y-%m-%d")) == 1, "it says when it was begun once"
    assert lines[1].endswith("; 1 task")


def test_an_empty_record_is_not_of_1970(tree):
    stopped(tree)
    journal(tree).write_text("")
    shown = pexen("status", cwd=tree).stdout
    assert "nothing was recorded" in shown
    assert "1970" not in shown
    assert "pexen resume" not in shown
    assert "begin it again: pexen run" in shown
    done = pexen("resume", cwd=tree)
    assert done.returncode == 4
    assert "nothing was recorded of this run" in done.stderr


def test_what_is_damaged_is_not_offered_and_says_what_can_be_had(tree):
    stopped(tree)
    data = bytearray(journal(tree).read_bytes())
    data[len(data) // 2] ^= 1
    journal(tree).write_bytes(data)
    shown = pexen("status", cwd=tree).stdout
    assert "hint: pexen resume" not in shown
    assert "pexen report --damaged-ok" in shown
    refused = pexen("report", "--report", "junit:out.xml", cwd=tree)
    assert refused.returncode == 3
    assert "hint: --damaged-ok" in refused.stderr
    refused = pexen("resume", cwd=tree)
    assert refused.returncode == 3
    assert "begin again: pexen run" in refused.stderr
    assert pexen("report", "--damaged-ok", "--report", "junit:out.xml", cwd=tree).returncode == 0


def test_the_run_of_a_program_is_not_offered_to_resume(tree):
    stopped(tree)
    rewritten(journal(tree), argv=["./mine.py", "all of it"])
    shown = pexen("status", cwd=tree).stdout
    assert "pexen resume" not in shown
    assert "(resume=): ./mine.py 'all of it'" in shown


# -- reports of it ------------------------------------------------------------------------------------------------


def suite_of(file: Path) -> dict[str, str]:
    return ET.parse(file).getroot()[0].attrib


def test_a_report_from_the_record_is_called_and_dated_as_the_runs_own(tree):
    script(tree / "a.sh")
    assert pexen("run", "a.sh", cwd=tree).returncode == 0
    rewritten(journal(tree), at=json.loads(journal(tree).read_text().splitlines()[0])["at"] - 1000)
    assert pexen("report", "--report", "junit:late.xml", cwd=tree).returncode == 0
    own, late = suite_of(journal(tree).parent / "report.xml"), suite_of(tree / "late.xml")
    assert (late["name"], late["tests"]) == (own["name"], own["tests"]) == ("tree", "1")
    assert late["timestamp"] < own["timestamp"]
    (journal(tree).parent / "report.jsonl").unlink()
    assert pexen("report", "--report", "junit:late.xml", cwd=tree).returncode == 0
    assert suite_of(tree / "late.xml")["name"] == "tree"


def test_a_run_that_was_taken_up_is_dated_when_it_began(tree):
    stopped(tree)
    rewritten(journal(tree), at=json.loads(journal(tree).read_text().splitlines()[0])["at"] - 1000)
    before = suite_of(journal(tree).parent / "report.xml")
    assert pexen("resume", cwd=tree).returncode == 1
    assert pexen("report", "--report", "junit:late.xml", cwd=tree).returncode == 0
    own, late = suite_of(journal(tree).parent / "report.xml"), suite_of(tree / "late.xml")
    assert own["timestamp"] == late["timestamp"] < before["timestamp"]


def test_what_was_removed_is_neither_waiting_nor_cancelled(tree):
    stopped(tree)
    (tree / "sub" / "b.sh").unlink()
    assert "waiting: sub/b.sh" in pexen("status", cwd=tree).stdout
    assert pexen("resume", cwd=tree).returncode == 1
    shown = pexen("status", cwd=tree).stdout
    assert "done; began" in shown
    assert "waiting" not in shown
    assert pexen("report", "--report", "junit:late.xml", cwd=tree).returncode == 0
    assert [case.get("name") for case in ET.parse(tree / "late.xml").iter("testcase")] == ["a.sh"]


def test_a_report_that_was_asked_for_and_cannot_be_written(tree):
    script(tree / "a.sh")
    done = pexen("run", "--report", "junit:/proc/x.xml", cwd=tree)
    assert done.returncode == 3
    assert "1 passed" in done.stderr
    assert "JUnit was disabled" in done.stderr
    script(tree / "a.sh", "exit 1")
    assert pexen("run", "--report", "junit:/proc/x.xml", cwd=tree).returncode == 1
    assert pexen("report", "--report", "junit:/proc/x.xml", cwd=tree).returncode == 3
    refused = pexen("report", "--report", "junit:", cwd=tree)
    assert refused.returncode == 4
    assert "'junit:' names no file" in refused.stderr


def test_counts_stand_as_in_the_summary(tree):
    script(tree / "a.sh", "exit 1")
    script(tree / "b.sh")
    script(tree / "c.sh", "exit 77")
    assert pexen("run", cwd=tree).returncode == 1
    assert "finished: 1 passed, 1 skipped, 1 failed" in pexen("status", cwd=tree).stdout


def test_what_a_task_is_after_is_what_it_waits_for(tree):
    script(tree / "a.sh", "exit 1", meta="priority = -1")
    script(tree / "b.sh")
    script(tree / "c.sh", meta='requires = ["/b.sh"]\nafter = ["/b.sh", "/a.sh", "/d.sh"]')
    script(tree / "d.sh")
    assert pexen("run", "-x", "-j1", cwd=tree).returncode == 1
    assert "waiting: c.sh, for b.sh, d.sh\n" in pexen("status", cwd=tree).stdout


def test_after_ctrl_c_it_says_how_to_go_on(tree):
    gated(tree, "a")
    process = subprocess.Popen(
        [sys.executable, "-m", "pexen", "run"], cwd=tree, env=environment(), text=True, stderr=subprocess.PIPE
    )  # fmt: skip
    is_up(tree, "a")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert told.splitlines()[-1] == "to go on: pexen resume"
