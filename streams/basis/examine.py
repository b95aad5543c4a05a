"""Ask the broker for the facts that are judged, for workers, `clv doctor` and `clv accept-loss`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from models.aggregate.record import BASIS_KEY
from streams.basis.findings import BasisLost, Finding, distinct
from streams.basis.judge import (
    Log,
    Shop,
    judge_changelog,
    judge_logs,
    judge_missing,
    judge_partition,
    judge_shop,
    judge_state,
    origin_key,
)
from streams.basis.logs import Logs, patiently
from streams.basis.record import Basis, Mark, decode_basis, sealed
from streams.kafka.metadata import Described
from streams.kafka.partitions import Bounds, TopicPartition, partitions_of
from streams.settings import Settings
from streams.topics import changelog_topic

TAIL_RECORDS = 300_000
"""Records at the end of a changelog partition in which its basis is searched for."""


class Standing(NamedTuple):
    """What exists of a group: its topics, the changelog, and committed offsets of the inputs.

    stored: bounds of the changelog's partitions, None if the topic is missing.
    """

    topics: Mapping[str, Described]
    stored: Mapping[int, Bounds] | None
    committed: Mapping[TopicPartition, int]

    def sources(self, settings: Settings) -> list[TopicPartition]:
        """The partitions of the input topics that exist."""
        sources = [topic for topic in settings.topics.sources if topic in self.topics]
        return partitions_of({topic: self.topics[topic].partitions for topic in sources})


async def standing(settings: Settings, logs: Logs) -> Standing:
    """Ask for the group's `Standing`; errors: KafkaError."""
    changelog = changelog_topic(settings)
    topics = await logs.describe([*settings.topics.sources, changelog])
    here = Standing(topics, None, {})
    stored: dict[int, Bounds] | None = None
    if changelog in topics:
        bounds = await logs.bounds(partitions_of({changelog: topics[changelog].partitions}))
        stored = {tp.partition: found for tp, found in bounds.items()}
    return here._replace(stored=stored, committed=await logs.committed(here.sources(settings)))


def without_state(settings: Settings, here: Standing) -> Finding | None:
    """Return a finding if the group has processed events but no state is stored."""
    lengths = {n: bounds.length for n, bounds in (here.stored or {}).items()}
    stored = None if here.stored is None else lengths
    return judge_state(changelog_topic(settings), stored, _begun(settings, here))


def judge_topics(settings: Settings, here: Standing, basis: Basis) -> list[Finding]:
    """Compare what holds for all partitions with the basis of one of them."""
    sources = settings.topics.sources
    counts = {here.topics[topic].partitions for topic in sources if topic in here.topics}
    other = counts - {basis.partitions} or {basis.partitions}
    count = max(other) if max(other) > basis.partitions else min(other)
    shop = Shop.of(count, settings.economics)
    missing = [topic for topic in sources if topic not in here.topics]
    changelog = changelog_topic(settings)
    stored = here.topics.get(changelog)
    return distinct(
        [
            *judge_shop(basis, shop),
            *judge_missing(missing, here.committed, [basis]),
            judge_changelog(changelog, stored.id, basis) if stored else None,
        ]
    )


class Group(NamedTuple):
    """A group's standing, and the bases of the partitions where one was found."""

    here: Standing
    bases: Mapping[int, Basis]


async def examine(settings: Settings, logs: Logs, group: Group) -> list[Finding]:
    """Return everything that is lost or changed in all partitions; errors: KafkaError."""
    here, bases = group
    found = [without_state(settings, here)]
    for basis in bases.values():
        found += judge_topics(settings, here, basis)
    for number, at in (here.stored or {}).items() if bases else ():
        if not at.length:
            changelog = TopicPartition(changelog_topic(settings), number)
            found.append(judge_partition(changelog, _begun(settings, here)))
    found += await examine_logs(
        logs,
        here.sources(settings),
        here.committed,
        bases,
        settings.topics.clock,
        secret=None if settings.erasure_key is None else settings.erasure_secret,
    )
    return distinct(found)


