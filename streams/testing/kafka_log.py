"""What a real broker holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.groups import committed_offsets, once_there
from streams.kafka.partitions import LogRecord, TopicPartition
from streams.kafka.reading import log_bounds, read_logs
from streams.transport.memory.broker import Record


class KafkaLog:
    """The records of a broker, and the offsets that a group has committed."""

    def __init__(self, broker: Broker, group: str) -> None:
        self._broker = broker
        self._group = group

    async def read(self, tps: Iterable[TopicPartition]) -> list[Record]:
        """All records of these partitions, partition after partition."""
        parts = await log_bounds(self._broker, list(tps))
        found: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        async for tp, records in read_logs(self._broker, parts, isolation_level="read_uncommitted"):
            found[tp] += map(_record, records)
        return [record for tp in parts for record in found[tp]]

    async def ends(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where these partitions end."""
        return {tp: at.end for tp, at in (await log_bounds(self._broker, list(tps))).items()}

    async def committed(self, tps: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """What the group has committed of these partitions; those it has not are missing."""
        async with admin_client(self._broker) as admin:
            return await once_there(lambda: committed_offsets(admin, self._group, list(tps)))


def _record(record: LogRecord) -> Record:
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
        record.timestamp_type,
    )
