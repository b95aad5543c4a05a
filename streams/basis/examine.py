"""Asking the broker for what is judged: by a worker, by `clv doctor` and by `clv accept-loss`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from faust.types import TP
from msgspec.structs import replace

from models.aggregate.record import BASIS_KEY
from streams.basis.findings import Finding
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
from streams.basis.logs import Bounds, Logs
from streams.basis.metadata import Described
from streams.basis.record import Basis, Mark, decode_basis, sealed
from streams.settings import Settings
from streams.topics import changelog_topic

TAIL_RECORDS = 300_000
"""Of a changelog partition, in which its basis is looked for: it is written again and again."""


class Standing(NamedTuple):
    """Where a group stands: topics that exist, the changelog, and what is committed of the inputs.

    stored: bounds of the changelog's partitions, None without the topic.
    """

    topics: Mapping[str, Described]
    stored: Mapping[int, Bounds] | None
    committed: Mapping[TP, int]

    def sources(self, settings: Settings) -> list[TP]:
        """The partitions of the input topics that exist."""
        return [
            TP(topic, number)
            for topic in settings.topics.sources
            if topic in self.topics
            for number in range(self.topics[topic].partitions)
        ]


async def standing(settings: Settings, logs: Logs) -> Standing:
    """Ask where the group stands; errors: KafkaError."""
    changelog = changelog_topic(settings)
    topics = await logs.describe([*settings.topics.sources, changelog])
    here = Standing(topics, None, {})
    stored: dict[int, Bounds] | None = None
    if changelog in topics:
        parts = [TP(changelog, number) for number in range(topics[changelog].partitions)]
        bounds = await logs.bounds(parts)
        stored = {tp.partition: bounds[tp] for tp in parts}
    return here._replace(stored=stored, committed=await logs.committed(here.sources(settings)))


def without_state(settings: Settings, here: Standing) -> Finding | None:
    """Whether the group has processed events, and nothing of what came of them is stored."""
    lengths = {n: _length(bounds) for n, bounds in (here.stored or {}).items()}
    stored = None if here.stored is None else lengths
    return judge_state(changelog_topic(settings), stored, _begun(settings, here))


def judge_topics(settings: Settings, here: Standing, basis: Basis) -> list[Finding]:
    """What holds for all partitions, against the basis of one of them."""
    sources = settings.topics.sources
    counts = {here.topics[topic].partitions for topic in sources if topic in here.topics}
    other = counts - {basis.partitions}
    count = max(other) if other and max(other) > basis.partitions else min(other, default=None)
    economics = settings.economics
    shop = Shop(
        basis.partitions if count is None else count, economics.currency, economics.timezone
    )
    missing = [topic for topic in sources if topic not in here.topics]
    found = [*judge_shop(basis, shop), *judge_missing(missing, here.committed, [basis])]
    changelog = changelog_topic(settings)
    if changelog in here.topics:
        found += _some(judge_changelog(changelog, here.topics[changelog].id, basis))
    return found


class Group(NamedTuple):
    """Where a group stands, and the basis of those partitions of which it was found."""

    here: Standing
    bases: Mapping[int, Basis]


async def examine(settings: Settings, logs: Logs, group: Group) -> list[Finding]:
    """Everything that is lost or changed, of all partitions; errors: KafkaError."""
    here, bases = group
    found = _some(without_state(settings, here))
    found += [each for basis in bases.values() for each in judge_topics(settings, here, basis)]
    for number in (here.stored or {}) if bases else ():
        if not _length((here.stored or {})[number]):
            begun = _begun(settings, here, number)
            found += _some(judge_partition(TP(changelog_topic(settings), number), begun))
    sources = here.sources(settings)
    key = settings.erasure_key
    found += await examine_logs(
        logs,
        sources,
        here.committed,
        bases,
        settings.topics.clock,
        secret=None if key is None else settings.erasure_secret,
    )
    # What holds for the topics is found once for each partition.
    return list(dict.fromkeys(found))


def _begun(settings: Settings, here: Standing, partition: int | None = None) -> dict[TP, int]:
    """What is committed of the inputs without the clock, of which every partition has some."""
    return {
        tp: offset
        for tp, offset in here.committed.items()
        if tp.topic != settings.topics.clock and partition in (None, tp.partition)
    }


def _some(finding: Finding | None) -> list[Finding]:
    return [] if finding is None else [finding]


def _length(bounds: Bounds) -> int:
    return bounds.end - bounds.begin


async def bases_of(
    settings: Settings, logs: Logs, partitions: Collection[int], most: int | None = None
) -> dict[int, Basis]:
    """The bases that are found in the last `most` records of partitions of the changelog.

    Errors: KafkaError; UnreadableRecord for one of a newer version.
    """
    changelog = changelog_topic(settings)
    found = await logs.latest([TP(changelog, number) for number in partitions], BASIS_KEY, most)
    return {tp.partition: decode_basis(data) for tp, data in found.items()}


async def any_basis(settings: Settings, logs: Logs, here: Standing) -> Basis | None:
    """The basis of some partition: of the one with the fewest records that has any."""
    lengths = {n: _length(bounds) for n, bounds in (here.stored or {}).items()}
    shortest = sorted(filter(lengths.get, lengths), key=lambda number: lengths[number])[:1]
    bases = await bases_of(settings, logs, shortest, TAIL_RECORDS)
    return next(iter(bases.values()), None)


async def look(
    logs: Logs,
    sources: Collection[TP],
    committed: Mapping[TP, int],
    bases: Mapping[int, Basis],
    secret: bytes | None,
) -> list[Log]:
    """Ask for these logs what `judge_log` is about; those that do not exist are left out.

    secret: the erasure key, by which marks are compared; none: by offset and timestamp alone.
    """
    topics = await logs.describe(sorted({tp.topic for tp in sources}))
    existing = [
        tp for tp in sources if tp.topic in topics and tp.partition < topics[tp.topic].partitions
    ]
    bounds = await logs.bounds(existing)
    marked: dict[TP, int] = {}
    unread: dict[TP, int] = {}
    stored: dict[TP, Mark] = {}
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
    sources: Collection[TP],
    committed: Mapping[TP, int],
    bases: Mapping[int, Basis],
    clock: str,
    *,
    secret: bytes | None,
) -> list[Finding]:
    """What these logs have lost; clock: as in `judge_logs`, secret: as in `look`; KafkaError."""
    return judge_logs(await look(logs, sources, committed, bases, secret), bases, clock)


def _as_stored(found: Mark | None, stored: Mark | None, secret: bytes | None) -> Mark | None:
    """The mark of a record that was found, in the form of the one that is stored."""
    if found is None or stored is None or not stored.is_sealed:
        return found
    if secret is not None:
        return sealed(found, secret)
    return replace(found, digest=stored.digest)
