"""``pexen explain``: everything about one task."""

import pytest

from tests.cli.tools import script, write


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "[resources]\ncpu = 4\n")
    meta = 'requires = ["db"]\nclaims = ["disk"]\nuses = ["net"]\nresources = {cpu = 2}\n'
    meta += 'timeout = "90s"\nretries = 2\ntags = ["slow"]'
    script(tmp_path / "net" / "b.sh", meta=meta + '\nhost = ["cmd:sh"]\nwhen = "cpus >= 100000"')
    script(tmp_path / "net" / "c.sh", meta='provides = ["db"]')
    return tmp_path


def test_everything_about_a_task(tree, call):
    code, out, _ = call("explain", "net/b.sh", cwd=tree)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "net/b.sh"
    reason = next(
        line for line in lines if line.startswith("  now: it would be skipped: needs cpus >= 100000 (cpus is ")
    )
    assert lines[1:] == [
        f"  runs: {tree}/net/b.sh  in {tree}/net",
        "  defined at: net/b.sh",
        "  requires: db  bound to net/c.sh",
        "  claims: disk",
        "  uses: net",
        "  takes: 2 cpu",
        "  host: cmd:sh",
        "  when: cpus >= 100000",
        reason,
        "  tags: slow",
        "  timeout: 1m30s",
        "  retries: 2",
        "  run it: pexen run net/b.sh -j1",
    ]


def test_who_requires_it(tree, call):
    out = call("explain", "net/c.sh", cwd=tree)[1]
    assert "  provides: db" in out.splitlines()
    assert "  required by: net/b.sh" in out.splitlines()


def test_a_function_with_its_line_and_documentation(tmp_path, call):
    write(tmp_path / "pexenfile.py", 'import pexen\n@pexen.task\ndef load():\n    """Load it all."""\n')
    lines = call("explain", "load", cwd=tmp_path)[1].splitlines()
    assert lines[1] == "  calls: load  Load it all."
    assert lines[2].startswith("  defined at: pexenfile.py:")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("net/d.sh", "did you mean 'net/"),
        ("c.hs", "did you mean 'net/c.sh'?"),
        ("net", "there are 2 tasks at net"),
        ("pexen.toml", "there is no task at pexen.toml"),
    ],
)
def test_what_is_not_one_task(word, said, tree, call):
    code, out, err = call("explain", word, cwd=tree)
    assert (code, out) == (4, "")
    assert said in err
