"""Into which partitions a record is replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.recording.format import Recorded, RecordedTopic
from streams.topics import home_partition


class Placing:
    """Puts records into partitions: their own, or where their keys are at home.

    Those of a topic that has the same number of partitions stay where they were, so that what was
    published to a wrong one is so again. Otherwise, and under pseudonyms, they go by murmur2 of
    their keys, and those without a key by the partition they came from. A tick is for every
    partition: of those that were recorded, one for each, the first partition's go to all.

    counts: partitions by role.
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
        self._homes: dict[tuple[bytes, int], int] = {}

    def of(self, record: Recorded) -> Sequence[int]:
        """The partitions for a record: one, or for a tick all or none."""
        role, count = self._topics[record.topic].role, self._counts[record.topic]
        same = self._same[record.topic]
        if role == "clock" and not same:
            return range(count) if record.partition == 0 else ()
        if role == "clock" or (same and not self._pseudonyms):
            return (record.partition,)
        if record.key is None:
            return (record.partition % count,)
        return (self._home(record.key, count),)

    def _home(self, key: bytes, count: int) -> int:
        home = self._homes.get((key, count))
        if home is None:
            home = self._homes[key, count] = home_partition(key, count)
        return home
