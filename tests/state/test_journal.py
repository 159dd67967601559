"""The journal: nothing is told before it is safe, everything is told in order, and a failure is told once."""

import errno
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pexen.errors import InternalError, PexenError, StateError
from pexen.state import appender, codec, disk, journal
from pexen.state.journal import Journal
from pexen.state.reader import read
from tests.state.hand import Watched, lines, run, written

LONG = 50.0
"""Seconds that nothing here takes: what waits so long has not been woken."""


def records(count: int) -> list[dict]:
    return [{"kind": "note", "n": number} for number in range(count)]


def numbers(folder: Path) -> list[int]:
    """Return the ``n`` of all records that can be read."""
    return [codec.with_json().decode(b"{" + line.split(b",", 2)[2])["n"] for line in
            (folder / "journal.jsonl").read_bytes().splitlines() if b'"n":' in line]  # fmt: skip


class Told:
    """Notes what is called back, and lets a test wait for it."""

    def __init__(self, steps: Watched | None = None) -> None:
        self.seqs: list[int] = []
        self.errors: list[PexenError] = []
        self.steps = steps
        self.event = threading.Event()
        self.threads: set[threading.Thread] = set()

    def committed(self, seq: int) -> None:
        self.seqs.append(seq)
        self.threads.add(threading.current_thread())
        if self.steps is not None:
            self.steps.taken.append(f"committed {seq}")
        self.event.set()

    def failed(self, error: PexenError) -> None:
        self.errors.append(error)
        self.event.set()

    def wait_for(self) -> None:
        assert self.event.wait(LONG)


def opened(folder: Path, told: Told, **rest) -> Journal:
    rest = {"steps": told.steps, **rest} if told.steps else rest
    return Journal(folder, committed=told.committed, failed=told.failed, **rest)


DURABILITIES = pytest.mark.parametrize("durability", ["full", "process"])


# -- in order, and safe -----------------------------------------------------------------------------------------------


@DURABILITIES
def test_what_was_appended_can_be_read(tmp_path: Path, coding, durability) -> None:
    told = Told()
    with opened(tmp_path, told, durability=durability) as writing:
        assert [writing.append(record) for record in [run(), *records(200)]] == list(range(1, 202))
        assert writing.flush()
        assert told.seqs[-1] == writing.committed == writing.last == 201
    assert told.seqs == sorted(set(told.seqs))
    assert numbers(tmp_path) == list(range(200))
    assert read(tmp_path).last == 201
    assert not told.errors


def test_nothing_is_told_before_it_is_on_the_disk(tmp_path: Path) -> None:
    told = Told(Watched())
    with opened(tmp_path, told) as writing:
        told.steps.taken.clear()
        for record in records(300):
            writing.append(record)
            if record["n"] % 70 == 0:
                writing.push()
        writing.flush()
        steps = told.steps.taken
        assert len(steps) % 3 == 0
        for write, sync, told_of in zip(steps[::3], steps[1::3], steps[2::3], strict=True):
            assert (write, sync) == ("write", "fdatasync")
            assert told_of.startswith("committed ")
        assert told.seqs == sorted(set(told.seqs))
        assert told.seqs[-1] == 300


def test_process_writes_and_does_not_sync(tmp_path: Path) -> None:
    told = Told(Watched())
    with opened(tmp_path, told, durability="process", gather=LONG) as writing:
        told.steps.taken.clear()
        for record in records(3):
            writing.append(record)
        writing.push()
        writing.append({"kind": "x"})
        writing.push()
        assert told.steps.taken == ["write", "committed 3", "write", "committed 4"]
        assert told.threads == {threading.current_thread()}


def test_records_are_written_in_groups(tmp_path: Path) -> None:
    told = Told(Watched())
    with opened(tmp_path, told, gather=LONG) as writing:
        told.steps.taken.clear()
        for record in records(journal.ENOUGH):
            writing.append(record)
        told.wait_for()
        assert told.steps.taken == ["write", "fdatasync", f"committed {journal.ENOUGH}"]


