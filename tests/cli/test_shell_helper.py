"""``pexen shell-helper``: whatever a script says arrives as it was said, from every shell, and costs the script nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pexen.cli.shell_helper import HELPER
from pexen.model.control import understood
from pexen.model.result import LEVELS
from tests.cli.tools import DEADLINE, environment, pexen

SHELLS = [
    shlex.split(words)
    for words in ("sh", "dash", "bash", "bash --posix", "busybox sh")
    if shutil.which(words.split()[0])
]
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
SPECIAL = "".join(map(chr, range(1, 256))) + "\u0085\u2028\ufffd\U0001f600"
LOCALES = ("C", "C.UTF-8")


class Said(NamedTuple):
    """What came from a script: lines, exit status (negative for a signal), output, errors."""

    lines: list[bytes]
    status: int
    out: str
    err: str

    @property
    def messages(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


Answer = Callable[[Any], bytes | None]


def say(
    shell: list[str],
    script: str,
    *args: str | bytes,
    answer: Answer = lambda said: b"",
    env: dict[str, str] | None = None,
) -> Said:
    """Run a script that has the helper, with a run at descriptor 3; ``answer`` returns what to reply, or None to hang up."""
    ours, theirs = socket.socketpair()
    files = [os.memfd_create("out"), os.memfd_create("err")]
    try:
        with ours:
            with theirs:
                argv = [*shell, "-c", f"{HELPER}\n{script}", "script", *args]
                pid = os.posix_spawnp(
                    argv[0], argv, environment(PEXEN_CONTROL="3", **(env or {})),
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, files[0], 1),
                        (os.POSIX_SPAWN_DUP2, files[1], 2),
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                    ],
                    setsigdef=[signal.SIGPIPE],  # Python ignores it, and what is ignored at the start stays so in a shell
                )  # fmt: skip
            try:
                lines = listen(ours, answer)
            finally:
                ours.close()
                _, status = os.waitpid(pid, 0)
        out, err = (os.pread(file, 1 << 24, 0).decode(errors="replace") for file in files)
    finally:
        for file in files:
            os.close(file)
    return Said(lines, os.waitstatus_to_exitcode(status), out, err)


def listen(sock: socket.socket, answer: Answer) -> list[bytes]:
    sock.settimeout(DEADLINE)
    lines = []
    with sock.makefile("rb") as file:
        for line in file:
            lines.append(line)
            reply = answer(json.loads(line)) if b'"id"' in line else b""
            if reply is None:
                break
            if reply:
                sock.sendall(reply)
    return lines


def quiet(said: Said) -> list[Any]:
    """The messages of a script that ended well and had nothing to complain about."""
    assert (said.status, said.out, said.err) == (0, "", "")
    return said.messages


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_it() -> None:
    done = pexen("shell-helper")
    assert (done.returncode, done.stdout, done.stderr) == (0, HELPER, "")


def test_help_shows_how_to_use_it() -> None:
    done = pexen("shell-helper", "--help")
    assert done.returncode == 0
    assert 'eval "$(pexen shell-helper)"' in done.stdout


@each_shell
def test_as_it_is_meant_to_be_used(shell: list[str]) -> None:
    script = f'eval "$({shlex.quote(sys.executable)} -m pexen shell-helper)"\nreport warn "acl set" "a\tb"'
    (message,) = quiet(say(shell, script))
    assert message == {"report": {"name": "acl set", "status": "warn", "message": "a\tb"}}


@each_shell
def test_every_shell_finds_the_text_correct(shell: list[str], tmp_path: Path) -> None:
    file = tmp_path / "helper.sh"
    file.write_text(HELPER)
    done = subprocess.run([*shell, "-n", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_text_is_harmless_on_a_terminal_and_explains_each_function() -> None:
    assert re.fullmatch(r"[\n -~]+", HELPER)
    public = [name for name in re.findall(r"^(\w+)\(\)", HELPER, re.MULTILINE) if not name.startswith("_")]
    assert public == [
        "report", "report_wait", "attach", "timeout_set", "timeout_add", "timeout_pause", "timeout_resume", "heartbeat",
        "pexen_return", "share", "ready", "add_task", "add_tasks",
    ]  # fmt: skip
    assert all(re.search(rf"^# {name}\b[^\n]*: .+\n{name}\(\)", HELPER, re.MULTILINE) for name in public)


# -- what is said ------------------------------------------------------------------------------------------------------


@each_shell
@pytest.mark.parametrize("status", LEVELS)
def test_a_report(shell: list[str], status: str) -> None:
    assert quiet(say(shell, f"set -eu; report {status} 'acl set'; report {status} n why")) == [
        {"report": {"name": "acl set", "status": status}},
        {"report": {"name": "n", "status": status, "message": "why"}},
    ]


@each_shell
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("attach /var/log/x", {"attach": {"file": "/var/log/x"}}),
        ("cd /; attach 'a \"b' c", {"attach": {"file": '//a "b', "name": "c"}}),
        ("cd /usr; attach a", {"attach": {"file": "/usr/a"}}),
        ("timeout_set 5m", {"timeout": {"set": "5m"}}),
        ("timeout_set 90", {"timeout": {"set": 90}}),
        ("timeout_set 0", {"timeout": {"set": 0}}),
        ("timeout_set 007", {"timeout": {"set": "007"}}),
        ("timeout_add 30", {"timeout": {"add": 30}}),
        ("timeout_add -1.5", {"timeout": {"add": -1.5}}),
        ("timeout_add .5", {"timeout": {"add": ".5"}}),
        ("timeout_add 1m", {"timeout": {"add": "1m"}}),
        ("timeout_pause", {"timeout": "pause"}),
        ("timeout_resume", {"timeout": "resume"}),
        ("heartbeat", {"heartbeat": True}),
        ("""pexen_return '{"a": ["\\"", 1]}'""", {"return": {"a": ['"', 1]}}),
        ("pexen_return '[1,\n\t2,\r\n3]'", {"return": [1, 2, 3]}),
        ("pexen_return '\"\u0085\u00e4\"'", {"return": "\u0085\u00e4"}),
        ("pexen_return null", {"return": None}),
        ("share 'a \"key' 'x\ny'", {"shared": {'a "key': "x\ny"}}),
        ("share '' ''", {"shared": {"": ""}}),
        ("ready", {"ready": True}),
        ("""ready '{"port":\n80}'""", {"ready": {"value": {"port": 80}}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_other_verbs(shell: list[str], call: str, message: Any) -> None:
    said = say(shell, f"set -eu\n{call}", env={"LC_ALL": "C.UTF-8"})
    assert quiet(said) == [message]
    understood(message)


@each_shell
@pytest.mark.parametrize(
    ("number", "arrives"),
    [
        ("10", 10), ("-0.50", -0.5), ("0.5", 0.5), ("9" * 400, 10**400 - 1),
        *((text, text) for text in ("1.", "1.2.3", "-", "--1", "1-", "1e5", "00", ".5", "\u00fcnf\\n", " 1")),
    ],
)  # fmt: skip
def test_only_numbers_of_json_are_given_as_numbers(shell: list[str], number: str, arrives: object) -> None:
    (message,) = quiet(say(shell, 'timeout_set "$1"', number))
    assert message == {"timeout": {"set": arrives}}


@each_shell
@pytest.mark.parametrize("locale", LOCALES)
def test_every_single_character(shell: list[str], locale: str) -> None:
    script = 'for one do report pass "$one"; report pass "a${one}b" "$one$one"; done'
    messages = quiet(say(shell, script, *SPECIAL, env={"LC_ALL": locale}))
    assert messages == [
        {"report": {"status": "pass", **told}}
        for one in SPECIAL
        for told in ({"name": one}, {"name": f"a{one}b", "message": one + one})
    ]


texts = st.text(st.one_of(st.characters(codec="utf-8", exclude_characters="\0"), st.sampled_from(SPECIAL)))
# bash 5.2 itself corrupts its memory when ${x%…} meets a cut character before a backslash in a UTF-8 locale.
_BREAKS_BASH = re.compile(rb"[\xc0-\xff][\x80-\xbf]*\\")
raws = (
    st.binary(max_size=300)
    .map(lambda data: data.replace(b"\0", b"\\\n"))
    .filter(lambda data: not _BREAKS_BASH.search(data))
)
LOOP = 'while [ $# -gt 0 ]; do report "$1" "$2" "$3"; shift 3; done'


@each_shell
@pytest.mark.parametrize("locale", LOCALES)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(batch=st.lists(st.tuples(st.sampled_from(LEVELS), texts.filter(bool), texts), min_size=1, max_size=40))
def test_any_text_arrives(shell: list[str], locale: str, batch: list[tuple[str, str, str]]) -> None:
    said = say(shell, f"set -eu; {LOOP}", *[word for told in batch for word in told], env={"LC_ALL": locale})
    reports = [message["report"] for message in quiet(said)]
    assert [(one["status"], one["name"], one.get("message", "")) for one in reports] == batch


@each_shell
@pytest.mark.parametrize("locale", LOCALES)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(batch=st.lists(st.tuples(raws.filter(bool), raws), min_size=1, max_size=40))
def test_bytes_that_are_no_text_arrive_unchanged(
    shell: list[str], locale: str, batch: list[tuple[bytes, bytes]]
) -> None:
    words = [word for name, message in batch for word in (b"pass", name, message)]
    said = say(shell, LOOP, *words, env={"LC_ALL": locale})
    assert (said.status, said.err) == (0, "")
    reports = [json.loads(line.decode("latin-1"))["report"] for line in said.lines]
    assert [(one["name"].encode("latin-1"), one.get("message", "").encode("latin-1")) for one in reports] == batch


@each_shell
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(
    "text",
    [
        json.dumps({f"key {number}": ["\u017elu\u0165", number] for number in range(400)}, indent=1, ensure_ascii=False),
        "'a line' of \"ordinary\" text\n" * 500,
        "\n" * 3000,
        '\\"' * 1500,
        "x" * 255 + '"' + "y" * 256 + "\\" + "\u00e9" * 700 + "\x7f",
        "plain " * 15000,
    ],
    ids=["json", "lines", "empty lines", "quotes", "edges", "plain"],
)  # fmt: skip
def test_long_texts_arrive(shell: list[str], locale: str, text: str) -> None:
    (message,) = quiet(say(shell, 'report info log "$1"', text, env={"LC_ALL": locale}))
    assert message["report"]["message"] == text


# -- answers -----------------------------------------------------------------------------------------------------------


def answered(**what: Any) -> Answer:
    return lambda said: json.dumps({"id": said["id"], **what}).encode() + b"\n"


@each_shell
def test_an_answer_is_waited_for(shell: list[str]) -> None:
    said = say(shell, "set -eu; report_wait pass one; report_wait fail two 'wh\"y'", answer=answered(ok=True))
    first, second = quiet(said)
    assert first.pop("id") != second.pop("id")
    assert first == {"report": {"name": "one", "status": "pass"}}
    assert second == {"report": {"name": "two", "status": "fail", "message": 'wh"y'}}


@each_shell
def test_tasks_are_added_and_waited_for(shell: list[str]) -> None:
    script = """set -eu; cd /usr; add_task 'a b' 'echo "$X"
