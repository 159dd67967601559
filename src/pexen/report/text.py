r"""Text for terminals: hostile characters made visible, colour, durations and sizes, and the command line to copy.

Names, reasons, messages and output come from tasks, so none of it reaches a terminal as it is: control characters
(C0, C1, DEL), the marks that reorder or hide text, and lone surrogates are shown as ``\x1b`` or ``\u202e``. Everything
else, letters of all scripts and signs, is left alone. Bytes that are not UTF-8 are ``\xNN`` already when they get here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

LONGEST = 500
"""Characters of one line that are shown; the files hold the rest."""

_HOSTILE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_STYLES = {
    "passed": "32", "uptodate": "32", "warned": "33", "skipped": "33", "cancelled": "35", "failed": "1;31",
    "error": "1;31", "timeout": "1;31", "crashed": "1;31", "lost": "1;31", "bold": "1", "dim": "2", "hint": "36",
}  # fmt: skip


def visible(text: str) -> str:
    """Return text without anything a terminal would obey; tabs stay, newlines do not."""
    return text if text.isprintable() else _HOSTILE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible_lines(text: str) -> list[str]:
    """Return the lines of an output, each made visible and none longer than `LONGEST`."""
    return [cut(visible(line.removesuffix("\r"))) for line in text.removesuffix("\n").split("\n")] if text else []


def cut(line: str, longest: int = LONGEST) -> str:
    """Return a line's beginning, and how much is missing, when it is too long."""
    return line if len(line) <= longest else f"{line[:longest]}… ({len(line) - longest} more characters)"


def first_line(text: str, longest: int = 200) -> str:
    """Return the first line of a text that says something, made visible and short."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    line = visible(line.strip())
    return line if len(line) <= longest else line[: longest - 1] + "…"


# -- colour -------------------------------------------------------------------------------------------------------


def is_coloured(choice: str, environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Decide about colour: what was asked for, the variables users set for all programs, the terminal; in this order."""
    if choice in {"always", "never"}:
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return environ.get("TERM") != "dumb" and is_terminal


def style(text: str, name: str, *, on: bool) -> str:
    """Return text in the style of a status or of ``bold``, ``dim``, ``hint``; as it is when colour is off."""
    return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if on and text else text


# -- quantities -----------------------------------------------------------------------------------------------------


def spoken(seconds: float) -> str:
    """Return a duration as people write it: ``0.04s``, ``12.3s``, ``2m05s``, ``1h02m``."""
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def sized(size: int) -> str:
    """Return a number of bytes as people write it."""
    if size < 1024:
        return f"{size} bytes"
    power = min(3, (size.bit_length() - 1) // 10)
    return f"{size / 1024**power:.1f} {('', 'KiB', 'MiB', 'GiB')[power]}"


def counted(number: int, word: str) -> str:
    """Return ``1 task``, ``2 tasks``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def some_of(items: list[str], most: int = 5) -> str:
    """Return the first items of a list, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


# -- what to type ---------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def quoted(word: str) -> str:
    r"""Return a word as a shell reads it; characters that a terminal would obey in the form ``$'\x1b'``."""
    if _PLAIN.fullmatch(word):
        return word
    if not _HOSTILE.search(word) and "\t" not in word:
        return "'" + word.replace("'", "'\"'\"'") + "'"
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    # As bytes, so that the same is meant in every locale and by shells that do not know \u.
    return "$'" + re.sub(_HOSTILE.pattern + "|\t", _as_bytes, escaped) + "'"


def _as_bytes(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in match.group().encode(errors="surrogateescape"))


def shown(path: str, start: str) -> str:
    """Return a path as one would type it in the folder ``start``: relative to that, unless that is longer."""
    relative = os.path.relpath(path, start)
    return relative if len(relative) < len(path) or relative == "." else path
