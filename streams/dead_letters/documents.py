"""A dead letter as a document: for people, for programs, and to be looked at elsewhere."""

from __future__ import annotations

import base64
from typing import Any

from streams.dead_letters.letter import glance
from streams.dead_letters.reading import Entry
from streams.text import visible


def summary(entry: Entry) -> dict[str, Any]:
    """What a list says of a letter."""
    letter, found = entry.letter, glance(entry.letter)
    return {
        "id": letter.id,
        "time": letter.time.isoformat(timespec="milliseconds"),
        "reason": letter.reason,
        "notice": letter.is_notice,
        "field": (letter.refused.field or None) if letter.refused else None,
        "message": letter.message,
        "customer": found.customer,
        "type": found.event_type,
        "event_id": found.event_id,
        "from": letter.came_from,
        "retried": entry.retried,
    }


def full(entry: Entry) -> dict[str, Any]:
    """Everything: the summary, and the record byte for byte.

    key, value and the values of headers: {"text": …}, {"base64": …} where they are not UTF-8, or
    null.
    """
    letter = entry.letter
    return {
        **summary(entry),
        "letter": letter.where,
        "retried_from": letter.retried_from,
        "corrected": letter.corrected,
        "cut_from": letter.cut_from,
        "cut": letter.missing,
        "key": readable(letter.key),
        "value": readable(letter.value),
        "headers": [{"name": n, "value": readable(value)} for n, value in letter.headers],
    }


def readable(content: bytes | None) -> dict[str, str] | None:
    """Bytes as text, or as base64 if they are not UTF-8."""
    if content is None:
        return None
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def printable(content: bytes | str | None, most: int | None = None) -> str:
    """Text or bytes as `visible` shows them, at most so many characters."""
    if content is None:
        return "-"
    text = content if isinstance(content, str) else content.decode("utf-8", "backslashreplace")
    rest = 0 if most is None else max(0, len(text) - most)
    shown = visible(text[:most])
    return f"{shown}… ({rest} more)" if rest else shown
