"""Publish events to the input topics, in large batches, with Kafka's default partitioner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Self

from models.contracts.clock import Tick
from streams.files.outgoing import OutgoingEvent
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition, home_partition
from streams.kafka.writing import Outgoing, record_writer
from streams.settings import Topics

_FLUSH_EVERY = 5_000


class Publisher:
    """Publishes events to a service's topics; an async context manager.

    Events of one customer and topic keep their order.
    """

    def __init__(self, broker: Broker, topics: Topics, partitions: int) -> None:
        self._broker = broker
        self._partitions = partitions
        self._names: dict[str, str] = topics.model_dump()
        self._clock = topics.clock
        self._closing = AsyncExitStack()
        self._homes: dict[bytes, int] = {}
        self._keyless = 0

    async def __aenter__(self) -> Self:
        self._writer = await self._closing.enter_async_context(record_writer(self._broker))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._closing.aclose()

    async def publish(
        self, events: Iterable[OutgoingEvent], progress: Callable[[int], None] | None = None
    ) -> int:
        """Publish events, and return how many once the broker has acknowledged them all."""
        published = 0
        waiting: list[OutgoingEvent] = []
        for event in events:
            waiting.append(event)
            if len(waiting) >= _FLUSH_EVERY:
                published += await self._send(waiting, progress)
                waiting = []
        return published + await self._send(waiting, progress)

    async def tick(self, tick: Tick) -> None:
        """Publish a tick to every partition."""
        record = Outgoing(None, tick.model_dump_json(exclude_none=True).encode())
        clocks = (TopicPartition(self._clock, number) for number in range(self._partitions))
        await self._writer.write_all({tp: [record] for tp in clocks})

    async def _send(
        self, events: list[OutgoingEvent], progress: Callable[[int], None] | None
    ) -> int:
        by_home: defaultdict[TopicPartition, list[Outgoing]] = defaultdict(list)
        for event in events:
            home = TopicPartition(self._names[event.topic], self._home(event.key))
            by_home[home].append(Outgoing(event.key, event.value, event.headers))
        await self._writer.write_all(by_home)
        if progress is not None:
            progress(len(events))
        return len(events)

    def _home(self, key: bytes | None) -> int:
        """Return the partition of a key; records without a key go to the partitions in turn."""
        if key is None:
            self._keyless += 1
            return self._keyless % self._partitions
        home = self._homes.get(key)
        if home is None:
            home = self._homes[key] = home_partition(key, self._partitions)
        return home
