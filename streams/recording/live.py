"""Reading a slice of topics at the broker: each partition in its order, and none far ahead."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

import structlog

from models.errors import ClvError
from models.oversized import OversizedBatch
from streams.kafka.connection import Broker
from streams.kafka.partitions import LogRecord, TopicPartition
from streams.kafka.reading import LogClient, log_client
from streams.recording.format import Place, Progress, Recorded, RecordedTopic, Span
from streams.registry.records import came_into_force, is_parameters
from streams.transport.headers import install

log = structlog.get_logger(__name__)

_FETCH_BYTES = 1024 * 1024
_RECORDS = 5_000
_AHEAD = 2_000
_AHEAD_BYTES = 2 * 1024 * 1024
"""Records of a partition, and bytes of them, that are held at most, beside one fetch of it."""


_SILENCE_SECONDS = 60.0
"""Longer than a broker takes to hand its partitions to another."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A place in every partition: the first record at or after a time (ms since 1970) or offset.

    words: as it was asked for. Without time and offset: the beginning, or the end, of the slice.
    """

    words: str
    time: int | None = None
    offset: int | None = None

    def reached_by(self, record: LogRecord | Recorded) -> bool:
        """Whether a record is at or after it; False where there is neither time nor offset."""
        if self.time is not None:
            return record.timestamp >= self.time
        return self.offset is not None and record.offset >= self.offset


BEGINNING = Bound("the beginning")
END = Bound("the end")


class TopicsSilent(ClvError):
    """The broker gives no more of partitions that have more; the text says which."""


class Waiting(NamedTuple):
    """Where a partition was read no further: what follows is in a transaction that is open."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class LiveSlice:
    """The records of a slice, up to the ends at its opening. spans: the offsets it reads."""

    def __init__(
        self,
        client: LogClient,
        topics: Sequence[RecordedTopic],
        spans: Mapping[Place, Span],
        since: Bound,
        until: Bound,
    ) -> None:
        self.topics = tuple(topics)
        self.spans = tuple(spans[place] for place in sorted(spans))
        self.waiting: list[Waiting] = []
        """Partitions that end in a transaction which is still open."""
        self.progress: Progress = lambda _done, _total: None
        """Called after each fetch."""
        self._client = client
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
        return merged(self.next, self.places)

    async def next(self, place: Place) -> Recorded | None:
        """The next record of a partition; None at its end. Errors: KafkaError, TopicsSilent."""
        held = self._held[place]
        if not held:
            self._heard = monotonic()
        while not held and place in self._reading:
            await self._fetch()
            if monotonic() - self._heard > _SILENCE_SECONDS:
                raise TopicsSilent(
                    f"{self._tps[place]}@{self._positions[place]}: the broker has given nothing "
                    f"for {_SILENCE_SECONDS:g} s, and the partition goes to offset "
                    f"{self._ends[place]}. See whether it has a leader: `clv doctor`"
                )
        return held.popleft() if held else None

    async def _fetch(self) -> None:
        for place in [place for place in self._paused if not self._held[place]]:
            self._paused.discard(place)
            self._bytes[place] = 0
            self._client.resume(self._tps[place])
        fetched = await self._client.fetch(most=_RECORDS)
        if fetched:
            self._heard = monotonic()
        for tp, records in fetched.items():
            if (place := self._places[tp]) in self._reading:
                self._take(place, records)
        for place in list(self._reading):
            await self._look_for_end(place)
        self.progress(self.done, self.total)

    def _take(self, place: Place, records: Sequence[LogRecord]) -> None:
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
            # Claims, candidates, requests, and the rules with which a worker begins a service say
            # nothing about what came of events.
            if self.topics[place.topic].role == "models" and not (
                is_parameters(record.key) or came_into_force(record.key, record.value)
            ):
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
            self._client.pause(self._tps[place])

    async def _look_for_end(self, place: Place) -> None:
        tp = self._tps[place]
        position = await self._client.position(tp)
        self._positions[place] = position
        if position >= self._ends[place]:
            self._close(place)
            return
        high, readable = self._client.end(tp), self._client.readable_end(tp)
        if high is not None and readable is not None and readable < high and position >= readable:
            self.waiting.append(Waiting(tp.topic, tp.partition, position))
            self._close(place)

    def _close(self, place: Place) -> None:
        self._positions[place] = self._ends[place]
        self._reading.discard(place)
        self._paused.discard(place)
        self._client.pause(self._tps[place])


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
    async with log_client(broker, max_partition_fetch_bytes=_FETCH_BYTES) as client:
        places = [
            Place(number, partition)
            for number, topic in enumerate(topics)
            for partition in range(topic.partitions)
        ]
        spans = await _spans(client, topics, places, since, until)
        client.seek({_tp(topics, place): span.start for place, span in spans.items()})
        yield LiveSlice(client, topics, spans, since, until)


async def _spans(
    client: LogClient,
    topics: Sequence[RecordedTopic],
    places: Sequence[Place],
    since: Bound,
    until: Bound,
) -> dict[Place, Span]:
    tps = {place: _tp(topics, place) for place in places}
    bounds = await client.bounds(list(tps.values()))
    starts = {tp: at.begin for tp, at in bounds.items()}
    if since.time is not None:
        # Some brokers answer with the beginning; what is before the time is then read, and dropped.
        found = await client.offsets_at(dict.fromkeys(tps.values(), max(since.time, 0)))
        for tp, first in found.items():
            starts[tp] = bounds[tp].end if first is None else max(starts[tp], first)
    spans = {}
    for place, tp in tps.items():
        start = max(starts[tp], since.offset or 0)
        end = bounds[tp].end if until.offset is None else min(bounds[tp].end, until.offset)
        spans[place] = Span(*place, min(start, end), end)
    return spans


def _tp(topics: Sequence[RecordedTopic], place: Place) -> TopicPartition:
    return TopicPartition(topics[place.topic].name, place.partition)


async def merged(
    following: Callable[[Place], Awaitable[Recorded | None]], places: Collection[Place]
) -> AsyncIterator[Recorded]:
    """All records by (timestamp, topic, partition, offset), each partition in its own order.

    following: reads the next record of a partition; None at its end. A record that is earlier than
    the one before it in its partition still comes after that one.
    """
    heads: list[tuple[int, Place, int, Recorded]] = []

    async def push(place: Place) -> None:
        if (record := await following(place)) is not None:
            heapq.heappush(heads, (record.timestamp, place, record.offset, record))

    for place in places:
        await push(place)
    while heads:
        _, place, _, record = heapq.heappop(heads)
        yield record
        await push(place)
