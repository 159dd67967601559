#!/usr/bin/env python3
# A blocked signal waits: ten of one kind arrive as one, and only when it is let in.
import os
import signal

arrived: list[int] = []
signal.signal(signal.SIGUSR1, lambda number, _: arrived.append(number))

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
for _ in range(10):
    os.kill(os.getpid(), signal.SIGUSR1)
assert arrived == [], f"{len(arrived)} signals passed the mask"
assert signal.sigpending() == {signal.SIGUSR1}, f"pending: {signal.sigpending()}"

signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
assert arrived == [signal.SIGUSR1], f"{len(arrived)} signals arrived instead of one"
assert signal.sigpending() == set(), f"still pending: {signal.sigpending()}"
