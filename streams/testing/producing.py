"""A simulated driver for Faust's producer: what it does with aiokafka is done here with lists."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from faust.transport import base
from faust.types import TP

from streams.testing.broker import MemoryBroker, OutgoingRecord

_HEADERS_AND_FRAME = 40
"""Bytes of a record in a batch beside its key, its value and its headers, about."""


class RecordList:
    """Simulated: what aiokafka's `BatchBuilder` is to our producer."""

    def __init__(self, size: int) -> None:
        self.records: list[OutgoingRecord] = []
        self._left = size

    def append(
        self,
        *,
        timestamp: int | None,  # noqa: ARG002 - the broker sets it
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
    ) -> RecordList | None:
        """Take a record; None when there is no room for it and there are others."""
        self._left -= len(key or b"") + len(value or b"") + _HEADERS_AND_FRAME
        if self._left < 0 and self.records:
            return None
        self.records.append((key, value, headers))
        return self

    def record_count(self) -> int:
        """How many records there are."""
        return len(self.records)

    def close(self) -> None:
        """Nothing: there is nothing to seal."""


class Client:
    """Simulated: what aiokafka's producer is to Faust's driver.

    dead: whether its process was killed: it writes nothing, and is told nothing.
    """

    def __init__(self, broker: MemoryBroker, batch_size: int) -> None:
        self.broker = broker
        self.batch_size = batch_size
        self.deliveries: set[asyncio.Future[Any]] = set()
        self.dead = False

    async def send(self, tp: TP, record: OutgoingRecord) -> asyncio.Future[Any]:
        """Send one record; the future is its delivery."""
        await self.broker.until_accepting(tp.topic)
        return self._produce(tp, [record])

    def create_batch(self) -> RecordList:
        """An empty batch."""
        return RecordList(self.batch_size)

    async def send_batch(
        self, batch: RecordList, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        """Send a batch; the future is the delivery of its first record."""
        await self.broker.until_accepting(topic)
        return self._produce(TP(topic, partition), batch.records)

    async def flush(self) -> None:
        """Wait for all deliveries; like aiokafka's, it does not say that one failed."""
        if self.deliveries:
            await asyncio.wait(self.deliveries)

    def die(self) -> None:
        """Write nothing any more, and forget what was not answered."""
        self.dead = True
        self.broker.forget(self.deliveries)

    def _produce(self, tp: TP, records: list[OutgoingRecord]) -> asyncio.Future[Any]:
        if self.dead:
            return asyncio.get_running_loop().create_future()
        delivery = self.broker.produce(tp, records)
        self.deliveries.add(delivery)
        delivery.add_done_callback(self.deliveries.discard)
        return delivery


class MemoryProducer(base.Producer):  # type: ignore[misc]
    """Faust's producer over the simulated broker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = Client(self.transport.broker, self.max_batch_size)

    def _ensure_producer(self) -> Client:
        return self.client

    async def send(  # noqa: PLR0917 - Faust's signature
        self,
        topic: str,
        key: Any,
        value: Any,
        partition: Any,
        timestamp: Any,  # noqa: ARG002 - the broker sets it
        headers: Any,
        **_: Any,
    ) -> Awaitable[Any]:
        """Send one record."""
        return await self.client.send(TP(topic, partition or 0), (key, value, headers or ()))

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> Any:
        """Send one record, and wait for its delivery."""
        return await (await self.send(*args, **kwargs))

    async def flush(self) -> None:
        """Wait for all deliveries."""
        await self.buffer.flush()
        await self.client.flush()

    async def create_topic(self, topic: str, partitions: int, *_: Any, **__: Any) -> None:
        """Make a topic."""
        self.transport.broker.create_topic(topic, partitions)

    def key_partition(self, topic: str, key: bytes) -> TP:  # noqa: ARG002
        """Everything that names no partition goes to the first."""
        return TP(topic, 0)

    def supports_headers(self) -> bool:
        """They are kept."""
        return True
