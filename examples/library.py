"""pexen as a library: values, a lock, a command, a failure and what it takes along, tasks added while others run."""

import pexen

ledger = {"balance": 0}


@pexen.task(provides="amounts")
def read():
    return [30, -10, 5]


@pexen.task(requires="amounts", provides="total")
def add_up(amounts):  # receives what `read` returned, by the name it provides
    return sum(amounts)


@pexen.task
def broken():
    assert ledger["balance"] > 1_000_000, "we are not rich"


@pexen.task(requires={broken})
def celebrate():
    raise SystemExit("nobody gets here: what it requires has failed")


def book(amount):
    balance = ledger["balance"]  # reading and writing are two steps: without the lock, bookings could be lost
    ledger["balance"] = balance + amount


greet = pexen.command("echo hello from $(basename /bin/sh)", path="greet", timeout="10s")
sched = pexen.Sched([celebrate, broken, add_up, read, greet], pool=pexen.LocalPool(capture=True))  # in any order

results = {}
for result in sched.run():
    results[result.path] = result
    print(f"{result.status:8} {result.path:10} {result.value or result.reason or result.error or ''}")
    if result.path == "read":  # one more task for each amount, known only now
        for number, amount in enumerate(result.value):
            sched.add([pexen.Task(book, path=f"book/{number}", args=(amount,), claims="ledger")])

print(f"{len(results)} results, {ledger['balance']} booked, {results['add_up'].value} expected")
