"""The programs in bench/ work and print what they should; what the figures are is not a question for a test."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
CASES = {
    "independent": 1,
    "sleeps": 1,
    "layers": 2,
    "chain": 1,
    "one-lock": 2,
    "random-pairs": 1,
    "processes": 2,
    "commands": 1,
    "tree": 1,
    "output": 1,
    "million": 2,
    "help": 1,
    "single": 1,
}
"""How many comparisons each case of overhead.py makes."""


def run(folder: Path, program: str, *arguments: str) -> str:
    """Run a program of bench/ and return what it prints; it leaves no file behind."""
    environ = {**os.environ, "TMPDIR": str(folder)}
    argv = [sys.executable, str(BENCH / program), "--quick", *arguments]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == []
    return done.stdout


def columns(line: str) -> list[str]:
    """Return the cells of a table's line."""
    return re.split(r"  +", line.strip())


def test_the_planners_table_has_a_line_for_each_case_and_size(tmp_path):
    machine, _, header, rule, *rows = run(
        tmp_path, "planner.py", "--sizes", "40,400", "--cases", "layers,chain"
    ).splitlines()
    assert machine.startswith("CPython")
    assert columns(header) == [
        "a task, in the planner",
        "tasks",
        "make µs",
        "add µs",
        "run µs",
        "total µs",
        "bytes",
        "growth",
    ]
    assert set(rule) == {"-", " "}
    assert [columns(row)[1] for row in rows] == ["40", "400"] * 2
    for row in rows:
        told, _, make, add, drive, total, memory, *growth = columns(row)
        assert re.match("layers|one chain", told)
        assert abs(float(make) + float(add) + float(drive) - float(total)) < 0.05
        assert float(memory.replace(",", "")) >= 0
        assert len(growth) == ("400" in columns(row))


def test_the_planner_is_measured_in_all_cases(tmp_path):
    everything = json.loads(run(tmp_path, "planner.py", "--json"))
    assert [one["added"] for one in everything if one["case"] == "run"] == ["at the start", "from the loop"]
    assert all(one["total"] > 0 for one in everything if one["case"] == "run")
    found = [one for one in everything if one["case"] != "run"]
    assert {one["case"] for one in found} == {"independent", "layers", "one-lock", "random-pairs", "chain"}
    assert [one["added"] for one in found if "added" in one] == ["at the start", "one at a time"] * 2
    assert all(one[part] > 0 for one in found for part in ("make", "add", "run"))


@pytest.mark.parametrize("case", CASES)
def test_we_are_compared_with_each_peer(case, tmp_path):
    rows = [json.loads(line) for line in run(tmp_path, "overhead.py", "--json", "--cases", case).splitlines()]
    assert len(rows) == CASES[case]
    if any("not installed" in row["verdict"] for row in rows):
        pytest.skip(", ".join(f"{row['peer']}: {row['verdict']}" for row in rows if not row["theirs"]))
    for row in rows:
        assert row["ours"][0] > 0
        assert row["must"] >= row["aim"] if row["aim"] else row["must"]
        assert row["verdict"] in {"ok", "ok, aim", "MISS"}
        assert (row["verdict"] == "MISS") == (row["value"] > row["must"])


def test_the_comparison_is_a_table(tmp_path):
    machine, _, header, _, row = run(tmp_path, "overhead.py", "--cases", "independent").splitlines()
    assert machine.endswith("1 runs each")
    assert columns(header) == ["case", "beside", "ours", "theirs", "ratio", "pairwise", "must", "aim", "verdict"]
    told, peer, ours, theirs, ratio, pairwise, must, aim, _ = columns(row)
    assert (told, peer) == ("200 no-ops, 2 threads", "ThreadPoolExecutor, as_completed")
    assert re.fullmatch(r"[\d.,]+ ms \([\d.,]+-[\d.,]+\)", ours)
    assert re.fullmatch(r"[\d.,]+ ms \([\d.,]+-[\d.,]+\)", theirs)
    assert ratio == pairwise
    assert (must, aim) == ("0.7", "0.4")


