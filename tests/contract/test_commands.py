"""The seam between run and pools, for commands: one body for every pool that executes them."""

import os
import select
import threading
from collections.abc import Iterator

import pytest

from pexen.errors import PoolError
from pexen.model.event import Returned
from pexen.model.result import Outcome
from pexen.model.task import command
from pexen.pool.base import Survivors
from tests.contract.mailbox import BOUND
from tests.contract.pools import EXECUTING, Kind
from tests.leaks import Belongings, leaks_since
from tests.pool.box import Box
from tests.pool.pipes import pipe  # noqa: F401 - a fixture


@pytest.fixture(params=EXECUTING)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of the pools that execute commands."""
    return EXECUTING[request.param]


@pytest.fixture
def box(kind: Kind) -> Iterator[Box]:
    """The pool, open, with two workers."""
    box = Box(kind.make(2))
    box.pool.open(box)
    yield box
    box.pool.close()
    box.events.clear()  # pytest keeps the box for a while, and each output keeps its file


def ended(outcome: Outcome) -> tuple[str, str]:
    return str(outcome.status), outcome.reason


ENDS = {
    "true": ("passed", ""),
    "exit 3": ("failed", "exit code 3"),
    "exit 77": ("skipped", "exit code 77"),
    "kill -SEGV $$": ("crashed", "killed by signal 11 (SIGSEGV)"),
}


@pytest.mark.parametrize(("script", "end"), ENDS.items())
def test_how_it_ends_is_the_verdict(box: Box, script: str, end: tuple[str, str]) -> None:
    outcome = box.run(script)
    assert ended(outcome) == end
    assert outcome.attempt.started == outcome.started > 0
    assert 0 < outcome.duration < BOUND


def test_what_cannot_be_started_is_an_error_and_the_next_one_runs(box: Box) -> None:
    attempts = [box.submit(item) for item in (["./no"], ["true", "\0"], command(["true"], cwd="/no"), "true")]
    assert [box.wait_for(attempt).status for attempt in attempts] == ["error", "error", "error", "passed"]


def test_what_it_prints_is_kept_to_the_byte(box: Box) -> None:
    outcome = box.run(r"printf 'a\000\377'; printf 'b\n' >&2")
    assert outcome.output is not None
    assert outcome.output.read() == b"a\0\xffb\n"
    assert box.run("true").output is None


def test_it_is_told_who_it_is(box: Box) -> None:
    task = command("echo $PEXEN_PATH $PEXEN_ATTEMPT $PEXEN_UNITS_GPU", "some/task")
    outcome = box.run(task, number=2, units={"gpu": ("1", "3")})
    assert outcome.output is not None
    assert outcome.output.read() == b"some/task 2 1,3\n"


@pytest.mark.parametrize(("force", "how"), [(False, "terminated on request"), (True, "killed on request")])
def test_what_runs_is_ended_with_its_group(box: Box, pipe, force: bool, how: str) -> None:  # noqa: F811
    up, alive = pipe("up"), pipe("alive")
    reader = os.open(alive.path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        attempt = box.submit(f"exec 9> {alive.path}; sleep 600 & echo up > {up.path}; wait")
        assert up.get() == b"up\n"
        box.pool.cancel(attempt, force=force)
        assert ended(box.wait_for(attempt)) == ("cancelled", how)
        assert attempt.cancelled
        poll = select.poll()
        poll.register(reader, 0)
        assert poll.poll(BOUND * 1000), "the background process has survived"
    finally:
        os.close(reader)


def test_a_request_for_what_has_ended_changes_nothing(box: Box) -> None:
    attempt = box.submit("true")
    box.wait_for(attempt)
    box.pool.cancel(attempt, force=True)
    assert box.run("true").status == "passed"
    assert len(box.ended()) == 2


def test_close_ends_everything_and_the_pool_can_be_opened_again(kind: Kind, pipe) -> None:  # noqa: F811
    ups, wait = [pipe("up1"), pipe("up2")], pipe("wait")
    pool = kind.make(2)
    for _ in range(2):
        box = Box(pool)
        pool.open(box)
        running = [box.submit(f"echo up > {up.path}; read x < {wait.path}") for up in ups]
        queued = [box.submit("true") for _ in range(3)]
        assert [up.get() for up in ups] == [b"up\n"] * 2
        assert pool.close() == Survivors()
        assert {one: ended(o) for one, o in box.ended().items()} == dict.fromkeys(
            running, ("cancelled", "killed on request")
        )
        assert box.returned == queued
        assert pool.close() == Survivors()


def test_a_pool_that_is_not_open_takes_nothing(kind: Kind) -> None:
    box = Box(kind.make(1))
    with pytest.raises(PoolError, match="not open"):
        box.submit("true")
    box.pool.cancel(box.attempt("true"), force=True)
    assert box.pool.close() == Survivors()


def test_a_long_chain_is_submitted_by_the_pools_own_thread(kind: Kind) -> None:
    left, idents = list(range(300)), set()

    def next_one(_: object) -> None:
        idents.add(threading.get_ident())
        if left:
            left.pop()
            box.submit("exit 1" if len(left) % 2 else "./missing")

    box = Box(kind.make(2), next_one)
    box.pool.open(box)
    box.submit("true")
    box.wait_for_ends(301)
    box.pool.close()
    box.on_event = None
    assert len(box.ended()) == 301
    assert len(idents) == 1
    assert idents != {threading.get_ident()}


def test_it_can_be_closed_from_within_a_post(kind: Kind, pipe) -> None:  # noqa: F811
    wait, closed, done = pipe("wait"), threading.Event(), threading.Event()

    def close(_: object) -> None:
        if not closed.is_set():
            closed.set()
            box.pool.close()
            done.set()

    box = Box(kind.make(2), close)
    box.pool.open(box)
    hanging = box.submit(f"read x < {wait.path}")
    box.submit("true")
    assert done.wait(BOUND)
    assert ended(box.wait_for(hanging)) == ("cancelled", "killed on request")
    box.on_event = None


def test_everything_that_is_submitted_from_many_threads_ends_once(box: Box) -> None:
    lock = threading.Lock()

    def submit() -> None:
        for _ in range(25):
            with lock:
                attempt = box.attempt("true")
            box.pool.submit(attempt)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    box.wait_for_ends(200)
    assert len(box.ended()) == 200


@pytest.mark.parametrize("round_", range(5))
def test_each_attempt_has_one_end_when_the_pool_is_closed_in_the_middle(kind: Kind, round_: int) -> None:
    box = Box(kind.make(3))
    box.pool.open(box)
    attempts = [box.submit("true") for _ in range(60)]
    box.wait_for_ends(round_ * 5)
    box.pool.close()
    assert sorted(end.attempt.id for end in box.ends) == [attempt.id for attempt in attempts]
    assert {end.status for end in box.ends if not isinstance(end, Returned)} <= {"passed", "cancelled"}


def test_closing_leaves_nothing_behind(kind: Kind) -> None:
    before = Belongings.now()
    box = Box(kind.make(3))
    box.pool.open(box)
    for _ in range(20):
        box.submit("echo out; sleep 600 &")
    box.wait_for_ends(20)
    box.pool.close()
    box.events.clear()
    assert leaks_since(before) == {}
