"""The stored record of one customer, from the changelog."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from models.aggregate.record import CustomerRecord, decode_record
from streams.cache import CachedScore
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaTimeoutError
from streams.kafka.partitions import Bounds, TopicPartition, home_partition
from streams.kafka.reading import LogClient, log_client
from streams.serving.scores import document

_BEFORE: Final = 10_000
"""Milliseconds before an update within which its record was stored, unless the worker crashed."""

Version = tuple[int, int]
"""The version, and as of when the value was published: in silence only that grows."""

_KEPT: Final = 256
"""Records that are kept, of the customers asked for last."""


class StoredRecords:
    """Reads the record behind a published value.

    A worker stores a record, and then publishes the value. So the record is looked for just before
    the time of the update, and in all of the customer's partition only if it is not there.
    """

    def __init__(self, broker: Broker, changelog: str, updates: str) -> None:
        self._broker = broker
        self._changelog = changelog
        self._updates = updates
        self._kept: OrderedDict[str, tuple[Version, bytes]] = OrderedDict()

    def forget(self, customer_id: str) -> None:
        """Keep nothing of a customer who was removed."""
        self._kept.pop(customer_id, None)

    async def of(self, score: CachedScore) -> CustomerRecord | None:
        """Return the record of the cached version or a later one; None if there is none.

        Errors: KafkaError, OSError, UnreadableRecord.
        """
        customer_id, told = score.customer_id, document(score.update)
        version = told.version, told.as_of
        known = self._kept.get(customer_id)
        if known is None or known[0] < version:
            found = await self._read(score, version)
            if found is None:
                return None
            self._kept[customer_id] = known = found
        self._kept.move_to_end(customer_id)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return decode_record(known[1], customer_id.encode())

    async def _read(self, score: CachedScore, version: Version) -> tuple[Version, bytes] | None:
        key = score.customer_id.encode()
        async with log_client(self._broker) as client:
            count = await client.partitions(self._changelog)
            if not count:
                raise KafkaTimeoutError(f"{self._changelog} is not there, or may not be read")
            partition = home_partition(key, count)
            log = TopicPartition(self._changelog, partition)
            (bounds,) = (await client.bounds([log])).values()
            told = await self._published_at(client, partition, score.position)
            begin = None
            if told is not None:
                begin = (await client.offsets_at({log: told - _BEFORE}))[log]
            begin = bounds.begin if begin is None else begin
            for part in (Bounds(begin, bounds.end), Bounds(bounds.begin, begin)):
                found = await _first(client, log, part, key, version)
                if found is not None:
                    return found
        return None

    async def _published_at(self, client: LogClient, partition: int, offset: int) -> int | None:
        """Return the time of a value update, or None if it is not there any more."""
        log = TopicPartition(self._updates, partition)
        (bounds,) = (await client.bounds([log])).values()
        if not bounds.begin <= offset < bounds.end:
            return None
        client.seek({log: offset})
        while True:
            records = (await client.fetch(log, most=1)).get(log)
            if records:
                return records[0].timestamp if records[0].offset == offset else None
            if await client.position(log) >= bounds.end:
                return None


async def _first(
    client: LogClient, log: TopicPartition, part: Bounds, key: bytes, version: Version
) -> tuple[Version, bytes] | None:
    """Return the first record of a key, of this version or later, and its version."""
    if part.begin >= part.end:
        return None
    client.seek({log: part.begin})
    while await client.position(log) < part.end:
        for record in (await client.fetch(log)).get(log, ()):
            if record.key == key and record.value is not None:
                held = decode_record(record.value, key)
                found = held.version, held.told_at
                if found >= version and not held.into:
                    return found, record.value
    return None
