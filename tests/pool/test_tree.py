"""Process trees: who belongs to them, and that nobody survives. Real processes; a shared pipe says when all are gone."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from pexen.pool import cgroup, subreaper, tree
from pexen.pool.tree import Family, Identity, Process

BOUND = 30.0
DAEMON = "( ( setsid sh -c '{}' & ) & )"
CLEARED = "( ( env -i {path} setsid sh -c '{}' & ) & )"


class Yard:
    """Where processes are started: each has the writing end of one pipe, and says there that it is up."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.leaders: list[subprocess.Popen[bytes]] = []

    def sh(self, script: str, *, up: int = 1, **env: str) -> subprocess.Popen[bytes]:
        """Run a shell script in a session of its own; return when ``up`` processes have printed a dot."""
        script = script.replace("UP", f"echo -n . > /proc/self/fd/{self.write}")
        return self.start(["sh", "-c", script], up=up, **env)

    def python(self, code: str, *, up: int = 1, **env: str) -> subprocess.Popen[bytes]:
        code = f"import os, signal, sys, time\ndef up(): os.write({self.write}, b'.')\n" + textwrap.dedent(code)
        return self.start([sys.executable, "-c", code], up=up, **env)

    def start(self, argv: list[str], *, up: int, **env: str) -> subprocess.Popen[bytes]:
        leader = subprocess.Popen(argv, env={**os.environ, **env}, pass_fds=[self.write], start_new_session=True)
        self.leaders.append(leader)
        self.until_up(up)
        return leader

    def until_up(self, count: int) -> None:
        while count > 0:
            assert self.readable(BOUND), "not all came up"
            count -= len(os.read(self.read, count))

    def readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.read, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def let_go(self) -> None:
        """Leave the pipe to the processes."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def is_empty(self, seconds: float = BOUND) -> bool:
        """Whether all who had the pipe are gone within some seconds."""
        self.let_go()
        deadline = monotonic() + seconds
        while self.readable(max(0.0, deadline - monotonic())):
            if not os.read(self.read, 65536):
                return True
        return False

    def close(self) -> None:
        """End what a failed test has left: everything below that we did not start elsewhere."""
        for leader in self.leaders:
            if leader.poll() is None:
                os.killpg(leader.pid, signal.SIGKILL)
            leader.wait()
        tree.end(tree.below(os.getpid()))
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break
        self.let_go()
        os.close(self.read)


@pytest.fixture
def yard() -> Iterator[Yard]:
    """Start processes below this one, which is given the orphans; conftest looks for zombies and descriptors."""
    assert subreaper.become_subreaper()
    assert subreaper.is_subreaper()
    yard = Yard()
    yield yard
    yard.close()
    subreaper._prctl(subreaper._PR_SET_CHILD_SUBREAPER, 0)
    assert not subreaper.is_subreaper()


def identity(process: subprocess.Popen[bytes]) -> Identity:
    found = tree.look(process.pid)
    assert found is not None
    return found.identity


def daemon(leader: subprocess.Popen[bytes]) -> Process:
    """Wait until the leader and all those between it and the daemon have ended; return the daemon."""
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    while True:
        children = [one for one in tree.snapshot().values() if one.parent == os.getpid() and one.pid != leader.pid]
        between = [one for one in children if one.session != one.pid]
        for one in between:
            os.waitpid(one.pid, 0)
        if children and not between:
            (found,) = children
            return found


def alive(members: list[Process]) -> int:
    return sum(one.is_alive for one in members)


def with_path(script: str) -> str:
    return CLEARED.replace("{path}", f"PATH={os.environ['PATH']}").format(script)


# -- looking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [") R 1 (", "a b", "x)", "(", "\xff"])
def test_names_of_processes_may_be_anything(yard: Yard, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    shutil.copy(shutil.which("sh") or "", file)
    script = f"echo -n . > /proc/self/fd/{yard.write}; sleep 600 & wait"
    leader = yard.start([str(file), "-c", script], up=1)
    found = tree.look(leader.pid)
    assert found is not None
    assert (found.pid, found.parent, found.group, found.session) == (leader.pid, os.getpid(), leader.pid, leader.pid)
    assert found.name == name.encode().decode(errors="backslashreplace")
    assert found.is_alive
    assert tree.command_line(leader.pid) == f"{file} -c {script}"
    assert tree.snapshot()[leader.pid].identity == found.identity


def test_what_is_gone_is_nobody() -> None:
    child = subprocess.Popen(["true"])
    it = identity(child)
    child.wait()
    assert tree.look(child.pid) is None
    assert not tree.is_alive(it)
    assert not tree.kill(it)
    assert tree.command_line(child.pid) == tree.lineage(child.pid) == ""


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    it = identity(child)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not tree.is_alive(it)
    child.wait()


def test_an_identity_that_lasts_means_nobody_after_a_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    me = tree.look(os.getpid())
    assert me is not None
    lasting = me.identity.lasting()
    assert tree.is_alive(me.identity)
    assert tree.is_alive(lasting)
    monkeypatch.setattr(tree, "boot", lambda: "another")
    assert not tree.is_alive(lasting)
    assert tree.is_alive(me.identity)


# -- belonging -------------------------------------------------------------------------------------------------------


def test_descendants_belong(yard: Yard) -> None:
    leader = yard.sh("sh -c 'setsid sleep 600 & UP; wait' & wait")
    assert alive(Family(identity(leader)).members(tree.snapshot())) == 3


def test_the_session_and_the_group_belong_when_parents_are_dead(yard: Yard) -> None:
    leader = yard.sh("( ( UP; exec sleep 600 ) & )")
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    processes = tree.snapshot()
    assert alive(Family(identity(leader)).members(processes)) == 0
    assert alive(Family(session=leader.pid).members(processes)) == 1
    assert alive(Family(group=leader.pid).members(processes)) == 1


def test_daemons_belong_by_their_environment(yard: Yard) -> None:
    leader = yard.sh(DAEMON.format("sleep 600 & UP; wait"), PEXEN_LINEAGE="run.7")
    leader.wait()
    processes = tree.snapshot()
    assert alive(Family(lineage="run.7").members(processes)) == 2
    for other in ("run", "run.", "un.7", "run.70", "run.7/1", "/run.7"):
        assert Family(lineage=other).members(processes) == []


def test_those_of_a_pexen_inside_belong_as_well(yard: Yard) -> None:
    inner = tree.lineage_below("run.7", "inner", 1)
    yard.sh(DAEMON.format("sleep 600 & UP; wait"), PEXEN_LINEAGE=inner).wait()
    processes = tree.snapshot()
    assert inner == "run.7/inner.1"
    assert alive(Family(lineage="run.7").members(processes)) == 2
    assert alive(Family(lineage=inner).members(processes)) == 2
    assert Family(lineage="run").members(processes) == []
    assert Family(lineage="inner.1").members(processes) == []


def test_a_daemon_that_has_cleared_its_environment_is_a_stray(yard: Yard) -> None:
    leader = yard.sh(with_path("UP; exec sleep 600"), PEXEN_LINEAGE="run.7")
    stray = daemon(leader)
    processes = tree.snapshot()
    family = Family(session=leader.pid, group=leader.pid, lineage="run.7")
    assert [one.pid for one in family.members(processes)] == [leader.pid]
    find = [tree.below(os.getpid(), {leader.pid}, before=ticks) for ticks in (stray.start, stray.start + 1)]
    assert [alive(finder(processes)) for finder in find] == [0, 1]
    assert alive(tree.below(os.getpid())(processes)) == 1


def test_who_asks_and_his_ancestors_never_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "lineage", lambda pid: "run.7")
    mine = {os.getpid(), os.getppid(), 1}
    for family in (Family(session=os.getsid(0)), Family(group=os.getpgid(0)), Family(lineage="run.7")):
        assert not mine & {one.pid for one in family.members(tree.snapshot())}


def test_nothing_that_is_older_than_the_leader_belongs(yard: Yard) -> None:
    leader = yard.sh("sleep 600 & UP; wait")
    later = identity(leader)._replace(start=identity(leader).start + 1_000_000)
    assert Family(later, leader.pid, leader.pid).members(tree.snapshot()) == []


def test_orphans_are_noticed_cheaply(yard: Yard) -> None:
    me = os.getpid()
    assert not tree.has_orphans(me, ())
    leader = yard.sh(DAEMON.format("UP; exec sleep 600"))
    pid = daemon(leader).pid
    assert tree.has_orphans(me, {leader.pid})
    assert not tree.has_orphans(me, {leader.pid, pid})
    assert tree.has_orphans(1 << 30, ()), "nobody can tell"


def test_a_tree_is_drawn(yard: Yard) -> None:
    leader = yard.sh("sh -c 'UP; sh -c \"UP; kill -STOP \\$\\$\"; :' & wait", up=2)
    lines = tree.drawn(Family(identity(leader)).members(tree.snapshot()))
    words = [line.split(maxsplit=2) for line in lines]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4]
    assert words[0][0] == str(leader.pid)
    assert words[2][2].startswith("sh -c echo -n . > /proc/self/fd/")
    assert all(state in "SRDT" for _, state, _ in words)


# -- ending ----------------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[], str]] = {
    "grandchildren": lambda: "sh -c 'sh -c \"sleep 600 & UP; wait\" & wait' & wait",
    "ignores TERM": lambda: "trap '' TERM HUP INT; sleep 600 & UP; wait",
    "stopped": lambda: "sh -c 'UP; kill -STOP $$; sleep 600' & wait",
    "daemon": lambda: DAEMON.format("UP; sleep 600 & sleep 600"),
    "daemon without environment": lambda: with_path("UP; sleep 600 & sleep 600"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_survives(yard: Yard, kind: str) -> None:
    leader = yard.sh(KINDS[kind]())
    began = monotonic()
    toll = tree.end(tree.below(os.getpid()))
    assert monotonic() - began < tree.PATIENCE
    assert toll.left == ()
    assert toll.killed
    leader.wait()
    tree.reap(one for one in toll.killed if one.pid != leader.pid)
    assert yard.is_empty(0)


def test_what_was_killed_is_told(yard: Yard) -> None:
    yard.sh(DAEMON.format("sleep 600 & UP; wait"), PEXEN_LINEAGE="run.7").wait()
    toll = tree.end(Family(lineage="run.7").members)
    assert len(toll.killed) == 2
    assert any(one.name == "sh" and "sleep 600 & echo" in one.words for one in toll.killed)
    tree.reap(toll.killed)


def test_what_was_killed_is_told_in_words() -> None:
    killed = [tree.Killed(1, name, "") for name in "abcdef"]
    assert str(tree.Toll()) == "0 processes"
    assert str(tree.Toll((killed[0],))) == "1 process (a)"
    assert str(tree.Toll((killed[1], killed[0], killed[1]))) == "3 processes (b, a)"
    assert str(tree.Toll(tuple(killed))) == "6 processes (a, b, c, d, e, …)"


def test_others_are_left_alone(yard: Yard) -> None:
    one = yard.sh("sleep 600 & UP; wait", PEXEN_LINEAGE="run.1")
    other = yard.sh("sleep 600 & UP; wait", PEXEN_LINEAGE="run.10")
    toll = tree.end(Family(identity(one), one.pid, one.pid, "run.1").members)
    assert one.wait() == -signal.SIGKILL
    assert len(toll.killed) == 2
    tree.reap(killed for killed in toll.killed if killed.pid != one.pid)
    assert alive(Family(lineage="run.10").members(tree.snapshot())) == 2
    assert other.poll() is None


def test_the_leader_that_is_its_own_subreaper_is_ended_without_a_race(yard: Yard) -> None:
    """It goes on making daemons that nothing connects with it, until it is stopped; all of them come back to it."""
    leader = yard.python(
        """
        from pexen.pool.subreaper import become_subreaper
        assert become_subreaper()
        up()
        for _ in range(2000):
            if os.fork() == 0:
                if os.fork() == 0:
                    os.setsid()
                    signal.pause()
                os._exit(0)
        signal.pause()
        """,
        up=1,
        PYTHONPATH=str(Path(tree.__file__).parents[2]),
    )
    it = identity(leader)
    toll = tree.end(Family(it).members, last=it)
    assert toll.left == ()
    assert toll.killed[-1].pid == leader.pid, "killed last"
    assert leader.wait() == -signal.SIGKILL
    assert not [one for one in tree.snapshot().values() if one.parent == os.getpid() and one.is_alive]
    # Those that were zombies when the leader went are ours now; nobody else is.
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    assert yard.is_empty(0)


def test_a_small_fork_bomb_is_put_out(yard: Yard) -> None:
    """A binary tree of sessions, ended while it grows; one that would be full at 255."""
    leader = yard.python(
        """
        up()
        for _ in range(7):
            if os.fork() == 0:
                os.setsid()
        signal.pause()
        """,
        PEXEN_LINEAGE="bomb.1",
    )
    toll = tree.end(Family(identity(leader), lineage="bomb.1").members)
    assert toll.left == ()
    assert 1 <= len(toll.killed) <= 255
    leader.wait()
    for one in toll.killed:
        with suppress(ChildProcessError):
            os.waitpid(one.pid, 0)
    assert yard.is_empty(0)


HOPPER = """
up()
for _ in range(3000):
    if os.fork():
        os._exit(0)
    os.setsid()
