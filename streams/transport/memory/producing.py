"""A simulated driver for Faust's producer, which writes lists instead of using aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from faust.transport import base
from faust.types import TP

from streams.transport.memory.broker import MemoryBroker, OutgoingRecord

_HEADERS_AND_FRAME = 40
"""About how many bytes a record takes in a batch beside its key, value and headers."""


class RecordList:
    """Stands in for aiokafka's `BatchBuilder`."""

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
        """Append a record; return None if it does not fit behind others."""
        self._left -= len(key or b"") + len(value or b"") + _HEADERS_AND_FRAME
        if self._left < 0 and self.records:
            return None
        self.records.append((key, value, headers))
        return self

    def record_count(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def close(self) -> None:
        """Do nothing: a list needs no sealing."""


class Client:
    """Stands in for aiokafka's producer.

    dead: whether its process was killed; it then writes nothing and gets no answers.
    """

    def __init__(self, broker: MemoryBroker, batch_size: int) -> None:
        self.broker = broker
        self.batch_size = batch_size
        self.deliveries: set[asyncio.Future[Any]] = set()
        self.dead = False

    async def send(self, tp: TP, record: OutgoingRecord) -> asyncio.Future[Any]:
        """Send one record; return its delivery."""
        await self.broker.until_accepting(tp.topic)
        return self._produce(tp, [record])

    def create_batch(self) -> RecordList:
        """Return an empty batch."""
        return RecordList(self.batch_size)

    async def send_batch(
        self, batch: RecordList, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        """Send a batch; return the delivery of its first record."""
        await self.broker.until_accepting(topic)
        return self._produce(TP(topic, partition), batch.records)

    async def flush(self) -> None:
        """Wait for all deliveries; like aiokafka's, it does not raise if one failed."""
        if self.deliveries:
            await asyncio.wait(self.deliveries)

    def die(self) -> None:
        """Stop writing, and forget waiting deliveries."""
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
        """Create a topic."""
        self.transport.broker.create_topic(topic, partitions)

    def key_partition(self, topic: str, key: bytes) -> TP:  # noqa: ARG002
        """Return the first partition: for records that name none."""
        return TP(topic, 0)

    def supports_headers(self) -> bool:
        """Return True: headers are kept."""
        return True
