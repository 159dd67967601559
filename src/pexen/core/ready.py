"""The queue of what is ready, best first: also of what is parked on a lock.

Entries are tuples that sort by priority, longest remaining path and order of addition. They mostly *arrive* in that
order (a batch is added sorted, a layer becomes ready in order), so the queue is a sorted run, to whose end such an entry
is appended in O(1), beside a heap for those that come out of order. The best entry is the better of two heads.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pexen.core.node import Node

Entry = tuple[float, float, int, "Node"]
_FEW = 16
"""Among so many times as many, each entry is put in its place by itself."""


class ReadyQueue:
    """Entries, best first. Hot loops read ``run`` and ``heap`` themselves."""

    __slots__ = ("heap", "run")

    def __init__(self) -> None:
        self.run: deque[Entry] = deque()
        self.heap: list[Entry] = []

    def __len__(self) -> int:
        return len(self.run) + len(self.heap)

    def push(self, entry: Entry) -> None:
        """Enter one."""
        run = self.run
        if not run or run[-1] < entry:
            run.append(entry)
        else:
            heappush(self.heap, entry)

    def extend(self, entries: list[Entry]) -> None:
        """Enter many at once."""
        entries.sort()
        if not self.run or (entries and self.run[-1] < entries[0]):
            self.run.extend(entries)
        elif len(entries) * _FEW < len(self.heap):
            for entry in entries:
                heappush(self.heap, entry)
        else:
            self.heap += entries
            heapify(self.heap)

    def first(self) -> Entry | None:
        """Return the best entry without taking it out."""
        run, heap = self.run, self.heap
        if run and not (heap and heap[0] < run[0]):
            return run[0]
        return heap[0] if heap else None

    def pop(self) -> Entry:
        """Take the best entry out."""
        run, heap = self.run, self.heap
        if run and not (heap and heap[0] < run[0]):
            return run.popleft()
        return heappop(heap)

    def remove(self, node: Node) -> None:
        """Take out the entries of one node: O(n), for what seldom happens."""
        if any(entry[3] is node for entry in self.run):
            self.run = deque(entry for entry in self.run if entry[3] is not node)
        if any(entry[3] is node for entry in self.heap):
            self.heap = [entry for entry in self.heap if entry[3] is not node]
            heapify(self.heap)

    def entries(self) -> Sequence[Entry]:
        """Return all entries, in no order, for checks."""
        return [*self.run, *self.heap]
