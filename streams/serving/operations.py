"""How far the workers are, and what they refused lately, as Kafka says it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Final, NamedTuple, NoReturn

from streams.dead_letters.letter import Letter
from streams.dead_letters.reading import DeadLetters, LettersMissing
from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.groups import GroupState, committed_offsets, group_state
from streams.kafka.partitions import TopicPartition, partitions_of
from streams.kafka.reading import log_client
from streams.serving.outages import Outage
from streams.serving.pace import Pace, Pacer
from streams.settings import Settings

SECONDS: Final = 5.0
"""Between two looks at Kafka, however many people look at the page."""

RECORDS: Final = 200
"""Dead letters of each partition that are looked at: the last ones."""

NEWEST: Final = 30


class PartitionLag(NamedTuple):
    """A partition of an input. behind: records that no worker has committed yet."""

    partition: TopicPartition
    end: int
    behind: int


class Refused(NamedTuple):
    """Dead letters that were not sent again: all by reason, and the newest of them."""

    reasons: Sequence[tuple[str, int]] = ()
    letters: Sequence[Letter] = ()

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(number for _, number in self.reasons)


class Operations(NamedTuple):
    """What a look at Kafka found. at: when. group: None where it may not be described."""

    at: datetime
    group: GroupState | None
    partitions: Sequence[PartitionLag]
    pace: Pace
    refused: Refused

    @property
    def workers(self) -> int | None:
        """Members of the consumer group; None where that may not be known."""
        return None if self.group is None else self.group.members

    @property
    def behind(self) -> int:
        """Records that no worker has committed yet."""
        return sum(each.behind for each in self.partitions)


class Looks:
    """Looks at Kafka again and again. latest: None before the first look.

    outage: since when looks fail; `latest` is then as old as its time says.
    """

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self.latest: Operations | None = None
        self.outage = Outage("Kafka")
        self._broker = broker
        self._settings = settings
        self._pacer = Pacer()
        self._refused = Refused()
        self._letter_ends: dict[TopicPartition, int] | None = None
        self._due = asyncio.Event()
        self._looked = asyncio.Condition()

    async def follow(self) -> NoReturn:
        """Look for ever. Errors: KafkaError, OSError."""
        while True:
            self._due.clear()
            latest = await self._look()
            async with self._looked:
                self.latest = latest
                self.outage.well()
                self._looked.notify_all()
            try:
                async with asyncio.timeout(SECONDS):
                    await self._due.wait()
            except TimeoutError:
                pass

    async def first(self, seconds: float) -> Operations | None:
        """Return the latest look; wait so long at most for the first one."""
        try:
            async with asyncio.timeout(seconds), self._looked:
                await self._looked.wait_for(lambda: self.latest is not None)
        except TimeoutError:
            pass
        return self.latest

    def again(self) -> None:
        """Look soon: somebody has changed something."""
        self._due.set()

    async def _look(self) -> Operations:
        group, topics = self._settings.app_id, self._settings.topics
        async with log_client(self._broker) as client:
            names = (*topics.inputs, topics.dead_letters)
            counts = await client.partition_counts(names)
            bounds = await client.bounds(partitions_of(counts))
        inputs = {tp: log for tp, log in bounds.items() if tp.topic in topics.inputs}
        async with admin_client(self._broker) as admin:
            committed = await committed_offsets(admin, group, list(inputs))
            state = await group_state(admin, group)
        await self._read_letters({tp: bounds[tp].end for tp in bounds if tp not in inputs})
        partitions = [
            PartitionLag(tp, log.end, max(log.end - max(committed.get(tp, 0), log.begin), 0))
            for tp, log in inputs.items()
        ]
        pace = self._pacer.at(
            monotonic(),
            published=sum(each.end for each in partitions),
            behind=sum(each.behind for each in partitions),
        )
        return Operations(datetime.now(UTC), state, partitions, pace, self._refused)

    async def _read_letters(self, ends: dict[TopicPartition, int]) -> None:
        if ends == self._letter_ends:
            return
        reading = DeadLetters(self._broker, self._settings.topics.dead_letters, most=RECORDS)
        try:
            await reading.prepare()
        except LettersMissing:
            self._refused = Refused()
            return
        found = [
            entry.letter
            async for entry in reading.entries()
            if not entry.retried and not entry.letter.is_notice
        ]
        found.sort(key=lambda letter: letter.timestamp, reverse=True)
        reasons = Counter(letter.reason for letter in found).most_common()
        self._refused = Refused(reasons, found[:NEWEST])
        self._letter_ends = ends
