"""Collecting in a child process: the same tasks as in this one, and nothing that a tree does hurts."""

import inspect
import os
import pickle
import re
import subprocess
import sys
import threading
import time

import pytest

from pexen.errors import DefinitionError, PexenError
from pexen.factory import here
from pexen.factory.collect import asker, collect, collect_from
from pexen.factory.conditions import gate
from pexen.factory.facts import Facts
from pexen.factory.params import Params
from pexen.factory.tree import TreeFactory
from pexen.model.call import Kind, call_of, where_defined
from pexen.model.carried import Carried
from pexen.model.meta import AllOf, AnyOf, Named
from pexen.model.modules import TREE_MODULES
from tests.factory.trees import isolate, paths, plant


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(here, "_PACKAGES", {})
    before, entered = set(sys.modules), set(TREE_MODULES)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for name in set(TREE_MODULES) - entered:
        del TREE_MODULES[name]


@pytest.fixture
def gather(tmp_path):
    """Plant a tree and collect it in a child."""

    def grow(files, **more):
        plant(tmp_path, files)
        found = collect(tmp_path, isolate=isolate, **more)
        assert not [name for name in sys.modules if name.startswith("pexen_tree")]
        return {task.path: task for task in found.tasks}

    return grow


def no_child(*_):
    raise AssertionError("no child is needed")


def test_a_tree_without_python_needs_no_child(tmp_path):
    plant(tmp_path, {"x.sh": "", "pexen.toml": "[defaults]\ntags = 't'\n", "t.pexen.toml": "[tasks.t]\nrun = 'true'\n"})
    found = collect(tmp_path, isolate=no_child)
    assert paths(found.tasks) == ["t", "x.sh"]
    assert found.where == {"t": f"{tmp_path}/t.pexen.toml:1", "x.sh": f"{tmp_path}/x.sh"}


TREE = {
    "pexenfile.py": """
        import pexen
        defaults = dict(tags={"all"}, timeout="1m")

        @pexen.task(provides="db", around=[lambda: (yield])
        def db():
            return "the database"
    """.replace("(yield]", "(yield)]"),
    "a/pexenfile.py": """
        import enum, functools, os
        import pexen
        from pexen import any_of, all_of, tree_lock
        from .helpers import outside

        class Mode(enum.Enum):
            FAST = 1

        def nearby(facts): return facts.cpus > 0

        @pexen.task(requires="db", claims=[tree_lock("/proc/sys"), ("disk", 1)], when=nearby, host="os:linux")
        def use(db, *, mode="x"):
            \"\"\"Use it.

            At length.
            \"\"\"
            return db, mode

        @pexen.task(requires=use, args=[[1, (2, "\\udcff")], {"k": None}])
        def positional(first, second, use): return first, second, use

        @pexen.task(requires={"conn": any_of(use, "db"), "every": all_of(use)}, after=[positional])
        async def coro(conn, every): return conn

        @pexen.task(service=True)
        def serve():
            yield 1

        partial = pexen.Task(functools.partial(use, mode="p"), requires="db")

        def tasks(here):
            made = here.task(use, path="deep/made", requires={"db": "db"}, kwargs={"mode": Mode.FAST})
            yield made
            n = here.param("n", 3, help="how many")
            for number in range(n):
                yield here.task(lambda db, number=number: (db, number), path=f"lambda{number}", requires=["db"], after=[made])
            yield here.task(outside, requires=made)
            yield here.task(os.getpid)
            yield here.command("true", path="shell", env={"A": "b"}, when=lambda facts: False)
    """,
    "a/helpers.py": "def outside(made): return made\n",
    "a/run.sh": "# /// pexen\n# tags = 'x'\n# ///\n",
    "a/t.pexen.toml": "[tasks.ref]\npython = 'helpers.py:outside'\nrequires = {made = '/a/deep/made'}\n",
}


def test_the_same_tasks_as_without_a_child(gather, tmp_path):
    found = gather(TREE)
    direct = {task.path: task for task in TreeFactory(tmp_path)()}
    assert list(found) == list(direct)
    for path, task in direct.items():
        other = found[path]
        plain = {key for key in task.meta if key not in {"when", "around", "after", "kwargs", "args"}}
        assert {key: other.meta[key] for key in plain} == {key: task.meta[key] for key in plain}, path
        assert other.provides[: len(task.provides)] == task.provides
        if isinstance(other.callable, Carried):
            assert call_of(other).kind is call_of(task).kind, path
            assert where_defined(other.callable) == where_defined(task.callable) or "partial" in path
        else:
            assert other.callable == task.callable


