"""Ask the broker about the logs that the state was built on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Protocol, TypeVar

import structlog

from streams.basis.record import Mark
from streams.kafka.clients import Admin, admin_client
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError, is_passing
from streams.kafka.groups import committed_offsets
from streams.kafka.metadata import Described, describe
from streams.kafka.partitions import Bounds, LogRecord, TopicPartition
from streams.kafka.reading import first_records, log_bounds, read_logs

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

ANSWER_SECONDS = 10.0
"""How long the broker may take to return one record."""

_AGAIN_SECONDS = 1.0
_TAIL = 1_000
"""Records at the end of a log that are searched first; then ten times as many, and so on."""


class Logs(Protocol):
    """Topics and logs at a broker; every method raises KafkaError if the broker does not answer."""

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """Those of the topics that exist."""

    async def bounds(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Where these logs begin and end."""

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """What the group has committed; logs of which it has not are missing."""

    async def marks(self, places: Mapping[TopicPartition, int]) -> dict[TopicPartition, Mark]:
        """Return the first record at or after each offset, as a mark, if there is one."""

    async def latest(
        self, tps: Collection[TopicPartition], key: bytes, most: int | None = None
    ) -> dict[TopicPartition, bytes]:
        """The last value of a key in each log, of those that have one in their last `most`."""


def mark_of(record: LogRecord) -> Mark:
    """Return the mark of a record."""
    seen = blake2b(digest_size=16)
    for part in (record.key, record.value):
        seen.update(b"-" if part is None else b"+" + len(part).to_bytes(4, "big") + part)
    return Mark(record.offset, record.timestamp, seen.digest())


class KafkaLogs:
    """`Logs` of a broker, over its own connections."""

    def __init__(self, broker: Broker, admin: Admin, group: str) -> None:
        self.admin = admin
        self._broker = broker
        self._group = group

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """Those of the topics that exist."""
        return await describe(self.admin, topics)

    async def bounds(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Where these logs begin and end."""
        return await log_bounds(self._broker, tps)

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """What the group has committed; logs of which it has not are missing."""
        return await committed_offsets(self.admin, self._group, tps)

    async def marks(self, places: Mapping[TopicPartition, int]) -> dict[TopicPartition, Mark]:
        """Return the first record at or after each offset, as a mark, if there is one."""
        found = await first_records(self._broker, places, silence=ANSWER_SECONDS)
        return {tp: mark_of(record) for tp, record in found.items()}

    async def latest(
        self, tps: Collection[TopicPartition], key: bytes, most: int | None = None
    ) -> dict[TopicPartition, bytes]:
        """Return the last value of a key in each log that has one.

        most: how many records at the end of each log are searched; None: all.
        """
        found: dict[TopicPartition, bytes | None] = {}
        left = {tp: at for tp, at in (await self.bounds(tps)).items() if at.end > at.begin}
        if most is not None:
            left = {tp: Bounds(max(begin, end - most), end) for tp, (begin, end) in left.items()}
        size = _TAIL
        while left:
            tails = {tp: Bounds(max(begin, end - size), end) for tp, (begin, end) in left.items()}
            async for tp, records in self.read(tails):
                for each in records:
                    if each.key == key:
                        found[tp] = each.value
            left = {
                tp: Bounds(left[tp].begin, start)
                for tp, (start, _) in tails.items()
                if found.get(tp) is None and start > left[tp].begin
            }
            size *= 10
        return {tp: value for tp, value in found.items() if value is not None}

    def read(
        self, parts: Mapping[TopicPartition, Bounds]
    ) -> AsyncIterator[tuple[TopicPartition, Sequence[LogRecord]]]:
        """Yield the records of these parts of logs, as they are fetched; errors: KafkaError."""
        return read_logs(self._broker, parts, silence=ANSWER_SECONDS)


@asynccontextmanager
async def kafka_logs(broker: Broker, group: str) -> AsyncIterator[KafkaLogs]:
    """Open the logs at a broker, with the committed offsets of a group; errors: KafkaError."""
    async with admin_client(broker) as admin:
        yield KafkaLogs(broker, admin, group)


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask again until the broker answers: processing must not go on unchecked."""
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not is_passing(error):
                raise
            log.warning("waiting for the broker to compare the state with", error=repr(error))
            await asyncio.sleep(_AGAIN_SECONDS)
