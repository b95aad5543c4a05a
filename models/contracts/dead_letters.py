"""Dead letters: the record byte for byte, with headers that say what, where and why.

The header names are those of Kafka Streams (KIP-1034), so that existing tools read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from models.contracts.decode import Refused

Headers = Sequence[tuple[str, bytes | None]]

PREFIX = "__streams.errors."
EXCEPTION = PREFIX + "exception"
MESSAGE = PREFIX + "message"
STACKTRACE = PREFIX + "stacktrace"
TOPIC = PREFIX + "topic"
PARTITION = PREFIX + "partition"
OFFSET = PREFIX + "offset"

CUT = "clv.cut-from"
"""Bytes that the value had, on a letter that lacks part of the record."""

CUT_PARTS = "clv.cut"
"""What such a letter lacks, in words: of the value, the key or the headers, kept and had."""

RETRIED_FROM = "clv.retried-from"
"""On a record that was sent again: the dead letter it comes from, one header for each retry."""

CORRECTED = "clv.corrected"
"""On a record that was changed before it was sent again: the fields, joined by commas."""

RETRIED = "clv.retried"
"""On a note in the dead letters' topic: "partition/offset" of the letter that was sent again."""

CODE_PREFIX = "clv.refused."

_ADDED = frozenset({EXCEPTION, MESSAGE, STACKTRACE, TOPIC, PARTITION, OFFSET})


class LetterHeaders(NamedTuple):
    """A dead letter's headers: those the record had, and those that were added."""

    original: list[tuple[str, bytes | None]]
    added: dict[str, bytes]


class DeadLetter(BaseModel):
    """What a dead letter's headers say: why the record was refused, and where it was."""

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
                "reason": texts.get(EXCEPTION, "").removeprefix(CODE_PREFIX),
                "message": texts.get(MESSAGE),
                "field": texts.get(STACKTRACE),
                "topic": texts.get(TOPIC),
                "partition": texts.get(PARTITION),
                "offset": texts.get(OFFSET),
            }
        )


def split_headers(headers: Headers) -> LetterHeaders | None:
    """What the record had, and what was added when it was refused; None for what is no dead letter.

    A record may itself have had headers of these names: those added are the last ones.
    """
    for at in range(len(headers) - 1, -1, -1):
        if headers[at][0] == EXCEPTION:
            added = {name: value or b"" for name, value in headers[at:]}
            return LetterHeaders(list(headers[:at]), added)
    return None


def retried_note(partition: int, offset: int) -> list[tuple[str, bytes]]:
    """The headers of the note which says that a letter was sent again."""
    return [(RETRIED, f"{partition}/{offset}".encode())]


def noted(headers: Headers) -> tuple[int, int] | None:
    """Partition and offset of the letter that a note is about; None for what is no note."""
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
    """The original headers, and after them the reason and where the record was.

    `exception` is "clv.refused." and the reason's code; `stacktrace` names the field.
    """
    return [
        *headers,
        (EXCEPTION, f"{CODE_PREFIX}{refused.reason.value}".encode()),
        (MESSAGE, refused.detail.encode("utf-8", "backslashreplace")),
        (STACKTRACE, (refused.field or "").encode("utf-8", "backslashreplace")),
        (TOPIC, topic.encode()),
        (PARTITION, str(partition).encode()),
        (OFFSET, str(offset).encode()),
    ]


def reason_of(headers: Headers) -> str:
    """The reason's code in a dead letter's headers, or "unknown"."""
    for name, value in reversed(headers):
        if name == EXCEPTION:
            return (value or b"").decode("utf-8", "replace").removeprefix(CODE_PREFIX)
    return "unknown"
