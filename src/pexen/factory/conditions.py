"""Conditions: ``when=`` (an expression on facts, or a callable) and ``host=`` (what the machine must have).

An expression is ``or`` / ``and`` / ``not`` over comparisons of facts (`pexen.factory.facts`) and literals::

    os == 'linux' and memory >= 2GiB and (kernel >= 5.10 or command('git')) and env('CI') != 'true'
    distro in ('debian', 'ubuntu') and 'HOME' in env and not file('/dev/kvm')

It is checked when it is read: unknown facts, comparisons that make no sense (``memory == 'much'``) and bad syntax are
errors with a column, at collection time. *Versions* (``version``, ``kernel``) are compared number by number, in as
many parts as were written: ``kernel >= 5.10`` holds for 5.15 although 5.1 is less, ``version == 22`` holds for 22.04.

The expression is parsed by hand instead of with `ast`: versions and sizes need no quotes, columns are right, and
there is nothing that a Python expression could do.
"""

from __future__ import annotations

import functools
import operator
import os.path
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pexen.errors import DefinitionError, nearest
from pexen.factory.base import raised
from pexen.factory.expression import Node, Parser, is_true
from pexen.factory.facts import FACTS, Facts
from pexen.model.task import Task

_UNITS = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_KINDS = dict.fromkeys(FACTS, "text") | {
    "version": "version", "kernel": "version", "cpus": "number", "memory": "number",
    "env": "set", "commands": "set", "files": "set",
}  # fmt: skip
_FUNCTIONS = {"command": "truth", "file": "truth", "env": "text"}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_WORDS = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<string>'[^']*'|\"[^\"]*\")"
    r"|(?P<open>['\"].*)"
    r"|(?P<number>\d[\d.]*(?:\s?(?:[KMGT]i?B|kB)\b|[A-Za-z]*))"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<op>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)",
    re.DOTALL,
)


class Operand(NamedTuple):
    """A side of a comparison: a ``fact``, a ``function`` that is asked about ``value``, or the ``value`` itself."""

    kind: str  # text, number, version, set, truth, list
    value: Any
    start: int
    fact: str = ""
    function: str = ""

    def of(self, facts: Facts) -> Any:
        """Return the operand's value on a machine."""
        if self.fact:
            return getattr(facts, self.fact)
        if self.function == "env":
            return facts.env.get(self.value, "")
        if self.function:
            return self.value in (facts.commands if self.function == "command" else facts.files)
        return self.value


class Comparison(NamedTuple):
    """``first op next op next …``, as in Python; without any pair the operand itself is the condition."""

    first: Operand
    pairs: tuple[tuple[str, Operand], ...]

    def holds(self, facts: Facts) -> bool:
        """Tell whether it is true on a machine."""
        if not self.pairs:
            return bool(self.first.of(facts))
        left = self.first
        for op, right in self.pairs:
            if not _compare(op, left.of(facts), right.of(facts), is_version="version" in {left.kind, right.kind}):
                return False
            left = right
        return True

    def facts(self) -> list[str]:
        """Return the facts it asks for."""
        return [operand.fact for operand in (self.first, *(right for _, right in self.pairs)) if operand.fact]


# -- what callers use ---------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1000)
def parse(text: str) -> Node:
    """Return a condition ready for use; raise `DefinitionError` that points at the mistake."""
    return Parser("when", text, _WORDS, _comparison).parse()


def check(when: Any, host: Iterable[str], where: str = "") -> None:
    """Raise `DefinitionError` when a condition, or what is asked of the host, has a mistake."""
    try:
        if isinstance(when, str):
            parse(when)
        for need in host:
            _need(need)
    except DefinitionError as error:
        if not where or error.where:
            raise
        raise DefinitionError(error.headline, where=where, facts=error.facts, hint=error.hint) from None


