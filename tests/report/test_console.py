"""The console, fed by hand: a screen that remembers, and a clock that is set."""

import re

import pytest

from pexen.errors import TaskFail
from pexen.model.result import Details, Ended, Failure, Output, Report, Result, Status
from pexen.model.task import Task
from pexen.report.base import Flight, Plan, Summary
from pexen.report.console import Console
from tests.cli.tools import rendered


class Paper:
    """A screen that keeps each write."""

    def __init__(self, columns=60):
        self.writes = []
        self.columns = columns

    def write(self, text):
        self.writes.append(text)

    def width(self):
        return self.columns

    @property
    def text(self):
        return "".join(self.writes)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def result(path, status=Status.PASSED, duration=0.5, *, meta=None, **details):
    start = 1.0 if duration else 0.0
    return Result(
        Task(print, path, **(meta or {})), status, None, start, duration, Details(**details) if details else None
    )


@pytest.fixture
def paper():
    return Paper()


@pytest.fixture
def clock():
    return Clock()


def shown(paper, results, *, clock=None, summary=True, plan=None, **options):
    console = Console(paper, clock=clock or Clock(), **options)
    console.begin(
        plan or Plan([one.task for one in results], "tree", 2, "out", lambda path: f"pexen run tree/{path} -j1")
    )
    for one in results:
        console.finished(one)
    console.moment(list)
    if summary:
        console.end(Summary({one.path: one for one in results}, 1.5))
    return paper.text.splitlines()


def test_a_line_for_each_task_and_one_for_all(paper):
    lines = shown(paper, [result("a/x.sh"), result("b", Status.SKIPPED, 0, reason="no disk")])
    assert lines == [
        "tree: 2 tasks, 2 jobs, output in out",
        "passed      0.50s  a/x.sh",
        "skipped            b: no disk",
        "",
        "skipped         1  no disk: b",
        "",
        "2 tasks in 1.50s: 1 passed, 1 skipped",
    ]


def test_a_batch_of_results_is_one_write(paper):
    shown(paper, [result(f"t{number}") for number in range(500)], summary=False)
    assert len(paper.writes) == 2  # the header, and all lines


def test_everything_hostile_is_made_visible(paper, tmp_path):
    out = tmp_path / "out"
    out.write_bytes(b"\x1b]0;title\x07 \xff \xc2\x9b \xe2\x80\xae\n")
    bad = result(
        "p\x1b[31m\u202e", Status.ERROR, failure=Failure("Bad\x1b", "mes\x1bsage", "Trace\x1b\nBad: x"), reason="rea\x1bson",
        reports=(Report("na\x1bme", "fail", "sa\x1bid"),), output=Output(str(out), 20),
    )  # fmt: skip
    text = "\n".join(shown(paper, [bad, result("s", Status.SKIPPED, 0, reason="\x1bwhy")], verbosity=2))
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text) is None
    assert "\\x1b]0;title\\x07 \\xff \\x9b \\u202e" in text


def test_a_failure_is_shown_with_everything_needed_to_act(paper, tmp_path):
    out = tmp_path / "7.out"
    out.write_text("".join(f"line {number}\n" for number in range(30)))
    lines = shown(
        paper, [result("a/x", Status.FAILED, reason="exit code 3", output=Output(str(out), out.stat().st_size))]
    )
    at = lines.index("failed  a/x after 0.50s")
    assert lines[at + 1] == "  exit code 3"
    assert lines[at + 2] == f"  the last 20 lines of 230 bytes of output, in {out}"
    assert lines[at + 3] == "  | line 10"
    assert lines[at + 22 : at + 24] == ["  | line 29", "  again: pexen run tree/a/x -j1"]


def test_where_no_command_runs_it_alone_none_is_shown(paper):
    lines = shown(paper, [result("a", Status.FAILED)], plan=Plan([], again=lambda _: ""))
    assert not [line for line in lines if "again:" in line]


