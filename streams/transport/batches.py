"""One Faust event carries a batch of records of one topic-partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faust.types import TP, ConsumerMessage


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one topic-partition, as the consumer fetched them.

    size: bytes that they hold; 0 where nobody measured.
    """

    tp: TP
    records: Sequence[Any]
    size: int = 0

    @property
    def origin(self) -> str:
        """The topic-partition as text: "topic/partition"."""
        return f"{self.tp.topic}/{self.tp.partition}"

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
        return RecordBatch(self.tp, first), RecordBatch(self.tp, others)


def topic_partition(origin: str) -> TP:
    """The topic-partition of an origin."""
    topic, _, partition = origin.rpartition("/")
    return TP(topic, int(partition))


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
