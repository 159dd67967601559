"""Services in whole runs: when they are up, what becomes of them and of those who need them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

import pexen
from pexen import InlinePool, LocalPool, ProcessPool, Sched, Status, Task, ThreadPool
from pexen.model.command import Command
from pexen.testing.scripted import ScriptedPool

POOLS = {
    "inline": InlinePool,
    "thread": lambda: ThreadPool(2),
    "process": lambda: ProcessPool(2),
    "local": lambda: LocalPool(2),
}


@pytest.fixture(params=POOLS)
def pool(request):
    return POOLS[request.param]()


def story(results) -> dict[str, str]:
    return {path: str(one.status) for path, one in results.items()}


def task(path: str, **meta) -> Task:
    return Task(Command(("true",)), path, **meta)


def service(path: str, **meta) -> Task:
    return task(path, service=True, **meta)


def opened(tasks, *, workers: int = 2, **options):
    pool = ScriptedPool(workers=workers)
    sched = Sched(tasks, pool=pool, **options)
    return sched, pool, sched.open()


def ended(run) -> None:
    """See that a run is over, and close it."""
    while run.take() is not None:
        pass
    run.close()


# -- in each pool -------------------------------------------------------------------------------------------------------


@pexen.service
def db():
    yield "url"


@pexen.service
def broken():
    raise OSError("no disk")
    yield


@pexen.service
def messy():
    yield "url"
    raise OSError("still mounted")


@pexen.service(requires={db})
def web(db):
    yield f"{db}/web"


@pexen.service
async def alive():
    await asyncio.sleep(0)
    yield "awake"


@pexen.task(requires={web})
def query(web):
    return f"{web}?"


@pexen.task(requires={db})
def pid(db):
    return os.getpid(), threading.get_ident()


def test_its_value_is_what_it_yields_and_it_passes_when_it_has_been_torn_down(pool):
    results = Sched([query, web, db], pool=pool).wait()
    assert results["query"].value == "url/web?"
    assert results["db"].value == "url"
    assert list(results) == ["query", "web", "db"]
    assert results.ok


def test_an_asynchronous_generator_is_one_as_well(pool):
    @pexen.task(requires={alive})
    def asks(alive):
        return alive

    results = Sched([asks, alive], pool=pool).wait()
    assert (results["asks"].value, story(results)) == ("awake", {"asks": "passed", "alive": "passed"})


def test_a_setup_that_fails_is_its_result_and_skips_its_dependants(pool):
    results = Sched([Task(len, "a", args=([],), requires={broken}), broken], pool=pool).wait()
    assert story(results) == {"a": "skipped", "broken": "error"}
    assert results["a"].reason == "broken ended in an error"


def test_a_teardown_that_fails_is_a_warning_and_loses_no_result(pool):
    results = Sched([Task(len, "a", args=([],), requires={messy}), messy], pool=pool).wait()
    assert story(results) == {"a": "passed", "messy": "warned"}
    assert "teardown" in results["messy"].reason
    assert "still mounted" in results["messy"].error.message
    assert results.ok


def test_it_does_not_count_against_the_workers():
    results = pexen.run([query, web, db], pool=ThreadPool(1))
    assert results.ok
    assert pexen.run([query, web, db], pool=ProcessPool(1)).ok


def test_leaving_the_loop_early_tears_down(pool):
    downs = []

    @pexen.service
    def noted():
        yield
        downs.append(1)

    first = Task(len, "first", args=([],), requires={noted})
    sched = Sched([noted, first, Task(len, "second", args=([],), requires={noted, "/first"})], pool=pool)
    for _ in sched.run():
        break
    assert sched.results["noted"].status in {Status.PASSED, Status.CANCELLED}
    if not isinstance(pool, ProcessPool):
        assert downs == [1]


def test_one_that_nobody_needs_is_not_started_and_not_said_to_be_lazy():
    results = pexen.run([db])
    assert results["db"].status is Status.SKIPPED
    assert results["db"].reason == "nothing needed it"


# -- when ---------------------------------------------------------------------------------------------------------------


def test_it_starts_when_its_first_dependant_could_run_and_leaves_after_the_last():
    sched, pool, run = opened(
        [service("db"), task("slow"), task("a", requires=["/db", "/slow"]), task("b", requires="/a")]
    )
    assert pool.running() == ["slow"]
    pool.end("slow")
    assert pool.running() == ["db"]
    pool.up("db")
    assert pool.running() == ["db", "a"]
    pool.end("a")
    assert (pool.running(), pool.torn_down) == (["db", "b"], [])  # which relies on what a has made
    pool.end("b")
    assert pool.torn_down == ["db"]
    pool.end("db")
    ended(run)
    assert sched.results.ok


def test_they_leave_in_reverse_order_of_start_one_at_a_time_and_after_failures():
    sched, pool, run = opened(
        [service("x"), service("y"), service("z"), task("a", requires=["/x", "/y", "/z"])], workers=3
    )
    for name in ("y", "x", "z"):
        pool.up(name)
    pool.end("a", Status.FAILED)
    for name in ("z", "x", "y"):
        assert pool.torn_down[-1:] == [name]
        pool.end(name)
    ended(run)
    assert story(sched.results) == {"a": "failed", "z": "passed", "x": "passed", "y": "passed"}


def test_after_a_service_means_that_it_is_down():
    _, pool, run = opened([service("db"), task("a", requires="/db"), task("b", after="/db")])
    pool.up("db")
    pool.end("a")
    assert "b" not in pool.running()
    pool.end("db")
    assert pool.running() == ["b"]
    pool.end("b")
    ended(run)


@pytest.mark.parametrize("how", ["stop", "cancel", "one", "maxfail"])
def test_stopping_tears_down(how):
    options = {"maxfail": 1} if how == "maxfail" else {}
    tasks = [service("db"), task("a", requires="/db"), task("bad", requires="/db"), task("b", requires="/a")]
    sched, pool, run = opened(tasks, **options)
    pool.up("db")
    if how == "stop":
        run.stop()
    elif how == "cancel":
        run.cancel()
    elif how == "one":
        sched.cancel("a", "bad", "b")
    else:
        pool.end("bad", Status.FAILED)
        pool.end("a")
    assert pool.torn_down == ["db"]
    pool.end("db")
    ended(run)
    assert set(sched.results) == {"db", "a", "bad", "b"}
    assert pool.running() == []


def test_cancelling_a_service_skips_who_waits_for_it():
    sched, pool, run = opened([service("db"), task("a", requires="/db"), task("b", requires=["/db", "/a"])])
    pool.up("db")
    sched.cancel("db")
    assert pool.torn_down == ["db"]
    pool.end("db")
    pool.end("a")
    ended(run)
    assert story(sched.results) == {"db": "cancelled", "b": "skipped", "a": "passed"}


# -- one that dies ------------------------------------------------------------------------------------------------------


def test_who_runs_is_told_of_its_death_and_who_waits_is_skipped():
    sched, pool, run = opened([service("db"), task("a", requires="/db"), task("b", requires=["/db", "/a"])])
    pool.up("db")
    pool.end("db", Status.CRASHED, reason="signal 11")
    pool.end("a")
    ended(run)
    assert story(sched.results) == {"db": "crashed", "b": "skipped", "a": "warned"}
    assert [(one.name, one.message) for one in sched.results["a"].reports] == [("service db", "it has died: signal 11")]
    assert sched.results["b"].reason == "db crashed"


@pytest.mark.parametrize("journal", [False, True])
def test_nobody_starts_once_it_has_died(journal, tmp_path):
    options = {"journal": tmp_path} if journal else {}
    tasks = [service("db"), *(task(name, requires="/db") for name in "abc")]
    sched, pool, run = opened(tasks, workers=1, **options)
    pool.up("db")
    assert pool.running() == ["db", "a"]
    pool.end("db", Status.CRASHED)
    pool.end("a")
    ended(run)
    assert pool.submitted == ["db", "a"]
    assert story(sched.results) == {"db": "crashed", "a": "warned", "b": "skipped", "c": "skipped"}


def test_who_is_tried_again_waits_for_the_service_to_be_restarted():
    sched, pool, run = opened([service("db", restarts=1), task("a", requires="/db", retries=1)])
    pool.up("db")
    pool.end("db", Status.CRASHED)
    assert pool.running() == ["a"]
    pool.end("a", Status.FAILED)
    assert pool.running() == ["db"]
    pool.up("db")
    assert pool.running() == ["db", "a"]
    pool.end("a")
    pool.end("db")
    ended(run)
    assert story(sched.results) == {"a": "passed", "db": "passed"}
    assert [one.status for one in sched.results["db"].attempts] == [Status.CRASHED, Status.PASSED]


def test_who_fails_after_the_death_of_its_service_is_not_tried_again():
    sched, pool, run = opened([service("db"), task("a", requires="/db", retries=3)])
    pool.up("db")
    pool.end("db", Status.CRASHED)
    pool.end("a", Status.FAILED)
    ended(run)
    assert pool.submitted == ["db", "a"]
    assert story(sched.results) == {"db": "crashed", "a": "failed"}


def test_a_service_is_restarted_after_the_one_it_needs():
    _, pool, run = opened(
        [service("db", restarts=1), service("web", restarts=1, requires="/db"), task("a", requires="/web", retries=1)]
    )
    pool.up("db")
    pool.up("web")
    pool.end("db", Status.CRASHED)
    pool.end("web", Status.CRASHED)
    pool.end("a", Status.FAILED)
    assert pool.running() == ["db"]
    pool.up("db")
    assert pool.running() == ["db", "web"]
    pool.up("web")
    for name in ("a", "web", "db"):
        pool.end(name)
    ended(run)


def test_restarts_are_counted():
    tasks = [task("a", requires="/db"), task("b", requires=["/a", "/db"]), task("c", requires=["/b", "/db"])]
    sched, pool, run = opened([service("db", restarts=1), *tasks])
    for name in ("a", "b"):
        pool.up("db")
        pool.end("db", Status.CRASHED)
        pool.end(name)
    ended(run)
    assert len(sched.results["db"].attempts) == 2
    assert story(sched.results) == {"a": "warned", "db": "crashed", "c": "skipped", "b": "warned"}


@pytest.mark.parametrize("journal", [False, True])
def test_a_death_is_told_though_nobody_needs_it_restarted(journal, tmp_path):
    options = {"journal": tmp_path} if journal else {}
    sched, pool, run = opened([service("db", restarts=1), task("a", requires="/db")], **options)
    pool.up("db")
    pool.end("db", Status.CRASHED, reason="signal 11")
    pool.end("a")
    ended(run)
    assert story(sched.results) == {"a": "warned", "db": "crashed"}
    assert (sched.results["db"].reason, len(sched.results["db"].attempts)) == ("signal 11", 1)


def test_attempts_of_who_is_cancelled_while_it_waits_for_another_one_are_kept():
    sched, pool, run = opened([service("db", restarts=1), task("a", requires="/db", retries=1)])
    pool.up("db")
    pool.end("db", Status.CRASHED)
    pool.end("a", Status.FAILED)
    sched.cancel("a")
    pool.end("db", Status.CANCELLED)
    ended(run)
    assert [one.status for one in sched.results["a"].attempts] == [Status.FAILED]


def test_retries_are_for_the_setup():
    sched, pool, run = opened([service("db", retries=1), task("a", requires="/db")])
    pool.end("db", Status.FAILED)
    pool.up("db")
    pool.end("a")
    pool.end("db")
    ended(run)
    assert sched.results.ok


# -- one of several -----------------------------------------------------------------------------------------------------


def any_of(*paths: str):
    return pexen.any_of(*(f"/{path}" for path in paths))


def test_the_next_one_is_started_when_the_first_does_not_come_up():
    sched, pool, run = opened([service("nginx"), service("apache"), task("a", requires=[any_of("nginx", "apache")])])
    assert pool.running() == ["nginx"]
    pool.end("nginx", Status.FAILED)
    assert pool.running() == ["apache"]
    pool.up("apache")
    pool.end("a")
    pool.end("apache")
    ended(run)
    assert any("apache is started instead" in one for one in run.notices)
    assert story(sched.results) == {"nginx": "failed", "a": "passed", "apache": "passed"}


def test_one_that_failed_before_is_not_waited_for_when_the_other_dies():
    sched, pool, run = opened([service("db"), task("bad"), task("a", requires="/db"), task("z", requires="/a")])
    pool.end("bad", Status.FAILED)
    pool.up("db")
    sched.add([task("b", requires=[any_of("db", "bad"), "/a"])])
    pool.end("db", Status.CRASHED)
    pool.end("a")
    pool.end("z")
    ended(run)
    assert sched.results["b"].status is Status.SKIPPED


def test_one_that_has_passed_serves_when_the_other_dies():
    sched, pool, run = opened(
        [service("db"), task("file"), task("a", requires="/db"), task("b", requires=[any_of("db", "file"), "/a"])]
    )
    pool.up("db") if "db" in pool.running() else pool.end("file")
    for name in ("db", "file"):
        if name in pool.running() and name not in pool.services():
            pool.up(name) if name == "db" else pool.end(name)
    pool.end("db", Status.CRASHED)
    pool.end("a")
    assert pool.running() == ["b"]
    pool.end("b")
    ended(run)
    assert sched.results["b"].status is Status.PASSED


# -- beside others ------------------------------------------------------------------------------------------------------


def test_it_keeps_its_locks_while_it_is_up():
    sched, pool, run = opened(
        [service("db", claims="disk"), task("a", requires="/db", priority=-1), task("b", claims="disk", priority=1)]
    )
    pool.end("b") if "b" in pool.running() else None
    pool.up("db")
    pool.end("a")
    pool.end("db")
    if "b" in pool.running():
        pool.end("b")
    ended(run)
    assert sched.results.ok


def test_a_deadlock_is_refused_and_nothing_has_changed():
    with pytest.raises(pexen.DefinitionError, match="would wait for itself"):
        Sched([service("db", claims="disk"), task("a", requires="/db", claims="disk")])
    sched = Sched([service("db", claims="disk")])
    with pytest.raises(pexen.DefinitionError, match="would wait for itself"):
        sched.add([task("a", requires="/db", claims="disk")])
    sched.add([task("a", requires="/db")])
    with pytest.raises(pexen.DefinitionError, match="for ever"):
        sched.add([task("b", requires="/a", uses="disk")])


@pytest.mark.parametrize(
    "tasks",
    [
        [service("db", claims="disk"), task("a", requires="/db"), task("b", claims="disk")],
        [service("db", uses="disk"), task("a", requires="/db", uses="disk")],
        [service("db", claims="disk", requires="/make"), task("make", claims="disk"), task("a", requires="/db")],
        [service("x", claims="1"), service("y", claims="2", requires="/x"), task("a", requires=["/x", "/y"])],
        [service("db", claims="disk"), task("a", requires="/db"), task("b", claims="disk", after="/db")],
        [service("db"), task("a", requires="/db", alone=True)],
    ],
)  # fmt: skip
def test_what_cannot_deadlock_is_not_refused(tasks):
    pool = ScriptedPool(otherwise=Status.PASSED)
    assert Sched(tasks, pool=pool).wait().ok


def test_a_task_that_must_be_alone_may_run_beside_services():
    _, pool, run = opened([service("db"), task("a", requires="/db", alone=True), task("b", requires="/db")])
    pool.up("db")
    together = [one for one in pool.running() if one != "db"]
    assert len(together) == 1
    pool.end(together[0])
    pool.end(pool.running()[-1])
    pool.end("db")
    ended(run)


def test_poison_of_a_service_skips_who_needs_what_it_claimed():
    sched, pool, run = opened(
        [service("db", claims="disk"), task("a", requires="/db"), task("b", claims="disk", priority=9, after="/a")],
        poison=True,
    )
    pool.up("db")
    pool.end("db", Status.CRASHED)
    pool.end("a")
    ended(run)
    assert sched.results["b"].status is Status.SKIPPED
    assert "not sane" in sched.results["b"].reason


def test_explain_says_what_a_service_waits_for():
    sched, _, run = opened([service("db"), task("slow"), task("a", requires=["/db", "/slow"])])
    assert "nobody who requires it could run yet" in str(sched.explain("db"))
    assert "db (blocked)" in str(sched.explain("a"))
    run.cancel(force=True)
    ended(run)
    assert "cancelled" in str(sched.explain("db"))


# -- executables, and pools together --------------------------------------------------------------------------------------


def test_services_in_several_pools_serve_one_task():
    @pexen.service(pool="process")
    def there():
        yield os.getpid()

    @pexen.service
    def here():
        yield os.getpid()

    server = pexen.command("sleep 600", path="server", service=True)

    @pexen.task(requires={there, here, "/server"})
    def asks(there, here):
        return there, here

    results = Sched([asks, there, here, server], pools={"process": ProcessPool(1)}).wait()
    there_, here_ = results["asks"].value
    assert (here_, there_ != here_) == (os.getpid(), True)
    assert results.ok


def test_an_executable_that_ends_by_itself_is_dead(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    server = pexen.command(f"read x < {gate}", path="server", service=True)

    def opens():
        gate.write_text("x\n")
        while "server" not in sched.results:
            threading.Event().wait(0.01)

    sched = Sched(
        [server, Task(opens, "a", requires="/server"), Task(len, "b", args=([],), requires=["/server", "/a"])]
    )
    results = sched.wait()
    assert story(results) == {"server": "failed", "a": "warned", "b": "skipped"}


def test_one_that_ignores_being_asked_is_killed_and_nothing_lost(tmp_path):
    up = tmp_path / "up"
    script = f"trap '' TERM; touch {up}; while :; do sleep 1; done"
    stubborn = pexen.command(script, path="stubborn", service=True, ready=f"file:{up}", grace=0.1)
    results = pexen.run([stubborn, Task(len, "a", args=([],), requires="/stubborn")])
    assert story(results) == {"a": "passed", "stubborn": "warned"}


def test_the_timeout_is_for_the_setup_and_another_one_for_the_teardown():
    hangs = pexen.command("sleep 600", path="hangs", service=True, ready="file:/nonexistent/x", timeout=0.2, grace=0.1)
    slow = pexen.command("true", path="slow", teardown="sleep 600", timeout=0.3, grace=0.1)
    tasks = [hangs, slow, Task(len, "a", args=([],), requires="/hangs"), Task(len, "b", args=([],), requires="/slow")]
    results = pexen.run(tasks)
    assert story(results) == {"hangs": "timeout", "a": "skipped", "b": "passed", "slow": "warned"}


def test_a_process_with_a_service_that_is_killed_is_a_death():
    @pexen.service
    def doomed():
        yield os.getpid()

    def kills(doomed):
        os.kill(doomed, signal.SIGKILL)
        while "doomed" not in sched.results:
            threading.Event().wait(0.01)

    sched = Sched(
        [
            doomed, Task(kills, "a", requires={"doomed": doomed}, pool="threads"),
            Task(len, "b", args=([],), requires=[doomed, "/a"]),
        ],
        pool=ProcessPool(2), pools={"threads": ThreadPool(1)},
    )  # fmt: skip
    assert story(sched.wait()) == {"doomed": "crashed", "a": "warned", "b": "skipped"}


def told(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(f"{word}\n")


def telling(story_of):
    """Return a service that tells when it is up and down."""

    def db():
        told(story_of, "up")
        yield "url"
        told(story_of, "down")

    return Task(db, "db", service=True)


def boots():
    if not pexen.current().reboots:
        pexen.current().reboot()


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_it_is_down_when_the_machine_is_restarted_and_up_again_after_that(machine, kind):
    story_of = str(machine.folder / "story")
    restarted = Task(boots, "boots", requires="/db")
    last = Task(str, "z", requires=["/boots", "/db"])
    sched = machine.live(lambda: [telling(story_of), restarted, last], pool=POOLS[kind]())
    assert story(sched.results) == {"boots": "passed", "z": "passed", "db": "passed"}
    assert (machine.folder / "story").read_text().split() == ["up", "down"] * 2


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_deadline_of_the_run_ends_who_needs_it_and_tears_it_down(kind, tmp_path):
    def waits():
        while not pexen.current().cancelled:
            threading.Event().wait(0.01)

    tasks = [telling(str(tmp_path / "story")), Task(waits, "a", requires="/db"), Task(str, "z", requires=["/db", "/a"])]
    results = Sched(tasks, pool=POOLS[kind](), deadline=0.7).wait()
    assert results["z"].status is Status.CANCELLED
    if results["a"].start:
        assert results["a"].status is Status.TIMEOUT
        assert (tmp_path / "story").read_text().split() == ["up", "down"]


def test_a_run_that_is_taken_up_again_does_not_start_it_for_who_has_finished(tmp_path):
    def sched(**script):
        tasks = [service("db"), task("a", requires="/db"), task("b", requires="/db", after="/a"), task("z", after="/b")]
        script = {"db": [Status.PASSED], **{path: [Status.PASSED] for path in script}}
        pool = ScriptedPool(script)
        return Sched(tasks, pool=pool, journal=tmp_path), pool

    first, _ = sched(a=1, b=1)
    for result in first.run():
        if result.path == "a":
            break
    second, pool = sched(b=1, z=1)
    assert story(second.wait()) == dict.fromkeys(["a", "db", "b", "z"], "passed")
    assert pool.submitted == ["db", "b", "z"]
    third, pool = sched()
    assert story(third.wait()) == dict.fromkeys(["a", "db", "b", "z"], "passed")
    assert pool.submitted == []
