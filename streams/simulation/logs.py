"""Simulated: what the broker says of its logs, and the updates that the cache reads from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from streams.basis.logs import mark_of
from streams.basis.record import Mark
from streams.cache.updates import Cursor
from streams.kafka.metadata import Described
from streams.kafka.partitions import Bounds, TopicPartition
from streams.kafka.reading import Follower, LogClient
from streams.transport.memory.broker import MemoryBroker
from streams.transport.memory.recovering import LogReader


class MemoryLogs:
    """The logs of a simulated broker, which tells no ids of topics."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """Those of the topics that exist."""
        known = self._broker.partitions
        return {topic: Described(known[topic], "") for topic in topics if topic in known}

    async def bounds(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Where these logs begin and end."""
        logs, ends = self._broker.logs, self._broker.ends
        return {tp: Bounds(logs[tp][0].offset if logs[tp] else ends[tp], ends[tp]) for tp in tps}

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """What is committed; logs of which nothing is are missing."""
        held = self._broker.committed
        return {tp: held[tp] for tp in tps if tp in held}

    async def marks(self, places: Mapping[TopicPartition, int]) -> dict[TopicPartition, Mark]:
        """The first record at or after each offset, as a mark; none where there is none."""
        found = {tp: self._broker.fetch(tp, offset, 1) for tp, offset in places.items()}
        return {tp: mark_of(records[0]) for tp, records in found.items() if records}

    async def latest(
        self, tps: Collection[TopicPartition], key: bytes, most: int | None = None
    ) -> dict[TopicPartition, bytes]:
        """The last value of a key in each log, of those that have one in their last `most`."""
        found = {}
        for tp in tps:
            first = 0 if most is None else self._broker.ends[tp] - most
            for record in self._broker.fetch(tp, max(first, 0), None):
                if record.key == key and record.value is not None:
                    found[tp] = record.value
        return found


class MemoryUpdates:
    """The topic of value updates at the simulated broker, in place of `KafkaUpdates`."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cursor]:
        """The service's own cursor, over a simulated consumer."""
        reader: Any = LogReader(self._broker)
        yield Cursor(Follower(LogClient(reader), TopicPartition(self._topic, 0)))
