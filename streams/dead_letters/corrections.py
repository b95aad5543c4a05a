"""Correcting fields of an event before it is sent again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from models.errors import ClvError
from streams.dead_letters.letter import Letter, glance

_PATH = re.compile(r"[^.\[\]=:]+(\[[0-9]+\])*(\.[^.\[\]=:]+(\[[0-9]+\])*)*")
_PART = re.compile(r"[^.\[\]]+|\[[0-9]+\]")


class CorrectionFailed(ClvError):
    """A field cannot be set in this record; the text says why."""


class Correction(NamedTuple):
    """A field, as a path such as `data.items[0].sku`, and the JSON value it is to have."""

    field: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `FIELD=TEXT` or `FIELD:=JSON`; raises ValueError."""
        field, equals, value = text.partition("=")
        as_json = field.endswith(":")
        field = field.removesuffix(":")
        if not equals or not _PATH.fullmatch(field):
            raise ValueError(
                f"{text!r}: write FIELD=TEXT, such as data.currency=EUR, or FIELD:=JSON, such as "
                "data.score:=9"
            )
        if not as_json:
            return cls(field, value)
        try:
            return cls(field, json.loads(value))
        except ValueError as error:
            raise ValueError(f"{text!r}: {value!r} is not JSON: {error}") from error


def corrected(letter: Letter, corrections: Sequence[Correction]) -> bytes | None:
    """The letter's value with these fields set; raises CorrectionFailed."""
    if not corrections:
        return letter.value
    found = glance(letter)
    if not found.structured:
        raise CorrectionFailed(
            "only structured events, JSON objects without ce_ headers, can be corrected; have its "
            "publisher send it again"
        )
    for correction in corrections:
        _set(found.document, correction)
    try:
        return json.dumps(
            found.document, ensure_ascii=True, allow_nan=False, separators=(",", ":")
        ).encode()
    except (ValueError, RecursionError) as error:
        raise CorrectionFailed(f"its value cannot be written as JSON again: {error}") from error


def _set(document: Any, correction: Correction) -> None:
    parts: list[str | int] = [
        int(part[1:-1]) if part.startswith("[") else part
        for part in _PART.findall(correction.field)
    ]
    place = document
    for part in parts[:-1]:
        if isinstance(part, str) and isinstance(place, dict):
            place = place.setdefault(part, {})
        else:
            _check(place, part, correction)
            place = place[part]
    last = parts[-1]
    if isinstance(last, int) or not isinstance(place, dict):
        _check(place, last, correction)
    place[last] = correction.value


def _check(place: Any, part: str | int, correction: Correction) -> None:
    if isinstance(part, int) and isinstance(place, list) and part < len(place):
        return
    held = type(place).__name__ if not isinstance(place, list) else f"a list of {len(place)}"
    raise CorrectionFailed(f"{correction.field} cannot be set: {part!r} is looked for in {held}")
