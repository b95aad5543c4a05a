"""Recovery on a real broker: to the end of the changelog, and of the own partitions only."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from yarl import URL

from streams.transport import batch_app
from streams.transport.changelog import ChangelogReading, RecoveryProgress
from streams.transport.recovery import BulkRecovery
from streams.transport.table import PartitionedTable
from tests.servers.broker import TestBroker

from .apps import contents, put, until

COUNT = 500


@pytest.fixture
def name() -> str:
    """App and source topic: the broker may be shared."""
    return f"app-{uuid.uuid4().hex[:8]}"


def changelog_of(name: str) -> str:
    return f"{name}-customers-changelog"


def worker(server: TestBroker, name: str) -> tuple[faust.App, PartitionedTable]:
    """An app that stores the value of each record under its key; no value deletes it."""
    app = batch_app(
        name,
        broker=[URL(f"kafka://{address}") for address in server.address.split(",")],
        broker_commit_interval=0.1,
        broker_heartbeat_interval=0.5,
        broker_session_timeout=2,
        topic_partitions=2,
    )
    table = app.Table("customers", partitions=2)

    async def run(stream: Any) -> None:
        async for event in stream.noack().events():
            for record in event.value.records:
                put(table, event.value.tp, record.key, record.value)
            event.ack()

    app.agent(app.topic(name), name="run")(run)
    return app, table


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[None]:
    app.finalize()
    try:
        await app.start()
        yield
    finally:
        await app.stop()


async def create_topics(server: TestBroker, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
    await admin.start()
    await admin.create_topics(
        [NewTopic(topic, 2, server.replication) for topic in (name, changelog_of(name))]
    )
    await admin.close()


async def test_it_reads_to_the_very_end_and_heeds_tombstones(either: TestBroker, name: str) -> None:
    server, changelog = either, changelog_of(name)
    await create_topics(server, name)
    expected: list[dict[bytes, bytes]] = [{}, {}]
    async with AIOKafkaProducer(bootstrap_servers=server.address, acks="all") as producer:
        for partition in (0, 1):
            for version in range(3):
                batch = producer.create_batch()
                for number in range(COUNT):
                    key = b"%d/%d" % (partition, number)
                    gone = version == 2 and number % 5 == 0
                    value = None if gone else b"%d" % version
                    assert batch.append(timestamp=None, key=key, value=value) is not None
                    if gone:
                        del expected[partition][key]
                    else:
                        expected[partition][key] = b"%d" % version
                await (await producer.send_batch(batch, changelog, partition=partition))
    if server.kind == "embedded":
        async with AIOKafkaConsumer(bootstrap_servers=server.address) as consumer:
            last = TopicPartition(changelog, 0)
            # Who believed this would stop too early.
            assert (await consumer.end_offsets([last]))[last] < 3 * COUNT

    app, table = worker(server, name)
    async with running(app):
        assert [dict(table.partition(number)) for number in (0, 1)] == expected
        assert len(expected[0]) == COUNT * 4 // 5


async def test_what_a_worker_wrote_goes_to_who_has_the_partition_next(
    either: TestBroker, name: str
) -> None:
    server = either
    await create_topics(server, name)
    (first, firsts), (second, seconds) = worker(server, name), worker(server, name)
    async with (
        AIOKafkaProducer(bootstrap_servers=server.address, acks="all") as producer,
        running(first),
    ):
        for partition in (0, 1):
            for number in range(20):
                key = b"%d/%d" % (partition, number)
                await producer.send(name, b"v", key=key, partition=partition)
        await producer.send_and_wait(name, None, key=b"0/0", partition=0)
        await producer.flush()
        await until(lambda: len(contents(firsts)) == 39 and b"0/0" not in contents(firsts))
        written = [dict(firsts.partition(number)) for number in (0, 1)]
        async with running(second):
            await until(
                lambda: (
                    len(contents(firsts)) + len(contents(seconds)) == 39 and len(contents(seconds))
                ),
                20,
            )
            [given] = [number for number in (0, 1) if seconds.partition(number)]
            assert dict(seconds.partition(given)) == written[given]
            assert dict(firsts.partition(1 - given)) == written[1 - given]
            assert not firsts.partition(given)
        # The second worker has left; what it had comes back.
        await until(lambda: len(contents(firsts)) == 39, 20)
        assert [dict(firsts.partition(number)) for number in (0, 1)] == written


async def test_a_rebalance_meanwhile_starts_again_and_leaves_no_consumer_behind(
    either: TestBroker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_topics(either, name)
    async with AIOKafkaProducer(bootstrap_servers=either.address, acks="all") as producer:
        for number in range(20):
            await producer.send(changelog_of(name), b"v", key=b"%d" % number, partition=number % 2)
        await producer.flush()
    app, table = worker(either, name)
    consumers: list[AIOKafkaConsumer] = []
    new_consumer, run = BulkRecovery._new_consumer, ChangelogReading.run

    def remembered(recovery: BulkRecovery) -> AIOKafkaConsumer:
        consumers.append(new_consumer(recovery))
        return consumers[-1]

    async def stuck_once(reading: ChangelogReading, consumer: AIOKafkaConsumer) -> None:
        if len(consumers) == 1:
            app.tables.recovery.signal_recovery_start.set()
            await asyncio.Event().wait()
        await run(reading, consumer)

    monkeypatch.setattr(BulkRecovery, "_new_consumer", remembered)
    monkeypatch.setattr(ChangelogReading, "run", stuck_once)
    assert not app.tables.recovery.progress.done
    async with running(app):
        await until(lambda: app.tables.recovery.progress.done, 20)
        assert len(contents(table)) == 20
        assert app.tables.recovery.progress == RecoveryProgress(20, 20, 1.0, 0.0, done=True)
        assert len(consumers) == 2
        assert all(consumer._closed for consumer in consumers)
