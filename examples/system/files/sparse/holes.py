#!/usr/bin/env python3
# A hole in a file takes no space, reads as zeros, and SEEK_DATA jumps over it.
#
# /// pexen
# when = "os == 'linux'"
# ///
import os
import sys
import tempfile

MIB = 1 << 20

with tempfile.TemporaryFile(prefix="pexen-system-") as file:
    file.truncate(64 * MIB)
    file.seek(32 * MIB)
    file.write(b"island" * 1000)
    file.flush()
    os.fsync(file.fileno())
    status = os.fstat(file.fileno())
    used = status.st_blocks * 512
    if used >= 64 * MIB:
        print("this file system stores holes as zeros")
        sys.exit(77)
    assert status.st_size == 64 * MIB, f"the size is {status.st_size}"
    assert used < 2 * MIB, f"6 kB in a hole of 64 MiB take {used} bytes"
    for offset in (0, 32 * MIB - 10, 32 * MIB + 6000, 64 * MIB - 10):
        file.seek(offset)
        assert file.read(10) == bytes(10), f"no zeros at {offset}"
    data = os.lseek(file.fileno(), 0, os.SEEK_DATA)
    assert data <= 32 * MIB, f"SEEK_DATA jumped over the data to {data}"
    file.seek(32 * MIB)
    assert file.read(6000) == b"island" * 1000, "the data between the holes changed"
    print(f"64 MiB in {used} bytes, data found from {data}")