@DURABILITIES
def test_what_was_put_aside_is_collected_before_the_thread_writes(tmp_path: Path, durability) -> None:
    told, aside = Told(), []

    def collect() -> None:
        assert aside
        writing.append({"kind": "note", "n": aside.pop()})

    rest = {"durability": durability, "gather": 0.001, "aside": lambda: len(aside), "collect": collect}
    with opened(tmp_path, told, **rest) as writing:
        for number in range(20):
            told.event.clear()
            aside.append(number)
            if len(aside) >= writing.wanted:
                writing.wake()
            told.wait_for()
        assert writing.flush()
    assert numbers(tmp_path) == list(range(20))
    assert told.threads == {writing._thread}


def test_with_process_the_thread_leaves_writing_to_who_does_it(tmp_path: Path) -> None:
    told, turns, done = Told(), [], threading.Event()

    class Bell:
        """Three times somebody writes while the thread waits; then nobody does."""

        def __init__(self, bell) -> None:
            self.release, self.lock = bell.release, bell

        def acquire(self, timeout=None):
            if timeout is None:
                return self.lock.acquire()
            turns.append(writing.committed)
            if len(turns) <= 4:
                writing.append({"kind": "x"})
            if len(turns) <= 3:
                writing.push()
            if len(turns) == 5:
                done.set()
            return False

    with opened(tmp_path, told, durability="process", aside=lambda: len(turns) < 5) as writing:
        bell = writing._bell
        writing._bell = Bell(bell)
        writing.wake()
        assert done.wait(LONG)
        assert turns == [0, 1, 2, 3, 4]
        assert writing.flush()


def test_what_cannot_be_collected_fails_the_journal(tmp_path: Path) -> None:
    told = Told()

    def collect() -> None:
        raise KeyError("x")

    with opened(tmp_path, told, aside=lambda: 1, collect=collect, gather=0.001) as writing:
        told.wait_for()
        assert isinstance(writing.failure, InternalError)
        assert not writing.append({"kind": "x"})


def test_fewer_records_wait_for_a_while_and_no_longer(tmp_path: Path) -> None:
    told = Told(Watched())
    with opened(tmp_path, told, gather=0.001) as writing:
        told.steps.taken.clear()
        writing.append({"kind": "x"})
        told.wait_for()
        assert told.steps.taken == ["write", "fdatasync", "committed 1"]


@DURABILITIES
def test_push_waits_for_no_more_records(tmp_path: Path, durability) -> None:
    told = Told()
    with opened(tmp_path, told, gather=LONG, durability=durability) as writing:
        for number in range(1, 30):
            told.event.clear()
            writing.append({"kind": "x"})
            writing.push()
            told.wait_for()
            assert told.seqs[-1] == number


@DURABILITIES
def test_flush_and_close_wait_for_no_more_records(tmp_path: Path, durability) -> None:
    told = Told()
    with opened(tmp_path, told, gather=LONG, durability=durability) as writing:
        assert writing.flush()
        writing.append({"kind": "x"})
        assert writing.flush()
        assert told.seqs == [1]
        writing.append({"kind": "x"})
    assert told.seqs == [1, 2]
    assert not writing.append({"kind": "x"})
    writing.close()
    assert writing.flush()


def test_who_rings_when_the_thread_has_just_stopped_waiting_is_heard_once(tmp_path: Path) -> None:
    class LateBell:
        """Is rung at the moment in which waiting for it has timed out."""

        def __init__(self, bell) -> None:
            self.acquire, self.release, self.lock = self.wait, bell.release, bell

        def wait(self, timeout=None):
            if timeout is None:
                return self.lock.acquire()
            writing.push()
            assert not self.lock.locked()
            return False

    quiet: list[bool] = []
    with Journal(tmp_path, committed=lambda _seq: quiet.append(writing._bell.lock.locked())) as writing:
        writing._bell = LateBell(writing._bell)
        for number in range(1, 20):
            assert writing.append({"kind": "x"}) == number
            assert writing.flush()
    assert all(quiet)


