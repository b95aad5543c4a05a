"""The updates in Kafka, read by a consumer without a group."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.cache.updates import Fetched, UpdatesUnavailable, item_of_record
from streams.clients import stop
from streams.topics import home_partition

FETCH_RECORDS = 2_000
FETCH_MILLISECONDS = 50
# The broker says where a partition ends when it answers: soon, also where nothing is left.
FETCH_WAIT_MILLISECONDS = 25
REQUEST_SECONDS = 10.0


class KafkaUpdates:
    """The topic of value updates; `options` are those of every aiokafka client.

    partitions: how many the topic has; then what a partition holds of customers who are at home in
    another is passed over. They were moved when the partitions became more, and positions of two
    partitions do not compare. None: everything counts.
    """

    def __init__(self, topic: str, *, partitions: int | None = None, **options: Any) -> None:
        self._topic = topic
        self._partitions = partitions
        self._options = options

    @asynccontextmanager
    async def open(self) -> AsyncIterator["KafkaCursor"]:
        """A cursor, closed at the end; raises UpdatesUnavailable."""
        consumer = AIOKafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=FETCH_RECORDS,
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            **self._options,
        )
        try:
            try:
                await consumer.start()
            except (KafkaError, OSError) as error:
                raise UpdatesUnavailable(f"{self._topic}: {error!r}") from error
            yield KafkaCursor(consumer, self._topic, self._partitions)
        finally:
            await stop(consumer)


class KafkaCursor:
    """A place in one partition of the updates; partitions: as in `KafkaUpdates`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, topic: str, partitions: int | None = None
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._at = TopicPartition(topic, 0)

    async def seek(self, partition: int, offset: int | None) -> None:
        """Go to an offset of a partition; None: to its beginning."""
        self._at = TopicPartition(self._at.topic, partition)
        try:
            self._consumer.assign([self._at])
            if offset is None:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await self._consumer.seek_to_beginning(self._at)
            else:
                self._consumer.seek(self._at, offset)
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error

    async def read(self) -> Fetched:
        """Read on, waiting a moment where nothing is left."""
        try:
            fetched = await self._consumer.getmany(self._at, timeout_ms=FETCH_MILLISECONDS)
            async with asyncio.timeout(REQUEST_SECONDS):
                position = await self._consumer.position(self._at)
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        items = []
        for record in fetched.get(self._at, ()):
            if not self._is_home(record.key):
                continue
            item = item_of_record(self._partition, record.offset, record.key, record.value)
            if item is not None:
                items.append(item)
        return Fetched(items, position, self._consumer.highwater(self._at))

    async def partitions(self) -> int:
        """Return how many partitions the topic has; to be asked once something was read."""
        known = self._consumer.partitions_for_topic(self._at.topic)
        if not known:
            raise UpdatesUnavailable(f"{self._at.topic}: the broker does not tell its partitions")
        return len(known)

    def _is_home(self, key: bytes | None) -> bool:
        if key is None or self._partitions is None:
            return True
        number: int = self._at.partition
        return home_partition(key, self._partitions) == number

    @property
    def _partition(self) -> str:
        return f"{self._at.topic}[{self._at.partition}]"

    def _unavailable(self, error: Exception) -> UpdatesUnavailable:
        return UpdatesUnavailable(f"{self._partition}: {error!r}")
