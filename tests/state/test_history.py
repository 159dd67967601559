"""The history: made from journals whatever is the matter with its file, and with each run counted once."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pexen.model.result import Result, Status
from pexen.model.task import Task
from pexen.state import history as module
from pexen.state import plan, records
from pexen.state.appender import FILE
from pexen.state.history import NAME, VERSION, History
from pexen.state.journal import Journal
from pexen.state.seen import Seen, bad_since, durations, flakiness, median, typical
from tests.state.hand import attempt, lines, run

BAD_NAMES = ["a\udcff/b", "x'; DROP TABLE run; --", "tab\tbell\x07", "\x1b[31mred", "ö/ß", " ", "a" * 3000, "%_?"]


@pytest.fixture
def home(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path


def task(path, fingerprint="f", *, requires=(), **meta):
    what = Task(print, path, requires=[f"/{one}" for one in requires], **meta)
    return plan.task(what, fingerprint, [(f"/{one}", [one]) for one in requires])


def result(path, status="passed", start=10.0, duration=1.0, **rest):
    record, _ = records.result(Result(Task(print, path), Status(status), None, start, duration))
    return {**record, **rest}


def fallen(path, status="skipped"):
    return {"kind": "result", "path": path, "status": status, "reason": "because"}


def end(how="done", at=99.0):
    return records.end(how, {}, at=at)


def started(path, number=1):
    return records.started(attempt(path, number, number), at=9.0)


def record_run(home: Path, name: str, *contents, at=1.0, argv=("pexen", "run"), ended=True) -> Path:
    """Write the journal of a run that planned what it has results of, ended by itself unless told otherwise."""
    folder = home / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    first = run(name, at=at, argv=argv)
    (folder / FILE).write_bytes(b"".join(lines(first, *contents, *([end()] if ended else []))))
    return folder


def simple(home, name, at, **statuses):
    """Record a run of tasks with these statuses."""
    told = []
    for path, status in statuses.items():
        told += [task(path), started(path), result(path, status, start=at + 0.5)]
    return record_run(home, name, *told, at=at)


def caught_up(home, **rest):
    with History(str(home)) as history:
        history.catch_up(**rest)
        return history.notices


def verdicts(home):
    with History(str(home)) as history:
        history.catch_up()
        return {path: one.status for path, one in history.verdicts().items()}, history.notices


# -- what is kept ---------------------------------------------------------------------------------------------------


def test_a_run_is_kept_with_what_became_of_its_tasks(home):
    record_run(
        home, "r1",
        task("a", "f1"), task("b", "f2", requires=["a"]), task("c", "f3"),
        started("a"), records.ended("a", result_of("failed").attempts[-1]), started("a", 2),
        result("a", "warned", 10.0, 2.5, original="failed", waived="known"),
        fallen("b"),
        at=5.0, argv=["pexen", "run", "--sw"],
    )  # fmt: skip
    with History(str(home)) as history:
        assert history.catch_up(mine="r1") == 1
        assert history.notices == []
        (ran,) = history.runs()
        assert (ran.name, ran.at, ran.ended, ran.how, ran.stepwise, ran.tasks) == ("r1", 5.0, 99.0, "done", True, 3)
        assert history.results("r1") == {
            "a": Seen("warned", "failed", 2.5, 2, "f1", False, 10.0, "r1"),
            "b": Seen("skipped", "skipped", None, 0, "f2", True, 5.0, "r1"),
            "c": Seen("", "", None, 0, "f3", False, 5.0, "r1"),
        }


def result_of(status):
    return Result(Task(print, "a"), Status(status), None, 1.0, 1.0)


def test_what_was_running_when_a_run_was_killed_has_no_outcome(home):
    record_run(home, "r1", task("a"), task("b"), started("a"), result("a"), started("b"), ended=False)
    with History(str(home)) as history:
        history.catch_up()
        assert [one.how for one in history.runs()] == ["killed"]
        assert list(history.tasks()) == ["a"]
        assert list(history.verdicts()) == ["a"]
        assert history.estimates() == {"a": 1.0}


def test_a_run_that_was_taken_up_again_replaces_what_there_was_of_it(home):
    begun = [task("a"), task("b"), started("a"), result("a", "failed"), started("b")]
    record_run(home, "r1", *begun, ended=False)
    caught_up(home)
    record_run(home, "r1", *begun, run("r1", at=50.0), started("b", 2), result("b", start=51.0))
    with History(str(home)) as history:
        assert history.catch_up() == 1
        assert {path: len(rows) for path, rows in history.tasks().items()} == {"a": 1, "b": 1}
        assert [one.how for one in history.runs()] == ["done"]
        assert history.catch_up() == 0, "nothing has changed since"


def test_a_run_that_goes_on_is_left_out(home):
    folder = home / "runs" / "r1"
    folder.mkdir()
    journal = Journal(folder, durability="process")
    journal.append(run("r1"))
    journal.flush()
    with History(str(home)) as history:
        # In another process: to this one, its own lock is nobody's.
        code = (
            "import sys; from pexen.state.history import History\nwith History(sys.argv[1]) as h: print(h.catch_up())"
        )
        done = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True, check=True)
        assert done.stdout == "0\n"
        journal.close()
        assert history.catch_up() == 1


@pytest.mark.parametrize("path", BAD_NAMES)
def test_hostile_names_come_back_as_they_were(home, path):
    record_run(home, "r1", task(path, path), started(path), result(path, "failed"))
    with History(str(home)) as history:
        history.catch_up(mine="r1")
        assert history.notices == []
        assert list(history.tasks()) == list(history.tasks(path)) == [path]
        assert history.estimates() == {path: 1.0}
        assert history.verdicts()[path].is_bad
        assert history.results("r1")[path].fingerprint == path


def test_a_name_of_a_run_may_be_anything(home):
    simple(home, "r\udcff'\"", 1.0, a="passed")
    with History(str(home)) as history:
        assert history.catch_up() == 1
        assert [one.name for one in history.runs()] == ["r\udcff'\""]
        assert history.catch_up() == 0
        assert list(history.results("r\udcff'\"")) == ["a"]


def test_runs_that_have_been_removed_stay_until_it_is_made_anew(home):
    for number in range(3):
        simple(home, f"r{number}", float(number), a="passed")
    caught_up(home)
    remove(home / "runs" / "r0")
    with History(str(home)) as history:
        history.catch_up()
        assert len(history.tasks()["a"]) == 3
        assert history.rebuild() == 2
        assert len(history.tasks()["a"]) == 2
        assert any("1 of the runs it knew have been removed" in one for one in history.notices)
    assert (home / f"{NAME}.old").exists()


def test_making_it_anew_keeps_no_copy_when_nothing_is_lost(home):
    simple(home, "r1", 1.0, a="passed")
    caught_up(home)
    with History(str(home)) as history:
        assert history.rebuild() == 1
        assert history.notices == []
    assert not (home / f"{NAME}.old").exists()


def test_it_does_not_grow_without_end(home, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    for number in range(5):
        simple(home, f"r{number}", float(number), **{f"t{number}": "passed", "a": "passed"})
        caught_up(home)
    with History(str(home)) as history:
        assert [one.name for one in history.runs()] == ["r4", "r3", "r2"]
        assert list(history.estimates()) == ["a", "t2", "t3", "t4"]
    monkeypatch.setattr(module, "MOST", 4)
    simple(home, "r5", 5.0, a="passed", b="passed")
    caught_up(home)
    with History(str(home)) as history:
        assert [one.name for one in history.runs()] == ["r5", "r4"]


def test_what_is_too_much_at_once_is_read_the_next_time(home):
    for number in range(3):
        simple(home, f"r{number}", float(number), a="passed")
    with History(str(home)) as history:
        assert history.catch_up(most=1) == 1
        assert [one.name for one in history.runs()] == ["r2"]
        assert history.catch_up() == 2


# -- whatever is the matter with the file ---------------------------------------------------------------------------


def remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.fixture
def filled(home):
    for number, status in enumerate(["passed", "failed", "failed"]):
        simple(home, f"r{number}", float(number), a=status, **{f"task/{n}": "passed" for n in range(300)})
    assert caught_up(home) == ["there was none: it has been made from the runs that are still there (3)"]
    return home


def test_a_missing_file_is_made_from_what_is_left(filled):
    (filled / NAME).unlink()
    told, notices = verdicts(filled)
    assert told["a"] == "failed"
    assert len(told) == 301
    assert "there was none" in notices[0]
    assert (filled / NAME).stat().st_mode & 0o777 == 0o600


def test_the_first_run_of_all_is_told_nothing(home):
    simple(home, "r1", 1.0, a="passed")
    assert caught_up(home, mine="r1") == []


def test_it_is_for_the_user_alone_whatever_the_umask(home):
    simple(home, "r1", 1.0, a="passed")
    before = os.umask(0o777)
    try:
        caught_up(home)
    finally:
        os.umask(before)
    assert (home / NAME).stat().st_mode & 0o777 == 0o600


DAMAGE = {
    "empty": lambda raw: b"",
    "text": lambda raw: b"this is no database at all\n" * 100,
    "zeros": lambda raw: bytes(len(raw)),
    "begins with something else": lambda raw: b"x" * 100 + raw[100:],
    "half": lambda raw: raw[: len(raw) // 2],
    "one byte": lambda raw: raw[:1],
    "zeros in the middle": lambda raw: raw[:4096] + bytes(len(raw) - 8192) + raw[-4096:],
    "ones in the middle": lambda raw: raw[:4096] + b"\xff" * (len(raw) - 8192) + raw[-4096:],
    "the first page twice": lambda raw: raw[:4096] * (len(raw) // 4096),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_a_notice_and_nothing_else(filled, damage):
    file = filled / NAME
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    told, notices = verdicts(filled)
    assert told["a"] == "failed"
    assert len(told) == 301
    assert notices
    assert verdicts(filled)[1] == [], "the next one has nothing to complain about"
    with History(str(filled)) as history:
        assert [one.name for one in history.runs()] == ["r2", "r1", "r0"]


def test_no_flipped_byte_stops_anybody(filled):
    file = filled / NAME
    raw = bytearray(file.read_bytes())
    for at in range(0, len(raw), max(1, len(raw) // 150)):
        for name in (NAME, f"{NAME}.old"):
            (filled / name).unlink(missing_ok=True)
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 0xA5]) + raw[at + 1 :])
        with History(str(filled)) as history:
            history.catch_up()
            history.runs()
            history.verdicts(before="r2")
            history.passed_stepwise()
            assert all(0 <= seconds < 1e15 for seconds in history.estimates().values())
            for rows in history.tasks("a").values():
                bad_since(rows), flakiness(rows), durations(rows)


@pytest.mark.parametrize(("version", "word"), [(VERSION + 1, "a newer"), (-1, "an older")])
def test_a_file_of_another_version_is_set_aside(filled, version, word):
    with sqlite3.connect(filled / NAME) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    told, notices = verdicts(filled)
    assert told["a"] == "failed"
    assert f"was written by {word} version of pexen; it is history.db.old now" in notices[0]
    assert (filled / f"{NAME}.old").exists()


def test_a_file_of_our_version_without_our_tables_is_damaged(filled):
    with sqlite3.connect(filled / NAME) as db:
        db.execute("DROP TABLE result")
    db.close()
    told, notices = verdicts(filled)
    assert told["a"] == "failed"
    assert "is damaged" in notices[0]


def test_the_record_of_a_change_to_a_damaged_file_is_not_applied_to_the_next_one(filled):
    (filled / NAME).write_bytes(b"damaged" * 1000)
    (filled / f"{NAME}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504) + b"x" * 4096)
    verdicts(filled)
    assert not (filled / f"{NAME}-journal").exists()
    with sqlite3.connect(filled / NAME) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


@pytest.mark.parametrize("kind", ["folder", "link to nothing", "link", "fifo"])
def test_what_is_no_file_of_ours_is_set_aside(home, tmp_path_factory, kind):
    simple(home, "r1", 1.0, a="failed")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "victim"
    if kind == "folder":
        (home / NAME).mkdir()
    elif kind == "fifo":
        os.mkfifo(home / NAME)
    else:
        (home / NAME).symlink_to(elsewhere)
        if kind == "link":
            elsewhere.write_text("precious")
    told, notices = verdicts(home)
    assert told == {"a": "failed"}
    assert "is not a file of ours" in notices[0]
    assert (home / NAME).is_file()
    assert not (home / NAME).is_symlink()
    assert (elsewhere.read_text() == "precious") if kind == "link" else not elsewhere.exists()


def test_where_nothing_can_be_written_it_is_in_memory(home, monkeypatch):
    simple(home, "r1", 1.0, a="failed")

    def refused(path, flags):
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr("pexen.state.database.private_file", refused)
    told, notices = verdicts(home)
    assert told == {"a": "failed"}
    assert notices == [f"{home}/{NAME} cannot be used: Read-only file system"]
    assert not (home / NAME).exists()


def test_a_file_that_may_only_be_read_is_read(filled, monkeypatch):
    simple(filled, "r3", 3.0, a="passed")

    def refused(path, flags):
        raise OSError(30, "Read-only file system", path)

    connect = sqlite3.connect
    monkeypatch.setattr("pexen.state.database.private_file", refused)
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **rest: connect(f"file:{path}?mode=ro", uri=True, **rest)
    )  # as SQLite does by itself where it is so, which nobody can make for root
    told, notices = verdicts(filled)
    assert told["a"] == "failed", "what there was"
    assert len(notices) == 1
    assert "readonly" in notices[0]


def test_what_belongs_to_somebody_else_is_not_touched(filled, monkeypatch):
    before = (filled / NAME).read_bytes()
    simple(filled, "r3", 3.0, a="passed")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    told, notices = verdicts(filled)
    assert told["a"] == "passed"
    assert "belongs to somebody else" in notices[0]
    assert (filled / NAME).read_bytes() == before


def test_a_file_that_stays_locked_is_a_notice(filled, monkeypatch):
    monkeypatch.setattr("pexen.state.database._WAIT", 0.0)
    other = sqlite3.connect(filled / NAME, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    simple(filled, "r3", 3.0, a="passed")
    notices = caught_up(filled)
    other.close()
    assert any("locked" in one for one in notices)
    assert not (filled / f"{NAME}.old").exists()
    assert verdicts(filled)[0]["a"] == "passed", "the next one makes up for it"


def test_one_that_another_process_has_replaced_meanwhile_is_opened_again(filled):
    with History(str(filled)) as history:
        assert history.catch_up() == 0
        os.replace(filled / NAME, filled / f"{NAME}.old")
        simple(filled, "r3", 3.0, a="passed")
        history.catch_up()
    assert verdicts(filled)[0]["a"] == "passed"


WRITER = """
import sys
from pathlib import Path
from pexen.state.history import History
from tests.state.test_history import simple
home, number = Path(sys.argv[1]), sys.argv[2]
print("up", flush=True)
sys.stdin.readline()
for round_ in range(10):
    simple(home, f"w{number}-{round_}", float(round_), **{"a": "passed", f"only/{number}": "failed"})
    with History(str(home)) as history:
        history.catch_up()
        assert all("there was none" in one for one in history.notices), history.notices
