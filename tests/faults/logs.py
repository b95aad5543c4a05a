"""The topics as they grow: read from where the last reading ended."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.partitions import home_partition
from tests.faults.limits import at_most, within

READ_SECONDS = 60.0
CLOSE_SECONDS = 5.0


class Latest(NamedTuple):
    """A customer's last record on the topic of updates; gone: it takes the customer back."""

    offset: int
    gone: bool


class Logs:
    """What has been read of some topics since the last `forget`, and how far.

    records: of the topics in `kept`.
    latest: of every customer that ever had a value update, the last one. ends: the end of every
    partition, as of the last reading.
    """

    def __init__(
        self,
        address: str,
        topics: Sequence[str],
        partitions: int,
        updates: str,
        kept: Collection[str],
    ) -> None:
        self.address = address
        self.kept = kept
        self.topics = topics
        self.count = partitions
        self.partitions = [TopicPartition(t, n) for t in topics for n in range(partitions)]
        self.updates = updates
        self.ends: dict[TopicPartition, int] = dict.fromkeys(self.partitions, 0)
        self.records: defaultdict[str, list[Any]] = defaultdict(list)
        self.latest: dict[str, Latest] = {}
        self._reading = asyncio.Lock()

    def grow(self, partitions: int) -> None:
        """Read so many partitions of each topic from now on."""
        more = [TopicPartition(t, n) for t in self.topics for n in range(self.count, partitions)]
        self.count = partitions
        self.partitions += more
        self.ends |= dict.fromkeys(more, 0)

    def forget(self) -> None:
        """Drop the records read so far."""
        self.records = defaultdict(list)

    async def read(self) -> None:
        """Read what came since the last time."""
        async with self._reading:
            await within(READ_SECONDS, "the ends of all topics", self._read())

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
            isolation_level="read_committed",
        )
        try:
            await consumer.start()
            consumer.assign(self.partitions)
            for tp, offset in self.ends.items():
                consumer.seek(tp, offset)
            await self._read_to_the_end(consumer)
        finally:
            await at_most(CLOSE_SECONDS, consumer.stop())

    async def _read_to_the_end(self, consumer: AIOKafkaConsumer) -> None:
        unfinished = set(self.partitions)
        while unfinished:
            for tp, records in (await consumer.getmany(timeout_ms=50)).items():
                if tp.topic in self.kept:
                    self.records[tp.topic] += records
                # At once: whoever is cancelled here must not read them again.
                self.ends[tp] = records[-1].offset + 1
                if tp.topic == self.updates:
                    for record in records:
                        if home_partition(record.key, self.count) != tp.partition:
                            # Of a customer who has moved.
                            continue
                        name = record.key.decode()
                        self.latest[name] = Latest(record.offset, record.value is None)
            for tp in list(unfinished):
                end = consumer.highwater(tp)
                position = await consumer.position(tp)
                if end is not None and position >= end:
                    self.ends[tp] = position
                    consumer.pause(tp)
                    unfinished.remove(tp)
