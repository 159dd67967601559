"""Programs for test_streams.py, started as ``python -m tests.real.reader PROGRAM ARGUMENTS``.

``read STREAM``: reads a pickled stream (hex); says each path, with a star when it is redelivered, then waits to be told what to
do with it. ``many METHOD``: a run whose results two processes read, started by that method of multiprocessing. ``run``: a run
that says where its stream is, and when it is told to, forks and says which process that is.
"""

import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading

from pexen import PexenError, Sched, Task, ThreadPool


def say(text):
    print(text, flush=True)


def nothing():
    pass


def read(stream):
    try:
        reader = iter(pickle.loads(bytes.fromhex(stream)))
        for result in reader:
            say(result.path + "*" * result.redelivered)
            if (told := sys.stdin.readline().strip()) == "close":
                reader.close()
                break
            if told == "raise":
                raise ZeroDivisionError
            if told == "break":
                break
        else:
            say("end")
    except PexenError as error:
        say(f"error: {error.headline}")


def tell(stream, connection):
    connection.send([(result.path, result.redelivered, result.value) for result in stream])


def many(method):
    context = multiprocessing.get_context(method)
    gate = threading.Event()
    tasks = [Task(gate.wait, "gate"), *(Task(nothing, f"t{number}") for number in range(500))]
    run = Sched(tasks, pool=ThreadPool(2)).start()
    with run.stream() as stream:
        ends = [context.Pipe(duplex=False) for _ in range(2)]
        processes = [context.Process(target=tell, args=(stream, theirs)) for _, theirs in ends]
        for process in processes:
            process.start()
        gate.set()
        found = [ours.recv() for ours, _ in ends]
        for process in processes:
            process.join()
    say(json.dumps({"found": found, "exits": [process.exitcode for process in processes]}))


def run():
    gate = threading.Event()
    run = Sched([Task(nothing, "t"), Task(gate.wait, "gate")], pool=ThreadPool(2)).start()
    say(pickle.dumps(run.stream()).hex())
    sys.stdin.readline()
    child = os.fork()
    if child:
        say(child)
    signal.pause()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
