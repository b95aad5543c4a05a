"""Looking for a customer's ids in every topic that the service reads or writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from faust.types import TP

from models.aggregate.record import (
    UnreadableRecord,
    decode_record,
    forgotten_key,
    former_key,
    is_customer,
)
from streams.basis.logs import KafkaLogs
from streams.erasing.lifetime import Lifetimes, Until
from streams.erasing.seeking import Seeker, headers_of
from streams.erasing.trace import Trace
from streams.settings import Settings
from streams.topics import changelog_topic, plan


@dataclass(slots=True)
class _Seen:
    """A record that holds an id: where, of when, under which key, and which ids."""

    tp: TP
    offset: int
    timestamp: int
    newest: int
    key: bytes | None
    is_tombstone: bool
    ids: frozenset[str]


@dataclass(slots=True)
class _Log:
    """What was seen in one partition; last: offset and time of the last record of these keys."""

    seen: list[_Seen] = field(default_factory=list)
    last: dict[bytes | None, tuple[int, int]] = field(default_factory=dict)


async def known_as(settings: Settings, logs: KafkaLogs, ids: Collection[str]) -> list[str]:
    """These ids, and those of customers that the changelog says were merged with them."""
    edges: dict[str, set[str]] = {}
    async for record in _records(logs, changelog_topic(settings)):
        if record.value is None or not is_customer(record.key):
            continue
        try:
            held = decode_record(record.value)
        except UnreadableRecord:
            # The proof says so of what it finds in it; here it names nobody.
            continue
        for other in {*held.absorbed, *([held.into] if held.into else [])}:
            own = record.key.decode()
            edges.setdefault(own, set()).add(other)
            edges.setdefault(other, set()).add(own)
    found = list(dict.fromkeys(ids))
    for each in found:
        # The list grows while it is gone through.
        found += sorted(edges.get(each, set()) - set(found))
    return found


async def remembers(settings: Settings, logs: KafkaLogs, customer_id: str) -> bool:
    """Whether the changelog says of an id that it was erased, so that late events are ignored."""
    key, secret = customer_id.encode(), settings.erasure_secret
    names = {forgotten_key(key, secret), former_key(key, secret)}
    held: dict[bytes, bool] = {}
    async for record in _records(logs, changelog_topic(settings)):
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
        newest: dict[int, int] = {}
        async for record in _records(logs, topic.name):
            records += 1
            number = record.partition
            newest[number] = max(newest.get(number, 0), record.timestamp)
            log = by_partition.setdefault(number, _Log())
            ids = seeker.in_record(record.key, record.value, headers_of(record))
            if ids or record.key in log.last:
                log.last[record.key] = record.offset, record.timestamp
            if ids:
                log.seen.append(
                    _Seen(
                        TP(topic.name, number),
                        record.offset,
                        record.timestamp,
                        newest[number],
                        record.key,
                        record.value is None,
                        ids,
                    )
                )
        looked.append(f"{topic.name}: {records:,} records")
        for log in by_partition.values():
            traces += [_judged(settings, seeker, lifetimes, log, seen) for seen in log.seen]
    return looked, traces


def _judged(
    settings: Settings, seeker: Seeker, lifetimes: Lifetimes, log: _Log, seen: _Seen
) -> Trace:
    what, until = _fate(settings, seeker, lifetimes, log, seen)
    place = f"{seen.tp.topic}[{seen.tp.partition}]@{seen.offset}"
    ids = tuple(each for each in seeker.ids if each in seen.ids)
    return Trace(place, what, until, ids)


def _fate(
    settings: Settings, seeker: Seeker, lifetimes: Lifetimes, log: _Log, seen: _Seen
) -> tuple[str, Until]:
    if not lifetimes.is_compacted:
        return _meaning(settings, seen.tp.topic), lifetimes.expires(seen.newest)
    last, at = log.last[seen.key]
    if last > seen.offset:
        return "a former record, which a later one replaces", lifetimes.replaced(at)
    if seen.is_tombstone:
        return "the tombstone", lifetimes.tombstone(seen.timestamp)
    if seeker.key(seen.key) is not None:
        why = "it is the customer's newest record: what is later than the erasure is kept"
        return "a customer who is there", Until(None, why)
    return "another record that names it", Until(None, "nothing replaces it: report it")


def _meaning(settings: Settings, topic: str) -> str:
    topics = settings.topics
    if topic in topics.inputs:
        return "an event, the publishers' record"
    return {
        topics.dead_letters: "a dead letter: the record that was refused, whole",
        topics.segment_changes: "a change of segment, or that the customer is gone",
        topics.identity: "a message between workers about a merge or an erasure",
        topics.rerouted: "an event that was sent on to its customer",
    }.get(topic, "a record")


async def _records(logs: KafkaLogs, topic: str) -> AsyncIterator[Any]:
    described = await logs.describe([topic])
    if topic not in described:
        return
    parts = [TP(topic, number) for number in range(described[topic].partitions)]
    async for _, records in logs.read(await logs.bounds(parts)):
        for record in records:
            yield record
