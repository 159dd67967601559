"""``pexen graph``: arrows, clusters, and names that cannot break out of their quotes."""

import re

import pytest

from tests.cli.tools import script, write


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    script(tmp_path / "a.sh")
    script(tmp_path / "net" / "b.sh", meta='requires = ["/a.sh", "db"]')
    script(tmp_path / "net" / "deep" / "c.sh", meta='provides = ["db"]\nafter = ["/a.sh"]')
    return tmp_path


def test_dot(tree, call):
    code, out, err = call("graph", cwd=tree)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f'digraph "{tree.name}" {{',
        "  rankdir=LR; node [shape=box];",
        '  t0 [label="a.sh"];',
        '  subgraph cluster_1 { label="net";',
        '    t1 [label="b.sh"];',
        '    subgraph cluster_2 { label="deep";',
        '      t2 [label="c.sh"];',
        "    }",
        "  }",
        "  t0 -> t1;",
        '  t2 -> t1 [label="db"];',
        "  t0 -> t2 [style=dashed];",
        "}",
    ]


def test_mermaid(tree, call):
    code, out, _ = call("graph", "--format", "mermaid", cwd=tree)
    assert code == 0
    assert out.splitlines() == [
        "flowchart LR",
        '  t0["a.sh"]',
        '  subgraph f1["net"]',
        '    t1["b.sh"]',
        '    subgraph f2["deep"]',
        '      t2["c.sh"]',
        "    end",
        "  end",
        "  t0 --> t1",
        '  t2 -->|"db"| t1',
        "  t0 -.-> t2",
    ]


def test_what_is_drawn_is_what_would_run(tree, call):
    assert '"c.sh"' in call("graph", "net/b.sh", cwd=tree)[1]
    out = call("graph", "net/b.sh", "--no-deps", cwd=tree)[1]
    assert '"c.sh"' not in out
    assert "->" not in out
    assert call("graph", "-k", "nowhere", cwd=tree)[0] == 5


HOSTILE = [
    '"];evil[',
    "a\\",
    "</script>",
    'x"];end;',
    "#35;",
    "\x1b[31m",
    "a`b`",
    "%%{init}%%",
    "{}|<>[]()",
    "end",
    "ä日",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_in_their_quotes(name, tmp_path, call):
    file = name.replace("/", "_")
    write(tmp_path / "folder" / file, "#!/bin/sh\n", executable=True)
    dot = call("graph", cwd=tmp_path)[1]
    assert re.fullmatch(r'    t0 \[label="(?:[^"\\]|\\.)*"\];', dot.splitlines()[3])
    assert len(dot.splitlines()) == 6
    mermaid = call("graph", "--format", "mermaid", cwd=tmp_path)[1]
    assert re.fullmatch(r'    t0\["(?:[\w ./-]|#\d+;)*"\]', mermaid.splitlines()[2])
    assert "\x1b" not in dot + mermaid


def test_folders_as_deep_as_they_come(tmp_path, call):
    write(tmp_path / "pexenfile.py", "def tasks(here):\n    yield here.command('true', path='/'.join(['d'] * 1500))\n")
    code, out, _ = call("graph", cwd=tmp_path)
    assert code == 0
    assert out.count("{") == out.count("}") == 1500