exit'; add_tasks '{"x": {"run": "true"}}' """
    first, second = quiet(say(shell, script, answer=answered(ok=True)))
    assert first["add"] == {"tasks": {"a b": {"run": 'echo "$X"\nexit', "cwd": "/usr"}}}
    assert second["add"] == {"tasks": {"x": {"run": "true"}}}
    for message in (first, second):
        understood(message)


@each_shell
def test_what_an_answer_says_is_the_exit_status(shell: list[str]) -> None:
    script = "report_wait pass x || echo no $?; report_wait pass y && echo yes"
    evil = 'disk full "ok": true'
    outcomes = {"x": {"error": evil}, "y": {"ok": True}}
    said = say(shell, script, answer=lambda said: answered(**outcomes[said["report"]["name"]])(said))
    assert (said.status, said.out) == (0, "no 1\nyes\n")
    assert "disk full" in said.err


@each_shell
def test_answers_to_others_are_passed_over(shell: list[str]) -> None:
    def answer(said: Any) -> bytes:
        others = [{"id": 7, "ok": True}, {"id": said["id"] + "0", "error": "no"}]
        return b"".join(json.dumps(one).encode() + b"\n" for one in others) + answered(ok=True)(said)

    assert quiet(say(shell, "report_wait pass x", answer=answer))


