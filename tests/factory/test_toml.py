import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import DefinitionError
from pexen.factory import toml
from pexen.model.meta import AllOf, AnyOf, Named, TreeLock

TEXT = """\
a = 1
[one]
key = 1
"quoted key" = 2

[one.two] # comment
key = 3
dotted.inner = 4
[ 'th.ree' ]
key = 5
[[many]]
key = 6
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["a"], 1),
        (["one"], 2),
        (["one", "key"], 3),
        (["one", "quoted key"], 4),
        (["one", "two"], 6),
        (["one", "two", "key"], 7),
        (["one", "two", "dotted", "inner"], 8),
        (["th.ree", "key"], 10),
        (["many", "key"], 12),
        (["one", "inline", "deep"], 2),
        (["nothing"], 1),
    ],
)
def test_keys_are_found_on_their_lines(keys, line):
    document = toml.parse("f.toml", TEXT)
    assert document.where(*keys) == f"f.toml:{line}"
    assert toml.parse("f.sh", TEXT, 11).where(*keys) == f"f.sh:{line + 10}"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a = 1\nb = \n", 2, "Invalid value"),
        ("a = 1\na = 2\n", 2, "overwrite a value"),
        ("[t]\nx = 1\n[t]\n", 3, "twice"),
        ("a = 'open", 1, "at end of document|Expected"),
        ("\n\na = '''open", 3, "not valid TOML"),
        ("a = " + "[" * 5000, 1, "nested too deeply|not valid|not usable"),
        ("a = 1" + "0" * 5000, 1, "not usable TOML"),
    ],
)
def test_mistakes_have_their_line(text, line, problem):
    with pytest.raises(DefinitionError, match=problem if "end of" not in problem else "not valid TOML") as caught:
        toml.parse("f.toml", text)
    assert caught.value.where == f"f.toml:{line}"


def test_files_must_be_utf8_and_readable(tmp_path):
    file = tmp_path / "f.toml"
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(DefinitionError, match="UTF-8") as caught:
        toml.read(str(file))
    assert caught.value.where == f"{file}:2"
    with pytest.raises(DefinitionError, match="cannot read the file: No such file"):
        toml.read(str(tmp_path / "none"))


META = """\
requires = ["a", ["disk", 1], {any_of = ["x", "y"]}, {all_of = "objects"}, {any_of = "one"}]
after = {conn = "nginx", all = {all_of = "o"}}
claims = [{tree_lock = "/proc/sys"}, "b"]
timeout = "1m"
tags = "smoke"
when = "os == 'linux'"
host = ["cmd:git"]
service = false
"""


def test_metadata_in_normal_form():
    found = toml.metadata(toml.parse("f", META))
    assert found == {
        "requires": ("a", ("disk", 1), AnyOf(("x", "y")), AllOf("objects"), AnyOf(("one",))),
        "after": (Named("conn", "nginx"), Named("all", AllOf("o"))),
        "claims": (TreeLock(("proc", "sys")), "b"),
        "timeout": 60.0,
        "tags": ("smoke",),
        "when": "os == 'linux'",
        "host": ("cmd:git",),
        "service": False,
    }


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ("tiemout = 3", "unknown metadata 'tiemout'", "did you mean 'timeout'"),
        ("xyzzy = 3", "unknown metadata 'xyzzy'", "docs/metadata.md"),
        ("timeout = 'soon'", "timeout must be a duration", ""),
        ("timeout = 2025-01-01", "timeout must be a duration", ""),
        ("tags = 3", "tags must be a string", ""),
        ("retries = -1", "retries must be a whole number", ""),
        ("alone = 'no'", "alone must be true or false", ""),
        ("requires = '/'", "not a valid task path", ""),
        ("requires = {any_of = []}", "at least one name", ""),
        ("when = \"oss == 'a'\"", "no fact 'oss'", "did you mean"),
        ("host = ['rot']", "host: 'rot' is not known", "did you mean 'root'"),
        ("path = 'x'", "'path' cannot be used here", ""),
        ("args = ['x']", "'args' cannot be used here", "run ="),
        ("around = 'x'", "'around' cannot be used here", "pexenfile.py"),
    ],
)
def test_wrong_metadata_has_its_line_and_a_hint(line, problem, hint):
    document = toml.parse("f.toml", f"tags = 'x'\n[other]\n[t.defaults]\n{line}\n")
    with pytest.raises(DefinitionError) as caught:
        toml.metadata(document, "t", "defaults")
    assert problem in caught.value.headline
    assert hint in caught.value.hint
    assert caught.value.where == "f.toml:4"


def test_tables_that_are_none(tmp_path):
    document = toml.parse("f.toml", "[a]\nb = 1\n")
    assert document.table("a", "c") == {}
    with pytest.raises(DefinitionError, match="b must be a table") as caught:
        document.table("a", "b", "c")
    assert caught.value.where == "f.toml:2"


@given(st.text(alphabet="[]=\"'ab.\n# 1{},", max_size=60))
def test_any_text_is_metadata_or_a_definition_error_with_a_line(text):
    try:
        toml.metadata(toml.parse("f", text))
    except DefinitionError as error:
        line = int(error.where.partition(":")[2])
        assert 1 <= line <= text.count("\n") + 1
