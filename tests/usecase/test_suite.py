"""A suite as a program of one's own: what a stranger would write, in a process of its own; its seams, in this one."""

import json
import os
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import pexen
from pexen.cli.isolate import isolate
from pexen.errors import DefinitionError
from pexen.pool.tree import LINEAGE
from pexen.state.lock import holder
from pexen.usecase import Suite
from tests.cli.tools import DEADLINE, Line, environment, gated, is_up, open_gate, script, write
from tests.cli.tools import pexen as typed
from tests.report.test_junit import check

PROGRAM = """\
#!/usr/bin/env python3
import sys
from pexen.usecase import Suite

class Mine(Suite):
    def tasks(self):
        return [task for task in super().tasks() if "slow" not in task.tags]

if __name__ == "__main__":
    sys.exit(Mine("tests", jobs=2, reports=["junit:out.xml"], resume=(sys.argv[1:] or [""])[0]).run())
"""

STUBBORN = "( trap '' TERM; sleep 600 ) & while :; do wait; done"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    write(tmp_path / "pexen.toml", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(program: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, program.name, *words], cwd=program.parent, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    with start(program, *words) as process:
        out, err = process.communicate(timeout=DEADLINE)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def statuses(suite):
    return {path: str(result.status) for path, result in suite.results.items()}


def of(path, does=lambda: None, **meta):
    return pexen.Task(does, path, **meta)


def told(file):
    """What a report says, but for times, and for the folder of the run."""
    root = ET.parse(file).getroot()
    check(root)
    return [
        (case.get("classname"), case.get("name"), [(child.tag, child.get("message")) for child in case])
        for case in root.iter("testcase")
    ]


def results_in(file):
    lines = map(json.loads, file.read_text().splitlines())
    return {line["path"]: line["status"] for line in lines if line["kind"] == "result"}


# -- the program of a stranger ------------------------------------------------------------------------------------


def test_a_script_runs_a_folder_and_leaves_what_pexen_run_leaves(tree):
    script(tree / "tests" / "a.sh", "echo hello")
    script(tree / "tests" / "b.sh", "exit 1", meta='requires = ["/tests/a.sh"]')
    script(tree / "tests" / "c.sh", meta='tags = ["slow"]')
    write(tree / "tests" / "pexenfile.py", "import pexen\n@pexen.task(requires='/tests/a.sh')\ndef one(): return 1\n")
    script(tree / "beside.sh")
    done = run(write(tree / "mine.py", PROGRAM))
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].startswith(f"{tree.name}: 3 tasks, 2 jobs, timeout 30m, output in .pexen/runs/")
    assert "again:" not in done.stderr, "nobody knows how to run one of its tasks alone"
    latest = tree / ".pexen" / "latest"
    assert {"journal.jsonl", "report.xml", "report.jsonl", "output"} <= set(os.listdir(latest))
    assert results_in(latest / "report.jsonl") == {
        "tests/a.sh": "passed", "tests/b.sh": "failed", "tests/one": "passed"
    }  # fmt: skip
    assert (tree / "out.xml").read_bytes() == (latest / "report.xml").read_bytes()
    check(ET.parse(tree / "out.xml").getroot())
    header = json.loads((latest / "journal.jsonl").read_text().splitlines()[0])
    assert (header["argv"], header["cwd"], header["root"]) == (["mine.py"], str(tree), str(tree))


def test_its_reports_say_what_those_of_pexen_run_say(tree):
    script(tree / "a.sh", "echo hello")
    script(tree / "b.sh", "exit 3", meta='requires = ["/a.sh"]')
    script(tree / "c.sh", meta='requires = ["/b.sh"]')
    script(tree / "lib" / "d.sh", meta='host = "cmd:no-such-thing"')
    write(
        tree / "lib" / "pexenfile.py",
        "import pexen\n@pexen.task\ndef wrong(): assert 1 == 2, 'one is not two'\n@pexen.task\ndef right(): print(1)\n",
    )
    program = write(tree / "mine.py", "import sys\nfrom pexen.usecase import Suite\nsys.exit(Suite().run())\n")
    latest = tree / ".pexen" / "latest"
    assert run(program).returncode == 1
    ours, results = told(latest / "report.xml"), results_in(latest / "report.jsonl")
    assert typed("run", cwd=tree).returncode == 1
    theirs = told(latest / "report.xml")
    assert [case[:2] for case in ours] == [case[:2] for case in theirs]
    assert ours == theirs
    assert results == results_in(latest / "report.jsonl")


