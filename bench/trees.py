"""Folders that the command-line cases work on: written once for a case, for us and for its peers."""

import shutil
from pathlib import Path

from graphs import FAN
from graphs import layers as sizes

SCRIPT = "#!/bin/sh\nexit 0\n"

TALKING = """\
#!/bin/sh
# Says what a small test says.
echo "checking what there is to check"
for step in 1 2 3 4 5 6 7 8; do
    echo "step $step: as expected"
done
echo "nothing to complain about" >&2
"""

LIT = """\
import lit.formats
config.name = "bench"
config.suffixes = [".sh"]
config.test_format = lit.formats.ExecutableTest()
"""


def scripts(folder: Path, n: int, text: str = SCRIPT) -> list[str]:
    """Write ``n`` executables, a hundred in a folder; return their names below ``folder``."""
    names = []
    for number in range(n):
        name = f"part{number // 100:03}/check{number % 100:02}.sh"
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
        names.append(name)
    return names


def executables(folder: Path, n: int) -> None:
    """Executables that do nothing; beside them the same as phony edges for ninja, which runs them every time."""
    lines = ["rule run", "  command = ./$in", "  description = $in"]
    for number, name in enumerate(scripts(folder / "tree", n)):
        lines.append(f"build done{number}: run tree/{name}")
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")


def talkers(folder: Path, n: int) -> None:
    """Executables that print; beside them what CMake would write for ctest."""
    names = scripts(folder / "tree", n, TALKING)
    tests = [f'add_test("{name}" "{folder}/tree/{name}")' for name in names]
    (folder / "CTestTestfile.cmake").write_text("\n".join(tests) + "\n")


def makefile(folder: Path, n: int) -> None:
    """A makefile of ``n`` targets, each of which runs /bin/true."""
    names = " ".join(f"t{number}" for number in range(n))
    (folder / "Makefile").write_text(f"all: {names}\n.PHONY: all {names}\n{names}:\n\t@/bin/true\n")


def layers(folder: Path, n: int, width: int = 1000) -> None:
    """The layered graph of the largest case, as ninja has it."""
    with (folder / "build.ninja").open("w") as file:
        file.write("rule run\n  command = true\n")
        start, above = 0, []
        for size in sizes(n, width):
            row = [f"t{start + place}" for place in range(size)]
            for place, name in enumerate(row):
                wanted = [above[place - left] for left in FAN] if above else []
                file.write(f"build {name}: run {' '.join(wanted)}\n")
            start, above = start + size, row


def one(folder: Path, _n: int) -> None:
    """A single executable, and what lit wants to know about it."""
    scripts(folder / "tree", 1)
    (folder / "tree" / "lit.cfg").write_text(LIT)


def forget(folder: Path) -> None:
    """Remove what an earlier run has left, so that every run is the first one."""
    for name in (".pexen", "tree/.pexen", "Testing", "tree/Output"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (".ninja_log", ".ninja_deps", "tree/.lit_test_times.txt"):
        (folder / name).unlink(missing_ok=True)
