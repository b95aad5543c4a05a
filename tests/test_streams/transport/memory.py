"""A broker and a Faust driver in memory, for faults that no real broker has on request.

Only the driver is simulated: what `faust.transport.drivers.aiokafka` does with aiokafka is done
here with lists. Everything above it is Faust's own (`MemoryTransport`), or ours over the same
driver (`BatchMemoryTransport`).
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.assignor.client_assignment import ClientAssignment
from faust.transport import base
from faust.types import TP, ConsumerMessage
from faust.types.tuples import RecordMetadata

from streams.transport import BatchDelivery, BulkRecovery, StrictDelivery, batch_app

POLL_SECONDS = 0.005
DEADLINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0
    timestamp_type: int = 0


class Broker:
    """Logs, committed offsets, and the faults that a test asks for.

    refusing: topics to which `send` does not return, as when the producer's buffer is full.
    silent: topics whose records are taken but never acknowledged, until they are released.
    failing: topics whose records are answered with an error.
    may_commit: until it is set, commits are not answered.
    """

    def __init__(self) -> None:
        self.logs: defaultdict[TP, list[Record]] = defaultdict(list)
        self.ends: defaultdict[TP, int] = defaultdict(int)
        self.partitions: dict[str, int] = {}
        self.committed: dict[TP, int] = {}
        self.refusing: set[str] = set()
        self.silent: set[str] = set()
        self.failing: set[str] = set()
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.unanswered: list[tuple[TP, list[Any], asyncio.Future[Any]]] = []

    def create_topic(self, topic: str, partitions: int) -> None:
        self.partitions.setdefault(topic, partitions)

    def append(
        self,
        tp: TP,
        value: bytes | None,
        key: bytes | None = None,
        *,
        offset: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> int:
        """Append a record; an offset beyond the end leaves a gap, as compaction does."""
        offset = self.ends[tp] if offset is None else offset
        self.logs[tp].append(Record(*tp, offset, key, value, tuple(headers)))
        self.ends[tp] = offset + 1
        return offset

    def fetch(self, tp: TP, offset: int, limit: int | None) -> list[Record]:
        return [record for record in self.logs[tp] if record.offset >= offset][:limit]

    def values(self, topic: str) -> list[bytes | None]:
        """Values of all partitions of a topic."""
        return [
            record.value for tp, log in self.logs.items() if tp.topic == topic for record in log
        ]

    async def until_accepting(self, topic: str) -> None:
        while topic in self.refusing:
            await asyncio.sleep(POLL_SECONDS)

    def produce(self, tp: TP, records: list[Any]) -> asyncio.Future[Any]:
        """Take (key, value, headers) of several records; the delivery is that of the first."""
        delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if tp.topic in self.failing:
            delivery.set_exception(KafkaTimeoutError())
        elif tp.topic in self.silent:
            self.unanswered.append((tp, records, delivery))
        else:
            self._acknowledge(tp, records, delivery)
        return delivery

    def release(self, *topics: str) -> None:
        """Acknowledge what was taken and not answered, and be silent no longer: of all topics, or
        of these.
        """
        released = set(topics) or set(self.silent)
        self.silent -= released
        unanswered, self.unanswered = self.unanswered, []
        for waiting in unanswered:
            if waiting[0].topic in released:
                self._acknowledge(*waiting)
            else:
                self.unanswered.append(waiting)

    def fail_unanswered(self) -> None:
        """Answer what was taken and not answered with an error."""
        unanswered, self.unanswered = self.unanswered, []
        for _, _, delivery in unanswered:
            delivery.set_exception(KafkaTimeoutError())

    def _acknowledge(self, tp: TP, records: list[Any], delivery: asyncio.Future[Any]) -> None:
        first = self.ends[tp]
        for key, value, headers in records:
            self.append(tp, value, key, headers=headers)
        if not delivery.done():
            delivery.set_result(RecordMetadata(*tp, tp, first, None, 0))


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
        app = self.app
        app.on_rebalance_start()
        await self.on_partitions_revoked(set(self._assigned))
        count = self.broker.partitions
        actives = {topic: list(range(count.get(topic, 1))) for topic in self._topics}
        self._assigned = {TP(topic, number) for topic in actives for number in actives[topic]}
        app.consumer_generation_id += 1
        app.assignor._assignment = ClientAssignment(actives=actives, standbys={})
        await self.on_partitions_assigned(set(self._assigned), app.consumer_generation_id)

    def assignment(self) -> set[TP]:
        return set(self._assigned)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
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

    async def getmany(self, *, timeout_ms: int) -> dict[TP, list[Record]]:
        await asyncio.sleep(0)
        fetched = {tp: self.broker.fetch(tp, at, None) for tp, at in self.positions.items()}
        self.positions = {tp: self.broker.ends[tp] for tp in self.positions}
        return {tp: records for tp, records in fetched.items() if records}

    def highwater(self, tp: tuple[str, int]) -> int:
        return self.broker.ends[TP(*tp)]

    async def position(self, tp: tuple[str, int]) -> int:
        return self.positions[TP(*tp)]


class MemoryRecovery(BulkRecovery):
    """Our recovery over the in-memory broker."""

    def _new_consumer(self) -> LogReader:
        return LogReader(self.app.transport.broker)


class Kind:
    """A Faust app over the in-memory broker: stock Faust, or ours."""

    name: str

    def app(self, broker: Broker, **settings: Any) -> faust.App:
        raise NotImplementedError

    def agent(self, app: faust.App, topic: str, work: Callable[[Any], Awaitable[None]]) -> None:
        """Work on each record of a topic, and acknowledge it as one does here."""
        raise NotImplementedError


class Stock(Kind):
    name = "stock"

    def app(self, broker: Broker, **settings: Any) -> faust.App:
        app = faust.App(
            "app", broker="kafka://nowhere", store="memory://", web_enabled=False, **settings
        )
        app.transport = MemoryTransport(app, broker)
        return app

    def agent(
        self,
        app: faust.App,
        topic: str,
        work: Callable[[Any], Awaitable[None]],
        *,
        concurrency: int = 1,
        **schema: Any,
    ) -> None:
        async def run(stream: Any) -> None:
            async for event in stream.events():
                await work(event.message)

        app.agent(app.topic(topic, **schema), concurrency=concurrency, name="run")(run)


class Ours(Kind):
    name = "ours"

    def app(self, broker: Broker, **settings: Any) -> faust.App:
        app = batch_app("app", broker="kafka://nowhere", **settings)
        app.transport = BatchMemoryTransport(app, broker)
        return app

    def agent(
        self,
        app: faust.App,
        topic: str,
        work: Callable[[Any], Awaitable[None]],
        *,
        concurrency: int = 1,
        **schema: Any,
    ) -> None:
        async def run(stream: Any) -> None:
            async for event in stream.noack().events():
                for record in event.value.records:
                    await work(record)
                event.ack()

        app.agent(app.topic(topic, **schema), concurrency=concurrency, name="run")(run)


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """A started app over the in-memory broker, stopped at the end."""
    app.finalize()
    broker = app.transport.broker
    if isinstance(app.transport, BatchMemoryTransport):
        app.tables._recovery = MemoryRecovery(app, app.tables, beacon=app.tables.beacon)
    app.tables.sleep = _no_sleep
    try:
        await app.start()
        await until(lambda: app.consumer.flow_active and not app.rebalancing)
        yield app
    finally:
        broker.refusing.clear()
        broker.release()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await app.stop()


async def _no_sleep(_seconds: float) -> None:
    """Faust's table manager sleeps a second at its start, in case of tables defined late."""


async def until(condition: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until something holds; fail if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(POLL_SECONDS)
