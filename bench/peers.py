"""What people use today for the same work: the simplest correct code that a competent user would write.

``python bench/peers.py CASE N [FOLDER]`` does the work once and prints its seconds; FOLDER is what `trees` has written.
Where the work is done in this process, the clock runs from before the graph is built until every result has been seen
and the workers are gone; imports are done before. Where another program does it, the clock runs around that program.
"""

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from time import perf_counter

from graphs import FAN, LOCKS, layers, pairs
from measure import executable, since, whole_process
from trees import forget

FOLDER = Path(sys.argv[3] if len(sys.argv) > 3 else ".")


def noop(*_):
    """Do nothing."""


def independent_executor(n):
    begin = perf_counter()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(noop) for _ in range(n)]
        count = sum(future.result() is None for future in as_completed(futures))
    return since(begin, n, count)


def sleeps_gather(n):
    import asyncio

    async def sleeper():
        await asyncio.sleep(0.01)

    async def main():
        return await asyncio.gather(*(sleeper() for _ in range(n)))

    begin = perf_counter()
    count = sum(value is None for value in asyncio.run(main()))
    return since(begin, n, count)


def in_order(graph):
    """Run a graph in two threads: the example in graphlib's documentation, with an executor for its workers."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    done = SimpleQueue()

    def work(name):
        noop()
        return name

    count = 0
    with ThreadPoolExecutor(2) as pool:
        while sorter.is_active():
            for name in sorter.get_ready():
                pool.submit(work, name).add_done_callback(done.put)
            sorter.done(done.get().result())
            count += 1
    return count


def layers_graphlib(n):
    begin = perf_counter()
    graph, above = {}, []
    for number, size in enumerate(layers(n, 100)):
        row = [(number, place) for place in range(size)]
        for place, name in enumerate(row):
            graph[name] = [above[place - left] for left in FAN] if above else []
        above = row
    return since(begin, n, in_order(graph))


def layers_dask(n):
    from dask.threaded import get

    begin = perf_counter()
    graph, above = {}, []
    for number, size in enumerate(layers(n, 100)):
        row = [("task", number, place) for place in range(size)]
        for place, name in enumerate(row):
            graph[name] = (noop, *(above[place - left] for left in FAN)) if above else (noop,)
        above = row
    values = get(graph, list(graph), num_workers=2)
    return since(begin, n, len(values))


def chain_graphlib(n):
    begin = perf_counter()
    graph = {number: [number - 1] if number else [] for number in range(n)}
    return since(begin, n, in_order(graph))


def one_lock_executor(n):
    lock = Lock()

    def work():
        with lock:
            noop()

    begin = perf_counter()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work) for _ in range(n)]
        count = sum(future.result() is None for future in as_completed(futures))
    return since(begin, n, count)


def random_pairs_executor(n):
    wanted = pairs(n)
    locks = [Lock() for _ in range(LOCKS)]

    def work(first, second):
        if first > second:
            first, second = second, first  # always in the same order, so that nobody waits for each other
        with locks[first], locks[second]:
            noop()

    begin = perf_counter()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work, first, second) for first, second in wanted]
        count = sum(future.result() is None for future in as_completed(futures))
    return since(begin, n, count)


def processes_pool(n):
    begin = perf_counter()
    with multiprocessing.Pool(2) as pool:
        count = sum(value is None for value in pool.imap_unordered(noop, range(n), chunksize=1))
    return since(begin, n, count)


def processes_executor(n):
    begin = perf_counter()
    with ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(noop) for _ in range(n)]
        count = sum(future.result() is None for future in as_completed(futures))
    return since(begin, n, count)


def commands_make(_n):
    return whole_process([executable("make"), "-j2"], FOLDER)


def tree_ninja(n):
    return whole_process([executable("ninja"), "-j2"], FOLDER, expect=f"[{n}/{n}]")


def talkers_ctest(n):
    return whole_process([executable("ctest"), "-j2"], FOLDER, expect=f"0 tests failed out of {n}")


def million_ninja(n):
    return whole_process([executable("ninja"), "-n"], FOLDER, expect=f"[{n}/{n}]")


def help_python(n):
    return whole_process([sys.executable, "-I", "-c", "pass"], FOLDER, repeat=n)


def single_lit(n):
    return whole_process([executable("lit"), "tree"], FOLDER, expect="Passed: 1", repeat=n)


if __name__ == "__main__":
    forget(FOLDER)
    print(json.dumps(globals()[sys.argv[1]](int(sys.argv[2]))))
