import os
import pickle
import subprocess

import pytest

from pexen.factory.facts import FACTS, Facts


def test_they_are_the_machines_own():
    facts = Facts()
    assert facts.os == "linux"
    assert facts.kernel == os.uname().release
    assert facts.arch == os.uname().machine
    assert 1 <= facts.cpus <= os.cpu_count()
    assert 2**20 < facts.memory <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.user == subprocess.run(["id", "-un"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    assert facts.env == dict(os.environ)
    assert set(facts.gather()) == set(FACTS) - {"env", "commands", "files"}


def test_commands_and_files_are_asked_with_in(tmp_path, monkeypatch):
    (tmp_path / "tool").touch(0o755)
    (tmp_path / "data").touch(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = Facts()
    assert "tool" in facts.commands
    assert str(tmp_path / "tool") in facts.commands
    assert not {"data", "none", "", "a/b"} & set(facts.commands)
    assert all(name not in facts.commands for name in ("data", "none", "", "nul\0"))
    assert str(tmp_path) in facts.files
    assert "/no/such" not in facts.files
    assert "nul\0" not in facts.files
    assert 3 not in facts.files
    assert list(facts.files) == [str(tmp_path)]
    assert len(facts.commands) == 2


def test_each_is_found_out_once(monkeypatch):
    calls = []
    monkeypatch.setitem(FACTS, "distro", lambda: calls.append(1) or "mine")
    facts = Facts()
    assert not calls
    assert [facts.distro, facts.distro] == ["mine", "mine"]
    assert calls == [1]


def test_some_can_be_made_up():
    facts = Facts.of(os="plan9", memory=5, commands={"git"}, files=["/dev/kvm"], env={"CI": "1"})
    assert (facts.os, facts.memory, facts.env) == ("plan9", 5, {"CI": "1"})
    assert "git" in facts.commands
    assert facts.arch == os.uname().machine
    with pytest.raises(TypeError, match="did you mean 'memory'"):
        Facts.of(memmory=5)


def test_they_cannot_be_changed_and_travel():
    facts = Facts.of(os="plan9")
    assert True
    with pytest.raises(AttributeError, match="cannot be changed"):
        facts.os = "linux"
    with pytest.raises(AttributeError, match="did you mean 'kernel'"):
        _ = facts.kernal
    copy = pickle.loads(pickle.dumps(facts))
    assert copy.os == "plan9"
    assert ("git" in copy.commands) == ("git" in facts.commands)
    assert repr(Facts.of(os="x")) == "Facts(os)"


def test_os_release_may_be_missing_or_odd(monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert Facts().distro == ""
    assert Facts().memory > 0
