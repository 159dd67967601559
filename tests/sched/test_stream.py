"""Streams in threads: each result for one reader, handed back by who leaves it, nothing started while one is full."""

import gc
import pickle
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pexen
from pexen import DefinitionError, InlinePool, PexenError, PoolError, ProcessPool, Sched, Status, Task, ThreadPool
from pexen.testing import ScriptedPool

PATIENCE = 30.0


def nothing() -> None:
    pass


def tasks(count, what=nothing):
    return [Task(what, f"t{number}") for number in range(count)]


def paths(results):
    return [result.path for result in results]


class Held:
    """A run that its test drives, one task at a time."""

    def __init__(self, count, workers=1):
        self.pool = ScriptedPool(workers=workers)
        self.run = Sched(tasks(count), pool=self.pool).open()

    def end(self, *names):
        for name in names:
            self.pool.end(name)

    @property
    def started(self):
        return len(self.pool.submitted)

    def close(self):
        """End the run; return what the loop over it would have been given."""
        found = []
        while self.pool.running():
            self.pool.end_all()
        while (batch := self.run.take(0.0)) is not None:
            found += paths(batch)
        self.run.close()
        return found


# -- who gets what ----------------------------------------------------------------------------------------------------


def test_every_stream_gets_every_result_and_so_does_the_loop():
    held = Held(3)
    first, second = held.run.stream(), held.run.stream()
    held.end("t0", "t1")
    assert held.close() == ["t0", "t1", "t2"]
    assert paths(first) == paths(second) == ["t0", "t1", "t2"]


def test_results_so_far_come_first():
    held = Held(3)
    held.end("t0", "t1")
    late = held.run.stream()
    held.close()
    assert paths(late) == ["t0", "t1", "t2"]
    assert paths(held.run.stream()) == ["t0", "t1", "t2"]
    assert paths(late) == []


def test_results_of_runs_before_do_not():
    sched = Sched(tasks(2), pool=ThreadPool(2))
    sched.wait()
    sched.add([Task(nothing, "new")])
    assert paths(sched.start().stream()) == ["new"]


def test_what_was_skipped_or_cancelled_comes_as_well():
    broken = Task(lambda: 1 / 0, "broken")
    run = Sched([broken, Task(nothing, "after", requires=broken)], pool=ThreadPool(1)).start()
    assert {result.path: str(result.status) for result in run.stream()} == {"broken": "error", "after": "skipped"}


def test_with_a_journal_as_well(tmp_path):
    run = Sched(tasks(50), pool=ThreadPool(2), journal=tmp_path / "run", durability="process").start()
    assert sorted(paths(run.stream())) == sorted(f"t{number}" for number in range(50))