def test_what_comes_while_it_is_written_is_the_next_group(tmp_path: Path) -> None:
    told = Told(Watched())
    syncing, go_on = threading.Event(), threading.Event()

    def wait(_fd):
        syncing.set()
        assert go_on.wait(LONG)

    with opened(tmp_path, told, gather=LONG) as writing:
        told.steps.taken.clear()
        told.steps.before["fdatasync"] = wait
        writing.append({"kind": "x"})
        writing.push()
        assert syncing.wait(LONG)
        for record in records(5):
            writing.append(record)
        writing.push()
        assert told.seqs == []
        go_on.set()
        writing.flush()
        assert told.seqs == [1, 6]


@DURABILITIES
def test_callbacks_may_append_and_push(tmp_path: Path, durability) -> None:
    seqs: list[int] = []
    done = threading.Event()

    def committed(seq: int) -> None:
        seqs.append(seq)
        if seq < 50:
            writing.append({"kind": "x"})
            writing.push()
        else:
            done.set()

    with Journal(tmp_path, durability=durability, committed=committed, gather=LONG) as writing:
        writing.append({"kind": "x"})
        writing.push()
        assert done.wait(LONG)
        assert seqs == list(range(1, 51))


@DURABILITIES
def test_callbacks_may_not_wait_for_callbacks(tmp_path: Path, durability) -> None:
    caught: list[Exception] = []

    def committed(_seq: int) -> None:
        for verb in (writing.flush, writing.close):
            try:
                verb()
            except InternalError as error:
                caught.append(error)

    with Journal(tmp_path, durability=durability, committed=committed) as writing:
        writing.append({"kind": "x"})
        assert writing.flush()
    assert [str(error).partition("(")[0] for error in caught] == ["flush", "close"]


@DURABILITIES
@pytest.mark.parametrize("pushes", [False, True])
def test_four_threads_write_one_sound_journal(tmp_path: Path, durability, pushes) -> None:
    told, found = Told(), {}

    def write(number: int) -> None:
        found[number] = []
        for count in range(250):
            found[number].append(writing.append({"kind": "note", "n": number * 1000 + count}))
            if pushes and count % 3 == 0:
                writing.push()

    with opened(tmp_path, told, durability=durability) as writing:
        writing.append(run())
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writing.flush()
        assert told.seqs[-1] == 1001
    assert told.seqs == sorted(set(told.seqs))
    assert sorted(seq for seqs in found.values() for seq in seqs) == list(range(2, 1002))
    assert all(seqs == sorted(seqs) for seqs in found.values())
    in_order = numbers(tmp_path)
    assert all(
        in_order[seq - 2] == number * 1000 + count for number in found for count, seq in enumerate(found[number])
    )
    assert read(tmp_path).last == 1001


def test_what_is_no_json_is_refused_and_takes_no_number(tmp_path: Path, coding) -> None:
    with Journal(tmp_path) as writing:
        with pytest.raises(TypeError):
            writing.append({"kind": object()})
        assert writing.append({"kind": "x"}) == 1
        assert writing.flush()


def test_a_durability_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="'full' or 'process'"):
        Journal(tmp_path, durability="half")


# -- opening ----------------------------------------------------------------------------------------------------------


def test_only_the_user_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    for mask in (0, 0o777):
        before = os.umask(mask)
        try:
            folder = tmp_path / f"{mask:o}"
            folder.mkdir()
            folder.chmod(0o700)
            with Journal(folder) as writing:
                writing.append({"kind": "x"}, b"large")
                writing.flush()
                modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*")}
        finally:
            os.umask(before)
        assert modes == {"journal.jsonl": 0o600, "lock": 0o600, "values": 0o700, "1.json": 0o600}


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    for number in range(3):
        with Journal(tmp_path) as writing:
            assert writing.last == writing.committed == number * 2
            writing.append(run())
            assert writing.append({"kind": "x"}) == number * 2 + 2
    record = read(tmp_path)
    assert record.last == 6
    assert len(record.sessions) == 3


@pytest.mark.parametrize("tail", [b'{"seq":3,"crc":"0000', b"\0" * 5000, b'{"seq":3,\0\0\0'])
def test_a_torn_line_is_cut_off_before_it_goes_on(tmp_path: Path, tail: bytes) -> None:
    file = written(tmp_path, run(), {"kind": "x"})
    with file.open("ab") as end:
        end.write(tail)
    with Journal(tmp_path) as writing:
        assert writing.cut == len(tail)
        assert writing.append({"kind": "note", "n": 1}) == 3
    assert read(tmp_path).last == 3
    assert read(tmp_path).notices == []