def test_an_unknown_case_is_refused():
    for program in ("planner.py", "overhead.py"):
        argv = [sys.executable, str(BENCH / program), "--cases", "chain,china"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=55, check=False)
        assert done.returncode == 2
        assert "no such case: china" in done.stderr


def test_what_watching_costs(tmp_path):
    machine, head, *kinds, bare, xargs, flood, executable, worker = run(tmp_path, "commands.py").splitlines()
    assert machine.startswith("CPython")
    assert head.startswith("20 x /bin/true")
    assert [line.split()[0] for line in kinds] == ["watched", "bare", "xargs"]
    assert re.search(r"watched / bare [\d.]+, pairwise [\d.]+, must 1.25: (ok|MISS)$", bare)
    assert re.search(r"watched / xargs [\d.]+, pairwise [\d.]+$", xargs)
    assert flood.startswith("2000 reports")
    for line in (executable, worker):
        assert re.search(r"\d+ \[.*\] a second, -?[\d.]+ \[.*\] MiB more than 1000, must 8: (ok|MISS)$", line)


def test_what_watching_costs_is_told_to_programs(tmp_path):
    found = [json.loads(line) for line in run(tmp_path, "commands.py", "--json").splitlines()]
    assert [(one["case"], one.get("peer"), one.get("from"), one["must"]) for one in found] == [
        ("watched", "bare", None, 1.25),
        ("watched", "xargs", None, None),
        ("reports", None, "executable", 8),
        ("reports", None, "worker", 8),
    ]
    assert all(min(one.get("ours") or one["rates"]) > 0 for one in found)


def test_what_the_journal_costs(tmp_path):
    machine, noops, *process, one, true, true_full, true_none, other = run(tmp_path, "journal.py").splitlines()
    assert machine.startswith("CPython")
    assert noops.startswith("100 x no-op callables")
    assert [line.split()[0] for line in (*process, true_full, true_none)] == ["process", "none", "full", "none"]
    assert true.startswith("20 x /bin/true")
    assert re.search(r"process / none [\d.]+, pairwise [\d.]+, must 1.4: (ok|MISS)$", one)
    assert re.search(r"full / none [\d.]+, pairwise [\d.]+, must 1.3: (ok|MISS)$", other)


def test_how_soon_all_is_over(tmp_path):
    machine, head, *rows = run(tmp_path, "makespan.py").splitlines()
    assert machine.startswith("CPython")
    assert head.startswith("8 tasks, 0.4 s, the longest 0.17 s, listed last; 4 workers, 1 runs")
    assert [row.split()[0] for row in rows][:2] == ["pexen", "pexen"]
    assert {row.split()[0] for row in rows} == {"pexen", "ninja", "ctest", "pytest-xdist"}
    assert re.search(r"second [\d.]+ s, [\d.]+ \[.*\] x the best, must 1.05, aim 1.02: (ok|ok, aim|MISS)$", rows[1])


def test_how_soon_all_is_over_is_told_to_programs(tmp_path):
    found = [json.loads(line) for line in run(tmp_path, "makespan.py", "--json").splitlines()]
    ours = {one["run"]: one for one in found if one["who"] == "pexen"}
    assert (ours["first"]["must"], ours["second"]["must"]) == (None, 1.05)
    assert all(one["seconds"][0] > one["best"] for one in found if one["run"])


def test_what_a_stream_costs(tmp_path):
    machine, head, ours, theirs, ratio, killed = run(tmp_path, "stream.py").splitlines()
    assert machine.startswith("CPython")
    assert head.startswith("2000 results to 2 processes")
    assert [line.split()[0] for line in (ours, theirs)] == ["stream", "queue"]
    assert re.search(r"stream / queue [\d.]+, pairwise [\d.]+, must 1: (ok|MISS)$", ratio)
    assert re.search(r"2000 results, 3 consumers killed: 0 lost, 0 twice, \d+ redelivered$", killed)
