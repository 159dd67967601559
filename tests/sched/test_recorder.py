"""A run with a journal: nothing is told before it is safe, and what is safe is not run again."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

import pexen
from pexen.errors import DefinitionError, StateError
from pexen.state import journal
from pexen.state.disk import Steps
from pexen.state.reader import read
from pexen.state.values import Unstorable


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


def kinds(folder, start=0):
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[start:]]


class Noting(pexen.ThreadPool):
    """Notes the ids of attempts, and does something with each before it is handed on."""

    def __init__(self, does=lambda attempt: None, **rest):
        super().__init__(2, **rest)
        self.ids = []
        self.does = does

    def submit(self, attempt):
        self.ids.append(attempt.id)
        self.does(attempt)
        super().submit(attempt)


def test_many_that_are_alike_take_few_records_and_lose_nothing(tmp_path, durability):
    tasks = [pexen.Task(_nothing, f"t{n}") for n in range(50)]
    tasks += [pexen.Task(len, f"t{n}", args=["x"]) for n in range(50, 60)]
    first = again(tasks, tmp_path, durability=durability, pool=pexen.ThreadPool(2))
    found = kinds(tmp_path)
    assert [one["kind"] for one in found[:2]] == ["run", "task"]
    assert found[1]["paths"] == [f"t{n}" for n in range(50)]
    told = [path for one in found for path in _results_in(one)]
    assert sorted(told) == sorted(first)
    record = read(tmp_path)
    assert all(story.attempts == 1 for story in record.stories.values())
    assert [one.path for one in record.results()] == told == list(first)
    second = again(tasks, tmp_path, durability=durability)
    assert all(one.replayed for one in second.values())
    for path, one in first.items():
        assert (second[path].value, second[path].start, second[path].duration) == (one.value, one.start, one.duration)
        assert second[path].attempts == one.attempts


def _nothing():
    """Be a task."""


def _results_in(record):
    if record["kind"] == "results":
        return [row[0] for row in record["passed"]]
    return [record["path"]] if record["kind"] == "result" else []


def test_with_full_no_result_is_recorded_before_its_start(tmp_path):
    again([pexen.Task(_nothing, f"t{n}") for n in range(300)], tmp_path, durability="full")
    started = set()
    for one in kinds(tmp_path):
        if one["kind"] in {"starts", "started"}:
            started |= {row[0] for row in one["attempts"]} if "attempts" in one else {one["path"]}
        assert set(_results_in(one)) <= started
    assert len(started) == 300


def test_with_process_a_start_is_left_out_when_the_result_is_there(tmp_path):
    again(
        [pexen.Task(_nothing, f"t{n}") for n in range(3000)], tmp_path, durability="process", pool=pexen.ThreadPool(2)
    )
    rows = sum(len(one["attempts"]) for one in kinds(tmp_path) if one["kind"] == "starts")
    assert rows < 1500
    assert read(tmp_path).last_id == 3000


def test_ids_never_repeat_whatever_was_left_out(tmp_path, durability):
    seen = set()
    for life in range(4):
        pool = Noting()
        tasks = [pexen.Task(_nothing, f"{life}/{n}") for n in range(40)]
        if life == 2:
            tasks.append(pexen.Task(lambda: pexen.current().report("r"), "odd"))
        assert again(tasks, tmp_path, durability=durability, pool=pool).ok
        assert len(pool.ids) == len(tasks)
        assert seen.isdisjoint(pool.ids)
        seen.update(pool.ids)


def test_an_odd_end_has_its_start_before_it_and_plain_ones_before_that(tmp_path, durability):
    def odd():
        for n in range(3):
            pexen.current().report(f"r{n}")

    tasks = [pexen.Task(_nothing, f"t{n}") for n in range(20)] + [pexen.Task(odd, "odd")]
    again(tasks, tmp_path, durability=durability, pool=pexen.ThreadPool(1))
    found = kinds(tmp_path)
    first = next(n for n, one in enumerate(found) if one["kind"] == "report")
    assert any(one.get("path") == "odd" or ["odd", 1] in [row[:2] for row in one.get("attempts", ())]
               for one in found[:first] if one["kind"].startswith("start"))  # fmt: skip
    assert read(tmp_path).stories["odd"].attempts == 1
    assert read(tmp_path).unfinished == []


@pytest.mark.parametrize("value", [None, 5, True, "text", 1.5, [1], (1,), "x" * 10_000, 1 << 70])
def test_values_are_stored_as_ever(tmp_path, durability, value):
    tasks = [pexen.Task(lambda: value, f"t{n}") for n in range(5)]
    again(tasks, tmp_path, durability=durability)
    for one in again(tasks, tmp_path, durability=durability).values():
        assert one.replayed
        assert isinstance(one.value, Unstorable) if value == (1,) else one.value == value


def test_a_journal_cut_anywhere_is_taken_up(tmp_path):
    tasks = [pexen.Task(_nothing, f"t{n}") for n in range(30)]
    whole = tmp_path / "whole"
    again(tasks, whole, durability="process", pool=pexen.ThreadPool(2))
    data = (whole / "journal.jsonl").read_bytes()
    for size in range(0, len(data), 97):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(data[:size])
        safe = {path for path, story in read(folder).stories.items() if story.is_finished}
        results = again(tasks, folder, durability="process")
        assert results.ok
        assert {path for path, one in results.items() if one.replayed} == safe
        record = read(folder)
        assert (len(record.counts), record.counts["passed"], record.duplicates) == (1, 30, 0)


@pytest.mark.parametrize("many", range(2, 9))
def test_a_full_disk_and_many_that_pass_at_once(tmp_path, monkeypatch, durability, many):
    class Full(Steps):
        left = many

        def write(self, fd, data):
            Full.left -= 1
            if Full.left < 0:
                os.write(fd, bytes(data)[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(fd, data)

    monkeypatch.setattr(journal, "Appender", _with_steps(Full()))
    tasks = [pexen.Task(_nothing, f"t{n}") for n in range(4000)]
    sched = pexen.Sched(tasks, journal=tmp_path, durability=durability, backlog=100)
    told = []
    with pytest.raises(StateError, match="No space left"):
        told.extend(result.path for result in sched.run())
    monkeypatch.undo()
    record = read(tmp_path)
    safe = {path for path, story in record.stories.items() if story.is_finished}
    assert set(told) <= safe
    assert not record._scanner.torn
    results = again(tasks, tmp_path, durability=durability)
    assert results.ok
    assert {path for path, one in results.items() if one.replayed} == safe


def test_what_waits_for_nobody_is_told_in_a_while(tmp_path, durability):
    """All workers are busy for long: the journal's own thread sees to what has passed meanwhile."""
    go_on = threading.Event()
    tasks = [pexen.Task(_nothing, f"t{n}") for n in range(5)]
    tasks += [pexen.Task(lambda: go_on.wait(50.0), f"long/{n}", priority=1) for n in range(2)]
    told = []
    sched = pexen.Sched(tasks, journal=tmp_path, durability=durability, pool=pexen.ThreadPool(2))
    for result in sched.run():
        told.append(result.path)
        if len(told) == 5:
            go_on.set()
    assert sorted(told[:5]) == [f"t{n}" for n in range(5)]


