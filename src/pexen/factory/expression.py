"""Boolean expressions in two small languages: conditions (``when=``) and selections (``-k``, ``-m``).

Both are ``or`` over ``and`` over ``not`` over parentheses, as in Python; they differ in what stands between those
words. A `Parser` is therefore given the lexer and a function that reads one operand. Nothing is ever evaluated as
Python, every mistake is a `DefinitionError` that points at its column, and length and nesting are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from pexen.errors import DefinitionError

LONGEST = 2000
DEEPEST = 50
_SHOWN = 100


class Token(NamedTuple):
    """One word of an expression: what the lexer calls it, its text and where it starts."""

    kind: str
    text: str
    at: int


class Node(NamedTuple):
    """A part of an expression: ``op`` over ``parts``, or a leaf that holds what `Parser` was told to read."""

    op: Literal["or", "and", "not", "leaf"]
    parts: tuple[Node, ...]
    leaf: Any
    start: int
    end: int


def is_true(node: Node, test: Callable[[Any], bool]) -> bool:
    """Return the value of an expression, given the value of each leaf."""
    if node.op == "leaf":
        return test(node.leaf)
    if node.op == "not":
        return not is_true(node.parts[0], test)
    answers = (is_true(part, test) for part in node.parts)
    return any(answers) if node.op == "or" else all(answers)


class Parser:
    """Reads one expression; ``what`` names it in messages, ``operand`` reads a leaf from the parser."""

    def __init__(
        self, what: str, text: str, lexer: re.Pattern[str], operand: Callable[[Parser], Any], *, where: str = ""
    ) -> None:
        self.what, self.text, self.where = what, text, where
        if len(text) > LONGEST:
            raise DefinitionError(
                f"{what}: an expression has at most {LONGEST} characters, not {len(text)}", where=where
            )
        self._operand = operand
        self._tokens = list(self._lex(lexer))
        self._next = 0
        self._depth = 0

    def parse(self) -> Node:
        """Return the whole expression."""
        if self.token.kind == "end":
            raise self.wrong("an empty expression")
        found = self._either()
        if self.token.kind != "end":
            raise self.wrong(f"{self.token.text!r} is not expected here", hint="'and' or 'or' between two conditions?")
        return found

    @property
    def token(self) -> Token:
        """The token to be read next; the last one is of the kind ``end``."""
        return self._tokens[self._next]

    def take(self) -> Token:
        """Return the next token and step over it."""
        token = self.token
        self._next += token.kind != "end"
        return token

    def takes(self, *texts: str) -> bool:
        """Step over the next token if it is one of these; tell whether it was."""
        if self.token.kind in {"word", "op"} and self.token.text in texts:
            self._next += 1
            return True
        return False

    def wrong(self, problem: str, *, at: int | None = None, hint: str = "") -> DefinitionError:
        """Return the error that points at the next token, or at the column ``at``."""
        at = self.token.at if at is None else at
        return DefinitionError(f"{self.what}: {problem}", where=self.where, facts=pointer(self.text, at), hint=hint)

    def _lex(self, lexer: re.Pattern[str]) -> Iterable[Token]:
        at = 0
        while at < len(self.text):
            match = lexer.match(self.text, at)
            if match is None or match.end() == at:
                raise DefinitionError(
                    f"{self.what}: {self.text[at]!r} is not expected here",
                    where=self.where,
                    facts=pointer(self.text, at),
                )
            if match.lastgroup != "space":
                yield Token(match.lastgroup or "word", match.group(), at)
            at = match.end()
        yield Token("end", "the end", len(self.text))

    def _either(self) -> Node:
        return self._several("or", self._both)

    def _both(self) -> Node:
        return self._several("and", self._negation)

    def _several(self, op: Literal["or", "and"], inner: Callable[[], Node]) -> Node:
        parts = [inner()]
        while self.takes(op):
            parts.append(inner())
        return parts[0] if len(parts) == 1 else Node(op, tuple(parts), None, parts[0].start, parts[-1].end)

    def _negation(self) -> Node:
        start = self.token.at
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.wrong(f"more than {DEEPEST} levels of parentheses and 'not'")
        try:
            if self.takes("not"):
                part = self._negation()
                return Node("not", (part,), None, start, part.end)
            if self.takes("("):
                return self._closed(start)
            leaf = self._operand(self)
        finally:
            self._depth -= 1
        return Node("leaf", (), leaf, start, self._end())

    def _closed(self, start: int) -> Node:
        inner = self._either()
        if not self.takes(")"):
            raise self.wrong(f"a closing parenthesis is missing before {self.token.text!r}")
        return Node(inner.op, inner.parts, inner.leaf, start, self._end())

    def _end(self) -> int:
        last = self._tokens[self._next - 1]
        return last.at + len(last.text)


def pointer(text: str, at: int) -> list[tuple[str, str]]:
    """Return the facts that show a text and a caret below one of its columns; a long text is cut around it."""
    first = max(0, min(at - _SHOWN // 2, len(text) - _SHOWN))
    shown = "".join(char if char.isprintable() else "?" for char in text[first : first + _SHOWN])
    return [("text", shown), ("here", " " * (at - first) + f"^ column {at + 1}")]
