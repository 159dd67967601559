"""Tasks and the decorator: values that carry metadata, and leave callables what they were."""

import functools
import gc
import pickle
import weakref

import pytest

import pexen
from pexen import Task, command, task
from pexen.errors import DefinitionError
from pexen.model.meta import EMPTY
from pexen.model.task import as_task, default_name


@task(requires="db", timeout="1m", tags="a")
def carrying(db):
    return db


class Object:
    def __call__(self):
        pass

    def method(self):
        pass


def test_the_decorator_leaves_the_function_what_it_was():
    assert carrying("x") == "x"
    assert carrying.__name__ == "carrying"
    assert pickle.loads(pickle.dumps(carrying)) is carrying

    @task
    def bare():
        return 1

    assert bare() == 1


def test_a_task_takes_what_its_callable_carries_and_replaces_it_key_by_key():
    plain, changed = Task(carrying), Task(carrying, timeout=5, tags="b")
    assert (plain.requires, plain.timeout, plain.tags) == (("db",), 60.0, ("a",))
    assert (changed.requires, changed.timeout, changed.tags) == (("db",), 5.0, ("b",))
    assert Task(carrying, requires="net").requires == ("net",)
    assert (plain.timeout, Task(carrying, timeout=None).timeout) == (60.0, None)


def test_the_decorator_checks_its_metadata_at_once():
    with pytest.raises(DefinitionError, match="did you mean 'timeout'"):
        task(timeuot=3)
    with pytest.raises(DefinitionError, match="decorates a function"):
        task(tags="a")(3)


def test_unknown_metadata_and_wrong_types_are_errors():
    with pytest.raises(DefinitionError, match="did you mean 'retries'"):
        Task(print, retires=3)
    with pytest.raises(DefinitionError, match="retries"):
        Task(print, retries="3")
    with pytest.raises(DefinitionError):
        Task(3)
    with pytest.raises(DefinitionError):
        Task(print, path="/a")


def test_a_task_without_metadata_stores_none():
    assert Task(print).meta is EMPTY
    assert Task(print, "a", requires="b", provides="c").meta is EMPTY
    assert not hasattr(Task(print), "__dict__")


def test_tasks_compare_by_identity_and_can_be_referred_to_weakly():
    first, second = Task(print, "a"), Task(print, "a")
    assert first != second
    assert len({first, second}) == 2
    assert weakref.ref(first)() is first


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (carrying, "carrying"), (print, "print"), (lambda: 1, "lambda"), (functools.partial(carrying, 1), "carrying"),
        (functools.partial(functools.partial(carrying), 1), "carrying"), (Object(), "Object"), (Object, "Object"),
        (Object().method, "method"),
        (functools.partial(Object()), "Object"),
    ],
)  # fmt: skip
def test_the_name_that_a_callable_gives(what, name):
    assert default_name(what) == Task(what).name == name
    assert Task(what, "given/path").name == "given/path"


def test_a_name_that_is_no_path_is_made_one():
    for awkward in ("a/b", "<locals>", "..", "", "/"):
        what = lambda: 1
        what.__name__ = awkward
        results = pexen.Sched([Task(what)], pool=pexen.InlinePool()).wait()
        assert results.ok


def test_replace_makes_a_copy_and_leaves_the_original():
    first = Task(print, "a", requires="r", provides="p", timeout=5, tags="t")
    second = first.replace(path="b", requires="q", timeout=None, retries=2)
    assert (second.path, second.requires, second.provides, second.timeout, second.tags, second.retries) == (
        "b",
        ("q",),
        ("p",),
        None,
        ("t",),
        2,
    )
    assert (first.path, first.requires, first.timeout, first.retries) == ("a", ("r",), 5.0, 0)
    assert first.replace(requires=None, provides=None, timeout=None, tags=None).meta is EMPTY
    assert first.replace(callable=len).callable is len
    assert first.replace(path=None).path is None
    with pytest.raises(DefinitionError):
        first.replace(timeuot=1)


def test_inheriting_takes_the_folders_defaults():
    first = Task(print, "a", requires="r", tags="t")
    below = first.inheriting({"timeout": 5.0, "tags": ("x",), "requires": ("db",), "provides": ("never",)})
    assert (below.path, below.timeout, below.tags, below.requires, below.provides) == (
        "a",
        5.0,
        ("x", "t"),
        ("db", "r"),
        (),
    )
    assert first.inheriting({}) is first


def test_showing_a_task_asks_nothing_of_its_callable():
    class Hostile:
        def __repr__(self):
            raise RuntimeError("hostile")

        def __call__(self):
            pass

    assert repr(Task(Hostile())) == "<Task Hostile>"


def test_what_can_be_made_a_task():
    one = Task(print)
    assert as_task(one) is one
    assert as_task(carrying).timeout == 60.0
    assert as_task(Object()).name == "Object"
    for wrong in (3, None, "make", ["make"]):
        with pytest.raises(DefinitionError, match="neither a task nor a callable"):
            as_task(wrong)


def test_a_command_takes_metadata_like_any_task():
    one = command(["make"], "build", cwd="/tmp", env={"A": "1"}, timeout="5m", requires="cc")
    assert (one.path, one.callable.cwd, one.timeout, one.requires) == ("build", "/tmp", 300.0, ("cc",))


def test_nothing_keeps_a_task_alive():
    reference = weakref.ref(Task(carrying, tags="a"))
    gc.collect()
    assert reference() is None
