"""Reading the states of all customers from the changelog of a service."""

from __future__ import annotations

from streams.kafka.connection import Broker
from streams.kafka.partitions import home_partition, partitions_of
from streams.kafka.reading import log_bounds, read_logs
from streams.recording.format import Progress


async def read_states(
    broker: Broker,
    changelog: str,
    partitions: int,
    progress: Progress = lambda _done, _total: None,
) -> dict[bytes, bytes]:
    """Return the stored records by key, as they are now. Errors: KafkaError.

    While workers process events, the records are of different times.
    """
    states: dict[bytes, bytes] = {}
    parts = await log_bounds(broker, partitions_of({changelog: partitions}))
    done, total = 0, sum(at.end - at.begin for at in parts.values())
    async for tp, records in read_logs(broker, parts):
        for record in records:
            if record.key is None or home_partition(record.key, partitions) != tp.partition:
                # Left behind in a former partition when partitions were added.
                continue
            if record.value is None:
                states.pop(record.key, None)
            else:
                states[record.key] = record.value
        done += len(records)
        progress(min(done, total), total)
    return states
