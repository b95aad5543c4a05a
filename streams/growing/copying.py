"""Reading partitions to their end, and writing so that what is acknowledged stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Set
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.clients import stop
from streams.connection import Broker
from streams.growing.stage import GrowthRefused
from streams.recording import RecordedTopic
from streams.recording.format import Recorded
from streams.recording.live import live_slice
from streams.transport import OutgoingRecord

_BATCH_BYTES = 512 * 1024
_REQUEST_BYTES = 8 * 1024 * 1024
"""A single record has up to 4 MiB, and the broker is the one to judge."""

_KNOWN_SECONDS = 60.0
_POLL_SECONDS = 0.1


async def newest_by_key(
    broker: Broker, topic: str, partitions: int
) -> AsyncIterator[tuple[int, dict[bytes, Recorded]]]:
    """Partition after partition of a topic, with the newest record of each key.

    Tombstones are among them. Errors: KafkaError, TopicsSilent.
    """
    async with live_slice(broker, [RecordedTopic("", topic, partitions)]) as live:
        for place in live.places:
            newest: dict[bytes, Recorded] = {}
            while (record := await live.next(place)) is not None:
                if record.key is not None:
                    newest[record.key] = record
            if live.waiting:
                raise GrowthRefused(
                    f"{live.waiting[0]}: a transaction is open there; wait for its end, and run "
                    "this again"
                )
            yield place.partition, newest


class Writer:
    """Writes records, and returns when the broker has acknowledged them."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def write(self, topic: str, by_partition: Mapping[int, Iterable[OutgoingRecord]]) -> None:
        """Write these to partitions of a topic, each partition's in their order."""
        await self._know(topic, by_partition.keys())
        deliveries: list[asyncio.Future[Any]] = []
        for partition, records in by_partition.items():
            for batch in self._batches(records):
                sending = self._producer.send_batch(batch, topic, partition=partition)
                deliveries.append(await sending)
        await asyncio.gather(*deliveries)

    async def _know(self, topic: str, partitions: Set[int]) -> None:
        """Wait until the broker that we ask has heard of partitions that were just made."""
        until = monotonic() + _KNOWN_SECONDS
        while unknown := partitions - await self._producer.partitions_for(topic):
            if monotonic() > until:
                raise GrowthRefused(
                    f"{topic}[{min(unknown)}] was made, but the brokers do not show it after "
                    f"{_KNOWN_SECONDS:g} s: see whether all of them are up, and run this again"
                )
            await asyncio.sleep(_POLL_SECONDS)
            await self._producer.client.force_metadata_update()

    def _batches(self, records: Iterable[OutgoingRecord]) -> Iterable[Any]:
        batch = self._producer.create_batch()
        for key, value, headers in records:
            fields = {"timestamp": None, "key": key, "value": value, "headers": headers}
            if batch.append(**fields) is None:
                yield batch
                batch = self._producer.create_batch()
                batch.append(**fields)
        if batch.record_count():
            yield batch


@asynccontextmanager
async def strict_writer(broker: Broker) -> AsyncIterator[Writer]:
    """A writer whose records are there once, on all replicas in sync. Errors: KafkaError."""
    producer = AIOKafkaProducer(
        **broker.client_options(),
        acks="all",
        enable_idempotence=True,
        max_batch_size=_BATCH_BYTES,
        max_request_size=_REQUEST_BYTES,
    )
    try:
        await producer.start()
        yield Writer(producer)
    finally:
        await stop(producer)
