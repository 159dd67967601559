"""Clocks, memory and tables for the programs in this folder."""

import compileall
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEMPORARY = "bench-"
"""How the names of temporary folders begin."""


class FailedError(Exception):
    """A measured program did not do its work; no number is better than a wrong one."""


def fresh(program: str, *arguments: object, limit: float = 1800) -> dict[str, float]:
    """Run a program of this folder in a process of its own and return what it prints: one JSON object."""
    argv = [sys.executable, str(HERE / program), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=False, env=environment())
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1]
        raise FailedError(f"{program} {' '.join(map(str, arguments))}: exit status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """Return the environment that everything is measured in: an ordinary user's.

    Not the job server of `make bench`, which the measured make would take part in, and no switch that makes Python
    slower: PYTHONDONTWRITEBYTECODE, as in many containers, would have us compiled again at every start.
    """
    kept = {"PYTHONPATH", "PYTHONHOME"}
    unwanted = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    return {
        key: value
        for key, value in os.environ.items()
        if key not in unwanted and (not key.startswith("PYTHON") or key in kept)
    }


def prepare() -> None:
    """Compile pexen to bytecode as pip does for what it installs, the peers included."""
    found = find_spec("pexen")
    for folder in (found and found.submodule_search_locations) or ():
        compileall.compile_dir(folder, quiet=2)


def since(begin: float, n: int, count: int) -> dict[str, float]:
    """Return the seconds that a case took in this process, if all of its ``n`` results came."""
    seconds = time.perf_counter() - begin
    if count != n:
        raise FailedError(f"{count} results of {n}")
    return {"seconds": seconds}


def whole_process(argv: list[str], folder: str | Path, expect: str = "", repeat: int = 1) -> dict[str, float]:
    """Return the seconds that a command takes from start to exit: the mean of ``repeat`` starts, one after another.

    Its output goes to a file, as in CI; ``expect`` must be in it, because a runner that ran nothing is fast as well.
    """
    sink = Path(folder).with_suffix(".out")  # beside the folder: inside, it could be taken for a task
    with sink.open("w+b") as output:
        begin = time.perf_counter()
        for _ in range(repeat):
            done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
            if done.returncode:
                break
        seconds = (time.perf_counter() - begin) / repeat
        output.seek(0)
        said = output.read().decode(errors="replace")
    sink.unlink()
    if done.returncode or expect not in said:
        last = (said.strip() or "it printed nothing").splitlines()[-1]
        raise FailedError(f"{' '.join(argv)}: exit status {done.returncode}, {expect!r} expected: {last}")
    return {"seconds": seconds}


def resident() -> int:
    """Return the bytes of memory that this process has in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Return the most bytes that this process ever had in use.

    Not ``ru_maxrss``: that starts at the memory of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise FailedError("/proc/self/status has no VmHWM")


def executable(name: str) -> str | None:
    """Return where a program is: beside this Python first, then in PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def is_installed(what: str) -> bool:
    """Tell whether a program, or with ``import NAME`` a module, is there."""
    if what.startswith("import "):
        return find_spec(what.removeprefix("import ")) is not None
    return executable(what) is not None


def median(values: list[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def machine() -> str:
    """Return a line on what the figures were measured with."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    cpus = len(os.sched_getaffinity(0))
    return f"{platform.python_implementation()} {platform.python_version()}, {cpus} CPUs, load {load}"


def table(header: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Return rows as aligned text; the first ``left`` columns are words, the others numbers."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: list[str]) -> str:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])