def test_the_end_of_a_long_traceback_is_shown(paper):
    trace = "".join(f"frame {number}\n" for number in range(40)) + "ValueError: no\n"
    lines = shown(paper, [result("a", Status.ERROR, failure=Failure("ValueError", "no", trace))])
    assert "  … 29 lines above" in lines
    assert "  ValueError: no" in lines
    assert "  frame 28" not in lines


def test_an_exception_without_traceback_is_named(paper):
    assert "  TaskFail: broken" in shown(
        paper, [result("a", Status.FAILED, failure=Failure(TaskFail.__name__, "broken"))]
    )


def test_bad_reports_are_listed_and_good_ones_are_not(paper):
    reports = (Report("read"), Report("acl", "fail", "denied\nmore"), Report("quota", "warn"))
    lines = shown(paper, [result("a", Status.FAILED, reports=reports)])
    assert "failed      0.50s  a: acl: denied" in lines
    assert "  fail acl: denied" in lines
    assert "  warn quota" in lines
    assert not [line for line in lines if "read" in line]


def test_attempts_are_counted(paper):
    earlier = (Ended(1, Status.FAILED, 1.0, 0.1),)
    assert "passed      0.50s  a: flaky, attempt 2" in shown(paper, [result("a", earlier=earlier)])


def test_skipped_tasks_are_grouped_by_their_reason(paper):
    results = [result(f"t{number}", Status.SKIPPED, 0, reason="setup failed") for number in range(7)]
    lines = shown(paper, [*results, result("u", Status.CANCELLED, 0, reason="not started")])
    assert "skipped         7  setup failed: t0, t1, t2, t3, t4 and 2 more" in lines
    assert "cancelled       1  not started: u" in lines


def test_quiet_is_the_summary_alone(paper):
    lines = shown(paper, [result("a"), result("b", Status.FAILED, reason="exit code 1")], verbosity=-1)
    assert lines[0] == ""
    assert lines[1] == "failed  b after 0.50s"
    assert lines[-1] == "2 tasks in 1.50s: 1 passed, 1 failed"


def test_verbose_adds_output_and_very_verbose_requirements(paper, tmp_path):
    out = tmp_path / "out"
    out.write_text("hello\n")
    done = result("a", output=Output(str(out), 6), reports=(Report("acl", "pass", "fine"),))
    assert "    | hello" in shown(paper, [done], verbosity=1)
    again = Paper()
    plan = Plan([done.task], requirements=lambda task: [("db", ["setup/db"]), ("lost", [])])
    lines = shown(again, [done], verbosity=2, plan=plan)
    assert lines[2:6] == [
        "      requires db: setup/db",
        "      requires lost: nothing",
        "      pass acl  fine",
        "    | hello",
    ]


def test_there_is_colour_when_it_is_on(paper):
    lines = shown(paper, [result("a", Status.FAILED, reason="no")], colour=True)
    assert lines[1].startswith("\x1b[1;31mfailed\x1b[0m      0.50s  a")
    assert "\x1b" not in "".join(shown(Paper(), [result("a", Status.FAILED, reason="no")]))


# -- live ---------------------------------------------------------------------------------------------------------


def live(paper, clock, tasks=2):
    console = Console(paper, live=True, clock=clock)
    console.begin(Plan([Task(print, f"t{number}") for number in range(tasks)], "tree"))
    return console


def test_the_last_line_shows_what_runs_and_is_gone_at_the_end(paper, clock):
    console = live(paper, clock)
    clock.now += 1
    console.moment(lambda: [Flight("t0", 1.2), Flight("t1", 12.7), Flight("t2", None)])
    assert rendered(paper.text)[-1] == "[0/2] t1 12s, t0 1s"
    console.finished(result("t0"))
    console.moment(lambda: [Flight("t1", 13.0)])
    assert rendered(paper.text)[-2:] == ["passed      0.50s  t0", "[1/2] t1 13s"]
    console.note("careful")
    assert rendered(paper.text)[-1] == "note: careful"
    console.moment(list)
    console.finished(result("t1", Status.FAILED, reason="no"))
    clock.now += 1
    console.moment(list)
    assert rendered(paper.text)[-1] == "[2/2] 1 bad waiting"
    console.end(Summary({}, 1))
    assert not [line for line in rendered(paper.text) if line.startswith("[")]


