"""Recovery on the embedded broker: to the end of the changelog, and of the own partitions only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.embedded import EmbeddedBroker
from streams.transport import PartitionedTable, batch_app

from .apps import until

CHANGELOG = "app-customers-changelog"
COUNT = 500


def worker(server: EmbeddedBroker) -> tuple[faust.App, PartitionedTable]:
    """An app that stores the value of each record under its key; no value deletes it."""
    app = batch_app(
        "app",
        broker=f"kafka://{server.address}",
        broker_commit_interval=0.1,
        broker_heartbeat_interval=0.5,
        broker_session_timeout=2,
        topic_partitions=2,
    )
    table = app.Table("customers", partitions=2)

    async def run(stream: Any) -> None:
        async for event in stream.noack().events():
            for record in event.value.records:
                if record.value is None:
                    del table[record.key]
                else:
                    table[record.key] = record.value
            event.ack()

    app.agent(app.topic("orders"), name="run")(run)
    return app, table


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[None]:
    app.finalize()
    try:
        await app.start()
        yield
    finally:
        await app.stop()


async def create_topics(server: EmbeddedBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
    await admin.start()
    await admin.create_topics([NewTopic("orders", 2, 1), NewTopic(CHANGELOG, 2, 1)])
    await admin.close()


async def test_it_reads_to_the_very_end_and_heeds_tombstones(server: EmbeddedBroker) -> None:
    await create_topics(server)
    expected: list[dict[bytes, bytes]] = [{}, {}]
    async with AIOKafkaProducer(bootstrap_servers=server.address) as producer:
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
                await (await producer.send_batch(batch, CHANGELOG, partition=partition))
    async with AIOKafkaConsumer(bootstrap_servers=server.address) as consumer:
        last = TopicPartition(CHANGELOG, 0)
        # Who believed this would stop too early.
        assert (await consumer.end_offsets([last]))[last] < 3 * COUNT

    app, table = worker(server)
    async with running(app):
        assert [dict(table.partition(number)) for number in (0, 1)] == expected
        assert len(expected[0]) == COUNT * 4 // 5


async def test_what_a_worker_wrote_goes_to_who_has_the_partition_next(
    server: EmbeddedBroker,
) -> None:
    await create_topics(server)
    (first, firsts), (second, seconds) = worker(server), worker(server)
    async with (
        AIOKafkaProducer(bootstrap_servers=server.address) as producer,
        running(first),
    ):
        for partition in (0, 1):
            for number in range(20):
                key = b"%d/%d" % (partition, number)
                await producer.send("orders", b"v", key=key, partition=partition)
        await producer.send_and_wait("orders", None, key=b"0/0", partition=0)
        await producer.flush()
        await until(lambda: len(firsts) == 39 and b"0/0" not in firsts)
        written = [dict(firsts.partition(number)) for number in (0, 1)]
        async with running(second):
            await until(lambda: len(firsts) + len(seconds) == 39 and len(seconds), 20)
            [given] = [number for number in (0, 1) if seconds.partition(number)]
            assert dict(seconds.partition(given)) == written[given]
            assert dict(firsts.partition(1 - given)) == written[1 - given]
            assert not firsts.partition(given)
        # The second worker has left; what it had comes back.
        await until(lambda: len(firsts) == 39, 20)
        assert [dict(firsts.partition(number)) for number in (0, 1)] == written
