"""One task for each algorithm that coreutils and hashlib both know: a factory, with a parameter.

`pexen run examples/system/files/digest -D size=4096` checks more data.
"""

TOOLS = {"sha256": "sha256sum", "blake2b": "b2sum"}


def tasks(here):
    size = here.param("size", 64, type=int)  # KiB
    for algorithm, tool in TOOLS.items():
        yield here.command(["./compare.py", tool, algorithm, str(size)], path=algorithm, host={f"cmd:{tool}"})
