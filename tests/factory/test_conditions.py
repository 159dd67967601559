from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.errors import DefinitionError
from pexen.factory.conditions import check, gate, holds, missing, parse
from pexen.factory.facts import Facts
from pexen.model.task import Task

HERE = Facts.of(
    os="linux",
    distro="debian",
    version="12",
    kernel="6.1.0-18-amd64",
    arch="x86_64",
    cpus=4,
    memory=8 * 2**30,
    user="alice",
    env={"CI": "true", "EMPTY": ""},
    commands={"git", "tar"},
    files={"/dev/null"},
)

TRUE = [
    "os == 'linux'",
    'os == "linux" and arch != "arm64"',
    "memory >= 2GiB",
    "memory >= 2 GiB",
    "memory > 7.5GiB and memory < 9GB",
    "memory == 8589934592",
    "2 <= cpus <= 8",
    "cpus >= 4 and not cpus > 4",
    "kernel >= 5.10",
    "kernel >= 5.4.0",
    "kernel > '5.19'",
    "kernel == 6.1",
    "kernel == 6.1.0",
    "kernel < 6.2",
    "5.10 <= kernel",
    "kernel in (5.10, 6.1)",
    "version == 12",
    "version == '12'",
    "version in ['11', '12']",
    "distro in ('debian', 'ubuntu')",
    "distro not in ('fedora',)",
    "'64' in arch",
    "'CI' in env and env('CI') == 'true'",
    "env('CI')",
    "not env('EMPTY') and not env('NONE')",
    "'EMPTY' in env and 'NONE' not in env",
    "command('git') and not command('hg')",
    "'git' in commands",
    "file('/dev/null') and '/dev/null' in files",
    "user == 'alice' or user == 'root'",
    "true and not false",
    "True == true",
    "command('git') == true",
]
FALSE = {
    "os == 'freebsd'": "needs os == 'freebsd' (os is linux)",
    "os == 'linux' and memory >= 16GiB": "needs memory >= 16GiB (memory is 8.0 GiB)",
    "cpus > 8 or memory > 16GiB": "needs cpus > 8 or memory > 16GiB (cpus is 4, memory is 8.0 GiB)",
    "not os == 'linux'": "needs not os == 'linux' (os is linux)",
    "command('hg')": "needs command('hg')",
    "kernel > 6.1": "needs kernel > 6.1 (kernel is 6.1.0-18-amd64)",
    "env('CI') == '1'": "needs env('CI') == '1'",
    "os == 'linux' and (cpus > 8 and true)": "needs cpus > 8 (cpus is 4)",
}


@pytest.mark.parametrize("text", TRUE)
def test_what_holds(text):
    assert holds(text, HERE) == (True, "")


@pytest.mark.parametrize(("text", "reason"), FALSE.items())
def test_what_does_not_hold_says_which_part_and_what_is_so(text, reason):
    assert holds(text, HERE) == (False, reason)


WRONG = {
    "oss == 'linux'": (1, "there is no fact 'oss'", "did you mean 'os'"),
    "os == linux": (7, "there is no fact 'linux'", "quotes"),
    "os = 'linux'": (4, "'=' is not expected", ""),
    "os == 'linux": (7, "quote that is not closed", ""),
    "memory >= '2GiB'": (1, "without quotes", ""),
    "memory >= 2GiBB": (11, "no unit 'GiBB'", "did you mean 'GiB'"),
    "memory >= 2.3.4GiB": (11, "no number", ""),
    "memory": (1, "no condition", ""),
    "os > 'linux'": (1, "cannot be compared by >", ""),
    "os == 4": (1, "cannot be compared", ""),
    "kernel >= 'new'": (1, "cannot be compared with 'new'", ""),
    "kernel >= cpus": (1, "version cannot be compared with cpus", ""),
    "cpus in env": (1, "cannot be in", ""),
    "comand('git')": (1, "no function 'comand'", "did you mean 'command'"),
    "command(git)": (9, "one text in quotes", ""),
    "command('git'": (14, "closing parenthesis", ""),
    "file('kvm')": (6, "absolute path", ""),
    "os == 'a' and": (14, "missing before", ""),
    "os not 'a'": (8, "followed by 'in'", ""),
    "os in ('a' 'b')": (12, "a comma or", ""),
    "os in (user, 'b')": (8, "plain values", ""),
    "os in ('a', 4)": (13, "cannot be compared", ""),
    "__import__('os')": (1, "no function '__import__'", ""),
    "os.system": (3, "'.' is not expected", ""),
    "(lambda: 1)()": (8, "':' is not expected", ""),
    "1 .. 2": (3, "is not expected", ""),
    "1..2 == 3": (1, "no number", ""),
    "": (1, "empty", ""),
}


