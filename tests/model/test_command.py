from pathlib import Path

import pytest

import pexen
from pexen.errors import DefinitionError
from pexen.model.command import Command, as_command


def test_a_list_is_executed_as_it_is():
    made = as_command(["/usr/bin/env", Path("a b"), "$HOME"], cwd=Path("/tmp"), env={"B": "2", "A": "1"})
    assert made == Command(("/usr/bin/env", "a b", "$HOME"), "/tmp", (("A", "1"), ("B", "2")))
    assert (made.name, str(made)) == ("env", "/usr/bin/env 'a b' '$HOME'")


def test_a_string_goes_through_the_shell():
    made = as_command("make -j4 | tee log")
    assert made == Command(("/bin/sh", "-c", "make -j4 | tee log"), shell=True)
    assert (made.name, str(made)) == ("make", "make -j4 | tee log")


def test_a_path_object_is_one_executable():
    assert as_command(Path("bin/a b.sh")).argv == ("bin/a b.sh",)


@pytest.mark.parametrize("argv", ["", "  \n", [], (), None, 3, ["a", 1], [b"a"], {}])
def test_what_is_no_command(argv):
    with pytest.raises(DefinitionError, match="command"):
        as_command(argv)


@pytest.mark.parametrize("env", [{"A": 1}, {1: "A"}, {"A": None}])
def test_the_environment_is_strings(env):
    with pytest.raises(DefinitionError, match="env"):
        as_command("true", env=env)


def test_a_command_is_a_value():
    assert hash(as_command(["a"], env={"A": "1"})) == hash(as_command(("a",), env={"A": "1"}))


def test_a_task_of_a_command_is_named_after_it():
    assert pexen.command("/usr/bin/make all").name == "make"
    assert pexen.command(["./run-tests.sh", "-v"]).name == "run-tests.sh"
    assert pexen.command("true", path="a/b", tags="slow").tags == ("slow",)