def test_callables_are_found_again_by_whoever_calls_them(gather, tmp_path):
    found = gather(TREE, params={"n": "2"})

    def call(path, *args, **kwargs):
        return pickle.loads(pickle.dumps(found[f"a/{path}"].callable))(*args, **kwargs)

    assert found["db"].callable() == "the database"
    assert call("use", "d") == ("d", "x")
    assert call("positional", *found["a/positional"].args, 5) == ([1, (2, "\udcff")], {"k": None}, 5)
    assert call("partial", "d") == ("d", "p")
    db, mode = call("deep/made", db="d")
    assert (db, mode.name) == ("d", "FAST")
    assert call("lambda1", db="d") == ("d", 1)
    assert call("outside", 3) == 3
    assert call("getpid") == os.getpid()
    assert call("ref", 4) == 4
    assert next(call("serve")) == 1
    assert next(found["db"].around[0]()) is None
    assert found["a/use"].when(Facts()) is True
    assert found["a/shell"].when(Facts()) is False
    coro = call("coro", 1, 2)
    assert inspect.iscoroutine(coro)
    coro.close()


def test_what_can_be_asked_without_importing(gather, tmp_path):
    found = gather(TREE)
    use = found["a/use"].callable
    assert str(inspect.signature(use)) == "(db, *, mode=None)"
    assert use.__name__ == "use"
    assert use.doc == "Use it."
    assert where_defined(use) == f"{tmp_path}/a/pexenfile.py:11"
    assert call_of(found["a/coro"]).kind is Kind.COROUTINE
    assert call_of(found["a/serve"]).kind is Kind.GENERATOR
    assert call_of(found["a/lambda1"]).keyword[0][0] == "db"
    assert str(inspect.signature(found["a/deep/made"].callable)) == "(db)"
    assert repr(use) == "<Carried use>"


def test_requirements_on_functions_and_tasks_become_paths(gather):
    found = gather(TREE)
    assert found["a/coro"].after == ("/a/positional",)
    assert found["a/lambda0"].after == ("/a/deep/made",)
    assert found["a/outside"].requires == ("/a/deep/made",)


def test_a_function_that_is_a_task_twice_becomes_a_name(gather):
    found = gather(TREE)
    name = found["a/use"].provides[-1]
    assert found["a/deep/made"].provides == (name,)
    assert found["a/partial"].provides == ()
    assert found["a/positional"].requires == (Named("use", name),)
    assert found["a/coro"].requires == (Named("conn", AnyOf((name, "db"))), Named("every", AllOf(name)))


def test_parameters_keep_their_names_wherever_the_task_stands(gather):
    source = """
        import pexen
        from pexen import all_of, any_of
        @pexen.task(path="other/place")
        def db(): pass
        @pexen.task(requires=[db, any_of(db), all_of(db)])
        def f(db): pass
    """
    found = gather({"pexenfile.py": source})
    path = "/other/place"
    assert found["f"].requires == (Named("db", path), Named("db", AnyOf((path,))), Named("db", AllOf(path)))


def test_the_digest_changes_with_the_functions_own_lines(gather, tmp_path):
    source = "import pexen\n{}\n@pexen.task\ndef f():\n    return [x for x in {}]\n\n@pexen.task\ndef g(): pass\n"

    def digests(*parts):
        found = gather({"pexenfile.py": source.format(*parts)})
        return found["f"].callable.digest, found["g"].callable.digest

    f, g = digests("", "(1,)")
    assert digests("# a comment above", "(1,)") == (f, g)
    changed, same = digests("", "(2,)")
    assert changed != f
    assert same == g


def test_parameters_go_there_and_come_back(gather, tmp_path):
    params = Params({"n": "1"})
    found = gather(TREE, params=params)
    assert "a/lambda0" in found
    assert "a/lambda1" not in found
    asked = params.asked["n"]
    assert (asked.type, asked.default, asked.help) == ("int", "3", "how many")
    assert asked.where.startswith(f"{tmp_path}/a/pexenfile.py:")
    with pytest.raises(DefinitionError, match="no parameter 'm'"):
        gather(TREE, params={"m": "1"})
    with pytest.raises(DefinitionError, match="'n' must be int"):
        gather(TREE, params={"n": "x"})


def test_made_up_facts_go_there(gather):
    files = {"pexenfile.py": "def tasks(here):\n    yield here.command('true', path=here.facts.os)\n"}
    assert list(gather(files, facts=Facts.of(os="plan9"))) == ["plan9"]


