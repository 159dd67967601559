"""The calling convention: which value goes to which parameter, for every kind of callable."""

import asyncio
import functools
import operator
from unittest.mock import Mock

import pytest

import pexen
from pexen import Task, all_of, any_of, task
from pexen.errors import DefinitionError
from pexen.model.call import (
    CONSTANT,
    EXECUTE,
    PLAIN,
    SHARED,
    Kind,
    call_of,
    is_asynchronous,
    kind_of,
    parameter_of,
    where_defined,
)

HERE = __file__


def call(one, *values, shared=None):
    """Do what a pool does: call the task with the values of its requirements."""
    found = call_of(one)

    def value(source):
        if source.index == SHARED:
            return shared
        return source.constant if source.index == CONSTANT else values[source.index]

    result = one.callable(*map(value, found.positional), **{word: value(source) for word, source in found.keyword})
    return asyncio.run(result) if found.kind is Kind.COROUTINE else result


def function(x, y=2):
    return (x, y)


async def coroutine(x, y=2):
    return (x, y)


def wrapped(inner):
    @functools.wraps(inner)
    def outer(*args, **kwargs):
        return inner(*args, **kwargs)

    return outer


class Pair(tuple):
    __slots__ = ()

    def __new__(cls, x, y=2):
        return tuple.__new__(cls, (x, y))


class Constructed:
    def __init__(self, x, y=2):
        self.pair = (x, y)

    def __iter__(self):
        return iter(self.pair)


class Callable:
    def __call__(self, x, y=2):
        return (x, y)

    async def coroutine(self, x, y=2):
        return (x, y)

    def bound(self, x, y=2):
        return (x, y)

    @classmethod
    def of_class(cls, x, y=2):
        return (x, y)

    @staticmethod
    def static(x, y=2):
        return (x, y)


class AsyncCallable:
    async def __call__(self, x, y=2):
        return (x, y)


KINDS = {
    "function": function,
    "lambda": lambda x, y=2: (x, y),
    "partial": functools.partial(lambda x, z, y=2: (x, y), z=3),
    "partial of partial": functools.partial(functools.partial(lambda z, x, y=2: (x, y), 3)),
    "bound method": Callable().bound,
    "class method": Callable.of_class,
    "class method of an instance": Callable().of_class,
    "static method": Callable.static,
    "partial method": functools.partial(Callable().bound, y=2),
    "callable object": Callable(),
    "class": Constructed,
    "class with __new__": Pair,
    "wrapped": wrapped(function),
    "wrapped twice": wrapped(wrapped(function)),
    "cached": functools.lru_cache(function),
    "coroutine": coroutine,
    "bound coroutine": Callable().coroutine,
    "partial coroutine": functools.partial(coroutine),
    "coroutine object": AsyncCallable(),
    "decorated": task(tags="t")(lambda x, y=2: (x, y)),
}
kinds = pytest.mark.parametrize("what", KINDS.values(), ids=KINDS)


@kinds
def test_a_parameter_gets_the_requirement_of_its_name(what):
    assert tuple(call(Task(what, "t", requires=["other", "x"]), "wrong", "right")) == ("right", 2)


@kinds
def test_args_and_kwargs_fill_parameters(what):
    assert tuple(call(Task(what, "t", args=[1]))) == (1, 2)
    assert tuple(call(Task(what, "t", kwargs={"x": 1, "y": 5}))) == (1, 5)


@kinds
def test_what_nothing_fills_is_an_error_that_names_parameter_and_task(what):
    with pytest.raises(DefinitionError, match="the/task: nothing fills the parameter 'x'") as caught:
        call_of(Task(what, "the/task"))
    assert "defined" in str(caught.value)


def test_the_error_says_where_the_function_is():
    line = function.__code__.co_firstlineno
    for what in (function, wrapped(function)):
        with pytest.raises(DefinitionError, match=f"{HERE}:{line}"):
            call_of(Task(what, "t"))


@kinds
def test_arguments_that_do_not_fit_are_an_error(what):
    for meta in ({"args": [1, 2, 3, 4]}, {"kwargs": {"x": 1, "surplus": 2}}):
        with pytest.raises(DefinitionError, match=r"takes no such argument|'surplus'"):
            call_of(Task(what, "t", **meta))


