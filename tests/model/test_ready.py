"""Readiness checks: what may be said, and where."""

import pytest

from pexen import DefinitionError, Task, command
from pexen.model.call import call_of
from pexen.model.control import Misunderstood
from pexen.model.control import understood as heard
from pexen.model.ready import Ready, understood


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("port:8080", Ready("port", "", ("127.0.0.1", "::1"), 8080)),
        ("port:localhost:1", Ready("port", "", ("127.0.0.1", "::1"), 1)),
        ("port:192.0.2.7:65535", Ready("port", "", ("192.0.2.7",), 65535)),
        ("port:[fe80::1]:80", Ready("port", "", ("fe80::1",), 80)),
        ("socket:run/x.sock", Ready("socket", "run/x.sock")),
        ("file:a:b", Ready("file", "a:b")),
        ("log:listening on .*:80$", Ready("log", "listening on .*:80$")),
        ("control", Ready("control")),
    ],
)
def test_what_is_understood(said, meant):
    assert understood(said) == meant
    assert command("x", service=True, ready=said).ready == said


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("prot:80", "did you mean 'port'"),
        ("./is_up.sh", "unknown check './is_up.sh'"),
        ("control:x", "unknown check"),
        ("port:", "does not say which port"),
        ("port:http", "not the number of a port: 'http'"),
        ("port:0", "not the number"),
        ("port:65536", "not the number"),
        ("port:²", "not the number"),
        ("port:a.example:80", "'a.example' is no address"),
        ("file:", "does not say which file"),
        ("socket:a\0b", "does not say which socket"),
        ("log:", "does not say which expression"),
        ("log:(", "not a regular expression: '(': missing )"),
        ("", "must be a string"),
        (8080, "must be a string"),
    ],
)
def test_what_is_refused(said, why):
    with pytest.raises(DefinitionError) as caught:
        command("x", service=True, ready=said)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (command("x", ready="port:1"), "'ready' is for services"),
        (command("x", ready="port:1", teardown="y"), "'ready' is for services"),
        (command("x", restarts=1), "'restarts' is for services"),
        (Task(print, ready="port:1"), "'ready' is for executables"),
        (Task(lambda: None, ready="port:1"), "'ready' is for executables"),
        (Task(lambda: None, "x", teardown="y"), "'teardown' is for executables"),
    ],
)
def test_where_it_makes_no_sense(task, why):
    with pytest.raises(DefinitionError, match=why):
        call_of(task)


def test_where_it_does():
    call_of(command("x", service=True, ready="port:1", teardown="y", restarts=2))
    call_of(command("x", teardown="y", restarts=2))


def test_how_it_says_so_itself():
    assert heard({"ready": True}) == ("ready", {})
    assert heard({"ready": {"value": None}, "id": 1}) == ("ready", {"value": None})
    for wrong in (False, 1, "yes", {"values": 1}, []):
        with pytest.raises(Misunderstood, match="ready takes true"):
            heard({"ready": wrong})
