"""Looking for a customer's ids in every topic that the service reads or writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from models.aggregate.record import forgotten_key, former_key
from streams.basis.logs import KafkaLogs
from streams.erasing.lifetime import Lifetimes, Until
from streams.erasing.merged import bounds_of, records_of
from streams.erasing.seeking import Seeker
from streams.erasing.trace import Trace
from streams.kafka.partitions import LogRecord
from streams.settings import Settings
from streams.topics import changelog_topic, plan


class _Seen(NamedTuple):
    """A record that holds ids; newest: the greatest timestamp up to it."""

    record: LogRecord
    newest: int
    ids: frozenset[str]


@dataclass(slots=True)
class _Log:
    """What was seen in one partition; last: offset and time of the last record of these keys."""

    newest: int = 0
    seen: list[_Seen] = field(default_factory=list)
    last: dict[bytes | None, tuple[int, int]] = field(default_factory=dict)


async def remembers(settings: Settings, logs: KafkaLogs, customer_id: str) -> bool:
    """Whether the changelog says of an id that it was erased, so that late events are ignored."""
    key, secret = customer_id.encode(), settings.erasure_secret
    names = {forgotten_key(key, secret), former_key(key, secret)}
    held: dict[bytes, bool] = {}
    async for record in records_of(logs, await bounds_of(logs, changelog_topic(settings))):
        if record.key in names:
            held[record.key] = record.value is not None
    return any(held.values())


async def in_topics(
    settings: Settings,
    logs: KafkaLogs,
    seeker: Seeker,
    configs: Mapping[str, Mapping[str, str | None] | None],
) -> tuple[list[str], list[Trace]]:
    """The topics that were read whole, and the traces in them; errors: KafkaError.

    configs: of each topic that exists, None where the broker does not tell.
    """
    looked, traces = [], []
    for topic in plan(settings):
        if topic.name not in configs:
            continue
        lifetimes = Lifetimes(topic.name, configs[topic.name])
        by_partition: dict[int, _Log] = {}
        records = 0
        async for record in records_of(logs, await bounds_of(logs, topic.name)):
            records += 1
            log = by_partition.setdefault(record.partition, _Log())
            log.newest = max(log.newest, record.timestamp)
            ids = seeker.in_record(record.key, record.value, record.headers or ())
            if ids or record.key in log.last:
                log.last[record.key] = record.offset, record.timestamp
            if ids:
                log.seen.append(_Seen(record, log.newest, ids))
        looked.append(f"{topic.name}: {records:,} records")
        for log in by_partition.values():
            for seen in log.seen:
                record = seen.record
                place = f"{topic.name}[{record.partition}]@{record.offset}"
                what, until = _fate(settings, seeker, lifetimes, log, seen)
                traces.append(Trace(place, what, until, seeker.in_order(seen.ids)))
    return looked, traces


def _fate(
    settings: Settings, seeker: Seeker, lifetimes: Lifetimes, log: _Log, seen: _Seen
) -> tuple[str, Until]:
    record = seen.record
    if not lifetimes.is_compacted:
        return _meaning(settings, record.topic), lifetimes.expires(seen.newest)
    last, at = log.last[record.key]
    if last > record.offset:
        return "a former record, which a later one replaces", lifetimes.replaced(at)
    if record.value is None:
        return "the tombstone", lifetimes.tombstone(record.timestamp)
    if seeker.key(record.key) is not None:
        why = "it is the customer's newest record: what is later than the erasure is kept"
        return "a customer who is there", Until(None, why)
    return "another record that names it", Until(None, "nothing replaces it: report it")


def _meaning(settings: Settings, topic: str) -> str:
    topics = settings.topics
    if topic in topics.inputs:
        return "an event, the publishers' record"
    return {
        topics.dead_letters: "a dead letter or a notice: the record, whole",
        topics.segment_changes: "a change of segment, or that the customer is gone",
        topics.identity: "a message between workers about a merge or an erasure",
        topics.rerouted: "an event that was sent on to its customer",
    }.get(topic, "a record")
