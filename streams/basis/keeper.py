"""Keep the basis of a worker's partitions: check it, write it, and watch the topics."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

import structlog

from models.aggregate.record import BASIS_KEY, ERASURE_KEY, erasure_fingerprint
from models.oversized import OversizedBatch
from streams.basis.examine import examine_logs, look
from streams.basis.findings import BasisLost, Finding, Kind, distinct, place
from streams.basis.interpretation import judge_interpretation
from streams.basis.judge import (
    Log,
    Shop,
    adopt,
    judge_changelog,
    judge_growth,
    judge_logs,
    judge_missing,
    judge_partition,
    judge_shop,
    moment,
    origin_key,
)
from streams.basis.key import adopted
from streams.basis.logs import Logs, mark_of, patiently
from streams.basis.record import Basis, decode_basis, encode_basis, sealed
from streams.kafka.errors import KafkaError, is_passing
from streams.kafka.metadata import Described
from streams.kafka.partitions import TopicPartition
from streams.settings import Settings
from streams.topics import changelog_topic
from streams.transport.batches import RecordBatch, origin_of, origin_parts
from streams.transport.guard import OutOfRange
from streams.transport.table import PartitionedTable

log = structlog.get_logger(__name__)

WATCH_SECONDS = 5.0
"""Time between two checks of the topics' ids and partition counts: one request each."""

MARK_SECONDS = 20.0
"""How old a mark may be. It is written together with the records of a batch."""

_TIMES_MISSING = 2
"""Checks in which a topic must be missing: a node that has just started may not know it yet."""