@pytest.mark.leaks("files")  # what a killed process has in temporary folders stays there
def test_what_was_killed_is_taken_up_and_what_it_left_is_ended(tree):
    line = Line(tree / "line")
    script(tree / "tests" / "a.sh", "printf x >> a.count")
    gated(tree / "tests", "b", "exec 9>../line; setsid sleep 600 & printf x >> b.count", 'requires = ["/tests/a.sh"]')
    script(tree / "tests" / "c.sh", "printf x >> c.count", meta='requires = ["/tests/b.sh"]')
    program = write(tree / "mine.py", PROGRAM)
    with start(program) as process:
        is_up(tree / "tests", "b")
        latest = tree / ".pexen" / "latest"
        while '"kind":"started","path":"tests/b.sh"' not in (latest / "journal.jsonl").read_text():
            os.sched_yield()  # a start does not wait for its record, which is on its way
        process.kill()
        process.communicate(timeout=DEADLINE)
    assert holder(str(latest)) is None
    late = typed("report", "--report", "junit:late.xml", cwd=tree)
    assert late.returncode == 0, late.stderr
    assert [case[1] for case in told(tree / "late.xml")] == ["a.sh", "b.sh", "c.sh"]
    script(tree / "tests" / "b.sh", "printf x >> b.count", 'requires = ["/tests/a.sh"]')

    refused = typed("resume", cwd=tree)
    assert refused.returncode == 4
    assert "not started by `pexen run`" in refused.stderr
    assert "but by: mine.py" in refused.stderr

    done = run(program, "latest")
    assert done.returncode == 0, done.stderr
    assert "note: taken up again: 1 result from before" in done.stderr
    assert line.is_dead(0), "it was ended before anything started"
    line.close()
    assert [len((tree / "tests" / f"{name}.count").read_text()) for name in "abc"] == [1, 2, 1]
    assert results_in(latest / "report.jsonl") == dict.fromkeys(("tests/a.sh", "tests/b.sh", "tests/c.sh"), "passed")
    assert len(os.listdir(tree / ".pexen" / "runs")) == 1


def test_ctrl_c_stops_it_cleans_up_and_leaves_what_can_be_taken_up(tree):
    (tree / "tests").mkdir()
    gated(tree / "tests", "a")
    script(tree / "tests" / "b.sh", meta='requires = ["/tests/a.sh"]')
    script(tree / "tests" / "tidy.sh", "touch tidied", meta='cleanup = true\nafter = ["/tests/a.sh"]')
    program = write(tree / "mine.py", PROGRAM)
    with start(program) as process:
        is_up(tree / "tests", "a")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2, err
    assert "note: interrupted: waiting for 1 task to stop; once more kills" in err
    assert (tree / "tests" / "tidied").exists()
    script(tree / "tests" / "a.sh")
    assert run(program, "latest").returncode == 0


@pytest.mark.leaks("files")
def test_ctrl_c_twice_kills(tree):
    line = Line(tree / "line")
    script(tree / "tests" / "a.sh", "exec 9>../line; trap 'echo asked >&9' TERM; echo up >&9\n" + STUBBORN)
    with start(write(tree / "mine.py", PROGRAM)) as process:
        assert line.heard("up")
        process.send_signal(signal.SIGINT)
        assert line.heard("asked")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2, err
    assert "note: interrupted again: killing what still runs" in err
    assert line.is_dead(0)
    line.close()


def test_one_that_still_goes_is_not_taken_up_and_its_reports_are_left_alone(tree):
    (tree / "tests").mkdir()
    gated(tree / "tests", "a")
    program = write(tree / "mine.py", PROGRAM)
    with start(program) as process:
        is_up(tree / "tests", "a")
        before = (tree / ".pexen" / "latest" / "report.jsonl").read_bytes()
        done = run(program, "latest")
        assert done.returncode == 3
        assert f"process {process.pid} on " in done.stderr
        assert (tree / ".pexen" / "latest" / "report.jsonl").read_bytes() == before
        open_gate(tree / "tests", "a")
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


