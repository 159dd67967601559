#!/usr/bin/env python3
# GNU tar unpacks what Python's tarfile wrote, in each of its formats, and finds no difference to the files.
#
# /// pexen
# host = ["cmd:tar"]
# ///
import subprocess
import tarfile
import tempfile
from pathlib import Path

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}

with tempfile.TemporaryDirectory(prefix="pexen-system-") as scratch:
    tree = Path(scratch, "tree")
    tree.mkdir()
    for size in (0, 1, 511, 512, 513, 10_240):  # around the block sizes of the format
        (tree / f"{size}.bin").write_bytes(b"x" * size)
    (tree / "link").symlink_to("1.bin")

    for form, number in FORMATS.items():
        archive = Path(scratch, form + ".tar")
        with tarfile.open(archive, "w", format=number) as tar:
            tar.add(tree, arcname=".")
        unpacked = Path(scratch, form)
        unpacked.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", unpacked], check=True)
        subprocess.run(["diff", "-r", "--no-dereference", tree, unpacked], check=True)
        compared = subprocess.run(
            ["tar", "--compare", "-f", archive, "-C", tree], capture_output=True, text=True, check=False
        )
        # Only pax has fractions of a second; a time that differs is not what this is about.
        problems = (compared.stdout + compared.stderr).splitlines()
        assert all("time differs" in line for line in problems), f"{form}: {problems}"
