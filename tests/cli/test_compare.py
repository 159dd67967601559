"""``pexen compare``: what broke, what was fixed, and what is slower than its noise explains."""

from __future__ import annotations

import json

import pytest

from pexen.cli.compare import FLOOR, SHARE, Comparison, Told
from pexen.state.seen import Ran, Seen
from tests.cli.test_history import task
from tests.cli.tools import pexen, script
from tests.state.test_history import fallen, record_run, result, simple, started


@pytest.fixture
def two(home):
    """Two runs, of which the second one breaks, mends, adds, removes, and does not get to something."""
    simple(
        home, "r1", 1.0, broken="passed", mended="failed", gone="passed", steady="passed", sick="error", late="passed"
    )
    told = []
    for path, status in {
        "broken": "failed",
        "mended": "warned",
        "steady": "passed",
        "sick": "failed",
        "fresh": "passed",
    }.items():
        told += [task(path), started(path), result(path, status, start=2.5)]
    record_run(home, "r2", *told, task("late"), started("late"), at=2.0, ended=False)
    return home


def test_what_became_of_each_task(two, call, tree):
    code, out, err = call("compare", "r1", "r2", cwd=tree)
    assert code == 1
    assert [line.split() for line in out.splitlines()] == [
        ["r1", "→", "r2"],
        ["broke", "broken", "passed", "→", "failed"],
        ["fixed", "mended", "failed", "→", "warned"],
        ["not", "run", "late", "passed", "→", "not", "run"],
        ["new", "fresh", "passed"],
        ["removed", "gone", "was", "passed"],
    ]
    assert "there was none" in err


def test_the_other_way_round(two, call, tree):
    code, out, _ = call("compare", "r2", "r1", cwd=tree)
    assert code == 1
    words = [line.split()[:2] for line in out.splitlines()[1:]]
    assert words == [["broke", "mended"], ["fixed", "broken"], ["new", "gone"], ["removed", "fresh"]]


def test_for_programs(two, call, tree):
    code, out, _ = call("compare", "r1", "r2", "--json", cwd=tree)
    assert code == 1
    told = json.loads(out)
    assert (told["schema"], told["worse"]) == (1, True)
    assert [one["name"] for one in told["runs"]] == ["r1", "r2"]
    assert told["broke"] == [{"path": "broken", "before": "passed", "after": "failed"}]
    assert told["fixed"] == [{"path": "mended", "before": "failed", "after": "warned"}]
    assert told["unrun"] == [{"path": "late", "before": "passed", "after": ""}]
    assert told["new"] == [{"path": "fresh", "after": "passed"}]
    assert told["removed"] == [{"path": "gone", "before": "passed"}]
    assert told["slower"] == []


def test_without_names_the_last_two_are_compared(two, call, tree):
    simple(two, "r0", 0.5, a="passed")
    link = two / "latest"
    link.symlink_to("runs/r2")
    assert call("compare", cwd=tree)[1].startswith("r1 → r2\n")
    assert call("compare", "r0")[1].startswith("r0 → r2\n")
    assert call("compare", str(two / "runs" / "r0"), "r1")[1].startswith("r0 → r1\n")


def test_what_was_removed_before_it_had_a_result_is_not_said_to_be_not_run(home, call, tree):
    record_run(home, "r1", task("a"), started("a"), result("a"), task("gone"), at=1.0, ended=False)
    simple(home, "r2", 2.0, a="passed")
    assert "  removed  gone  had no result\n" in call("compare", "r1", "r2", cwd=tree)[1]


def test_a_run_that_has_been_removed_is_compared_as_well(two, call, tree):
    call("history", cwd=tree)
    (two / "runs" / "r1" / "journal.jsonl").unlink()
    (two / "runs" / "r1").rmdir()
    code, out, _ = call("compare", "r1", "r2", cwd=tree)
    assert code == 1
    assert "  broke    broken" in out


@pytest.mark.parametrize("words", [("r3", "r2"), ("r", "r2"), ("r1", "r2", "r1")], ids=" ".join)
def test_runs_that_cannot_be_told_are_refused(two, call, tree, words):
    code, out, err = call("compare", *words, cwd=tree)
    assert (code, out) == (4, "")
    assert "Traceback" not in err


def test_one_that_is_new_and_bad_makes_it_worse(home, call, tree):
    simple(home, "r1", 1.0, a="passed")
    simple(home, "r2", 2.0, a="passed", b="failed")
    assert call("compare", "r1", "r2", cwd=tree)[0] == 1
    assert call("compare", "r2", "r1", cwd=tree)[0] == 0