def test_a_damaged_journal_is_not_gone_on_with_unless_asked_to(tmp_path: Path) -> None:
    file = written(tmp_path, run(), {"kind": "x", "text": "good"}, {"kind": "y"})
    file.write_bytes(file.read_bytes().replace(b"good", b"bade"))
    with pytest.raises(StateError, match=r"journal\.jsonl:2"):
        Journal(tmp_path)
    assert os.listdir(tmp_path) == ["journal.jsonl"]
    with Journal(tmp_path, damaged_ok=True) as writing:
        assert writing.append({"kind": "note", "n": 1}) == 4
    assert read(tmp_path, damaged_ok=True).last == 4
    with pytest.raises(StateError, match=r"journal\.jsonl:2"):
        read(tmp_path)


def test_a_journal_whose_last_newline_is_damaged_can_be_gone_on_with(tmp_path: Path) -> None:
    file = written(tmp_path, run(), {"kind": "x"})
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with Journal(tmp_path, damaged_ok=True) as writing:
        assert writing.append({"kind": "note", "n": 1}) == 2
    record = read(tmp_path, damaged_ok=True)
    assert record.last == 2
    assert len(record.notices) == 1


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be opened: No such file or directory"):
        Journal(tmp_path / "nowhere")
    (tmp_path / "journal.jsonl").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(StateError, match="cannot be opened"):
            Journal(tmp_path)
        (tmp_path / "elsewhere").touch()
    assert (tmp_path / "elsewhere").read_bytes() == b""
    (tmp_path / "journal.jsonl").unlink()
    os.mkfifo(tmp_path / "journal.jsonl")
    with pytest.raises(StateError, match="not a regular file"):
        Journal(tmp_path)


def test_a_file_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, run())
    other = os.geteuid() + 1
    monkeypatch.setattr(disk.os, "geteuid", lambda: other)
    with pytest.raises(StateError, match="belongs to somebody else"):
        Journal(tmp_path)


def test_names_of_new_folders_are_made_durable_too(tmp_path: Path) -> None:
    folder = tmp_path / "root" / ".pexen" / "runs" / "1"
    folder.mkdir(parents=True)
    synced: list[str] = []
    steps = Watched()
    steps.before["fsync"] = lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}"))
    with Journal(folder, steps=steps):
        pass
    assert synced == [str(place) for place in (folder, *folder.parents)][:4]
    synced.clear()
    with Journal(folder, steps=steps, durability="process"):
        pass
    assert synced == []


def test_a_file_system_that_forgets_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.forgets("/dev/shm") == "tmpfs"
    assert disk.forgets("/proc") == ""
    assert disk.forgets(str(tmp_path / "nowhere")) == ""
    monkeypatch.setattr(appender, "forgets", lambda _folder: "ramfs")
    with Journal(tmp_path) as writing:
        assert writing.forgets == "ramfs"


def test_closed_streams_do_not_become_the_journal(tmp_path: Path) -> None:
    code = """
import os, sys
sys.path.insert(0, sys.argv[2])
for fd in (0, 1, 2):
    os.close(fd)
from pexen.state.journal import Journal
with Journal(sys.argv[1]) as journal:
    journal.append({"kind": "run", "schema": 1}, b"beside")
    for fd in (0, 1, 2):
        try:
            os.write(fd, b"printed")
        except OSError:
            pass
"""
    source = str(Path(journal.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code, str(tmp_path), source], check=True)
    assert read(tmp_path).last == 1
    assert (tmp_path / "values" / "1.json").read_bytes() == b"beside"


# -- beside the journal -----------------------------------------------------------------------------------------------


