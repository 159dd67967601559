import threading
from itertools import islice

import pytest

from pexen.errors import DefinitionError
from pexen.factory.base import Factory, blame
from pexen.model.meta import all_of, any_of
from pexen.model.task import Task, task
from tests.factory.trees import paths


def build():
    pass


class Made(Factory):
    """A factory whose make() is a function given to it."""

    def __init__(self, make):
        self.make = lambda: make(self)


def test_a_factory_of_users_own():
    class Matrix(Factory):
        def __init__(self, compilers):
            self.compilers = compilers

        def make(self):
            for compiler in self.compilers:
                with self.level(compiler):
                    yield Task(build, path="build")
                    yield Task(build, path="test", requires=f"/{compiler}/build")

    matrix = Matrix(["gcc", "clang"])
    assert paths(matrix()) == ["gcc/build", "gcc/test", "clang/build", "clang/test"]
    first, second = list(matrix()), list(matrix())
    assert paths(first) == paths(second)
    assert not {id(one) for one in first} & {id(one) for one in second}


def test_factories_nest_and_so_do_their_levels():
    def inner(self):
        with self.level("deep"):
            yield Task(build, path="x")
        yield Task(build, path="y")

    def outer(self):
        yield from self.run(Made(inner))
        with self.level("kernel"), self.level("fs"):
            yield from self.run(Made(inner))
            yield from self.run(Made(inner), "again")

    assert paths(Made(outer)()) == [
        *("deep/x", "y"),
        *("kernel/fs/deep/x", "kernel/fs/y"),
        *("kernel/fs/again/deep/x", "kernel/fs/again/y"),
    ]


def test_anything_callable_that_gives_tasks_is_a_factory():
    def outer(self):
        with self.level("a"):
            yield from self.run(lambda: [Task(build, path="x"), build])

    assert paths(Made(outer)()) == ["a/x", "a/build"]


def test_a_factory_may_run_itself():
    class Countdown(Factory):
        left = 3

        def make(self):
            yield Task(build, path=f"t{self.left}")
            if self.left > 1:
                self.left -= 1
                with self.level("below"):
                    yield from self.run(self)

    assert paths(Countdown()()) == ["t3", "below/t2", "below/below/t1"]


def test_calls_in_several_threads_do_not_mix():
    barrier = threading.Barrier(2)

    def make(self):
        with self.level(threading.current_thread().name):
            for number in range(3):
                barrier.wait(10)
                yield Task(build, path=str(number))

    factory, found = Made(make), {}
    threads = [
        threading.Thread(target=lambda: found.update({threading.current_thread().name: paths(factory())}), name=name)
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [f"{name}/{number}" for number in range(3)] for name in ("one", "two")}


def test_what_users_yield_is_not_changed():
    mine = Task(build, path="x", tags="t")

    def make(self):
        with self.level("a"):
            yield mine

    (made,) = Made(make)()
    assert (made.path, made.tags, mine.path) == ("a/x", ("t",), "x")
    assert paths(Made(make)()) == ["a/x"]


def test_tasks_without_a_path_are_numbered_within_their_level():
    def make(self):
        yield build
        yield build
        with self.level("a"):
            yield build
            yield build

    assert paths(Made(make)()) == [None, None, "a/build", "a/build#2"]


def test_requirements_on_tasks_name_the_copies():
    def make(self):
        db = Task(build, path="db")
        other = Task(build, path="other")
        with self.level("a"):
            yield Task(build, path="x", requires=[db, any_of(other, "n"), all_of(db)], after={"conn": other})
            yield db
            yield other

    x, db, other = Made(make)()
    assert x.requires[0] is db
    assert x.requires[1].alternatives == (other, "n")
    assert x.requires[2].of is db
    assert x.after[0].requirement is other


def test_of_several_copies_the_nearest_is_meant():
    db = Task(build, path="db")

    def make(self):
        for name in ("a", "b"):
            with self.level(name):
                yield db
                yield Task(build, path="x", requires=db)

    a, xa, b, xb = Made(make)()
    assert xa.requires == (a,)
    assert xb.requires == (b,)

    def unclear(self):
        yield from self.run(Made(make))
        yield Task(build, path="y", requires=db)

    assert next(islice(Made(unclear)(), 4, None)).requires == (db,)  # not yielded here: left for the planner to say

    def twice(self):
        for name in ("a", "b"):
            with self.level(name):
                yield db
        yield Task(build, path="y", requires=db)

    with pytest.raises(DefinitionError, match="stands at several places") as caught:
        Made(twice)()
    assert "a/db, b/db" in str(caught.value)


def test_functions_in_requirements_stay_functions():
    @task
    def db():
        pass

    def make(self):
        with self.level("a"):
            yield db
            yield Task(build, path="x", requires=db)

    assert next(islice(Made(make)(), 1, None)).requires == (db,)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), AssertionError()])
def test_any_error_is_a_definition_error_with_file_and_line(error):
    def make(self):
        yield build
        raise error

    with pytest.raises(DefinitionError, match=f"Made.make\\(\\) raised {type(error).__name__}") as caught:
        Made(make)()
    assert caught.value.where == f"{__file__}:{make.__code__.co_firstlineno + 2}"
    assert caught.value.__cause__ is error


def test_a_level_is_left_when_make_fails_inside():
    left, kept = [], []

    def make(self):
        with self.level("a"):
            try:
                yield 3
            finally:
                left.append("a")

    def holding(self):
        kept.append(make(self))  # somebody else holds the generator, so that it is not closed for lack of references
        return kept[0]

    with pytest.raises(DefinitionError, match="yielded int"):
        Made(holding)()
    assert left == ["a"]
    assert paths(Made(lambda self: [Task(build, path="x")])()) == ["x"]


def test_definition_errors_get_a_line():
    def make(self):
        yield Task(build, path="x", tiemout=3)

    with pytest.raises(DefinitionError, match="unknown metadata 'tiemout'") as caught:
        Made(make)()
    assert caught.value.where == f"{__file__}:{make.__code__.co_firstlineno + 1}"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda self: None, "returned NoneType"),
        (lambda self: 3, "returned int"),
        (lambda self: ["text"], "yielded str"),
        (lambda self: [None], "yielded NoneType"),
    ],
)
def test_what_is_no_task_is_refused(make, problem):
    with pytest.raises(DefinitionError, match=problem):
        Made(make)()


def test_levels_are_valid_paths():
    def make(self):
        with self.level("../up"):
            yield build

    with pytest.raises(DefinitionError, match="not a valid task path"):
        Made(make)()


def test_make_must_be_written():
    with pytest.raises(DefinitionError, match="needs a make"):
        Factory()()


def test_keyboard_interrupt_goes_through():
    def make(self):
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        Made(make)()


def test_blame_finds_the_users_line_below_library_code():
    import json

    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    assert blame(caught.value, __file__.rpartition("/")[0]).startswith(__file__ + ":")
    assert "/json/" in blame(caught.value)
    assert blame(ValueError()) == ""
