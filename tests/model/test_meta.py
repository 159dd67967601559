"""Metadata: whatever users write becomes one immutable form, or an error that names key and value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen import Task, all_of, any_of, task, tree_lock
from pexen.errors import DefinitionError
from pexen.model import meta as m
from pexen.model.meta import FIELDS, Named, inherited, normalise


class HostileRepr:
    def __repr__(self):
        raise RuntimeError("hostile")


@task
def decorated():
    pass


other = Task(print, "other")

# key: (what users write, what it becomes)
GOOD = {
    "args": [([1, [2]], (1, [2])), ((), ())],
    "kwargs": [({"a": 1}, {"a": 1})],
    "requires": [
        ("db", ("db",)), (["b", "a"], ("b", "a")), ({"b", "a"}, ("a", "b")), (("disk", 1), (("disk", 1),)),
        (("a", "b"), ("a", "b")), ("/setup/db/", ("/setup/db",)), ([("disk", 1), "/x"], (("disk", 1), "/x")), (other, (other,)),
        (decorated, (decorated,)),
        ({"conn": any_of("a", "b")}, (Named("conn", any_of("a", "b")),)), (all_of("o"), (all_of("o"),)), ([], ()),
        (frozenset({("k", 2), "z", any_of("q")}), ("z", ("k", 2), any_of("q"))), ((), ()),
    ],
    "provides": [("db", ("db",)), ({"b", "a"}, ("a", "b")), (("disk", 1), (("disk", 1),)), ([("a", "b")], (("a", "b"),))],
    "claims": [
        ("disk", ("disk",)), (tree_lock("/proc//sys/"), (tree_lock("proc/sys"),)),
        ({"b", tree_lock("/a")}, ("b", tree_lock("/a"))),
    ],
    "resources": [({"gpu": 1, "cpu": 0.5}, {"cpu": 0.5, "gpu": 1})],
    "lazy": [(True, True), (False, False)],
    "priority": [(3, 3), (-0.5, -0.5)],
    "retries": [(0, 0), (7, 7)],
    "timeout": [
        (5, 5.0), (0.5, 0.5), ("90s", 90.0), ("1h30m", 5400.0), ("1.5m", 90.0), ("200ms", 0.2),
        ("1d", 86400.0), ("30", 30.0), ("1h 2m", 3720.0), (0, 0.0),
    ],
    "when": [("os == 'linux'", "os == 'linux'"), (callable, callable)],
    "xfail": [(True, True), ("bug 7", "bug 7")],
    "tags": [("slow", ("slow",)), ({"b", "a"}, ("a", "b"))],
    "around": [(print, (print,)), ([print, "kernel_log"], (print, "kernel_log"))],
    "group": [("g", "g")],
    "path": [("a/b", "a/b")],
    "inputs": [("a.c", ("a.c",)), (["a", "b"], ("a", "b"))],
}  # fmt: skip

BAD = {
    "args": ["ab", 3, {"a": 1}],
    "kwargs": [[1], {1: 2}],
    "requires": ["", 3, [None], [len], [""], "/", "/a/../b", {"": "a"}, {1: "a"}, [HostileRepr()], {"a": None}],
    "provides": ["", "/a", 3, [None], [()], {"a": "b"}, [b"a"], ((1.5,),)],
    "claims": ["", "/a", 3, [HostileRepr()]],
    "resources": [{"cpu": 0}, {"cpu": -1}, {"cpu": "1"}, {"cpu": True}, ["cpu"], {1: 1}, {"cpu": float("nan")}],
    "lazy": ["no", 1, 0, HostileRepr()],
    "priority": ["1", True, float("inf"), float("nan")],
    "retries": [-1, 1.0, True, "1"],
    "timeout": [
        -1,
        "-1",
        "soon",
        "5x",
        "",
        "nan",
        "inf",
        float("inf"),
        float("nan"),
        True,
        "5 m s",
        [5],
        HostileRepr(),
    ],
    "when": [3, ["a"]],
    "xfail": [1, ["a"]],
    "tags": [3, [""], [3]],
    "around": [3, [3], ""],
    "group": ["", 3],
    "path": ["/a", "", 3],
}


def cases(table):
    return [
        pytest.param(key, *(case if table is GOOD else (case,)), id=f"{key}-{number}")
        for key, all_ in table.items()
        for number, case in enumerate(all_)
    ]


@pytest.mark.parametrize(("key", "given", "normal"), cases(GOOD))
def test_what_users_write_takes_one_form(key, given, normal):
    found = normalise({key: given})[key]
    assert found == normal
    assert type(found) is type(normal)
    assert normalise({key: found})[key] == found, "normal form stays what it is"


@pytest.mark.parametrize(("key", "given"), cases(BAD))
def test_what_makes_no_sense_is_an_error_that_names_the_key(key, given):
    with pytest.raises(DefinitionError) as caught:
        normalise({key: given})
    assert key in str(caught.value) or "path" in str(caught.value)


def test_an_unknown_key_is_an_error_with_the_nearest_spelling_and_the_place():
    with pytest.raises(
        DefinitionError, match=r"(?s)unknown metadata 'requries'.*x\.toml:3.*did you mean 'requires'"
    ) as caught:
        normalise({"requries": "a"}, where="x.toml:3")
    assert caught.value.where == "x.toml:3"
    with pytest.raises(DefinitionError, match=r"(?s)retries.*x\.toml:4"):
        normalise({"retries": -1}, where="x.toml:4")


def test_none_is_kept_to_clear_what_would_be_inherited():
    assert normalise({"timeout": None, "tags": None}) == {"timeout": None, "tags": None}
    assert Task(print, timeout=None, retries=None).retries == 0


def test_every_key_has_a_default_that_the_class_shows():
    plain = Task(print)
    for key, field in FIELDS.items():
        if key not in {"path", "requires", "provides"}:
            assert getattr(Task, key) is field
            assert getattr(plain, key) == field.default


@given(st.permutations(["b", "a", ("k", 1), tree_lock("/x"), tree_lock("/w")]))
def test_sets_come_out_in_one_order(items):
    assert m.locks("claims", set(items)) == ("a", "b", ("k", 1), tree_lock("/w"), tree_lock("/x"))


@given(st.integers(0, 50), st.integers(0, 23), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(days, hours, minutes, milliseconds):
    seconds = m.duration("timeout", f"{days}d{hours}h {minutes}m{milliseconds}ms")
    assert seconds == pytest.approx(days * 86400 + hours * 3600 + minutes * 60 + milliseconds / 1000)


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.lists(st.text()),
        st.dictionaries(st.text(), st.text()),
    ),
    st.sampled_from(sorted(FIELDS)),
)
def test_anything_at_all_is_accepted_or_refused_with_one_kind_of_error(value, key):
    try:
        found = normalise({key: value})
    except DefinitionError:
        return
    assert normalise(found) == found


def test_how_each_key_is_inherited():
    outer = normalise(
        {"timeout": 5, "tags": ["a", "b"], "kwargs": {"x": 1, "y": 1}, "provides": "p", "args": [1], "requires": "db"}
    )
    inner = normalise({"tags": ["b", "c"], "kwargs": {"y": 2}, "requires": "net"})
    assert inherited(outer, inner) == {
        "timeout": 5.0, "tags": ("a", "b", "c"), "kwargs": {"x": 1, "y": 2}, "requires": ("db", "net"),
    }  # fmt: skip
    assert inherited(outer, normalise({"timeout": None, "tags": None}))["timeout"] is None
    assert inherited(outer, normalise({"tags": None}))["tags"] is None
    assert inherited({}, inner) == inner


values = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.one_of(st.none(), st.integers(0, 3)), "tags": st.one_of(st.none(), st.lists(st.sampled_from("abc"))),
        "kwargs": st.one_of(st.none(), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3))),
        "uses": st.lists(st.sampled_from("lm")), "provides": st.lists(st.sampled_from("pq")),
    },
).map(normalise)  # fmt: skip


@given(values, values)
def test_inheriting_changes_neither_side(outer, inner):
    before = repr((outer, inner))
    merged = inherited(outer, inner)
    assert repr((outer, inner)) == before
    for key, value in inner.items():
        how = FIELDS[key].inherit
        if value is None or how in {"nearest", "never"} or outer.get(key) is None:
            assert merged[key] == value
        elif how == "together":
            assert set(merged[key]) == {*outer[key], *value}
        else:
            assert merged[key] == outer[key] | value


@pytest.mark.parametrize(
    "make", [any_of, lambda: tree_lock(3), lambda: any_of(None), lambda: all_of(3), lambda: all_of("")]
)
def test_requirements_that_make_no_sense(make):
    with pytest.raises(DefinitionError):
        make()


def test_a_number_too_large_for_a_clock_is_no_duration():
    with pytest.raises(DefinitionError, match="must be a duration"):
        Task(print, "t", timeout=10**400)


def test_names_that_read_alike_have_an_order():
    """Whatever order a set has: hash seeds must not decide which lock is looked at first."""
    assert Task(print, "t", claims={("a", 1), ("a", "1")}).claims == (("a", 1), ("a", "1"))


def test_a_name_provided_twice_is_provided_once():
    assert Task(print, "t", provides=["n", "n", ("k", 1), ("k", 1)]).provides == ("n", ("k", 1))