# -- exit codes ---------------------------------------------------------------------------------------------------


def fails():
    raise AssertionError("as it should")


def warns():
    pexen.current().report("odd", "warn")


@pytest.mark.parametrize(
    ("tasks", "options", "code"),
    [
        ([of("a"), print], {}, 0),
        ([of("a"), of("b", fails)], {}, 1),
        ([of("a", warns)], {}, 0),
        ([of("a", warns)], {"strict": True}, 1),
        ([of("a", requires="nobody")], {}, 4),
        ([of("a"), of("a")], {}, 4),
        ([print, print], {}, 4),
        (["a"], {}, 4),
        ([of("a")], {"resume": "latest"}, 4),
        ([of("a")], {"reports": ["junti:out.xml"]}, 4),
        ([of("a")], {"keyword": "and"}, 4),
        ([], {}, 5),
        ([of("a")], {"keyword": "b"}, 5),
        ([of("a", tags="slow")], {"tags": "not slow"}, 5),
    ],
)  # fmt: skip
def test_exit_codes(tree, tasks, options, code):
    suite = Suite(tasks=tasks, **options)
    assert suite.run() == code
    ran = code in {0, 1}
    assert bool(suite.results) is ran
    assert (tree / ".pexen" / "latest").exists() is ran


@pytest.mark.parametrize(
    ("text", "said"),
    [("import sys\nsys.exit(0)\n", "pexenfile.py:2"), ("1 / 0\n", "pexenfile.py:1"), ("defaults = 3\n", "defaults")],
)
def test_a_mistake_in_a_tree_is_4_and_says_where(tree, capfd, text, said):
    write(tree / "pexenfile.py", text)
    assert Suite().run() == 4
    assert said in capfd.readouterr().err


def test_a_folder_that_is_not_there_is_4_and_an_empty_one_5(tree, capfd):
    assert Suite("nowhere").run() == 4
    assert f"there is nothing at {tree}/nowhere" in capfd.readouterr().err
    (tree / "empty").mkdir()
    assert Suite(Path("empty")).run() == 5
    assert "nothing selected" in capfd.readouterr().err


def test_wrong_options_are_told_at_once():
    with pytest.raises(TypeError, match="'job'"):
        Suite(job=4)
    with pytest.raises(DefinitionError, match="of a tree or of tasks"):
        Suite("here", tasks=[])
    with pytest.raises(DefinitionError, match="timeout"):
        Suite(tasks=[], timeout="5x")


# -- seams --------------------------------------------------------------------------------------------------------


def test_tasks_may_be_functions_and_a_factory_and_values_come_back(tree):
    @pexen.task(provides="number")
    def seven():
        return 7

    def twice(number):
        return 2 * number

    suite = Suite(
        tasks=lambda: iter([seven, pexen.Task(twice, requires="number"), pexen.command("echo hi", path="say")])
    )
    assert suite.run() == 0
    assert (suite.results["twice"].value, suite.results["say"].output) == (14, "hi\n")
    assert Path(suite.folder) == (tree / ".pexen" / "latest").resolve()
    assert suite.results["say"].details.output.path.startswith(suite.output)


def test_collected_is_before_the_selection_which_brings_what_is_required(tree):
    class Mine(Suite):
        def collected(self):
            return [*super().collected(), of("extra", requires="needed"), of("needed", provides="needed"), of("other")]

    suite = Mine(tasks=[of("a")], keyword="extra")
    assert suite.run() == 0
    assert statuses(suite) == {"needed": "passed", "extra": "passed"}


def test_sched_and_pool_may_be_others(tree):
    class Mine(Suite):
        def pool(self):
            return pexen.LocalPool(1, callables="thread", output=self.output)

        def sched(self, tasks, **options):
            return super().sched(tasks, shared={"port": 80}, **options)

    here = []
    suite = Mine(tasks=[of("a", lambda shared: here.append(shared["port"]))], poison=True)
    assert suite.run() == 0
    assert here == [80]


