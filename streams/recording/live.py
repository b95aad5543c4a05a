"""Reading a slice of topics at the broker: each partition in its order, and none far ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.oversized import OversizedBatch
from streams.claims import is_claim
from streams.clients import started
from streams.connection import Broker
from streams.ends import log_ends
from streams.recording.bounds import BEGINNING, END, Bound
from streams.recording.format import Recorded, RecordedTopic, Span
from streams.recording.merge import Place, merged
from streams.transport.headers import install

log = structlog.get_logger(__name__)

_FETCH_MILLISECONDS = 50
_FETCH_BYTES = 1024 * 1024
_RECORDS = 5_000
_AHEAD = 2_000
_AHEAD_BYTES = 2 * 1024 * 1024
"""Records of a partition, and bytes of them, that are held at most, beside one fetch of it."""


_SILENCE_SECONDS = 60.0
"""Longer than a broker takes to hand its partitions to another."""


class TopicsSilent(Exception):
    """The broker gives no more of partitions that have more; the text says which."""


class Waiting(NamedTuple):
    """Where a partition was read no further: what follows is in a transaction that is open."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class LiveSlice:
    """The records of a slice, partition by partition, as far as these went when it was opened.

    spans: the offsets that are read.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topics: Sequence[RecordedTopic],
        spans: Mapping[Place, Span],
        since: Bound,
        until: Bound,
    ) -> None:
        self.topics = tuple(topics)
        self.spans = tuple(spans[place] for place in sorted(spans))
        self.waiting: list[Waiting] = []
        """Partitions that end in a transaction which is still open."""
        self._consumer = consumer
        self._since, self._until = since, until
        self._begun: set[Place] = set()
        self._ends = {place: span.end for place, span in spans.items()}
        self._positions = {place: span.start for place, span in spans.items()}
        self._held: dict[Place, deque[Recorded]] = {place: deque() for place in spans}
        self._bytes = dict.fromkeys(spans, 0)
        self._tps = {place: _tp(topics, place) for place in spans}
        self._places = {tp: place for place, tp in self._tps.items()}
        self._reading: set[Place] = set(spans)
        self._heard = monotonic()
        self._paused: set[Place] = set()
        for place, span in spans.items():
            if span.start >= span.end:
                self._close(place)

    @property
    def places(self) -> list[Place]:
        """The partitions."""
        return sorted(self._held)

    @property
    def total(self) -> int:
        """Offsets between the beginnings and the ends."""
        return sum(span.end - span.start for span in self.spans)

    @property
    def done(self) -> int:
        """Of those, how many have been read."""
        return sum(
            min(self._positions[Place(span.topic, span.partition)], span.end) - span.start
            for span in self.spans
        )

    def records(self) -> AsyncIterator[Recorded]:
        """All records, merged; see `merged`. Errors: KafkaError."""
        return merged(self, self.places)

    async def next(self, place: Place) -> Recorded | None:
        """The next record of a partition; None at its end. Errors: KafkaError, TopicsSilent."""
        held = self._held[place]
        if not held:
            self._heard = monotonic()
        while not held and place in self._reading:
            await self._fetch()
            if monotonic() - self._heard > _SILENCE_SECONDS:
                raise TopicsSilent(self._silence(place))
        return held.popleft() if held else None

    async def _fetch(self) -> None:
        for place in [place for place in self._paused if not self._held[place]]:
            self._paused.discard(place)
            self._bytes[place] = 0
            self._consumer.resume(self._tps[place])
        fetched = await self._consumer.getmany(timeout_ms=_FETCH_MILLISECONDS, max_records=_RECORDS)
        if fetched:
            self._heard = monotonic()
        for tp, records in fetched.items():
            if (place := self._places[tp]) in self._reading:
                self._take(place, records)
        for place in list(self._reading):
            await self._look_for_end(place)

    def _take(self, place: Place, records: Sequence[Any]) -> None:
        end, held = self._ends[place], self._held[place]
        for record in records:
            if record.offset >= end or self._until.reached_by(record):
                self._close(place)
                return
            if type(record.value) is OversizedBatch:
                packed = record.value.packed
                log.warning(
                    "a batch of records is left out: workers refuse it as one dead letter",
                    where=f"{record.topic}[{record.partition}]@{packed.first} to @{packed.last}",
                    why=packed.limit,
                )
                continue
            # Whose the outputs are says nothing about what came of events.
            if self.topics[place.topic].role == "models" and is_claim(record.key):
                continue
            if place not in self._begun:
                if self._since.time is not None and not self._since.reached_by(record):
                    continue
                self._begun.add(place)
            headers = tuple((name, content) for name, content in record.headers)
            held.append(
                Recorded(*place, record.offset, record.timestamp, record.key, record.value, headers)
            )
            self._bytes[place] += len(record.key or b"") + len(record.value or b"")
        if len(held) >= _AHEAD or self._bytes[place] >= _AHEAD_BYTES:
            self._paused.add(place)
            self._consumer.pause(self._tps[place])

    async def _look_for_end(self, place: Place) -> None:
        tp = self._tps[place]
        position: int = await self._consumer.position(tp)
        self._positions[place] = position
        if position >= self._ends[place]:
            self._close(place)
            return
        high, stable = self._consumer.highwater(tp), self._consumer.last_stable_offset(tp)
        if high is not None and stable is not None and 0 <= stable < high and position >= stable:
            self.waiting.append(Waiting(tp.topic, tp.partition, position))
            self._close(place)

    def _silence(self, place: Place) -> str:
        topic, partition = self._tps[place]
        return (
            f"{topic}[{partition}]@{self._positions[place]}: the broker has given nothing for "
            f"{_SILENCE_SECONDS:g} s, and the partition goes to offset {self._ends[place]}. See "
            "whether it has a leader: `clv doctor`"
        )

    def _close(self, place: Place) -> None:
        self._positions[place] = self._ends[place]
        self._reading.discard(place)
        self._paused.discard(place)
        self._consumer.pause(self._tps[place])


@asynccontextmanager
async def live_slice(
    broker: Broker,
    topics: Sequence[RecordedTopic],
    since: Bound = BEGINNING,
    until: Bound = END,
) -> AsyncIterator[LiveSlice]:
    """A slice of topics that exist, read without a group; closed at the end. Errors: KafkaError.

    It is contiguous in each partition: from the first record at or after `since` up to before the
    first one at or after `until`. What belongs to an aborted transaction is not in it.
    """
    # Header names that are no UTF-8 must not end the reading.
    install()
    client = AIOKafkaConsumer(
        **broker.client_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=_FETCH_MILLISECONDS,
    )
    async with started(client) as consumer:
        places = [
            Place(number, partition)
            for number, topic in enumerate(topics)
            for partition in range(topic.partitions)
        ]
        spans = await _spans(consumer, topics, places, since, until)
        for place, span in spans.items():
            consumer.seek(_tp(topics, place), span.start)
        yield LiveSlice(consumer, topics, spans, since, until)


async def _spans(
    consumer: AIOKafkaConsumer,
    topics: Sequence[RecordedTopic],
    places: Sequence[Place],
    since: Bound,
    until: Bound,
) -> dict[Place, Span]:
    tps = {place: _tp(topics, place) for place in places}
    ends = await log_ends(consumer, list(tps.values()))
    starts = await consumer.beginning_offsets(list(tps.values())) if tps else {}
    if since.time is not None and tps:
        at = max(since.time, 0)
        # Some brokers answer with the beginning; what is before the time is then read, and dropped.
        found = await consumer.offsets_for_times(dict.fromkeys(tps.values(), at))
        for tp, first in found.items():
            starts[tp] = ends[tp] if first is None else max(starts[tp], first.offset)
    spans = {}
    for place, tp in tps.items():
        start = max(starts[tp], since.offset or 0)
        end = ends[tp] if until.offset is None else min(ends[tp], until.offset)
        spans[place] = Span(*place, min(start, end), end)
    return spans


def _tp(topics: Sequence[RecordedTopic], place: Place) -> TopicPartition:
    return TopicPartition(topics[place.topic].name, place.partition)
