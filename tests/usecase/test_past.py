"""What earlier runs mean for one that begins."""

import pytest

from pexen.model.task import Task
from pexen.state.history import NAME
from pexen.usecase import Suite
from pexen.usecase.past import Past, caught_up, remember
from tests.state.test_history import record_run, result, started, task


def done(path="x"):
    """Do nothing."""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "pexen.toml").write_text("")
    return tmp_path / ".pexen"


@pytest.fixture
def known(home):
    """A run in which a took 1 s, b 5 s, and c failed after 2 s."""
    record_run(
        home, "r1",
        *(one for path, seconds, status in (("a", 1.0, "passed"), ("b", 5.0, "passed"), ("c", 2.0, "failed"))
          for one in (task(path), started(path), result(path, status, 1.0, seconds))),
    )  # fmt: skip
    home.chmod(0o700)
    return home


def tasks(*paths, **meta):
    return [Task(done, path, **meta) for path in paths]


def test_without_a_past_nothing_is_known(home):
    past = Past(str(home.parent))
    assert past.durations(tasks("a", "b")) is None
    assert past.narrowing is None
    assert past.notes == []
    assert not (home / NAME).exists()


def test_nobody_is_asked_about_a_single_task(known):
    assert Past(str(known.parent)).durations(tasks("a")) is None
    assert not (known / NAME).exists()


def test_what_is_not_known_takes_as_long_as_the_middle_one(known):
    takes = Past(str(known.parent)).durations(tasks("a", "b", "new"))
    assert [takes(path) for path in ("a", "b", "c", "new")] == [1.0, 5.0, 2.0, 2.0]


def test_what_failed_is_made_longer_than_everything(known):
    takes = Past(str(known.parent), first=True).durations(tasks("a", "b", "c", "new", estimate=100))
    assert takes("c") > 4 * 100
    assert takes("a") == 1.0


def test_the_chosen_are_narrowed_down_to_what_failed(known):
    past = Past(str(known.parent), failed=True)
    assert past.narrowing(["a", "b", "c"]) == {"c"}
    assert past.narrowing(["a", "b"]) == {"a", "b"}
    assert past.notes[-1] == "what failed the last time is not among these tasks (c): nothing is left out"


def test_remembering_raises_nothing(home):
    (told,) = remember(str(home / "runs" / "r1"))
    assert "cannot be used: No such file or directory" in told
    assert len(caught_up("/dev/null")) == 1


def test_a_suite_starts_early_what_takes_long_and_remembers(known):
    suite = Suite(tasks=tasks("a", "b", "c", "d"), root=known.parent, inline=True, verbosity=-1)
    assert suite.run() == 0
    assert list(suite.results) == ["b", "c", "d", "a"]
    past = Past(str(known.parent), failed=True)
    assert past.narrowing(["a", "c"]) == {"a", "c"}, "c has passed since"
    assert past.notes == ["nothing failed the last time: nothing is left out"]


def test_that_nothing_is_known_is_not_that_nothing_failed(home):
    past = Past(str(home.parent), failed=True)
    assert past.narrow(["a", "b"]) == {"a", "b"}
    assert past.notes == ["nothing is known of runs before: nothing is left out"]


def test_that_nothing_failed_is_said_where_it_is_known(home):
    record_run(home, "r1", task("a"), started("a"), result("a", "passed", 1.0, 1.0))
    past = Past(str(home.parent), failed=True)
    assert past.narrow(["a"]) == {"a"}
    assert past.notes[-1] == "nothing failed the last time: nothing is left out"
