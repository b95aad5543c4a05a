"""What a recording may say about itself: a file from elsewhere must not cost more than it holds."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from models.errors import ClvError
from streams.recording.format import (
    FRAME_CONTENT,
    LONGEST_WORDS,
    MOST_HEADERS,
    MOST_PARTITIONS,
    MOST_RECORDS,
    MOST_TOPICS,
    Head,
)

GREATEST: Final = 2**63 - 1
"""Of an offset and of a timestamp, in Kafka."""

_COUNTS: Final = {0xDC: 2, 0xDD: 4}
"""Bytes of the count of an array of MessagePack, by its first byte."""


class OverLimit(ClvError):
    """A recording says more than it may; the text says what, and what is allowed."""


class _Sparing(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record whose headers are left as they are."""

    topic: int
    partition: int
    offset: int
    timestamp: int
    key: msgspec.Raw
    value: msgspec.Raw
    headers: msgspec.Raw = msgspec.Raw(b"\x90")


_decode_sparing = msgspec.msgpack.Decoder(tuple[_Sparing, ...]).decode


def check_head(head: Head) -> None:
    """Refuse a head whose topics and partitions are none; raises OverLimit."""
    if len(head.topics) > MOST_TOPICS:
        raise OverLimit(f"names {len(head.topics)} topics, and {MOST_TOPICS} are the most")
    for topic in head.topics:
        _check_words(topic.role, topic.name)
        if not 1 <= topic.partitions <= MOST_PARTITIONS:
            raise OverLimit(
                f"says {topic.partitions} partitions of {topic.name!r}, and 1 to {MOST_PARTITIONS} "
                "are allowed"
            )
    _check_words(head.since, head.until)
    for span in head.spans:
        known = 0 <= span.topic < len(head.topics)
        if not known or not 0 <= span.partition < head.topics[span.topic].partitions:
            raise OverLimit(
                f"says offsets of partition {span.partition} of topic {span.topic}, which it does "
                "not name"
            )
        if not 0 <= span.start <= span.end <= GREATEST:
            raise OverLimit(f"says offsets from {span.start} to {span.end}, which are none")
    if len(head.spans) > sum(topic.partitions for topic in head.topics):
        raise OverLimit(f"says offsets of {len(head.spans)} partitions, more than there are")


def check_records(content: bytes) -> None:
    """Refuse a frame that would come to more objects than a writer makes; raises OverLimit."""
    count = array_count(content)
    if count is None:
        raise OverLimit("is no list of records")
    if count > MOST_RECORDS:
        raise OverLimit(f"says {count} records, and {MOST_RECORDS} are the most")
    # Up to here a thousand times what is stored; only a larger one holds more headers than allowed.
    if len(content) <= 2 * FRAME_CONTENT:
        return
    try:
        records = _decode_sparing(content)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise OverLimit(f"cannot be read: {error}") from error
    headers = sum(array_count(bytes(memoryview(record.headers)[:5])) or 0 for record in records)
    if headers > MOST_HEADERS + FRAME_CONTENT:
        raise OverLimit(f"has {headers} headers, and {MOST_HEADERS} in a record are the most")


def array_count(data: bytes) -> int | None:
    """How many elements an array of MessagePack says that it has; None for what is none."""
    first = data[0] if data else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    size = _COUNTS.get(first)
    return None if size is None else int.from_bytes(data[1 : 1 + size])


def _check_words(*texts: Any) -> None:
    longest = max(map(len, texts))
    if longest > LONGEST_WORDS:
        raise OverLimit(f"has a name of {longest} characters, and {LONGEST_WORDS} are the most")
