"""Every example in README.md and docs/ runs, and the pages say what the code says.

The ``python`` blocks of a page run in order, in one namespace and in an empty folder, as a reader would type them; an
error's traceback names the page and its line. A comment right above a block changes that::

    <!-- not run: it needs a database -->      the block is left out
    <!-- run -->                               the `$ pexen …` lines of a `console` block are run

A ``console`` block that is run sees a copy of examples/. What it shows below a command must come out of the command in
this order, line by line, ``…`` standing for anything; the command must succeed unless ``$ echo $?`` follows.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pexen.model.meta import FIELDS
from pexen.model.result import Status
from pexen.model.task import Task

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]

FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>```+)(?P<language>[\w-]*)[^\n]*\n(?P<body>.*?)^(?P=indent)(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)
COMMENT = re.compile(r"<!-- *((?:(?!-->).)*?) *-->\s*\Z", re.DOTALL)


class Block(NamedTuple):
    """One fenced block: ``line`` is where its text starts, ``said`` the comment right above it."""

    language: str
    body: str
    line: int
    said: str


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for found in FENCE.finditer(text):
        above = COMMENT.search(text[: found.start()])
        yield Block(
            found["language"],
            re.sub(f"^{found['indent']}", "", found["body"], flags=re.MULTILINE),
            text.count("\n", 0, found.start("body")) + 1,
            above[1] if above else "",
        )


def wanted(block: Block) -> bool:
    """Tell whether a block is to be run."""
    if block.language == "python":
        return not block.said.startswith("not run:")
    return block.language == "console" and block.said == "run"


def run_python(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    """Execute a block as the lines of the page that it is. It may end as a program does, if that is well."""
    code = compile("\n" * (block.line - 1) + block.body, str(page), "exec", dont_inherit=True)
    try:
        exec(code, namespace)
    except SystemExit as end:
        if end.code:
            raise


def run_console(block: Block, cwd: Path) -> None:
    """Run the commands of a block and compare what they print with what the page shows."""
    steps = [step.split("\n") for step in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]]
    for step, after in zip(steps, [*steps[1:], [""]], strict=True):
        if step[0] == "echo $?":
            continue
        words = shlex.split(step[0], comments=True)
        assert words[0] == "pexen", f"line {block.line}: only pexen is run: {step[0]}"
        done = subprocess.run(
            [sys.executable, "-m", "pexen", *words[1:]],
            cwd=cwd, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        status = int(after[1]) if after[0] == "echo $?" else 0
        assert done.returncode == status, f"$ {step[0]}\n{done.stdout}"
        missing = first_missing(step[1:], done.stdout)
        assert missing is None, f"$ {step[0]}\nnot found: {missing}\n{done.stdout}"


def first_missing(shown: list[str], printed: str) -> str | None:
    """Return the first line that is shown and was not printed after those before it, or None."""
    rest = iter(printed.splitlines())
    for line in filter(str.strip, shown):
        pattern = re.compile(".*".join(re.escape(part) for part in line.strip().split("…")))
        if not any(pattern.fullmatch(candidate.strip()) for candidate in rest):
            return line
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = [block for block in blocks(page.read_text()) if wanted(block)]
    if any(block.language == "console" for block in todo):
        shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".pexen"))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in todo:
        if block.language == "python":
            run_python(block, page, namespace)
        else:
            run_console(block, tmp_path)


def test_the_links_lead_somewhere() -> None:
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", FENCE.sub("", page.read_text()))
        if "://" not in target
    ]
    assert not [f"{page.relative_to(ROOT)}: {target}" for page, target in links if not (page.parent / target).exists()]


def table(page: str, columns: str) -> list[tuple[str, ...]]:
    """Return the rows of a page's tables that start with a code word, cut to the captured columns."""
    return re.findall(columns, (ROOT / "docs" / page).read_text(), re.MULTILINE)


def default_of(key: str) -> str:
    """Return a key's default as the page writes it."""
    value = FIELDS[key].default
    if value is None or value is False:
        return "none" if value is None else "no"
    if isinstance(value, int | float):
        return f"{value:g}"
    return ", ".join(value) or "empty"


def test_the_metadata_page_has_every_key_with_its_default_and_how_it_is_inherited() -> None:
    assert hasattr(Task, "timeout")  # the class fills the table of keys
    rows = table("metadata.md", r"^\| `(\w+)` \| [^|]* \| ([^|]*) \| (\w+) \|")
    assert sorted(rows) == sorted((key, default_of(key), field.inherit) for key, field in FIELDS.items())


def test_the_results_page_has_every_status_and_whether_it_is_a_success() -> None:
    rows = table("results.md", r"^\| `(\w+)` \| [^|]* \| (yes|no) \|$")
    assert sorted(rows) == sorted((status, "yes" if status.is_success else "no") for status in Status)


# -- the checker itself -----------------------------------------------------------------------------------------------

PAGE = """
```python
first = 1
```

<!-- not run: it never ends -->
```python
while True: pass
```

- in a list:

  <!-- run -->
  ```console
  $ pexen --help
  ```

<!-- run -->

```python
assert first == 2
```
"""


def test_blocks_are_found_with_their_lines_and_comments() -> None:
    found = list(blocks(PAGE))
    assert [(block.language, block.line, block.said) for block in found] == [
        ("python", 3, ""),
        ("python", 8, "not run: it never ends"),
        ("console", 15, "run"),
        ("python", 21, "run"),
    ]
    assert found[2].body == "$ pexen --help\n"
    assert [wanted(block) for block in found] == [True, False, True, True]
    assert not wanted(Block("console", "$ pexen --help\n", 1, ""))


def test_a_wrong_example_fails_at_its_line() -> None:
    first, _, _, last = blocks(PAGE)
    namespace: dict[str, Any] = {}
    run_python(first, Path("page.md"), namespace)
    with pytest.raises(AssertionError) as caught:
        run_python(last, Path("page.md"), namespace)
    assert caught.traceback[-1].lineno == 20  # counted from 0
    assert str(caught.traceback[-1].path).endswith("page.md")


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        ("", "anything", None),
        ("a\n\nc", "a\nb\n  c", None),
        ("took … s", "took 0.12 s", None),
        ("a.c", "abc", "a.c"),
        ("b\na", "a\nb", "a"),
        ("part", "a part of it", "part"),
    ],
)
def test_shown_output_must_come_in_order(shown: str, printed: str, missing: str | None) -> None:
    assert first_missing(shown.split("\n"), printed) == missing
