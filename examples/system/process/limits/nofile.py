#!/usr/bin/env python3
# Limits: out of descriptors is EMFILE and passes; a file beyond its size limit is EFBIG and cut exactly there.
import errno
import os
import resource
import signal
import tempfile

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))
opened: list[int] = []
try:
    while len(opened) < 100:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    assert error.errno == errno.EMFILE, error
assert max(opened, default=-1) == 31, f"descriptors up to {max(opened, default=-1)} under a limit of 32"
for descriptor in opened:
    os.close(descriptor)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
os.close(os.open("/dev/null", os.O_RDONLY))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with tempfile.TemporaryFile(prefix="pexen-system-", buffering=0) as file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    written = file.write(bytes(8192))
    assert written == 5000, f"{written} bytes written under a limit of 5000"
    try:
        file.write(b"x")
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError("a byte beyond the limit was written")
