import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import DefinitionError
from pexen.factory import filesystem
from pexen.factory.filesystem import FilesystemFactory, Patterns, is_task_file, patterns_of
from pexen.factory.tree import TreeFactory
from pexen.model.command import Command
from pexen.model.path import check_path
from tests.factory.trees import paths, plant

SCRIPT = "#!/bin/sh\n"
NOBODY = 65534


@pytest.fixture
def nobodys_folder():
    """Give a folder, and be a user for whom modes count."""
    folder, user = Path(tempfile.mkdtemp(dir="/var/tmp")), os.geteuid()
    if user == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(user)
        for below in folder.iterdir():
            below.chmod(0o700)
        shutil.rmtree(folder)


def found(root, **more):
    return paths(FilesystemFactory(root, **more)())


def test_executables_are_tasks_sorted_and_run_in_their_folder(tmp_path):
    plant(tmp_path, {"b.sh": "", "a/z.sh": "", "a/b/c.sh": "", "c.sh": "", "a.sh": "", "data.txt": "", "a/y": SCRIPT})
    tasks = list(FilesystemFactory(tmp_path)())
    assert paths(tasks) == ["a/b/c.sh", "a/y", "a/z.sh", "a.sh", "b.sh", "c.sh"]
    assert tasks[1].callable == Command((f"{tmp_path}/a/y",), f"{tmp_path}/a")


def test_what_is_no_test_is_passed_over(tmp_path):
    names = [".hidden.sh", ".git/hook.sh", "__pycache__/x.sh", "a.sh~", "a.sh.orig", "a.sh.rej", "#a.sh#", "a.bak"]
    names += ["libx.so", "libx.so.1.2", "a.pexen.toml", "pexen.toml", "pexenfile.py", "x.pyc"]
    plant(tmp_path, dict.fromkeys(names, SCRIPT) | {"good.so.sh": "", "so": SCRIPT})
    assert found(tmp_path) == ["good.so.sh", "so"]


def test_links(tmp_path):
    outside = plant(tmp_path / "outside", {"run.sh": "", "below/deep.sh": ""})
    root = plant(tmp_path / "root", {"real.sh": "", "sub/x.sh": ""})
    (root / "file_link").symlink_to(outside / "run.sh")
    (root / "linked").symlink_to(outside)
    (root / "broken").symlink_to("nowhere")
    (root / "self").symlink_to("self")
    (root / "loop").symlink_to(".")
    (root / "sub/up").symlink_to(root)
    (outside / "back").symlink_to(root)
    assert found(root) == ["file_link", "linked/below/deep.sh", "linked/run.sh", "real.sh", "sub/x.sh"]


def test_two_links_to_one_folder_are_two_sets_of_tasks(tmp_path):
    plant(tmp_path, {"common/x.sh": "", "a/y.sh": "", "b/y.sh": ""})
    for name in "ab":
        (tmp_path / name / "common").symlink_to("../common")
    assert found(tmp_path) == ["a/common/x.sh", "a/y.sh", "b/common/x.sh", "b/y.sh", "common/x.sh"]


def test_links_that_multiply_are_an_error_not_an_endless_walk(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "MOST_LINKED", 500)
    names = [f"d{number}" for number in range(8)]
    for name in names:
        (tmp_path / name).mkdir()
        for other in names:
            (tmp_path / name / other).symlink_to(f"../{other}")
    with pytest.raises(DefinitionError, match="links lead to more than 500 folders"):
        found(tmp_path)


def test_fifos_sockets_and_devices_are_never_opened(tmp_path, monkeypatch):
    plant(tmp_path, {"x.sh": ""})
    os.mkfifo(tmp_path / "fifo", 0o777)
    (tmp_path / "to_fifo").symlink_to("fifo")
    (tmp_path / "to_device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # a socket's address has at most 108 bytes
        listening.bind("socket")
        os.chmod(tmp_path / "socket", 0o777)
        assert found(tmp_path) == ["x.sh"]


def test_hostile_names(tmp_path):
    long = "n" * 250 + ".sh"
    deep = "/".join(["folder-with-a-name-of-30-chars"] * 12)
    plant(tmp_path, {f"{long}": "", f"{deep}/x.sh": "", "esc\x1b[31m\u202e.sh": "", "sp ace'\";.sh": ""})
    file = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.sh")
    Path(os.fsdecode(file)).touch(0o755)
    tasks = {task.path: task for task in FilesystemFactory(tmp_path)()}
    assert set(tasks) == {long, f"{deep}/x.sh", "esc\x1b[31m\u202e.sh", "sp ace'\";.sh", r"\xff\xfe.sh"}
    assert os.fsencode(tasks[r"\xff\xfe.sh"].callable.argv[0]) == file
    for path in tasks:
        path.encode()


def test_a_name_with_a_newline_is_refused_with_advice(tmp_path):
    plant(tmp_path, {"a/bad\nname.sh": ""})
    with pytest.raises(DefinitionError, match="NUL or newline") as caught:
        found(tmp_path)
    assert caught.value.where == f"{tmp_path}/a"
    assert found(tmp_path, ignore=["bad*"]) == []


def test_a_folder_as_deep_as_linux_allows(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    depth = (4000 - len(str(tmp_path))) // 2
    try:
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("x", os.O_CREAT, 0o755, dir_fd=here))
        (task,) = FilesystemFactory(tmp_path)()
        assert task.path == "d/" * depth + "x"
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # shutil.rmtree, and so pytest, cannot


def test_a_folder_that_cannot_be_read_is_an_error(nobodys_folder):
    plant(nobodys_folder, {"a/x.sh": ""})
    (nobodys_folder / "a").chmod(0)
    with pytest.raises(DefinitionError, match="cannot read the folder: Permission denied") as caught:
        found(nobodys_folder)
    assert caught.value.where == f"{nobodys_folder}/a"
    assert found(nobodys_folder, ignore=["a/"]) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DefinitionError, match="cannot read the folder: No such file") as caught:
        found(tmp_path / "none")
    assert caught.value.where == str(tmp_path / "none")