def _begun(settings: Settings, here: Standing) -> dict[TopicPartition, int]:
    """Return the committed offsets of the inputs; not of the clock, which every partition has."""
    clock = settings.topics.clock
    return {tp: offset for tp, offset in here.committed.items() if tp.topic != clock}


async def bases_of(
    settings: Settings, logs: Logs, partitions: Collection[int], most: int | None = None
) -> dict[int, Basis]:
    """Return the bases found in the last `most` records of the changelog's partitions.

    Errors: KafkaError; UnreadableRecord for a basis of a newer version.
    """
    changelog = changelog_topic(settings)
    found = await logs.latest(
        [TopicPartition(changelog, number) for number in partitions], BASIS_KEY, most
    )
    return {tp.partition: decode_basis(data, tp.partition) for tp, data in found.items()}


async def any_basis(settings: Settings, logs: Logs, here: Standing) -> Basis | None:
    """Return the basis of any partition, trying the one with the fewest records first."""
    lengths = {n: bounds.length for n, bounds in (here.stored or {}).items()}
    shortest = sorted(filter(lengths.get, lengths), key=lambda number: lengths[number])[:1]
    bases = await bases_of(settings, logs, shortest, TAIL_RECORDS)
    return next(iter(bases.values()), None)


async def check_start(settings: Settings, logs: Logs) -> bool:
    """Check that the state still exists, before a worker joins its group or creates topics.

    Returns whether a basis was found: then every partition has one. Errors: BasisLost if something
    is lost or changed that no worker can go on without; KafkaError.
    """
    here = await patiently(lambda: standing(settings, logs))
    if (gone := without_state(settings, here)) is not None:
        raise BasisLost([gone])
    basis = await patiently(lambda: any_basis(settings, logs, here))
    if basis is None:
        return False
    if found := judge_topics(settings, here, basis):
        raise BasisLost(found)
    return True


async def look(
    logs: Logs,
    sources: Collection[TopicPartition],
    committed: Mapping[TopicPartition, int],
    bases: Mapping[int, Basis],
    secret: bytes | None,
) -> list[Log]:
    """Return the facts that `judge_log` needs of these logs; missing logs are left out.

    secret: the erasure key, to compare marks; None: compare offset and timestamp only.
    """
    topics = await logs.describe(sorted({tp.topic for tp in sources}))
    existing = [
        tp for tp in sources if tp.topic in topics and tp.partition < topics[tp.topic].partitions
    ]
    bounds = await logs.bounds(existing)
    marked: dict[TopicPartition, int] = {}
    unread: dict[TopicPartition, int] = {}
    stored: dict[TopicPartition, Mark] = {}
    for tp in existing:
        begin, end = bounds[tp]
        basis = bases.get(tp.partition)
        mark = None if basis is None else basis.marks.get(origin_key(tp))
        if mark is not None and begin <= mark.offset < end:
            marked[tp], stored[tp] = mark.offset, mark
        if begin < end and 0 < committed.get(tp, 0) < begin:
            unread[tp] = begin
    at_marks, firsts = await logs.marks(marked), await logs.marks(unread)
    return [
        Log(
            tp,
            topics[tp.topic].id,
            *bounds[tp],
            committed=committed.get(tp),
            at_mark=_as_stored(at_marks.get(tp), stored.get(tp), secret),
            first_at=firsts[tp].timestamp if tp in firsts else None,
        )
        for tp in existing
    ]


async def examine_logs(
    logs: Logs,
    sources: Collection[TopicPartition],
    committed: Mapping[TopicPartition, int],
    bases: Mapping[int, Basis],
    clock: str,
    *,
    secret: bytes | None,
) -> list[Finding]:
    """Return what these logs have lost; clock: see `judge_logs`, secret: see `look`; KafkaError."""
    return judge_logs(await look(logs, sources, committed, bases, secret), bases, clock)


def _as_stored(found: Mark | None, stored: Mark | None, secret: bytes | None) -> Mark | None:
    """Return a found record's mark in the form of the stored one: sealed, or without digest."""
    if found is None or stored is None or not stored.is_sealed:
        return found
    if secret is not None:
        return sealed(found, secret)
    return replace(found, digest=stored.digest)
