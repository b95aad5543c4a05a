"""Seeded `order.placed` events in two shapes, and a fast way to publish them."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, get_args

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

Shape = Literal["distinct", "hot"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
HOT_CUSTOMERS = 2_000

START = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
SPAN_SECONDS = 730 * 86_400
HEADERS = [("content-type", b"application/cloudevents+json; charset=utf-8")]
BATCH_BYTES = 512 * 1024


def customer_ids(shape: Shape, count: int, rng: random.Random) -> Iterator[str]:
    """Yield the customer of each event."""
    for number in range(count):
        yield f"c{number if shape == 'distinct' else rng.randrange(HOT_CUSTOMERS):07d}"


def events(shape: Shape, count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield key, CloudEvent (structured JSON) and time in milliseconds, times increasing.

    The first n events do not depend on `count`, except for their times: two years are
    spread over `count` events.
    """
    rng = random.Random(seed)
    for number, customer in enumerate(customer_ids(shape, count, rng)):
        seconds = START + SPAN_SECONDS * number / count
        time = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        cents = min(int(rng.lognormvariate(8.3, 0.6)), 10_000_000)
        value = (
            f'{{"specversion":"1.0","id":"e{number}","source":"/shop/eu","type":"order.placed",'
            f'"time":"{time}","datacontenttype":"application/json","data":{{'
            f'"order_id":"o{number}","customer_id":"{customer}","placed_at":"{time}",'
            f'"currency":"EUR","total":"{cents // 100}.{cents % 100:02d}"}}}}'
        )
        yield customer.encode(), value.encode(), int(seconds * 1000)


async def publish(
    broker: str, topic: str, partitions: int, shape: Shape, count: int
) -> dict[int, int]:
    """Publish the workload, partitioned by murmur2 of the key; return records per partition."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        batches = {partition: producer.create_batch() for partition in range(partitions)}
        counts = dict.fromkeys(range(partitions), 0)
        partition_of: dict[bytes, int] = {}
        sent: list[asyncio.Future[object]] = []
        for key, value, timestamp in events(shape, count):
            partition = partition_of.get(key)
            if partition is None:
                partition = (murmur2(key) & 0x7FFFFFFF) % partitions
                partition_of[key] = partition
            record = {"key": key, "value": value, "timestamp": timestamp, "headers": HEADERS}
            if batches[partition].append(**record) is None:
                full = batches[partition]
                sent.append(await producer.send_batch(full, topic, partition=partition))
                batches[partition] = producer.create_batch()
                batches[partition].append(**record)
            counts[partition] += 1
        for partition, batch in batches.items():
            if batch.record_count():
                sent.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return counts
