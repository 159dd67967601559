#!/usr/bin/env python3
# A mode of 000 keeps others out, and root only as long as it is root.
import os
import sys
import tempfile
from pathlib import Path

NOBODY = 65534


def ordinary_user_sees(folder: int) -> int:
    """Run in the child: 0 is as expected, 77 cannot be tested here."""
    if os.getuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError as error:
            print(f"cannot become an ordinary user here: {error}")
            return 77
    # Relative to an open folder, so that the modes of the folders above do not matter.
    os.close(os.open("open", os.O_RDONLY, dir_fd=folder))
    try:
        os.open("closed", os.O_RDONLY, dir_fd=folder)
    except PermissionError:
        return 0
    print(f"uid {os.getuid()} opened a file of mode 000")
    return 1


with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
    os.chmod(scratch, 0o755)
    for name, mode in (("open", 0o644), ("closed", 0o000)):
        path = Path(scratch, name)
        path.write_text("content")
        path.chmod(mode)
    folder = os.open(scratch, os.O_RDONLY)
    if (child := os.fork()) == 0:
        code = 1
        try:
            code = ordinary_user_sees(folder)
        except OSError as error:
            print(f"uid {os.getuid()} could not read a file of mode 644: {error}")
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
