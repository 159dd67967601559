"""One folder that several tasks share: two change it and claim it, two read it and use it.

The accounts always hold 100 together, except for a moment while a transfer is under way. Without the locks an audit
would sooner or later look in that moment.
"""

import json
import shutil
import tempfile
import time
from pathlib import Path

import pexen

TOTAL = 100


@pexen.task(provides="accounts")
def create():
    """Make the folder and hand its place to those that require it."""
    folder = tempfile.mkdtemp(prefix="pexen-system-")
    for account, amount in (("alice", TOTAL), ("bob", 0)):
        Path(folder, account).write_text(str(amount))
    return folder


def settle(accounts):
    """Put right what a transfer has left that was killed in the middle, with its run: this is where that goes on."""
    alice, bob = Path(accounts, "alice"), Path(accounts, "bob")
    if not alice.read_text():
        alice.write_text(str(TOTAL - int(bob.read_text())))
    bob.write_text(str(TOTAL - int(alice.read_text())))


def transfer(accounts, giver, taker):
    settle(accounts)
    for _ in range(20):
        for account, change in ((giver, -1), (taker, +1)):
            file = Path(accounts, account)
            file.write_text(str(int(file.read_text()) + change))
            time.sleep(0.002)  # long enough that an audit without a lock would see 99


@pexen.task(requires="accounts", claims="accounts folder")
def deposit(accounts):
    """Move 20 from alice to bob."""
    transfer(accounts, "alice", "bob")


@pexen.task(requires="accounts", claims="accounts folder")
def withdraw(accounts):
    """Move 20 from bob to alice."""
    transfer(accounts, "bob", "alice")


def total(accounts):
    """The accounts are complete whenever nobody is changing them."""
    for _ in range(20):
        amounts = {file.name: int(file.read_text()) for file in Path(accounts).iterdir()}
        assert sum(amounts.values()) == TOTAL, f"seen in the middle of a transfer: {json.dumps(amounts)}"
        time.sleep(0.001)


# The same function twice: a task is a value, and takes the name it is given here.
audit = pexen.Task(total, requires="accounts", uses="accounts folder")
second_audit = pexen.Task(total, requires="accounts", uses="accounts folder")


@pexen.task(requires="accounts", after={deposit, withdraw, audit, second_audit}, cleanup=True)
def remove(accounts):
    """Take the folder away when everybody is done with it."""
    shutil.rmtree(accounts, ignore_errors=True)  # some of it may be gone, if the run was killed here
