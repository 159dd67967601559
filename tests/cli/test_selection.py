"""From words to tasks: paths, modules, kinds, what belongs together, and the way back from a task to a word."""

import os
import shlex
import sys

import pytest

from pexen.cli.selection import Gathered, Request
from pexen.errors import DefinitionError
from tests.cli.tools import script, write


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.fixture
def tree(tmp_path):
    """A tree with a root of its own, scripts, and tasks that are no files."""
    write(tmp_path / "tree" / "pexen.toml", "")
    script(tmp_path / "tree" / "a.sh")
    script(tmp_path / "tree" / "net" / "b.sh", meta='requires = ["/a.sh"]')
    script(tmp_path / "tree" / "net" / "deep" / "c.sh", meta='tags = ["slow"]')
    text = "import pexen\n@pexen.task\ndef create(): pass\n@pexen.task\ndef drop(): pass\n"
    write(tmp_path / "tree" / "db" / "pexenfile.py", text)
    return tmp_path / "tree"


def chosen(*words, params=(), args=(), chdir=None, **selected):
    return Gathered(Request(words, params, args, chdir)).select(**selected)


def paths(*words, **options):
    it = chosen(*words, **options)
    return sorted(task.name for task in it.tasks if it.is_chosen(task))


def test_a_path_selects_what_is_there_and_below(tree):
    assert paths("tree") == ["a.sh", "db/create", "db/drop", "net/b.sh", "net/deep/c.sh"]
    assert paths("tree/net") == paths("tree/net/") == paths(str(tree / "net")) == ["net/b.sh", "net/deep/c.sh"]
    assert paths("tree/net/b.sh") == ["net/b.sh"]
    assert paths("tree/net/b.sh", "tree/db") == ["db/create", "db/drop", "net/b.sh"]


def test_without_words_it_is_the_folder_one_stands_in(tree, monkeypatch):
    monkeypatch.chdir(tree / "net")
    assert paths() == paths(".") == ["net/b.sh", "net/deep/c.sh"]
    assert paths("..") == paths("tree", chdir="../..")


def test_a_task_that_is_no_file_has_a_path_as_well(tree, monkeypatch):
    assert paths("tree/db/create") == ["db/create"]
    monkeypatch.chdir(tree / "db")
    assert paths("create") == ["db/create"]


def test_two_colons_select_by_the_path_in_the_tree(tree):
    assert paths("tree::net/deep") == ["net/deep/c.sh"]
    assert paths("tree/net::db/create") == ["db/create"]
    write(tree / "odd::name", "#!/bin/sh\n", executable=True)
    assert paths("tree/odd::name") == ["odd::name"]


def test_requirements_come_along_unless_told_otherwise(tree):
    assert [task.name for task in chosen("tree/net/b.sh").tasks] == ["a.sh", "net/b.sh"]
    (alone,) = chosen("tree/net/b.sh", deps=False).tasks
    assert (alone.name, alone.requires) == ("net/b.sh", ())


def test_keyword_and_tags_narrow_down(tree):
    assert paths("tree", keyword="net and not deep") == ["net/b.sh"]
    assert paths("tree", tags="slow") == ["net/deep/c.sh"]
    assert paths("tree", keyword="nowhere") == []


def test_a_slip_of_the_pen_is_an_error_and_an_empty_folder_is_not(tree):
    with pytest.raises(DefinitionError) as caught:
        chosen("tree/nett")
    assert caught.value.hint == "did you mean 'net'?"
    with pytest.raises(DefinitionError, match="nothing at 'net/x'"):
        chosen("tree::net/x")
    (tree / "empty").mkdir()
    assert paths("tree/empty") == []


def test_paths_of_different_trees_are_refused(tree, tmp_path):
    write(tmp_path / "other" / "pexen.toml", "")
    script(tmp_path / "other" / "x.sh")
    with pytest.raises(DefinitionError, match="different trees") as caught:
        chosen("tree", "other")
    assert [text for _, text in caught.value.facts] == [str(tree), str(tmp_path / "other")]


# -- other sources --------------------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path):
    name = f"suite_{os.getpid()}_{tmp_path.name.replace('-', '_')}"
    text = "import pexen\n@pexen.task\ndef login(): pass\n@pexen.task(requires={login})\ndef logout(): pass\n"
    write(tmp_path / f"{name}_pkg" / "__init__.py", "")
    write(tmp_path / f"{name}_pkg" / "suite.py", text)
    return f"{name}_pkg.suite"


def test_a_dotted_name_is_a_module(module):
    assert paths(module) == paths(f"module:{module}") == ["suite/login", "suite/logout"]
    assert paths(f"{module}::suite/login") == ["suite/login"]
    assert module not in sys.modules


def test_a_module_and_a_tree_together(module, tree):
    assert paths("tree/net", module) == ["net/b.sh", "net/deep/c.sh", "suite/login", "suite/logout"]