def test_what_fell_with_another_one_did_not_break(home, call, tree):
    simple(home, "r1", 1.0, p="passed", a="passed")
    record_run(
        home, "r2", task("p"), started("p"), result("p", "failed", 2.5), task("a", requires=["p"]), fallen("a"), at=2.0
    )
    lines = call("compare", "r1", "r2", cwd=tree)[1].splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["broke", "p"], ["not", "run"]]


def test_two_real_runs(tree):
    script(tree / "a.sh", "[ ! -e broken ]")
    assert pexen("run", cwd=tree).returncode == 0
    assert pexen("run", cwd=tree).returncode == 0
    done = pexen("compare", cwd=tree)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == ["  no difference"]
    (tree / "broken").touch()
    assert pexen("run", cwd=tree).returncode == 1
    assert pexen("compare", cwd=tree).returncode == 1


def test_hostile_names_are_made_visible(home, call, tree):
    name = "a/\x1b[31mred\u202e\udcff"
    simple(home, "r1\x1b[2J", 1.0, **{name: "passed"})
    simple(home, "r2", 2.0, **{name: "failed"})
    code, out, _ = call("compare", "r1", "r2", cwd=tree)
    assert code == 1
    assert out.replace("\n", "").isprintable()


# -- slower ---------------------------------------------------------------------------------------------------------


def run_of(name, at, **took):
    ran = Ran(name, at, at + 1, "done", "", "", "", False, len(took))
    return Told(
        ran, {path: Seen("passed", "passed", seconds, 1, "f", False, at, name) for path, seconds in took.items()}
    )


def slower(before, after, *usual):
    """Tell whether a task is slower that took this long before, after, and in the runs before those, in order."""
    past = [Seen("passed", "passed", seconds, 1, "f", False, float(at), f"p{at}") for at, seconds in enumerate(usual)]
    first, second = run_of("r1", 100.0, a=before), run_of("r2", 200.0, a=after)
    seen = [*past, first.seen["a"], second.seen["a"]]
    found = Comparison(first, second, lambda path: seen if path == "a" else [])
    assert found.is_worse == bool(found.slower)
    return bool(found.slower)


@pytest.mark.parametrize(
    ("before", "after", "usual", "expected"),
    [
        (1.0, 1.0, [], False),
        (1.0, 1.0 + SHARE, [], False),
        (1.0, 1.0 + SHARE + 0.01, [], True),
        (0.01, 0.01 + FLOOR, [], False),
        (0.01, 0.02 + FLOOR, [], True),
        (1.0, 2.0, [1.0, 1.0, 1.1, 0.9], True),
        (1.0, 2.0, [1.0, 2.2, 0.8, 1.9, 1.1, 2.1], False),
        (1.0, 2.0, [2.0, 2.1, 1.9, 2.0, 2.05], False),
        (2.0, 1.0, [2.0, 2.0], False),
        (1.0, 2.0, [1.0, 1.0, 1.0, 50.0], True),
    ],
    ids=[
        "the same", "within the share", "beyond it", "within the floor", "beyond that", "steady before", "noisy before",
        "the one before was the odd one", "faster", "one far out",
    ],
)  # fmt: skip
def test_slower_is_beyond_the_noise(before, after, usual, expected):
    assert slower(before, after, *usual) is expected


def test_what_came_after_does_not_count():
    first, second = run_of("r1", 100.0, a=1.0), run_of("r2", 200.0, a=2.0)
    later = [Seen("passed", "passed", float(took), 1, "f", False, 300.0 + took, "later") for took in range(2, 20)]
    assert Comparison(first, second, lambda _: [first.seen["a"], second.seen["a"], *later]).slower


def test_only_successes_are_compared():
    first, second = run_of("r1", 1.0, a=1.0), run_of("r2", 2.0, a=50.0)
    second.seen["a"] = second.seen["a"]._replace(status="timeout", original="timeout")
    found = Comparison(first, second, lambda _: [])
    assert (found.slower, found.broke) == ({}, ["a"])


def test_slower_is_told(home, call, tree):
    for name, took in (("r1", 1.0), ("r2", 3.0)):
        at = float(name[1])
        record_run(home, name, task("a"), started("a"), result("a", "passed", at, took), at=at)
    code, out, _ = call("compare", "r1", "r2", cwd=tree)
    assert code == 1
    assert out.splitlines()[1] == "  slower   a  1.00s → 3.00s, noise 0.25s"
    told = json.loads(call("compare", "r1", "r2", "--json", cwd=tree)[1])
    assert told["slower"] == [{"path": "a", "before": 1.0, "after": 3.0, "noise": 0.25}]
