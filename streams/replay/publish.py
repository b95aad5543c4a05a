"""Publishing records with their timestamps, and resuming exactly where a replay stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.errors import ClvError
from streams.kafka.partitions import TopicPartition
from streams.kafka.writing import Outgoing, RecordWriter
from streams.recording.format import Place, Recorded, RecordedTopic
from streams.recording.live import LiveSlice
from streams.replay.placing import Placing

_AT_ONCE = 5_000
_BYTES_AT_ONCE = 8 * 1024 * 1024


class TargetDiffers(ClvError):
    """The target's records are not the beginning of the replay; the text says where they differ."""


@dataclass(slots=True)
class Published:
    """How many records were sent, and how many were there already."""

    sent: int = 0
    found: int = 0


class TopicWriter:
    """Writes records to topics, each partition's in the given order.

    names: of the topics by role. there: records of an interrupted replay, which are compared and
    not sent again.
    """

    def __init__(
        self,
        writer: RecordWriter,
        topics: Sequence[RecordedTopic],
        names: Mapping[str, str],
        placing: Placing,
        there: LiveSlice | None = None,
    ) -> None:
        self.published = Published()
        self._writer = writer
        self._names = [names[topic.role] for topic in topics]
        self._topics = topics
        self._placing = placing
        self._there = there
        self._left: set[Place] = set() if there is None else set(there.places)
        self._waiting: defaultdict[TopicPartition, list[Outgoing]] = defaultdict(list)
        self._number = 0
        self._bytes = 0

    async def put(self, record: Recorded) -> bool:
        """Buffer a record unless it is there; return whether it was. TargetDiffers, KafkaError."""
        sent = False
        for partition in self._placing.of(record):
            place = Place(record.topic, partition)
            if place in self._left and await self._is_there(place, record):
                self.published.found += 1
                continue
            home = TopicPartition(self._names[record.topic], partition)
            self._waiting[home].append(
                Outgoing(record.key, record.value, record.headers, record.timestamp)
            )
            self._number += 1
            self._bytes += len(record.key or b"") + len(record.value or b"")
            sent = True
        if self._number >= _AT_ONCE or self._bytes >= _BYTES_AT_ONCE:
            await self.flush()
        return sent

    async def flush(self) -> None:
        """Return when the broker has acknowledged everything that was put."""
        waiting, self._waiting = self._waiting, defaultdict(list)
        number, self._number, self._bytes = self._number, 0, 0
        await self._writer.write_all(waiting)
        self.published.sent += number

    async def finish(self) -> None:
        """Flush; raise TargetDiffers if the target has more records than were put."""
        await self.flush()
        for place in sorted(self._left):
            more = None if self._there is None else await self._there.next(place)
            if more is not None:
                raise TargetDiffers(
                    f"{self._where(place, more.offset)} holds a record, and the replay ends before "
                    "it: something else was published there too"
                )

    async def _is_there(self, place: Place, record: Recorded) -> bool:
        held = None if self._there is None else await self._there.next(place)
        if held is None:
            self._left.discard(place)
            return False
        for name in ("key", "value", "timestamp", "headers"):
            seen, wanted = getattr(held, name), getattr(record, name)
            if seen != wanted:
                origin = self._topics[record.topic].name
                raise TargetDiffers(
                    f"{self._where(place, held.offset)} is not "
                    f"{origin}[{record.partition}]@{record.offset} of what is replayed: its {name} "
                    f"is {_shown(seen)}, not {_shown(wanted)}. Resume with the same source and "
                    "options, or replay to another prefix"
                )
        return True

    def _where(self, place: Place, offset: int) -> str:
        return f"{self._names[place.topic]}[{place.partition}]@{offset}"


def _shown(content: object) -> str:
    text = repr(content)
    return text if len(text) <= 80 else f"{text[:80]}…"
