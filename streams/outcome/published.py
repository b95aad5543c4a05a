"""Reading an outcome from the topics of a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from streams.kafka.connection import Broker
from streams.kafka.partitions import home_partition
from streams.outcome.outcome import Outcome, UnreadableOutput
from streams.recording.format import Place, Progress, Recorded, RecordedTopic
from streams.recording.live import LiveSlice, live_slice, merged


async def read_outcome(
    broker: Broker,
    topics: Sequence[RecordedTopic],
    progress: Progress = lambda _done, _total: None,
) -> Outcome:
    """Read these topics, of the roles `outcome.ROLES`, to their present ends.

    Errors: KafkaError; UnreadableOutput for what the service did not publish.
    While workers process events, the outcome mixes states of different times.
    """
    outcome = Outcome(detailed=False)
    async with live_slice(broker, topics) as live:
        live.progress = progress
        async for place, record in _in_order(live, topics):
            topic = topics[place.topic]
            if _was_moved(topic, record):
                continue
            try:
                outcome.take(topic.role, record.key, record.value, record.headers)
            except UnreadableOutput as error:
                where = f"{topic.name}[{record.partition}]@{record.offset}"
                raise UnreadableOutput(f"{where}: {error}") from error
        progress(live.total, live.total)
    return outcome


async def _in_order(
    live: LiveSlice, topics: Sequence[RecordedTopic]
) -> AsyncIterator[tuple[Place, Recorded]]:
    """Partition after partition; changes by time, as a moved customer's are in two partitions."""
    changes = [place for place in live.places if topics[place.topic].role == "segment_changes"]
    for place in live.places:
        while place not in changes and (record := await live.next(place)) is not None:
            yield place, record
    async for record in merged(live.next, changes):
        yield Place(record.topic, record.partition), record


def _was_moved(topic: RecordedTopic, record: Recorded) -> bool:
    """Whether a record was left behind in a former partition when partitions were added."""
    if topic.role not in ("changelog", "updates") or record.key is None:
        return False
    return home_partition(record.key, topic.partitions) != record.partition
