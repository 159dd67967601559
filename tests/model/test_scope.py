"""Nearest providers, against the definition itself: try every folder outward and look at every provider."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pexen.model.path import folder_of, is_below
from pexen.model.scope import Scopes, suggestions


@dataclass(eq=False)
class Item:
    path: str
    names: frozenset = frozenset()

    def __repr__(self):
        return f"{self.path}{sorted(self.names)}"


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
items = st.lists(
    st.builds(Item, paths, st.frozensets(st.sampled_from("xyz"), max_size=2)),
    unique_by=lambda one: one.path,
    max_size=12,
)


def enter(scopes, entered):
    for item in entered:
        scopes.add(item)
        for name in sorted(item.names):
            scopes.provide(name, item)


def nearest(entered, name, path):
    providers = [item for item in entered if name in item.names]
    folder = path
    while folder:
        folder = folder_of(folder)
        found = [item for item in providers if is_below(item.path, folder) and item.path != folder]
        if found:
            return found
    return []


def everything(scopes, entered):
    """All answers there are, for paths where something stands and where nothing does."""
    places = ["a", "b/c", "a/b/c/a", *(item.path for item in entered)]
    return (
        {(name, path): list(scopes.find(name, path)) for name in "xyzw" for path in places},
        {path: list(scopes.at(path)) for path in places},
        dict(scopes.items),
        set(scopes.providers),
        scopes.in_tree_order(scopes.items.values()),
    )


@given(items, paths)
def test_the_nearest_folder_outward_that_holds_any_provider_wins(entered, path):
    scopes = Scopes()
    enter(scopes, entered)
    for name in "xyz":
        assert list(scopes.find(name, path)) == nearest(entered, name, path)


@given(items, paths, st.integers(0, 12))
def test_looking_up_in_between_changes_nothing(entered, path, split):
    scopes = Scopes()
    enter(scopes, entered[:split])
    everything(scopes, entered)
    enter(scopes, entered[split:])
    for name in "xyz":
        assert list(scopes.find(name, path)) == nearest(entered, name, path)
    fresh = Scopes()
    enter(fresh, entered)
    assert everything(scopes, entered) == everything(fresh, entered)


@given(items, st.integers(0, 12), st.booleans())
def test_forget_restores_exactly(entered, split, looked_up):
    scopes, fresh = Scopes(), Scopes()
    enter(scopes, entered[:split])
    enter(fresh, entered[:split])
    if looked_up:
        everything(scopes, entered)
    enter(scopes, entered[split:])
    if looked_up:
        everything(scopes, entered)
    scopes.forget(entered[split:], {name for item in entered[split:] for name in item.names})
    assert everything(scopes, entered) == everything(fresh, entered)


@given(items)
def test_at_is_the_item_there_or_all_below(entered):
    scopes = Scopes()
    enter(scopes, entered)
    for path in ["a", "a/b", "c", *(item.path for item in entered)]:
        exact = [item for item in entered if item.path == path]
        assert list(scopes.at(path)) == (exact or [item for item in entered if item.path.startswith(path + "/")])


@given(items)
def test_tree_order_keeps_subtrees_together_and_siblings_in_order_of_addition(entered):
    scopes = Scopes()
    enter(scopes, entered)
    walked = []

    def walk(folder):
        children = {}
        for item in entered:
            if is_below(item.path, folder) and item.path != folder:
                rest = item.path[len(folder) + 1 if folder else 0 :]
                children.setdefault((folder + "/" if folder else "") + rest.partition("/")[0])
        for child in children:
            walked.extend(item for item in entered if item.path == child)
            walk(child)

    walk("")
    assert scopes.in_tree_order(entered) == walked


def test_suggestions_are_names_or_paths_with_their_folders():
    scopes = Scopes()
    enter(scopes, [Item("a/b/c", frozenset("x")), Item("d")])
    scopes.provide(("disk", 1), scopes.items["d"])
    assert suggestions(scopes, paths=False) == ["x"]
    assert suggestions(scopes, paths=True) == ["/a/b", "/a/b/c", "/d"]
