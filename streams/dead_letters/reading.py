"""Reading the dead letters' topic, as it is at the beginning of the reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Set
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from models.contracts.dead_letters import noted
from streams.clients import started
from streams.connection import Broker
from streams.dead_letters.letter import Letter, read_letter
from streams.ends import log_ends
from streams.topics import partition_counts

_FETCH_MILLISECONDS = 50
_FETCH_BYTES = 4 * 1024 * 1024
_RECORDS = 5_000

Place = tuple[int, int]
"""Partition and offset within the dead letters' topic."""


class LettersMissing(Exception):
    """There are no dead letters to read; the text says what is missing."""


class Entry(NamedTuple):
    """A letter, and whether it was sent again already."""

    letter: Letter
    retried: bool


class DeadLetters:
    """The letters of a topic; `prepare` comes first.

    What comes after the beginning of the first reading is left for the next one: a letter that is
    refused again must not be found by the command that has just sent it.
    """

    def __init__(self, broker: Broker, topic: str) -> None:
        self.topic = topic
        self.repeats = 0
        """Letters passed over because a worker that was killed had written them before."""
        self.partitions = 0
        self._broker = broker
        self._ends: dict[TopicPartition, int] = {}
        self._retried: dict[int, set[int]] | None = None

    async def prepare(self) -> dict[str, int]:
        """Look for the topic; returns the partition counts of all topics. LettersMissing if not."""
        counts = await partition_counts(self._broker)
        if self.topic not in counts:
            raise LettersMissing(
                f"there is no topic {self.topic} at {self._broker}, or none that this user may "
                "see; a worker makes it when it starts. If it has another name, set "
                "CLV_TOPICS__DEAD_LETTERS"
            )
        self.partitions = counts[self.topic]
        return counts

    async def entries(self, wanted: Collection[Place] = frozenset()) -> AsyncIterator[Entry]:
        """All letters, partition by partition in their order; repeats only if `wanted` has them."""
        retried = await self.sent_again()
        seen: set[int] = set()
        self.repeats = 0
        async for record in self._records():
            if noted(record.headers) is not None:
                continue
            letter = read_letter(record)
            fingerprint = letter.fingerprint()
            if fingerprint in seen and letter.place not in wanted:
                self.repeats += 1
                continue
            seen.add(fingerprint)
            yield Entry(letter, letter.offset in retried.get(letter.partition, ()))

    async def held(self, wanted: Collection[Place]) -> dict[Place, int | None]:
        """The content of the letters at these places, None for a note, and no entry if deleted."""
        found: dict[Place, int | None] = {}
        async for record in self._records():
            place = record.partition, record.offset
            if place in wanted:
                note = noted(record.headers) is not None
                found[place] = None if note else read_letter(record).content()
        return found

    def ends_after(self, place: Place) -> bool:
        """Whether the topic, once it was read, had a record at this place or had deleted it."""
        partition, offset = place
        return offset < self._ends[TopicPartition(self.topic, partition)]

    async def sent_again(self) -> Mapping[int, Set[int]]:
        """Offsets of the letters that notes are about, by partition; a note follows its letter."""
        if self._retried is None:
            self._retried = defaultdict(set)
            async for record in self._records():
                place = noted(record.headers)
                if place is not None:
                    self._retried[place[0]].add(place[1])
        return self._retried

    async def _records(self) -> AsyncIterator[Any]:
        client = AIOKafkaConsumer(
            **self._broker.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            # An empty partition answers after this; the default would be half a second.
            fetch_max_wait_ms=_FETCH_MILLISECONDS,
        )
        async with started(client) as consumer:
            unfinished = {TopicPartition(self.topic, n) for n in range(self.partitions)}
            if not self._ends:
                self._ends = await log_ends(consumer, unfinished)
            consumer.assign(list(unfinished))
            await consumer.seek_to_beginning(*unfinished)
            while unfinished:
                fetched = await consumer.getmany(
                    timeout_ms=_FETCH_MILLISECONDS, max_records=_RECORDS
                )
                for tp in list(unfinished):
                    if await consumer.position(tp) >= self._ends[tp]:
                        unfinished.remove(tp)
                        consumer.pause(tp)
                for tp, records in fetched.items():
                    for record in records:
                        if record.offset < self._ends[tp]:
                            yield record
