"""Providers from a catalogue on the command line: in the tree, beside it, pinned, explained, and when one fails."""

import json
import re

import pytest

from tests.cli.tools import pexen, script, write


@pytest.fixture
def services(tmp_path):
    """Write a folder of servers and return it; two conflict, one cannot run here, one needs another."""
    folder = tmp_path / "tree" / "services"
    script(folder / "apache.sh", meta='provides = ["httpd"]\nrequires = ["ssl"]\nconflicts = ["httpd"]')
    script(folder / "nginx.sh", "test ! -e nginx.broken", meta='provides = ["httpd"]\npreference = 5')
    script(folder / "python.sh", meta='provides = ["httpd"]\nhost = ["cmd:no-such-command"]')
    script(folder / "ssl.sh", meta='provides = ["ssl"]')
    return folder


@pytest.fixture
def tree(tmp_path, services):
    """Write a tree whose folder of services is a catalogue."""
    write(tmp_path / "tree" / "pexen.toml", 'catalogue = "services"\n')
    script(tmp_path / "tree" / "tests" / "http.sh", meta='requires = ["httpd"]')
    script(tmp_path / "tree" / "tests" / "other.sh")
    return tmp_path / "tree"


def listed(call, tree, *words):
    """Return the names of the files that would be run."""
    code, out, err = call(*(words if words[:1] == ("list",) else ("run", "--co", *words)), cwd=tree)
    assert code == 0, err
    return re.findall(r"\w+\.sh", out)


def test_of_a_catalogue_in_the_tree_only_what_is_chosen_runs(tree, call):
    assert listed(call, tree) == ["http.sh", "other.sh", "nginx.sh"]
    assert listed(call, tree, "tests/other.sh") == ["other.sh"]
    assert listed(call, tree, "services/ssl.sh") == ["ssl.sh"]
    assert listed(call, tree, "tests", "-D", "provider.httpd=apache") == ["http.sh", "other.sh", "apache.sh", "ssl.sh"]
    assert listed(call, tree, "--no-deps", "tests/http.sh") == ["http.sh"]


def test_the_whole_tree_may_be_its_catalogue(tree, call):
    write(tree / "pexen.toml", 'catalogue = "."\n')
    assert listed(call, tree, "tests/http.sh") == ["http.sh", "nginx.sh"]
    code, _, err = call("run", "--co", cwd=tree)
    assert code == 4
    assert "services/apache.sh and services/nginx.sh cannot both be in one run" in err


def test_without_a_catalogue_all_providers_are_meant(tree, call):
    write(tree / "pexen.toml", "")
    assert listed(call, tree, "tests/http.sh") == ["apache.sh", "nginx.sh", "python.sh", "ssl.sh", "http.sh"]


def test_a_catalogue_beside_the_tree_is_looked_at_only_when_something_is_missing(tree, services, call):
    beside = services.parent.parent / "beside"
    services.rename(beside)
    write(tree / "pexen.toml", 'catalogue = ["../beside"]\n[providers]\nhttpd = "apache.sh"\n')
    write(beside / "pexenfile.py", "raise RuntimeError('it was looked at')\n")
    assert listed(call, tree, "tests/other.sh") == ["other.sh"]
    assert listed(call, tree, "tests", "--no-deps") == ["http.sh", "other.sh"]
    code, _, err = call("run", "--co", cwd=tree)
    assert code == 4
    assert "it was looked at" in err
    write(beside / "pexenfile.py", "def tasks(here):\n    here.param('size', 1)\n    return []\n")
    assert listed(call, tree) == ["http.sh", "other.sh", "apache.sh", "ssl.sh"]
    assert call("run", "--co", cwd=tree)[2] == "4 tasks\n"
    assert listed(call, tree, "-D", "provider.httpd=nginx", "-D", "size=2") == ["http.sh", "other.sh", "nginx.sh"]
    write(tree / "pexen.toml", 'catalogue = ["fs:../beside"]\n')
    code, _, err = call("run", "--co", cwd=tree)
    assert code == 4
    assert "tests/http.sh requires 'httpd', which neither the tasks nor the catalogue have" in err


