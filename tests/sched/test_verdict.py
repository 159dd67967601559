"""Verdicts for people: xfail, waivers, flaky; and that dependants follow the original."""

from __future__ import annotations

import datetime as dt
import pickle
import sys
import threading

import pytest

import pexen
from pexen import LocalPool, Sched, Status, Task
from pexen.sched.tally import FIRST, Tally


def run(*tasks, **options):
    return Sched(tasks, **options).wait()


def fails():
    raise AssertionError("broken")


# -- xfail -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status", "original", "why"),
    [
        ("exit 1", "passed", "failed", "failed as expected: bug 7"),
        ("kill -9 $$", "passed", "crashed", "failed as expected: bug 7"),
        ("exit 0", "warned", "passed", "was expected to fail and did not: bug 7"),
        ("exit 77", "skipped", "skipped", ""),
    ],
)
def test_an_expected_failure(script, status, original, why):
    result = run(pexen.command(script, path="a", xfail="bug 7"))["a"]
    assert (result.status, result.original, result.waived) == (status, original, why)


def test_dependants_of_an_expected_failure_are_skipped_all_the_same():
    results = run(Task(fails, "a", xfail=True), Task(print, "b", requires="/a"))
    assert results["a"].status is Status.PASSED
    assert results["b"].status is Status.SKIPPED
    assert "a failed" in results["b"].reason
    assert results.ok


# -- waivers -----------------------------------------------------------------------------------------------------------


@pexen.waiver("bug 8", until="2999-12-31")
def known(result, facts):
    return result.path == "a" and facts.os == "linux"


def test_a_waiver_changes_the_verdict_and_nothing_else():
    results = run(Task(fails, "a"), Task(fails, "other"), Task(print, "b", requires="/a"), waivers=[known])
    assert (results["a"].status, results["a"].original) == (Status.WARNED, Status.FAILED)
    assert results["a"].waived == "waived: bug 8"
    assert results["a"].error.message == "broken"
    assert results["other"].status is Status.FAILED
    assert results["b"].status is Status.SKIPPED
    assert pickle.loads(pickle.dumps(results["a"])).original is Status.FAILED


def test_a_waived_failure_does_not_count_for_maxfail():
    tasks = [Task(fails, "a"), Task(print, "b", after="/a")]
    assert run(*tasks, waivers=[known], maxfail=1)["b"].status is Status.PASSED
    assert run(*tasks, maxfail=1)["b"].status is Status.CANCELLED


def test_waivers_are_not_asked_about_successes():
    asked = []

    @pexen.waiver("never")
    def never(result, facts):
        asked.append(result.path)

    run(Task(print, "fine"), Task(fails, "bad"), waivers=[never])
    assert asked == ["bad"]


def test_one_that_has_expired_waives_nothing_and_is_told():
    yesterday = dt.datetime.now().astimezone().date() - dt.timedelta(days=1)

    @pexen.waiver("old", until=yesterday)
    def expired(result, facts):
        return True

    @pexen.waiver("today", until=yesterday + dt.timedelta(days=1))
    def last_day(result, facts):
        return result.path == "b"

    sched = Sched([Task(fails, "a"), Task(fails, "b")], waivers=[expired, last_day])
    run = sched.open()
    while run.take() is not None:
        pass
    run.close()
    assert sched.results["a"].status is Status.FAILED
    assert sched.results["b"].status is Status.WARNED
    assert list(run.notices) == [f"the waiver expired has expired on {yesterday}: old"]


def test_one_that_raises_waives_nothing_and_is_told():
    @pexen.waiver("broken")
    def broken(result, facts):
        raise KeyError("x")

    sched = Sched([Task(fails, "a")], waivers=[broken])
    run = sched.start()
    assert run.wait(30)["a"].status is Status.FAILED
    assert "broken has raised KeyError" in run.notices[0]


def test_a_task_may_have_its_own():
    assert run(Task(fails, "a", waivers=known))["a"].status is Status.WARNED


