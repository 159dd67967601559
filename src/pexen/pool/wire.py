"""Frames: how a pool and its worker processes talk over a private stream socket each.

A frame is a head and a payload. The head is the payload's length, the same number masked, a checksum, the attempt's id
and the kind. The masked length is what garbage is recognised by at once: a task may print whatever it likes on every
descriptor it finds, and a made-up length must not keep the reader waiting for bytes that never come. The checksum covers
id, kind and payload. After the first damaged frame nothing of a stream is believed any more.

Runner to worker, the trusted direction, carries pickles and marshalled tuples. Worker to runner carries numbers, text
and opaque bytes; the runner unpickles none of it.

======== ========= ===================================================================================================
settings to worker marshal: a dict, see `pexen.pool.ship`
function to worker marshal: how to get the callable with number ``id``, see `pexen.pool.ship`
enclose  to worker path of the cgroup to move to
forget   to worker the functions sent so far are not wanted any more
run      to worker `RUN`, the task's path, and pickled (args, kwargs, layers of shared, units) or nothing
recall   to worker marks the place in the stream up to which attempts without a token were taken back
answer   to worker what the attempt is answered that has asked for a restart, or to add tasks: nothing, or why not
teardown to worker the service that is up is to end
hello    to runner ready
result   to runner `END` and parts; without any part the attempt passed and returned None
up       to runner a service has started: the parts of its value and shared dict
say      to runner JSON: a verb and its argument, see `pexen.model.control`, or tasks, see `pexen.model.added`
left     to runner the attempt was not run, there was no token for it
drained  to runner the mark has been reached, new attempts may come
======== ========= ===================================================================================================

Imports little, since what workers import decides how long they take to start.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

TYPE_CHECKING = False  # typing itself would take as long to import as everything else in a worker
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Bytes = bytes | bytearray
    Frame = tuple[int, int, Bytes]

SETTINGS, FUNCTION, FORGET, RUN_IT, RECALL, HELLO, RESULT, SAY, LEFT, DRAINED, ENCLOSE, ANSWER = range(1, 13)
UP, TEAR_DOWN = range(13, 15)

LINEAGE = "PEXEN_LINEAGE"
"""As in `pexen.pool.tree`, which workers do not import."""

HEAD = Struct("<IIIQB")
LONGEST = 0xFFFFFFFF
"""Bytes in the longest payload."""
_MASK = 0x70657865
_LOW = 0xFFFFFFFF

RUN = Struct("<IIIBI")
"""Number of the function, number of the attempt (from 1), restarts before it, what the call makes, bytes of the path."""
COROUTINE, GENERATOR, EXPANDS = 1, 2, 4
"""What a call may make that is to be run, otherwise it gives the value; and whether that is a list of tasks to add."""
END = Struct("<Bdd")
"""Flags; start and duration in seconds of the monotonic clock, which all processes of a machine share."""
DEPS_OK, LOCKS_BAD, LEAVING, LEAKING, HAS_DIR = 1, 2, 4, 8, 16
"""Flags. ``LEAKING``: children are left, and the worker waits to be ended with them."""
STATUS, VALUE, SHARED, TYPE, MESSAGE, TRACEBACK, CARRIED, REASON, OUTPUT = range(1, 10)
"""Parts of a result. A result without `STATUS` has passed."""
_PART = Struct("<BI")


def frame(kind: int, id: int, payload: bytes = b"", tail: bytes = b"") -> bytes:  # noqa: A002 - the attempt's id, as everywhere
    """Return one frame with the payload and its ``tail``. Raises ValueError when they are longer than `LONGEST`."""
    length = len(payload) + len(tail)
    if length > LONGEST:
        raise ValueError(f"{length} bytes are more than a frame can carry")
    check = crc32(payload, (id ^ id >> 32) & _LOW ^ kind)
    if not tail:
        return HEAD.pack(length, length ^ _MASK, check, id, kind) + payload
    return b"".join((HEAD.pack(length, length ^ _MASK, crc32(tail, check), id, kind), payload, tail))


class Reader:
    """Cuts a stream into frames. ``damaged`` is true once something that is no frame was found.

    A payload is bytes, or a bytearray when it came in several pieces; large ones are copied as seldom as possible.
    """

    __slots__ = ("_missing", "_rest", "damaged")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._missing = 0
        self.damaged = False

    @property
    def wanted(self) -> int:
        """How many bytes to read next: no more than usually come at once, since memory for them is set aside."""
        return 1 << 18 if self._rest and self._missing > 1 << 16 else 1 << 16

    def feed(self, data: Bytes) -> list[Frame]:
        """Take the next bytes; return the frames that are complete now, each as kind, id, payload."""
        if self._rest:
            self._rest += data
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data, self._rest = self._rest, bytearray()
        found: list[Frame] = []
        if not self.damaged:
            at = self._cut(data, found)
            if at < len(data):
                self._rest += data[at:]
        return found

    def _cut(self, data: Bytes, found: list[Frame]) -> int:
        """Append the frames in ``data``; return where the first incomplete one starts."""
        at, end, size = 0, len(data), HEAD.size
        while at + size <= end:
            length, masked, check, id_, kind = HEAD.unpack_from(data, at)
            if length ^ _MASK != masked:
                self.damaged = True
                return end
            stop = at + size + length
            if stop > end:
                self._missing = stop - end
                return at
            payload = data[at + size : stop]
            if crc32(payload, (id_ ^ id_ >> 32) & _LOW ^ kind) != check:
                self.damaged = True
                return end
            found.append((kind, id_, payload))
            at = stop
        self._missing = at + size - end
        return at


def lineage_of_worker(outer: str, pid: int) -> str:
    """Return what stands in a worker's environment to say whose it is; ``outer`` is what the runner has there."""
    return f"{outer}/w.{pid}" if outer else f"w.{pid}"


def pack_parts(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the parts as bytes, each behind its number and its length."""
    return b"".join([piece for number, data in parts for piece in (_PART.pack(number, len(data)), data)])


def unpack_parts(payload: Bytes, at: int) -> dict[int, bytes]:
    """Return the parts that stand in ``payload`` from ``at``. Raises ValueError when they are cut."""
    parts, view = {}, memoryview(payload)
    while at < len(payload):
        if at + _PART.size > len(payload):
            raise ValueError("a part is cut")
        number, length = _PART.unpack_from(payload, at)
        at += _PART.size + length
        if at > len(payload):
            raise ValueError("a part is cut")
        parts[number] = bytes(view[at - length : at])
    return parts


def encoded(text: str) -> bytes:
    """Return text as bytes, whatever it is made of: names of files may hold lone surrogates."""
    return str(text).encode("utf-8", "surrogatepass")


def decoded(data: Bytes) -> str:
    """Return what `encoded` was given."""
    return data.decode("utf-8", "surrogatepass")


def dumps(value: Any) -> bytes:
    """Pickle a value for another process of this program.

    What refers to ``__main__`` goes by value, since that module is another one over there: by cloudpickle, which costs
    30 ms to import and is therefore only asked when the plain way does not do. Raises whatever the value's code raises.
    """
    import _pickle

    try:
        data = _pickle.dumps(value, 5)
    except Exception:  # noqa: S110 - lambdas, local classes: perhaps cloudpickle can; if not, its error is the one shown
        pass
    else:
        if b"__main__" not in data:
            return data
    import cloudpickle

    pickled: bytes = cloudpickle.dumps(value, 5)
    return pickled


def loads(data: bytes | memoryview) -> Any:
    """Unpickle, in a worker. Raises whatever the value's code raises."""
    import _pickle

    return _pickle.loads(data)