def test_what_the_tree_has_need_not_be_looked_for_elsewhere(tree, call):
    write(tree / "pexen.toml", 'catalogue = ["services", "../beside"]\n')
    script(tree.parent / "beside" / "db.sh", meta='provides = ["db"]')
    assert listed(call, tree) == ["http.sh", "other.sh", "nginx.sh"]
    write(tree.parent / "beside" / "pexenfile.py", "raise RuntimeError('it was looked at')\n")
    assert listed(call, tree) == ["http.sh", "other.sh", "nginx.sh"]
    script(tree / "tests" / "db.sh", meta='requires = ["db"]')
    code, _, err = call("run", "--co", cwd=tree)
    assert code == 4
    assert "it was looked at" in err
    (tree.parent / "beside" / "pexenfile.py").unlink()
    assert "requires: db  bound to db.sh" in call("explain", "tests/db.sh", cwd=tree)[1]


@pytest.mark.parametrize(
    ("config", "words", "said"),
    [
        ("catalogue = 3", (), "catalogue must be a path"),
        ('catalogue = "./nowhere"', (), "does not exist"),
        ('catalogue = "servces"', (), "did you mean 'services'?"),
        ("", ("-D", "provider.httpd=nginx"), "there is no catalogue to choose from"),
        ('catalogue = "services"\n[providers]\nhttpd = 3', (), "httpd must be the path or the name"),
        ('catalogue = "services"\n[providers]\nhttpd = "ngins"', (), "did you mean 'nginx"),
        ('catalogue = "services"', ("-D", "provider.htpd=nginx"), "did you mean 'httpd'?"),
    ],
)
def test_what_is_wrong_is_said(config, words, said, tree, call):
    write(tree / "pexen.toml", config + "\n")
    code, _, err = call("run", "--co", *words, cwd=tree)
    assert code == 4
    assert said in err


def test_what_is_in_the_catalogue_has_to_be_named(tree):
    done = pexen("run", "-k", "ssl", cwd=tree)
    assert done.returncode == 5
    assert "hint: services/ssl.sh is in the catalogue, so it runs for others only" in done.stderr


def test_what_was_chosen_and_why(tree, call):
    code, out, err = call("list", "--providers", cwd=tree)
    assert (code, err) == (0, "1 tasks added\n")
    assert out.splitlines() == [
        "'httpd'  for tests/http.sh",
        "  chosen: services/nginx.sh  (preference 5)",
        "  rejected: services/apache.sh, preference 0, that of services/nginx.sh is 5",
        "  rejected: services/python.sh, needs the command no-such-command",
    ]
    told = json.loads(call("list", "--providers", "--json", cwd=tree)[1])
    assert told["schema"] == 1
    assert told["added"] == {"services/nginx.sh": "required by tests/http.sh"}
    assert told["providers"][0]["chosen"] == ["services/nginx.sh"]
    lines = call("explain", "tests/http.sh", cwd=tree)[1].splitlines()
    at = lines.index("  requires: httpd  bound to services/nginx.sh")
    assert lines[at + 1 : at + 3] == [
        "    chosen: services/nginx.sh  (preference 5)",
        "    rejected: services/apache.sh, preference 0, that of services/nginx.sh is 5",
    ]


def test_what_is_listed_is_all_there_is(tree, call):
    assert listed(call, tree, "list") == ["apache.sh", "nginx.sh", "python.sh", "ssl.sh", "http.sh", "other.sh"]
    told = {one["path"]: one for one in json.loads(call("list", "--json", cwd=tree)[1])["tasks"]}
    assert len(told) == 6
    assert told["tests/http.sh"]["requires"] == [{"name": "httpd", "tasks": ["services/nginx.sh"]}]


def test_a_run_says_what_was_chosen_and_which_fallback_was_started(tree):
    script(tree / "tests" / "any.sh", meta='requires = [{any_of = "httpd"}]')
    write(tree / "services" / "nginx.broken", "")
    done = pexen("run", "tests/any.sh", cwd=tree)
    assert done.returncode == 1
    assert "note: chosen: httpd" not in done.stdout
    assert "chosen: any_of('httpd'): services/nginx.sh, else services/apache.sh" in done.stdout + done.stderr
    assert "services/nginx.sh failed: services/apache.sh is started instead" in done.stdout + done.stderr
    told = (done.stdout + done.stderr).splitlines()
    assert any(line.split()[0] == "passed" and line.endswith("tests/any.sh") for line in told if line.strip())