def test_what_is_beside_a_record_is_on_the_disk_before_its_line(tmp_path: Path) -> None:
    told = Told(Watched())
    with opened(tmp_path, told, gather=LONG) as writing:
        told.steps.taken.clear()
        writing.append({"kind": "x"})
        writing.append({"kind": "y"}, b"large")
        writing.flush()
        assert told.steps.taken == ["fsync", "write", "fsync", "replace", "fsync", "write", "fdatasync", "committed 2"]
    assert (tmp_path / "values" / "2.json").read_bytes() == b"large"
    assert os.listdir(tmp_path / "values") == ["2.json"]


def test_a_descriptor_is_kept_for_what_is_beside(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Journal(tmp_path) as writing:
        taken = []
        highest = max(map(int, os.listdir("/proc/self/fd")))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, hard))
            for beside in (b"large", b"larger"):
                with pytest.raises(OSError, match="Too many open files"):
                    while True:
                        taken.append(os.open("/dev/null", os.O_RDONLY))
                writing.append({"kind": "x"}, beside)
                assert writing.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
    assert (tmp_path / "values" / "2.json").read_bytes() == b"larger"


# -- failing ----------------------------------------------------------------------------------------------------------


def fails(number: int, part: int = 0):
    """Return a step that fails, a write after ``part`` bytes."""

    def step(fd, data=b"", *_):
        if part and data:
            os.write(fd, bytes(data)[:part])
        raise OSError(number, os.strerror(number))

    return step


@DURABILITIES
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("part", [0, 1, 60, 200])
def test_a_write_that_fails(tmp_path: Path, durability, number, part) -> None:
    told = Told(Watched())
    with opened(tmp_path, told, durability=durability, gather=LONG) as writing:
        for record in [run(), *records(3)]:
            writing.append(record)
        assert writing.flush()
        told.steps.taken.clear()
        told.steps.before["write"] = fails(number, part)
        for record in records(5):
            writing.append(record)
        assert not writing.flush()
        assert told.steps.taken.count("write") == 1
        assert "committed 9" not in told.steps.taken
        assert writing.failure is told.errors[0]
        assert str(writing.failure).startswith(f"the journal cannot be written: {os.strerror(number)}\n")
        del told.steps.before["write"]
        assert writing.append({"kind": "x"}) == 0
        writing.push()
        assert not writing.flush()
        assert told.steps.taken.count("write") == 1
    assert len(told.errors) == 1
    assert told.seqs == [4]
    record = read(tmp_path)
    assert record.notices == []
    assert 4 <= record.last <= 4 + part // 50
    with Journal(tmp_path) as writing:
        assert writing.cut == 0
        assert writing.append({"kind": "x"}) == record.last + 1


def test_a_sync_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    told = Told(Watched())
    with opened(tmp_path, told, gather=LONG) as writing:
        writing.append(run())
        assert writing.flush()
        told.steps.taken.clear()
        told.steps.before["fdatasync"] = fails(errno.EIO)
        writing.append({"kind": "x"})
        assert not writing.flush()
    assert told.steps.taken == ["write", "fdatasync"]
    assert told.seqs == [1]
    assert len(told.errors) == 1
    assert read(tmp_path).notices == []


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_what_is_beside_a_record_fails_with_it(tmp_path: Path, step) -> None:
    told = Told(Watched())
    with opened(tmp_path, told, gather=LONG) as writing:
        writing.append(run())
        assert writing.flush()
        told.steps.before[step] = fails(errno.ENOSPC)
        writing.append({"kind": "x"}, b"large")
        assert not writing.flush()
        told.steps.before.clear()
    assert read(tmp_path).last == 1


def test_what_cannot_be_cut_off_is_torn(tmp_path: Path) -> None:
    told = Told(Watched())
    with opened(tmp_path, told) as writing:
        writing.append(run())
        assert writing.flush()
        told.steps.before["write"] = fails(errno.ENOSPC, 10)
        told.steps.before["ftruncate"] = fails(errno.EIO)
        writing.append({"kind": "x"})
        assert not writing.flush()
    record = read(tmp_path)
    assert record.last == 1
    assert "last 10 bytes" in record.notices[0]


def test_writes_may_be_short(tmp_path: Path) -> None:
    class Short(disk.Steps):
        def write(self, fd, data):
            return os.write(fd, bytes(data)[:7])

    with Journal(tmp_path, steps=Short()) as writing:
        for record in [run(), *records(20)]:
            writing.append(record)
    assert numbers(tmp_path) == list(range(20))
    assert read(tmp_path).notices == []


