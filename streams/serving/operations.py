"""How far the workers are, and what they refused lately, as Kafka says it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Final, NamedTuple

from streams.dead_letters.letter import Letter
from streams.dead_letters.reading import DeadLetters, LettersMissing
from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.groups import committed_offsets, member_count
from streams.kafka.partitions import TopicPartition, partitions_of
from streams.kafka.reading import log_client
from streams.settings import Settings

AGE: Final = 5.0
"""Seconds for which an answer is good enough: however many look, Kafka is asked once."""

RECORDS: Final = 200
"""Dead letters of each partition that are looked at: the last ones."""

NEWEST: Final = 30


class PartitionLag(NamedTuple):
    """A partition of an input. behind: records that no worker has committed yet."""

    partition: TopicPartition
    end: int
    behind: int


class Operations(NamedTuple):
    """What a look at Kafka found. at: when.

    workers: members of the group; None where that may not be known. letters: dead letters that
    were not sent again, newest first; reasons: of all that were looked at.
    """

    at: datetime
    workers: int | None
    partitions: Sequence[PartitionLag]
    reasons: Sequence[tuple[str, int]]
    letters: Sequence[Letter]

    @property
    def behind(self) -> int:
        """Records that no worker has committed yet."""
        return sum(each.behind for each in self.partitions)


class Looks:
    """Looks at Kafka, and keeps the answer for a while."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self._broker = broker
        self._settings = settings
        self._lock = asyncio.Lock()
        self._last: tuple[float, Operations] | None = None

    async def get(self) -> Operations:
        """Return how things are. Errors: KafkaError, OSError."""
        async with self._lock:
            if self._last is None or monotonic() - self._last[0] > AGE:
                self._last = monotonic(), await self._look()
            return self._last[1]

    async def _look(self) -> Operations:
        group, topics = self._settings.app_id, self._settings.topics
        async with log_client(self._broker) as client:
            counts = {topic: await client.partitions(topic) for topic in topics.inputs}
            bounds = await client.bounds(partitions_of(counts))
        async with admin_client(self._broker) as admin:
            committed = await committed_offsets(admin, group, list(bounds))
            workers = await member_count(admin, group)
        reasons, letters = await self._letters()
        partitions = [
            PartitionLag(tp, log.end, max(log.end - max(committed.get(tp, 0), log.begin), 0))
            for tp, log in bounds.items()
        ]
        return Operations(datetime.now(UTC), workers, partitions, reasons.most_common(), letters)

    async def _letters(self) -> tuple[Counter[str], list[Letter]]:
        reading = DeadLetters(self._broker, self._settings.topics.dead_letters, most=RECORDS)
        try:
            await reading.prepare()
        except LettersMissing:
            return Counter(), []
        found = [
            letter
            async for letter, retried in reading.entries()
            if not retried and not letter.is_notice
        ]
        found.sort(key=lambda letter: letter.timestamp, reverse=True)
        return Counter(letter.reason for letter in found), found[:NEWEST]