TREE = dict.fromkeys(("top.sh", "lib/a.sh", "lib/deep/b.sh", "tests/lib/c.sh", "tests/d.py", "tests/e.sh"), SCRIPT)


@pytest.mark.parametrize(
    ("files", "ignore", "wanted"),
    [
        (["*.py"], [], "tests/d.py"),
        (["tests/*"], [], "tests/d.py tests/e.sh tests/lib/c.sh"),
        (["tests"], [], "tests/d.py tests/e.sh tests/lib/c.sh"),
        (["tests/*.sh"], [], "tests/e.sh"),
        (["tests/**/*.sh"], [], "tests/e.sh tests/lib/c.sh"),
        (["lib/**"], [], "lib/a.sh lib/deep/b.sh"),
        (["[tl]*/?.sh"], [], "lib/a.sh tests/e.sh"),
        (["[!a-d].sh"], [], "tests/e.sh"),
        ([], [], ""),
        (None, ["lib"], "tests/d.py tests/e.sh top.sh"),
        (None, ["lib/"], "tests/d.py tests/e.sh top.sh"),
        (None, ["./lib"], "tests/d.py tests/e.sh tests/lib/c.sh top.sh"),
        (None, ["lib/*"], "tests/d.py tests/e.sh tests/lib/c.sh top.sh"),
        (None, ["**/lib"], "tests/d.py tests/e.sh top.sh"),
        (None, ["*.sh/"], "lib/a.sh lib/deep/b.sh tests/d.py tests/e.sh tests/lib/c.sh top.sh"),
        (None, ["*"], ""),
        (["*.sh"], ["tests", "top.sh"], "lib/a.sh lib/deep/b.sh"),
        ("*.py", "x", "tests/d.py"),
    ],
)
def test_patterns(tmp_path, files, ignore, wanted):
    plant(tmp_path, TREE)
    assert sorted(found(tmp_path, files=files, ignore=ignore)) == wanted.split()


@given(st.text(alphabet="ab*?[]!/\\.^-~", min_size=1, max_size=12), st.text(alphabet="ab/.", max_size=12))
def test_every_pattern_compiles_or_is_refused(pattern, path):
    with suppress(DefinitionError):
        assert patterns_of("files", [pattern]).match(path) in {True, False}


@given(st.text(alphabet="ab.*+()|$", min_size=1, max_size=8).filter(lambda text: "*" not in text))
def test_a_pattern_without_wildcards_matches_itself_and_what_is_below(name):
    patterns = Patterns([name])
    for path in (name, f"x/{name}", f"{name}/x", f"{name}/"):
        assert patterns.match(path)
    assert not patterns.match(name + "x")
    assert not patterns.match("x" + name)


@pytest.mark.parametrize("value", [3, [3], [""], None, {"a": 1}])
def test_patterns_are_strings(value):
    with pytest.raises(DefinitionError, match="ignore must be a list of patterns"):
        patterns_of("ignore", value)


def test_backups_are_known_by_name():
    assert is_task_file("run.sh")
    assert is_task_file("no.sonar")
    assert not any(map(is_task_file, ("a~", "libc.so.6", "x.pexen.toml", "a\nb~")))


@given(
    names=st.sets(
        st.binary(min_size=1, max_size=30).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"0")), max_size=8
    )
)
def test_any_file_name_is_a_task_or_is_said_to_be_impossible(names):
    with tempfile.TemporaryDirectory() as folder:
        wanted = set()
        for name in names - {b".", b".."}:
            file = os.path.join(os.fsencode(folder), name)
            os.close(os.open(file, os.O_CREAT, 0o755))
            if name[:1] != b"." and is_task_file(os.fsdecode(name)):
                wanted.add(file)
        try:
            tasks = list(FilesystemFactory(folder)())
        except DefinitionError:
            assert any(b"\n" in name for name in names)
            return
        assert {os.fsencode(task.callable.argv[0]) for task in tasks} == wanted
        for task in tasks:
            task.path.encode()
            check_path(task.path)


@pytest.mark.parametrize("factory", [FilesystemFactory, TreeFactory])
def test_what_vanishes_while_it_is_collected_is_passed_over(tmp_path, monkeypatch, factory):
    """As the links in ``/dev/fd`` do, and what others clean up."""
    plant(tmp_path, {"a.sh": "", "linked/b.sh": "", "plain/b.sh": ""})
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    inside = filesystem.Folder.inside

    def too_late(folder, name, *, link):
        shutil.rmtree((tmp_path / name).resolve(), ignore_errors=True)
        return inside(folder, name, link=link)

    monkeypatch.setattr(filesystem.Folder, "inside", too_late)
    assert paths(factory(tmp_path)()) == ["a.sh"]