"""


def test_two_that_end_at_once_are_both_kept(home):
    argv = [sys.executable, "-c", WRITER, str(home)]
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([*argv, str(number)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    for one in writers:
        assert one.stdout.readline() == "up\n"
    for one in writers:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in writers:
        one.communicate(timeout=50)
        assert one.returncode == 0
    with History(str(home)) as history:
        assert history.catch_up() == 0
        assert len(history.runs()) == 20
        assert {path: len(rows) for path, rows in history.tasks().items()} == {"a": 20, "only/0": 10, "only/1": 10}


def test_a_journal_that_cannot_be_read_is_a_notice(home):
    simple(home, "r1", 1.0, a="passed")
    newer = {**run("r2"), "schema": 99}
    (home / "runs" / "r2").mkdir()
    (home / "runs" / "r2" / FILE).write_bytes(b"".join(lines(newer)))
    (home / "runs" / "r3").mkdir()
    (home / "runs" / "stray").write_text("not a run")
    told, notices = verdicts(home)
    assert told == {"a": "passed"}
    assert any("r2 cannot be read: the journal was written by a newer version" in one for one in notices)


def test_of_a_damaged_journal_what_verifies_counts(home):
    folder = record_run(home, "r1", task("a"), started("a"), result("a"), task("b"), started("b"), result("b"))
    whole = (folder / FILE).read_bytes().splitlines(keepends=True)
    whole[4] = whole[4].replace(b'"b"', b'"X"')
    (folder / FILE).write_bytes(b"".join(whole))
    with History(str(home)) as history:
        history.catch_up(mine="r1")
        assert "a" in history.estimates()
        assert any("damaged" in one for one in history.notices)


# -- what it says ---------------------------------------------------------------------------------------------------


def test_estimates_are_the_median_of_the_last_successes(home):
    for number in range(30):
        took, status = (100.0, "failed") if number % 3 == 0 else (float(number), "passed")
        record_run(home, f"r{number:02}", task("a"), started("a"), result("a", status, number, took), at=float(number))
    with History(str(home)) as history:
        history.catch_up()
        assert history.estimates() == {"a": median([29, 28, 26, 25, 23, 22, 20, 19, 17, 16])}


def test_what_has_never_succeeded_takes_as_long_as_its_failures(home):
    simple(home, "r1", 1.0, a="failed", b="lost")
    record_run(home, "r2", task("c"), fallen("c"), at=2.0)
    with History(str(home)) as history:
        history.catch_up()
        assert history.estimates() == {"a": 1.0}


def test_one_that_is_waived_does_not_tell_how_long_a_success_takes(home):
    record_run(home, "r1", task("a"), started("a"), result("a", "passed", 1.0, 4.0), at=1.0)
    record_run(home, "r2", task("a"), started("a"), result("a", "warned", 2.0, 900.0, original="timeout"), at=2.0)
    with History(str(home)) as history:
        history.catch_up()
        assert history.estimates() == {"a": 4.0}
        assert not history.verdicts()["a"].is_bad


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([task("a"), started("a"), result("a", "passed", 2.5)], "passed"),
        ([task("a"), fallen("a", "cancelled")], "failed"),
        ([task("p"), started("p"), result("p", "failed"), task("a", requires=["p"]), fallen("a")], "failed"),
        ([task("p"), started("p"), result("p"), task("a", requires=["p"]), fallen("a")], "skipped"),
        ([task("a"), fallen("a")], "skipped"),
        ([task("a"), started("a"), result("a", "skipped", 2.5)], "skipped"),
        ([task("a"), started("a")], "failed"),
    ],
    ids=["ran", "cancelled", "fell", "condition", "condition alone", "skipped itself", "killed"],
)  # fmt: skip
def test_the_last_verdict_is_about_the_task_itself(home, after, expected):
    simple(home, "r1", 1.0, a="failed")
    record_run(home, "r2", *after, at=2.0)
    assert verdicts(home)[0]["a"] == expected


def test_verdicts_of_runs_before_one(home):
    simple(home, "r1", 1.0, a="failed")
    simple(home, "r2", 2.0, a="passed")
    simple(home, "r3", 3.0, a="failed")
    with History(str(home)) as history:
        history.catch_up()
        assert history.verdicts()["a"].run == "r3"
        assert history.verdicts(before="r3")["a"].run == "r2"
        assert history.verdicts(before="r1") == {}
        assert history.verdicts(before="not known yet")["a"].run == "r3"


def stepwise(home, name, at, how="done", **statuses):
    told = []
    for path, status in statuses.items():
        told += [task(path), started(path), result(path, status, start=at + 0.5)]
    record_run(home, name, *told, end(how), at=at, argv=["pexen", "run", "--sw"], ended=False)


def test_what_has_passed_step_by_step(home):
    stepwise(home, "r0", 0.0, old="passed")
    stepwise(home, "r1", 1.0, "stopped", a="passed", b="failed")
    simple(home, "r2", 2.0, other="passed")
    stepwise(home, "r3", 3.0, "stopped", b="passed", c="failed")
    with History(str(home)) as history:
        history.catch_up()
        assert history.passed_stepwise() == {"a", "b"}
        assert history.passed_stepwise(before="r3") == {"a"}
        simple(home, "r4", 4.0, a="failed")
        history.catch_up()
        assert history.passed_stepwise() == {"b"}, "what has failed since is not left out"
        stepwise(home, "r5", 5.0, a="passed", c="passed")
        history.catch_up()
        assert history.passed_stepwise() == set(), "all was good: it begins anew"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["pexen", "run", "--sw"], True),
        (["pexen", "run", "--stepwise", "a"], True),
        (["pexen", "run", "--", "--sw"], False),
        (["pexen", "run", "-x"], False),
    ],
)
def test_a_run_is_step_by_step_if_it_was_told_so(home, argv, expected):
    record_run(home, "r1", argv=argv)
    with History(str(home)) as history:
        history.catch_up()
        assert history.runs()[0].stepwise is expected


def rows(*told):
    """Return what runs have seen, of ``status`` or ``status fingerprint``."""
    made = []
    for number, one in enumerate(told):
        status, _, print_ = one.partition(" ")
        made.append(Seen(status, status, 1.0, 1, print_, False, float(number), f"r{number}"))
    return made


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], (0, 0)),
        (["passed"], (0, 0)),
        (["passed", "failed", "passed"], (2, 2)),
        (["passed a", "failed b", "failed b"], (0, 1)),
        (["passed", "cancelled", "failed", "warned", "error"], (3, 3)),
        (["failed", "error", "timeout"], (0, 2)),
    ],
)
def test_flaky_is_another_verdict_without_a_change(told, expected):
    assert flakiness(rows(*told)) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], None),
        (["failed", "passed"], None),
        (["passed", "failed", "error"], "r1"),
        (["failed", "passed", "failed", "cancelled"], "r2"),
        (["passed", "failed", "skipped"], None),
    ],
)
def test_bad_since(told, expected):
    found = bad_since(rows(*told))
    assert (found and found.run) == expected


def test_one_that_is_far_out_does_not_make_noise():
    assert typical([1.0, 1.0, 1.0, 1.0, 50.0]) == (1.0, 0.0)
    middle, noise = typical([0.9, 1.0, 1.1, 1.0, 1.2, 0.8, 30.0])
    assert middle == 1.0
    assert 0.1 < noise < 0.2


def test_how_long_a_service_was_up_is_not_how_long_it_takes(tmp_path):
    told = [task("db", service=True), task("mount", teardown="umount"), task("a", service=False)]
    record_run(tmp_path, "r1", *told, *(result(path, duration=5.0) for path in ("db", "mount", "a")))
    with History(str(tmp_path)) as history:
        history.catch_up()
        assert history.estimates() == {"a": 5.0}
        assert history.results("r1")["db"].status == "passed"