def test_the_limit_on_the_size_of_files_is_such_a_failure(tmp_path: Path) -> None:
    code = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pexen.state.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
told, errors = [], []
with Journal(sys.argv[1], durability=sys.argv[3], committed=told.append, failed=errors.append) as journal:
    journal.append({"kind": "run", "schema": 1})
    while journal.append({"kind": "note", "text": "x" * 500}):
        journal.flush()
print(told[-1], len(errors), errors[0].headline)
"""
    source = str(Path(journal.__file__).parents[2])
    for durability in ("full", "process"):
        folder = tmp_path / durability
        folder.mkdir()
        argv = [sys.executable, "-c", code, str(folder), source, durability]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        seq, count, text = done.stdout.strip().split(" ", 2)
        assert (count, text) == ("1", "the journal cannot be written: File too large")
        assert read(folder).last == int(seq) > 5
        assert read(folder).notices == []
        assert (folder / "journal.jsonl").stat().st_size <= 5000


@DURABILITIES
def test_a_journal_that_is_taken_away_is_a_failure(tmp_path: Path, durability, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "_GLANCE", 0.0)
    for change in (lambda file: file.unlink(), lambda file: (file.rename(tmp_path / "other"), file.touch())):
        told = Told()
        with opened(tmp_path, told, durability=durability) as writing:
            writing.append({"kind": "x"})
            assert writing.flush()
            change(tmp_path / "journal.jsonl")
            writing.append({"kind": "x"})
            assert not writing.flush()
        assert "removed or replaced" in str(told.errors[0])
        for file in tmp_path.iterdir():
            file.unlink()


def test_a_journal_that_is_taken_away_shows_at_its_end_at_the_latest(tmp_path: Path) -> None:
    told = Told()
    with opened(tmp_path, told) as writing:
        writing.append({"kind": "x"})
        (tmp_path / "journal.jsonl").unlink()
    assert "removed or replaced" in str(writing.failure)
    assert told.errors == [writing.failure]


@DURABILITIES
def test_a_callback_that_throws_is_a_bug_of_ours_and_leaves_nobody_waiting(tmp_path: Path, durability) -> None:
    def committed(_seq):
        raise RuntimeError("oops")

    def failed(error):
        errors.append(error)
        raise RuntimeError("again")

    errors: list[PexenError] = []
    with Journal(tmp_path, durability=durability, committed=committed, failed=failed) as writing:
        writing.append(run())
        assert not writing.flush()
        assert writing.append(run()) == 0
    assert isinstance(errors[0], InternalError)
    assert "RuntimeError: oops" in str(errors[0])
    assert len(errors) == 1
    assert read(tmp_path).last == 1


@pytest.mark.parametrize("where", ["write", "committed"])
def test_an_interrupt_while_it_is_written_loses_nothing_and_doubles_nothing(tmp_path: Path, where) -> None:
    """What Ctrl-C does in a user's main thread."""
    steps, told = Watched(), []

    def interrupt(*_):
        steps.before.clear()
        steps.after.clear()
        told.clear()
        raise KeyboardInterrupt

    def committed(seq):
        told.append(seq)
        if where == "committed" and len(told) == 1:
            raise KeyboardInterrupt

    with Journal(tmp_path, durability="process", steps=steps, committed=committed, gather=LONG) as writing:
        for record in [run(), *records(3)]:
            writing.append(record)
        if where == "write":
            steps.after["write"] = interrupt
        with pytest.raises(KeyboardInterrupt):
            writing.push()
        assert writing.append({"kind": "note", "n": 3}) == 5
        assert writing.flush()
        assert told[-1] == 5
        assert writing.failure is None
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert read(tmp_path).notices == []


def test_lines_are_as_a_reader_makes_them(tmp_path: Path) -> None:
    with Journal(tmp_path) as writing:
        for record in (run(), {"kind": "x", "text": "a"}):
            writing.append(record)
    assert (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True) == lines(
        run(), {"kind": "x", "text": "a"}
    )
