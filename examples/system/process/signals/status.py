#!/usr/bin/env python3
# wait() tells signals from exit codes, and a signal that exec inherits as ignored stays ignored.
#
# /// pexen
# tags = ["signals"]
# ///
import signal
import subprocess
import sys

WAIT_FOR_INPUT = "import sys; print('ready', flush=True); sys.stdin.read()"

for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
    child = subprocess.Popen([sys.executable, "-c", WAIT_FOR_INPUT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n", "the child did not start"
    child.send_signal(number)
    child.communicate(timeout=10)
    assert child.returncode == -number, f"{number.name}: the status says {child.returncode}"

exited = subprocess.run([sys.executable, "-c", f"raise SystemExit({128 + signal.SIGTERM})"], check=False)
assert exited.returncode == 143, f"exit code 143 was taken for {exited.returncode}"


def inherited(action: signal.Handlers) -> str:
    """Set the action for SIGUSR2, start a program, and return the action that it finds."""
    before = signal.signal(signal.SIGUSR2, action)
    ask = "import signal; print(signal.getsignal(signal.SIGUSR2).name)"
    try:
        return subprocess.check_output([sys.executable, "-c", ask], text=True).strip()
    finally:
        signal.signal(signal.SIGUSR2, before)


for action in (signal.SIG_IGN, signal.SIG_DFL):
    assert inherited(action) == action.name, f"a program started under {action.name} found {inherited(action)}"
found = inherited(lambda *_: None)
assert found == "SIG_DFL", f"a handler cannot survive exec, but the program found {found}"
