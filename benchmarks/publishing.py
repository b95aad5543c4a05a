"""A workload in the form of batches, and what it comes to."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from benchmarks.workload import HEADERS, WORKLOADS, Event, Role
from benchmarks.workload import events as events_of
from models.contracts import money_units
from streams.kafka.partitions import TopicPartition, home_partition

BATCH_BYTES = 512 * 1024


class Totals(NamedTuple):
    """What all customers come to; money in ten-thousandths."""

    customers: int
    orders: int
    revenue: int
    refunded: int
    contacts: int


@dataclass(frozen=True)
class Workload:
    """Events to publish, each to a partition of its role's topic; the first `warm` come first."""

    name: str
    events: list[Event]
    partitions: list[int]
    warm: int
    totals: Totals

    @classmethod
    def of(cls, name: str, count: int, partitions: int) -> "Workload":
        """Return so many events of a kind, or all there are; raises DatasetMissingError."""
        events = list(events_of(name, count))
        homes = {key: home_partition(key, partitions) for key in {event.key for event in events}}
        return cls(
            name,
            events,
            [homes[event.key] for event in events],
            int(len(events) * WORKLOADS[name].warm),
            totals_of(events),
        )

    @property
    def currency(self) -> str:
        """What the orders are in."""
        return WORKLOADS[self.name].currency

    def counts(self, topics: dict[Role, str], end: int | None = None) -> dict[TopicPartition, int]:
        """Return how many of the first events go to each partition, where any do."""
        parts = zip(self.events[:end], self.partitions, strict=False)
        return Counter(TopicPartition(topics[event.role], number) for event, number in parts)


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


class Batches:
    """Events packed for a producer, so that publishing them takes it no time."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topics: dict[Role, str],
        parts: Iterable[tuple[Event, int]],
    ) -> None:
        self._producer = producer
        self._full: list[tuple[TopicPartition, Any]] = []
        open_batches: dict[TopicPartition, Any] = {}
        for event, number in parts:
            place = TopicPartition(topics[event.role], number)
            record = {
                "key": event.key,
                "value": event.value,
                "timestamp": event.timestamp,
                "headers": HEADERS,
            }
            batch = open_batches.get(place)
            if batch is None or batch.append(**record) is None:
                open_batches[place] = batch = producer.create_batch()
                self._full.append((place, batch))
                batch.append(**record)

    async def publish(self) -> None:
        """Publish them, and wait for the broker."""
        sent = [
            await self._producer.send_batch(batch, place.topic, partition=place.partition)
            for place, batch in self._full
        ]
        await asyncio.gather(*sent)
