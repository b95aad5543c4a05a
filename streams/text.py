"""Escape text from outside before it is shown, so that a terminal does not obey it.

Names, reasons and error texts may contain escape sequences, line breaks, characters that change the
direction of writing, or invisible ones. They are shown as in Python source: `\\x1b`, `\\n`,
`\\u202e`.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

from models.errors import ClvError


class ErrorInLines(ClvError):
    """An error whose text has several lines; a line break within one of them is escaped."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def visible(text: str) -> str:
    """Return the text with all non-printing characters escaped, also line breaks and surrogates."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def lines_of(error: BaseException) -> tuple[str, ...]:
    """Return the lines of an error's text, not escaped."""
    return error.lines if isinstance(error, ErrorInLines) else (str(error),)


def json_text(document: Any, *, indent: int | None = None) -> str:
    """Return JSON whose strings have all non-printing characters escaped.

    Letters of any alphabet stay; parsing gives the same document.
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=str, allow_nan=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text
    )


def traceback_lines(error: BaseException) -> list[str]:
    """Return the traceback of an error as Python prints it, with each line escaped."""
    lines: list[str] = []
    for part in traceback.format_exception(error):
        # An error's part starts with its class; the rest may have several lines.
        whole = part.removesuffix("\n")
        lines += whole.split("\n") if part[:1] in (" ", "\n") else [whole]
    return [visible(line) for line in lines]
