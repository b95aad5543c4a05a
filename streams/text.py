"""Text from outside, shown as text: what a terminal would obey is escaped.

Names, reasons, file names and error texts that quote them may hold escape sequences, line breaks,
characters that turn the direction of what follows, or ones that nobody sees. All of them are shown
as Python writes them: `\\x1b`, `\\n`, `\\u202e`.
"""

from __future__ import annotations

import json
import traceback
from typing import Any


class ErrorInLines(Exception):
    """An error whose text has lines of its own; what stands within one of them breaks no line."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def visible(text: str) -> str:
    """The text with everything escaped that does not print, line breaks and lone surrogates too."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def lines_of(error: BaseException) -> tuple[str, ...]:
    """The lines of an error's text, not escaped yet."""
    return error.lines if isinstance(error, ErrorInLines) else (str(error),)


def json_text(document: Any, *, indent: int | None = None) -> str:
    """JSON whose strings have every character escaped that does not print.

    Letters of any alphabet stay as they are; the document reads back the same.
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=str, allow_nan=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text
    )


def traceback_lines(error: BaseException) -> list[str]:
    """The traceback of an error as Python prints it, each line fit to be shown."""
    lines: list[str] = []
    for part in traceback.format_exception(error):
        # What an error says begins with its class; only the rest has lines of its own.
        whole = part.removesuffix("\n")
        lines += whole.split("\n") if part[:1] in (" ", "\n") else [whole]
    return [visible(line) for line in lines]
