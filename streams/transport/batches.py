"""One Faust event carries a batch of records of one topic-partition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faust
from faust.types import TP, AppT, ConsumerMessage, EventT, Message


def origin_of(tp: TP, generation: int = 0) -> str:
    """Return a log as text: "topic/partition", with "#generation" if it replaced another log.

    Offsets compare only within one origin, not with those of a replaced log.
    """
    origin = f"{tp.topic}/{tp.partition}"
    return f"{origin}#{generation}" if generation else origin


def origin_parts(origin: str) -> tuple[TP, int]:
    """Return the topic-partition and the generation of an origin."""
    topic, _, rest = origin.rpartition("/")
    partition, _, generation = rest.partition("#")
    return TP(topic, int(partition)), int(generation or 0)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one topic-partition, as the consumer fetched them.

    size: bytes in memory; 0 if not measured. generation: how often the log of this name was
    replaced by another.
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
        """Split off the first records; either part may be empty."""
        first, others = self.records[:number], self.records[number:]
        return replace(self, records=first, size=0), replace(self, records=others, size=0)


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


class RawSchema(faust.Schema):  # type: ignore[misc]
    """Passes the batch to the agent undecoded, so that no record is lost to a decoding error."""

    def compile(self, app: AppT, **_callbacks: Any) -> Callable[..., Awaitable[EventT]]:
        """Return the function that Faust calls with every message."""
        create_event = app.create_event

        async def decode(message: Message, *, propagate: bool = False) -> EventT:  # noqa: ARG001
            return create_event(None, message.value, message.headers, message)

        return decode
