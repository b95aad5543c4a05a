"""Publish a workload before anybody reads it."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.workload import HEADERS, WORKLOADS, Event, Role
from benchmarks.workload import events as events_of
from models.contracts import money_units
from streams.kafka.partitions import TopicPartition, home_partition

BATCH_BYTES = 512 * 1024
ROLES: tuple[Role, ...] = ("orders", "support")


class Totals(NamedTuple):
    """What all customers come to; money in ten-thousandths."""

    customers: int
    orders: int
    revenue: int
    refunded: int
    contacts: int


@dataclass(frozen=True)
class Workload:
    """Topics as they were published.

    counts: records of each partition. warm: how many of them come first and are not measured.
    """

    name: str
    topics: dict[Role, str]
    counts: dict[TopicPartition, int]
    warm: dict[TopicPartition, int]
    totals: Totals

    @property
    def currency(self) -> str:
        """What the orders are in."""
        return WORKLOADS[self.name].currency

    @property
    def events(self) -> int:
        """Records in all topics."""
        return sum(self.counts.values())


def totals_of(events: Iterable[Event]) -> Totals:
    """Return what events come to."""
    customers: set[bytes] = set()
    orders = revenue = refunded = contacts = 0
    for event in events:
        customers.add(event.key)
        if event.role == "support":
            contacts += 1
            continue
        data = json.loads(event.value)["data"]
        if "refund_id" in data:
            refunded += money_units(data["amount"])
        else:
            orders += 1
            revenue += money_units(data["total"])
    return Totals(len(customers), orders, revenue, refunded, contacts)


async def publish(broker: str, name: str, count: int, partitions: int) -> Workload:
    """Create a workload's topics and fill them; raises DatasetMissingError.

    count: events; a data set has no more than it has.
    """
    events = list(events_of(name, count))
    topics: dict[Role, str] = {role: f"bench.{name}.{count}.{role}" for role in ROLES}
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        # Quix Streams copies the retention to its changelog and needs it to be set.
        kept = {"retention.ms": "-1"}
        await admin.create_topics(
            [NewTopic(topic, partitions, 1, topic_configs=kept) for topic in topics.values()]
        )
    finally:
        await admin.close()
    homes = {key: home_partition(key, partitions) for key in {event.key for event in events}}
    places = [TopicPartition(topics[event.role], homes[event.key]) for event in events]
    await _send(broker, events, places)
    warm = int(len(events) * WORKLOADS[name].warm)
    empty = dict.fromkeys(
        (TopicPartition(topic, n) for topic in topics.values() for n in range(partitions)), 0
    )
    return Workload(
        name,
        topics,
        {**empty, **Counter(places)},
        {**empty, **Counter(places[:warm])},
        totals_of(events),
    )


async def _send(broker: str, events: list[Event], places: list[TopicPartition]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker, max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        batches = {place: producer.create_batch() for place in set(places)}
        sent: list[asyncio.Future[object]] = []

        async def send(place: TopicPartition) -> None:
            sent.append(
                await producer.send_batch(batches[place], place.topic, partition=place.partition)
            )

        for event, place in zip(events, places, strict=True):
            record = {
                "key": event.key,
                "value": event.value,
                "timestamp": event.timestamp,
                "headers": HEADERS,
            }
            if batches[place].append(**record) is None:
                await send(place)
                batches[place] = producer.create_batch()
                batches[place].append(**record)
        for place in batches:
            await send(place)
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
