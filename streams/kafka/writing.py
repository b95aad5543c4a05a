"""Writing records: packed into batches as large as a request may be, and acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Set
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, NamedTuple

import aiokafka
from aiokafka.errors import UnknownError

from streams.kafka.clients import started
from streams.kafka.connection import Broker
from streams.kafka.partitions import Bounds, Headers, TopicPartition
from streams.kafka.topics import NotEnlarged

_BATCH_BYTES = 512 * 1024
_REQUEST_BYTES = 8 * 1024 * 1024
"""A single record has up to 4 MiB, and the broker is the one to judge."""

_KNOWN_SECONDS = 60.0
_POLL_SECONDS = 0.1
PROBES = 4


class Outgoing(NamedTuple):
    """A record to be written; timestamp: ms since 1970, None: when it is written."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int | None = None


def packed(
    producer: Any, records: Iterable[tuple[Any, ...]], begun: Any | None = None
) -> Iterator[Any]:
    """Batches of aiokafka's for one partition that hold all records, each as full as it may be.

    records: as `Outgoing`; the timestamp may be left out. begun: a batch to fill up first.
    """
    batch = producer.create_batch() if begun is None else begun
    for key, value, headers, *more in records:
        at = more[0] if more else None
        told = headers if type(headers) is list else list(headers)
        if batch.append(timestamp=at, key=key, value=value, headers=told) is None:
            yield batch
            batch = producer.create_batch()
            batch.append(timestamp=at, key=key, value=value, headers=told)
    if batch.record_count():
        yield batch


class RecordWriter:
    """Writes records; what it has returned from is acknowledged. All methods raise KafkaError."""

    def __init__(self, producer: aiokafka.AIOKafkaProducer, *, idempotent: bool) -> None:
        self.idempotent = idempotent
        """Whether the broker sees to it that each record is written once."""
        self._producer = producer

    async def write(self, tp: TopicPartition, records: Iterable[tuple[Any, ...]]) -> Bounds:
        """Write records, at least one, to a partition; returns where they are.

        -1 if a batch arrived twice and the broker did not say where it was written first.
        """
        sent = await self._send(tp, records)
        offsets: list[int] = [(await delivery).offset for _, delivery in sent]
        count: int = sent[-1][0].record_count()
        return Bounds(offsets[0], offsets[-1] + count if offsets[-1] >= 0 else -1)

    async def write_all(
        self, by_partition: Mapping[TopicPartition, Iterable[tuple[Any, ...]]]
    ) -> None:
        """Write to several partitions at once, each partition's records in their order."""
        sent = [await self._send(tp, records) for tp, records in by_partition.items()]
        await asyncio.gather(*(delivery for batches in sent for _, delivery in batches))

    async def send(self, tp: TopicPartition, record: Outgoing) -> asyncio.Future[Any]:
        """Send one record, and return its delivery, to be awaited; MessageSizeTooLargeError."""
        delivery: asyncio.Future[Any] = await self._producer.send(
            tp.topic,
            record.value,
            key=record.key,
            partition=tp.partition,
            headers=list(record.headers),
            timestamp_ms=record.timestamp,
        )
        return delivery

    async def know(self, topic: str, partitions: Set[int]) -> None:
        """Wait until the broker that we ask has heard of partitions that were just made.

        Raises NotEnlarged when it takes longer than a minute.
        """
        until = monotonic() + _KNOWN_SECONDS
        while unknown := partitions - await self._producer.partitions_for(topic):
            if monotonic() > until:
                raise NotEnlarged(
                    f"{topic}[{min(unknown)}] was made, but the brokers do not show it after "
                    f"{_KNOWN_SECONDS:g} s: see whether all of them are up, and run this again"
                )
            await asyncio.sleep(_POLL_SECONDS)
            await self._producer.client.force_metadata_update()

    async def _send(
        self, tp: TopicPartition, records: Iterable[tuple[Any, ...]]
    ) -> list[tuple[Any, asyncio.Future[Any]]]:
        return [
            (batch, await self._producer.send_batch(batch, tp.topic, partition=tp.partition))
            for batch in packed(self._producer, records)
        ]


@asynccontextmanager
async def record_writer(
    broker: Broker, *, idempotent: bool | None = False
) -> AsyncIterator[RecordWriter]:
    """A writer whose records are on all replicas in sync. Errors: KafkaError.

    idempotent: whether the broker must see to it that each record is written once; None: if it can,
    which the embedded one cannot.
    """
    if idempotent is None:
        idempotent = await can_be_idempotent(lambda: _producer(broker, idempotent=True))
    async with started(_producer(broker, idempotent=idempotent)) as producer:
        yield RecordWriter(producer, idempotent=idempotent)


async def can_be_idempotent(
    producer: Callable[[], aiokafka.AIOKafkaProducer], pause: float = 0.25
) -> bool:
    """Ask for a producer id; a broker without them answers each time with the same error.

    producer: makes an idempotent producer. pause: seconds between two questions.
    """
    for probe in range(PROBES):
        if probe:
            await asyncio.sleep(pause)
        with suppress(UnknownError):
            async with started(producer()):
                return True
    return False


def _producer(broker: Broker, *, idempotent: bool) -> aiokafka.AIOKafkaProducer:
    return aiokafka.AIOKafkaProducer(
        **broker.client_options(),
        acks="all",
        enable_idempotence=idempotent,
        max_batch_size=_BATCH_BYTES,
        max_request_size=_REQUEST_BYTES,
    )
