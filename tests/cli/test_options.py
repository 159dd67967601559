"""Where settings come from, and which source wins."""

import click
import pytest
from click.testing import CliRunner

from pexen.cli.options import SETTINGS, Jobs, Pair, resolved, setting
from pexen.errors import DefinitionError
from tests.cli.tools import write


def given(words=(), env=None):
    """What click makes of a command line with every setting."""
    seen = {}

    def function(**settings):
        seen.update(settings)

    for name in SETTINGS:
        function = setting(name)(function)
    result = CliRunner().invoke(click.command()(function), list(words), env=env or {}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen


def test_nothing_given_is_the_defaults(tmp_path):
    assert resolved(given(), str(tmp_path)) == {name: known.default for name, known in SETTINGS.items()}


LADDER = [
    (["-j", "5"], {"PEXEN_JOBS": "4"}, "[run]\njobs = 3", "[tool.pexen.run]\njobs = 2", 5),
    ([], {"PEXEN_JOBS": "4"}, "[run]\njobs = 3", "[tool.pexen.run]\njobs = 2", 4),
    ([], {"PEXEN_JOBS": ""}, "[run]\njobs = 3", "[tool.pexen.run]\njobs = 2", 3),
    ([], {}, "", "[tool.pexen.run]\njobs = 2", 2),
    ([], {}, "", "", 0),
    (["-j", "auto"], {}, "[run]\njobs = 3", "", 0),
    ([], {}, "[run]\njobs = 'auto'", "[tool.pexen.run]\njobs = 2", 0),
]


@pytest.mark.parametrize(("words", "env", "own", "project", "jobs"), LADDER)
def test_the_nearer_source_wins(words, env, own, project, jobs, tmp_path):
    write(tmp_path / "pexen.toml", own)
    write(tmp_path / "pyproject.toml", project)
    assert resolved(given(words, env), str(tmp_path))["jobs"] == jobs


def test_every_setting_can_be_given_in_each_way(tmp_path):
    said = {
        "jobs": 7, "keyword": "a or b", "tags": "slow", "deps": False,
        "maxfail": 3, "timeout": 90.0, "deadline": 3600.0, "retry_last": True, "strict": True, "color": "never", "heartbeat": 2.5,
        "max_reboots": 4, "max_crashes": 5, "reboot_command": "ipmitool power cycle",
    }  # fmt: skip
    assert set(said) == set(SETTINGS)
    words = [
        "-j7", "-k", "a or b", "-m", "slow", "--no-deps", "--maxfail", "3", "--timeout", "90", "--deadline", "1h", "--retry-last",
        "--strict", "--color", "never", "--heartbeat", "2.5", "--max-reboots", "4", "--max-crashes", "5", "--reboot-command",
        "ipmitool power cycle",
    ]  # fmt: skip
    assert given(words) == said
    assert given(env={f"PEXEN_{name.upper()}": str(value) for name, value in said.items()}) == said
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in said.items()
    ]
    write(tmp_path / "pexen.toml", "\n".join(["[run]", *lines]))
    assert resolved(given(), str(tmp_path)) == said


@pytest.mark.parametrize(
    ("text", "headline", "line"),
    [
        ("[run]\njobz = 3", "unknown key 'jobz'", 2),
        ("[run]\n\njobs = -1", "jobs: -1 is neither", 3),
        ("[run]\ncolor = 'mauve'", "color: 'mauve' is not one of", 2),
        ("[run]\nmaxfail = 'many'", "maxfail: 'many' is not a valid integer", 2),
    ],
)
def test_mistakes_in_the_configuration_have_their_line(text, headline, line, tmp_path):
    write(tmp_path / "pexen.toml", text)
    with pytest.raises(DefinitionError) as caught:
        resolved(given(), str(tmp_path))
    assert caught.value.headline.startswith(headline)
    assert caught.value.where == f"{tmp_path}/pexen.toml:{line}"


def test_others_configuration_may_be_broken(tmp_path):
    write(tmp_path / "pyproject.toml", "this is [not toml")
    assert resolved(given(), str(tmp_path))["jobs"] == 0


def test_numbers_of_jobs():
    assert [Jobs().convert(text, None, None) for text in ("1", "auto", 12)] == [1, 0, 12]
    for wrong in ("0x2", "-1", "1.5", "", "many", "99999999"):
        with pytest.raises(click.BadParameter):
            Jobs().convert(wrong, None, None)


def test_pairs():
    assert Pair().convert("day=2025-01-01=x", None, None) == ("day", "2025-01-01=x")
    assert Pair().convert("empty=", None, None) == ("empty", "")
    with pytest.raises(click.BadParameter):
        Pair().convert("=value", None, None)
