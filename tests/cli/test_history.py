"""``pexen history``, and what the past means for the next run: its order, ``--lf``, ``--ff``, ``--sw``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pexen.state.history import NAME, History
from pexen.state.reader import read
from tests.cli.test_resume import LIMIT, PEXEN, counted, counting
from tests.cli.tools import GATED, gated, is_up, make_gate, open_gate, pexen, script
from tests.state.test_history import record_run, result, started, task

pytestmark = pytest.mark.leaks("files")  # what a killed process has in temporary folders stays there


def failing_once(tree: Path, name: str, meta: str = "") -> None:
    """A script that fails until there is a file of its name that says ok."""
    counting(tree, name, f"[ -e {tree}/{name}.ok ]", meta)


def mended(tree: Path, name: str) -> None:
    (tree / f"{name}.ok").touch()


def order(tree: Path, *words: str) -> list[str]:
    """Return the paths in the order in which they would start."""
    done = pexen("run", "--dry-run", *words, cwd=tree)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def counts(tree: Path, *names: str) -> list[int]:
    return [counted(tree, name) for name in names]


# -- keeping --------------------------------------------------------------------------------------------------------


def test_every_run_is_added_and_told(tree):
    counting(tree, "a")
    failing_once(tree, "b")
    first = pexen("run", cwd=tree)
    assert first.returncode == 1
    assert "history" not in first.stderr
    with History(str(tree / ".pexen")) as history:
        assert [one.how for one in history.runs()] == ["done"]
        assert {path: one.status for path, one in history.verdicts().items()} == {"a.sh": "passed", "b.sh": "failed"}
    mended(tree, "b")
    assert pexen("run", cwd=tree).returncode == 0
    told = pexen("history", cwd=tree)
    assert told.returncode == 0
    assert told.stderr == ""
    a, b = told.stdout.splitlines()
    assert a.startswith("a.sh  passed")
    assert "flaky" not in a
    assert b.startswith("b.sh  passed")
    assert "flaky 1/1" in b


def test_a_resumed_run_is_counted_once(tree):
    counting(tree, "a")
    gated(tree, "b")
    process = subprocess.Popen([*PEXEN, "run", "-j1"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    is_up(tree, "b")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 2
    (tree / "b.sh").write_text("#!/bin/sh\n")
    done = pexen("resume", cwd=tree)
    assert done.returncode == 0, done.stderr
    told = json.loads(pexen("history", "--json", cwd=tree).stdout)
    assert {one["path"]: len(one["runs"]) for one in told["tasks"]} == {"a.sh": 1, "b.sh": 1}
    assert counts(tree, "a") == [1]


def test_a_killed_run_is_in_the_history_of_the_next(killed):
    told = json.loads(pexen("history", "--json", cwd=killed).stdout)
    assert [(one["path"], [run["status"] for run in one["runs"]]) for one in told["tasks"]] == [("a.sh", ["passed"])]


@pytest.fixture
def killed(tree):
    """A run that was killed while b.sh was running and a.sh had passed."""
    counting(tree, "a")
    gated(tree, "b", meta='requires = ["/a.sh"]')
    process = subprocess.Popen([*PEXEN, "run", "-j1"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    is_up(tree, "b")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT)
    from tests.cli.test_resume import until_nobody_writes

    until_nobody_writes(tree)
    return tree


@pytest.mark.parametrize("damage", [b"", b"no database" * 1000], ids=["empty", "text"])
def test_a_damaged_history_does_not_stop_a_run(tree, damage):
    counting(tree, "a")
    counting(tree, "b")
    assert pexen("run", cwd=tree).returncode == 0
    (tree / ".pexen" / NAME).write_bytes(damage)
    done = pexen("run", "--lf", cwd=tree)
    assert done.returncode == 0
    assert "note: history: " in done.stderr
    assert "Traceback" not in done.stderr
    assert pexen("run", cwd=tree).stderr.count("note: history") == 0


def test_a_history_that_cannot_be_had_is_a_note(tree):
    counting(tree, "a")
    counting(tree, "b")
    (tree / ".pexen").mkdir(0o700)
    (tree / ".pexen" / NAME).mkdir()
    (tree / ".pexen" / f"{NAME}.old").write_text("a file, so the folder cannot be set aside")
    for words in (["run"], ["run", "--ff"], ["history"]):
        done = pexen(*words, cwd=tree)
        assert done.returncode == 0, done.stderr
        assert "note: history: " in done.stderr
        assert "cannot be set aside" in done.stderr
    assert "a.sh" in done.stdout, "it is made in memory"


def test_what_is_removed_is_remembered(tree):
    counting(tree, "a")
    for _ in range(3):
        assert pexen("run", cwd=tree).returncode == 0
    (tree / ".pexen" / NAME).unlink()
    done = pexen("clean", "--keep", "0", cwd=tree)
    assert "3 runs removed" in done.stdout
    assert "note: history: there was none" in done.stderr
    told = json.loads(pexen("history", "--json", cwd=tree).stdout)
    assert len(told["tasks"][0]["runs"]) == 3


def test_it_is_where_the_records_are(tree, tmp_path_factory):
    counting(tree, "a")
    (tree / ".pexen").write_text("not a folder")
    state = str(tmp_path_factory.mktemp("state"))
    assert pexen("run", cwd=tree, XDG_STATE_HOME=state).returncode == 0
    assert len(list(Path(state).glob(f"pexen/*/{NAME}"))) == 1
    assert pexen("history", cwd=tree, XDG_STATE_HOME=state).stdout.startswith("a.sh  passed")


def test_without_a_run_there_is_no_history(tree):
    done = pexen("history", cwd=tree)
    assert done.returncode == 4
    assert "there is no run yet" in done.stderr


# -- telling --------------------------------------------------------------------------------------------------------


@pytest.fixture
def past(home):
    """Five runs of three tasks."""
    for number, (status, print_) in enumerate(
        [("passed", "f"), ("failed", "f"), ("passed", "f"), ("failed", "g"), ("error", "g")]
    ):
        record_run(
            home, f"r{number}",
            task("lib/steady"), started("lib/steady"), result("lib/steady", "passed", number + 0.5, 2.0),
            task("lib/sick", print_), started("lib/sick"), result("lib/sick", status, number + 0.5, 1.0 + number),
            task("other/\x1b[31mred\u202e"),
            at=float(number) * 86400 + 1.7e9,
        )  # fmt: skip
    return home


def test_each_task_has_a_line(past, call, tree):
    code, out, err = call("history", cwd=tree)
    assert code == 0
    assert "there was none" in err
    sick, steady = out.splitlines()
    assert sick.split() == [
        "lib/sick", "error", "2.00s", "±", "1.48s", "▃x█xx", "flaky", "2/3", "bad", "since", *sick.split()[10:12], "run", "r3",
    ]  # fmt: skip
    assert steady.split() == ["lib/steady", "passed", "2.00s", "±", "0.00s", "█████"]
    assert call("history", "lib/steady")[1].startswith("lib/steady\n  takes: 2.00s")


def test_one_task_has_a_line_for_each_run(past, call, tree):
    code, out, _ = call("history", "lib/sick", cwd=tree)
    assert code == 0
    lines = out.splitlines()
    assert lines[:3] == [
        "lib/sick",
        "  takes: 2.00s ± 1.48s",
        "  flaky: 2 of 3 times another verdict though nothing had changed",
    ]
    assert lines[3].startswith("  bad since: ")
    assert lines[3].endswith(", run r3")
    assert [line.split()[0] for line in lines[4:]] == ["r0", "r1", "r2", "r3", "r4"]
    assert lines[7].endswith("it had changed")


def test_a_path_is_understood_where_it_is_typed(past, call, tree):
    (tree / "lib").mkdir()
    assert call("history", "sick", cwd=tree / "lib")[1].startswith("lib/sick\n")
    assert len(call("history", ".", cwd=tree / "lib")[1].splitlines()) == 2
    assert call("history", "::lib/sick", cwd=tree)[1].startswith("lib/sick\n")
    code, out, err = call("history", "lib/sik", cwd=tree)
    assert (code, out) == (4, "")
    assert "did you mean 'lib/sick'?" in err


def test_for_programs(past, call, tree):
    told = json.loads(call("history", "--json", cwd=tree)[1])
    assert told["schema"] == 1
    sick, steady = told["tasks"]
    assert sick["path"] == "lib/sick"
    assert sick["flaky"] == {"changes": 2, "of": 3}
    assert sick["bad_since"]["run"] == "r3"
    assert [one["status"] for one in sick["runs"]] == ["passed", "failed", "passed", "failed", "error"]
    assert (steady["seconds"], steady["noise"], steady["bad_since"]) == (2.0, 0.0, None)


def test_the_runs(past, call, tree):
    lines = call("history", "--runs", cwd=tree)[1].splitlines()
    assert [line.split()[0] for line in lines] == ["r0", "r1", "r2", "r3", "r4"]
    assert lines[0].endswith("2 passed")
    assert lines[4].endswith("1 error, 1 passed")
    told = json.loads(call("history", "--runs", "--json", cwd=tree)[1])
    assert told["runs"][0]["name"] == "r4"
    assert told["runs"][0]["results"] == {"error": 1, "passed": 1}


def test_hostile_names_are_made_visible(home, call, tree):
    name = "a/\x1b[31mred\u202e\udcff"
    record_run(home, "r\x1b[2J", task(name, "f"), started(name), result(name, "failed"))
    for words in (["history"], ["history", "--runs"], ["history", "::" + name]):
        code, out, err = call(*words, cwd=tree)
        assert code == 0
        assert out.replace("\n", "").isprintable()
        assert err.replace("\n", "").isprintable()


def test_making_it_anew(past, call, tree):
    code, out, err = call("history", "--rebuild", cwd=tree)
    assert (code, out) == (0, "")
    assert "made from 5 runs" in err
    folder = past / "runs" / "r0"
    (folder / "journal.jsonl").unlink()
    folder.rmdir()
    code, out, err = call("history", "--rebuild", "--runs")
    assert len(out.splitlines()) == 4
    assert "1 of the runs it knew have been removed" in err


def test_colour_only_where_it_is_asked_for(past, call, tree):
    assert "\x1b[" not in call("history", cwd=tree)[1]
    assert "\x1b[" in call("history", "--color=always", cwd=tree)[1]
    assert "\x1b[" in call("history", "lib/sick", "--color=always", cwd=tree)[1]


# -- order ----------------------------------------------------------------------------------------------------------


def test_what_takes_longest_starts_first_the_second_time(home, tree):
    for name in "abcd":
        script(tree / f"{name}.sh")
    record_run(
        home, "r1",
        *(one for name, took in zip("abc", (0.1, 3.0, 9.0), strict=True)
          for one in (task(f"{name}.sh"), started(f"{name}.sh"), result(f"{name}.sh", duration=took))),
    )  # fmt: skip
    assert order(tree, "-j1") == ["c.sh", "b.sh", "d.sh", "a.sh"], "what is not known takes as long as the middle one"


def test_a_chain_counts_with_what_it_holds_up(home, tree):
    script(tree / "a.sh")
    script(tree / "b.sh")
    script(tree / "c.sh", meta='requires = ["/b.sh"]')
    simple_took(home, "r1", a=5.0, b=1.0, c=6.0)
    assert order(tree, "-j1") == ["b.sh", "c.sh", "a.sh"]


def simple_took(home, name, at=1.0, **took):
    told = []
    for path, seconds in took.items():
        told += [task(f"{path}.sh"), started(f"{path}.sh"), result(f"{path}.sh", "passed", at, seconds)]
    record_run(home, name, *told, at=at)


def test_an_estimate_of_the_task_itself_counts_more(home, tree):
    script(tree / "a.sh", meta="estimate = 100")
    script(tree / "b.sh")
    simple_took(home, "r1", a=1.0, b=50.0)
    assert order(tree, "-j1") == ["a.sh", "b.sh"]


# -- what failed ----------------------------------------------------------------------------------------------------


@pytest.fixture
def half(tree):
    """A tree in which b.sh and d.sh have failed, d.sh requires base.sh, and a.sh and c.sh have passed."""
    counting(tree, "base")
    counting(tree, "a")
    failing_once(tree, "b")
    counting(tree, "c")
    failing_once(tree, "d", meta='requires = ["/base.sh"]')
    assert pexen("run", cwd=tree).returncode == 1
    return tree


def test_only_what_failed_and_what_that_requires(half):
    done = pexen("run", "--lf", cwd=half)
    assert done.returncode == 1
    assert counts(half, "base", "a", "b", "c", "d") == [2, 1, 2, 1, 2]
    mended(half, "b")
    assert pexen("run", "--last-failed", "-q", cwd=half).returncode == 1
    assert pexen("run", "--lf", "-q", cwd=half).returncode == 1
    assert counts(half, "base", "a", "b", "c", "d") == [4, 1, 3, 1, 4]
    mended(half, "d")
    assert pexen("run", "--lf", cwd=half).returncode == 0
    done = pexen("run", "--lf", cwd=half)
    assert "note: nothing failed the last time: nothing is left out" in done.stderr
    assert counts(half, "base", "a", "b", "c", "d") == [6, 2, 4, 2, 6]


def test_what_failed_is_narrowed_down_by_what_is_selected(half):
    assert order(half, "--lf", "-k", "b.sh") == ["b.sh"]
    assert order(half, "--lf", "a.sh", "b.sh") == ["b.sh"]
    assert order(half, "--lf", "-k", "c.sh") == ["c.sh"], "nothing of it failed"


def test_no_requirements_where_none_are_wanted(half):
    assert sorted(order(half, "--lf", "--no-deps")) == ["b.sh", "d.sh"]


def test_what_failed_comes_first_with_what_it_requires(half):
    found = order(half, "--ff", "-j1")
    assert set(found[:3]) == {"b.sh", "base.sh", "d.sh"}
    assert sorted(found[3:]) == ["a.sh", "c.sh"]


def test_what_failed_comes_before_what_takes_longer(home, tree):
    for name in "abc":
        script(tree / f"{name}.sh")
    record_run(
        home, "r1",
        task("a.sh"), started("a.sh"), result("a.sh", "passed", duration=500.0),
        task("b.sh"), started("b.sh"), result("b.sh", "passed", duration=400.0),
        task("c.sh"), started("c.sh"), result("c.sh", "failed", duration=0.1),
    )  # fmt: skip
    assert order(tree, "-j1") == ["a.sh", "b.sh", "c.sh"]
    assert order(tree, "-j1", "--ff") == ["c.sh", "a.sh", "b.sh"]


def test_a_resumed_run_leaves_out_what_it_left_out_when_it_began(half):
    gate = half / "gate"
    os.mkfifo(gate)
    mended(half, "b")
    counting(half, "d", f"[ -e {half}/d.ok ] || cat {gate}", meta='requires = ["/base.sh"]')
    process = subprocess.Popen(
        [*PEXEN, "run", "--lf", "-j1"], cwd=half, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with gate.open("w"):  # returns when d.sh reads
        while read(half / ".pexen" / "latest").stories["b.sh"].status != "passed":
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 2
    mended(half, "d")
    done = pexen("resume", cwd=half)
    assert done.returncode == 0, done.stderr
    assert "taken up again" in done.stderr
    assert "removed" not in done.stderr, "b.sh, which has not failed the last time any more"
    assert counts(half, "a", "b", "c") == [1, 2, 1]


# -- step by step ---------------------------------------------------------------------------------------------------


def test_step_by_step(tree):
    for name in "ace":
        counting(tree, name)
    for name in "bd":
        failing_once(tree, name)
    names = "abcde"
    assert pexen("run", "--sw", "-j1", cwd=tree).returncode == 1
    assert counts(tree, *names) == [1, 1, 0, 0, 0], "it stops at the first failure"
    assert pexen("run", "--sw", "-j1", cwd=tree).returncode == 1
    assert counts(tree, *names) == [1, 2, 0, 0, 0], "and begins there"
    mended(tree, "b")
    done = pexen("run", "--sw", "-j1", cwd=tree)
    assert done.returncode == 1
    assert "note: stepwise: 1 task left out that passed before" in done.stderr
    assert counts(tree, "a", "b", "d") == [1, 3, 1]
    mended(tree, "d")
    assert pexen("run", "--stepwise", "-j1", cwd=tree).returncode == 0
    assert counts(tree, "a", "b", "c", "d", "e")[0] == 1
    assert all(counts(tree, *names))
    before = counts(tree, *names)
    assert pexen("run", "--sw", "-j1", cwd=tree).returncode == 0
    assert counts(tree, *names) == [one + 1 for one in before], "all was good: from the beginning"


def test_step_by_step_still_runs_what_is_required(tree):
    counting(tree, "base")
    failing_once(tree, "b", meta='requires = ["/base.sh"]')
    assert pexen("run", "--sw", "-j1", cwd=tree).returncode == 1
    assert pexen("run", "--sw", "-j1", cwd=tree).returncode == 1
    assert counts(tree, "base", "b") == [2, 2]


# -- the end that is to be expected ---------------------------------------------------------------------------------


def test_status_tells_when_a_run_will_be_over(home, tree):
    gated(tree, "a")
    script(tree / "b.sh")
    script(tree / "c.sh", meta='requires = ["/a.sh"]')
    simple_took(home, "r1", a=1000.0, b=1.0, c=500.0)
    process = subprocess.Popen([*PEXEN, "run", "-j2"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        is_up(tree, "a")
        told = json.loads(pexen("status", "--json", cwd=tree).stdout)["expected"]
        assert 1400 < told["seconds"] <= 1500
        assert told["unknown"] == 0
        assert "  expected end: in 2" in pexen("status", cwd=tree).stdout
        open_gate(tree, "a")
    finally:
        assert process.wait(LIMIT) == 0
    done = pexen("status", cwd=tree).stdout
    assert "expected end" not in done


def test_status_tells_services_that_are_up_from_what_runs_and_waits(home, tree):
    gated(tree, "a", meta='requires = ["db"]')
    script(tree / "b.sh", meta='requires = ["/a.sh", "db"]')
    script(tree / "db.sh", "exec sleep 1000", meta='service = true\nprovides = ["db"]')
    simple_took(home, "r1", a=1000.0, b=1.0, db=5000.0)
    process = subprocess.Popen([*PEXEN, "run", "-j2"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        is_up(tree, "a")
        told = json.loads(pexen("status", "--json", cwd=tree).stdout)
        assert {one["path"]: one["up"] for one in told["running"]} == {"db.sh": True, "a.sh": False}
        assert told["waiting"] == [{"path": "b.sh", "for": ["a.sh"]}]
        assert 900 < told["expected"]["seconds"] <= 1001
        text = pexen("status", cwd=tree).stdout
        assert "  up: db.sh, for " in text
        assert "  running: a.sh, for " in text
        open_gate(tree, "a")
    finally:
        assert process.wait(LIMIT) == 0


def test_status_tells_that_what_was_found_is_waited_for(tree):
    make_gate(tree, "a")
    (tree / "pexenfile.py").write_text(
        GATED + "@pexen.task(expand=True)\ndef find():\n    return [pexen.Task(wait, 'found', args=['a'])]\n"
        "@pexen.task(requires=find)\ndef total(): pass\n"
    )
    process = subprocess.Popen([*PEXEN, "run", "-j2"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        is_up(tree, "a")
        assert "  waiting: total, for found\n" in pexen("status", cwd=tree).stdout
        open_gate(tree, "a")
    finally:
        assert process.wait(LIMIT) == 0


def test_a_service_alone_is_not_run_and_that_is_said(tree):
    script(tree / "db.sh", meta="service = true")
    script(tree / "a.sh", meta='requires = ["/db.sh"]')
    done = pexen("run", "db.sh", cwd=tree)
    assert done.returncode == 0
    assert "note: db.sh is started for others only, as by: pexen run ./a.sh -j1" in done.stdout + done.stderr


def test_without_a_history_the_end_is_unknown(tree):
    gated(tree, "a")
    process = subprocess.Popen([*PEXEN, "run"], cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        is_up(tree, "a")
        assert "  expected end: unknown" in pexen("status", cwd=tree).stdout
        assert json.loads(pexen("status", "--json", cwd=tree).stdout)["expected"] is None
        open_gate(tree, "a")
    finally:
        assert process.wait(LIMIT) == 0


def test_it_is_imported_when_there_is_something_to_ask(tree):
    script(tree / "a.sh")
    code = "import sys; from pexen.cli.main import main; main(sys.argv[1:]); print('sqlite3' in sys.modules)"
    for words, expected in ((["list"], False), (["run", "--co"], False), (["history"], True)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tree, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == str(expected), words
        if words == ["run", "--co"]:
            assert pexen("run", "-q", cwd=tree).returncode == 0
