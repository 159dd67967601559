"""The layers of pexen: who may import whom, and who may touch clocks, threads and signals.

Every import statement counts, wherever it stands: inside functions and under TYPE_CHECKING too, since a type that a
layer talks about is something it knows. Strings given to ``import_module`` count as well. The rules are tables; the
second half of this file feeds made-up violations to the checker and wants to see each one found.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "pexen"

LAYERS = {
    "errors": 1,
    "model": 2,
    "core": 3,
    "pool": 3,
    "state": 3,
    "factory": 3,
    "sched": 4,
    "report": 5,
    "usecase": 6,
    "web": 7,
    "cli": 8,
    "testing": 9,  # shipped for users' tests: may import everything, is imported by nobody
}
TOP = {"pexen", "pexen.__main__"}
"""The facade names everything, and nobody below may import it."""

ONLY = {
    # Reporters and the dashboard are fed by the journal's events alone, so that they work live and afterwards.
    "report": ("errors", "model", "state.reader"),
    "web": ("errors", "model", "state.reader", "state.history"),
}
"""Packages that may import less than their layer would allow."""

FORBIDDEN = {
    # The planner gives the same answers to the same verbs: it sees no clock, no thread, no machine.
    "core": {"time", "threading", "_thread", "os", "posix", "logging"},
}
"""Modules outside pexen that a package may not import."""

FACADE_NAMES = {"__version__"}
"""What may be imported from ``pexen`` itself: nothing that has a home of its own below."""

SIGNALS = {"cli", "usecase", "pool.worker", "pool.tidy"}
"""Who may install signal handlers: whole programs, and the worker (with what tidies it up), a process of its own."""

SIGNAL_MODULES = {"signal", "_signal"}
INSTALLERS = {"signal", "set_wakeup_fd", "siginterrupt"}


class Import(NamedTuple):
    """One imported module, or a name in it: ``from a import b`` may be either, so ``a.b`` is what is kept."""

    module: str
    line: int


def imports_of(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[Import]:
    """Yield everything a module imports, with relative imports made absolute."""
    around = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = around[: len(around) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (Import(f"{start}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield Import(named.value, node.lineno)


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what is wrong with one module of pexen, a sentence each."""
    if module in TOP:
        return []
    tree = ast.parse(source)
    inside = module.removeprefix("pexen.")
    package = inside.partition(".")[0]
    if package not in LAYERS:
        return [f"{module}: {package!r} has no layer; give it one in {Path(__file__).name}"]
    found = []
    for imported, line in imports_of(tree, module, is_package=is_package):
        wrong = _wrong_import(package, imported)
        if wrong:
            found.append(f"{module}:{line}: {wrong}")
    if not any(_within(inside, place) for place in SIGNALS):
        found += [f"{module}:{line}: installs a signal handler" for line in _handlers(tree)]
    return found


def _wrong_import(package: str, imported: str) -> str:
    outside = imported.partition(".")[0]
    if outside != "pexen":
        return f"{package} may not import {outside}" if outside in FORBIDDEN.get(package, ()) else ""
    target = imported.removeprefix("pexen").lstrip(".")
    other = target.partition(".")[0]
    if other == package:
        return ""
    if other not in LAYERS:
        return "" if target in FACADE_NAMES else f"{package} may not import pexen itself ({imported})"
    if other == "testing":
        return f"{package} may not import testing"
    if package in ONLY and not any(_within(target, allowed) for allowed in ONLY[package]):
        return f"{package} may import only {', '.join(ONLY[package])}, not {imported}"
    if LAYERS[other] == LAYERS[package]:
        return f"{package} and {other} must not know each other"
    if LAYERS[other] > LAYERS[package]:
        return f"{package} is below {other} and may not import it"
    return ""


def _within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def _called(node: ast.Call) -> str:
    called = node.func
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _handlers(tree: ast.AST) -> list[int]:
    """Return the lines that install signal handlers, by whatever name the module ``signal`` goes there."""
    modules, lines = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name in SIGNAL_MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in SIGNAL_MODULES:
            lines += [node.lineno for alias in node.names if alias.name in INSTALLERS | {"*"}]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_signal = isinstance(node.value, ast.Name) and node.value.id in modules
            if node.attr == "add_signal_handler" or (of_signal and node.attr in INSTALLERS):
                lines.append(node.lineno)
    return lines


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the name and the file of every module of pexen."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def test_every_module_keeps_to_its_layer() -> None:
    found = [
        wrong
        for module, file in modules()
        for wrong in violations(module, file.read_text(), is_package=file.stem == "__init__")
    ]
    assert not found, "\n".join(found)


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"util", "utils", "common", "helpers", "misc"}
    assert not [module for module, _ in modules() if drawers & set(module.split("."))]


def test_the_checker_sees_the_package() -> None:
    seen = {module for module, _ in modules()}
    assert {"pexen", "pexen.errors", "pexen.model.task"} <= seen


# -- the checker itself -----------------------------------------------------------------------------------------------

