"""A real HTTP server: started before its clients, stopped after them.

Python clients receive what `httpd` returns as the parameter of that name; executables ask `lib/httpd.py address`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pexen

SCRIPT = Path(__file__).resolve().parents[2] / "lib" / "httpd.py"


def script(*args):
    done = subprocess.run([sys.executable, SCRIPT, *args], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, f"{SCRIPT.name} {args[0]}: see its output"
    return done.stdout


# First of all: what many wait for starts early, and the server is up no longer than it is needed.
defaults = dict(priority=-1)


# The timeout is for waiting until the server of another run of this suite is gone; otherwise it takes a moment.
@pexen.task(provides="httpd", timeout="2m")
def start():
    """The server answers on a free port of the loopback interface."""
    return json.loads(script("start"))


@pexen.task(requires="httpd", after="/net/http/clients", cleanup=True)
def stop(httpd):
    """The server ends when it is asked to, and leaves nothing behind."""
    script("stop", str(httpd["pid"]), httpd["born"])
