"""Trees for tests, and a child process to collect them in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

from pexen.errors import PexenError

CHILD = """
import importlib, os, sys
function, answer = sys.argv[1:3]
module, _, name = function.partition(":")
given = sys.stdin.read()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
said = getattr(importlib.import_module(module), name)(given)
with open(answer + ".new", "w") as file:
    file.write(said)
os.rename(answer + ".new", answer)
os._exit(0)
"""


def plant(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write files; what begins with ``#!`` or ends in ``.sh`` is executable. Text is dedented."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = dedent(content[1:]) if isinstance(content, str) and content.startswith("\n ") else content
        data = text if isinstance(text, bytes) else text.encode()
        file.write_bytes(data)
        if name.endswith(".sh") or data.startswith(b"#!"):
            file.chmod(0o755)
    return root


def isolate(function: str, argument: str, limit: float, /) -> str:
    """Do what `pexen.factory.collect.Isolate` asks for, with a new interpreter each time."""
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/errors", "w") as errors:
        answer = f"{folder}/answer"
        command = [sys.executable, "-c", CHILD, function, answer]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=errors, stderr=errors, env=environ, start_new_session=True, text=True
        )
        try:
            child.stdin.write(argument)
            child.stdin.close()
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if not os.path.exists(answer):
            raise PexenError(f"ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}")
        return Path(answer).read_text()


def paths(tasks) -> list[str]:
    """Return the paths of tasks."""
    return [task.path for task in tasks]