@each_shell
def test_a_run_that_hangs_up_does_not_answer(shell: list[str]) -> None:
    said = say(shell, "report_wait pass x || echo no $?", answer=lambda said: None)
    assert (said.status, said.out, said.err) == (0, "no 1\n", "")


# -- a script is left alone --------------------------------------------------------------------------------------------


@each_shell
def test_by_hand_reports_are_printed(shell: list[str]) -> None:
    script = """
        unset PEXEN_CONTROL; set -eu
        report pass 'acl set'; report fail name 'why\tnot'; report_wait skip x
        attach x; timeout_set 5; timeout_add 5; timeout_pause; timeout_resume; heartbeat; pexen_return 1; share a b; ready
        add_task a b; add_tasks '{}'
        exec 2>&-; report pass x; echo "$?"
    """
    said = say(shell, script)
    assert said == ([], 0, "0\n", "pass: acl set\nfail: name why\tnot\nskip: x\n")


@each_shell
@pytest.mark.parametrize(
    "call",
    [
        "report", "report pass", "report pass ''", "report passed x", "report '' x", "report '*' x", "report pass a b c",
        "report_wait nonsense x", "attach", "attach ''", "attach a b c", "timeout_set", "timeout_set ''", "timeout_add 1 2",
        "pexen_return", "pexen_return ''", "pexen_return 1 2", "share", "share a", "share a b c", "ready ''", "ready 1 2",
        "add_task", "add_task a", "add_task a ''", "add_task a b c", "add_tasks", "add_tasks a b",
    ],
)  # fmt: skip
def test_wrong_calls_say_how(shell: list[str], call: str) -> None:
    said = say(shell, f"set -u; {call} || echo $?; exec 2>&-; {call} || echo $?")
    assert (said.lines, said.status, said.out) == ([], 0, "2\n2\n")
    assert said.err.startswith("usage: ")
    assert say(shell, f"set -eu; {call}; echo not reached")[1:3] == (2, "")


