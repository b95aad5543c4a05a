"""Dead letters: the record byte for byte, with headers that say what, where and why.

The header names are those of Kafka Streams (KIP-1034), so that existing tools read them.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.contracts.decode import Refused

Headers = Sequence[tuple[str, bytes]]

PREFIX = "__streams.errors."
EXCEPTION = PREFIX + "exception"
MESSAGE = PREFIX + "message"
STACKTRACE = PREFIX + "stacktrace"
TOPIC = PREFIX + "topic"
PARTITION = PREFIX + "partition"
OFFSET = PREFIX + "offset"

CODE_PREFIX = "clv.refused."


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