HOSTILE = {
    "syntax": ("x = 1\nx = (\n", "raised SyntaxError", 2),
    "exception": ("\n1 / 0\n", "raised ZeroDivisionError", 2),
    "exits": ("import sys\nsys.exit(0)\n", "raised SystemExit: 0", 2),
    "interrupts": ("\n\nraise KeyboardInterrupt\n", "raised KeyboardInterrupt", 3),
    "leaves": ("import os\n\nos._exit(0)\n", "ended the interpreter", 3),
    "leaves by name": ("from os import _exit\n_exit(7)\n", "exit code 7", 2),
    "aborts": ("import os\n\n\nos.abort()\n", "ended with SIGABRT", 4),
    "segfault": ("import ctypes\ndef f():\n    ctypes.string_at(0)\nf()\n", "ended with SIGSEGV", 3),
    "kills itself": ("import os\nos.kill(os.getpid(), 9)\n", "ended with SIGKILL", None),
    "closes everything": ("import os\nos.closerange(0, 256)\n1 / 0\n", "ZeroDivisionError|ended", None),
    "recursion": ("def f(): f()\nf()\n", "raised RecursionError", 1),
    "in tasks()": ("def tasks(here):\n    import os\n    os._exit(3)\n    yield\n", "ended the interpreter", 3),
    "no tasks": ("import pexen\n@pexen.task(requires=len)\ndef f(): pass\n", "len is not a task", 2),
    "stranger": (
        (
            "import pexen\n@pexen.task\ndef g(): pass\nx = g\ndel g\ndef tasks(here):\n"
            "    yield here.task(print, requires=pexen.Task(print, path='p'))\n"
        ),
        "requires p, which is not among",
        7,
    ),
}


@pytest.mark.parametrize(("source", "problem", "line"), HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_pexenfile_does_is_one_error_with_file_and_line(gather, tmp_path, source, problem, line):
    with pytest.raises(DefinitionError, match=problem) as caught:
        gather({"good/x.sh": "", "a/pexenfile.py": source})
    file = f"{tmp_path}/a/pexenfile.py"
    assert caught.value.where == f"{file}:{line}" if line else caught.value.where.startswith(file)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\nwhile True:\n    x = not x\n", None),
        ("import threading\n\nthreading.Event().wait()\n", 3),
        (
            (
                "import signal, threading\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
                "lock = threading.Lock()\nlock.acquire()\nlock.acquire()\n"
            ),
            5,
        ),
    ],
)
def test_a_pexenfile_that_hangs_is_ended_and_the_line_named(tmp_path, source, line):
    plant(tmp_path, {"a/pexenfile.py": source})
    with pytest.raises(DefinitionError, match=re.escape("pexenfile.py takes longer than 1 s")) as caught:
        collect(tmp_path, isolate=isolate, limit=1.0)
    where = caught.value.where
    assert where == f"{tmp_path}/a/pexenfile.py:{line}" if line else where.startswith(f"{tmp_path}/a/pexenfile.py:")