@each_shell
@pytest.mark.parametrize("control", ["3", "4", "12", "x", "/tmp", "3x"])
def test_without_its_descriptor_a_script_goes_on(shell: list[str], control: str) -> None:
    script = f"""
        PEXEN_CONTROL={control}; exec 3>&-
        report pass x || echo $?; report_wait pass x || echo $?; heartbeat || echo $?; share a b || echo $?
        add_task a b || echo $?; echo on
    """
    said = say(shell, script, env={"TMPDIR": "/nonexistent"})
    assert said == ([], 0, "1\n1\n1\n1\n1\non\n", "")


@each_shell
def test_a_run_that_has_gone_does_not_end_a_script(shell: list[str]) -> None:
    script = """
        report_wait pass last || :
        report pass x || echo $?; report_wait pass x || echo $?; echo on
        kill -PIPE $$; echo not reached
    """
    said = say(shell, script, answer=lambda said: None)
    assert said.status == -signal.SIGPIPE  # as before: only while writing is it ignored
    assert (said.out, said.err) == ("1\n1\non\n", "")


@each_shell
def test_nothing_of_the_script_is_changed(shell: list[str]) -> None:
    script = """
        set -- 'a b' '' '*'; IFS='p,"'; OPTIND=2; status=1; name=2; i=3; before=$-
        report pass 'p,"
*?[' "$IFS"; report_wait info y; attach f g; timeout_set 1m; pexen_return '[ "*" ]'; share a b; add_task a "$1"; add_tasks '{}'
        test "$#$1$2$3" = '3a b*' && test "$IFS" = 'p,"' && test "$OPTIND$status$name$i" = 2123 && test "$before" = "$-"
    """
    messages = quiet(say(shell, script, answer=answered(ok=True)))
    assert messages[0]["report"] == {"status": "pass", "name": 'p,"\n*?[', "message": 'p,"'}
    assert messages[4] == {"return": ["*"]}
    names = set(re.findall(r"(?:^|[\s;{])([A-Za-z]\w*)=", HELPER))
    assert names == {"IFS"}  # given to read alone


