"""How many CPUs this process may use: the default number of workers, and a fact that conditions ask for."""

from __future__ import annotations

import os

from pexen.errors import PoolError


def workers_of(wanted: float | None, default: int | None = None) -> int:
    """Return how many workers a pool is to have: ``default``, or the usable CPUs, where nobody says. Raises `PoolError`."""
    if wanted is None:
        return default or usable_cpus()
    if not isinstance(wanted, int) or wanted < 1:
        raise PoolError(
            f"workers is a whole number of 1 or more, not {wanted!r}", hint="without it there are as many as fit"
        )
    return wanted


def usable_cpus() -> int:
    """Return the number of CPUs this process may use: affinity, and the quota of its cgroup, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    for file, period_file in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        try:
            with open(file) as quota_file:
                words = quota_file.read().split()
            if period_file:
                with open(period_file) as other:
                    words += other.read().split()
            if words[0] not in {"max", "-1"}:
                return max(1, min(cpus, -(-int(words[0]) // int(words[1]))))
        except (OSError, ValueError, IndexError):
            continue
    return cpus
