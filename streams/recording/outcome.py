"""Reading from the broker what a service made of its events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streams.connection import Broker
from streams.recording.digest import Results
from streams.recording.format import Recorded, RecordedTopic
from streams.recording.live import live_slice
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
        for place in live.places:
            role = topics[place.topic].role
            count = topics[place.topic].partitions
            while (record := await live.next(place)) is not None:
                if not _was_moved(role, record, count):
                    _take(results, role, record)
                number += 1
                if number % _REPORT_EVERY == 0:
                    progress(live.done, live.total)
        progress(live.total, live.total)
    return results


def _was_moved(role: str, record: Recorded, partitions: int) -> bool:
    """Whether a record is what was left of a customer where the partitions became more."""
    if role not in ("changelog", "updates") or record.key is None:
        return False
    return home_partition(record.key, partitions) != record.partition


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