def test_a_file_of_that_name_is_meant_rather_than_a_module(tmp_path):
    script(tmp_path / "json")
    script(tmp_path / "os.path")
    assert paths("json") == ["json"]
    assert paths("os.path") == ["os.path"]


def test_kinds(tree):
    assert paths("fs:tree") == ["a.sh", "net/b.sh", "net/deep/c.sh"]
    with pytest.raises(DefinitionError) as caught:
        chosen("moduel:x")
    assert caught.value.hint == "did you mean 'module'?"


def test_kind_tree_takes_the_folder_itself_for_the_root(tree):
    assert paths("tree:tree/net/deep") == ["c.sh"]
    assert paths("tree:tree/net/deep::c.sh") == ["c.sh"]


# -- parameters and arguments ---------------------------------------------------------------------------------------


def asking(folder, what):
    write(folder / "pexenfile.py", f"def tasks(here):\n    yield here.command(['echo', {what}], path='echo')\n")


def test_parameters_reach_the_tree(tmp_path):
    asking(tmp_path, "str(here.param('size', 1, type=int))")
    (task,) = chosen(".", params=[("size", "7")]).tasks
    assert task.callable.argv == ("echo", "7")
    with pytest.raises(DefinitionError) as caught:
        chosen(".", params=[("sise", "7")])
    assert caught.value.hint == "did you mean 'size'?"


def test_arguments_behind_the_dashes_are_the_parameter_args(tmp_path):
    asking(tmp_path, "here.param('args', '')")
    (task,) = chosen(".", args=["-x", "two words"]).tasks
    assert shlex.split(task.callable.argv[1]) == ["-x", "two words"]


def test_arguments_that_nobody_takes_are_an_error(tree):
    with pytest.raises(DefinitionError, match="nothing here takes the arguments behind --"):
        chosen("tree", args=["x"])


# -- the way back ---------------------------------------------------------------------------------------------------

AWKWARD = [
    "plain.sh", "with space", "-dash", "quote'd", "fs:x", "a::b", "star*", "$HOME", "back\\slash", "json",
    "esc\x1b[31m", "tab\there",
]  # fmt: skip


@pytest.fixture
def plain(tmp_path):
    """A tree without Python in it: it is collected here and now."""
    write(tmp_path / "tree" / "pexen.toml", "")
    script(tmp_path / "tree" / "a.sh")
    return tmp_path / "tree"


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("inside", [False, True])
def test_the_command_to_run_it_again_selects_just_that_task(name, inside, plain, monkeypatch):
    tree = plain
    write(tree / name, "#!/bin/sh\n", executable=True)
    if inside:
        monkeypatch.chdir(tree)
    words = bash_words(chosen("." if inside else "tree").again(name))
    assert words[:2] == ["pexen", "run"]
    assert words[3:] == ["-j1"]
    assert not words[2].startswith("-")
    assert paths(words[2]) == [name]


def bash_words(line):
    import subprocess

    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_a_name_that_is_no_utf_8_can_be_run_again(plain):
    file = os.fsencode(plain) + b"/\xff.sh"
    with open(file, "w") as opened:
        opened.write("#!/bin/sh\n")
    os.chmod(file, 0o755)
    (name,) = set(paths("tree")) - {"a.sh"}
    assert paths(bash_words(chosen("tree").again(name))[2]) == [name]


def test_a_root_below_the_root_does_not_capture_the_path(plain):
    write(plain / "vendored" / ".git" / "HEAD", "")
    script(plain / "vendored" / "x.sh")
    word = chosen("tree").again("vendored/x.sh").split()[2]
    assert word == "tree::vendored/x.sh"
    assert paths(word) == ["vendored/x.sh"]


def test_other_sources_and_parameters_are_said_again(module, tree, tmp_path):
    assert chosen(module).again("suite/login") == f"pexen run {module}::suite/login -j1"
    assert chosen("fs:tree").again("a.sh") == "pexen run fs:tree::a.sh -j1"
    asking(tmp_path, "here.param('size', '1') + here.param('args', '')")
    again = chosen(".", params=[("size", "7 x")], args=["-v"]).again("echo")
    assert again == "pexen run ./echo -j1 -D 'size=7 x' -- -v"


def test_what_runs_for_others_only_is_run_by_one_of_them(plain):
    script(plain / "net.sh", meta="teardown = 'true'")
    script(plain / "db.sh", meta='service = true\nrequires = ["/net.sh"]')
    script(plain / "query.sh", meta='requires = ["/db.sh"]')
    script(plain / "idle.sh", meta="lazy = true")
    found = chosen("tree")
    assert [found.again(f"{name}.sh").split()[2] for name in ("net", "db", "query", "idle")] == [
        *["tree/query.sh"] * 3, "tree/idle.sh",
    ]  # fmt: skip


def test_it_is_typed_where_the_first_one_was_typed(tree):
    assert chosen(".", chdir="tree").again("net/b.sh") == "pexen run tree/net/b.sh -j1"
