"""Who was merged with whom, by the stored records and by the events on the identities topic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from itertools import pairwise

from models.aggregate.record import UnreadableRecord, decode_record, is_customer
from streams.basis.logs import KafkaLogs
from streams.kafka.partitions import Bounds, LogRecord, TopicPartition, partitions_of
from streams.recording.customers import merged_in
from streams.settings import Settings
from streams.topics import changelog_topic


class Merges:
    """Pairs of customers that were merged, in chains of any length."""

    def __init__(self) -> None:
        self._others: defaultdict[str, set[str]] = defaultdict(set)

    def note(self, *ids: str) -> None:
        """Note that these are one customer."""
        for one, other in pairwise(ids):
            self._others[one].add(other)
            self._others[other].add(one)

    def joined(self, ids: Collection[str]) -> list[str]:
        """These ids, and all that were merged with them."""
        found = dict.fromkeys(ids)
        waiting = list(found)
        for each in waiting:
            # The list grows while it is gone through.
            new = sorted(self._others.get(each, set()) - found.keys())
            found |= dict.fromkeys(new)
            waiting += new
        return waiting


async def known_as(settings: Settings, logs: KafkaLogs, ids: Collection[str]) -> list[str]:
    """These ids, and those of customers that the changelog says were merged with them."""
    merges = Merges()
    await _from_changelog(settings, logs, merges)
    return merges.joined(ids)


async def merged_with(
    settings: Settings, logs: KafkaLogs, ids: Collection[str]
) -> tuple[list[str], bool]:
    """The same by the identities topic; by the changelog too, if that topic has lost records.

    Also returns whether all merges are known: False if the topics are not there to be read.
    """
    merges = Merges()
    bounds = await bounds_of(logs, settings.topics.identities)
    whole = bool(bounds) and not any(each.begin for each in bounds.values())
    async for record in records_of(logs, bounds):
        merges.note(*merged_in(record))
    if not whole:
        whole = await _from_changelog(settings, logs, merges)
    return merges.joined(ids), whole


async def _from_changelog(settings: Settings, logs: KafkaLogs, merges: Merges) -> bool:
    """Note the merges in the stored records; returns whether the changelog exists."""
    bounds = await bounds_of(logs, changelog_topic(settings))
    async for record in records_of(logs, bounds):
        if record.key is None or record.value is None or not is_customer(record.key):
            continue
        try:
            held = decode_record(record.value, record.key)
        except UnreadableRecord:
            # Whoever needs it says so; here it names nobody.
            continue
        for other in (*held.absorbed, held.into):
            if other:
                merges.note(record.key.decode(), other)
    return bool(bounds)


async def records_of(
    logs: KafkaLogs, bounds: Mapping[TopicPartition, Bounds]
) -> AsyncIterator[LogRecord]:
    """The records of logs, between these bounds."""
    async for _, records in logs.read(bounds):
        for record in records:
            yield record


async def bounds_of(logs: KafkaLogs, topic: str) -> dict[TopicPartition, Bounds]:
    """The bounds of a topic's partitions; none if it does not exist."""
    described = await logs.describe([topic])
    counts = {name: each.partitions for name, each in described.items()}
    return await logs.bounds(partitions_of(counts))