def test_a_result_may_bring_more_tasks_and_end_the_run(tree, capfd):
    class Mine(Suite):
        def finished(self, result):
            if result.path == "a":
                self.add([of("b"), of("c", requires="/b")])
            if result.path == "b":
                self.stop()

    suite = Mine(tasks=[of("a")], maxfail=1)
    assert suite.run() == 2
    assert suite.results["b"].ok
    assert "c" in suite.results
    assert "interrupted" in capfd.readouterr().err


class Noting:
    """A reporter of one's own, that breaks when it is told to."""

    def __init__(self, broken=""):
        self.told, self.broken = [], broken

    def _note(self, verb, what):
        if verb == self.broken:
            raise RuntimeError("not today")
        self.told.append((verb, what))

    def begin(self, plan):
        self._note("begin", plan)

    def finished(self, result):
        self._note("finished", result.path)

    def moment(self, look):
        pass

    def note(self, text):
        self._note("note", text)

    def end(self, summary):
        self._note("end", summary.stopped)


def test_reporters_of_ones_own_hear_of_everything(tree):
    noting = Noting()
    suite = Suite(tasks=[of("a")], reports=[noting, "jsonl:out.jsonl"])
    suite.title = "nightly"
    suite.notes.append("on a quiet machine")
    assert suite.run() == 0
    (_, plan), *rest = noting.told
    assert (plan.title, [task.name for task in plan.tasks], plan.timeout) == ("nightly", ["a"], 1800.0)
    assert rest == [("note", "on a quiet machine"), ("finished", "a"), ("end", "")]
    assert json.loads((tree / "out.jsonl").read_text().splitlines()[0])["title"] == "nightly"


@pytest.mark.parametrize("verb", ["begin", "finished", "end"])
def test_a_broken_reporter_is_told_of_and_changes_nothing(tree, capfd, verb):
    suite = Suite(tasks=[of("a")], reports=[Noting(verb)])
    assert suite.run() == 0
    assert f"a report is incomplete: Noting was disabled: RuntimeError in {verb}" in capfd.readouterr().err


def test_what_a_hook_raises_ends_the_run_and_goes_through(tree):
    class Mine(Suite):
        def finished(self, result):
            raise KeyError(result.path)

    with pytest.raises(KeyError):
        Mine(tasks=[of("a")]).run()
    assert results_in(tree / ".pexen" / "latest" / "report.jsonl") == {"a": "passed"}


def test_inline_runs_in_this_process_without_a_limit(tree):
    here = []
    suite = Suite(tasks=[of("a", lambda: here.append(os.getpid()))], inline=True, timeout="1m")
    assert suite.timeout is None
    assert suite.run() == 0
    assert here == [os.getpid()]


def test_resources_of_the_root_are_there(tree):
    write(tree / "pexen.toml", "[resources]\ncpu = 2\n")
    assert Suite(tasks=[of("a", resources={"cpu": 2})]).run() == 0
    assert Suite(tasks=[of("a", resources={"cpu": 3})]).run() == 4
    assert Suite(tasks=[of("a", resources={"cpu": 3})], resources={"cpu": 3}).run() == 0


def test_files_of_a_tree_can_be_imported_elsewhere(tree, capfd):
    class Mine(Suite):
        pass

    Mine.isolate = staticmethod(isolate)
    write(
        tree / "pexenfile.py",
        "import pexen\n@pexen.task(when=lambda facts: False)\ndef one(): pass\n",
    )
    suite = Mine()
    assert suite.run() == 0
    assert statuses(suite) == {"one": "skipped"}
    assert not [name for name in sys.modules if name.startswith("pexen_tree")], "others may have a pid, too"
    write(tree / "pexenfile.py", "import os\nos._exit(0)\n")
    assert Mine().run() == 4
    assert "pexenfile.py:2" in capfd.readouterr().err


# -- in somebody's process ----------------------------------------------------------------------------------------


def test_runs_of_one_process_have_folders_of_their_own(tree):
    one, other = Suite(tasks=[of("a")]), Suite(tasks=[of("a")])
    assert (one.run(), other.run(), one.run()) == (0, 0, 0)
    assert len(os.listdir(tree / ".pexen" / "runs")) == 3
    assert not any(result.replayed for result in (*one.results.values(), *other.results.values()))


