#!/usr/bin/env python3
# A Unix socket carries an open file to another process, which reads it although it could not open it by name.
import os
import socket
import sys
import tempfile

ours, theirs = socket.socketpair()
child = os.fork()
if child == 0:
    ours.close()
    code = 1
    try:
        message, descriptors, _, _ = socket.recv_fds(theirs, 100, 1)
        code = 0 if os.pread(descriptors[0], 100, 0) == message else 2
    finally:
        os._exit(code)

theirs.close()
with tempfile.TemporaryFile(prefix="pexen-system-") as file:
    file.write(b"a file without a name")
    file.flush()
    socket.send_fds(ours, [b"a file without a name"], [file.fileno()])
_, status = os.waitpid(child, 0)
code = os.waitstatus_to_exitcode(status)
sys.exit({0: 0, 1: "the other process got no descriptor"}.get(code, "the other process read something else"))
