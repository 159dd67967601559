#!/usr/bin/env python3
# POSIX record locks: two processes may lock different bytes, not the same; closing the file anywhere drops all.
#
# /// pexen
# provides = "record locks"
# tags = ["locks"]
# ///
import fcntl
import subprocess
import sys
import tempfile

TRY = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2]))
    except OSError:
        sys.exit(3)
"""


def another_process_gets(byte: int) -> bool:
    code = subprocess.run([sys.executable, "-c", TRY, name, str(byte)], check=False).returncode
    assert code in (0, 3), f"the other process ended with {code}"
    return code == 0


with tempfile.NamedTemporaryFile(prefix="pexen-system-") as file:
    name = file.name
    file.write(bytes(10))
    file.flush()
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 4)
    assert another_process_gets(5), "the byte beside the locked one was refused"
    assert not another_process_gets(4), "a locked byte was locked again"
    # The surprise of POSIX: this descriptor never held the lock, but closing it gives the lock up.
    open(name, "rb").close()
    assert another_process_gets(4), "the lock outlived a close of the file"
