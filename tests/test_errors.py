"""Errors: a headline, facts, a hint; and all of them travel."""

import inspect
import pickle

import pytest

from pexen import errors
from pexen.errors import DefinitionError, PexenError, TaskFail, TasksFailed, TaskSkip, nearest

ARGUMENTS = {
    TaskFail: (("disk", 3), {"deps_ok": True, "locks_ok": False}),
    TaskSkip: (("no root",), {}),
    TasksFailed: (("2 failed", ("one", "two")), {"facts": [("a", "b")], "hint": "look"}),
    DefinitionError: (("odd",), {"where": "x.py:3", "facts": [("a", "b")], "hint": "look"}),
    errors.InternalError: (("odd",), {"facts": [("a", "b")]}),
}
CLASSES = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, Exception)]


def made(kind):
    args, keywords = ARGUMENTS.get(kind, (("odd",), {"facts": [("a", "b")], "hint": "look"}))
    return kind(*args, **keywords)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_every_error_survives_pickling_with_all_it_holds(kind, protocol):
    error = made(kind)
    error.note = "set by hand"
    error.add_note("a note of Python's own")
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert (str(copy), repr(copy), copy.args) == (str(error), repr(error), error.args)
    assert vars(copy) == vars(error)


class Own(TaskFail):
    def __init__(self, device, *, code):
        super().__init__(device, deps_ok=True)
        self.code = code


def test_errors_of_users_survive_without_their_constructor_being_called():
    copy = pickle.loads(pickle.dumps(Own("sda", code=7)))
    assert (type(copy), copy.args, copy.code, copy.deps_ok, str(copy)) == (Own, ("sda",), 7, True, "sda")


@pytest.mark.parametrize("kind", CLASSES)
def test_there_is_one_tree(kind):
    assert issubclass(kind, PexenError)


def test_the_text_is_headline_facts_and_hint_a_line_each():
    error = DefinitionError("wrong", where="x.py:3", facts=[("task", "a/b")], hint="did you mean 'c'?")
    assert str(error).splitlines() == ["wrong", "  at: x.py:3", "  task: a/b", "  hint: did you mean 'c'?"]
    assert error.where == "x.py:3"
    assert str(PexenError("just this")) == "just this"


def test_an_internal_error_says_whose_bug_it_is():
    assert "bug in pexen" in str(errors.InternalError("odd"))


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("requries", ["requires", "provides"], "did you mean 'requires'?"),
        ("zzz", ["requires"], ""),
        ("a", [], ""),
        ("claim", iter(["claims"]), "did you mean 'claims'?"),
    ],
)
def test_nearest_names_the_closest_word_or_nothing(word, known, hint):
    assert nearest(word, known) == hint
