"""What makes a task another one than it was, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pexen import Task, command
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


def test_the_file_that_takes_a_service_down_counts(tmp_path: Path) -> None:
    def of(teardown: str | None) -> str:
        task = command(["true"], "it", cwd=tmp_path, teardown=teardown)
        return fingerprint(task, plan.task(task, ""))

    before = of("clean.sh now"), of("rm -r x"), of(None), of(" ")
    (tmp_path / "clean.sh").write_text("exit 1\n")
    assert [new == old for new, old in zip((of("clean.sh now"), of("rm -r x"), of(None), of(" ")), before, strict=True)] == [
        False, True, True, True,
    ]  # fmt: skip
    assert of("./clean.sh now") != of("./clean.sh then")
