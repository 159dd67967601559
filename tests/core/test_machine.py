"""The planner against the slow obvious one, in any order of verbs.

After every verb the two must agree on the state of every task, and the planner's own `check` must hold. Fairness is
exercised with a small limit of overtakes, so that barriers come up all the time.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pexen.core import locks
from pexen.core.node import State
from pexen.core.planner import Planner
from pexen.errors import DefinitionError, InternalError
from pexen.testing import strategies
from tests.core.oracle import FINAL, One, Oracle, Refused, leaves_of, words
from tests.core.snapshot import snapshot

LIMIT = 2
POOLS = ("default", "other")
RETRY = ("requeue", "again", "requeue", "again", "free")
SELDOM = ("free", "free", "recall", "cancel", "drain", "hold", "release", "over", "wrong")
ENDS = st.tuples(st.sampled_from([True, True, True, False]), st.sampled_from(["at once", "at once", "then", "later"]))
STATES = {
    "running": State.RUNNING, "up": State.UP, "done": State.DONE, "failed": State.FAILED,
    "skipped": State.SKIPPED, "cancelled": State.CANCELLED,
}  # fmt: skip


class PlannerMachine(RuleBasedStateMachine):
    """Everything a run may do to a planner."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = Planner(resources=strategies.RESOURCES, pools=POOLS)
        self.model = Oracle(strategies.RESOURCES, POOLS)
        self.left: list[str] = []
        self.started: set[str] = set()

    # -- helpers --------------------------------------------------------------------------------------------------

    def some(self, data, *states: str) -> One | None:
        found = [one for one in self.model.all if one.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    def take_in(self, fallen) -> None:
        """Compare who fell with who must have, and note that they have left."""
        for one in fallen:
            self.left.append(one.task.path)
            known = self.model.at(one.task.path)
            assert known.state == ("cancelled" if one.cancelled else "skipped"), f"{known} fell: {one.reason}"
            if not one.cancelled:
                named = words(one.reason)
                poison = {
                    path for lost in self.model.culprits(known) for path in self.model.is_poisoned(self.model.at(lost))
                }
                lost = self.model.culprits(known) - {known.path} | poison
                assert named & lost or "(lazy)" in one.reason, f"{known}: {one.reason!r} names none of {lost}"

    def barrier(self) -> One | None:
        held = self.planner._barrier
        return None if held is None else self.model.at(held.path)

    # -- verbs ----------------------------------------------------------------------------------------------------

    @initialize(data=st.data())
    def begin(self, data) -> None:
        for _ in range(2):
            self.add(data, max_size=12)

    @rule(data=st.data())
    def more(self, data) -> None:
        self.add(data, max_size=5)

    def add(self, data, max_size) -> None:
        """A batch is admitted as a whole, or nothing of it."""
        known = [one.task for one in self.model.all]
        valid = data.draw(st.sampled_from([True, True, False]))
        batch = data.draw(strategies.batches(known=known, pools=POOLS, valid=valid, max_size=max_size))
        before = snapshot(self.planner)
        try:
            self.model.add(batch)
        except Refused:
            with pytest.raises(DefinitionError):
                self.planner.add(batch)
            assert snapshot(self.planner) == before
            return
        fallen = self.planner.add(batch)
        self.model.doomed()
        if self.model.draining:
            for one in self.model.all[-len(batch) :]:
                if one.state == "waiting" and not one.task.cleanup:
                    one.state = "cancelled"
            self.model.doomed()
        self.take_in(fallen)

    @rule(
        wanted=st.lists(st.sampled_from(POOLS), min_size=1, max_size=5),
        ahead=st.sampled_from([False, False, False, True]),
    )
    def next(self, wanted, ahead) -> None:
        """What starts is the best of those that may; nothing starts only if nothing may."""
        for pool in wanted:
            self.start(pool, ahead)
            self.check()

    def start(self, pool, ahead) -> One | None:
        model, barrier = self.model, self.barrier()
        ready, may = model.ready(pool), model.startable(pool)
        alone = any(one.occupies and one.task.alone for one in model.all)
        held_back = barrier is not None and barrier.task.alone
        task = self.planner.next(pool, ahead=ahead)
        fallen = self.planner.take_fallen()
        self.fell_for_poison(fallen)
        self.fell_asleep(fallen)
        if fallen:  # some that waited for the end of those may be ready now
            ready, may = model.ready(pool), model.startable(pool)
        if barrier is not None and barrier.state == "waiting":
            may = [one for one in may if one is barrier or not model.delays(one, barrier)]
        self.take_in(fallen)
        if task is None:
            if not ahead:
                assert not may, (
                    f"{self.planner.explain(may[0].task)} but it may start beside {self.model.occupants()}, {barrier}"
                )
                if not alone and not held_back:
                    for one in ready:
                        if one.state == "waiting":
                            model.refuse(one)
            return None
        started = model.at(task.path)
        assert started in may, f"{started} may not start, only {may} may, {barrier}, {self.model.occupants()}"
        assert started is may[0] or ahead or (started is barrier and held_back), f"{may[0]} is better than {started}"
        if ahead:
            assert not started.takes, f"{started} was handed out ahead of time"
        for one in ready[: ready.index(started)]:
            if one.state == "waiting" and not (started is barrier and held_back):
                model.refuse(one)
        model.start(started)
        self.started.add(started.path)
        self.is_fair(barrier)
        return started

    def fell_for_poison(self, fallen) -> None:
        """Who needs what is not sane may leave when it is looked at, and then what requires it."""
        for one in [self.model.at(fell.task.path) for fell in fallen if "not sane" in fell.reason]:
            if self.model.is_ready(one) and self.model.is_poisoned(one):
                self.model.drop(one, "skipped")
                self.model.doomed()

    def fell_asleep(self, fallen) -> None:
        """When nothing can happen any more, lazy tasks that others wait for the end of leave."""
        lazy = [self.model.at(fell.task.path) for fell in fallen if "(lazy)" in fell.reason]
        assert not lazy or self.model.is_quiet()
        for one in lazy:
            if one.state == "waiting":
                assert one.asleep
                assert any(one in other.after for other in self.model.all)
                self.model.drop(one, "skipped")
                self.model.doomed()

    def is_fair(self, before: One | None) -> None:
        """A barrier comes after enough overtakes, and then at once for the one that has waited longest."""
        barrier = self.barrier()
        late = self.model.too_late(LIMIT)
        if before is None and late:
            assert barrier is not None, f"{late} waited too long: {late[0].overtaken_on}"
        if barrier is not None and barrier is not before:
            assert barrier.overtakes >= LIMIT, f"{barrier} became the barrier after {barrier.overtakes}"

    @rule(data=st.data(), ends=st.lists(ENDS, min_size=1, max_size=3))
    def finish(self, data, ends) -> None:
        for success, frees in ends:
            self.end(data, success, frees)
            self.check()

    def end(self, data, success, frees) -> None:
        """What requires it becomes ready, or is skipped, transitively."""
        one = self.some(data, "running", "up")
        if one is None:
            return
        success = success or one.state == "up"
        poisons = not success and data.draw(st.sampled_from([False, False, True]))
        if poisons:
            self.model.poison += [(lock, one) for lock in one.task.claims]
            fallen = self.planner.poison(one.task)
            self.fell_for_poison(fallen)
            self.take_in(fallen)
            assert not [other for other in self.model.all if other.later and self.model.is_poisoned(other)]
        fallen = self.planner.finish(one.task, success=success, free=frees == "at once")
        self.left.append(one.path)
        self.model.drop(one, "done" if success else "failed")
        one.occupies = one.takes and frees != "at once"
        self.model.doomed()
        self.take_in(fallen)
        if frees == "then":
            self.planner.free(one.task)
            self.model.free(one)

    @rule(data=st.data(), verbs=st.lists(st.sampled_from(RETRY), min_size=1, max_size=3))
    def retry(self, data, verbs) -> None:
        for verb in verbs:
            getattr(self, verb)(data)
            self.check()

    @rule(data=st.data(), verb=st.sampled_from(SELDOM))
    def seldom(self, data, verb) -> None:
        getattr(self, verb)(data)

    def free(self, data) -> None:
        """What it held is given back when its last process is gone."""
        for one in self.model.all:
            if one.occupies and one.state not in {"running", "up"} and data.draw(st.booleans()):
                self.planner.free(one.task)
                self.model.free(one)

    def requeue(self, data) -> None:
        """A running task is ready again: at once, or later."""
        one = self.some(data, "running")
        if one is None:
            return
        free, later = data.draw(st.booleans()), data.draw(st.booleans())
        self.planner.requeue(one.task, free=free, later=later)
        one.state, one.occupies, one.later = "waiting", one.takes and not free, later
        if self.model.draining and not one.task.cleanup:
            self.model.drop(one, "cancelled")
            self.model.doomed()
        self.take_in(self.planner.take_fallen())

    def again(self, data) -> None:
        """Who waits to be tried again is offered; for anybody else nothing happens."""
        late = [one for one in self.model.all if one.later]
        found = late if late and data.draw(st.sampled_from([True, True, True, False])) else self.model.all
        if not found:
            return
        one = data.draw(st.sampled_from(found))
        before = snapshot(self.planner)
        self.planner.again(one.task)
        assert one.later or snapshot(self.planner) == before
        one.later = False

    def recall(self, data) -> None:
        """What has not been handed out leaves as it has ended before; those among it that require one another stay so."""
        waiting = [one for one in self.model.all if one.state == "waiting" and one.path not in self.started]
        if not waiting:
            return
        chosen = data.draw(st.lists(st.sampled_from(waiting), min_size=1, max_size=3, unique=True))
        ended = [(one, data.draw(st.booleans())) for one in chosen]
        fallen = self.planner.recall([(one.task, success, "failed") for one, success in ended])
        for one, success in ended:
            self.left.append(one.path)
            self.model.drop(one, "done" if success else "failed")
        self.model.doomed()
        self.take_in(fallen)

    def cancel(self, data) -> None:
        """What has not started is taken out."""
        if not self.model.all:
            return
        wanted = data.draw(st.lists(st.sampled_from(self.model.all), max_size=2))
        fallen = self.planner.cancel([one.task for one in wanted])
        for one in wanted:
            if one.state == "waiting":
                self.model.drop(one, "cancelled")
        self.model.doomed()
        self.take_in(fallen)

    def drain(self, data) -> None:
        """Nothing but clean-ups starts any more."""
        if not data.draw(st.sampled_from([False, False, False, True])):
            return
        fallen = self.planner.drain()
        self.model.draining = True
        for one in self.model.all:
            if one.state == "waiting" and not one.task.cleanup:
                self.model.drop(one, "cancelled")
        self.model.doomed()
        self.take_in(fallen)

    def hold(self, _data) -> None:
        self.planner.hold()
        self.model.holds += 1

    def release(self, _data) -> None:
        if self.model.holds:
            self.planner.release()
            self.model.holds -= 1

    def over(self, _data) -> None:
        """It is over when every task has left and nobody holds it."""
        assert self.planner.is_over() == self.model.is_over()
        self.take_in(self.planner.take_fallen())

    def wrong(self, data) -> None:
        """What the table of transitions does not have raises, and changes nothing."""
        if not self.model.all:
            return
        one = data.draw(st.sampled_from(self.model.all))
        verbs = []
        if one.state not in {"running", "up"}:
            verbs += [self.planner.finish, self.planner.provide, self.planner.requeue, self.planner.restart]
        if one.state == "up":
            verbs += [self.planner.provide, self.planner.requeue]
        before = snapshot(self.planner)
        for verb in verbs:
            with pytest.raises(InternalError):
                verb(one.task)
        assert snapshot(self.planner) == before

    # -- always ---------------------------------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        self.planner.check()

    @invariant()
    def states(self) -> None:
        """Both agree on every task."""
        self.wake()
        for one in self.model.all:
            expected = STATES.get(one.state) or (State.READY if self.model.is_ready(one) else State.BLOCKED)
            assert self.planner.state(one.task) is expected, f"{one} is {self.planner.state(one.task)}, not {expected}"

    def wake(self) -> None:
        """Take over which lazy tasks were woken, if somebody needs them, and see that nobody waits for a sleeper."""
        dormant = {node.path for node in self.planner._graph.dormant}
        while woken := [
            one
            for one in self.model.all
            if one.asleep
            and one.path not in dormant
            and (one.state != "waiting" or any(self.needs(other, one) for other in self.model.all if not other.asleep))
        ]:
            for one in woken:
                one.asleep = False
        assert {one.path for one in self.model.all if one.asleep} == dormant
        assert not self.model.must_wake()

    @staticmethod
    def needs(other: One, one: One) -> bool:
        return any(one in leaves_of(item) for item in other.requires)

    @invariant()
    def explains(self) -> None:
        """There is a reason for everything that waits."""
        for one in self.model.all:
            told = self.planner.explain(one.task)
            assert told.path == one.path
            assert told.waits_for or one.state != "waiting", f"{one} waits for nothing"
            assert ("waits to be tried again" in told.waits_for) == one.later

    @invariant()
    def waits(self) -> None:
        """Both agree on how many wait to be tried again; nobody says that the run is over, or stuck, while they do."""
        late = sum(one.later for one in self.model.all)
        assert self.planner.waiting_to_be_tried == late
        if late:
            assert not self.planner.is_over()
            assert not self.planner.is_stuck(asked=True)

    def teardown(self) -> None:
        """Whatever was done to it, a run comes to its end, and every task leaves exactly once."""
        while self.model.holds:
            self.release(None)
        while True:
            self.states()
            self.check()
            for pool in (*POOLS, POOLS[0]):  # a task that falls may let one start in the pool asked before
                while self.start(pool, ahead=False):
                    pass
            self.waits()
            waits = self.planner.is_waiting()
            assert waits == self.model.is_waiting()
            if not self.go_on(waits):
                break
        assert not self.planner.is_stuck(), [str(self.planner.explain(one.task)) for one in self.model.all]
        assert self.model.is_over(), [one for one in self.model.all if one.state not in FINAL]
        assert self.planner.is_over(), [
            str(self.planner.explain(one.task)) for one in self.model.all if not self.planner.is_final(one.task)
        ]
        self.take_in(self.planner.take_fallen())
        assert sorted(self.left) == sorted(one.path for one in self.model.all)

    def go_on(self, waits) -> bool:
        """Let something happen, as in a run: attempts end, who waits is tried again, processes go, services come down."""
        late = [one for one in self.model.all if one.later]
        running = [one for one in self.model.all if one.state == "running"]
        up = [one for one in self.model.all if one.state == "up"]
        lives = [one for one in self.model.all if one.occupies and one not in running + up]
        if waits:
            for one in late:
                self.planner.again(one.task)
                one.later = False
        elif lives and not running:
            for one in lives:
                self.planner.free(one.task)
                self.model.free(one)
        for one in running or (() if waits or lives else up):
            self.left.append(one.path)
            fallen = self.planner.finish(one.task)
            self.model.drop(one, "done")
            one.occupies = one.takes
            self.take_in(fallen)
        return bool(late or running or up or lives)


@pytest.mark.timeout(500)  # a failure may take minutes to shrink, and is worth it
def test_planner_agrees_with_the_slow_obvious_one(monkeypatch):
    """Any order of verbs gives the states, starts, skips and endings that the words of the contract say."""
    monkeypatch.setattr(locks, "OVERTAKES", LIMIT)
    phases = set(Phase) - {Phase.explain}
    thorough = settings(max_examples=150, stateful_step_count=40, deadline=None, print_blob=True, phases=phases)
    run_state_machine_as_test(PlannerMachine, settings=thorough)
