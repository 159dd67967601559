"""``pexen run`` as programs use it: no terminal. Exit codes, what is written where, and which tasks run."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from tests.cli.tools import DEADLINE, environment, pexen, script, write


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "pexen.toml", "")
    return tmp_path


def lines_of(done):
    """The lines of finished tasks: path to status."""
    pattern = r"^(passed|failed|error|skipped|cancelled|crashed|timeout|warned) +(?:[\d.]+s)?  (\S+?)(?::.*)?$"
    found = re.findall(pattern, done.stderr, re.MULTILINE)
    return {path: status for status, path in found}


def bash(line, cwd):
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=DEADLINE, check=False
    )


# -- exit codes ---------------------------------------------------------------------------------------------------


def test_good_is_0(tree):
    script(tree / "a.sh", "echo hello")
    done = pexen("run", cwd=tree)
    assert done.returncode == 0
    assert done.stdout == ""
    assert lines_of(done) == {"a.sh": "passed"}
    assert re.search(r"^1 task in [\d.]+s: 1 passed$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("body", ["exit 1", "kill -9 $$", "/no/such/thing"])
def test_a_failure_is_1(body, tree):
    script(tree / "a.sh", body)
    assert pexen("run", cwd=tree).returncode == 1


def test_what_cannot_be_started_is_1(tree):
    script(tree / "a.sh", shell="#!/no/such/interpreter")
    done = pexen("run", cwd=tree)
    assert done.returncode == 1
    assert "its interpreter (in the #! line) is missing" in done.stderr


def test_nothing_selected_is_5_with_a_hint(tree):
    done = pexen("run", cwd=tree)
    assert done.returncode == 5
    assert "chmod +x" in done.stderr
    script(tree / "a.sh")
    assert pexen("run", "-k", "nowhere", cwd=tree).returncode == 5
    done = pexen("run", "-k", "0", cwd=tree)
    assert done.returncode == 5
    assert "what -k 0 is in ninja" in done.stderr


@pytest.mark.parametrize(
    ("meta", "said"),
    [('requires = ["nobody"]', "nobody"), ('requires = ["/a.sh"]', "a.sh"), ("resources = {cpu = 1}", "cpu")],
    ids=["unknown", "cycle", "resource"],
)
def test_wrong_tasks_are_4_and_leave_no_run(meta, said, tree):
    script(tree / "a.sh", meta=meta)
    done = pexen("run", cwd=tree)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert not list(tree.glob(".pexen/runs/*"))


def test_skipped_is_good_unless_strict(tree):
    script(tree / "a.sh", "exit 77")
    assert pexen("run", cwd=tree).returncode == 0
    assert pexen("run", "--strict", cwd=tree).returncode == 1
    assert pexen("run", cwd=tree, PEXEN_STRICT="1").returncode == 1
    assert pexen("run", "--no-strict", cwd=tree, PEXEN_STRICT="1").returncode == 0


def test_warned_is_good_unless_strict(tree):
    write(
        tree / "pexenfile.py", "import pexen\n@pexen.task\ndef a():\n    pexen.current().report('acl', 'warn', 'hm')\n"
    )
    done = pexen("run", cwd=tree)
    assert done.returncode == 0
    assert re.search("^warned +1  acl: hm: a$", done.stderr, re.MULTILINE)
    assert pexen("run", "--strict", cwd=tree).returncode == 1


def test_lazy_tasks_that_nobody_needed_are_good_even_if_strict(tree):
    script(tree / "a.sh")
    script(tree / "lazy.sh", meta='lazy = true\nprovides = ["x"]')
    done = pexen("run", "--strict", cwd=tree)
    assert done.returncode == 0
    assert lines_of(done)["lazy.sh"] == "skipped"


# -- which tasks ----------------------------------------------------------------------------------------------------


def test_requirements_come_along_and_no_deps_leaves_them(tree):
    script(tree / "a.sh", "exit 1")
    script(tree / "b.sh", meta='requires = ["/a.sh"]')
    done = pexen("run", "b.sh", cwd=tree)
    assert lines_of(done) == {"a.sh": "failed", "b.sh": "skipped"}
    done = pexen("run", "b.sh", "--no-deps", cwd=tree)
    assert (done.returncode, lines_of(done)) == (0, {"b.sh": "passed"})


def test_keyword_tags_and_parameters(tree):
    script(tree / "a.sh", meta='tags = ["slow"]')
    script(tree / "b.sh")
    assert lines_of(pexen("run", "-k", "b", cwd=tree)) == {"b.sh": "passed"}
    assert lines_of(pexen("run", "-m", "not slow", cwd=tree)) == {"b.sh": "passed"}
    write(
        tree / "pexenfile.py",
        "def tasks(here):\n    yield here.command(['test', here.param('x'), '=', '7'], path='x')\n",
    )
    assert pexen("run", "x", "-D", "x=7", cwd=tree).returncode == 0
    assert pexen("run", "x", "-D", "x=8", cwd=tree).returncode == 1
    assert pexen("run", "x", cwd=tree).returncode == 4


def test_arguments_behind_two_dashes_are_for_the_tree(tree):
    script(tree / "a.sh")
    done = pexen("run", "--", "-x", cwd=tree)
    assert done.returncode == 4
    assert "nothing here takes the arguments behind --" in done.stderr
    write(
        tree / "pexenfile.py", "def tasks(here):\n    yield here.command('test ' + here.param('args', ''), path='x')\n"
    )
    assert pexen("run", "x", "--", "a b", "=", "a b", cwd=tree).returncode == 0
    assert pexen("run", "x", "--", "a b", "=", "c", cwd=tree).returncode == 1


def test_collect_only_shows_what_would_run(tree):
    script(tree / "a.sh", "touch ran")
    script(tree / "b.sh", "touch ran", meta='requires = ["/a.sh"]')
    done = pexen("run", "b.sh", "--co", cwd=tree)
    assert done.returncode == 0
    assert [line[4:] for line in done.stdout.splitlines()[1:]] == ["a.sh", "b.sh"]
    assert not (tree / "ran").exists()
    assert not (tree / ".pexen").exists()


def test_dry_run_shows_the_order_and_who_would_be_skipped(tree):
    script(tree / "a.sh", "touch ran", meta='requires = ["/z.sh"]')
    script(tree / "b.sh", "touch ran", meta='requires = ["/c.sh"]')
    script(tree / "c.sh", "touch ran", meta='host = ["cmd:no-such-command"]')
    script(tree / "first.sh", "touch ran", meta="priority = -1")
    script(tree / "z.sh", "touch ran")
    done = pexen("run", "--dry-run", "-j1", cwd=tree)
    assert done.returncode == 0
    order = [line for line in done.stdout.splitlines() if line[0] != "#"]
    assert order[0] == "first.sh"
    assert sorted(order) == ["a.sh", "first.sh", "z.sh"]
    assert "# c.sh would be skipped: needs the command no-such-command" in done.stdout.splitlines()
    assert "# b.sh would be skipped: c.sh skipped" in done.stdout.splitlines()
    assert not (tree / "ran").exists()
    assert not (tree / ".pexen").exists()
    assert f"z.sh: {tree}/z.sh" in pexen("run", "--dry-run", "-v", cwd=tree).stdout.splitlines()
    really = lines_of(pexen("run", "-j1", cwd=tree))
    assert [path for path, status in really.items() if status == "passed"] == order


def test_resources_come_from_the_roots_configuration(tree):
    write(tree / "pexen.toml", '[resources]\ngpu = ["left", "right"]\n')
    script(tree / "a.sh", "echo $PEXEN_UNITS_GPU", meta="resources = {gpu = 2}")
    done = pexen("run", "-v", cwd=tree)
    assert done.returncode == 0, done.stderr
    assert "    | left,right" in done.stderr


# -- stopping early -------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(tree):
    for number in range(6):
        script(tree / f"t{number}.sh", "exit 1")
    return tree


@pytest.mark.parametrize(("words", "failures"), [(["-x"], 1), (["--maxfail", "2"], 2), (["--maxfail=0"], 6), ([], 6)])
def test_stopping_after_so_many_failures(words, failures, failing):
    done = pexen("run", "-j1", *words, cwd=failing)
    assert done.returncode == 1
    assert sorted(lines_of(done).values()) == ["cancelled"] * (6 - failures) + ["failed"] * failures


def test_stopping_at_the_first_failure_of_python_tasks(tree):
    write(
        tree / "pexenfile.py",
        """\
        def bad():
            assert False
        def tasks(here):
            for number in range(20):
                yield here.task(bad, f"t{number}")
        """,
    )
    done = pexen("run", "-j1", "-x", cwd=tree)
    assert sorted(lines_of(done).values()) == ["cancelled"] * 19 + ["failed"]


def test_cleanups_run_although_the_run_was_stopped(tree):
    script(tree / "setup.sh", meta='provides = ["setup"]\npriority = -2')
    script(tree / "bad.sh", "exit 1", meta="priority = -1")
    script(tree / "teardown.sh", meta='requires = ["setup"]\nafter = ["/bad.sh"]\ncleanup = true')
    done = pexen("run", "-j1", "-x", cwd=tree)
    assert lines_of(done) == {"setup.sh": "passed", "bad.sh": "failed", "teardown.sh": "passed"}


# -- what is shown --------------------------------------------------------------------------------------------------


def test_a_failure_tells_how_to_run_it_alone_and_that_does(tree):
    (tree / "folder with space").mkdir()
    script(tree / "folder with space" / "a.sh", "echo the end; exit 3")
    script(tree / "ok.sh")
    done = pexen("run", ".", cwd=tree)
    assert "  | the end" in done.stderr
    (again,) = re.findall(r"^  again: pexen (run .*)$", done.stderr, re.MULTILINE)
    one = bash(f"{sys.executable} -m pexen {again}", tree)
    assert one.returncode == 1
    assert "1 task in" in one.stderr
    assert "folder with space/a.sh: exit code 3" in one.stderr


def test_output_is_where_the_summary_says(tree):
    script(tree / "a.sh", "for n in $(seq 50); do echo line $n; done; exit 1")
    done = pexen("run", cwd=tree)
    (file,) = re.findall(r"of output, in (\S+)$", done.stderr, re.MULTILINE)
    text = (tree / file).read_text()
    assert text.splitlines()[0] == "line 1"
    assert len(text.splitlines()) == 50
    assert "  | line 31\n" in done.stderr
    assert "  | line 30\n" not in done.stderr


def test_python_tasks_have_their_output_and_traceback_shown(tree):
    write(
        tree / "pexenfile.py",
        "import pexen\n@pexen.task\ndef boom():\n    print('about to')\n    raise ValueError('bad')\n",
    )
    done = pexen("run", cwd=tree)
    assert lines_of(done) == {"boom": "error"}
    assert "  | about to" in done.stderr
    assert f'    File "{tree}/pexenfile.py", line 5, in boom' in done.stderr
    assert "  ValueError: bad" in done.stderr


def test_quiet_and_verbose(tree):
    script(tree / "a.sh", "echo hello")
    script(tree / "b.sh", meta='requires = ["/a.sh"]')
    assert len(pexen("run", "-q", cwd=tree).stderr.splitlines()) == 1
    assert "    | hello" in pexen("run", "-v", cwd=tree).stderr.splitlines()
    assert "      requires /a.sh: a.sh" in pexen("run", "-vv", cwd=tree).stderr.splitlines()


def test_colour_only_when_asked_for(tree):
    script(tree / "a.sh")
    assert "\x1b[" not in pexen("run", cwd=tree).stderr
    assert "\x1b[32mpassed" in pexen("run", "--color", "always", cwd=tree).stderr
    assert "\x1b[32mpassed" in pexen("run", cwd=tree, FORCE_COLOR="1").stderr
    assert "\x1b[" not in pexen("run", "--color=never", cwd=tree, FORCE_COLOR="1").stderr


def test_silence_is_broken_by_a_heartbeat(tree):
    os.mkfifo(tree / "gate")
    script(tree / "slow.sh", "echo go > gate", meta='claims = ["disk"]')
    process = subprocess.Popen(
        [sys.executable, "-m", "pexen", "run", "--heartbeat", "0.01"],
        cwd=tree, env=environment(), text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    line = next(line for line in process.stderr if line.startswith("running"))
    assert re.fullmatch(r"running \[0/1\]: slow.sh for [\d.]+s \(claims disk\)\n", line)
    (tree / "gate").read_text()
    process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0


def test_a_tree_that_is_read_only_is_run_all_the_same(tree, tmp_path_factory):
    script(tree / "a.sh", "echo hello")
    write(tree / ".pexen", "in the way")
    state = tmp_path_factory.mktemp("state")
    done = pexen("run", cwd=tree, XDG_STATE_HOME=str(state))
    assert done.returncode == 0
    assert "note: " in done.stderr
    assert str(state) in done.stderr


def test_when_nobody_reads_any_more_the_run_goes_on(tree):
    for number in range(30):
        script(tree / f"t{number}.sh", f"touch ran{number}")
    line = f"{sys.executable} -m pexen run -j2 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"
    done = bash(line, tree)
    assert done.stdout.splitlines()[-1] == "0"
    assert len(list(tree.glob("ran*"))) == 30


def test_thousands_of_tasks_take_few_writes(tree):
    for number in range(400):
        (tree / f"t{number}").write_text("#!/bin/sh\n")
        (tree / f"t{number}").chmod(0o755)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # what is written at once is read at once
    process = subprocess.Popen(
        [sys.executable, "-m", "pexen", "run", "-j2"], cwd=tree, env=environment(), stderr=theirs
    )
    theirs.close()
    with ours:
        writes = list(iter(lambda: ours.recv(1 << 20), b""))
    assert process.wait() == 0
    assert b"".join(writes).count(b"\npassed ") == 400
    assert len(writes) < 200


# -- signals, without a terminal --------------------------------------------------------------------------------------


def started(tree, *words, **options):
    process = subprocess.Popen(
        [sys.executable, "-m", "pexen", "run", *words],
        cwd=tree,
        env=environment(),
        text=True,
        stderr=subprocess.PIPE,
        **options,
    )
    with open(tree / "gate") as gate:
        assert gate.read() == "up\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_in_an_orderly_way(number, tree):
    os.mkfifo(tree / "gate")
    script(tree / "a.sh", "trap 'echo bye; exit 0' TERM; echo up > gate; while :; do sleep 0.01; done")
    script(tree / "b.sh", meta='requires = ["/a.sh"]')
    process = started(tree)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert "note: interrupted: waiting for 1 task to stop" in err
    assert "(interrupted)" in err
    assert re.search(r"^cancelled .* b\.sh", err, re.MULTILINE)
    (out,) = (tree / ".pexen" / "latest" / "output").iterdir()
    assert out.read_text().endswith("bye\n")


def test_what_does_not_stop_is_killed_after_its_grace(tree):
    os.mkfifo(tree / "gate")
    script(tree / "a.sh", "trap '' TERM; echo up > gate; while :; do sleep 0.01; done", meta='grace = "50ms"')
    process = started(tree)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert "note: killing what has not stopped in time" in err


def test_a_hangup_that_is_ignored_stays_ignored(tree):
    os.mkfifo(tree / "gate")
    script(tree / "a.sh", "echo up > gate; kill -HUP $PPID; touch survived")
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "pexen", "run"], cwd=tree, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    with open(tree / "gate") as gate:
        gate.read()
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert (tree / "survived").exists()


def test_an_interrupt_while_collecting_is_2_and_leaves_nothing(tree):
    os.mkfifo(tree / "gate")
    write(
        tree / "pexenfile.py",
        """\
        import os, time
        with open("pid", "w") as file:
            file.write(str(os.getpid()))
        with open("gate", "w") as gate:
            gate.write("up\\n")
        time.sleep(1000)
        """,
    )
    process = started(tree)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (2, "interrupted\n")
    assert not os.path.exists(f"/proc/{(tree / 'pid').read_text().strip()}")


def test_reports_go_to_files(tree):
    script(tree / "a.sh", """echo '{"report": {"name": "sub", "status": "fail"}}' >&$PEXEN_CONTROL""")
    done = pexen("run", "--report", "junit:out.xml", "--report", "jsonl", cwd=tree)
    assert done.returncode == 1
    suite = ET.parse(tree / "out.xml").getroot()[0]
    assert [(case.get("name"), len(case.findall("failure"))) for case in suite] == [("a.sh", 1), ("sub", 1)]
    lines = (tree / ".pexen/latest/report.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["run", "result", "end"]
    wrong = pexen("run", "--report", "html", cwd=tree)
    assert wrong.returncode == 4
    assert "not one of junit, jsonl" in wrong.stderr


def test_the_deadline_of_a_run_ends_it_but_not_its_cleanups(tree):
    script(tree / "a.sh", "sleep 100", "grace = 0.1\nprovides = 'a'")
    script(tree / "b.sh", "exit 0", "requires = 'a'")
    script(tree / "c.sh", "touch cleaned", "after = '/a.sh'\ncleanup = true")
    done = pexen("run", "--deadline", "1s", cwd=tree)
    assert done.returncode == 1
    assert lines_of(done) == {"a.sh": "timeout", "b.sh": "cancelled", "c.sh": "passed"}
    assert "deadline of 1 s has passed" in done.stderr
    assert (tree / "cleaned").exists()


def test_what_a_task_leaves_behind_is_told_and_gone(tree):
    script(tree / "a.sh", "setsid sh -c 'echo $$ > pid; exec sleep 1000' & while [ ! -s pid ]; do sleep 0.01; done")
    done = pexen("run", cwd=tree)
    assert done.returncode == 0
    assert "leaked 1 process (sleep)" in done.stderr
    assert not os.path.exists(f"/proc/{(tree / 'pid').read_text().strip()}")


def test_people_see_evidence_and_what_is_kept(tree):
    script(tree / "a.sh", "echo begun; exec sleep 1000", "timeout = 0.3\ngrace = 0.1")
    done = pexen("run", cwd=tree)
    assert "took longer than its timeout of 0.3 s" in done.stderr
    assert re.search(r"processes:\n +\d+ S sleep 1000", done.stderr)
    assert "evidence.txt" in done.stderr


def test_a_task_that_takes_long_is_told_of(tree):
    script(tree / "a.sh", "echo line; sleep 1000", "timeout = 5\ngrace = 0.1\nclaims = 'disk'")
    done = pexen("run", cwd=tree)
    assert "note: still running: a.sh for 4 s of 5 s, holds claims disk, last output: line" in done.stderr
