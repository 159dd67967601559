#!/usr/bin/env python3
# compare.py TOOL ALGORITHM KIB: the digest that TOOL prints is the one that hashlib computes.
#
# pexenfile.py makes a task of this for each algorithm, therefore it is none by itself.
import hashlib
import random
import subprocess
import sys

tool, algorithm, kib = sys.argv[1:]
for size in (0, 1, 63, 64, 65, int(kib) * 1024):  # empty, around a block, and the size asked for
    data = random.Random(size).randbytes(size)
    done = subprocess.run([tool], input=data, stdout=subprocess.PIPE, check=True)
    printed = done.stdout.split()[0].decode()
    computed = hashlib.new(algorithm, data).hexdigest()
    assert printed == computed, f"{size} bytes: {tool} says {printed}, hashlib says {computed}"
print(f"{tool} and hashlib agree up to {kib} KiB")