@pytest.mark.parametrize(
    "make",
    [
        lambda: pexen.waiver(""),
        lambda: pexen.waiver("x", until="soon"),
        lambda: pexen.waiver("x")(3),
        lambda: Sched([], waivers=[print]),
        lambda: Task(print, "a", waivers=print),
    ],
)
def test_what_is_no_waiver_is_refused(make):
    with pytest.raises(pexen.DefinitionError):
        make()


def test_a_pexenfile_has_waivers_for_what_is_below_it(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "pexenfile.py").write_text(
        "import pexen\n@pexen.waiver('bug 9', until='2999-01-01')\ndef known(result, facts):\n"
        "    return result.original == 'failed'\n@pexen.task\ndef bad():\n    assert False\n"
    )
    for name in ("net/script.sh", "outside.sh"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    from pexen.cli.isolate import isolate
    from pexen.factory.collect import collect

    tasks = collect(str(tmp_path), isolate=isolate).tasks
    results = run(*tasks, pool=LocalPool(2, callables="process"))
    assert {path: str(one.status) for path, one in results.items()} == {
        "net/bad": "warned", "net/script.sh": "warned", "outside.sh": "failed",
    }  # fmt: skip
    assert results["net/script.sh"].waived == "waived: bug 9"
    for name in [name for name in sys.modules if name.startswith("pexen_tree")]:
        del sys.modules[name]  # others look whether a collection has left any


# -- tried again -------------------------------------------------------------------------------------------------------


def second_time():
    assert pexen.current().attempt == 2


@pytest.mark.parametrize("options", [{}, {"retry_last": True}])
@pytest.mark.parametrize("delay", [0, 0.05])
def test_a_success_after_a_failure_is_flaky(options, delay):
    results = run(Task(second_time, "a", retries=2, retry_delay=delay), Task(print, "b"), **options)
    assert results["a"].flaky
    assert not results["b"].flaky
    assert [str(one.status) for one in results["a"].attempts] == ["failed", "passed"]


def test_what_is_tried_again_last_runs_alone():
    order = []

    def noted(name):
        order.append(name)
        assert pexen.current().attempt == 2 or not name.startswith("f")

    tasks = [
        Task(noted, "f1", args=["f1"], retries=1), Task(noted, "f2", args=["f2"], retries=1),
        *(Task(noted, f"t{number}", args=[f"t{number}"]) for number in range(20)),
    ]  # fmt: skip
    results = run(*tasks, retry_last=True)
    assert results.ok
    assert sorted(order[-2:]) == ["f1", "f2"]


def test_a_delayed_retry_can_be_cancelled():
    sched = Sched([Task(fails, "a", retries=5, retry_delay=1000)])
    run = sched.start()
    while not run._decider._earlier:
        run._sleepers.sleep(lambda: run._decider._earlier, 0.01, for_results=False)
    run.cancel()
    assert run.wait(30)["a"].status is Status.CANCELLED


def test_what_fails_while_the_run_drains_has_failed_though_it_might_be_tried_again():
    drained = threading.Event()

    def fails_late():
        drained.wait(30)
        raise AssertionError("late")

    sched = Sched([Task(fails, "a"), Task(fails_late, "b", retries=3)], pool=pexen.ThreadPool(2), maxfail=1)
    for result in sched.run():
        if result.path == "a":
            drained.set()
    assert sched.results["b"].status is Status.FAILED
    assert len(sched.results["b"].attempts) == 1


# -- many reports ------------------------------------------------------------------------------------------------------


def test_a_tally_is_bounded_in_number_and_in_size():
    tally = Tally()
    for number in range(10 * FIRST):
        tally.add(pexen.Report(f"r{number}", "fail" if number % 2 else "pass", "x" * 10_000))
    reports = tally.reports()
    assert len(reports) == 2 * FIRST + 1
    assert sum(len(one.message) for one in reports) < 20 << 20
    assert tally.levels == {"pass", "fail"}
    assert reports[-1].message == f"{8 * FIRST} more reports: {4500} pass, {3500} fail"
