"""Where and when a record is replayed: into which partition, and at which pace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import monotonic

from streams.kafka.partitions import home_partition
from streams.recording.format import Recorded, RecordedTopic


class Placing:
    """Assigns records to partitions: their own, or the one that their key hashes to.

    Records stay in their partitions if the number of these is the same, so that misrouted ones are
    misrouted again. Otherwise, and under pseudonyms, the key decides, if there is one. Ticks were
    recorded once per partition: the first partition's go to all. counts: partitions by role.
    """

    def __init__(
        self, topics: Sequence[RecordedTopic], counts: Mapping[str, int], *, pseudonyms: bool
    ) -> None:
        self._topics = topics
        self._counts = [counts[topic.role] for topic in topics]
        self._same = [
            topic.partitions == count for topic, count in zip(topics, self._counts, strict=True)
        ]
        self._pseudonyms = pseudonyms
        self._home = lru_cache(maxsize=None)(home_partition)

    def of(self, record: Recorded) -> Sequence[int]:
        """The partitions for a record: one, or all or none for a tick."""
        role, count = self._topics[record.topic].role, self._counts[record.topic]
        same = self._same[record.topic]
        if role == "clock" and not same:
            return range(count) if record.partition == 0 else ()
        if role == "clock" or (same and not self._pseudonyms):
            return (record.partition,)
        if record.key is None:
            return (record.partition % count,)
        return (self._home(record.key, count),)


class Pace:
    """Waits until a record is due, by its timestamp.

    speed: multiple of real time; None: as fast as possible.
    """

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._start: tuple[float, int] | None = None

    def wait_for(self, timestamp: int) -> float:
        """Seconds until a record is due; 0 if it is due already."""
        if self._speed is None:
            return 0.0
        if self._start is None:
            self._start = monotonic(), timestamp
        began, first = self._start
        due = began + (timestamp - first) / 1000 / self._speed
        return max(0.0, due - monotonic())

    async def reach(self, timestamp: int) -> None:
        """Return when a record is due."""
        if (seconds := self.wait_for(timestamp)) > 0.0:
            await asyncio.sleep(seconds)
