"""One Faust event carries a batch of records of one topic-partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from faust.types import TP, ConsumerMessage


def origin_of(tp: TP, generation: int = 0) -> str:
    """A log as text: "topic/partition", and "#generation" where it replaced another of that name.

    Offsets are compared within an origin only: those of a log that was replaced say nothing.
    """
    origin = f"{tp.topic}/{tp.partition}"
    return f"{origin}#{generation}" if generation else origin


def origin_parts(origin: str) -> tuple[TP, int]:
    """The topic-partition and the generation of an origin."""
    topic, _, rest = origin.rpartition("/")
    partition, _, generation = rest.partition("#")
    return TP(topic, int(partition)), int(generation or 0)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one topic-partition, as the consumer fetched them.

    size: bytes that they hold; 0 where nobody measured. generation: how often the log of this name
    was replaced by another.
    """

    tp: TP
    records: Sequence[Any]
    size: int = 0
    generation: int = 0

    @property
    def origin(self) -> str:
        """The log as text, see `origin_of`."""
        return origin_of(self.tp, self.generation)

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        offset: int = self.records[-1].offset
        return offset

    def __len__(self) -> int:
        return len(self.records)

    def cut(self, number: int) -> tuple[RecordBatch, RecordBatch]:
        """Its first records, and the others; either may be empty."""
        first, others = self.records[:number], self.records[number:]
        return replace(self, records=first, size=0), replace(self, records=others, size=0)


def topic_partition(origin: str) -> TP:
    """The topic-partition of an origin."""
    return origin_parts(origin)[0]


class BatchMessage(ConsumerMessage):  # type: ignore[misc]
    """The Faust message of a batch: its offset is that of the last record, its value the batch."""

    __slots__ = ()

    def __init__(self, batch: RecordBatch, generation_id: int) -> None:
        last = batch.records[-1]
        super().__init__(
            batch.tp.topic,
            batch.tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            (),
            None,
            batch,
            None,
            0,
            0,
            batch.tp,
            generation_id=generation_id,
        )