def test_each_kind_is_told_apart():
    assert kind_of(KINDS["coroutine object"]) is kind_of(KINDS["partial coroutine"]) is Kind.COROUTINE
    assert kind_of(Callable) is kind_of(Callable()) is kind_of(print) is Kind.FUNCTION
    assert kind_of(lambda: (yield)) is Kind.GENERATOR

    async def ticks():
        yield

    assert kind_of(ticks) is Kind.GENERATOR


def test_no_arguments_at_all_is_one_shared_call():
    calls = {call_of(Task(what, "t")) for what in (lambda: 1, lambda x=1: x, lambda *a, **k: 1, functools.partial(int))}
    assert calls == {PLAIN}
    assert call_of(pexen.command("true")) is EXECUTE


def test_builtins_with_a_signature_are_filled_and_checked():
    assert call(Task(operator.add, "t", args=[2, 3])) == 5
    assert call(Task(operator.add, "t", requires=["a", "b"]), 2, 3) == 5  # positional only, named a and b
    with pytest.raises(DefinitionError, match="'a'"):
        call_of(Task(operator.add, "t"))


def test_builtins_without_a_signature_get_their_arguments_as_they_are():
    assert call(Task(max, "t", args=[2, 3], requires=["iterable"]), "unused") == 3
    assert call(Task(max, "t", args=[[]], kwargs={"default": 7})) == 7


def test_positional_only_and_keyword_only():
    def strict(a, b=2, /, *, c, d=4):
        return (a, b, c, d)

    assert call(Task(strict, "t", requires=["c", "a"]), 30, 10) == (10, 2, 30, 4)
    assert call(Task(strict, "t", args=[1, 5], kwargs={"c": 3, "d": 6})) == (1, 5, 3, 6)
    with pytest.raises(DefinitionError, match="parameter 'c'"):
        call_of(Task(strict, "t", args=[1]))
    with pytest.raises(DefinitionError, match="parameter 'a'"):
        call_of(Task(strict, "t", kwargs={"a": 1, "c": 3}))
    with pytest.raises(DefinitionError, match="no such argument: 1 positional"):
        call_of(Task(strict, "t", args=[1, 2, 3], kwargs={"c": 3}))


def test_a_positional_only_parameter_after_one_left_to_its_default():
    def gap(a=1, b=2, /):
        return (a, b)

    assert call(Task(gap, "t", requires="b"), "B") == (1, "B")
    assert call(Task(gap, "t", requires=["a"]), "A") == ("A", 2)


def test_variable_arguments_take_what_is_left():
    def open_to_all(x, *args, y=0, **kwargs):
        return (x, args, y, kwargs)

    one = Task(open_to_all, "t", args=[1, 2, 3], kwargs={"y": 4, "z": 5}, requires="w")
    assert call(one, "not asked for by name") == (1, (2, 3), 4, {"z": 5})


def test_values_before_variable_arguments_stay_in_front_of_them():
    def mixed(x, *args):
        return (x, args)

    assert call(Task(mixed, "t", requires="x"), "X") == ("X", ())
    assert call(Task(mixed, "t", args=[1, 2], requires="x"), "X") == ("X", (1, 2)), "args fill the rest"


def test_a_wrapper_that_hides_its_signature_is_taken_at_its_word():
    assert call(Task(wrapped(function), "t", requires=["x", "y"]), 1, 3) == (1, 3)


def test_shared_is_the_tasks_dict_unless_given():
    assert call(Task(lambda shared: shared, "t"), shared={"a": 1}) == {"a": 1}
    assert call(Task(lambda shared: shared, "t", kwargs={"shared": 3}), shared={}) == 3
    assert call(Task(lambda shared=None: shared, "t", requires="shared"), "required", shared={"a": 1}) == {"a": 1}


def test_given_wins_over_required_and_required_over_default():
    assert call(Task(function, "t", requires="x", kwargs={"x": "given"}), "required") == ("given", 2)
    assert call(Task(function, "t", requires=["x", "y"]), 1, "required") == (1, "required")


@task
def setup_db():
    return "db"


@pytest.mark.parametrize(
    ("requirement", "parameter"),
    [
        ("db", "db"), ("/setup/db", "db"), (any_of("db"), "db"), (any_of("a", "b"), None), (all_of("db"), "db"),
        (all_of("/x/db"), "db"),
        (("disk", 1), None), (Task(print, "setup/db"), "db"), (setup_db, "setup_db"), (any_of(all_of("db")), "db"),
    ],
)  # fmt: skip
def test_the_parameter_that_a_requirement_goes_to(requirement, parameter):
    assert parameter_of(requirement) == parameter