class Keeper:
    """The basis of the partitions that a worker has; the guard of its app.

    has_basis: the result of `check_start`: whether every partition has a basis.
    """

    def __init__(
        self,
        app: Any,
        table: PartitionedTable,
        settings: Settings,
        logs: Logs,
        *,
        partitions: int,
        has_basis: bool = False,
    ) -> None:
        self._app = app
        self._table = table
        self._logs = logs
        self._sources = settings.topics.sources
        self._names = (*settings.topics.sources, changelog_topic(settings))
        self._clock = settings.topics.clock
        self._changelog = changelog_topic(settings)
        economics = settings.economics
        self._secret = settings.erasure_secret
        self._economics = economics
        self._shop = Shop.of(partitions, economics)
        self._has_basis = has_basis
        self._bases: dict[int, Basis] = {}
        self._written: dict[int, float] = {}
        self._last: dict[TopicPartition, Any] = {}
        self._topics: dict[str, Described] = {}
        self._missing: dict[str, int] = {}
        app.guard = self

    def first_version(self, partition: int) -> int:
        """Return the version above which new customers of a partition start."""
        basis = self._bases.get(partition)
        return 0 if basis is None else basis.first_version

    def is_former(self, origin: str) -> bool:
        """Return whether an origin is of a log that was replaced since."""
        tp, generation = origin_parts(origin)
        return bool(generation != self._app.generations.get(tp, 0))

    def was_committed(self, origin: str, offset: int) -> bool:
        """Return whether an offset of a log that was replaced since had been committed.

        If Kafka deleted the committed offsets together with the topic, every offset counts as so.
        """
        basis = self._bases.get(origin_parts(origin)[0].partition)
        return basis is None or offset < basis.committed.get(origin, offset + 1)

    def refreshed(self, batch: RecordBatch) -> bytes | None:
        """Return the basis to store with the records of a batch if it is due, else None."""
        number = batch.tp.partition
        if not isinstance(batch.records[-1].value, OversizedBatch):
            # The stand-in of an oversized batch is no record of the log, so no mark.
            self._last[batch.tp] = batch.records[-1]
        basis = self._bases.get(number)
        if basis is None:
            return None
        unknown = batch.tp in self._last and origin_key(batch.tp) not in basis.marks
        if not unknown and monotonic() - self._written[number] < MARK_SECONDS:
            return None
        return encode_basis(self._with_marks(number, basis))

    def _with_marks(self, number: int, basis: Basis) -> Basis:
        for tp in [tp for tp in self._last if tp.partition == number]:
            basis.marks[origin_key(tp)] = sealed(mark_of(self._last.pop(tp)), self._secret)
        self._written[number] = monotonic()
        return basis

    async def before_flow(self) -> None:
        """Compare the assigned partitions with the broker, and write missing bases.

        Errors: BasisLost if something is lost or changed; ErasureKeyChanged.
        """
        self._last.clear()
        committed = self._committed()
        numbers = {tp.partition for tp in committed}
        await self._take_key(numbers)
        stored = self._stored(numbers)
        topics = await patiently(lambda: self._logs.describe(self._names))
        # A topic that is being created again is assigned to nobody yet, so it is added here.
        sources = list({*committed, *self._replaced(topics, numbers)})
        logs = await patiently(lambda: look(self._logs, sources, committed, stored, self._secret))
        found = distinct(
            [
                *(each for basis in stored.values() for each in judge_shop(basis, self._shop)),
                *self._interpreted(stored),
                *judge_growth(self._counts(), _counts(topics)),
                *judge_logs(logs, stored, self._clock),
                *self._other_changelog(stored.values(), topics),
                *self._without_state(committed, stored),
            ]
        )
        if found:
            self._app.may_commit = False
            raise BasisLost(found)
        await self._adopt(stored, numbers, topics)
        for each in logs:
            if each.tp.topic == self._clock and (each.committed or 0) < each.begin:
                await self._app.consumer.go_on_from(each.tp, each.begin)
        self._app.consumer.read_first(self._first(logs))

    def _first(self, logs: Iterable[Log]) -> dict[TopicPartition, int]:
        """Return up to where some of these logs are processed before others of their partitions.

        No further than they go: if the rest is lost, that was accepted.
        """
        first: dict[TopicPartition, int] = {}
        for each in logs:
            origin = origin_of(each.tp, self._app.generations.get(each.tp, 0))
            end = min(self._bases[each.tp.partition].first.get(origin, 0), each.end)
            if end > (each.committed or 0):
                first[each.tp] = end
        return first

    async def _take_key(self, numbers: Iterable[int]) -> None:
        """Key the fingerprints that an earlier version wrote without the erasure key."""
        deliveries = [
            delivery
            for number in numbers
            if (changes := adopted(self._table.partition(number), number, self._secret))
            for delivery in self._table.put(number, changes)
        ]
        await asyncio.gather(*deliveries)

    async def out_of_range(self, positions: Mapping[TopicPartition, int]) -> Exception:
        """Return the error for logs that do not have the offsets to be read next."""
        self._app.may_commit = False
        numbers = {tp.partition for tp in positions}
        stored = {number: basis for number, basis in self._bases.items() if number in numbers}
        found = await patiently(
            lambda: examine_logs(
                self._logs, list(positions), positions, stored, self._clock, secret=self._secret
            )
        )
        if found:
            return BasisLost(found)
        listed = ", ".join(f"{place(tp)}@{offset}" for tp, offset in positions.items())
        return OutOfRange(f"{listed} is outside of the log; start the worker again")

    def at_rest(self) -> None:
        """Write the marks of the last processed records, while this worker's lease is valid."""
        if not (self._app.may_commit and self._app.lease.held):
            return
        for number in {tp.partition for tp in self._last} & self._bases.keys():
            basis = self._with_marks(number, self._bases[number])
            key = erasure_fingerprint(self._secret)
            self._table.put(number, {BASIS_KEY: encode_basis(basis), ERASURE_KEY: key})

    async def watch(self) -> None:
        """Check the topics every WATCH_SECONDS; the app crashes if something is found."""
        found: list[Finding] = []
        while not found:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                found = await self._check_topics()
            except Exception as error:
                # The worker's health reports that the broker does not answer.
                if not (isinstance(error, KafkaError) and is_passing(error)):
                    await self._app.crash(error)
                    raise
        self._app.may_commit = False
        await self._app.crash(BasisLost(found))

    async def _check_topics(self) -> list[Finding]:
        topics = await self._logs.describe(self._names)
        found = list(judge_growth(self._counts(), _counts(topics)))
        if found or not self._topics:
            return found
        committed = self._committed()
        gone = self._gone(topics)
        found += judge_missing(gone, committed, self._bases.values())
        if self._changelog in gone:
            found.append(_changelog_gone(self._changelog))
        elif self._is_another(self._changelog, topics):
            replaced = self._other_changelog(self._bases.values(), topics)
            found += replaced or [_changelog_gone(self._changelog)]
            await self._store_in_changelog()
        if others := self._replaced(topics, self._bases):
            found += await examine_logs(
                self._logs, others, committed, self._bases, self._clock, secret=self._secret
            )
        if not found:
            self._remember_ids(topics)
        return found

    async def _store_in_changelog(self) -> None:
        """Store the old basis in a recreated changelog, for the next worker to see."""
        await asyncio.wait(self._put_bases(self._bases), timeout=WATCH_SECONDS)

    def _put_bases(self, bases: Mapping[int, Basis]) -> list[Any]:
        """Store these bases; return the deliveries."""
        return [
            delivery
            for number, basis in bases.items()
            for delivery in self._table.put(number, {BASIS_KEY: encode_basis(basis)})
        ]

    def _gone(self, topics: Mapping[str, Described]) -> list[str]:
        for topic in self._topics:
            self._missing[topic] = 0 if topic in topics else self._missing.get(topic, 0) + 1
        return [topic for topic, times in self._missing.items() if times >= _TIMES_MISSING]

    def _is_another(self, topic: str, topics: Mapping[str, Described]) -> bool:
        known, found = self._topics.get(topic), topics.get(topic)
        return bool(known and found and known.id and found.id and known.id != found.id)

    def _replaced(
        self, topics: Mapping[str, Described], numbers: Iterable[int]
    ) -> list[TopicPartition]:
        """Return these partitions of the sources whose topics were replaced."""
        replaced = [topic for topic in self._sources if self._is_another(topic, topics)]
        return [TopicPartition(topic, number) for topic in replaced for number in numbers]

    def _remember_ids(self, topics: Mapping[str, Described]) -> None:
        """Remember ids of topics that were unknown, or were replaced before anything was read."""
        self._topics |= topics
        for number, basis in self._bases.items():
            for topic, described in topics.items():
                if described.id and basis.topics.get(topic) != described.id:
                    basis.topics[topic] = described.id
                    self._written[number] = -math.inf

    def _counts(self) -> dict[str, int]:
        return dict.fromkeys(self._names, self._shop.partitions)

    def _committed(self) -> dict[TopicPartition, int]:
        """Return the committed offsets of the assigned sources; 0 if nothing is committed."""
        consumer = self._app.consumer
        return {
            TopicPartition(*tp): consumer.committed_to(TopicPartition(*tp))
            for tp in consumer.assignment()
            if tp.topic in self._sources
        }

    def _stored(self, numbers: set[int]) -> dict[int, Basis]:
        held = {number: self._table.partition(number).get(BASIS_KEY) for number in numbers}
        return {n: decode_basis(data, n) for n, data in held.items() if data is not None}

    def _interpreted(self, stored: Mapping[int, Basis]) -> Iterator[Finding]:
        for number, basis in stored.items():
            states = self._table.partition(number)
            yield from judge_interpretation(basis, states, self._economics)

    def _other_changelog(
        self, stored: Iterable[Basis], topics: Mapping[str, Described]
    ) -> list[Finding]:
        if self._changelog not in topics:
            return []
        here = topics[self._changelog].id
        return distinct(judge_changelog(self._changelog, here, basis) for basis in stored)

    def _without_state(
        self, committed: Mapping[TopicPartition, int], stored: Mapping[int, Basis]
    ) -> list[Finding]:
        if not (stored or self._has_basis):
            # Written by a version without a basis, whose partitions may have no customers.
            return []
        begun = {tp: offset for tp, offset in committed.items() if tp.topic != self._clock}
        return distinct(
            judge_partition(TopicPartition(self._changelog, number), begun)
            for number in {tp.partition for tp in committed} - stored.keys()
            if not self._table.partition(number)
        )

    async def _adopt(
        self, stored: Mapping[int, Basis], numbers: set[int], topics: Mapping[str, Described]
    ) -> None:
        ids = {topic: described.id for topic, described in topics.items()}
        self._bases = {n: adopt(stored.get(n), self._shop, ids, self._names) for n in numbers}
        # Missing topics stay known: they may be about to be created again.
        self._topics |= topics
        self._written = dict.fromkeys(numbers, monotonic())
        self._app.generations = _generations(self._bases.values())
        changed = {n: basis for n, basis in self._bases.items() if basis != stored.get(n)}
        await asyncio.gather(*self._put_bases(changed))
        self._has_basis = self._has_basis or bool(self._bases)
        self._log_accepted()

    def _log_accepted(self) -> None:
        for number, basis in sorted(self._bases.items()):
            for each in basis.accepted:
                log.info(
                    "a loss was accepted",
                    partition=number,
                    at=moment(each.at),
                    place=each.place,
                    lost=each.lost,
                    resolved=each.resolved,
                )


def _counts(topics: Mapping[str, Described]) -> dict[str, int]:
    return {topic: described.partitions for topic, described in topics.items()}


def _generations(bases: Iterable[Basis]) -> dict[TopicPartition, int]:
    return {
        origin_parts(key)[0]: generation
        for basis in bases
        for key, generation in basis.generations.items()
    }


def _changelog_gone(changelog: str) -> Finding:
    return Finding(
        Kind.STATE,
        changelog,
        "the topic was deleted while the worker was running; what it stores from now on is without "
        "the past",
        "restore the changelog from a copy, or stop all workers and see `clv accept-loss`",
    )
