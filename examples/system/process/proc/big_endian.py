#!/usr/bin/env python3
# Network byte order is the byte order of this machine. Only on a mainframe: everywhere else the task is skipped,
# and says what the machine lacks.
#
# /// pexen
# host = ["arch:s390x"]
# ///
import struct
import sys

assert sys.byteorder == "big", sys.byteorder
assert struct.pack("=I", 0x01020304) == struct.pack("!I", 0x01020304) == bytes([1, 2, 3, 4])
