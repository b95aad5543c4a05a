"""Publishing events to the input topics, in large batches, keyed and partitioned as Kafka does."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from models.contracts.clock import Tick
from streams.clients import stop
from streams.connection import Broker
from streams.files.outgoing import OutgoingEvent
from streams.settings import Topics
from streams.topics import home_partition

_FLUSH_EVERY = 5_000


class Publisher:
    """Publishes events to the topics of a service; an async context manager.

    Events of one customer and topic arrive in the order in which they were given.
    """

    def __init__(self, broker: Broker, topics: Topics, partitions: int) -> None:
        self._partitions = partitions
        self._names: dict[str, str] = topics.model_dump()
        self._clock = topics.clock
        self._producer = AIOKafkaProducer(
            **broker.client_options(), acks="all", max_batch_size=512 * 1024
        )
        self._homes: dict[bytes, int] = {}
        self._keyless = 0

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except BaseException:
            # Nobody leaves what was not entered.
            await stop(self._producer)
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await stop(self._producer)

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
        """Tell every partition that time has passed."""
        value = tick.model_dump_json(exclude_none=True).encode()
        deliveries = [
            await self._producer.send(self._clock, value, partition=partition)
            for partition in range(self._partitions)
        ]
        await asyncio.gather(*deliveries)

    async def _send(
        self, events: list[OutgoingEvent], progress: Callable[[int], None] | None
    ) -> int:
        by_home: defaultdict[tuple[str, int], list[OutgoingEvent]] = defaultdict(list)
        for event in events:
            by_home[self._names[event.topic], self._home(event.key)].append(event)
        deliveries: list[asyncio.Future[Any]] = []
        for (topic, partition), batch in by_home.items():
            deliveries += await self._send_batch(topic, partition, batch)
        await asyncio.gather(*deliveries)
        if progress is not None:
            progress(len(events))
        return len(events)

    async def _send_batch(
        self, topic: str, partition: int, events: list[OutgoingEvent]
    ) -> list[asyncio.Future[Any]]:
        deliveries = []
        batch = self._producer.create_batch()
        for event in events:
            record = {
                "timestamp": None, "key": event.key, "value": event.value, "headers": event.headers,
            }  # fmt: skip
            if batch.append(**record) is None:
                deliveries.append(
                    await self._producer.send_batch(batch, topic, partition=partition)
                )
                batch = self._producer.create_batch()
                batch.append(**record)
        deliveries.append(await self._producer.send_batch(batch, topic, partition=partition))
        return deliveries

    def _home(self, key: bytes | None) -> int:
        """The partition of a key; those without one in turn."""
        if key is None:
            self._keyless += 1
            return self._keyless % self._partitions
        home = self._homes.get(key)
        if home is None:
            home = self._homes[key] = home_partition(key, self._partitions)
        return home
