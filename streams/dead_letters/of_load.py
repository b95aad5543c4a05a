"""The dead letters of what a command has just loaded."""

from __future__ import annotations

from collections.abc import Mapping

from models.contracts.dead_letters import noted
from streams.dead_letters.letter import read_letter
from streams.files.loaded import loaded_of
from streams.files.report import RefusedRows
from streams.kafka.connection import Broker
from streams.kafka.partitions import Bounds, TopicPartition, partitions_of
from streams.kafka.reading import log_bounds, read_logs
from streams.kafka.topics import partition_counts


async def ends_of(broker: Broker, topic: str) -> Mapping[TopicPartition, int]:
    """Where the partitions of a topic end now. Errors: KafkaError."""
    counts = await partition_counts(broker)
    tps = partitions_of({topic: counts.get(topic, 0)})
    return {tp: at.end for tp, at in (await log_bounds(broker, tps)).items()}


async def refused_since(
    broker: Broker, begins: Mapping[TopicPartition, int], run: str
) -> RefusedRows:
    """Count what was refused of the records of a run, by the dead letters after `begins`.

    A letter that a killed worker has written twice counts once. Errors: KafkaError.
    """
    refused = RefusedRows()
    seen: set[int] = set()
    bounds = await log_bounds(broker, list(begins))
    parts = {tp: Bounds(max(at.begin, begins[tp]), at.end) for tp, at in bounds.items()}
    async for _, records in read_logs(broker, parts, isolation_level="read_uncommitted"):
        for record in records:
            loaded = loaded_of(record.headers)
            if loaded is None or loaded.run != run or noted(record.headers) is not None:
                continue
            letter = read_letter(record)
            place = hash(letter.came_from)
            if place not in seen:
                seen.add(place)
                refused.add(letter.reason, loaded.where, letter.message)
    return refused
