"""Reading back: one result a task, what was running, how it ended; and nothing that is damaged is taken for missing."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pexen
from pexen.errors import StateError
from pexen.model.result import Details, Ended, Failure, Output, Report, Result, Status
from pexen.model.task import Task
from pexen.state import codec, plan, records
from pexen.state.journal import Journal
from pexen.state.reader import Record, Start, read
from pexen.state.values import Unstorable
from tests.state.hand import attempt, lines, run, written

pytestmark = pytest.mark.usefixtures("coding")


def task(path: str = "a", fingerprint: str = "f1") -> dict:
    return plan.task(Task(print, path), fingerprint)


def started(path: str = "a", number: int = 1, id: int = 1) -> dict:  # noqa: A002 - the attempt's
    return records.started(attempt(path, number, id), at=2.0)


def ended(path: str = "a", number: int = 1, reason: str = "") -> dict:
    return records.ended(path, Ended(number, Status.FAILED, 2.0, 1.0, reason=reason))


def result(path: str = "a", status: Status = Status.PASSED, value=None, start: float = 2.0) -> dict:
    return records.result(Result(Task(print, path), status, value, start, 1.0))[0]


def report(path: str = "a", number: int = 1, name: str = "r") -> dict:
    return records.report(attempt(path, number), Report(name))


# -- the story of a run -----------------------------------------------------------------------------------------------


def test_a_whole_run(tmp_path: Path) -> None:
    about = Details(Failure("E", "m"), "why", output=Output(f"{tmp_path}/output/1.out", 3))
    bad = records.result(Result(Task(print, "b/x"), Status.ERROR, None, 5.0, 1.0, about), str(tmp_path))[0]
    written(
        tmp_path, run("run-7"), task("a", "f1"), task("b/x", "f2"), started(), report(), ended(reason="again"),
        started(number=2, id=2), report(number=2, name="s"), result("a", value={"n": 1}), started("b/x", id=3), bad,
        records.end("done", {"passed": 1, "error": 1}, at=9.0),
    )  # fmt: skip
    record = read(tmp_path)
    assert record.header["run"] == "run-7"
    assert (record.last, record.last_id, record.notices, record.unfinished) == (12, 3, [], [])
    assert record.end == {"kind": "end", "how": "done", "counts": {"passed": 1, "error": 1}, "at": 9.0}
    assert record.counts == {"passed": 1, "error": 1}
    assert {path: story.fingerprint for path, story in record.stories.items()} == {"a": "f1", "b/x": "f2"}
    first, second = record.results()
    assert (first.path, first.value, first.status) == ("a", {"n": 1}, "passed")
    (earlier,) = first.details.earlier
    assert (earlier.number, earlier.reason, [one.name for one in earlier.reports]) == (1, "again", ["r"])
    assert (str(second.error), second.reason, second.details.output.path) == ("E: m", "why", f"{tmp_path}/output/1.out")
    assert record.result("nowhere") is None


def test_the_first_result_counts(tmp_path: Path) -> None:
    written(tmp_path, run(), task(), result(status=Status.PASSED), result(status=Status.FAILED))
    record = read(tmp_path)
    assert [one.status for one in record.results()] == ["passed"]
    assert record.duplicates == 1
    assert record.counts == {"passed": 1}


def test_a_result_stands_until_one_that_was_asked_for_again(tmp_path: Path) -> None:
    history = [
        run(), task(), started(), report(name="old"), ended(), started(number=2, id=2), result(value=1), run(),
        plan.again("a", "changed"), task(fingerprint="f2"), started(number=1, id=3), report(name="new"),
    ]  # fmt: skip
    written(tmp_path, *history)
    story = read(tmp_path).stories["a"]
    assert (story.status, story.again, story.is_finished, story.fingerprint) == ("passed", "changed", False, "f2")
    found = read(tmp_path).result("a")
    assert (found.value, len(found.attempts), found.details.earlier[0].reports[0].name) == (1, 2, "old")
    written(tmp_path, *history, run(), plan.again("a", "changed"), started(number=2, id=4), result(value=2))
    record = read(tmp_path)
    assert record.stories["a"].is_finished
    found = record.result("a")
    assert (found.value, len(found.attempts), [one.name for one in found.reports]) == (2, 1, ["new"])
    assert record.duplicates == 0


def test_again_without_a_result_says_nothing(tmp_path: Path) -> None:
    written(tmp_path, run(), task(), plan.again("a", "changed"), result())
    assert read(tmp_path).stories["a"].is_finished


def test_what_was_running_when_the_writer_died(tmp_path: Path) -> None:
    written(
        tmp_path, run(), started("a", 1, 1), started("b", 1, 2), started("c", 1, 3), started("d", 2, 4), result("a"),
        records.returned(attempt("b", 1, 2)), ended("c"),
    )  # fmt: skip
    record = read(tmp_path)
    assert record.unfinished == [Start("d", 2, 4, 2.0)]
    assert record.end is None
    assert {path: story.attempts for path, story in record.stories.items()} == {"a": 1, "b": 0, "c": 1, "d": 1}


# -- many in one record -----------------------------------------------------------------------------------------------


def passed(*paths: str, elided: int = 0, value=None) -> dict:
    return records.passed([Result(Task(print, path), Status.PASSED, value, 2.0, 1.0) for path in paths], elided)


def tasks(*paths: str) -> list[dict]:
    return list(plan.together(task(paths[0]), list(paths), 100))


def test_records_of_many_tasks_say_what_one_of_each_would(tmp_path: Path) -> None:
    attempts = [attempt("b", 1, 1), attempt("a", 1, 2), attempt("c", 1, 3)]
    together, single = [run(), *tasks("a", "b", "c")], [run(), task("a"), task("b"), task("c")]
    together += [records.starts(attempts, 0.0), passed("b", "a", value=5), passed("c")]
    single += [records.starts([one], 0.0) for one in attempts] + [
        passed("b", value=5),
        passed("a", value=5),
        passed("c"),
    ]
    assert [one["kind"] for one in together] == ["run", "task", "starts", "results", "result"]
    assert {one["kind"] for one in single} == {"run", "task", "started", "result"}
    told = []
    for history in (together, single):
        written(tmp_path, *history)
        record = read(tmp_path)
        assert (record.last_id, record.unfinished, record.counts) == (3, [], {"passed": 3})
        found = [(one.path, one.status, one.value, one.start, one.duration, one.attempts) for one in record.results()]
        stories = [(s.path, s.fingerprint, s.attempts, s.plan, s.result) for s in record.stories.values()]
        told.append((found, stories))
    assert told[0] == told[1]
    assert [one[0] for one in told[0][0]] == ["b", "a", "c"]
    assert plan.task_from(record.stories["b"].plan).path == "b"


def test_a_start_that_was_left_out_counts_once(tmp_path: Path) -> None:
    written(
        tmp_path, run(), *tasks("a", "b", "c"), started("a", 1, 1), passed("a", "b", elided=7), passed("c", elided=9)
    )
    record = read(tmp_path)
    assert record.last_id == 9
    assert {path: story.attempts for path, story in record.stories.items()} == {"a": 1, "b": 1, "c": 1}


def test_what_was_added_together_was_added(tmp_path: Path) -> None:
    one = plan.added(Task(print, "a"), "f1", by="x")
    written(tmp_path, run(), *plan.together(one, ["a", "b"], 100))
    assert [(s.path, s.is_added, s.by) for s in read(tmp_path).stories.values()] == [("a", True, "x"), ("b", True, "x")]


def test_a_result_among_many_takes_the_place_of_one_that_was_asked_for_again(tmp_path: Path) -> None:
    history = [run(), *tasks("a", "b"), report("a"), ended("a"), started("a", 2, 2), result("a", value=1)]
    written(tmp_path, *history, run(), plan.again("a", "changed"), passed("a", "b", value=2))
    record = read(tmp_path)
    found = record.result("a")
    assert (found.value, len(found.attempts), found.reports, record.duplicates) == (2, 1, (), 0)
    written(tmp_path, *history, passed("a", "b", value=2))
    record = read(tmp_path)
    assert (record.result("a").value, record.result("b").value, record.duplicates) == (1, 2, 1)


def cut_everywhere(folder: Path, *history: dict[str, Any]) -> Iterator[tuple[Record, int]]:
    """Yield what is read of a journal that is cut at each byte, and how many whole lines that is."""
    made = lines(*history)
    whole, ends = b"".join(made), [sum(map(len, made[:count])) for count in range(len(made) + 1)]
    for size in range(len(whole) + 1):
        (folder / "journal.jsonl").write_bytes(whole[:size])
        record = read(folder)
        count = sum(end <= size for end in ends) - 1
        assert record.last == count
        assert bool(record.notices) == (size not in ends or size == 0)
        yield record, count


def test_records_of_many_cut_at_every_byte(tmp_path: Path) -> None:
    """None of a torn line counts: none of it was told."""
    history = [
        run(), *tasks("a", "b", "c", "d"), records.starts([attempt("c", 1, 1), attempt("d", 1, 2)], 0.0),
        passed("a", "c", value="x", elided=4), passed("b", "d"), records.end("done", {"passed": 4}, at=9.0),
    ]  # fmt: skip
    for record, count in cut_everywhere(tmp_path, *history):
        assert [one.path for one in record.results()] == ["a", "c", "b", "d"][: max(0, count - 3) * 2]
        assert [one.path for one in record.unfinished] == {3: ["c", "d"], 4: ["d"]}.get(count, [])
        assert record.last_id == {0: 0, 1: 0, 2: 0, 3: 2}.get(count, 4)


def test_a_process_is_known_by_more_than_its_number(tmp_path: Path) -> None:
    written(tmp_path, run(), records.started(attempt(), at=2.0, process=(77, 1234)))
    assert read(tmp_path).unfinished == [Start("a", 1, 1, 2.0, 77, 1234)]


def test_each_session_tells_what_it_left(tmp_path: Path) -> None:
    written(
        tmp_path, run(runner=(1, 1, "boot-1")), started("a", 1, 1), started("b", 1, 2), run(runner=(2, 2, "boot-1")),
        started("a", 2, 3), records.stopped("Ctrl-C", at=3.0), result("a"), records.end("interrupted", {}, at=4.0),
        run(runner=(3, 3, "boot-2")), started("b", 2, 4),
    )  # fmt: skip
    record = read(tmp_path)
    assert [sorted(one.left) for one in record.sessions] == [["a", "b"], [], ["b"]]
    assert [one.run["boot"] for one in record.sessions] == ["boot-1", "boot-1", "boot-2"]
    assert [one.end is not None for one in record.sessions] == [False, True, False]
    assert [one.stopped for one in record.sessions] == ["", "Ctrl-C", ""]
    assert record.end is None
    assert record.header["boot"] == "boot-1"


def test_a_reboot_ends_its_attempt_and_counts_when_the_machine_has_been_restarted(tmp_path: Path) -> None:
    wanted = records.reboot(attempt("a"), by="task", at=2.0, boot="b", shared={"step": 2})
    written(tmp_path, run(), started("a"), wanted, run(), started("a", 2, 2), wanted, run(runner=(1, 2, "boot-2")))
    record = read(tmp_path)
    assert [list(one.reboots) for one in record.sessions] == [["a"], ["a"], []]
    story = record.stories["a"]
    assert (story.reboots, record.restarts) == (1, 1)
    assert story.rebooted["shared"] == {"step": 2}
    assert not story.is_suspect
    assert record.unfinished == []
    assert records.reboot(attempt("a"), by="task", at=2.0, boot="b", shared={1: 2})["shared_unstorable"]


def test_who_ran_when_the_machine_went_down_is_a_suspect_and_charged_only_when_alone(tmp_path: Path) -> None:
    boots = [run(runner=(1, 2, f"boot-{number}")) for number in range(5)]
    ended = records.end("interrupted", {}, at=3.0)
    written(
        tmp_path, boots[1], started("a"), started("b", 1, 2), boots[2], started("a", 1, 3), boots[3], started("b", 1, 4),
        ended, boots[4], started("b", 1, 5), boots[4],
    )  # fmt: skip
    record = read(tmp_path)
    assert {path: (one.is_suspect, one.crashes) for path, one in record.stories.items()} == {
        "a": (True, 1),
        "b": (True, 0),
    }
    assert record.restarts == 3


def wanted(path: str = "a", number: int = 1) -> dict:
    return records.reboot(attempt(path, number), by="task", at=2.0, boot="b")


@pytest.mark.parametrize("then", [[ended()], [ended(), started(number=2, id=2)], [started(id=2)]])
def test_a_reboot_of_which_nothing_came_does_not_count(tmp_path: Path, then: list[dict]) -> None:
    """The task went on, so it is a crash if the machine goes down then."""
    written(tmp_path, run(), task(), started(), wanted(), *then, run(runner=(1, 2, "boot-2")))
    story = read(tmp_path).stories["a"]
    is_running = then[-1]["kind"] == "started"
    assert (story.reboots, story.crashes, story.is_suspect) == (0, int(is_running), is_running)


def test_what_an_attempt_has_said_that_is_not_charged_is_not_told_of_the_next_one(tmp_path: Path) -> None:
    written(
        tmp_path, run(), task(), started(), report(name="first"), run(), started(id=2), report(name="second"),
        result(),
    )  # fmt: skip
    assert [one.name for one in read(tmp_path).result("a").reports] == ["second"]


@pytest.mark.parametrize(("boot", "names"), [("boot-2", ["first", "second"]), ("boot", ["second"])])
def test_what_was_said_before_a_restart_is_told_when_that_has_come(tmp_path: Path, boot: str, names: list) -> None:
    written(
        tmp_path, run(), task(), started(), report(name="first"), wanted(), run(runner=(1, 2, boot)), started(id=2),
        report(name="second"), result(),
    )  # fmt: skip
    assert [one.name for one in read(tmp_path).result("a").reports] == names


def test_of_a_changed_task_nothing_is_charged_to_the_new_version(tmp_path: Path) -> None:
    boots = [run(runner=(1, 2, f"boot-{number}")) for number in range(4)]
    written(
        tmp_path, boots[0], task(), started(), boots[1], started(id=2), wanted(), boots[2], started(id=3), ended(),
        report(number=2), task(fingerprint="f2"), boots[3],
    )  # fmt: skip
    story = read(tmp_path).stories["a"]
    assert (story.fingerprint, story.reboots, story.crashes, story.is_suspect) == ("f2", 0, 0, False)
    assert (story.ends, story.reports, story.rebooted) == ([], [], {})


def test_a_result_stands_while_its_task_takes_the_machine_down_in_another_version(tmp_path: Path) -> None:
    boots = [run(runner=(1, 2, f"boot-{number}")) for number in range(4)]
    written(
        tmp_path, boots[0], task(), started(), report(name="of the result"), result(), boots[1], task(fingerprint="f2"),
        plan.again("a", "it has changed"), started(id=2), boots[2], started(id=3), boots[3],
    )  # fmt: skip
    record = read(tmp_path)
    story = record.stories["a"]
    assert record.result("a").status == "passed"
    assert [one.name for one in record.result("a").reports] == ["of the result"]
    assert (story.anew.crashes, story.anew.is_suspect) == (2, True)
    assert (story.crashes, story.is_suspect) == (0, False)


def test_a_task_added_on_the_fly_can_be_made_again(tmp_path: Path) -> None:
    extra = pexen.command(["make", "check"], path="extra", requires={"a"})
    written(
        tmp_path, run(), task("a"), plan.added(extra, "f", [("a", ["a"])], by="a"), plan.added(Task(print, "more"), "g")
    )
    stories = read(tmp_path).stories
    assert [(story.is_added, story.by) for story in stories.values()] == [(False, ""), (True, "a"), (True, "")]
    assert plan.task_from(stories["extra"].plan).callable == extra.callable


def test_kinds_and_fields_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    written(tmp_path, {**run(), "later": 1}, {"kind": "later", "path": 5}, {**task(), "x": {}}, {**result(), "y": [1]})
    assert [one.path for one in read(tmp_path).results()] == ["a"]


# -- files beside it --------------------------------------------------------------------------------------------------


def large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "INLINE", 10)
    with Journal(folder) as writing:
        writing.append(run())
        writing.append(*records.result(Result(Task(print, "a"), Status.PASSED, ["x" * 50], 1.0, 1.0)))
    return folder / "values" / "2.json"


def test_a_large_value_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large(tmp_path, monkeypatch)
    assert read(tmp_path).result("a").value == ["x" * 50]


def test_a_large_value_is_the_one_that_was_stored_and_not_more(tmp_path: Path) -> None:
    """Also when the checksum is right: what is read is bounded by the size that the record tells."""
    told = {"size": 3, "crc": records.checksum(b'"xy"'), "holds": ["value"]}
    written(tmp_path, run(), {**result(), "beside": told})
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "2.json").write_bytes(b'"xy"')
    assert isinstance(read(tmp_path).result("a").value, Unstorable)


def test_a_large_value_that_is_damaged_or_gone_is_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = large(tmp_path, monkeypatch)
    whole = file.read_bytes()
    for bad in (whole[:-1], whole + b" ", whole.replace(b"x", b"y", 1), b""):
        file.write_bytes(bad)
        assert read(tmp_path).result("a").value == Unstorable("its file is missing or damaged")
        assert read(tmp_path).result("a").ok
    file.unlink()
    assert isinstance(read(tmp_path).result("a").value, Unstorable)
    (tmp_path / "secret").write_bytes(whole)
    file.symlink_to(tmp_path / "secret")
    assert isinstance(read(tmp_path).result("a").value, Unstorable)


# -- versions, and what is no journal ---------------------------------------------------------------------------------


def test_a_newer_version_is_refused_in_plain_words(tmp_path: Path) -> None:
    written(tmp_path, {**run(version="9.0"), "schema": 2}, task())
    with pytest.raises(StateError, match="written by a newer version of pexen") as caught:
        read(tmp_path)
    assert "pexen 9.0, schema 2" in str(caught.value)
    written(tmp_path, run(), task(), {**run(), "schema": 2})
    with pytest.raises(StateError, match="newer version"):
        read(tmp_path)


def test_an_older_version_is_read(tmp_path: Path) -> None:
    written(tmp_path, {"kind": "run", "schema": 0, "run": "old"}, task(), result())
    assert [one.path for one in read(tmp_path).results()] == ["a"]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"path": "a"}, "'kind' is missing"),
        ({"kind": "result", "status": "passed"}, "'path' is missing"),
        ({"kind": "task", "path": "a"}, "'fingerprint' is missing"),
        ({"kind": ["task"]}, "unhashable"),
        ({"kind": "started", "path": "a", "attempt": 1, "id": "x", "at": 1.0}, "not supported between"),
        ({"kind": "starts", "attempts": [["a", 1]]}, "not enough values"),
        ({"kind": "results", "passed": [["a"]]}, "not enough values"),
        ({"kind": "results"}, "'passed' is missing"),
    ],
)
def test_a_line_that_is_sound_and_no_record_is_named(tmp_path: Path, second: dict, said: str) -> None:
    written(tmp_path, run(), second)
    with pytest.raises(StateError, match="cannot be understood") as caught:
        read(tmp_path)
    assert dict(caught.value.facts)["at"] == f"{tmp_path}/journal.jsonl:2"
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [{"status": "splendid"}, {"ended": {}}, {"ended": 5}, {"beside": 5}, {"failure": {"type": "E"}}, {"original": "x"}],
)
def test_a_result_that_cannot_be_understood_is_named(tmp_path: Path, record: dict) -> None:
    written(tmp_path, run(), task(), {**result(), **record})
    with pytest.raises(StateError, match="the records of a"):
        read(tmp_path).result("a")


def test_a_journal_begins_with_its_run(tmp_path: Path) -> None:
    written(tmp_path, task(), run())
    with pytest.raises(StateError, match="begins with a 'run' record"):
        read(tmp_path)


def test_there_is_no_journal(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StateError, match="cannot read the journal: No such file"):
            read(path)
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(StateError, match="cannot read the journal: Is a directory"):
        read(tmp_path)


# -- torn, damaged, live ----------------------------------------------------------------------------------------------

HISTORY = [run(), task(), started(), report(), result(value=[1, "ö"]), records.end("done", {"passed": 1}, at=9.0)]


def test_cut_at_every_byte_it_tells_what_is_whole(tmp_path: Path) -> None:
    for record, count in cut_everywhere(tmp_path, *HISTORY):
        assert len(list(record.results())) == (count >= 5)
        assert [one.path for one in record.unfinished] == (["a"] if count in {3, 4} else [])


def test_every_changed_byte_is_named(tmp_path: Path) -> None:
    whole = b"".join(lines(*HISTORY))
    for place in range(len(whole)):
        changed = whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :]
        (tmp_path / "journal.jsonl").write_bytes(changed)
        with pytest.raises(StateError, match="damaged"):
            read(tmp_path)
        if place % 5 == 0:
            assert read(tmp_path, damaged_ok=True).notices


def test_behind_damage_the_rest_is_told_with_a_notice(tmp_path: Path) -> None:
    made = lines(*HISTORY)
    (tmp_path / "journal.jsonl").write_bytes(b"".join([b"?" + made[0][1:], *made[1:3], b"x\n", *made[4:]]))
    record = read(tmp_path, damaged_ok=True)
    assert len(record.notices) == 4
    assert record.last == 6
    assert [one.path for one in record.results()] == []  # it verifies only by what the line before says, which is gone
    assert record.notices[0].startswith("damaged: line 1 at byte 0: ")


def test_a_live_journal_is_read_on(tmp_path: Path) -> None:
    record = Record(tmp_path)
    with Journal(tmp_path) as writing:
        assert not record.catch_up()
        assert record.notices == ["nothing was recorded before it stopped"]
        assert record.header == {}
        for count, one in enumerate(HISTORY, 1):
            writing.append(one)
            writing.flush()
            assert record.catch_up()
            assert record.last == count
            assert not record.catch_up()
    assert record.end["how"] == "done"


def test_a_journal_that_is_another_one_now_is_not_read_on(tmp_path: Path) -> None:
    file = written(tmp_path, *HISTORY)
    record = read(file)
    file.write_bytes(b"")
    with pytest.raises(StateError, match="replaced or cut"):
        record.catch_up()
    record = read(written(tmp_path, *HISTORY))
    file.rename(tmp_path / "kept")
    written(tmp_path, *HISTORY)
    with pytest.raises(StateError, match="replaced or cut"):
        record.catch_up()


def test_a_failing_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, *HISTORY)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StateError, match="cannot read the journal: Input/output error"):
        read(tmp_path)


def test_memory_is_bounded_by_what_is_on_the_disk(tmp_path: Path) -> None:
    """Counted in what is kept for each task: its records as they are, and no more objects than these."""
    import gc
    import tracemalloc

    count = 2000
    history = [run(), *(task(f"a/{n}") for n in range(count))]
    history += [one for n in range(count) for one in (started(f"a/{n}", id=n), result(f"a/{n}"))]
    size = written(tmp_path, *history).stat().st_size
    codec.fastest()
    gc.collect()
    tracemalloc.start()
    try:
        record = read(tmp_path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert record.last == 3 * count + 1
    assert held < 2.5 * size