def holds(condition: Any, facts: Facts) -> tuple[bool, str]:
    """Tell whether ``when`` holds, and if it does not, why: the part that is false, and what is so instead.

    ``condition`` is an expression, a callable that takes `Facts`, or None. An exception of the callable becomes a
    `DefinitionError`.
    """
    if condition is None:
        return True, ""
    if isinstance(condition, str):
        node = parse(condition)
        false = _culprit(node, lambda leaf: bool(leaf.holds(facts)))
        return (True, "") if false is None else (False, _reason(condition, false, facts))
    shown = getattr(condition, "__name__", type(condition).__name__)
    try:
        answer = bool(condition(facts))
    except Exception as error:
        raise raised(f"the condition {shown}", error) from error
    return answer, "" if answer else f"the condition {shown} does not hold"


def missing(host: Iterable[str], facts: Facts) -> list[str]:
    """Return what the machine lacks, a readable reason each; empty when it has all of ``host``."""
    return [reason for need in host if (reason := _need(need)(facts))]


def gate(facts: Facts, ask: Callable[[Any], bool] | None = None) -> Callable[[Task], str | None]:
    """Return the function that is asked just before a task would start: why to skip it, or None to run it.

    ``ask`` decides callable conditions, `collect.asker` in a child process; without it they are called here. The
    function raises `DefinitionError` when a callable condition raises, and nothing else.
    """

    def reason_to_skip(task: Task) -> str | None:
        meta = task.meta
        if "host" in meta and (lacking := missing(task.host, facts)):
            return "; ".join(lacking)
        when = meta.get("when")
        if when is None:
            return None
        if ask is not None and not isinstance(when, str):
            good = ask(when)
            return None if good else f"the condition {getattr(when, '__name__', 'when')} does not hold"
        good, reason = holds(when, facts)
        return None if good else reason

    return reason_to_skip


# -- reading an expression ----------------------------------------------------------------------------------------


def _comparison(parser: Parser) -> Comparison:
    first, pairs = _operand(parser), []
    left = first
    while (op := _comparator(parser)) is not None:
        right = _list(parser, left) if op.endswith("in") else _operand(parser)
        if problem := _mismatch(op, left, right):
            raise parser.wrong(problem, at=left.start)
        pairs.append((op, right))
        left = right
    if not pairs and first.kind not in {"truth", "text"}:
        raise parser.wrong("this alone is no condition", at=first.start, hint="compare it: memory >= 2GiB, 'CI' in env")
    return Comparison(first, tuple(pairs))


def _comparator(parser: Parser) -> str | None:
    text = parser.token.text
    if parser.token.kind == "op" and text in _ORDER:
        return parser.take().text
    if parser.takes("in"):
        return "in"
    if text == "not" and parser.token.kind == "word":
        parser.take()
        if not parser.takes("in"):
            raise parser.wrong(f"'not' is followed by 'in' here, not by {parser.token.text!r}")
        return "not in"
    return None


def _operand(parser: Parser) -> Operand:
    token = parser.take()
    if token.kind == "string":
        return Operand("text", token.text[1:-1], token.at)
    if token.kind == "number":
        return _number(parser, token.text, token.at)
    if token.kind == "open":
        raise parser.wrong("a quote that is not closed", at=token.at)
    if token.kind != "word" or token.text in {"and", "or", "in", "not"}:
        hint = "two equal signs compare" if token.text == "=" else ""
        raise parser.wrong(f"a fact or a value is missing before {token.text!r}", at=token.at, hint=hint)
    if token.text in {"true", "false", "True", "False"}:
        return Operand("truth", token.text.lower() == "true", token.at)
    if parser.takes("("):
        return _function(parser, token.text, token.at)
    if token.text not in FACTS:
        hint = (
            nearest(token.text, [*FACTS, *_FUNCTIONS])
            or f"text stands in quotes ({token.text!r}); facts: {', '.join(FACTS)}"
        )
        raise parser.wrong(f"there is no fact {token.text!r}", at=token.at, hint=hint)
    return Operand(_KINDS[token.text], None, token.at, fact=token.text)


