"""Writing to a real broker with the test's own clock, and reading what it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP

from streams.clients import started, stop
from streams.connection import Broker
from streams.ends import log_ends
from streams.testing.broker import OutgoingRecord, Record

_BATCH_BYTES = 512 * 1024
_POLL_MILLISECONDS = 100
_FETCH_WAIT_MILLISECONDS = 25
"""How long the broker may hold a fetch that finds nothing: most topics of a test are empty."""


class KafkaLog:
    """The records of a broker, and the offsets that a group has committed."""

    def __init__(self, broker: Broker, group: str) -> None:
        self._broker = broker
        self._group = group
        self._producer: AIOKafkaProducer | None = None

    async def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            await stop(self._producer)
            self._producer = None

    async def append(self, tp: TP, records: Sequence[OutgoingRecord], timestamp: int) -> int:
        """Write records, in batches; returns the offset of the first once the broker has all."""
        producer = await self._connected()
        sent = []
        batch = producer.create_batch()
        for key, value, headers in records:
            record = {
                "timestamp": timestamp, "key": key, "value": value, "headers": list(headers),
            }  # fmt: skip
            if batch.append(**record) is None:
                sent.append(await producer.send_batch(batch, tp.topic, partition=tp.partition))
                batch = producer.create_batch()
                batch.append(**record)
        sent.append(await producer.send_batch(batch, tp.topic, partition=tp.partition))
        written = [await delivery for delivery in sent]
        return int(written[0].offset)

    async def read(self, tps: Iterable[TP]) -> list[Record]:
        """All records of these partitions, partition after partition."""
        partitions = [TopicPartition(*tp) for tp in tps]
        found: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        async with self._consumer() as consumer:
            ends = await log_ends(consumer, partitions)
            left = [tp for tp in partitions if ends[tp]]
            if left:
                consumer.assign(left)
            for tp in left:
                consumer.seek(tp, 0)
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=_POLL_MILLISECONDS)).items():
                    found[tp] += map(_record, records)
                left = [tp for tp in left if await consumer.position(tp) < ends[tp]]
        return [record for tp in partitions for record in found[tp]]

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Where these partitions end."""
        async with self._consumer() as consumer:
            ends = await log_ends(consumer, [TopicPartition(*tp) for tp in tps])
        return {TP(*tp): end for tp, end in ends.items()}

    async def committed(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """What the group has committed of these partitions; those it has not are missing."""
        wanted = [TopicPartition(*tp) for tp in tps]
        async with self.admin() as admin:
            try:
                # Asked by partition: the embedded broker's answer for all of them is cut short.
                held = await admin.list_consumer_group_offsets(self._group, partitions=wanted)
            except KafkaError as error:
                # A new Kafka makes the topic of the offsets when it is first asked for them.
                if not error.retriable:
                    raise
                return {}
        return {TP(*tp): offset.offset for tp, offset in held.items() if offset.offset >= 0}

    def admin(self) -> AbstractAsyncContextManager[AIOKafkaAdminClient]:
        """An admin client."""
        return started(AIOKafkaAdminClient(**self._broker.client_options()))

    def _consumer(self) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
        return started(
            AIOKafkaConsumer(
                **self._broker.client_options(),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
            )
        )

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **self._broker.client_options(), acks="all", max_batch_size=_BATCH_BYTES
            )
            await self._producer.start()
        return self._producer


def _record(record: Any) -> Record:
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
        record.timestamp_type,
    )
