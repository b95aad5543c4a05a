"""Reading from the broker what a service made of its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from streams.connection import Broker
from streams.recording.digest import Results
from streams.recording.format import Recorded, RecordedTopic
from streams.recording.live import LiveSlice, live_slice
from streams.recording.merge import Place, merged
from streams.topics import home_partition

OUTCOME = ("changelog", "updates", "segment_changes", "dead_letters")
"""Roles of the topics that hold it."""

_REPORT_EVERY = 2_000

Progress = Callable[[int, int], None]
"""Called with the offsets read so far, and those there are."""


async def read_results(
    broker: Broker,
    topics: Sequence[RecordedTopic],
    progress: Progress = lambda _done, _total: None,
) -> Results:
    """What is in these topics now, of the roles OUTCOME; errors: KafkaError.

    Workers that are at work meanwhile make it a mixture of before and after.
    """
    results = Results()
    async with live_slice(broker, topics) as live:
        number = 0
        async for place, record in _in_order(live, topics):
            topic = topics[place.topic]
            if not _was_moved(topic, record):
                _take(results, topic.role, record)
            number += 1
            if number % _REPORT_EVERY == 0:
                progress(live.done, live.total)
        progress(live.total, live.total)
    return results


async def _in_order(
    live: LiveSlice, topics: Sequence[RecordedTopic]
) -> AsyncIterator[tuple[Place, Recorded]]:
    """Partition after partition; changes by their time, as those of a moved customer are in two."""
    changes = [place for place in live.places if topics[place.topic].role == "segment_changes"]
    for place in live.places:
        while place not in changes and (record := await live.next(place)) is not None:
            yield place, record
    async for record in merged(live, changes):
        yield Place(record.topic, record.partition), record


def _was_moved(topic: RecordedTopic, record: Recorded) -> bool:
    """Whether a record is what was left of a customer where the partitions became more."""
    if topic.role not in ("changelog", "updates") or record.key is None:
        return False
    return home_partition(record.key, topic.partitions) != record.partition


def _take(results: Results, role: str, record: Recorded) -> None:
    if role == "dead_letters":
        results.letter(record.headers)
    elif record.key is None:
        return
    elif role == "changelog":
        results.state(record.key, record.value)
    elif role == "updates":
        results.update(record.key, record.value)
    elif record.value is not None:
        results.change(record.key, record.value)
