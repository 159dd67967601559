"""A real ``pexen run`` of the examples is killed with -9 again and again: verdicts are those of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "system"
PEXEN = [sys.executable, "-m", "pexen"]
KILLS = 10
LIMIT = 120.0
OURS = ("pexen-output-", "pexen-collect-")


def verdicts(tree: Path) -> dict[str, str]:
    lines = (tree / ".pexen" / "latest" / "report.jsonl").read_text().splitlines()
    return {one["path"]: one["status"] for one in map(json.loads, lines) if one["kind"] == "result"}


def copied(to: Path) -> Path:
    shutil.copytree(EXAMPLES, to, ignore=shutil.ignore_patterns(".pexen"), symlinks=True)
    return to


def runner_of(guardian: int) -> int:
    """Return the process below the guardian, which runs the tasks; the guardian itself as long as there is none."""
    with suppress(OSError, ValueError):
        return int(Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()[0])
    return guardian


@pytest.mark.leaks("files")  # what the examples themselves have in temporary folders when they are killed
def test_killed_ten_times_and_resumed_each_time(tmp_path):
    quiet, killed = copied(tmp_path / "quiet"), copied(tmp_path / "killed")
    done = subprocess.run(
        [*PEXEN, "run", "-q", "-j2"], cwd=quiet, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    words = ["run", "-q", "-j2"]
    kills = 0
    for _ in range(KILLS):
        process = subprocess.Popen([*PEXEN, *words], cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.2, 1.5))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.kill(process.pid if draw.random() < 0.5 else runner_of(process.pid), signal.SIGKILL)
            kills += 1
        process.wait(LIMIT)
        if (killed / ".pexen" / "latest" / "journal.jsonl").exists():
            words = ["resume"]
    done = subprocess.run([*PEXEN, "resume"], cwd=killed, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, (seed, done.stdout + done.stderr)
    assert "Traceback" not in done.stderr
    assert verdicts(killed) == verdicts(quiet), seed
    assert [name for name in os.listdir(tempfile.gettempdir()) if name.startswith(OURS)] == []
    assert kills > 2, "it was not even running"
    assert words == ["resume"], "it was never killed while tasks were running"