"""


def test_who_forks_faster_than_one_can_look_is_given_up_in_time_and_told(yard: Yard) -> None:
    leader = yard.python(HOPPER)
    began = monotonic()
    toll = tree.end(tree.below(os.getpid(), {leader.pid}), seconds=0.3)
    assert monotonic() - began < 2
    assert len(toll.left) <= 1
    assert yard.is_empty(), "at the end of its hops"


def test_a_cgroup_ends_even_that(yard: Yard) -> None:
    group = cgroup.Cgroup.make("test")
    if group is None:
        pytest.skip("no cgroup can be made here")
    leader = yard.sh("UP; exec sleep 600")
    assert group.is_empty
    assert group.members() == []
    assert group.add(leader.pid)
    assert not group.is_empty
    assert leader.pid in group.members()
    hopper = subprocess.Popen(
        [sys.executable, "-c", f"import os\nos.read(0, 1)\ndef up(): os.write({yard.write}, b'.')\n{HOPPER}"],
        pass_fds=[yard.write], stdin=subprocess.PIPE,
    )  # fmt: skip
    assert group.add(hopper.pid)
    hopper.communicate(b"\n")
    yard.until_up(1)
    group.kill()
    assert leader.wait() == -signal.SIGKILL
    assert group.remove()
    assert not group.path.exists()
    assert not group.add(os.getpid())
    assert group.is_empty
    assert yard.is_empty(0)


class Machine:
    """A made-up /proc: processes by name, and what each look shows of them; who is killed is alive no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: str) -> None:
        self.looks = list(looks)
        self.sent: list[str] = []
        monkeypatch.setattr(tree, "snapshot", self.look)
        monkeypatch.setattr(tree, "kill", self.kill)
        monkeypatch.setattr(tree, "_wait", lambda *_: None)

    def process(self, name: str) -> Process:
        is_dead = name.islower() or f"{name} {signal.SIGKILL:d}" in self.sent
        return Process(ord(name.upper()), 2, 0, 0, ord(name.upper()), "Z" if is_dead else "S", name)

    def look(self) -> dict[int, Process]:
        shown = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {one.pid: one for one in map(self.process, shown)}

    def kill(self, identity: Identity, number: int = signal.SIGKILL) -> bool:
        self.sent.append(f"{chr(identity.pid)} {number:d}")
        return True


