#!/usr/bin/env python3
# The name of a blob is the SHA-1 of a header and the content: git and hashlib agree, also for sizes around a block.
import hashlib
import os
import subprocess

environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
for content in (b"", b"\n", b"hello\n", bytes(range(256)) * 40, b"\r\n" * 8191):
    # Outside any repository git takes its default, SHA-1; -t blob --stdin writes nothing anywhere.
    command = ["git", "hash-object", "-t", "blob", "--no-filters", "--stdin"]
    done = subprocess.run(command, input=content, stdout=subprocess.PIPE, env=environ, cwd="/", check=True)
    theirs = done.stdout.decode().strip()
    ours = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    assert theirs == ours, f"{len(content)} bytes: git says {theirs}, hashlib says {ours}"
