import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import DefinitionError
from pexen.factory.taskfile import comment_block, sidecar, task_file, wrapped_by
from pexen.model.command import Command
from tests.factory.trees import plant


def block(tmp_path, text):
    data = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
    (tmp_path / "x").write_bytes(data)
    return comment_block(str(tmp_path / "x"))


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\n# /// pexen\n# timeout = 3\n# ///\n",
        "#!/bin/sh\n#/// pexen\n#timeout = 3\n#///\n",
        "// /// pexen\n//\n// timeout = 3\n// ///\nint main() {}",
        "-- /// pexen\n-- timeout = 3\n-- ///\n",
        ";; /// pexen\n;; timeout = 3\n;; ///\n",
        "; /// pexen\r\n; timeout = 3\r\n; ///\r\n",
        "#!/bin/sh\n" + "# licence\n" * 300 + "# /// pexen  \n# timeout = 3\n# ///",
        "#!/bin/sh\n# /// script\n# timeout = 4\n# ///\n# /// pexen\n# timeout = 3\n# ///\n",
        "#!/bin/sh\n# /// pexen\n# timeout = 3  # žluťoučký\n# ///\n" + "\xff" * 10,
    ],
)
def test_a_comment_block_is_metadata(tmp_path, text):
    assert block(tmp_path, text) == {"timeout": 3.0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#!/bin/sh\necho '# /// pexen'\n",
        "  # /// pexen\n  # timeout = 3\n  # ///\n",
        b"\x7fELF\0\0# /// pexen\n# /// pexen\n# timeout = 'x\n",
        "# /// pexenfile\n",
        "#!/bin/sh\n" + "# x\n" * 5000 + "# /// pexen\n# nonsense\n",
    ],
)
def test_no_comment_block(tmp_path, text):
    assert not block(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("#!/bin/sh\n\n# /// pexen\n# tags = 'x'\n# tiemout = 3\n# ///\n", 5, "unknown metadata 'tiemout'"),
        ("# /// pexen\n# tags =\n# ///\n", 2, "not valid TOML"),
        ("# /// pexen\n# tags = 'a'\n# tags = 'b'\n# ///\n", 3, "overwrite"),
        ("# /// pexen\n# tags = 'a'\necho\n# ///\n", 3, "not closed"),
        ("# /// pexen\n# tags = 'a'\n", 3, "not closed"),
        ("# /// pexen\n" + "# \n" * 200, 1, "more than 100 lines"),
        ("// /// pexen\n# tags = 'a'\n", 2, "not closed"),
        ("# /// pexen\n# [tasks.x]\n# ///\n", 2, "unknown metadata 'tasks'"),
    ],
)
def test_mistakes_have_the_line_in_the_executable(tmp_path, text, line, problem):
    with pytest.raises(DefinitionError, match=problem) as caught:
        block(tmp_path, text)
    assert caught.value.where == f"{tmp_path}/x:{line}"