def test_what_passes_while_the_journal_sleeps_wakes_it(tmp_path, durability):
    go_on = threading.Event()

    def first():
        while sched._recorder.journal.wanted != 1:
            os.sched_yield()

    tasks = [pexen.Task(first, "first"), *(pexen.Task(lambda: go_on.wait(50.0), f"long/{n}") for n in range(2))]
    told = []
    sched = pexen.Sched(tasks, journal=tmp_path, durability=durability, pool=pexen.ThreadPool(2))
    for result in sched.run():
        told.append(result.path)
        go_on.set()
    assert told[0] == "first"


def test_a_start_is_on_record_while_it_runs(tmp_path, durability):
    seen = []

    def wait():
        deadline = time.monotonic() + 50.0
        while not seen and time.monotonic() < deadline:
            seen.extend(one.path for one in read(tmp_path).unfinished)

    again([pexen.Task(wait, "it")], tmp_path, durability=durability)
    assert seen == ["it"]


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


def test_a_run_whose_journal_was_abandoned_ends(tmp_path, durability):
    tasks = [pexen.Task(_nothing if n != 30 else journal.abandon, f"t{n}") for n in range(100)]
    with pytest.raises(StateError, match="abandoned"):
        again(tasks, tmp_path, durability=durability, pool=pexen.ThreadPool(2))
    assert "t30" not in read(tmp_path).counts
    assert again([pexen.Task(_nothing, f"t{n}") for n in range(100)], tmp_path).ok


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


