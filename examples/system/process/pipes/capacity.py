#!/usr/bin/env python3
# A pipe takes exactly its capacity, then says EAGAIN; without a reader a writer gets EPIPE.
#
# /// pexen
# when = "os == 'linux'"
# ///
import errno
import fcntl
import os

GET_PIPE_SIZE = getattr(fcntl, "F_GETPIPE_SZ", 1032)

reader, writer = os.pipe()
os.set_blocking(writer, False)
capacity = fcntl.fcntl(writer, GET_PIPE_SIZE)
page = bytes(os.sysconf("SC_PAGE_SIZE"))
taken = 0
try:
    while taken <= capacity:
        taken += os.write(writer, page)
except BlockingIOError:
    pass
assert taken == capacity, f"the pipe of {capacity} bytes took {taken}"

os.read(reader, len(page))
written = os.write(writer, page)
assert written == len(page), f"after reading a page, {written} bytes could be written"

os.close(reader)
try:
    os.write(writer, b"x")  # Python ignores SIGPIPE, therefore this is an error and not the end
except BrokenPipeError as error:
    assert error.errno == errno.EPIPE, error
else:
    raise AssertionError("writing into a pipe without a reader worked")
print(f"a pipe holds {capacity} bytes")
