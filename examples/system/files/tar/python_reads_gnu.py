#!/usr/bin/env python3
# Python's tarfile reads what GNU tar wrote: names of 300 characters, non-ASCII names, links, modes.
#
# /// pexen
# host = ["cmd:tar"]
# ///
import subprocess
import tarfile
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
    tree = Path(scratch, "tree")
    files = {
        "/".join(["folder-with-a-name-of-30-chars"] * 10): b"deep",
        "žluťoučký kůň": "úpěl".encode(),
        "empty": b"",
        "zeros": bytes(100_000),
    }
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tree / "empty").chmod(0o604)
    (tree / "link").symlink_to("empty")

    for form in ("gnu", "posix"):
        archive = Path(scratch, form + ".tar")
        subprocess.run(["tar", f"--format={form}", "-cf", archive, "-C", tree, "."], check=True)
        with tarfile.open(archive, encoding="utf-8") as tar:
            members = {member.name.removeprefix("./"): member for member in tar}
            for name, content in files.items():
                assert name in members, f"{form}: {name!r} is missing in {sorted(members)}"
                read = tar.extractfile(members[name]).read()
                assert read == content, f"{form}: {name!r} has {len(read)} bytes, not {len(content)}"
            assert members["empty"].mode == 0o604, f"{form}: mode {members['empty'].mode:o}, not 604"
            assert members["link"].linkname == "empty", f"{form}: the link points to {members['link'].linkname!r}"