def test_a_failure_whose_dependants_may_run_says_so_to_a_run_that_is_taken_up(tmp_path):
    def bad():
        raise pexen.TaskFail("only this", deps_ok=True)

    user = pexen.Task(counting(tmp_path), "user", requires="/bad")
    tasks = [pexen.Task(bad, "bad"), user]
    first = again(tasks, tmp_path)
    assert (first["bad"].status, first["user"].status) == ("failed", "passed")
    more = pexen.Task(counting(tmp_path), "more", requires="/bad")
    second = again([*tasks, more], tmp_path)
    assert second["bad"].replayed
    assert second["more"].status == "passed"
    assert calls(tmp_path) == 2


@pytest.mark.parametrize("words", [["sh"], ["/bin/sh"], ["sh", "-e"]])
def test_the_script_of_an_interpreter_counts(tmp_path, words):
    script = tmp_path / "script"
    script.write_text("echo x >> count\n")
    command = pexen.command([*words, "script", "count"], "it", cwd=tmp_path)
    again([command], tmp_path)
    again([command], tmp_path)
    assert calls(tmp_path) == 2, "with its newline; what else it is given may be what it writes"
    script.write_text("echo y >> count\n")
    again([command], tmp_path)
    assert (tmp_path / "count").read_text() == "x\ny\n"


def test_the_plan_says_what_a_task_comes_after(tmp_path):
    again([pexen.Task(str, "a"), pexen.Task(str, "b", after="/a")], tmp_path)
    assert read(tmp_path).stories["b"].plan["after"] == ["a"]


# -- what is taken over ------------------------------------------------------------------------------------------------


def test_what_is_finished_needs_neither_lock_nor_worker(tmp_path):
    finished = [pexen.Task(str, f"finished/{n}", claims="lock") for n in range(5)]
    again(finished, tmp_path)
    freed, told = threading.Event(), []
    hog = pexen.Task(lambda: freed.wait(50.0), "hog", claims="lock", priority=-1)
    sched = pexen.Sched([hog, *finished], journal=tmp_path, pool=pexen.ThreadPool(1))
    for result in sched.run():
        told.append(result.path)
        if len(told) == len(finished):
            freed.set()
    assert told[-1] == "hog"
    assert sched.results["hog"].value is True


def test_a_run_that_is_stopped_early_still_has_what_was_finished(tmp_path):
    finished = [pexen.Task(str, f"finished/{n}") for n in range(50)]
    again(finished, tmp_path)

    def bad():
        raise AssertionError

    tasks = [pexen.Task(bad, "bad", priority=-1), *finished, pexen.Task(str, "after", after="/bad")]
    results = again(tasks, tmp_path, maxfail=1, pool=pexen.ThreadPool(1))
    assert {results[one.name].status for one in finished} == {"passed"}
    assert all(results[one.name].replayed for one in finished)