@pytest.mark.parametrize("pool", [InlinePool, lambda: ThreadPool(2), lambda: ProcessPool(1)])
def test_each_result_is_for_one_of_many_threads(pool):
    run = Sched(tasks(300), pool=pool()).start()
    stream, found = run.stream(), []
    threads = [threading.Thread(target=lambda: found.extend(paths(stream))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.wait(PATIENCE)
    assert Counter(found) == Counter(f"t{number}" for number in range(300))


def test_values_stay_as_they_are():
    run = Sched([Task(lambda: [1, 2], "t")], pool=ThreadPool(1)).start()
    (result,) = run.stream()
    assert result.value == [1, 2]
    assert not result.redelivered
    assert run.wait(PATIENCE)["t"] is result


# -- leaving ----------------------------------------------------------------------------------------------------------


class OnPurposeError(Exception):
    pass


def leaves(stream, how):
    """Take one result and go away with it."""
    if how == "close":
        reader = iter(stream)
        next(reader)
        reader.close()
    elif how == "break":
        for _ in stream:
            break
    elif how == "raise":
        with pytest.raises(OnPurposeError):
            for _ in stream:
                raise OnPurposeError
    elif how == "thread":

        def body():
            reader = iter(stream)
            next(reader)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    else:
        reader = iter(stream)
        next(reader)
        cycle = [reader]
        cycle.append(cycle)
        del reader, cycle
        gc.collect()


@pytest.mark.parametrize("how", ["break", "raise", "thread", "cycle"])
def test_who_goes_away_hands_back_what_it_holds_and_that_is_marked(how):
    held = Held(3)
    stream = held.run.stream()
    held.end("t0", "t1")
    leaves(stream, how)
    held.close()
    assert [(result.path, result.redelivered) for result in stream] == [("t0", True), ("t1", False), ("t2", False)]
    assert not held.run.wait(0)["t0"].redelivered


def test_who_closes_its_reader_has_dealt_with_what_it_holds():
    held = Held(2)
    stream = held.run.stream()
    held.end("t0")
    leaves(stream, "close")
    held.close()
    assert [(result.path, result.redelivered) for result in stream] == [("t1", False)]


def test_nobody_comes_to_the_end_while_somebody_holds_a_result():
    held = Held(2)
    stream = held.run.stream()
    held.end("t0")
    reader = iter(stream)
    assert next(reader).path == "t0"
    held.close()
    found = []
    other = threading.Thread(target=lambda: found.extend((one.path, one.redelivered) for one in stream))
    other.start()
    del reader
    other.join(PATIENCE)
    assert ("t0", True) in found
    assert len(found) == 2


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(["close", "leave"]), max_size=5), min_size=1, max_size=6), st.data())
def test_none_is_lost_and_none_comes_twice_unmarked(plans, data):
    count = data.draw(st.integers(1, 40))
    run = Sched(tasks(count), pool=ThreadPool(2)).start()
    stream = run.stream(data.draw(st.none() | st.integers(1, 5)))
    dealt, unmarked, lock = Counter(), Counter(), threading.Lock()

    def read(plan):
        for step in [*plan, "all"]:
            reader = iter(stream)
            for result in reader:
                with lock:
                    unmarked[result.path] += not result.redelivered
                    if step != "leave":
                        dealt[result.path] += 1
                if step == "close":
                    reader.close()
                if step != "all":
                    break
            del reader

    threads = [threading.Thread(target=read, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    run.wait(PATIENCE)
    assert dealt == unmarked == Counter(f"t{number}" for number in range(count))


# -- room -------------------------------------------------------------------------------------------------------------


def test_nothing_starts_while_a_bounded_stream_is_full():
    held = Held(9)
    stream = held.run.stream(maxsize=2)
    held.end("t0")
    assert held.started == 2
    held.end("t1")
    assert held.started == 2
    reader = iter(stream)
    next(reader)
    assert held.started == 2  # it holds one, and one waits
    next(reader)
    assert held.started == 3
    held.end("t2")
    assert held.started == 3
    next(reader)
    reader.close()
    assert held.started == 4
    stream.close()
    held.close()


@pytest.mark.parametrize("journal", [False, True])
def test_memory_is_bounded_by_a_slow_reader(journal, tmp_path):
    options = {"journal": tmp_path / "run", "durability": "process"} if journal else {}
    started = []
    sched = Sched(tasks(200, lambda: started.append(1)), pool=ThreadPool(2, spare=0), **options)
    gate = threading.Event()
    sched.add([Task(gate.wait, f"gate{number}", priority=-1) for number in range(2)])
    run = sched.start()
    stream = run.stream(maxsize=4)
    gate.set()
    for number, _ in enumerate(stream):
        assert len(started) <= number + 4 + 2  # those in flight
    run.wait(PATIENCE)
    assert len(started) == 200


def test_the_narrowest_of_several_streams_counts():
    held = Held(9)
    wide, narrow, free = held.run.stream(maxsize=5), held.run.stream(maxsize=1), held.run.stream()
    held.end("t0")
    assert held.started == 1
    leaves(narrow, "close")
    assert held.started == 2
    for stream in (wide, narrow, free):
        stream.close()
    assert held.started == 2
    held.close()


def test_closing_a_full_stream_lets_the_run_go_on():
    held = Held(3)
    with held.run.stream(maxsize=1) as stream:
        held.end("t0")
        assert held.started == 1
    assert held.started == 2
    assert paths(stream) == []
    held.close()


def test_a_run_with_a_full_stream_can_be_closed():
    with Sched(tasks(100), pool=ThreadPool(2)) as sched:
        run = sched.start()
        stream = run.stream(maxsize=3)
    assert len(paths(stream)) == 100


def test_without_a_bound_nobody_is_held_back():
    run = Sched(tasks(50), pool=ThreadPool(2), backlog=5).start()
    stream = run.stream()
    run.wait(PATIENCE)
    assert len(paths(stream)) == 50


@pytest.mark.parametrize("maxsize", [0, -1])
def test_a_bound_below_one_is_refused(maxsize):
    held = Held(1)
    with pytest.raises(DefinitionError, match="maxsize"):
        held.run.stream(maxsize)
    held.close()


# -- the end ----------------------------------------------------------------------------------------------------------


def test_it_ends_for_all_when_the_run_ends():
    gate = threading.Event()
    run = Sched([Task(gate.wait, "t")], pool=ThreadPool(1)).start()
    stream, found = run.stream(), []
    threads = [threading.Thread(target=lambda: found.append(paths(stream))) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(found) == [[], [], [], ["t"]]


def test_it_ends_when_the_run_is_cut_short():
    gate = threading.Event()
    with Sched([Task(gate.wait, "t", args=(PATIENCE,), grace=0.01), *tasks(3)], pool=ThreadPool(1)) as sched:
        stream = sched.start().stream()
        sched.cancel()
        gate.set()
    assert {result.path: result.status for result in stream}["t2"] is Status.CANCELLED


class BrokenPool(ScriptedPool):
    """A pool that cannot work."""

    def submit(self, attempt):
        raise PoolError("broken on purpose")


def test_who_has_read_everything_gets_the_error_of_the_run():
    run = Sched(tasks(1), pool=BrokenPool()).start()
    with pytest.raises(PoolError, match="on purpose"):
        list(run.stream())
    with pytest.raises(PoolError, match="on purpose"):
        run.wait(PATIENCE)


def test_a_closed_stream_ends_wherever_it_is_read():
    held = Held(1)
    stream, found = held.run.stream(), []
    thread = threading.Thread(target=lambda: found.append(paths(stream)))
    thread.start()
    stream.close()
    stream.close()
    thread.join(PATIENCE)
    held.close()
    assert found == [[]]


# -- inside of tasks --------------------------------------------------------------------------------------------------


def reads(stream):
    return paths(stream)


def stream_in_a_task(pool, *, asks=False):
    """Return what becomes of a task that reads the stream of its own run."""
    sched, found, ready = Sched(pool=pool), [], threading.Event()

    def inside():
        ready.wait(PATIENCE)
        if asks:
            assert pexen.current().path == "t"
        return paths(found[0])

    sched.add([Task(inside, "t")])
    run = sched.start()
    found.append(run.stream())
    ready.set()
    return run.wait(PATIENCE)["t"]


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("pool", [InlinePool, lambda: ThreadPool(1)])
def test_a_task_cannot_read_the_stream_of_its_run(pool, asks):
    result = stream_in_a_task(pool(), asks=asks)
    assert result.status is Status.ERROR
    assert isinstance(result.error.exception, PexenError)
    assert "own run" in result.error.message


def test_a_task_in_another_process_cannot_either():
    gate = threading.Event()
    sched = Sched([Task(gate.wait, "gate", pool="threads")], pool=ProcessPool(1), pools={"threads": ThreadPool(1)})
    run = sched.start()
    with run.stream() as stream:
        sched.add([Task(reads, "t", args=(stream,))])
        gate.set()
        result = run.wait(PATIENCE)["t"]
    assert result.status is Status.ERROR
    assert "own run" in result.error.message


@pytest.mark.parametrize("pool", [lambda: ThreadPool(1), lambda: ProcessPool(1)])
def test_a_task_may_read_the_stream_of_another_run(pool):
    with Sched(tasks(5), pool=ThreadPool(1)).start().stream() as stream:
        results = pexen.run([Task(reads, "t", args=(stream,))], pool=pool())
        assert sorted(results["t"].value) == [f"t{number}" for number in range(5)]


def test_a_pickled_stream_can_be_read_in_this_process_as_well():
    with Sched(tasks(5), pool=ThreadPool(1)).start().stream() as stream:
        again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(stream))))
        assert sorted(paths(again)) == [f"t{number}" for number in range(5)]
        assert paths(stream) == paths(again) == []