def _function(parser: Parser, name: str, at: int) -> Operand:
    if name not in _FUNCTIONS:
        raise parser.wrong(
            f"there is no function {name!r}", at=at, hint=nearest(name, _FUNCTIONS) or "command, file, env"
        )
    argument = parser.take()
    if argument.kind != "string":
        raise parser.wrong(f"{name}() takes one text in quotes", at=argument.at)
    if not parser.takes(")"):
        raise parser.wrong(f"a closing parenthesis is missing before {parser.token.text!r}")
    value = argument.text[1:-1]
    if name == "file" and not value.startswith(("/", "~")):
        raise parser.wrong("file() takes an absolute path", at=argument.at)
    return Operand(_FUNCTIONS[name], value, at, function=name)


def _number(parser: Parser, text: str, at: int) -> Operand:
    match = re.fullmatch(r"(\d+(?:\.\d+)*)\s?([A-Za-z]*)", text)
    if match is None:
        raise parser.wrong(f"{text!r} is no number", at=at)
    digits, unit = match.groups()
    if unit and unit not in _UNITS:
        raise parser.wrong(f"there is no unit {unit!r}", at=at, hint=nearest(unit, _UNITS) or ", ".join(_UNITS))
    if digits.count(".") > 1 or len(digits) > 100:
        if unit:
            raise parser.wrong(f"{text!r} is no number", at=at)
        return Operand("version", digits, at)
    amount = float(digits) if "." in digits else int(digits)
    # The digits are kept for a comparison with a version: as a number 5.10 would be 5.1.
    return Operand("number", (amount * _UNITS[unit], "") if unit else (amount, digits), at)


def _list(parser: Parser, left: Operand) -> Operand:
    """Read what stands after ``in``: a list of values, or an operand."""
    start = parser.token.at
    closing = {"(": ")", "[": "]"}.get(parser.token.text) if parser.token.kind == "op" else None
    if closing is None:
        return _operand(parser)
    parser.take()
    items = []
    while not parser.takes(closing):
        item = _operand(parser)
        if item.fact or item.function or (problem := _mismatch("==", left, item)):
            raise parser.wrong(
                problem if not (item.fact or item.function) else "a list holds plain values", at=item.start
            )
        items.append(item.of(_NOWHERE))
        if not parser.takes(",") and parser.token.text != closing:
            raise parser.wrong(f"a comma or {closing!r} is missing before {parser.token.text!r}")
    return Operand("list", tuple(items), start)


_NOWHERE = Facts()


def _mismatch(op: str, left: Operand, right: Operand) -> str:
    """Return what is wrong with a comparison, or an empty string."""
    kinds = {left.kind, right.kind}
    if op.endswith("in"):
        if right.kind == "list" or (left.kind == "text" and right.kind in {"set", "text"}):
            return ""
        return f"a {left.kind} cannot be {op} a {right.kind}"
    if "version" in kinds:
        other = right if left.kind == "version" else left
        if kinds <= {"version", "number"} or (
            other.kind == "text" and (other.fact or other.function or _version(other.value))
        ):
            return "" if other.kind != "number" or not other.fact else f"a version cannot be compared with {other.fact}"
        return f"a version cannot be compared with {other.value!r}" if other.value else f"a version is no {other.kind}"
    if len(kinds) > 1:
        hint = ", without quotes" if kinds == {"number", "text"} else ""
        return f"a {left.kind} cannot be compared with a {right.kind}{hint}"
    if kinds == {"number"} or (kinds <= {"text", "truth"} and op in {"==", "!="}):
        return ""
    return f"a {left.kind} cannot be compared by {op}"


# -- deciding -----------------------------------------------------------------------------------------------------