@each_shell
@pytest.mark.parametrize(
    "options", ["set -f", "set -e", "set -u", "set -C", "set -a", "shopt -s extglob nocasematch nullglob failglob"]
)
def test_whatever_the_shell_is_set_to(shell: list[str], options: str) -> None:
    if options.startswith("shopt") and shell[0] != "bash":
        pytest.skip("only bash has such options")
    text = 'a*(b)?[c]\\"\n\x01 AaBb'
    (message,) = quiet(say(shell, f'{options}; report pass "$1" "$1"', text))
    assert message["report"] == {"name": text, "status": "pass", "message": text}


@each_shell
def test_background_jobs_do_not_mix_their_lines(shell: list[str]) -> None:
    script = """
        for job in 1 2 3 4 5 6 7 8; do
            (for step in 1 2 3 4 5 6 7 8 9 10; do report pass "$job-$step" "$1"; done) &
        done
        wait
    """
    messages = quiet(say(shell, script, "x\n" * 100))
    assert {one["report"]["name"] for one in messages} == {f"{j}-{s}" for j in range(1, 9) for s in range(1, 11)}
    assert {one["report"]["message"] for one in messages} == {"x\n" * 100}


# -- it starts nothing -------------------------------------------------------------------------------------------------

# Nobody in particular, for whom limits hold, runs what is left of the command line.
NOBODY = """\
import os, resource, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
if sys.argv[1:]:
    os.execv(sys.argv[1], sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    if os.fork() == 0:
        os._exit(0)
    os.wait()
except BlockingIOError:
    sys.exit(77)
"""
AS_NOBODY = [sys.executable, "-I", "-c", NOBODY]


@pytest.fixture(scope="module")
def _processes_can_be_limited() -> None:
    done = subprocess.run(AS_NOBODY, capture_output=True, check=False)
    if done.returncode != 77:
        pytest.skip("no limit of processes is obeyed here")


@pytest.mark.usefixtures("_processes_can_be_limited")
@each_shell
def test_no_process_is_started(shell: list[str]) -> None:
    script = """
        ulimit -u 0 2>&- || ulimit -p 0
        PATH=
        report pass 'acl set'; report fail "$1" "$1"; report_wait pass x; attach "$1" n; timeout_set 5m; timeout_add 5
        timeout_pause; timeout_resume; heartbeat; pexen_return '[1,
            2]'; share "$1" "$1"; add_task x "$1"; add_tasks '{}'; unset PEXEN_CONTROL; report info x 2>&-
    """
    messages = quiet(
        say([*AS_NOBODY, str(shutil.which(shell[0])), *shell[1:]], script, SPECIAL, answer=answered(ok=True))
    )
    assert len(messages) == 13
    assert messages[1]["report"]["name"] == SPECIAL


def test_only_sourcing_it_needs_a_subshell() -> None:
    code = re.sub(r"^ *#.*$", "", HELPER, flags=re.MULTILINE)
    assert "`" not in code
    (line,) = [line for line in code.splitlines() if re.search(r"\$\((?!\()", line)]
    assert line.startswith("_pexen_codes=$(printf ")
