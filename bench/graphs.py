"""The shapes of the graphs, the same for us and for every peer."""

from functools import cache
from random import Random

FAN = (0, 1, 37)
"""A task of a layer requires those of the layer above at these distances to its left; a layer is a ring."""

LOCKS = 100


def layers(n: int, width: int) -> list[int]:
    """Return how many tasks each layer has."""
    return [min(width, n - start) for start in range(0, n, width)]


@cache
def pairs(n: int) -> list[tuple[int, int]]:
    """Return two different locks for each task, in any order; asked for once before the clock starts."""
    random = Random(5)
    return [tuple(random.sample(range(LOCKS), 2)) for _ in range(n)]
