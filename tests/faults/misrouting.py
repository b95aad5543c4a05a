"""Events under a wrong key, or on another partition than Kafka's default partitioner says."""

from __future__ import annotations

import random
from binascii import crc32
from collections.abc import Sequence

from streams.files.outgoing import OutgoingEvent
from streams.kafka.partitions import home_partition
from tests.faults.items import Item
from tests.faults.maker import SOURCES, Maker


def crc32_partition(key: bytes, partitions: int) -> int:
    """Where librdkafka's default partitioner (consistent_random) puts a key."""
    return crc32(key) % partitions


class Routes:
    """Which of some customers' events are published by which partitioner.

    By librdkafka's: a sixth of the customers, and of another sixth what one of the sources
    publishes. In turns over all partitions: one customer in twenty. The rest: by Kafka's default.
    """

    def __init__(
        self,
        dice: random.Random,
        customers: Sequence[str],
        sources: Sequence[str],
        partitions: int,
    ) -> None:
        self._partitions = partitions
        shuffled = dice.sample(customers, len(customers))
        sixth, twentieth = max(len(customers) // 6, 1), max(len(customers) // 20, 1)
        self._whole = {name.encode() for name in shuffled[:sixth]}
        self._by_source = {name.encode() for name in shuffled[sixth : 2 * sixth]}
        turns = shuffled[2 * sixth : 2 * sixth + twentieth]
        self._in_turns = {name.encode() for name in turns}
        self._source = dice.choice(sources).encode()
        self._turn = 0

    def partition(self, event: OutgoingEvent) -> int | None:
        """Where an event is put; none for where Kafka's default would put it."""
        key = event.key
        if key in self._in_turns:
            self._turn += 1
            return self._turn % self._partitions
        is_other = key in self._whole or (key in self._by_source and self._is_from_source(event))
        return crc32_partition(key, self._partitions) if key is not None and is_other else None

    def _is_from_source(self, event: OutgoingEvent) -> bool:
        return self._source in event.value or any(
            name == "ce_source" and content == self._source for name, content in event.headers
        )


def is_misrouted(key: bytes, partitions: int) -> bool:
    """Whether librdkafka's default partitioner puts a key elsewhere than Kafka's."""
    return crc32_partition(key, partitions) != home_partition(key, partitions)


def misplace(maker: Maker) -> None:
    """Give some events the key of somebody else, no key, or a partition that is not theirs."""
    routes = Routes(maker.dice, maker.customers, SOURCES, maker.partitions)
    for number, (position, item) in enumerate(maker.placed):
        event, partition = item
        if partition is None:
            partition = routes.partition(event)
        chance = maker.dice.random()
        says_customer = b'"customer_id"' in event.value
        if says_customer and chance < 0.02:
            event = event._replace(key=maker.dice.choice(maker.customers).encode())
        elif says_customer and chance < 0.03:
            event = event._replace(key=None)
        elif chance > 0.97 and event.key is not None:
            home = home_partition(event.key, maker.partitions)
            partition = (home + maker.dice.randint(1, maker.partitions - 1)) % maker.partitions
        maker.placed[number] = position, Item(event, partition)
