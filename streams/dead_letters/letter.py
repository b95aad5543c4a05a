"""A dead letter: the record as it was, why it was refused, and what can be read of it anyway."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from models.contracts import NOTICES
from models.contracts.dead_letters import (
    CORRECTED,
    CUT,
    CUT_PARTS,
    RETRIED_FROM,
    DeadLetter,
    split_headers,
)
from streams.files.loaded import LOADED, loaded_of

UNKNOWN = "unknown"
"""Reason of a record in the dead letters' topic that says none."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of the dead letters' topic: a refused record, or a notice about one that was not.

    key, value, headers: those of the refused record. refused: why, and where it was; None when the
    headers do not say. cut_from: bytes its value had, when not all of the record was kept. missing:
    what was not kept, in words; earlier versions did not say.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    refused: DeadLetter | None
    cut_from: int | None
    missing: str | None = None

    @property
    def id(self) -> str:
        """ "partition/offset" within the dead letters' topic."""
        return f"{self.partition}/{self.offset}"

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset within the dead letters' topic."""
        return self.partition, self.offset

    @property
    def where(self) -> str:
        """ "topic[partition]@offset" of the letter."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    @property
    def came_from(self) -> str:
        """ "topic[partition]@offset" of the refused record."""
        if self.refused is None:
            return UNKNOWN
        return f"{self.refused.topic}[{self.refused.partition}]@{self.refused.offset}"

    @property
    def reason(self) -> str:
        """Code of the reason."""
        return UNKNOWN if self.refused is None else self.refused.reason

    @property
    def is_notice(self) -> bool:
        """Whether the record was not refused: a notice about an event that was processed."""
        return self.reason in NOTICES

    @property
    def message(self) -> str:
        """What was wrong."""
        if self.refused is None:
            return "its headers do not say why it was refused, nor where it was"
        return self.refused.message

    @property
    def time(self) -> datetime:
        """When it was refused."""
        return datetime.fromtimestamp(self.timestamp / 1000, UTC)

    @property
    def retried_from(self) -> list[str]:
        """The letters this one comes from, the first one first."""
        return self._texts(RETRIED_FROM)

    @property
    def corrected(self) -> list[str]:
        """The fields that were changed at each retry before, joined by commas."""
        return self._texts(CORRECTED)

    def _texts(self, wanted: str) -> list[str]:
        return [
            (value or b"").decode("utf-8", "backslashreplace")
            for name, value in self.headers
            if name == wanted
        ]

    def fingerprint(self) -> int:
        """Equal for letters that workers wrote of the same record, as after a kill.

        And for those of the same row of a file that was loaded again.
        """
        if loaded_of(self.headers) is None:
            return hash((self.came_from, self.key, self.value))
        headers = tuple((name, value) for name, value in self.headers if name != LOADED)
        return hash((self.reason, self.key, self.value, headers))

    def content(self) -> int:
        """Equal for one letter wherever this process has read it."""
        headers = tuple((name, value) for name, value in self.headers)
        return hash(
            (self.where, self.came_from, self.reason, self.cut_from, self.key, self.value, headers)
        )


def read_letter(record: Any) -> Letter:
    """The letter in a record of the dead letters' topic, whatever its headers are."""
    split = split_headers(record.headers)
    refused, headers, cut_from, missing = None, list(record.headers), None, None
    if split is not None:
        try:
            refused = DeadLetter.from_headers(list(split.added.items()))
        except ValidationError:
            pass
        else:
            headers = split.original
            cut = split.added.get(CUT, b"")
            cut_from = int(cut) if cut.isdigit() else None
            parts = split.added.get(CUT_PARTS)
            missing = None if parts is None else parts.decode("utf-8", "replace")
    return Letter(
        record.topic, record.partition, record.offset, record.timestamp,
        record.key, record.value, headers, refused, cut_from, missing,
    )  # fmt: skip


class Glance(NamedTuple):
    """What can be read of a refused record, each None where it cannot.

    document: the value, if it is JSON. structured: it is an object with `data` and no ce_ headers.
    """

    customer: str | None
    event_type: str | None
    event_id: str | None
    document: Any
    structured: bool


def glance(letter: Letter) -> Glance:
    """Read what can be read; never refuses."""
    document = _json(letter.value)
    attributes = {
        name.lower().removeprefix("ce_"): (value or b"").decode("utf-8", "backslashreplace")
        for name, value in letter.headers
        if name.lower().startswith("ce_")
    }
    found = document if isinstance(document, dict) else {}
    structured = not attributes and bool(found)
    data = found.get("data") if structured else found
    customer = _text(data.get("customer_id")) if isinstance(data, dict) else None
    if customer is None and letter.key:
        customer = letter.key.decode("utf-8", "backslashreplace")
    about = found if structured else attributes
    return Glance(customer, _text(about.get("type")), _text(about.get("id")), document, structured)


def _json(value: bytes | None) -> Any:
    try:
        return json.loads(value or b"")
    except (ValueError, RecursionError):
        return None


def _text(found: object) -> str | None:
    return found if isinstance(found, str) else None
