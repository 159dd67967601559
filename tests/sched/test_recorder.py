"""A run with a journal: nothing is told before it is safe, and what is safe is not run again."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import pexen
from pexen.errors import DefinitionError, StateError
from pexen.state import journal
from pexen.state.disk import Steps
from pexen.state.reader import read


def counting(folder, name="count"):
    """Return a function that notes each call in a file, which survives the run."""
    file = Path(folder, name)

    def count():
        with file.open("a") as opened:
            opened.write("x")

    return count


def calls(folder, name="count"):
    file = Path(folder, name)
    return len(file.read_text()) if file.exists() else 0


@pytest.fixture(params=["full", "process"])
def durability(request):
    return request.param


def again(tasks, folder, **options):
    """Run the tasks with the journal that is in the folder."""
    return pexen.run(tasks, journal=folder, **options)


def test_what_has_finished_is_not_run_again(tmp_path, durability):
    task = pexen.Task(counting(tmp_path), "it")
    first = again([task], tmp_path, durability=durability)["it"]
    second = again([task], tmp_path, durability=durability)["it"]
    assert (first.replayed, second.replayed) == (False, True)
    assert second.status == "passed"
    assert (second.start, second.duration) == (first.start, first.duration)
    assert calls(tmp_path) == 1


def test_values_shared_reports_and_errors_come_back(tmp_path):
    def provider(shared):
        shared["port"] = 80
        pexen.current().report("part", "warn", "slow", data={"n": 1})
        return {"list": [1, "two", None]}

    def bad():
        raise ValueError("no")

    tasks = [pexen.Task(provider, "provider"), pexen.Task(bad, "bad")]
    again(tasks, tmp_path)
    seen = []
    user = pexen.Task(lambda provider, shared: seen.append((provider, shared["port"])), "user", requires="/provider")
    results = again([*tasks, user], tmp_path)
    assert seen == [({"list": [1, "two", None]}, 80)]
    assert results["provider"].status == "warned"
    assert [(one.name, one.status, one.message, one.data) for one in results["provider"].reports] == [
        ("part", "warn", "slow", {"n": 1})
    ]
    assert str(results["bad"].error) == "ValueError: no"
    assert results["bad"].attempts[0].status == "error"


def test_who_fell_falls_again_without_another_record(tmp_path):
    def bad():
        raise ValueError

    tasks = [pexen.Task(bad, "bad"), pexen.Task(print, "needs", requires="/bad")]
    again(tasks, tmp_path)
    size = read(tmp_path).last
    results = again(tasks, tmp_path)
    assert results["needs"].reason == "bad ended in an error"
    assert read(tmp_path).last == size + 2, "but for the first and the last record of the second run"


def test_a_changed_task_runs_again_and_the_change_is_told(tmp_path):
    old, same, gone = (pexen.Task(counting(tmp_path, name), name) for name in ("old", "same", "gone"))
    again([old, same, gone], tmp_path)
    sched = pexen.Sched(
        [old.replace(args=(), timeout="5m"), same, pexen.Task(counting(tmp_path, "new"), "new")], journal=tmp_path
    )
    assert all(one.status == "passed" for one in sched.run())
    changes = sched.changes
    assert (changes.finished, changes.new, changes.changed, changes.removed) == (1, ("new",), ("old",), ("gone",))
    assert [calls(tmp_path, name) for name in ("old", "same", "gone", "new")] == [2, 1, 1, 1]
    record = read(tmp_path)
    assert record.duplicates == 0
    assert record.stories["gone"].is_finished, "removed ones stay in the record"


def test_the_function_itself_and_the_executable_count(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho x >> count\n")
    script.chmod(0o755)
    command = pexen.command([str(script)], "script", cwd=tmp_path)

    def one():
        return 1

    def two():
        return 2

    assert again([command, pexen.Task(one, "f")], tmp_path)["f"].value == 1
    script.write_text("#!/bin/sh\n\necho x >> count\n")
    assert again([command, pexen.Task(two, "f")], tmp_path)["f"].value == 2
    assert (tmp_path / "count").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("value", "meta", "runs"), [(5, {}, 1), ((1, 2), {}, 2), (5, {"volatile": True}, 2), (None, {"volatile": True}, 2)]
)
def test_a_provider_runs_again_if_its_value_or_effect_is_gone_and_needed(tmp_path, value, meta, runs):
    note = counting(tmp_path)

    def provider():
        note()
        return value

    def fails(provider):
        raise OSError

    first = pexen.Task(provider, "provider", **meta)
    again([first], tmp_path)
    assert again([first], tmp_path)["provider"].status == "passed"
    assert calls(tmp_path) == 1, "nobody needed it"
    user = pexen.Task(lambda provider: provider, "user", requires="/provider")
    assert again([first, user], tmp_path)["user"].value == value
    assert calls(tmp_path) == runs


def test_attempts_go_on_where_they_were(tmp_path):
    """A task that was tried once when the run was killed has one try less."""
    code = f"""
import os, sys, pexen
def fails():
    with open({str(tmp_path / "count")!r}, "a") as file:
        file.write("x")
    if pexen.current().attempt == 2 and len(sys.argv) > 1:
        while '"kind":"ended"' not in open({str(tmp_path / "journal.jsonl")!r}).read():
            os.sched_yield()  # the record is on its way
        os._exit(9)
    raise OSError(pexen.current().attempt)
