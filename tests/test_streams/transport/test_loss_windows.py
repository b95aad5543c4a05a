"""Where stock Faust loses or counts twice, and that ours does not: one scenario, both transports.

A test says of each what it does, so that each shows that it can fail.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.exceptions import ImproperlyConfigured
from faust.types import TP

from streams.embedded import EmbeddedBroker
from streams.kafka.connection import Broker as KafkaBroker
from streams.kafka.topics import TopicsUnusable
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport import batch_app
from streams.transport.memory.broker import MemoryBroker
from streams.transport.producer import DeliveryFailed

from .apps import Kind, Ours, Stock, contents, put, running, until

SOURCE = TP("orders", 0)
CHANGELOG = "app-counts-changelog"
SETTINGS: dict[str, Any] = {
    "broker_commit_interval": 0.02,
    "topic_disable_leader": True,
    "topic_partitions": 1,
}
SOME_COMMITS = 0.3

both = pytest.mark.parametrize("kind", [Stock(), Ours()], ids=lambda kind: kind.name)


class Counter:
    """An app whose agent counts the records of each key in a table."""

    def __init__(
        self, kind: Kind, broker: MemoryBroker, *, concurrency: int = 1, **settings: Any
    ) -> None:
        self.seen: list[int] = []
        self.started: set[int] = set()
        self.held: dict[int, asyncio.Event] = {}
        self.raising: set[int] = set()
        self.app = kind.app(broker, **{**SETTINGS, **settings})
        types = {} if kind.name == "ours" else {"key_type": bytes, "value_type": bytes}
        self.table = self.app.Table("counts", partitions=1, **types)
        kind.agent(self.app, SOURCE.topic, self.count, concurrency=concurrency)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[faust.App]:
        async with running(self.app) as app:
            try:
                yield app
            finally:
                for held in self.held.values():
                    held.set()

    async def count(self, record: Any) -> None:
        self.started.add(record.offset)
        if record.offset in self.held:
            await self.held[record.offset].wait()
        if record.offset in self.raising:
            raise ValueError(record.value)
        self.seen.append(record.offset)
        count = int(contents(self.table).get(b"k", b"0")) + 1
        put(self.table, SOURCE, b"k", b"%d" % count)


@pytest.fixture
def source(broker: MemoryBroker) -> MemoryBroker:
    broker.create_topic(SOURCE.topic, 1)
    return broker


def publish(broker: MemoryBroker, count: int) -> None:
    for _ in range(count):
        broker.append(SOURCE, b"{}", b"k")


@both
async def test_changelog_records_that_are_not_sent_yet(kind: Kind, source: MemoryBroker) -> None:
    publish(source, 5)
    counter = Counter(kind, source)
    source.refusing.add(CHANGELOG)
    async with counter.running():
        await until(lambda: len(counter.seen) == 5)
        if kind.name == "stock":
            await until(lambda: source.committed.get(SOURCE) == 5)
            assert source.values(CHANGELOG) == []
        else:
            await asyncio.sleep(SOME_COMMITS)
            assert source.committed == {}
            source.refusing.clear()
            await until(lambda: source.committed)
            assert source.committed[SOURCE] == len(source.values(CHANGELOG)) == 5


@both
async def test_a_delivery_that_fails(kind: Kind, source: MemoryBroker) -> None:
    publish(source, 5)
    counter = Counter(kind, source)
    source.failing.add(CHANGELOG)
    async with counter.running() as app:
        if kind.name == "stock":
            await until(lambda: source.committed.get(SOURCE) == 5)
            await asyncio.sleep(SOME_COMMITS)
            assert not app.crashed
        else:
            await until(lambda: app.crashed)
            assert isinstance(app.crash_reason, DeliveryFailed)
    assert source.values(CHANGELOG) == []
    assert source.committed == ({SOURCE: 5} if kind.name == "stock" else {})


@both
async def test_a_commit_beside_a_record_in_work(kind: Kind, source: MemoryBroker) -> None:
    publish(source, 2)
    counter = Counter(kind, source, concurrency=2, broker_max_poll_records=1)
    counter.held[2] = asyncio.Event()
    async with counter.running():
        await until(lambda: source.committed.get(SOURCE) == 2)
        publish(source, 1)
        await until(lambda: 2 in counter.started)
        publish(source, 1)
        await until(lambda: 3 in counter.seen)
        if kind.name == "stock":
            await until(lambda: source.committed[SOURCE] == 4)
        else:
            await asyncio.sleep(SOME_COMMITS)
            assert source.committed[SOURCE] == 2
        assert 2 not in counter.seen
        counter.held[2].set()
        await until(lambda: source.committed[SOURCE] == 4)


@both
async def test_a_gap_in_the_log_before_a_record_in_work(kind: Kind, source: MemoryBroker) -> None:
    publish(source, 2)
    counter = Counter(kind, source, concurrency=2, broker_max_poll_records=1)
    counter.held[6] = asyncio.Event()
    async with counter.running():
        await until(lambda: source.committed.get(SOURCE) == 2)
        source.append(SOURCE, b"{}", offset=6)
        await until(lambda: 6 in counter.started)
        publish(source, 1)
        await until(lambda: 7 in counter.seen)
        # Up to 6 could be committed: there is nothing from 2 to 5.
        if kind.name == "stock":
            await until(lambda: source.committed[SOURCE] == 8)
        else:
            await asyncio.sleep(SOME_COMMITS)
            assert source.committed[SOURCE] == 2
        assert 6 not in counter.seen
        counter.held[6].set()
        await until(lambda: source.committed[SOURCE] == 8)


@both
async def test_an_agent_that_raises(kind: Kind, source: MemoryBroker) -> None:
    publish(source, 3)
    first = Counter(kind, source)
    first.raising.add(1)
    async with first.running() as app:
        if kind.name == "stock":
            await until(lambda: source.committed.get(SOURCE) == 3)
            assert not app.crashed
        else:
            await until(lambda: app.crashed)
            assert isinstance(app.crash_reason, ValueError)
            assert source.committed == {}
    assert 1 not in first.seen
    second = Counter(kind, source)
    async with second.running():
        publish(source, 1)
        await until(lambda: source.committed.get(SOURCE) == 4)
    assert second.seen == ([3] if kind.name == "stock" else [0, 1, 2, 3])


@both
async def test_a_record_that_cannot_be_decoded(kind: Kind, source: MemoryBroker) -> None:
    values = [b'{"n": 1}', b"not JSON", b'{"n": 2}']
    for value in values:
        source.append(SOURCE, value)
    app = kind.app(source, **SETTINGS)
    seen = []

    async def work(record: Any) -> None:
        seen.append(record.value)

    kind.agent(app, SOURCE.topic, work, value_serializer="json")
    async with running(app):
        await until(lambda: source.committed.get(SOURCE) == 3)
    assert seen == ([values[0], values[2]] if kind.name == "stock" else values)


@both
async def test_a_rebalance_before_the_commit(kind: Kind, source: MemoryBroker) -> None:
    publish(source, 3)
    counter = Counter(kind, source, broker_commit_interval=60.0)
    async with counter.running() as app:
        await until(lambda: len(counter.seen) == 3)
        assert source.committed == {}
        await app.consumer.rebalance()
        publish(source, 5)
        await until(lambda: counter.seen[-1] == 7)
        assert contents(counter.table)[b"k"] == (b"11" if kind.name == "stock" else b"8")
    assert int(source.values(CHANGELOG)[-1]) == (11 if kind.name == "stock" else 8)


@both
async def test_a_table_with_another_partition_count(kind: Kind, broker: MemoryBroker) -> None:
    broker.create_topic(SOURCE.topic, 2)
    broker.create_topic(CHANGELOG, 1)
    counter = Counter(kind, broker)
    async with counter.running() as app:
        publish(broker, 1)
        if kind.name == "stock":
            await until(lambda: broker.committed.get(SOURCE) == 1)
            assert not app.crashed
        else:
            await until(lambda: app.crashed)
            assert broker.committed == {}
    assert broker.values(CHANGELOG) == []


async def test_topics_with_unequal_partition_counts_are_refused_at_the_start(
    server: EmbeddedBroker,
) -> None:
    settings = Settings()
    admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
    await admin.start()
    try:
        topics = [NewTopic(settings.topics.orders, 2, 1), NewTopic(settings.topics.support, 3, 1)]
        await admin.create_topics(topics)
    finally:
        await admin.close()
    with pytest.raises(TopicsUnusable, match=r"shop\.orders: 2, shop\.support: 3"):
        await prepare_topics(settings, KafkaBroker(server.address))


async def test_a_threaded_producer_is_not_flushed_at_a_commit(
    server: EmbeddedBroker,
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
    async with AIOKafkaProducer(bootstrap_servers=server.address, acks="all") as producer:
        await admin.start()
        await admin.create_topics([NewTopic("orders", 1, 1)])
        await admin.close()
        await producer.send_and_wait("orders", b"{}", partition=0)
    plain, threaded = await asyncio.gather(
        stock_worker(server, "plain"), stock_worker(server, "threaded")
    )
    assert plain == [1, 1]
    assert threaded == [1, 0]


async def stock_worker(server: EmbeddedBroker, mode: str) -> list[int]:
    """The offset that stock Faust committed, and how many changelog records there were then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("stock_worker.py")),
        server.address,
        mode,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
    return [int(number) for number in said.split()]


async def test_a_threaded_producer_is_refused() -> None:
    app = batch_app("app", broker="kafka://nowhere", producer_threaded=True)
    with pytest.raises(ImproperlyConfigured, match="producer_threaded"):
        _ = app.producer