def test_a_mapping_names_the_parameters():
    assert call(Task(function, "t", requires={"x": any_of("a", "b"), "y": ("disk", 1)}), 1, 3) == (1, 3)


@pytest.mark.parametrize("what", [function, Callable(), functools.partial(function, y=3)])
def test_the_same_callable_in_many_tasks(what):
    tasks = [Task(what, f"t{number}", args=[number]) for number in range(5)]
    assert [call(one)[0] for one in tasks] == list(range(5))
    results = pexen.Sched(tasks, pool=pexen.InlinePool()).wait()
    assert [one.value[0] for one in results.values()] == list(range(5))


def generator():
    yield 1


async def async_generator():
    yield 1


@pytest.mark.parametrize("what", [generator, async_generator, functools.partial(generator), task(generator)])
def test_a_generator_is_a_service_and_the_error_says_so(what):
    with pytest.raises(DefinitionError, match=r"(?s)generator function.*test_call.*pexen\.service"):
        call_of(Task(what, "t"))
    assert call_of(Task(what, "t", service=True)).kind is Kind.GENERATOR


def test_where_a_callable_is_defined():
    line = function.__code__.co_firstlineno
    assert where_defined(function) == where_defined(wrapped(function)) == f"{HERE}:{line}"
    assert where_defined(functools.partial(function)).rpartition(":")[2] == str(line)
    assert where_defined(Callable().bound).startswith(f"{HERE}:")
    line = Constructed.__init__.__code__.co_firstlineno
    assert where_defined(Constructed) == f"{HERE}:{line}"
    assert where_defined(Callable()) == f"{HERE}:{Callable.__call__.__code__.co_firstlineno}"
    assert where_defined(print) == "builtin_function_or_method"


def test_two_requirements_for_one_parameter_are_an_error_unless_one_names_it():
    with pytest.raises(DefinitionError, match="'db' would receive several values") as caught:
        call_of(Task(lambda db: db, "t", requires=["/a/db", "/b/db"]))
    assert "/a/db" in str(caught.value)
    assert call_of(Task(lambda: 1, "t", requires=["/a/db", "/b/db"])) is PLAIN
    assert call(Task(lambda db: db, "t", requires=["/a/db", "/a/db"]), 1, 1) == 1
    assert call(Task(lambda db: db, "t", requires=["db", *Task(print, requires={"db": "x"}).requires]), 1, 2) == 2


def test_only_a_partial_stands_for_its_func():
    """A mock has any attribute one asks for, and so may any other object."""

    class Wrapper:
        def __init__(self, func):
            self.func = func

        def __call__(self):
            return list(self.func())

    assert kind_of(Wrapper(generator)) is Kind.FUNCTION
    assert call(Task(Wrapper(generator), "t")) == [1]
    assert call_of(Task(Mock(), "t")).kind is Kind.FUNCTION
    assert (Task(Mock()).name, Task(Wrapper(generator)).name) == ("Mock", "Wrapper")


async def nothing_to_fill():
    return 42


async def something_to_fill(one=1, *rest, **named):
    return one, rest, named


async def yields():
    yield


class Yields:
    async def __call__(self):
        yield


def test_a_coroutine_function_is_one_whether_or_not_it_takes_arguments():
    assert call_of(Task(nothing_to_fill)) is call_of(Task(nothing_to_fill, "b"))
    assert call(Task(nothing_to_fill)) == 42
    assert call(Task(something_to_fill, args=[2, 3], kwargs={"four": 4})) == (2, (3,), {"four": 4})
    assert call(Task(something_to_fill)) == (1, (), {})
    with pytest.raises(DefinitionError, match="takes no such argument"):
        call_of(Task(nothing_to_fill, args=[1]))


def test_what_belongs_on_an_event_loop():
    asynchronous = [nothing_to_fill, yields, Yields(), Yields().__call__, functools.partial(something_to_fill, 1)]
    assert all(map(is_asynchronous, asynchronous))
    assert not any(map(is_asynchronous, [len, Yields, call, lambda: (yield), Mock(), functools.partial(call, 1)]))
    assert call_of(Task(yields, service=True)).kind is Kind.GENERATOR