def _compare(op: str, left: Any, right: Any, *, is_version: bool) -> bool:
    if op == "not in":
        return not _compare("in", left, right, is_version=is_version)
    if op == "in":
        if not isinstance(right, tuple):
            return left in right
        return any(_compare("==", left, item, is_version=is_version) for item in right)
    if is_version:
        ours, theirs = _version(left), _version(right)
        parts = min(len(ours), len(theirs)) or 1
        return _ORDER[op](ours[:parts], theirs[:parts])
    return _ORDER[op](_plain(left), _plain(right))


def _plain(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _version(value: Any) -> list[int]:
    """Return the numbers in a version."""
    text = (value[1] or str(value[0])) if isinstance(value, tuple) else str(value)
    return [int(part) for part in re.findall(r"\d{1,18}", text)]


def _culprit(node: Node, test: Callable[[Any], bool]) -> Node | None:
    """Return the smallest part that makes the whole false, or None when it is true."""
    if node.op == "and":
        return next((false for part in node.parts if (false := _culprit(part, test)) is not None), None)
    return None if is_true(node, test) else node


def _reason(text: str, node: Node, facts: Facts) -> str:
    known = dict.fromkeys(name for leaf in _leaves(node) for name in leaf.facts() if _KINDS[name] != "set")
    told = ", ".join(f"{name} is {_shown(name, getattr(facts, name))}" for name in known)
    return f"needs {text[node.start : node.end]}" + (f" ({told})" if told else "")


def _leaves(node: Node) -> Iterable[Comparison]:
    if node.op == "leaf":
        return (node.leaf,)
    return [leaf for part in node.parts for leaf in _leaves(part)]


def _shown(name: str, value: Any) -> str:
    if name == "memory":
        return f"{value / 2**30:.1f} GiB"
    return str(value) or "unknown"


# -- what the host must have --------------------------------------------------------------------------------------

_HAVE = {
    "cmd": ("commands", "the command {}"),
    "file": ("files", "the file {}"),
    "env": ("env", "the environment variable {}"),
}
_IS = ("arch", "os", "distro", "user")
_FORMS = (
    "root",
    "cmd:git",
    "file:/dev/kvm",
    "env:NAME",
    "arch:x86_64",
    "os:linux",
    "distro:debian",
    "user:NAME",
    "memory>=2GiB",
    "cpus>=4",
    "kernel>=5.10",
)


@functools.lru_cache(maxsize=1000)
def _need(text: str) -> Callable[[Facts], str]:
    """Return the function that tells what a machine lacks to meet one entry of ``host``; empty when it does."""
    kind, colon, what = text.partition(":")
    if text == "root":
        return lambda facts: "" if facts.user == "root" else f"needs root (user is {facts.user})"
    if colon and what and kind in _HAVE:
        if kind == "file" and not os.path.isabs(os.path.expanduser(what)):
            raise DefinitionError(f"host: {text!r} needs an absolute path")
        fact, told = _HAVE[kind]
        return lambda facts: "" if what in getattr(facts, fact) else f"needs {told.format(what)}"
    if colon and what and kind in _IS:
        return lambda facts: (
            ""
            if getattr(facts, kind) == what
            else f"needs {kind} {what} ({kind} is {getattr(facts, kind) or 'unknown'})"
        )
    if re.match(r"\s*[a-z]+\s*[<>=!]", text):
        try:
            node = parse(text)
        except DefinitionError as error:
            raise DefinitionError(
                error.headline.replace("when", "host", 1), facts=error.facts, hint=error.hint
            ) from None
        if node.op == "leaf":
            return lambda facts: holds(text, facts)[1]
    raise DefinitionError(f"host: {text!r} is not known", hint=_host_hint(kind, colon))


def _host_hint(kind: str, colon: str) -> str:
    forms: Sequence[str] = [form.partition(":")[0] for form in _FORMS if ":" in form] if colon else _FORMS
    return nearest(kind, forms) or "one of " + ", ".join(_FORMS)
