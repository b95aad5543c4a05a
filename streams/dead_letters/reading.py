"""Reading the dead letters' topic, as it is at the beginning of the reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Set
from typing import Any, NamedTuple

from models.contracts.dead_letters import noted
from models.errors import ClvError
from streams.dead_letters.letter import Letter, read_letter
from streams.kafka.connection import Broker
from streams.kafka.partitions import Bounds, LogRecord, TopicPartition, partitions_of
from streams.kafka.reading import log_bounds, read_logs
from streams.kafka.topics import partition_counts

_FETCHES: dict[str, Any] = {
    "max_partition_fetch_bytes": 4 * 1024 * 1024,
    "isolation_level": "read_uncommitted",
}

Place = tuple[int, int]
"""Partition and offset within the dead letters' topic."""


class LettersMissing(ClvError):
    """There are no dead letters to read; the text says what is missing."""


class Entry(NamedTuple):
    """A letter, and whether it was sent again already."""

    letter: Letter
    retried: bool


class DeadLetters:
    """The letters of a topic; `prepare` comes first.

    most: how many records at the end of each partition are read; None: all.
    Records that came after the first reading began are left out: a command must not find a letter
    that it has just sent, and that was refused again.
    """

    def __init__(self, broker: Broker, topic: str, *, most: int | None = None) -> None:
        self.topic = topic
        self.repeats = 0
        """Letters passed over because they had been written before: by a worker that was killed, or
        when the same row of a file was loaded before."""
        self.partitions = 0
        self._broker = broker
        self._most = most
        self._bounds: dict[TopicPartition, Bounds] = {}
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
        return offset < self._bounds[TopicPartition(self.topic, partition)].end

    async def sent_again(self) -> Mapping[int, Set[int]]:
        """Offsets of the letters that notes are about, by partition; a note follows its letter."""
        if self._retried is None:
            self._retried = defaultdict(set)
            async for record in self._records():
                place = noted(record.headers)
                if place is not None:
                    self._retried[place[0]].add(place[1])
        return self._retried

    async def _records(self) -> AsyncIterator[LogRecord]:
        if not self._bounds:
            tps = partitions_of({self.topic: self.partitions})
            self._bounds = await log_bounds(self._broker, tps)
            if self._most is not None:
                self._bounds = {
                    tp: Bounds(max(at.begin, at.end - self._most), at.end)
                    for tp, at in self._bounds.items()
                }
        async for _, records in read_logs(self._broker, self._bounds, **_FETCHES):
            for record in records:
                yield record