@pytest.mark.parametrize(("text", "wanted"), WRONG.items(), ids=list(WRONG))
def test_mistakes_are_found_when_read_and_pointed_at(text, wanted):
    column, problem, hint = wanted
    with pytest.raises(DefinitionError) as caught:
        check(text, (), "suite/pexen.toml:3")
    error = caught.value
    assert problem in error.headline
    assert hint in error.hint
    assert error.where == "suite/pexen.toml:3"
    assert dict(error.facts)["here"].endswith(f"^ column {column}")


@given(
    st.lists(
        st.sampled_from(
            [
                *"()[],<>'\"",
                "==",
                "!=",
                ">=",
                "and",
                "or",
                "not",
                "in",
                "os",
                "memory",
                "kernel",
                "env",
                "command",
                "'a'",
                "1.2",
                "2GiB",
                "9" * 200,
                "true",
                "\x00",
                "é",
                " ",
            ]
        ),
        max_size=20,
    )
)
def test_any_text_is_a_condition_with_an_answer_or_a_definition_error(parts):
    text = " ".join(parts)
    try:
        parse(text)
    except DefinitionError:
        return
    good, reason = holds(text, HERE)
    assert good is (reason == "")


@given(st.text(max_size=40))
def test_any_text_at_all(text):
    for when, host in ((text, ()), (None, (text,))):
        with suppress(DefinitionError):
            check(when, host)


def test_callables_decide_too():
    assert holds(None, HERE) == (True, "")
    assert holds(lambda facts: facts.cpus == 4, HERE) == (True, "")

    def big(facts):
        return facts.cpus > 100

    assert holds(big, HERE) == (False, "the condition big does not hold")

    def bad(facts):
        return facts.cpus / 0

    with pytest.raises(DefinitionError, match="the condition bad raised ZeroDivisionError") as caught:
        holds(bad, HERE)
    assert caught.value.where.startswith(__file__)


@pytest.mark.parametrize(
    "need",
    [
        "cmd:git",
        "file:/dev/null",
        "env:CI",
        "arch:x86_64",
        "os:linux",
        "distro:debian",
        "user:alice",
        "memory>=2GiB",
        "memory >= 2 GiB",
        "cpus>=4",
        "kernel>=5.10",
        "version==12",
    ],
)
def test_a_host_that_has_what_is_needed(need):
    assert missing([need], HERE) == []


def test_a_host_that_lacks_it_says_what():
    needs = ("root", "cmd:hg", "file:/dev/kvm", "env:NO", "arch:arm64", "memory>=1TiB", "kernel>=7")
    assert missing(needs, HERE) == [
        "needs root (user is alice)",
        "needs the command hg",
        "needs the file /dev/kvm",
        "needs the environment variable NO",
        "needs arch arm64 (arch is x86_64)",
        "needs memory>=1TiB (memory is 8.0 GiB)",
        "needs kernel>=7 (kernel is 6.1.0-18-amd64)",
    ]
    assert missing(["root"], Facts.of(user="root")) == []


@pytest.mark.parametrize(
    ("need", "hint"), [("rot", "did you mean 'root'"), ("cdm:git", "did you mean 'cmd'"), ("cmd:", ""), ("memory", "")]
)
def test_an_unknown_need_is_a_definition_error(need, hint):
    with pytest.raises(DefinitionError, match="is not known") as caught:
        check(None, (need,))
    assert hint in caught.value.hint


@pytest.mark.parametrize("need", ["memory>=lots", "file:kvm", "cpus>=4 and os == 'linux'"])
def test_a_malformed_need_too(need):
    with pytest.raises(DefinitionError, match="host"):
        check(None, (need,))


def test_the_gate_gives_reasons():
    decide = gate(HERE)
    assert decide(Task(print)) is None
    assert decide(Task(print, when="cpus == 4", host={"cmd:git"})) is None
    assert decide(Task(print, host={"cmd:hg", "root"})) == "needs the command hg; needs root (user is alice)"
    assert decide(Task(print, when="cpus > 4")) == "needs cpus > 4 (cpus is 4)"
    assert decide(Task(print, when=lambda _: False)) == "the condition <lambda> does not hold"


def test_the_gate_can_have_callables_decided_elsewhere():
    asked = []

    def ask(when):
        asked.append(when)
        return False

    decide = gate(HERE, ask)
    assert decide(Task(print, when=len)) == "the condition len does not hold"
    assert decide(Task(print, when="cpus == 4")) is None
    assert asked == [len]
