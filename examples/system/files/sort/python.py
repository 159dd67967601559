#!/usr/bin/env python3
# GNU sort in the C locale and Python's sorted() agree on 20,000 random lines of bytes: plain, -r, -u, -n.
#
# /// pexen
# provides = "sorting"
# host = "cmd:sort"
# ///
import os
import random
import subprocess

chance = random.Random(42)
alphabet = bytes(byte for byte in range(1, 256) if byte != ord("\n"))
lines = [bytes(chance.choices(alphabet, k=chance.randrange(12))) for _ in range(20_000)]
numbers = [b"%d" % chance.randrange(-1000, 1000) for _ in range(20_000)]


def check(flag: list[str], given: list[bytes], expected: list[bytes]) -> None:
    environ = {**os.environ, "LC_ALL": "C"}
    text = b"".join(line + b"\n" for line in given)
    done = subprocess.run(["sort", *flag], input=text, stdout=subprocess.PIPE, env=environ, check=True)
    got = done.stdout.split(b"\n")[:-1]
    for number, (ours, theirs) in enumerate(zip(expected, got, strict=False)):
        assert ours == theirs, f"sort {flag}: line {number} is {theirs!r}, Python says {ours!r}"
    assert len(got) == len(expected), f"sort {flag}: {len(got)} lines, Python says {len(expected)}"


check([], lines, sorted(lines))
check(["-r"], lines, sorted(lines, reverse=True))
check(["-u"], lines, sorted(set(lines)))
check(["-n"], numbers, sorted(numbers, key=lambda line: (int(line), line)))
