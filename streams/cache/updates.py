"""The topic of value updates in Kafka, read without a group: for the catch-up of the cache."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple, Protocol

import structlog

from models.errors import ClvError
from streams.cache.score import Item, Removal, score_of_document
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError
from streams.kafka.partitions import TopicPartition, home_partition
from streams.kafka.reading import Follower, follower

log = structlog.get_logger(__name__)

FETCH_RECORDS = 2_000
REQUEST_SECONDS = 10.0


class UpdatesUnavailable(ClvError):
    """The updates cannot be read now; the text says where and why."""


class Fetched(NamedTuple):
    """Published items in order; the offset after them; the partition's end, None while unknown."""

    items: Sequence[Item]
    position: int
    end: int | None


class Cursor:
    """A place in one partition of the updates; partitions: as in `KafkaUpdates`."""

    def __init__(self, following: Follower, partitions: int | None = None) -> None:
        self._following = following
        self._partitions = partitions

    async def seek(self, partition: int, offset: int | None) -> None:
        """Seek to an offset of a partition; None: to its beginning."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._following.seek(partition, offset)
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error

    async def read(self) -> Fetched:
        """Read on, waiting a moment if nothing is left."""
        at = self._following.tp
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                records, position, end = await self._following.read()
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        items = []
        for record in records:
            if not self._is_home(record.key):
                continue
            item = item_of_record(str(at), record.offset, record.key, record.value)
            if item is not None:
                items.append(item)
        return Fetched(items, position, end)

    async def partitions(self) -> int:
        """Return how many partitions the topic has; call it after the first read."""
        try:
            known = self._partitions or await self._following.partitions()
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        if not known:
            topic = self._following.tp.topic
            raise UpdatesUnavailable(f"{topic}: the broker does not tell its partitions")
        return known

    def _is_home(self, key: bytes | None) -> bool:
        if key is None or self._partitions is None:
            return True
        return home_partition(key, self._partitions) == self._following.tp.partition

    def _unavailable(self, error: Exception) -> UpdatesUnavailable:
        return UpdatesUnavailable(f"{self._following.tp}: {error!r}")


class Updates(Protocol):
    """The topic of value updates; its methods and its cursors' raise UpdatesUnavailable."""

    def open(self) -> AbstractAsyncContextManager[Cursor]:
        """Open a cursor."""


class KafkaUpdates:
    """The topic of value updates.

    partitions: how many the topic has; then records of customers who belong to another partition
    are skipped. They are from before the topics were grown, and positions of two partitions do not
    compare. None: all records count.
    """

    def __init__(self, broker: Broker, topic: str, *, partitions: int | None = None) -> None:
        self._broker = broker
        self._topic = topic
        self._partitions = partitions

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cursor]:
        """Open a cursor; raises UpdatesUnavailable."""
        at = TopicPartition(self._topic, 0)
        async with AsyncExitStack() as stack:
            try:
                opening = follower(self._broker, at, max_poll_records=FETCH_RECORDS)
                following = await stack.enter_async_context(opening)
            except (KafkaError, OSError) as error:
                raise UpdatesUnavailable(f"{self._topic}: {error!r}") from error
            yield Cursor(following, self._partitions)


def item_of_record(
    partition: str, offset: int, key: bytes | None, value: bytes | None
) -> Item | None:
    """Return a record as a score or a removal; None, with a warning, if it is neither.

    partition: topic[partition].
    """
    try:
        return _item(offset, key, value)
    except ValueError as error:
        log.warning("cache_update_skipped", where=f"{partition}@{offset}", error=str(error))
        return None


def _item(offset: int, key: bytes | None, value: bytes | None) -> Item:
    if value is not None:
        return score_of_document(offset, value)
    if key is None:
        raise ValueError("a tombstone needs the customer's id as its key; publish it with one")
    return Removal(key.decode(), offset)
