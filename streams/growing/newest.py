"""What a compacted topic holds: the newest record of each key, partition by partition."""

from __future__ import annotations

from collections.abc import AsyncIterator

from streams.growing.stage import GrowthRefused
from streams.kafka.connection import Broker
from streams.kafka.partitions import LogRecord, partitions_of
from streams.kafka.reading import log_client, read_logs
from streams.transport.headers import install


async def newest_by_key(
    broker: Broker, topic: str, partitions: int
) -> AsyncIterator[tuple[int, dict[bytes, LogRecord]]]:
    """Partition after partition of a topic, with the newest record of each key.

    Tombstones are among them. Errors: KafkaError, GrowthRefused for a transaction that is open.
    """
    # Header names that are no UTF-8 must not end the reading.
    install()
    async with log_client(broker) as client:
        parts = await client.bounds(partitions_of({topic: partitions}))
        for tp, part in parts.items():
            readable = client.readable_end(tp)
            if readable is not None and readable < part.end:
                raise GrowthRefused(
                    f"{tp}@{readable}: a transaction is open there; wait for its end, and run this "
                    "again"
                )
    for tp, part in parts.items():
        newest: dict[bytes, LogRecord] = {}
        async for _, records in read_logs(broker, {tp: part}):
            for record in records:
                if record.key is not None:
                    newest[record.key] = record
        yield tp.partition, newest
