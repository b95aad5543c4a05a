"""Publishing records as they were, with their timestamps, and exactly from where it was left."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownError

from streams.clients import stop
from streams.connection import Broker
from streams.recording.format import Recorded, RecordedTopic
from streams.recording.live import LiveSlice
from streams.recording.merge import Place
from streams.recording.placing import Placing

_AT_ONCE = 5_000
_BYTES_AT_ONCE = 8 * 1024 * 1024
_BATCH_BYTES = 512 * 1024
_REQUEST_BYTES = 4 * 1024 * 1024
_PROBES = 4
_PROBE_SECONDS = 0.25


class TargetDiffers(Exception):
    """What is in the target is not the beginning of what is replayed; the text says where."""


@dataclass(slots=True)
class Published:
    """What was published, and what was there already."""

    sent: int = 0
    found: int = 0


class TopicWriter:
    """Writes records to topics, a partition's in the order in which they are given.

    names: of the topics by role. counts: their partitions. there: what was published to them
    before, which is compared and not sent again; None: nothing was.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topics: Sequence[RecordedTopic],
        names: Mapping[str, str],
        placing: Placing,
        there: LiveSlice | None = None,
    ) -> None:
        self.published = Published()
        self._producer = producer
        self._names = [names[topic.role] for topic in topics]
        self._topics = topics
        self._placing = placing
        self._there = there
        self._left: set[Place] = set() if there is None else set(there.places)
        self._waiting: defaultdict[tuple[str, int], list[Recorded]] = defaultdict(list)
        self._number = 0
        self._bytes = 0

    async def put(self, record: Recorded) -> bool:
        """Send a record, soon, unless it is there already; returns whether it was sent.

        Errors: TargetDiffers, KafkaError.
        """
        sent = False
        for partition in self._placing.of(record):
            place = Place(record.topic, partition)
            if place in self._left and await self._is_there(place, record):
                self.published.found += 1
                continue
            self._waiting[self._names[record.topic], partition].append(record)
            self._number += 1
            self._bytes += len(record.key or b"") + len(record.value or b"")
            sent = True
        if self._number >= _AT_ONCE or self._bytes >= _BYTES_AT_ONCE:
            await self.flush()
        return sent

    async def flush(self) -> None:
        """Return when the broker has acknowledged everything that was put."""
        waiting, self._waiting = self._waiting, defaultdict(list)
        number, self._number, self._bytes = self._number, 0, 0
        deliveries: list[asyncio.Future[Any]] = []
        for (topic, partition), records in waiting.items():
            deliveries += await self._send(topic, partition, records)
        await asyncio.gather(*deliveries)
        self.published.sent += number

    async def finish(self) -> None:
        """Flush; TargetDiffers where the target has more than was put."""
        await self.flush()
        for place in sorted(self._left):
            more = None if self._there is None else await self._there.next(place)
            if more is not None:
                raise TargetDiffers(
                    f"{self._where(place, more.offset)} holds a record, and the replay ends before "
                    "it: something else was published there too"
                )

    async def _is_there(self, place: Place, record: Recorded) -> bool:
        held = None if self._there is None else await self._there.next(place)
        if held is None:
            self._left.discard(place)
            return False
        for name in ("key", "value", "timestamp", "headers"):
            seen, wanted = getattr(held, name), getattr(record, name)
            if seen != wanted:
                origin = self._topics[record.topic].name
                raise TargetDiffers(
                    f"{self._where(place, held.offset)} is not "
                    f"{origin}[{record.partition}]@{record.offset} of what is replayed: its {name} "
                    f"is {_shown(seen)}, not {_shown(wanted)}. Resume with the same source and "
                    "options, or replay to another prefix"
                )
        return True

    def _where(self, place: Place, offset: int) -> str:
        return f"{self._names[place.topic]}[{place.partition}]@{offset}"

    async def _send(
        self, topic: str, partition: int, records: Sequence[Recorded]
    ) -> list[asyncio.Future[Any]]:
        deliveries = []
        batch = self._producer.create_batch()
        for record in records:
            fields = {
                "timestamp": record.timestamp,
                "key": record.key,
                "value": record.value,
                "headers": list(record.headers),
            }
            if batch.append(**fields) is None:
                sending = self._producer.send_batch(batch, topic, partition=partition)
                deliveries.append(await sending)
                batch = self._producer.create_batch()
                batch.append(**fields)
        deliveries.append(await self._producer.send_batch(batch, topic, partition=partition))
        return deliveries


@asynccontextmanager
async def exact_producer(broker: Broker) -> AsyncIterator[tuple[AIOKafkaProducer, bool]]:
    """A started producer, and whether the broker sees to it that each record is written once."""
    producer, idempotent = await _started(broker)
    try:
        yield producer, idempotent
    finally:
        await stop(producer)


async def _started(broker: Broker) -> tuple[AIOKafkaProducer, bool]:
    for probe in range(_PROBES):
        if probe:
            await asyncio.sleep(_PROBE_SECONDS)
        producer = _producer(broker, idempotent=True)
        try:
            await producer.start()
        except UnknownError:
            await stop(producer)
        except BaseException:
            await stop(producer)
            raise
        else:
            return producer, True
    producer = _producer(broker, idempotent=False)
    try:
        await producer.start()
    except BaseException:
        await stop(producer)
        raise
    return producer, False


def _producer(broker: Broker, *, idempotent: bool) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **broker.client_options(),
        acks="all",
        enable_idempotence=idempotent,
        max_batch_size=_BATCH_BYTES,
        max_request_size=_REQUEST_BYTES,
    )


def _shown(content: object) -> str:
    text = repr(content)
    return text if len(text) <= 80 else f"{text[:80]}…"
