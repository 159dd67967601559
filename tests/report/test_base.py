"""Observers are told everything in order, and one that throws hurts nobody else."""

from pexen.model.meta import tree_lock
from pexen.model.result import Result, Status
from pexen.model.task import Task, held_by
from pexen.report.base import Observers, Plan, Summary


class Recorder:
    def __init__(self, fails_in=""):
        self.seen = []
        self.fails_in = fails_in

    def _note(self, verb, what):
        self.seen.append(verb)
        if verb == self.fails_in:
            raise RuntimeError("a bad reporter")

    def begin(self, plan):
        self._note("begin", plan)

    def finished(self, result):
        self._note("finished", result)

    def moment(self, look):
        self._note("moment", look)

    def note(self, text):
        self._note("note", text)

    def end(self, summary):
        self._note("end", summary)


def drive(observers):
    result = Result(Task(print, "a"), Status.PASSED)
    observers.begin(Plan([result.task]))
    observers.finished([result, result])
    observers.moment(list)
    observers.note("well")
    observers.end(Summary({"a": result}, 1.0))


def test_all_are_told_everything_in_order():
    first, second = Recorder(), Recorder()
    observers = Observers([first, second])
    drive(observers)
    assert first.seen == second.seen == ["begin", "finished", "finished", "moment", "note", "end"]
    assert observers.broken == []


def test_one_that_throws_is_told_nothing_more_and_the_others_are():
    bad, good = Recorder(fails_in="finished"), Recorder()
    observers = Observers([bad, good])
    drive(observers)
    assert bad.seen == ["begin", "finished"]
    assert len(good.seen) == 6
    assert observers.broken == ["Recorder was disabled: RuntimeError in finished: a bad reporter"]


def test_what_a_task_holds_in_words():
    task = Task(
        print,
        "a",
        claims={"disk", ("port", 80), tree_lock("/proc/sys")},
        uses="net",
        resources={"cpu": 2, "mem": 0.5},
        alone=True,
    )
    assert held_by(task) == "claims disk, port:80, /proc/sys, uses net, 2 cpu, 0.5 mem, alone"
    assert held_by(Task(print, "b")) == ""
