"""Facts: what is known of the machine, for conditions, factories and people.

Each fact is found out when first asked for and then kept, without starting a process. ``Facts.of(os="linux",
cpus=4)`` puts some of them in place of the truth, for tests and for "what would run there".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pexen.errors import nearest
from pexen.model.cpus import usable_cpus


class Found(Collection[str]):
    """A set that looks for a name when it is asked for, and remembers; iterates over what has been found so far."""

    def __init__(self, look: Callable[[str], bool], known: Mapping[str, bool] | None = None) -> None:
        self._look = look
        self._known = dict(known or {})

    def __contains__(self, name: object) -> bool:
        """Tell whether it exists."""
        if not isinstance(name, str):
            return False
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names that were looked for and exist."""
        return iter(sorted(name for name, exists in self._known.items() if exists))

    def __len__(self) -> int:
        """Return how many were looked for and exist."""
        return sum(self._known.values())


class Facts:
    """An immutable view of the machine; attributes are the facts that ``docs/conditions.md`` lists.

    ``os`` (``linux``), ``distro`` (``debian``), ``version`` (of the distribution), ``kernel`` (``6.1.0-18-amd64``),
    ``arch`` (``x86_64``), ``cpus`` (that this process may use), ``memory`` (bytes, at most what its cgroup allows),
    ``user``; ``env`` is a mapping, and ``commands`` and ``files`` are sets to be asked with ``in``. Picklable; may be
    used from any thread.
    """

    __slots__ = ("_known",)

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_known", dict(known or {}))

    @classmethod
    def of(cls, **given: Any) -> Facts:
        """Return facts of which some are made up; ``commands`` and ``files`` are any collections of names."""
        for name in given:
            if name not in FACTS:
                raise TypeError(f"there is no fact {name!r}; {nearest(name, FACTS) or ', '.join(FACTS)}")
        return cls(given)

    def gather(self) -> dict[str, Any]:
        """Return every fact that is a plain value, found out now."""
        return {name: getattr(self, name) for name in FACTS if name not in {"env", "commands", "files"}}

    def given(self) -> dict[str, Any]:
        """Return what is known by now and can be written as JSON."""
        return {name: value for name, value in self._known.items() if isinstance(value, str | int | list | dict)}

    def __getattr__(self, name: str) -> Any:
        """Find a fact out when it is asked for."""
        find = FACTS.get(name)
        if find is None:
            raise AttributeError(f"there is no fact {name!r}; {nearest(name, FACTS)}")
        if name not in self._known:
            self._known[name] = find()
        return self._known[name]

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: facts are facts."""
        raise AttributeError(f"facts cannot be changed; Facts.of({name}=…) makes others")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what is known by now."""
        return (Facts, (self._known,))

    def __repr__(self) -> str:
        """Show what is known by now."""
        return f"Facts({', '.join(sorted(self._known))})"


def _release(key: str) -> str:
    """Return an entry of os-release(5), or an empty string."""
    for file in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(file, encoding="utf-8", errors="replace") as lines:
                found = dict(line.rstrip().partition("=")[::2] for line in lines)
        except OSError:
            continue
        return found.get(key, "").strip("\"'").lower()
    return ""


def _memory() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(file) as limit:
                total = min(total, int(limit.read()))
        except (OSError, ValueError):  # no such cgroup, or "max"
            continue
    return total


def _user() -> str:
    if os.geteuid() == 0:
        return "root"
    import pwd  # only asked for by few conditions

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _has_command(name: str) -> bool:
    folders = [""] if "/" in name else os.environ.get("PATH", os.defpath).split(os.pathsep)
    return bool(name) and any(_is_command(os.path.join(folder, name)) for folder in folders)


def _is_command(file: str) -> bool:
    return os.path.isfile(file) and os.access(file, os.X_OK)


def _exists(file: str) -> bool:
    try:
        return os.path.exists(os.path.expanduser(file))
    except ValueError:  # a NUL
        return False


FACTS: dict[str, Callable[[], Any]] = {
    "os": lambda: os.uname().sysname.lower(),  # noqa: PLW0108 - uname() is to be asked then, not now
    "distro": lambda: _release("ID"),
    "version": lambda: _release("VERSION_ID"),
    "kernel": lambda: os.uname().release,
    "arch": lambda: os.uname().machine,
    "cpus": usable_cpus,
    "memory": _memory,
    "user": _user,
    "env": lambda: dict(os.environ),
    "commands": lambda: Found(_has_command),
    "files": lambda: Found(_exists),
}
"""Every fact, and how it is found out."""
