"""A poll takes bytes, not only records, and what it leaves is taken the next time."""

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.embedded import EmbeddedBroker
from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport import consumer as consumer_module
from streams.transport import portions
from streams.transport.memory.broker import MemoryBroker
from streams.transport.portions import HEADER_BYTES, portion, weight

from .apps import until
from .test_consumer import SOURCE, Reader

TOPIC = "shop.orders"
PER_PARTITION = 20


class Some:
    key, value = b"abc", None
    headers = (("ab", b"c"), ("", None))


def test_the_weight_of_a_record_is_that_of_its_contents_and_headers():
    assert weight(Some()) == 3 + 2 * HEADER_BYTES + 3


async def publish(servers: str, size: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for partition in range(3):
            for number in range(PER_PARTITION):
                value = b"%d-%d".ljust(size, b".") % (partition, number)
                await producer.send_and_wait(TOPIC, value, partition=partition)


async def polls(servers: str, size: int | None) -> list[list]:
    """What each poll takes, until all was taken."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPIC, n) for n in range(3)])
        taken: list[list] = []
        while sum(map(len, taken)) < 3 * PER_PARTITION:
            if size is None:
                fetched = await consumer.getmany(timeout_ms=500)
            else:
                with portion(size):
                    fetched = await consumer.getmany(timeout_ms=500)
            taken.append([record for records in fetched.values() for record in records])
        return taken
    finally:
        await consumer.stop()


@pytest.mark.parametrize(("size", "most"), [(4_500, 5), (1, 1), (1_000_000, 60)])
async def test_a_poll_ends_where_its_portion_does_and_nothing_is_lost(size, most):
    portions.install()
    async with EmbeddedBroker() as broker:
        await prepare_topics(Settings(), Broker(broker.address))
        await publish(broker.address, 1_000)
        taken = await polls(broker.address, size)
        unbounded = await polls(broker.address, None)
    assert max(map(len, taken)) <= most
    # All partitions together, not each for itself.
    assert all(sum(map(weight, poll[:-1])) < size for poll in taken if poll)
    for read in (taken, unbounded):
        for partition in range(3):
            got = [r.value.rstrip(b".") for poll in read for r in poll if r.partition == partition]
            assert got == [b"%d-%d" % (partition, number) for number in range(PER_PARTITION)]


async def test_nothing_is_polled_while_too_much_is_in_work(monkeypatch):
    source = MemoryBroker()
    source.create_topic(SOURCE.topic, 1)
    monkeypatch.setattr(consumer_module, "IN_WORK_BYTES", 500)
    for _ in range(40):
        source.append(SOURCE, b"v" * 99, b"k")
    reader = Reader(source, acknowledging=False, broker_max_poll_records=2)
    async with reader.running():
        await until(lambda: len(reader.seen) == 6)
        waits = 0

        async def counted(_seconds: float) -> None:
            nonlocal waits
            waits += 1
            await real_sleep(0)

        real_sleep = consumer_module.asyncio.sleep
        monkeypatch.setattr(consumer_module.asyncio, "sleep", counted)
        await until(lambda: waits > 20)
        monkeypatch.undo()
        monkeypatch.setattr(consumer_module, "IN_WORK_BYTES", 500)
        assert reader.seen == list(range(6))
        assert reader.consumer._bytes_in_work() == 600
        for event in reader.events:
            event.ack()
        await until(lambda: len(reader.seen) == 12)
        for queue in reader.consumer._in_work.values():
            assert all(message.value is None for message in queue if message.acked)
    assert reader.seen[:12] == list(range(12))
