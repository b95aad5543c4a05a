"""A Faust driver over the in-memory broker.

Only the driver is simulated: what `faust.transport.drivers.aiokafka` does with aiokafka is done
here with lists. Everything above it is Faust's own (`MemoryTransport`), or ours over the same
driver (`BatchMemoryTransport`).
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

import faust
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.assignor.client_assignment import ClientAssignment
from faust.transport import base
from faust.types import TP, ConsumerMessage

from streams.transport import BatchDelivery, BulkRecovery, StrictDelivery

from .broker import POLL_SECONDS, Broker, Record


class Client:
    """What aiokafka's producer is to Faust's driver."""

    def __init__(self, broker: Broker, batch_size: int) -> None:
        self.broker = broker
        self.batch_size = batch_size
        self.deliveries: set[asyncio.Future[Any]] = set()

    async def send(self, tp: TP, record: tuple[Any, Any, Any]) -> asyncio.Future[Any]:
        await self.broker.until_accepting(tp.topic)
        return self._track(self.broker.produce(tp, [record]))

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self.batch_size, 0)

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        await self.broker.until_accepting(topic)
        records = [
            (record.key, record.value, record.headers)
            for record in MemoryRecords(bytes(batch._build())).next_batch()
        ]
        return self._track(self.broker.produce(TP(topic, partition), records))

    async def flush(self) -> None:
        """Wait for all deliveries; like aiokafka's, it does not say that one failed."""
        if self.deliveries:
            await asyncio.wait(self.deliveries)

    def _track(self, delivery: asyncio.Future[Any]) -> asyncio.Future[Any]:
        self.deliveries.add(delivery)
        delivery.add_done_callback(self.deliveries.discard)
        return delivery


class MemoryProducer(base.Producer):
    """Faust's producer over the in-memory broker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = Client(self.transport.broker, self.max_batch_size)

    def _ensure_producer(self) -> Client:
        return self.client

    async def send(
        self,
        topic: str,
        key: Any,
        value: Any,
        partition: Any,
        timestamp: Any,
        headers: Any,
        **_: Any,
    ) -> Awaitable[Any]:
        return await self.client.send(TP(topic, partition or 0), (key, value, headers or ()))

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> Any:
        return await (await self.send(*args, **kwargs))

    async def flush(self) -> None:
        await self.buffer.flush()
        await self.client.flush()

    async def create_topic(self, topic: str, partitions: int, *_: Any, **__: Any) -> None:
        self.transport.broker.create_topic(topic, partitions)

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, 0)

    def supports_headers(self) -> bool:
        return True


class MemoryConsumer(base.Consumer):
    """Faust's consumer over the in-memory broker, which gives it all partitions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.broker: Broker = self.transport.broker
        self.fetch_limit = self.app.conf.broker_max_poll_records
        self.positions: dict[TP, int] = {}
        self._assigned: set[TP] = set()
        self._topics: set[str] = set()
        self._joining: asyncio.Task[None] | None = None

    async def subscribe(self, topics: Iterable[str]) -> None:
        self._topics = set(topics)
        # Faust waits in the rebalance for this call to return.
        self._joining = asyncio.create_task(self.rebalance())

    async def rebalance(self) -> None:
        """Take all partitions away, and give them back."""
        await self.revoke()
        await self.assign()

    async def revoke(self) -> None:
        """Take all partitions away."""
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(set(self._assigned))

    async def assign(self) -> None:
        """Give all partitions."""
        app = self.app
        count = self.broker.partitions
        actives = {topic: list(range(count.get(topic, 1))) for topic in self._topics}
        self._assigned = {TP(topic, number) for topic in actives for number in actives[topic]}
        app.consumer_generation_id += 1
        app.assignor._assignment = ClientAssignment(actives=actives, standbys={})
        await self.on_partitions_assigned(set(self._assigned), app.consumer_generation_id)

    def assignment(self) -> set[TP]:
        return set(self._assigned)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109
    ) -> Any:
        for _ in range(int(timeout / POLL_SECONDS)):
            fetched = {}
            for tp in sorted(self._assigned & (active_partitions or set())):
                if records := self.broker.fetch(tp, self.positions.get(tp, 0), self.fetch_limit):
                    fetched[tp] = records
                    self.positions[tp] = records[-1].offset + 1
            if fetched or not self.flow_active:
                return fetched
            await asyncio.sleep(POLL_SECONDS)
        return {}

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return ConsumerMessage(
            *tp,
            record.offset,
            record.timestamp / 1000,
            record.timestamp_type,
            record.headers,
            record.key,
            record.value,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        committed = {tp: self.broker.committed.get(tp) for tp in self._assigned}
        self.positions.update({tp: offset or 0 for tp, offset in committed.items()})
        return committed

    async def _seek(self, partition: TP, offset: int) -> None:
        self.positions[partition] = offset

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self.positions.update(partitions)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        await self.broker.may_commit.wait()
        self.broker.committed.update(offsets)
        return True

    async def position(self, tp: TP) -> int:
        return self.positions.get(tp, 0)

    def highwater(self, tp: TP) -> int:
        return self.broker.ends[tp]

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return {tp: self.broker.ends[tp] for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        logs = self.broker.logs
        return {tp: logs[tp][0].offset if logs[tp] else 0 for tp in partitions}

    def topic_partitions(self, topic: str) -> int | None:
        return self.broker.partitions.get(topic)

    async def create_topic(self, topic: str, partitions: int, *_: Any, **__: Any) -> None:
        self.broker.create_topic(topic, partitions)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int:
        return partition or 0

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)


class MemoryTransport(base.Transport):
    """Stock Faust over the in-memory broker."""

    Consumer = MemoryConsumer
    Producer = MemoryProducer

    def __init__(self, app: faust.App, broker: Broker) -> None:
        super().__init__([], app)
        self.broker = broker


class BatchMemoryConsumer(BatchDelivery, MemoryConsumer):
    """Our consumer over the in-memory broker."""


class StrictMemoryProducer(StrictDelivery, MemoryProducer):
    """Our producer over the in-memory broker."""


class BatchMemoryTransport(MemoryTransport):
    """Our transport over the in-memory broker."""

    Consumer = BatchMemoryConsumer
    Producer = StrictMemoryProducer


class LogReader:
    """What aiokafka's consumer is to our recovery."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.positions: dict[TP, int] = {}

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def assign(self, partitions: Iterable[tuple[str, int]]) -> None:
        self.positions = {TP(*tp): 0 for tp in partitions}

    def pause(self, tp: tuple[str, int]) -> None:
        pass

    def seek(self, tp: tuple[str, int], offset: int) -> None:
        self.positions[TP(*tp)] = offset

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TP, list[Record]]:
        await asyncio.sleep(0)
        fetched = {tp: self.broker.fetch(tp, at, None) for tp, at in self.positions.items()}
        self.positions = {tp: self.broker.ends[tp] for tp in self.positions}
        return {tp: records for tp, records in fetched.items() if records}

    def highwater(self, tp: tuple[str, int]) -> int:
        return self.broker.ends[TP(*tp)]

    async def end_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[TP, int]:
        return {TP(*tp): self.broker.ends[TP(*tp)] for tp in partitions}

    async def position(self, tp: tuple[str, int]) -> int:
        return self.positions[TP(*tp)]


class MemoryRecovery(BulkRecovery):
    """Our recovery over the in-memory broker."""

    def _new_consumer(self) -> LogReader:
        return LogReader(self.app.transport.broker)