def test_one_that_stops_itself_is_ended_by_the_callers_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("pexen.factory.collect._GRACE", 0.2)
    plant(tmp_path, {"pexenfile.py": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"})
    with pytest.raises(DefinitionError, match=r"takes longer than 0\.5 s") as caught:
        collect(tmp_path, isolate=isolate, limit=0.5)
    assert caught.value.where.startswith(f"{tmp_path}/pexenfile.py")


NOISY = """
    import atexit, os, pexen, subprocess, sys, threading

    print("noise", flush=True)
    os.write(1, b"\\xff" * 100_000)
    sys.stdout = None
    threading.Thread(target=threading.Event().wait).start()
    child = subprocess.Popen(["sleep", "SECONDS"])
    atexit.register(lambda: 1 / 0)
    os.environ.clear()
    sys.path.clear()
    os.chdir("/")

    @pexen.task
    def f(): pass
"""


def test_one_that_prints_and_leaves_threads_and_children_behind(gather):
    seconds = f"1000.{time.time_ns()}"  # nobody else sleeps for just so long
    assert list(gather({"pexenfile.py": NOISY.replace("SECONDS", seconds)})) == ["f"]
    sleeping = subprocess.run(["pgrep", "-f", f"^sleep {seconds}$"], stdout=subprocess.PIPE, text=True, check=False)
    assert sleeping.stdout == ""


@pytest.mark.parametrize("answer", ["", "{", "[]", "{}", '{"tasks": []}', '{"error": {}}'])
def test_a_child_that_answers_nonsense_is_an_error(tmp_path, answer):
    plant(tmp_path, {"pexenfile.py": ""})
    with pytest.raises(DefinitionError):
        collect(tmp_path, isolate=lambda *_: answer)


@pytest.mark.parametrize("error", [PexenError("out of processes"), OSError(12, "no memory")])
def test_a_child_that_cannot_be_started_is_an_error(tmp_path, error):
    plant(tmp_path, {"pexenfile.py": ""})

    def broken(*_):
        raise error

    with pytest.raises(DefinitionError, match=r"no memory|out of processes"):
        collect(tmp_path, isolate=broken)


def test_the_users_ctrl_c_goes_through(tmp_path):
    plant(tmp_path, {"pexenfile.py": ""})

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path, isolate=interrupted)


def test_callables_and_arguments_that_cannot_travel_are_named(tmp_path):
    plant(
        tmp_path,
        {
            "pexenfile.py": "",
            "t.pexen.toml": "[tasks.x]\npython = 'h.py:f'\n",
            "h.py": "class C:\n  def __call__(self): return 9\nf = C()\n",
        },
    )
    (task,) = collect(tmp_path, isolate=isolate).tasks
    assert task.callable() == 9


def test_two_trees_do_not_get_into_each_others_way(tmp_path):
    source = "import pexen\n@pexen.task\ndef f(): return {}\n"
    plant(tmp_path, {"a/pexenfile.py": source.format(1), "b/pexenfile.py": source.format(2)})
    ((one,), (two,)) = (collect(tmp_path / name, isolate=isolate).tasks for name in "ab")
    assert (one.callable(), two.callable()) == (1, 2)


def test_the_tree_factory_takes_a_collector(tmp_path):
    plant(tmp_path, TREE)
    params = Params({"n": "1"})
    tasks = list(TreeFactory(tmp_path, params=params, collector=isolate)())
    assert isinstance(tasks[0].callable, Carried)
    assert "n" in params.asked


def test_a_module_collected_in_a_child(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    plant(
        tmp_path,
        {
            "suite/__init__.py": "",
            "suite/net.py": "import pexen\n@pexen.task\ndef f(x=1): return x\ng = pexen.Task(lambda: 7, args=[], requires=f)\n",
        },
    )
    found = collect_from("pexen.factory.modtree:ModTreeFactory", ["suite"], isolate=isolate).tasks
    assert paths(found) == ["suite/net/f", "suite/net/g"]
    assert found[1].requires == ("/suite/net/f",)
    assert "suite" not in sys.modules
    assert found[0].callable(x=2) == 2
    assert found[1].callable() == 7
    with pytest.raises(DefinitionError, match="there is no module 'nothere'"):
        collect_from("pexen.factory.module:ModuleFactory", ["nothere"], isolate=isolate)


def test_callable_conditions_are_decided_in_a_child(gather):
    source = """
        import pexen
        def never(facts): return facts.cpus < 0
        def bad(facts): return 1 / 0
        def leaves(facts):
            import os
            os._exit(3)
        def tasks(here):
            yield here.command("true", path="never", when=never)
            yield here.command("true", path="always", when=lambda facts: facts.cpus)
            yield here.command("true", path="bad", when=bad)
            yield here.command("true", path="leaves", when=leaves)
    """
    found = gather({"pexenfile.py": source})
    decide = gate(Facts(), asker(isolate))
    assert decide(found["never"]) == "the condition never does not hold"
    assert decide(found["always"]) is None
    with pytest.raises(DefinitionError, match="bad raised ZeroDivisionError"):
        decide(found["bad"])
    with pytest.raises(DefinitionError, match="the condition leaves ended the interpreter"):
        decide(found["leaves"])
    assert not [name for name in sys.modules if name.startswith("pexen_tree")]


def test_many_threads_may_resolve_one_callable(gather):
    found = gather(
        {"pexenfile.py": "import pexen, threading\ncount = []\n@pexen.task\ndef f(): return count\ncount.append(1)\n"}
    )
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(found["f"].callable())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[1]] * 8


def test_factories_that_change_their_minds_are_found_out(gather, tmp_path):
    source = """
        import os
        def tasks(here):
            yield here.task(lambda: 1, path="x" if os.path.exists(here.path / "flag") else "y")
    """
    found = gather({"pexenfile.py": source})
    (tmp_path / "flag").touch()
    with pytest.raises(DefinitionError, match="'x' was made where 'y' was made before"):
        found["y"].callable()
