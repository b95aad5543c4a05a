"""A topic of value updates at a real broker, and what Redis must hold of it."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import redis.asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.cache import CachedScore, KafkaUpdates, ScoreCache
from streams.cache.score import Item, Removal
from streams.cache.updates import Cursor, Fetched
from streams.cache.writer import CacheWriter
from streams.kafka.connection import Broker
from streams.kafka.partitions import home_partition
from tests.test_streams.cache.support import assert_consistent

PARTITIONS = 2
NOWHERE = -1


def valued(
    customer_id: str,
    version: int,
    clv: float = 1.0,
    tier: str = "gold",
    position: int = NOWHERE,
) -> CachedScore:
    """A score with the update it is published in; `publish` gives it its position."""
    data = {"customer_id": customer_id, "version": version, "clv": clv, "segments": {"tier": tier}}
    update = json.dumps({"specversion": "1.0", "data": {**data, "more": [1, "ñ"]}}).encode()
    return CachedScore(customer_id, position, clv, (("tier", tier),), update)


def removal(customer_id: str) -> Removal:
    return Removal(customer_id, NOWHERE)


def home(customer_id: str) -> int:
    return home_partition(customer_id.encode(), PARTITIONS)


def end_of(items: Sequence[Item]) -> int:
    return items[-1].position + 1


class Topic:
    """The updates at a real broker, and what must be in Redis of them."""

    def __init__(self, broker: str) -> None:
        self.broker = broker
        self.name = f"updates-{uuid4().hex}"
        self.expected: dict[str, CachedScore] = {}

    async def __aenter__(self) -> "Topic":
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker)
        await admin.start()
        await admin.create_topics([NewTopic(self.name, PARTITIONS, 1)])
        await admin.close()
        self.producer = AIOKafkaProducer(bootstrap_servers=self.broker, acks="all")
        await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()

    @property
    def updates(self) -> KafkaUpdates:
        return KafkaUpdates(Broker(self.broker), self.name)

    async def publish(self, items: Iterable[Item], partition: int = 0) -> list[Item]:
        """Publish; returns the items with their positions."""
        items = list(items)
        deliveries = []
        for item in items:
            value = item.update if isinstance(item, CachedScore) else None
            key = item.customer_id.encode()
            deliveries.append(await self.producer.send(self.name, value, key, partition))
        placed = [
            item._replace(position=(await delivery).offset)
            for item, delivery in zip(items, deliveries, strict=True)
        ]
        for item in placed:
            if isinstance(item, CachedScore):
                self.expected[item.customer_id] = item
            else:
                self.expected.pop(item.customer_id, None)
        return placed

    async def publish_and_write(
        self, writer: CacheWriter, items: Iterable[Item], partition: int = 0
    ) -> int:
        """As the stream does; returns the offset after the last."""
        placed = await self.publish(items, partition)
        writer.submit(
            partition,
            end_of(placed),
            [item for item in placed if isinstance(item, CachedScore)],
            [item for item in placed if isinstance(item, Removal)],
        )
        await writer.flush()
        return end_of(placed)

    async def publish_home(self, items: Iterable[Item]) -> None:
        """Publish each in the partition of its customer, as the service does."""
        by_partition: defaultdict[int, list[Item]] = defaultdict(list)
        for item in items:
            by_partition[home(item.customer_id)].append(item)
        for partition, those in by_partition.items():
            await self.publish(those, partition)

    def without(self, *customers: str) -> "AsShown":
        """The topic after a compaction that left nothing of these customers."""

        async def compacted(fetched: Fetched) -> Fetched:
            return fetched._replace(
                items=[item for item in fetched.items if item.customer_id not in customers]
            )

        return AsShown(self.updates, compacted)

    async def assert_cached(self, cache: ScoreCache, client: redis.asyncio.Redis) -> None:
        assert await cache.size() == len(self.expected)
        for customer_id, expected in self.expected.items():
            assert await cache.get(customer_id) == expected
        await assert_consistent(client)


class AsShown:
    """A topic of which each fetch is shown as a function makes it."""

    def __init__(
        self, updates: KafkaUpdates, show: Callable[[Fetched], Awaitable[Fetched]]
    ) -> None:
        self.updates = updates
        self.show = show

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cursor]:
        async with self.updates.open() as self.cursor:
            yield self

    async def seek(self, partition: int, offset: int | None) -> None:
        await self.cursor.seek(partition, offset)

    async def read(self) -> Fetched:
        return await self.show(await self.cursor.read())

    async def partitions(self) -> int:
        return await self.cursor.partitions()


async def until_mark(cache: ScoreCache, end: int, partition: int = 0) -> None:
    async with asyncio.timeout(120):
        while await cache.marks([partition]) != [str(end)]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