@pytest.mark.parametrize("command", [[], [sys.executable, "mine.py", "all of it"]])
def test_a_program_says_how_to_go_on_where_it_knows(tree, capfd, command):
    class Mine(Suite):
        def finished(self, result):
            self.stop()

        def resuming(self):
            return command

    assert Mine(tasks=[of("a"), of("b", requires="/a")], jobs=1).run() == 2
    told = f"to go on: {sys.executable} mine.py 'all of it'\n" if command else ""
    said = capfd.readouterr().err
    assert said[said.index("(interrupted)\n") + len("(interrupted)\n") :] == told


def test_a_program_whose_report_cannot_be_written(tree, capfd):
    suite = Suite(tasks=[of("a")], reports=["jsonl:/proc/x.jsonl", "junit"])
    assert suite.run() == 3
    assert suite.results.ok
    assert "JsonLines was disabled" in capfd.readouterr().err
    assert Suite(tasks=[of("b")], reports=["junit"]).run() == 0


def test_it_can_be_taken_up_in_the_process_that_stopped_it(tree):
    class Mine(Suite):
        def finished(self, result):
            self.stop()

    suite = Mine(tasks=[of("a"), of("b", requires="/a"), of("c", requires="/b")], jobs=1)
    assert suite.run() == 2
    again = Suite(tasks=suite.given, resume=os.path.basename(suite.folder))
    assert again.run() == 0
    assert again.folder == suite.folder
    assert again.results["a"].replayed
    assert statuses(again) == dict.fromkeys("abc", "passed")


def test_handlers_and_environment_are_put_back(tree, monkeypatch):
    monkeypatch.setenv(LINEAGE, "outer")
    seen = {}

    class Mine(Suite):
        def finished(self, result):
            seen["handler"], seen["name"] = signal.getsignal(signal.SIGINT), os.environ[LINEAGE]

    def theirs(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGINT, theirs)
    try:
        assert Mine(tasks=[of("a")]).run() == 0
        assert signal.getsignal(signal.SIGINT) is theirs
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen["handler"] is not theirs
    assert seen["name"].startswith(f"outer/{os.getpid()}-")
    assert os.environ[LINEAGE] == "outer"


def test_in_a_thread_that_may_not_set_handlers_it_works_without_and_can_be_stopped(tree):
    gated(tree, "a")
    gated(tree, "b")
    before = signal.getsignal(signal.SIGINT)
    codes = []
    suite = Suite(jobs=2)
    thread = threading.Thread(target=lambda: codes.append(suite.run()))
    thread.start()
    is_up(tree, "a")
    is_up(tree, "b")
    assert signal.getsignal(signal.SIGINT) is before
    open_gate(tree, "a")
    while "a.sh" not in suite.results:
        os.sched_yield()
    suite.stop()
    thread.join(DEADLINE)
    assert codes == [2]
    assert statuses(suite) == {"a.sh": "passed", "b.sh": "cancelled"}


def test_what_has_not_begun_takes_no_tasks():
    with pytest.raises(DefinitionError, match="not begun"):
        Suite(tasks=[]).add([of("a")])


def test_a_suite_of_a_tree_takes_providers_from_its_catalogue(tmp_path, capfd):
    write(tmp_path / "tree" / "pexen.toml", 'catalogue = ["services", "../more"]\n[providers]\nhttpd = "b"\n')
    script(tmp_path / "tree" / "a.sh", meta='requires = ["httpd", "db"]')
    script(tmp_path / "tree" / "services" / "a.sh", meta='provides = ["httpd"]')
    script(tmp_path / "tree" / "services" / "b.sh", meta='provides = ["httpd"]')
    script(tmp_path / "more" / "db.sh", meta='provides = ["db"]')
    suite = Suite(tmp_path / "tree")
    assert suite.run() == 0
    assert sorted(suite.results) == ["a.sh", "db.sh", "services/b.sh"]
    assert "chosen: httpd: services/b.sh; db: db.sh" in capfd.readouterr().err
    suite = Suite(tmp_path / "tree", params={"provider.httpd": "a"})
    assert suite.run() == 0
    assert sorted(suite.results) == ["a.sh", "db.sh", "services/a.sh"]
