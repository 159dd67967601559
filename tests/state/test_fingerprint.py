"""What makes a task another one than it was, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pexen import Task
from pexen.state import plan
from pexen.state.fingerprint import fingerprint


def printed(what: Callable[..., Any]) -> str:
    task = Task(what, "it")
    return fingerprint(task, plan.task(task, ""))


def at_the_end(number: int) -> Callable[..., Any]:
    def it(limit: int = number) -> int:
        return limit

    return it


def by_keyword(number: int) -> Callable[..., Any]:
    def it(*, limit: int = number) -> int:
        return limit

    return it


def of_objects(number: int) -> Callable[..., Any]:
    def it(limits: Any = ([1, (number, "x")], None)) -> Any:
        return limits

    return it


MAKERS: list[Callable[[int], Callable[..., Any]]] = [
    at_the_end,
    by_keyword,
    of_objects,
    lambda number: partial(print, number),
    lambda number: partial(print, end=str(number)),
    lambda number: partial(partial(print, [number]), "x"),
    lambda number: partial(at_the_end(number)),
    lambda number: lambda n=number: n,
]


@pytest.mark.parametrize("made", MAKERS)
def test_defaults_and_what_a_partial_holds_count(made: Callable[[int], Callable[..., Any]]) -> None:
    assert printed(made(1)) == printed(made(1))
    assert printed(made(1)) != printed(made(2))


class Hostile:
    """Nothing of it may run."""

    def __repr__(self) -> str:
        raise AssertionError

    __eq__ = __hash__ = __reduce__ = __bool__ = __len__ = __repr__  # type: ignore[assignment]


@pytest.mark.parametrize("made", [of_objects, lambda what: partial(print, what)])
def test_of_what_is_not_plain_only_the_type_counts_and_nothing_is_run(made: Callable[[Any], Any]) -> None:
    assert printed(made(Hostile())) == printed(made(Hostile()))
    assert printed(made(Hostile())) != printed(made(object()))
