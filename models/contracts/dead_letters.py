"""Dead letters: refused records, byte for byte, with the reason and the origin in headers.

A notice has the same form, with another prefix: its record was not refused.

The header names are those of Kafka Streams (KIP-1034), so that existing tools read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from models.contracts.decode import NOTICES, Reason, Refused

Headers = Sequence[tuple[str, bytes | None]]

PREFIX = "__streams.errors."
EXCEPTION = PREFIX + "exception"
MESSAGE = PREFIX + "message"
STACKTRACE = PREFIX + "stacktrace"
TOPIC = PREFIX + "topic"
PARTITION = PREFIX + "partition"
OFFSET = PREFIX + "offset"

CUT = "clv.cut-from"
"""Original size of the value in bytes, on a dead letter that was cut because it was too large."""

CUT_PARTS = "clv.cut"
"""What was cut from it, in words: bytes kept and bytes before, of value, key and headers."""

RETRIED_FROM = "clv.retried-from"
"""On a record that was sent again: the dead letter it comes from, one header for each retry."""

CORRECTED = "clv.corrected"
"""On a record that was changed before it was sent again: the fields, joined by commas."""

RETRIED = "clv.retried"
"""On a note in the dead letters' topic: "partition/offset" of the dead letter that was retried."""

CODE_PREFIX = "clv.refused."
NOTICE_PREFIX = "clv.notice."

_ADDED = frozenset({EXCEPTION, MESSAGE, STACKTRACE, TOPIC, PARTITION, OFFSET})


class LetterHeaders(NamedTuple):
    """A dead letter's headers: those the record had, and those that were added."""

    original: list[tuple[str, bytes | None]]
    added: dict[str, bytes]


class DeadLetter(BaseModel):
    """Why a record was refused, and where it was, from a dead letter's headers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    message: str
    field: str
    topic: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]

    @classmethod
    def from_headers(cls, headers: Headers) -> DeadLetter:
        """Read the headers; raises pydantic's ValidationError when they are not a dead letter's."""
        texts = {
            name: (value or b"").decode("utf-8", "replace")
            for name, value in headers
            if name in _ADDED
        }
        return cls.model_validate(
            {
                "reason": _code(texts.get(EXCEPTION, "")),
                "message": texts.get(MESSAGE),
                "field": texts.get(STACKTRACE),
                "topic": texts.get(TOPIC),
                "partition": texts.get(PARTITION),
                "offset": texts.get(OFFSET),
            }
        )


def split_headers(headers: Headers) -> LetterHeaders | None:
    """Return the record's own headers and those added at refusal; None if it is no dead letter.

    The record may have had headers of these names itself: those added at refusal come last.
    """
    for at in range(len(headers) - 1, -1, -1):
        if headers[at][0] == EXCEPTION:
            added = {name: value or b"" for name, value in headers[at:]}
            return LetterHeaders(list(headers[:at]), added)
    return None


def retried_note(partition: int, offset: int) -> list[tuple[str, bytes]]:
    """Return the headers of the note which says that a dead letter was retried."""
    return [(RETRIED, f"{partition}/{offset}".encode())]


def noted(headers: Headers) -> tuple[int, int] | None:
    """Return partition and offset of a note's dead letter; None if the record is no note."""
    if len(headers) != 1 or headers[0][0] != RETRIED:
        return None
    partition, slash, offset = (headers[0][1] or b"").partition(b"/")
    if not (slash and partition.isdigit() and offset.isdigit()):
        return None
    return int(partition), int(offset)


def dead_letter_headers(
    refused: Refused,
    headers: Sequence[tuple[str, bytes]],
    topic: str,
    partition: int,
    offset: int,
) -> list[tuple[str, bytes]]:
    """Return the original headers followed by the reason and the record's position.

    `exception` is "clv.refused." and the reason's code, or "clv.notice." and the code of a notice;
    `stacktrace` names the field.
    """
    return [
        *headers,
        (EXCEPTION, _exception(refused.reason).encode()),
        (MESSAGE, refused.detail.encode("utf-8", "backslashreplace")),
        (STACKTRACE, (refused.field or "").encode("utf-8", "backslashreplace")),
        (TOPIC, topic.encode()),
        (PARTITION, str(partition).encode()),
        (OFFSET, str(offset).encode()),
    ]


def reason_of(headers: Headers) -> str:
    """Return the reason's code from a dead letter's headers, or "unknown"."""
    for name, value in reversed(headers):
        if name == EXCEPTION:
            return _code((value or b"").decode("utf-8", "replace"))
    return "unknown"


def headers_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a dead letter's headers, as an object of texts by name.

    The headers that the record had itself are in the object too, and the schema allows them.
    """
    text, number = {"type": "string"}, {"type": "string", "pattern": "^[0-9]+$"}
    codes = [_exception(reason) for reason in Reason]
    return {
        "title": "Headers of a dead letter",
        "type": "object",
        "properties": {
            EXCEPTION: {"enum": codes, "description": "why it was refused, or noticed"},
            MESSAGE: {**text, "description": "what was seen, and what is allowed"},
            STACKTRACE: {**text, "description": "the field; empty if none is to blame"},
            TOPIC: {**text, "description": "where the record was"},
            PARTITION: number,
            OFFSET: number,
            CUT: {**number, "description": "bytes of the value, if the letter lacks some"},
            CUT_PARTS: {**text, "description": "what it lacks, in words"},
        },
        "required": [EXCEPTION, MESSAGE, STACKTRACE, TOPIC, PARTITION, OFFSET],
    }


def _exception(reason: Reason) -> str:
    return f"{NOTICE_PREFIX if reason in NOTICES else CODE_PREFIX}{reason.value}"


def _code(exception: str) -> str:
    return exception.removeprefix(CODE_PREFIX).removeprefix(NOTICE_PREFIX)