result = pexen.run([pexen.Task(fails, "it", retries=2)], journal={str(tmp_path)!r})["it"]
print([one.number for one in result.attempts])
"""
    done = _python(code, "die")
    assert done.returncode == 9
    assert _python(code).stdout == "[1, 2, 3]\n"
    assert calls(tmp_path) == 4, "the one that was running when the run died is not charged"


def test_once_is_never_twice(tmp_path):
    code = f"""
import os, sys, pexen
def mails():
    with open({str(tmp_path / "count")!r}, "a") as file:
        file.write("x")
    os._exit(9)
result = pexen.run([pexen.Task(mails, "mails", once=True), pexen.Task(print, "other", after="/mails")],
                   journal={str(tmp_path)!r})["mails"]
print(result.status, result.reason)
"""
    assert _python(code).returncode == 9
    for _ in range(2):
        assert _python(code).stdout.strip().endswith("once=True: it is not run again")
    assert calls(tmp_path) == 1


def test_what_was_added_on_the_fly_is_known_again(tmp_path):
    note = counting(tmp_path)
    for _ in range(2):
        sched = pexen.Sched([pexen.Task(print, "first")], journal=tmp_path)
        for result in sched.run():
            if result.path == "first":
                sched.add([pexen.Task(note, "added")])
        assert sched.results["added"].status == "passed"
    assert calls(tmp_path) == 1
    assert read(tmp_path).stories["added"].is_added


def test_cancelled_is_not_finished(tmp_path):
    sched = pexen.Sched([pexen.Task(counting(tmp_path), "it"), pexen.Task(print, "other")], journal=tmp_path)
    sched.cancel("it")
    assert {one.path: str(one.status) for one in sched.run()} == {"it": "cancelled", "other": "passed"}
    results = again([pexen.Task(counting(tmp_path), "it"), pexen.Task(print, "other")], tmp_path)
    assert (results["it"].status, results["other"].replayed) == ("passed", True)


def test_names_that_repeat_need_paths(tmp_path):
    with pytest.raises(DefinitionError, match="two tasks are named 'print'") as caught:
        pexen.Sched([print, print], journal=tmp_path)
    assert "path=" in caught.value.hint


def test_a_second_runner_is_refused_and_told_who_has_it(tmp_path):
    refused = []

    def second():
        with pytest.raises(StateError) as caught:
            pexen.run([pexen.Task(print, "x")], journal=tmp_path)
        refused.append(str(caught.value))

    pexen.run([pexen.Task(second, "it")], journal=tmp_path).check()
    assert f"process {os.getpid()}" in refused[0]


class Failing(Steps):
    """A disk on which the n-th sync fails."""

    left = 0

    def fdatasync(self, fd):
        Failing.left -= 1
        if Failing.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().fdatasync(fd)


@pytest.mark.parametrize("many", [2, 3, 5, 8])
def test_a_full_disk_stops_the_run_and_nothing_is_told_that_is_not_safe(tmp_path, monkeypatch, many):
    monkeypatch.setattr(journal, "Appender", _with_steps(Failing()))
    Failing.left = many
    tasks = [pexen.Task(counting(tmp_path, str(n)), f"t{n}", after=f"/t{n - 1}" if n else None) for n in range(20)]
    sched = pexen.Sched(tasks, journal=tmp_path)
    told = []
    with pytest.raises(StateError, match="No space left"):
        told.extend(result.path for result in sched.run())
    monkeypatch.undo()
    assert len(told) < 20
    safe = {path for path, story in read(tmp_path).stories.items() if story.is_finished}
    assert set(told) <= safe
    assert sum(calls(tmp_path, str(n)) for n in range(20)) <= len(told) + 1, (
        "no dependant of what is not safe has started"
    )
    results = again(tasks, tmp_path)
    assert results.ok
    assert all(results[path].replayed for path in told)
    assert [calls(tmp_path, str(n)) for n in range(20)].count(2) <= 1


@pytest.mark.parametrize("many", range(1, 8))
def test_what_waits_for_the_record_of_its_start_does_not_wait_for_ever(tmp_path, monkeypatch, many):
    monkeypatch.setattr(journal, "Appender", _with_steps(Failing()))
    Failing.left = many
    tasks = [
        pexen.Task(counting(tmp_path, str(n)), f"t{n}", once=True, after=f"/t{n - 1}" if n else None) for n in range(5)
    ]
    with pytest.raises(StateError, match="No space left"):
        pexen.Sched(tasks, journal=tmp_path).wait()
    monkeypatch.undo()
    started = {path for path, story in read(tmp_path).stories.items() if story.attempts}
    assert {f"t{n}" for n in range(5) if calls(tmp_path, str(n))} <= started, "no start without its record"


def _with_steps(steps):
    made = journal.Appender

    def appender(folder, **options):
        return made(folder, **{**options, "steps": steps})

    return appender


def test_damage_is_named_and_nothing_runs(tmp_path):
    again([pexen.Task(counting(tmp_path), "it")], tmp_path)
    file = tmp_path / "journal.jsonl"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StateError, match="damaged"):
        again([pexen.Task(counting(tmp_path), "it")], tmp_path)
    assert calls(tmp_path) == 1


def test_each_line_is_json_and_says_who_ran_it(tmp_path):
    again([pexen.Task(print, "it")], tmp_path, about={"argv": ["prog"]})
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in lines] == ["run", "task", "started", "result", "end"]
    assert (lines[0]["pid"], lines[0]["argv"]) == (os.getpid(), ["prog"])
    assert (lines[-1]["how"], lines[-1]["counts"]) == ("done", {"passed": 1})


def _python(code, *words):
    import subprocess
    import sys

    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)
