"""A header name that is not UTF-8 stops nobody."""

import struct

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from streams.embedded import EmbeddedBroker
from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport import headers

CRC_AT, ATTRIBUTES_AT = 17, 21


class SpoiltBatch(BatchBuilder):
    """A batch in whose bytes one header name is made undecodable."""

    def _build(self):
        data = bytearray(super()._build())
        at = data.index(b"bad-name")
        data[at : at + 8] = b"bad-\xff\xfe\x80e"
        struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
        self._buffer = data
        return data


async def publish(broker, spoilt):
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all")
    await producer.start()
    try:
        for number in range(3):
            batch = SpoiltBatch(16_384, 0) if number == spoilt else producer.create_batch()
            for n in range(3):
                name = "bad-name" if number == spoilt and n == 1 else "name"
                batch.append(
                    timestamp=None, key=b"k", value=b"%d-%d" % (number, n), headers=[(name, b"v")]
                )
            await (await producer.send_batch(batch, "shop.orders", partition=0))
    finally:
        await producer.stop()


async def read(broker, count):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition("shop.orders", 0)])
        records = []
        while len(records) < count:
            for fetched in (await consumer.getmany(timeout_ms=500)).values():
                records += fetched
        return records
    finally:
        await consumer.stop()


async def test_records_around_and_with_such_a_name_are_all_read(monkeypatch):
    # As it is without us; other tests of this process may have installed ours already.
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    async with EmbeddedBroker() as broker:
        await prepare_topics(Settings(), Broker(broker.address))
        await publish(broker.address, spoilt=1)
        with pytest.raises(UnicodeDecodeError):
            await read(broker.address, 9)
        headers.install()
        records = await read(broker.address, 9)
    assert [record.value for record in records] == [
        b"%d-%d" % (number, n) for number in range(3) for n in range(3)
    ]
    assert [record.offset for record in records] == list(range(9))
    assert records[4].headers == (("bad-\\xff\\xfe\\x80e", b"v"),)
    assert records[3].headers == (("name", b"v"),)