def test_services_that_are_up_stand_behind_what_runs(paper, clock):
    flights = [Flight("db", 9.0, is_up=True), Flight("web", 0.1), Flight("t", 1.0)]
    console = live(paper, clock)
    clock.now += 1
    console.moment(lambda: flights)
    assert rendered(paper.text)[-1] == "[0/2] t 1s, web 0s; up: db"
    quiet = Console(paper, heartbeat=60, clock=clock)
    clock.now += 60
    quiet.moment(lambda: flights[:1])
    assert paper.writes[-1] == "running [0/0]: nothing; up: db\n"


def test_what_went_wrong_in_a_teardown_is_said(paper):
    failure = Failure("OSError", "busy")
    lines = shown(paper, [result("db", Status.WARNED, reason="its teardown went wrong", failure=failure)])
    assert lines[1] == "warned      0.50s  db: its teardown went wrong: OSError: busy"
    assert "warned          1  its teardown went wrong: OSError: busy: db" in lines


def test_the_last_line_is_not_drawn_too_often_nor_when_nothing_changed(paper, clock):
    console = live(paper, clock)
    clock.now += 1
    console.moment(lambda: [Flight("t0", 1.0)])
    written = len(paper.writes)
    clock.now += 0.01
    console.moment(lambda: pytest.fail("it must not even look"))
    clock.now += 1
    console.moment(lambda: [Flight("t0", 1.9)])
    assert len(paper.writes) == written


def test_lines_and_the_new_status_come_in_one_write(paper, clock):
    console = live(paper, clock)
    clock.now += 1
    console.moment(lambda: [Flight("t0", 1.0)])
    written = len(paper.writes)
    console.finished(result("t0"))
    console.moment(lambda: [Flight("t1", 0.0)])
    (write,) = paper.writes[written:]
    assert write.startswith("\r\x1b[K")
    assert write.endswith("\x1b[?7l[1/2] t1 0s\x1b[?7h")


def test_the_last_line_is_never_wider_than_the_screen(clock):
    paper = Paper(columns=30)
    console = live(paper, clock)
    clock.now += 1
    console.moment(lambda: [Flight("a-very-long-path/" * 10, 1.0)])
    assert len(rendered(paper.text)[-1]) == 29


# -- without a terminal ---------------------------------------------------------------------------------------------


def test_silence_is_broken_by_who_runs_how_long_and_what_it_holds(paper, clock):
    held = Task(print, "a/slow", claims="disk", resources={"gpu": 1})
    console = Console(paper, heartbeat=60, clock=clock)
    console.begin(Plan([held, Task(print, "b")], "tree"))
    written = len(paper.writes)
    clock.now += 59
    console.moment(lambda: pytest.fail("too early to look"))
    clock.now += 2
    console.moment(lambda: [Flight("b", 3.0), Flight("a/slow", 61.0), Flight("c", None)])
    assert paper.writes[written:] == ["running [0/2]: a/slow for 1m01s (claims disk, 1 gpu), b for 3.00s\n"]
    clock.now += 30
    console.finished(result("b"))
    console.moment(list)
    clock.now += 59
    console.moment(lambda: pytest.fail("a line has broken the silence"))
    clock.now += 1
    console.moment(lambda: [Flight("a/slow", 150.0)])
    assert paper.writes[-1].startswith("running [1/2]: a/slow for 2m30s")


def test_no_heartbeat_when_it_is_off_or_quiet(paper, clock):
    for options in ({"heartbeat": 0}, {"verbosity": -1}):
        console = Console(paper, clock=clock, **options)
        console.begin(Plan([]))
        clock.now += 1000
        console.moment(lambda: pytest.fail("nobody is to look"))
