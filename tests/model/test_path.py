import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import DefinitionError
from pexen.model.path import LONGEST, check_path, folder_of, is_below, last_of, outward

parts = st.one_of(st.text(max_size=5), st.text(alphabet="./a\0\n \t\u2028é", max_size=5))
texts = st.one_of(st.lists(parts, max_size=5).map("/".join), st.text())


def is_valid(path):
    """The module's first paragraph, word by word."""
    components = path.split("/")
    return not ({"", ".", ".."} & set(components)) and "\0" not in path and "\n" not in path and len(path) <= LONGEST


@given(texts)
def test_accepts_exactly_what_the_docstring_says(path):
    if is_valid(path):
        assert check_path(path) == path
    else:
        with pytest.raises(DefinitionError):
            check_path(path)


@pytest.mark.parametrize(
    "path", ["a", "a.b", ".hidden", "a/.hidden", "...", "a/..b", "a b/c\td", "naïve/日本", "-", "a:b", "\u2028"]
)
def test_odd_names_are_names(path):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/..", "a/./b", "a\nb", "a\0b", "a" * (LONGEST + 1)]
)
def test_rejects(path):
    with pytest.raises(DefinitionError):
        check_path(path)


@pytest.mark.parametrize("path", [None, 3, b"a", ["a"]])
def test_only_a_string_is_a_path(path):
    with pytest.raises(DefinitionError, match=type(path).__name__):
        check_path(path)


def test_the_longest_path_is_accepted():
    assert check_path("a" * LONGEST)


@given(st.lists(st.text(alphabet="ab.", min_size=1), min_size=1, max_size=6))
def test_a_path_is_its_folder_and_its_last_component(components):
    path = "/".join(components)
    assert last_of(path) == components[-1]
    assert folder_of(path) == "/".join(components[:-1])
    folders = list(outward(path))
    assert folders == ["/".join(components[:count]) for count in range(len(components) - 1, -1, -1)]
    assert all(is_below(path, folder) for folder in [*folders, path])
    assert not is_below(path, path + "b")
    assert not is_below(path + "b", path)
