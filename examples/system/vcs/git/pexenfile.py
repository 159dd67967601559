"""git on a scratch repository. Without git on the machine everything below this folder is skipped and says so."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pexen

defaults = dict(host={"cmd:git"}, tags={"git"})


def git(repository, *args):
    """Run git without the configuration and environment of whoever runs the suite; return its output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= {"HOME": repository, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{role}_NAME": "pexen", f"GIT_{role}_EMAIL": "pexen@example.invalid"}
        environ |= {f"GIT_{role}_DATE": "1000000000 +0000"}
    done = subprocess.run(["git", *args], cwd=repository, env=environ, stdout=subprocess.PIPE, check=True)
    return done.stdout


@pexen.task(provides="repository")
def create():
    """A repository with three commits."""
    repository = tempfile.mkdtemp(prefix="pexen-system-")
    git(repository, "init", "-q")
    for number in (1, 2, 3):
        Path(repository, f"file{number}").write_text(f"content {number}\n")
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", f"commit {number}")
        git(repository, "tag", f"v{number}")
    return repository


@pexen.task(requires={"repository", "/files/tar"}, uses="repository")
def archive(repository):
    """`git archive` writes a tar file; that tar works at all is what the subtree /files/tar has shown before."""
    with tarfile.open(fileobj=io.BytesIO(git(repository, "archive", "v2"))) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    assert contents == {"file1": b"content 1\n", "file2": b"content 2\n"}, contents


@pexen.task(requires="repository", claims="repository")
def merge(repository):
    """Two branches that touch different files merge without a question."""
    git(repository, "checkout", "-q", "-f", "-B", "side", "v2")  # also when it was begun before, and the run killed
    Path(repository, "side").write_text("side\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "side")
    git(repository, "merge", "-q", "-m", "merge", "v3")
    files = git(repository, "ls-files").split()
    assert files == [b"file1", b"file2", b"file3", b"side"], files
    parents = git(repository, "log", "-1", "--format=%P").split()
    assert len(parents) == 2, parents


@pexen.task(requires="repository", after={archive, merge}, cleanup=True)
def remove(repository):
    """The repository is sound, and then it is gone."""
    gone = f"{repository}.gone"
    try:
        if not os.path.isdir(gone):  # else this was begun before, and the run killed
            git(repository, "fsck", "--strict")
            os.rename(repository, gone)
    finally:
        shutil.rmtree(gone if os.path.isdir(gone) else repository, ignore_errors=True)
