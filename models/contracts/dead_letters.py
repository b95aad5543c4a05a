"""Dead letters: the record byte for byte, with headers that say what, where and why.

The header names are those of Kafka Streams (KIP-1034), so that existing tools read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.contracts.decode import Refused

Headers = Sequence[tuple[str, bytes]]

PREFIX = "__streams.errors."
EXCEPTION = PREFIX + "exception"
MESSAGE = PREFIX + "message"
STACKTRACE = PREFIX + "stacktrace"
TOPIC = PREFIX + "topic"
PARTITION = PREFIX + "partition"
OFFSET = PREFIX + "offset"

CUT = "clv.cut-from"
"""Bytes that the value had, on a letter that has only the beginning of it."""

CODE_PREFIX = "clv.refused."


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
        texts = {name: value.decode("utf-8", "replace") for name, value in headers}
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


def dead_letter_headers(
    refused: Refused, headers: Headers, topic: str, partition: int, offset: int
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
            return value.decode("utf-8", "replace").removeprefix(CODE_PREFIX)
    return "unknown"