RED = {
    "upwards": ("pexen.model.task", "import pexen.core.planner", "model is below core"),
    "upwards, from": ("pexen.core.planner", "from pexen.sched import sched", "core is below sched"),
    "upwards from the package": ("pexen.pool", "from pexen.cli.main import main", "pool is below cli"),
    "sideways": ("pexen.core.planner", "from pexen.pool.base import Pool", "core and pool must not know each other"),
    "sideways, package from pexen": ("pexen.factory.base", "from pexen import pool", "factory and pool must not"),
    "sideways, state": ("pexen.state.journal", "import pexen.core.graph as g", "state and core must not know"),
    "relative": ("pexen.core.planner", "from ..pool import base", "core and pool must not know each other"),
    "relative, bare": ("pexen.core.planner", "from .. import factory", "core and factory must not know each other"),
    "in a function": ("pexen.errors", "def f():\n    from pexen.model import path", ":2: errors is below model"),
    "for typing only": (
        "pexen.model.task",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pexen.sched.sched import Sched",
        ":3: model is below sched",
    ),
    "in a try": ("pexen.core.ready", "try:\n    import threading\nexcept ImportError:\n    pass", ":2: core may not"),
    "by name": ("pexen.core.ready", "importlib.import_module('pexen.pool.base')", "core and pool must not know"),
    "the facade": ("pexen.pool.thread", "import pexen", "pool may not import pexen itself"),
    "a name of the facade": ("pexen.cli.main", "from pexen import Sched", "cli may not import pexen itself"),
    "testing": ("pexen.cli.main", "from pexen.testing import clock", "cli may not import testing"),
    "the journal from a report": ("pexen.report.html", "from pexen.state.journal import Journal", "report may import"),
    "the run from a report": ("pexen.report.html", "from pexen.sched.sched import Sched", "report may import only"),
    "the core from the dashboard": ("pexen.web.app", "from pexen.core import planner", "web may import only"),
    "a clock in the core": ("pexen.core.planner", "from time import monotonic", "core may not import time"),
    "os in the core": ("pexen.core.planner", "import os.path", "core may not import os"),
    "logging in the core": ("pexen.core.planner", "def f():\n    import logging", ":2: core may not import logging"),
    "the command line from a use case": (
        "pexen.usecase.suite",
        "from pexen.cli.isolate import isolate",
        "usecase is below cli",
    ),
    "a handler": ("pexen.sched.sched", "import signal\nsignal.signal(2, f)", ":2: installs a signal handler"),
    "a wake-up descriptor": ("pexen.pool.process", "import signal as s\ns.set_wakeup_fd(3)", ":2: installs"),
    "a handler behind the scenes": ("pexen.pool.process", "import _signal\n_signal.signal(2, f)", ":2: installs"),
    "a handler by its own name": ("pexen.report.console", "from signal import signal as on", ":1: installs"),
    "a handler without a call": ("pexen.sched.sched", "import signal\nf = signal.signal", ":2: installs"),
    "a handler on a loop": ("pexen.pool.coroutine", "loop.add_signal_handler(2, f)", ":1: installs"),
    "a handler in the dashboard": ("pexen.web.app", "import signal\nsignal.signal(2, f)", ":2: installs"),
    "a package without layer": ("pexen.extra.thing", "", "'extra' has no layer"),
}

GREEN = {
    "downwards": ("pexen.sched.sched", "from pexen.core.planner import Planner\nfrom pexen.pool import base"),
    "its own package": ("pexen.pool.local", "from pexen.pool.thread import ThreadPool\nfrom . import base"),
    "errors from everywhere": ("pexen.core.planner", "from pexen.errors import InternalError"),
    "the reader from a report": ("pexen.report.html", "from pexen.state.reader import read\nimport pexen.model.result"),
    "another's time": ("pexen.core.planner", "from pexen.model import time"),
    "the version": ("pexen.cli.main", "from pexen import __version__"),
    "os outside of the core": ("pexen.pool.command", "import os, threading, time"),
    "a handler on the command line": ("pexen.cli.main", "import signal\nsignal.signal(2, f)"),
    "a handler in a use case": ("pexen.usecase.signals", "import signal\nsignal.signal(2, f)"),
    "a handler in a worker": ("pexen.pool.worker", "import signal\nsignal.signal(2, signal.SIG_IGN)"),
    "signals that are only sent": ("pexen.pool.tree", "import signal\nos.kill(1, signal.SIGKILL)"),
    "a method called signal": ("pexen.sched.mailbox", "self.bell.signal()"),
    "the facade itself": ("pexen", "from pexen.sched.sched import Sched\nimport signal\nsignal.signal(2, f)"),
    "testing": ("pexen.testing.simulator", "from pexen.core import planner\nfrom pexen.sched import sched"),
}


@pytest.mark.parametrize(("module", "source", "said"), RED.values(), ids=RED)
def test_the_checker_finds(module: str, source: str, said: str) -> None:
    found = violations(module, source, is_package=module.count(".") == 1 and module != "pexen.errors")
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(("module", "source"), GREEN.values(), ids=GREEN)
def test_the_checker_leaves_alone(module: str, source: str) -> None:
    assert violations(module, source) == []