def everybody(processes: Mapping[int, Process]) -> Iterable[Process]:
    return processes.values()


def test_what_a_look_has_missed_is_found_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose parent forked behind the listing, and had ended when its turn came; lower case is dead."""
    machine = Machine(monkeypatch, "a", "aB", "aBc", "aBcD", "aBcD", "aBcD")
    toll = tree.end(everybody)
    assert machine.sent == ["B 9", "D 9"]
    assert [one.pid for one in toll.killed] == [ord("B"), ord("D")]


def test_as_long_as_there_are_new_dead_ones_somebody_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "a", "ab", "abc", "abcD")
    tree.end(everybody)
    assert machine.sent == ["D 9"]


def test_a_moment_of_silence_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "A", "A", "AB")
    tree.end(everybody)
    assert machine.sent == ["A 9", "B 9"]


def test_who_is_last_is_stopped_first_and_killed_when_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "AL", "ABL", "ABL", "ABLC", "ABLC")
    last = machine.process("L").identity
    tree.end(everybody, last=last)
    assert machine.sent == ["L 19", "A 9", "B 9", "C 9", "L 9"]


def test_parents_are_killed_before_their_children(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "CBA")
    tree.end(everybody)
    assert machine.sent == ["A 9", "B 9", "C 9"]


def test_where_there_is_nobody_one_look_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "", "A")
    assert tree.end(everybody) == tree.Toll()
    assert machine.sent == []


# -- never somebody else ----------------------------------------------------------------------------------------------


def test_a_number_that_means_somebody_else_by_now_is_not_killed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had ended, and its number been given away, between look and kill."""
    innocent = yard.sh("UP; exec sleep 600")
    found = tree.look(innocent.pid)
    assert found is not None
    past = found._replace(start=found.start - 1, parent=os.getpid())
    monkeypatch.setattr(tree, "snapshot", lambda: {past.pid: past})
    assert not tree.kill(past.identity)
    toll = tree.end(tree.below(os.getpid()), seconds=0.05)
    assert toll.killed == ()
    assert innocent.poll() is None
    assert tree.kill(found.identity)
    assert innocent.wait() == -signal.SIGKILL


def test_signals_go_through_a_pidfd(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = yard.sh("sleep 600 & UP; wait")
    for forbidden in ("kill", "killpg"):
        monkeypatch.setattr(os, forbidden, lambda *_: pytest.fail("by number"))
    toll = tree.end(Family(identity(leader)).members)
    assert len(toll.killed) == 2
    monkeypatch.undo()
    leader.wait()
    tree.reap(one for one in toll.killed if one.pid != leader.pid)


def test_what_may_not_be_killed_is_told_at_once(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = yard.sh("UP; exec sleep 600")

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    began = monotonic()
    toll = tree.end(Family(identity(leader)).members)
    assert monotonic() - began < tree.PATIENCE
    assert [one.pid for one in toll.left] == [leader.pid]
    assert toll.killed == ()
    monkeypatch.undo()