def test_who_was_skipped_is_replayed_as_such(tmp_path):
    def bad():
        raise ValueError

    tasks = [
        pexen.Task(bad, "bad"),
        pexen.Task(str, "needs", requires="/bad"),
        pexen.Task(str, "more", requires="/needs"),
    ]
    first = again(tasks, tmp_path)
    second = again(tasks, tmp_path)
    assert all(one.replayed for one in second.values())
    assert {path: (one.status, one.reason) for path, one in first.items()} == {
        path: (one.status, one.reason) for path, one in second.items()
    }


def test_a_finished_choice_stays_chosen(tmp_path):
    providers = [
        pexen.Task(lambda: "a", "a", provides="x", preference=1, lazy=True),
        pexen.Task(str, "b", provides="x", lazy=True),
    ]
    user = pexen.Task(lambda x: x, "user", requires={"x": pexen.any_of("x")})
    assert again([*providers, user], tmp_path)["user"].value == "a"
    more = pexen.Task(lambda x: x + "!", "more", requires={"x": pexen.any_of("x")})
    assert again([*providers, user, more], tmp_path)["more"].value == "a!"


def test_a_value_that_is_needed_by_what_will_be_added_again_is_made_again(tmp_path):
    go, entered = threading.Event(), []

    def provider():
        entered.append(1)
        return (1, 2)

    def life(*, stops):
        sched = pexen.Sched(
            [pexen.Task(provider, "provider"), pexen.Task(lambda: go.wait(50.0), "slow")], journal=tmp_path
        )
        for result in sched.run():
            if result.path == "provider":
                sched.add([pexen.Task(lambda provider: provider, "user", requires=["/provider", "/slow"])])
                if stops:
                    sched.cancel()
                go.set()
        return sched.results["user"]

    assert life(stops=True).status == "cancelled"
    assert life(stops=False).value == (1, 2)
    assert len(entered) == 2


@pytest.mark.parametrize("stopped", [False, True])
def test_once_is_one_attempt_whatever_becomes_of_it(tmp_path, stopped):
    started = threading.Event()

    def bad():
        started.set()
        while stopped and not pexen.current().cancelled:
            os.sched_yield()
        raise ValueError

    task = pexen.Task(bad, "it", once=True, retries=2)
    sched = pexen.Sched([task], journal=tmp_path)
    run = sched.start()
    assert started.wait(50.0)
    if stopped:
        run.stop("interrupted")
    run.wait(50.0)
    assert len(sched.results["it"].attempts) == 1
    started.clear()
    result = again([task], tmp_path)["it"]
    assert result.replayed
    assert not started.is_set()


def test_the_journal_is_free_when_the_loop_over_a_background_run_has_ended(tmp_path):
    for number in range(20):
        sched = pexen.Sched([pexen.Task(str, f"t{number}")], journal=tmp_path)
        assert [one.status for one in sched.start() if not one.replayed] == ["passed"]


def test_a_journal_that_cannot_be_taken_up_is_free_again(tmp_path):
    again([pexen.Task(str, "it")], tmp_path)
    with journal.Journal(tmp_path) as made:
        made.append({"kind": "again", "path": "it", "why": "x"})
        made.append({"kind": "result", "path": "it", "status": "wonderful"})
    for _ in range(3):
        with pytest.raises(StateError, match="'wonderful' is not a valid Status"):
            again([pexen.Task(str, "it")], tmp_path)


def test_that_a_run_was_told_to_stop_is_on_record(tmp_path):
    go = threading.Event()
    sched = pexen.Sched(
        [pexen.Task(lambda: go.wait(50.0), "it"), pexen.Task(str, "after", after="/it")], journal=tmp_path
    )
    run = sched.start()
    run.drain("enough of it")
    go.set()
    run.wait(50.0)
    record = read(tmp_path)
    assert record.sessions[-1].stopped == "enough of it"
    assert record.end["how"] == "stopped"
