#!/usr/bin/env python3
# A child that ended stays a zombie until it is waited for: a pidfd tells the end, /proc shows the Z, wait the code.
#
# /// pexen
# when = "os == 'linux'"
# ///
import os
import select
from pathlib import Path

child = os.fork()
if child == 0:
    os._exit(42)
handle = os.pidfd_open(child)
ready, _, _ = select.select([handle], [], [], 10)
assert ready, "the pidfd did not tell that the child ended"
state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
assert state == "Z", f"a child that ended and was not waited for is in state {state}"

_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 42, f"the status is {status:#x}"
assert not Path(f"/proc/{child}").exists(), "the child is still there after it was waited for"
