"""A child process answers a question, whatever users' code in it does, and nothing of it is left."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from pexen.cli.isolate import isolate
from pexen.errors import PexenError
from tests.leaks import children

HERE = __name__


def echo(argument):
    return f"{argument}!"


def tells(argument):
    return json.dumps(
        {"path": sys.path, "argv": sys.argv, "stdin": sys.stdin.read(), "cwd": os.getcwd(), "pid": os.getpid()}
    )


def closes_everything(argument):
    os.closerange(0, 256)
    return "still here"


def leaves_a_thread(argument):
    import threading

    threading.Thread(target=time.sleep, args=[1000]).start()
    return "done"


def prints(argument):
    print("from python")
    os.system("echo from a shell")
    return "ok"


def raises(argument):
    raise ValueError("no")


def exits(argument):
    sys.exit(7)


def leaves_at_once(argument):
    os._exit(0)


def crashes(argument):
    os.kill(os.getpid(), 11)


def hangs(argument):
    while True:
        time.sleep(1000)


def daemons(argument):
    """Leave what is in our group, in a session of its own, in a group of its own without our environment."""
    import subprocess

    stays = f"echo $$ >> {argument}; exec sleep 1000"
    os.system(f"sh -c '{stays}' & setsid sh -c '{stays}' &")
    subprocess.Popen(["/bin/sh", "-c", stays], env={}, process_group=0)
    while len(Path(argument).read_text().split() if Path(argument).exists() else ()) < 3:
        os.sched_yield()
    return "left"


def test_the_answer_comes_back():
    assert isolate(f"{HERE}:echo", "hello", 30) == "hello!"


def test_the_child_sees_the_same_path_and_folder_and_an_empty_input():
    told = json.loads(isolate(f"{HERE}:tells", "", 30))
    assert told.pop("pid") != os.getpid()
    assert told == {"path": sys.path, "argv": ["pexen"], "stdin": "", "cwd": os.getcwd()}


def test_large_questions_and_answers_pass():
    text = "x" * 5_000_000
    assert isolate(f"{HERE}:echo", text, 30) == text + "!"


def test_what_it_prints_goes_to_standard_error(capfd):
    assert isolate(f"{HERE}:prints", "", 30) == "ok"
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == ["from a shell", "from python"]


def test_closing_every_descriptor_does_not_lose_the_answer():
    assert isolate(f"{HERE}:closes_everything", "", 30) == "still here"


def test_a_thread_that_goes_on_is_not_waited_for():
    assert isolate(f"{HERE}:leaves_a_thread", "", 30) == "done"


@pytest.mark.parametrize(
    ("function", "end"),
    [
        ("raises", "exit status 1"),
        ("exits", "exit status 7"),
        ("leaves_at_once", "exit status 0"),
        ("crashes", "killed by SIGSEGV"),
    ],
)
def test_an_end_without_an_answer_is_told(function, end):
    with pytest.raises(PexenError, match=end):
        isolate(f"{HERE}:{function}", "", 30)


def test_too_long_is_too_long():
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        isolate(f"{HERE}:hangs", "", 0.1)
    assert children() == set()


def test_descendants_are_gone_when_it_returns(tmp_path):
    pids = tmp_path / "pids"
    assert isolate(f"{HERE}:daemons", str(pids), 30) == "left"
    alive = [pid for pid in pids.read_text().split() if is_alive(pid)]
    assert alive == []


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False
