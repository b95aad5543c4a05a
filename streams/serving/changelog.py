"""All customers as stored, for the process that looks at them together."""

from __future__ import annotations

from collections.abc import AsyncIterator

from models.context import Interpretation
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaTimeoutError
from streams.kafka.partitions import Bounds, TopicPartition, home_partition, partitions_of
from streams.kafka.reading import log_client, read_logs
from streams.registry.reading import read_registry
from streams.settings import Settings
from streams.topics import changelog_topic


async def interpretation(settings: Settings) -> Interpretation:
    """Return what customers are scored with now. Errors: KafkaError, OSError, ClvError."""
    economics = settings.economics
    broker, topic = Broker.of(settings), settings.topics.models
    registry = await read_registry(broker, topic, economics.currency)
    return Interpretation(economics, registry.timeline, registry.rules)


async def partitions(settings: Settings) -> AsyncIterator[dict[bytes, bytes]]:
    """Yield the stored records of each partition, by key. Errors: KafkaError, OSError."""
    broker, changelog = Broker.of(settings), changelog_topic(settings)
    async with log_client(broker) as client:
        count = await client.partitions(changelog)
        if not count:
            raise KafkaTimeoutError(f"{changelog} is not there, or may not be read")
        logs = await client.bounds(partitions_of({changelog: count}))
    for tp, bounds in logs.items():
        yield await _states(broker, tp, bounds, count)


async def _states(
    broker: Broker, tp: TopicPartition, bounds: Bounds, count: int
) -> dict[bytes, bytes]:
    states: dict[bytes, bytes] = {}
    async for _, records in read_logs(broker, {tp: bounds}):
        for record in records:
            # Others were left behind when partitions were added.
            if record.key is not None and home_partition(record.key, count) == tp.partition:
                if record.value is None:
                    states.pop(record.key, None)
                else:
                    states[record.key] = record.value
    return states