@given(text=st.text(alphabet="#/ pexn='\n;-a", max_size=80))
def test_any_text_is_a_block_or_none_or_a_definition_error(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    where = f"{folder}/x:"
    try:
        block(folder, "# /// pexen\n" + text)
    except DefinitionError as error:
        where = error.where
    assert where.startswith(f"{folder}/x:")


def test_a_fifo_put_in_the_place_of_a_file_hangs_nobody(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    found = []
    thread = threading.Thread(target=lambda: found.append(comment_block(str(tmp_path / "fifo"))), daemon=True)
    thread.start()
    thread.join(10)
    assert found == [None]
    assert comment_block(str(tmp_path / "none")) is None
    assert comment_block(str(tmp_path)) is None


def test_a_sidecar_is_metadata_and_nothing_else(tmp_path):
    plant(
        tmp_path, {"x.pexen.toml": "tags = 'a'\ntimeout = '1m'\n", "y.pexen.toml": "tags='a'\n[tasks.z]\nrun='true'\n"}
    )
    assert sidecar(str(tmp_path / "x.pexen.toml")) == {"tags": ("a",), "timeout": 60.0}
    with pytest.raises(DefinitionError, match="a sidecar defines no tasks") as caught:
        sidecar(str(tmp_path / "y.pexen.toml"))
    assert caught.value.where == f"{tmp_path}/y.pexen.toml:2"
    assert "'y'" in caught.value.hint


def tasks(tmp_path, text):
    file = plant(tmp_path, {"f.pexen.toml": text}) / "f.pexen.toml"
    return list(task_file(str(file)))


def test_a_task_file(tmp_path):
    found = tasks(
        tmp_path,
        """
        [defaults]
        tags = ["t"]
        timeout = 3
        [tasks.shell]
        run = "make check | tee log"
        tags = ["own"]
        [tasks."sub/argv"]
        run = ["./x", "-v", "a b"]
        cwd = "sub"
        env = {LANG = "C"}
        timeout = 4
        [tasks.looked_up]
        run = ["make"]
        cwd = "/tmp"
        [tasks.python]
        python = "helpers.py:Class.method"
        """,
    )
    here = str(tmp_path)
    assert [one.name for one in found] == ["shell", "sub/argv", "looked_up", "python"]
    assert found[0].callable == Command(("/bin/sh", "-c", "make check | tee log"), here, shell=True)
    assert found[0].meta == {"tags": ("t", "own"), "timeout": 3.0}
    assert found[1].callable == Command((f"{here}/x", "-v", "a b"), f"{here}/sub", (("LANG", "C"),))
    assert found[1].meta["timeout"] == 4
    assert found[2].callable == Command(("make",), "/tmp")
    assert found[3].callable == "helpers.py:Class.method"
    assert found[3].where == f"{here}/f.pexen.toml:15"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[task.x]\nrun = 'a'\n", 1, "unknown key 'task'"),
        ("timeout = 3\n", 1, "unknown key 'timeout'"),
        ("tasks = 3\n", 1, "tasks must be a table"),
        ("[tasks]\nx = 3\n", 2, "x must be a table"),
        ("[tasks.x]\n", 1, "needs either run or python"),
        ("[tasks.x]\nrun = 'a'\npython = 'm:f'\n", 1, "needs either run or python"),
        ("[tasks.x]\n\nrun = ''\n", 3, "empty command"),
        ("[tasks.x]\nrun = []\n", 2, "a command is a string"),
        ("[tasks.x]\nrun = [1]\n", 2, "a command is a string"),
        ("[tasks.x]\nrun = 3\n", 2, "a command is a string"),
        ("[tasks.x]\nrun = 'a'\nrnu = 3\n", 3, "unknown metadata 'rnu'"),
        ("[tasks.x]\nrun = 'a'\ncwd = 3\n", 3, "cwd must be a folder"),
        ("[tasks.x]\nrun = 'a'\nenv = 'A=1'\n", 3, "env must be a table"),
        ("[tasks.x]\nrun = 'a'\nenv = {A = 1}\n", 2, "maps strings to strings"),
        ("[tasks.x]\npython = 'm'\n", 2, "no reference to a function"),
        ("[tasks.x]\npython = 'm:f()'\n", 2, "no reference to a function"),
        ("[tasks.x]\npython = 'm:f'\nenv = {}\n", 3, "env is for commands"),
        ("[tasks.'../x']\nrun = 'a'\n", 1, "not a valid task path"),
        ("[tasks.x]\nrun = 'a'\n[tasks.x]\nrun = 'b'\n", 3, "twice"),
        ("[defaults]\nrun = 'a'\n", 2, "unknown metadata 'run'"),
        ("[tasks.x]\nrun = 'a'\n[tasks.y]\nrun = 'a'\nwhen = 'oss'\n", 5, "no fact 'oss'"),
    ],
)
def test_mistakes_in_task_files_have_their_line(tmp_path, text, line, problem):
    with pytest.raises(DefinitionError, match=problem) as caught:
        tasks(tmp_path, text)
    assert caught.value.where == f"{tmp_path}/f.pexen.toml:{line}"


@pytest.mark.parametrize(
    ("what", "meta", "wanted"),
    [
        (Command(("/t/a/x.sh",), "/t/a"), {}, ["/t/a/x.sh"]),
        (Command(("../x.sh",), "/t/a"), {}, ["/t/x.sh"]),
        (Command(("make",), "/t"), {}, []),
        (Command(("/bin/sh", "-c", "./x.sh --all | tail"), "/t", shell=True), {}, ["/t/x.sh"]),
        (Command(("/bin/sh", "-c", "x.sh"), "/t", shell=True), {}, []),
        (Command(("/bin/sh", "-c", "echo 'open"), "/t", shell=True), {}, []),
        (print, {"teardown": "clean.sh now", "ready": "file:is/up"}, ["/h/clean.sh"]),
        (print, {"teardown": ""}, []),
    ],
)
def test_which_files_a_task_executes_itself(what, meta, wanted):
    assert list(wrapped_by(what, meta, "/h")) == wanted
